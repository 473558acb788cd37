"""The rules of a baseline beside its slots: each holds, is broken, or could not be checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.errors import ParseError
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EV_EFI_VARIABLE_DRIVER_CONFIG
from cvmlab.tee.hcl import HclReport
from cvmlab.tee.snp import SnpReport
from cvmlab.tee.tdx import TdQuote
from cvmlab.uefi.siglist import SignatureList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.baseline.document import Baseline
    from cvmlab.baseline.facts import BootFacts
    from cvmlab.trust.assess import Assessment

PolicyStatus = Literal["holds", "broken", "not-checked"]

_WINDOWS: Final[Mapping[str, tuple[str, str, bool]]] = {
    # wbcl.h: the value that is a weakness
    "BOOTDEBUGGING": ("boot-debugging-enabled", "Windows measured that boot debugging is on", True),
    "OSKERNELDEBUG": ("kernel-debugging-enabled", "Windows measured that kernel debugging is on", True),
    "HYPERVISOR_DEBUG": (
        "kernel-debugging-enabled",
        "Windows measured that hypervisor debugging is on",
        True,
    ),
    "TESTSIGNING": ("test-signing-enabled", "Windows measured that test signing is on", True),
    "CODEINTEGRITY": ("code-integrity-disabled", "Windows measured that code integrity is off", False),
}
_KERNEL_DEBUGGERS: Final = ("kgdboc", "ekgdboc", "kgdbwait", "kgdbdbgp", "kdb")


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """One rule.

    Attributes:
        rule: Name of the rule, as in `Policy`.
        status: ``holds``, ``broken`` or ``not-checked``.
        why: One sentence.
        code: Cause code where it is broken or not checked.
        register: Register concerned; None for none.
        set: Its register set.
        event: Event concerned; None for none.
        detail: More, JSON-able.
    """

    rule: str
    status: PolicyStatus
    why: str
    code: str = ""
    register: int | None = None
    event: int | None = None
    detail: Mapping[str, object] = field(default_factory=dict)
    set: str = "tpm"


def check_policy(
    boot: Assessment, baseline: Baseline, facts: BootFacts, *, known_machine: bool
) -> tuple[PolicyResult, ...]:
    """Check every rule of a baseline that is set.

    Args:
        boot: The trust chain.
        baseline: The baseline with its policy.
        facts: What the boot proves.
        known_machine: True where the machine is one of the baseline's sources.
    """
    results: list[PolicyResult] = []
    policy = baseline.policy
    if policy.secure_boot is not None:
        results.append(_secure_boot(facts, wanted=policy.secure_boot))
    if not policy.debugging:
        results.extend(_debugging(boot, facts))
    results.append(_registers(boot, baseline))
    if policy.required_bank:
        results.append(_bank(boot, policy.required_bank))
    if policy.authorities is not None:
        results.append(_authorities(facts, frozenset(policy.authorities)))
    if policy.sbat_level:
        results.append(_sbat(facts, policy.sbat_level))
    if policy.revocation_list:
        results.append(_revocations(facts, baseline.data.get(policy.revocation_list)))
    if policy.pinned_machines:
        results.append(_pinned(boot, known_machine=known_machine))
    if policy.hardware_report:
        results.append(_hardware(boot))
    if policy.lowest_tcb:
        results.append(_tcb(boot, policy.lowest_tcb))
    if policy.launch_measurements:
        results.append(_launch(boot, policy.launch_measurements))
    return tuple(results)


def _secure_boot(facts: BootFacts, *, wanted: bool) -> PolicyResult:
    rule, event = "secure_boot", facts.secure_boot_event
    if facts.secure_boot is None:
        return PolicyResult(rule, "not-checked", "no proven event says whether Secure Boot is on")
    state = "on" if facts.secure_boot else "off"
    if facts.secure_boot == wanted:
        return PolicyResult(rule, "holds", f"Secure Boot is {state}", register=7, event=event)
    code = "secure-boot-disabled" if wanted else "secure-boot-enabled"
    why = f"Secure Boot is {state}, the policy needs it {'on' if wanted else 'off'}"
    return PolicyResult(rule, "broken", why, code, 7, event)


def _debugging(boot: Assessment, facts: BootFacts) -> list[PolicyResult]:
    found = []
    for index, line in facts.command_lines.items():
        words = [word for word in line.split() if word.split("=")[0] in _KERNEL_DEBUGGERS]
        if words:
            why = f"the kernel command line turns a debugger on: {' '.join(words)}"
            register = boot.log.events[index].register if boot.log is not None else None
            found.append(
                PolicyResult("debugging", "broken", why, "kernel-debugging-enabled", register, index)
            )
    found += _windows(boot, facts)
    for finding in boot.findings:
        if finding.code == "boot-debugging-enabled" and finding.events:
            event = finding.events[0]
            found.append(
                PolicyResult(
                    "debugging", "broken", finding.summary, finding.code, finding.registers[0], event
                )
            )
    return found


def _windows(boot: Assessment, facts: BootFacts) -> list[PolicyResult]:
    """What Windows measured about its own defences. A weak value counts wherever it was measured once."""
    found: dict[str, PolicyResult] = {}
    for index, name, value in facts.windows_settings:
        code, text, weak = _WINDOWS.get(name, ("", "", None))
        if code and value is weak and name not in found:
            register = boot.log.events[index].register if boot.log is not None else None
            found[name] = PolicyResult("debugging", "broken", text, code, register, index)
    if facts.windows_unvalidated:
        index, path = facts.windows_unvalidated[0]
        count = len(facts.windows_unvalidated)
        why = f"Windows loaded {count} boot modules whose signature was not validated, {path!r} first"
        register = boot.log.events[index].register if boot.log is not None else None
        result = PolicyResult("debugging", "broken", why, "unvalidated-module-loaded", register, index)
        found["IMAGEVALIDATED"] = result
    return list(found.values())


def _registers(boot: Assessment, baseline: Baseline) -> PolicyResult:
    wanted = baseline.policy.required_registers
    if wanted is None:
        wanted = tuple(register.register for register in baseline.registers)
    quoted = {register for register, _ in boot.quotes.values}
    missing = [register for register in wanted if register not in quoted]
    if not missing:
        return PolicyResult(
            "required_registers", "holds", "verified quotes cover every register that is needed"
        )
    listed = ", ".join(map(str, missing))
    if not quoted:
        return PolicyResult("required_registers", "not-checked", "no verified quote covers any register")
    why = f"no verified quote covers register {listed}, which the baseline needs"
    return PolicyResult(
        "required_registers", "not-checked", why, "register-not-quoted", detail={"registers": missing}
    )


def _bank(boot: Assessment, wanted: str) -> PolicyResult:
    quoted = {bank for _, bank in boot.quotes.values}
    enough = STRONGEST_FIRST[: STRONGEST_FIRST.index(wanted) + 1] if wanted in STRONGEST_FIRST else (wanted,)
    if quoted & set(enough):
        return PolicyResult("required_bank", "holds", f"the quotes cover {', '.join(sorted(quoted))}")
    if not quoted:
        return PolicyResult("required_bank", "not-checked", "no verified quote covers any bank")
    why = f"the quotes cover only {', '.join(sorted(quoted))}; the policy needs {wanted}"
    return PolicyResult("required_bank", "not-checked", why, "weak-hash-only")


def _authorities(facts: BootFacts, allowed: frozenset[str]) -> PolicyResult:
    for event, digest in facts.authorities.items():
        if digest not in allowed:
            why = f"a certificate that the policy does not list vouched for a boot component ({digest[:16]}…)"
            return PolicyResult("authorities", "broken", why, "boot-loader-authority-changed", 7, event)
    if not facts.authorities:
        return PolicyResult("authorities", "not-checked", "no proven event names an authority")
    return PolicyResult("authorities", "holds", f"{len(facts.authorities)} events name allowed authorities")


def _sbat(facts: BootFacts, lowest: Mapping[str, int]) -> PolicyResult:
    if not facts.sbat_level:
        return PolicyResult("sbat_level", "not-checked", "no proven event gives an SBAT level")
    low = [
        f"{component} {facts.sbat_level.get(component, 'absent')} instead of {generation}"
        for component, generation in lowest.items()
        if facts.sbat_level.get(component, 0) < generation
    ]
    if low:
        why = f"the SBAT level is below the policy's: {', '.join(low)}"
        return PolicyResult("sbat_level", "broken", why, "sbat-level-changed", 7, facts.sbat_event)
    return PolicyResult("sbat_level", "holds", "the SBAT level is not below the policy's")


def _revocations(facts: BootFacts, wanted: bytes | None) -> PolicyResult:
    rule = "revocation_list"
    if wanted is None:
        return PolicyResult(rule, "not-checked", "the baseline does not hold the list that its policy names")
    if facts.revocation_list is None:
        return PolicyResult(rule, "not-checked", "no proven event gives the revocation list")
    needed, present = revoked(wanted), revoked(facts.revocation_list)
    if needed is None or present is None:
        return PolicyResult(rule, "not-checked", "a revocation list cannot be read")
    missing = len(needed - present)
    if missing:
        why = f"{missing} of the {len(needed)} revocations that the policy needs are missing"
        code = "revocation-list-rolled-back"
        return PolicyResult(rule, "broken", why, code, 7, facts.revocation_event, {"missing": missing})
    return PolicyResult(rule, "holds", f"all {len(needed)} revocations of the policy are present")


def revoked(data: bytes) -> frozenset[tuple[str, bytes]] | None:
    """Return the entries of a revocation list's event data as (type, data); None where it cannot be read."""
    try:
        payload = decode(EV_EFI_VARIABLE_DRIVER_CONFIG, 7, data, set="tpm", source="dbx", base=0)
    except ParseError:
        return None
    value = payload.value
    if not isinstance(value, tuple) or not all(isinstance(one, SignatureList) for one in value):
        return None
    return frozenset((one.type_name, entry.data) for one in value for entry in one.signatures)


