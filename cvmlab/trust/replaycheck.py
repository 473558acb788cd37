"""The link log-replay: does the log give the values that the quote vouches for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import available, digest, extend
from cvmlab.eventlog.ima import boot_aggregate_entry
from cvmlab.eventlog.ima_replay import (
    IMA_REGISTER,
    boot_aggregate,
    check_entries,
    match_prefix,
    only_boot_aggregate,
)
from cvmlab.eventlog.registers import REGISTERS, initial_value
from cvmlab.findings import Finding, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.eventlog.ima import ImaList
    from cvmlab.eventlog.ima_replay import ImaMatch
    from cvmlab.eventlog.model import EventLog

ReplayStatus = Literal["matches", "not-replayed", "not-checked"]


_PHASE_REGISTER: Final = 11
# systemd-pcrphase.service(8): the texts that userspace extends into PCR 11, in order
_PHASES: Final = (b"enter-initrd", b"leave-initrd", b"sysinit", b"ready", b"shutdown", b"final")


@dataclass(frozen=True, slots=True)
class RegisterState:
    """One register of one bank: what was quoted and what replay gives.

    Attributes:
        set: Register set.
        register: Register index.
        bank: Bank name.
        quoted: Value that a verified quote vouches for; None where none does.
        replayed: Value that the logs give; None where no log speaks of the register.
        status: ``matches``, ``not-replayed`` (log and quote disagree) or ``not-checked``.
        why: One sentence.
    """

    set: str
    register: int
    bank: str
    quoted: bytes | None
    replayed: bytes | None
    status: ReplayStatus
    why: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """All registers, the link ``log-replay``, and what the IMA list is worth.

    Attributes:
        states: Every register that is quoted or that the log extends.
        link: The link.
        findings: Missing log, entries of the IMA list that contradict themselves.
        ima: The list whose prefix gives the quoted register 10, None where none does.
        ima_match: That prefix; entries behind it are not covered by the quote.
        aggregate: What ``boot_aggregate`` in register 10 says of PCR 0–9: ``quoted`` (equals the quoted
            values), ``replayed`` (equals only the log's replay), ``neither``, or empty where unknown.
        idle: Quoted banks that the firmware did not extend, beside others that it did: that they are idle is
            the finding, and their values decide nothing further.
    """

    states: tuple[RegisterState, ...]
    link: Link
    findings: tuple[Finding, ...]
    ima: ImaList | None
    ima_match: ImaMatch | None
    aggregate: str
    idle: frozenset[str] = frozenset()

    def matching(self) -> frozenset[tuple[int, str]]:
        """The (register, bank) pairs whose replay equals a verified quote."""
        return frozenset((s.register, s.bank) for s in self.states if s.status == "matches")


def check_replay(
    log: EventLog | None,
    lists: Iterable[ImaList],
    quoted: Mapping[tuple[int, str], bytes],
    userspace: EventLog | None = None,
    *,
    set_: str = "tpm",
) -> ReplayResult:
    """Compare the replay of the logs with the quoted values.

    Args:
        log: The boot event log, or None.
        lists: IMA lists, for register 10.
        quoted: (register, bank) to value, from verified quotes only.
        userspace: Log of what userspace measured after the boot log; any prefix of it may have been quoted.
        set_: Register set of `quoted`: ``tpm``, or ``cc`` where a TD quote vouches for the values.

    Returns:
        States, link and findings. A register 10 that no IMA list explains is ``not-checked``.
    """
    lists = list(lists)
    replayed = log.replay() if log is not None else {}
    states: list[RegisterState] = []
    best: tuple[ImaList, ImaMatch] | None = None
    for (register, bank), value in sorted(quoted.items()):
        if register == IMA_REGISTER:
            state, match = _ima_state(log, lists, replayed, bank, value, quoted)
            if match is not None and (best is None or match[1].count > best[1].count):
                best = match
        else:
            state = _state(log, replayed, register, bank, value, userspace, set_)
        states.append(state)
    states.extend(_unquoted(log, replayed, quoted))
    findings: list[Finding] = []
    if log is None or not log.events:
        why = "the evidence has no readable boot event log (eventlog.bin), so nothing says what was started"
        findings.append(Finding("log-missing", "log-replay", why, set_, _indices(quoted)))
    idle = _idle_banks(quoted, set_)
    findings.extend(_idle_finding(bank) for bank in idle)
    if best is not None:
        findings.extend(_forged_entries(best[0], best[1].count, "event-data"))
    elif any(s.register == IMA_REGISTER and s.status == "not-replayed" for s in states):
        for ima in lists:
            findings.extend(_forged_entries(ima, len(ima.entries), "log-replay"))
    return ReplayResult(
        tuple(states),
        _link(log, states, quoted, set_),
        tuple(findings),
        best[0] if best else None,
        best[1] if best else None,
        _aggregate(best[0] if best else None, quoted, replayed),
        frozenset(idle) if {bank for _, bank in quoted} - {*idle} else frozenset(),
    )


def _state(
    log: EventLog | None,
    replayed: Mapping[str, Mapping[int, bytes]],
    register: int,
    bank: str,
    value: bytes,
    userspace: EventLog | None,
    set_: str,
) -> RegisterState:
    if log is None or not log.events:
        return RegisterState(set_, register, bank, value, None, "not-checked", "there is no log")
    if log.set != set_ or register not in REGISTERS[set_]:
        why = f"the log is of another set of registers than the quoted {_names(set_, [register])}"
        return RegisterState(set_, register, bank, value, None, "not-checked", why)
    if bank not in replayed:
        why = f"the log has no replayable {bank} digests"
        return RegisterState(log.set, register, bank, value, None, "not-checked", why)
    got = replayed[bank].get(register)
    if got is None:
        start = initial_value(log.set, register, bank, log)
        if value in (start, bytes(len(value)), b"\xff" * len(value) if 17 <= register <= 22 else start):
            why = "never extended, and the log has no event for it"
            return RegisterState(log.set, register, bank, value, value, "matches", why)
        if userspace is not None and (count := _later(userspace, register, bank, start, value)):
            why = f"{userspace.source} gives the quoted value after {count} of its measurements"
            return RegisterState(log.set, register, bank, value, value, "matches", why)
        why = "it was extended, and the log has no event for it"
        return RegisterState(log.set, register, bank, value, start, "not-replayed", why)
    if got == value:
        return RegisterState(log.set, register, bank, value, got, "matches", "replay gives the quoted value")
    if register == _PHASE_REGISTER and (count := _phases(bank, got, value)):
        names = ", ".join(name.decode() for name in _PHASES[:count])
        why = f"replay gives the quoted value, after the boot phases that systemd measures ({names})"
        return RegisterState(log.set, register, bank, value, value, "matches", why)
    if userspace is not None and (count := _later(userspace, register, bank, got, value)):
        why = f"replay gives the quoted value, after {count} measurements of {userspace.source}"
        return RegisterState(log.set, register, bank, value, value, "matches", why)
    why = "replay of the log does not give the quoted value"
    return RegisterState(log.set, register, bank, value, got, "not-replayed", why)


def _later(userspace: EventLog, register: int, bank: str, value: bytes, wanted: bytes) -> int:
    """How many measurements of the userspace log lead from one value to the other; 0 where none do."""
    count = 0
    for event in userspace.events:
        if event.register == register and event.extends and bank in event.digests:
            value = extend(bank, value, event.digests[bank])
            count += 1
            if value == wanted:
                return count
    return 0


def _phases(bank: str, value: bytes, wanted: bytes) -> int:
    """How many boot phases of systemd lead from one value to the other; 0 where none do."""
    for count, name in enumerate(_PHASES, 1):
        value = extend(bank, value, digest(bank, name))
        if value == wanted:
            return count
    return 0


def _ima_state(
    log: EventLog | None,
    lists: Iterable[ImaList],
    replayed: Mapping[str, Mapping[int, bytes]],
    bank: str,
    value: bytes,
    quoted: Mapping[tuple[int, str], bytes],
) -> tuple[RegisterState, tuple[ImaList, ImaMatch] | None]:
    start = replayed.get(bank, {}).get(IMA_REGISTER, bytes(len(value)))
    set_ = log.set if log is not None else "tpm"
    if not available(bank):
        why = f"digests of {bank} cannot be computed here"
        return RegisterState(set_, IMA_REGISTER, bank, value, None, "not-checked", why), None
    if value == start:
        why = "nothing was extended after the boot log"
        return RegisterState(set_, IMA_REGISTER, bank, value, start, "matches", why), None
    seen = False
    for ima in lists:
        if not ima.entries:
            continue
        seen = True
        match = match_prefix(ima, bank, {value}, initial=start)
        if match is not None and match.count:
            entry = f"entry {match.count} of {len(ima.entries)}"
            why = f"the IMA list {ima.source} gives the quoted value after {entry}"
            state = RegisterState(set_, IMA_REGISTER, bank, value, match.value, "matches", why)
            return state, (ima, match)
    if not seen and value in only_boot_aggregate(quoted, bank, start):
        why = "only boot_aggregate was extended, as Linux does without an IMA policy"
        return RegisterState(set_, IMA_REGISTER, bank, value, value, "matches", why), None
    if not seen:
        why = "it was extended at run time and the evidence has no IMA list"
        return RegisterState(set_, IMA_REGISTER, bank, value, None, "not-checked", why), None
    why = "no prefix of the IMA list gives the quoted value"
    return RegisterState(set_, IMA_REGISTER, bank, value, None, "not-replayed", why), None


def _unquoted(
    log: EventLog | None,
    replayed: Mapping[str, Mapping[int, bytes]],
    quoted: Mapping[tuple[int, str], bytes],
) -> list[RegisterState]:
    """Registers the log extends and no verified quote covers: text, shown as such."""
    if log is None:
        return []
    why = "no verified quote covers it"
    return [
        RegisterState(log.set, register, bank, None, value, "not-checked", why)
        for bank, registers in replayed.items()
        for register, value in sorted(registers.items())
        if (register, bank) not in quoted
    ]


def _link(
    log: EventLog | None,
    states: Iterable[RegisterState],
    quoted: Mapping[tuple[int, str], bytes],
    set_: str,
) -> Link:
    if log is None or not log.events:
        return Link("log-replay", "not-checked", "there is no readable boot event log")
    if not quoted:
        return Link("log-replay", "not-checked", "no verified quote vouches for any register value")
    covered = [state for state in states if state.quoted is not None]
    if idle := _idle_banks(quoted, set_):
        return Link("log-replay", "broken", _idle_finding(idle[0]).summary)
    wrong = sorted({state.register for state in covered if state.status == "not-replayed"})
    if wrong:
        return Link(
            "log-replay", "broken", f"replay of {log.source} does not give the quoted {_names(set_, wrong)}"
        )
    silent = sorted({state.register for state in covered if state.status == "not-checked"})
    if silent:
        why = next(state.why for state in covered if state.status == "not-checked")
        return Link("log-replay", "not-checked", f"{_names(set_, silent)}: {why}; the others match")
    banks = ", ".join(sorted({state.bank for state in covered}))
    return Link(
        "log-replay", "holds", f"replay gives every quoted value ({_names(set_, _indices(quoted))}; {banks})"
    )


def _idle_banks(quoted: Mapping[tuple[int, str], bytes], set_: str) -> list[str]:
    """Banks that the firmware did not extend: anyone could write any boot into them.

    An active bank whose PCR 0 to 7 are all zero was left out by firmware or boot loader (CVE-2021-42299).
    """
    found: list[str] = []
    if set_ != "tpm":
        return found
    for bank in sorted({bank for _, bank in quoted}):
        values = [value for (register, b), value in quoted.items() if b == bank and register <= 7]
        if values and not any(any(value) for value in values):
            found.append(bank)
    return found


def _idle_finding(bank: str) -> Finding:
    why = f"the firmware extended nothing into the bank {bank}: its registers prove nothing of the boot"
    return Finding("bank-not-extended", "log-replay", why, "tpm", tuple(range(8)))


def _indices(quoted: Mapping[tuple[int, str], bytes]) -> tuple[int, ...]:
    return tuple(sorted({register for register, _ in quoted}))


def _names(set_: str, registers: Iterable[int]) -> str:
    """Name registers as people do: CC register 1 is RTMR 0."""
    if set_ == "cc":
        return "RTMR " + ", ".join(str(register - 1) for register in registers)
    return "PCR " + ", ".join(str(register) for register in registers)


def _aggregate(
    ima: ImaList | None,
    quoted: Mapping[tuple[int, str], bytes],
    replayed: Mapping[str, Mapping[int, bytes]],
) -> str:
    entry = boot_aggregate_entry(ima) if ima is not None else None
    if entry is None or not available(entry.hash_algorithm):
        return ""
    bank = entry.hash_algorithm
    known = {register: value for (register, b), value in quoted.items() if b == bank}
    if entry.file_digest in boot_aggregate(known, bank).values():
        return "quoted"
    claimed = dict(known) | dict(replayed.get(bank, {}))
    if entry.file_digest in boot_aggregate(claimed, bank).values():
        return "replayed"
    return "neither" if known else ""


def _forged_entries(ima: ImaList, count: int, link: str) -> list[Finding]:
    """Entries among the first `count` whose text is not what was extended."""
    forged = [index for index in check_entries(ima).forged if index < count]
    if not forged:
        return []
    first = ima.entries[forged[0]]
    why = (
        f"{len(forged)} entries of {ima.source} do not hash to what was extended "
        f"(first: entry {forged[0]}, {first.path!r}): their text was edited"
    )
    detail = {"order": (1 << 24) - 1, "entries": forged[:64]}
    return [Finding("event-data-forged", link, why, "tpm", (IMA_REGISTER,), detail=detail)]
