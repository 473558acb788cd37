"""What evidence proves of a machine, in the few facts that recommendations rest on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.baseline.facts import boot_facts

if TYPE_CHECKING:
    from cvmlab.report.investigation import Investigation

Status = Literal["attested", "failed", "inconclusive", "stale", "silent", "cannot", "awaited", "none"]
Enforced = Literal["enforced", "not-enforced"]

_STATUS: Final[dict[str, Status]] = {
    "trusted": "attested",
    "not-trusted": "failed",
    "inconclusive": "inconclusive",
}
_UNSIGNED: Final = {
    "shim-validation-disabled": "shim's validation of signatures is off",
    "code-integrity-disabled": "code integrity is off",
    "test-signing-enabled": "test signing is on",
    "unvalidated-module-loaded": "a boot module was loaded whose signature was not validated",
}
# kernel-parameters.txt: a switch without a value is on; kernel_lockdown(7): unsigned modules are refused
_SIGNED_MODULES: Final = re.compile(r"module\.sig_enforce(=[1yY].*)?|lockdown=(integrity|confidentiality)")


@dataclass(frozen=True, slots=True)
class Proven:
    """What verified evidence proves of one machine's last boot. None is: not proven either way.

    Attributes:
        status: ``attested``, ``failed``, ``inconclusive``, ``stale`` (too old), ``silent`` (should report
            and does not), ``cannot`` (as configured), ``awaited`` (known too shortly to have reported) or
            ``none`` (no evidence was ever seen).
        believed: Key, quote, nonce and register values hold: they are this machine's.
        verdict: The verdict's word; None without evidence.
        primary: Code of the primary cause; None where there is none.
        codes: Codes of every cause.
        secure_boot: State of Secure Boot.
        boot_components: Whether only signed components could boot.
        boot_components_why: Why they could not be relied on to be.
        module_signatures: Whether the kernel refuses modules without a valid signature.
        module_signatures_why: Why it does not.
        received: When the evidence came, ISO 8601 UTC; None where not known.
    """

    status: Status = "none"
    believed: bool = False
    verdict: str | None = None
    primary: str | None = None
    codes: tuple[str, ...] = ()
    secure_boot: bool | None = None
    boot_components: Enforced | None = None
    boot_components_why: str | None = None
    module_signatures: Enforced | None = None
    module_signatures_why: str | None = None
    received: str | None = None


def proven_by(result: Investigation) -> Proven:
    """Return what an investigated evidence proves.

    Only events that are proven count: covered by a log that replays to registers of a verified quote. What
    is merely claimed leaves a fact open.
    """
    boot = result.assessment
    facts = boot_facts(boot)
    believed = boot.believed
    causes = result.explanation.causes
    codes = tuple(dict.fromkeys(cause.code for cause in causes))
    secure_boot = facts.secure_boot if believed else None
    # what a cut log leaves out may be what switches a check off
    whole = boot.link("log-replay").status == "holds"
    components, components_why = _components(secure_boot, codes, believed=believed, whole=whole)
    lines = tuple(facts.command_lines.values()) if believed else ()
    modules, modules_why = _modules(secure_boot, lines)
    return Proven(
        status=_STATUS[result.verdict],
        believed=believed,
        verdict=result.verdict,
        primary=result.primary.code if result.primary is not None else None,
        codes=codes,
        secure_boot=secure_boot,
        boot_components=components,
        boot_components_why=components_why,
        module_signatures=modules,
        module_signatures_why=modules_why,
    )


def _components(
    secure_boot: bool | None, codes: tuple[str, ...], *, believed: bool, whole: bool
) -> tuple[Enforced | None, str | None]:
    if secure_boot is False:
        return "not-enforced", "Secure Boot was off"
    loose = next((_UNSIGNED[code] for code in codes if code in _UNSIGNED), None)
    if loose is not None and believed:
        return "not-enforced", loose
    return ("enforced", None) if secure_boot and whole else (None, None)


def _modules(secure_boot: bool | None, lines: tuple[str, ...]) -> tuple[Enforced | None, str | None]:
    """The last command line is the kernel's own; earlier ones may be a boot loader's entries."""
    if not lines:
        return None, None
    words = lines[-1].split()
    if any(_SIGNED_MODULES.fullmatch(word) for word in words):
        return "enforced", None
    if secure_boot is False:
        return "not-enforced", "Secure Boot was off, and the command line does not ask for signed modules"
    return None, None