def _hardware(boot: Assessment) -> PolicyResult:
    rule, links = "hardware_report", [boot.link("hardware-root"), boot.link("hardware-report")]
    if all(link.status == "holds" for link in links):
        return PolicyResult(rule, "holds", "a processor's report vouches for the machine")
    open_ = next(link for link in links if link.status != "holds")
    why = f"the policy needs a processor's report that holds: {open_.why}"
    return PolicyResult(rule, "not-checked", why, _lacking(boot))


def _lacking(boot: Assessment) -> str:
    """The code of a rule that needs a report: of a broken one nothing is missing, the break is the cause."""
    links = [boot.link("hardware-root"), boot.link("hardware-report")]
    return "" if any(link.status == "broken" for link in links) else "evidence-incomplete"


def reported_tcb(boot: Assessment) -> dict[str, int] | None:
    """Return the security versions that a genuine SNP report states, by component; None without one."""
    for check in boot.hardware.checks:
        held = check.claim.report
        report = held.hardware if isinstance(held, HclReport) else held
        if check.authentic and isinstance(report, SnpReport):
            tcb = report.reported_tcb
            named = {
                "boot_loader": tcb.boot_loader,
                "tee": tcb.tee,
                "snp": tcb.snp,
                "microcode": tcb.microcode,
            }
            return named if tcb.fmc is None else {**named, "fmc": tcb.fmc}
    return None


def _tcb(boot: Assessment, lowest: Mapping[str, int]) -> PolicyResult:
    rule, tcb = "lowest_tcb", reported_tcb(boot)
    if tcb is None:
        return PolicyResult(rule, "not-checked", "no genuine SNP report states a TCB", _lacking(boot))
    low = [
        f"{name} {tcb.get(name, 'absent')} instead of {least}"
        for name, least in lowest.items()
        if tcb.get(name, -1) < least
    ]
    if low:
        why = f"the processor's TCB is older than the policy's lowest: {', '.join(low)}"
        return PolicyResult(rule, "broken", why, "hardware-tcb-too-old")
    return PolicyResult(rule, "holds", "the processor's TCB is not older than the policy's lowest")


def launch_measurement(boot: Assessment) -> str | None:
    """Return the hex MRTD of a TD whose own quote vouches for its registers; None for any other machine.

    The firmware that extends RTMR 0 is measured into MRTD alone, which no event of the log extends: without
    it, firmware of anybody's could extend whatever the baseline expects. Where a paravisor runs the vTPM,
    the measurement is of the cloud's paravisor, which says nothing of the guest and changes with the host.
    """
    if boot.quotes.set != "cc":
        return None
    for check in boot.hardware.checks:
        quote = check.claim.report
        if isinstance(quote, TdQuote) and check.authentic and check.report.status != "broken":
            return quote.mr_td.hex()
    return None


def stated_launch(boot: Assessment) -> str | None:
    """Return the hex MRTD that the TD quote of a machine without vTPM states, verified or not."""
    if boot.evidence.quotes:
        return None
    quotes = [check.claim.report for check in boot.hardware.checks]
    return next((quote.mr_td.hex() for quote in quotes if isinstance(quote, TdQuote)), None)


def _launch(boot: Assessment, allowed: tuple[str, ...]) -> PolicyResult:
    rule, value = "launch_measurements", launch_measurement(boot)
    if value is None:
        why = "no genuine TD quote states what firmware the TD was launched with (MRTD)"
        return PolicyResult(rule, "not-checked", why, "evidence-incomplete")
    if value not in allowed:
        why = f"the TD was launched with other firmware: its MRTD is {value[:16]}…, not {allowed[0][:16]}…"
        if len(allowed) > 1:
            why += f" or one of {len(allowed) - 1} more"
        return PolicyResult(
            rule, "broken", why, "firmware-changed", 0, detail={"after": value, "rule": rule}, set="cc"
        )
    why = "the TD was launched with firmware that the baseline allows (MRTD)"
    return PolicyResult(rule, "holds", why, register=0, set="cc")


def _pinned(boot: Assessment, *, known_machine: bool) -> PolicyResult:
    if known_machine:
        return PolicyResult("pinned_machines", "holds", "the machine is one that the baseline names")
    if not boot.binding.bound:
        return PolicyResult("pinned_machines", "not-checked", "the machine's key is not bound to it")
    why = "the machine is none of those that the baseline was learned from"
    return PolicyResult("pinned_machines", "broken", why, "vm-identity-differs")
