"""Learning a baseline from known-good evidence."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.document import (
    MAX_DATA,
    Alternative,
    Baseline,
    Policy,
    RegisterBaseline,
    Slot,
    Source,
)
from cvmlab.baseline.facts import boot_facts
from cvmlab.baseline.policy import launch_measurement, reported_tcb
from cvmlab.baseline.slots import classify, merge_slots
from cvmlab.errors import BaselineError
from cvmlab.eventlog.ima_replay import IMA_REGISTER
from cvmlab.eventlog.registers import REGISTERS, start_of_register_0
from cvmlab.eventlog.replay import register_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cvmlab.baseline.slots import Memo
    from cvmlab.eventlog.model import Event
    from cvmlab.trust.assess import Assessment

MAX_KEPT: Final = 4 << 20
"""Most event data kept in one baseline, in bytes."""


def learn_baseline(
    assessments: Iterable[Assessment], *, name: str = "baseline", tool: str | None = None
) -> Baseline:
    """Learn a baseline from one or many good boots.

    Args:
        assessments: The trust chain of each evidence, in the order in which to align them.
        name: Name for people.
        tool: Program and version to record; this one by default.

    Returns:
        The baseline. What is alike in all boots becomes ``fixed``; what differs between machines and
        names them becomes ``per-machine``; other differences become ``one-of``, and what only some boots
        have ``optional``. The IMA set is the union of all files, where every boot handed in its list.

    Raises:
        BaselineError: No evidence, a broken link in one, no event log, or logs of different register sets.
    """
    boots = list(assessments)
    if not boots:
        raise BaselineError("there is no evidence to learn from")
    for boot in boots:
        _refuse(boot)
    sets = {boot.log.set for boot in boots if boot.log is not None}
    if len(sets) != 1:
        raise BaselineError(
            "the logs are of different register sets (tpm and cc): learn one baseline for each"
        )
    set_ = sets.pop()
    data: dict[str, bytes] = {}
    registers = []
    pinned = [pinned_banks(boot) for boot in boots]
    for register in sorted(set.intersection(*(set(banks) for banks in pinned))):
        if set_ == "tpm" and register == IMA_REGISTER:
            continue
        registers.append(_learn_register(boots, pinned, set_, register, data))
    sources = tuple(source_of(boot) for boot in boots)
    return Baseline(
        name=name,
        created=now(),
        tool=tool or tool_name(),
        sources=sources,
        registers=tuple(registers),
        files=_files(boots),
        policy=_policy(boots, data, pinned),
        data=data,
    )


def snapshot(boot: Assessment, *, name: str) -> Baseline:
    """Return one boot as a baseline, to compare another one with: every register and bank of its log.

    No trust is asked for, so this is no baseline to judge machines by.

    Args:
        boot: The boot; its log must have events.
        name: Name for people.
    """
    log = boot.log
    assert log is not None
    banks = frozenset(bank for bank in log.banks if bank in STRONGEST_FIRST)
    data: dict[str, bytes] = {}
    indices = sorted({event.register for event in log.events if event.extends} & REGISTERS[log.set].keys())
    # a register that the first boot never extended is compared too
    indices += [s.register for s in boot.replay.states if s.register not in indices and s.set == log.set]
    pinned = [dict.fromkeys(indices, banks)]
    return Baseline(
        name=name,
        created=now(),
        tool=tool_name(),
        sources=(source_of(boot),),
        registers=tuple(
            _learn_register([boot], pinned, log.set, register, data)
            for register in sorted(set(indices))
            if not (log.set == "tpm" and register == IMA_REGISTER)
        ),
        files=_files([boot]),
        policy=Policy(debugging=True),
        data=data,
    )


def tool_name() -> str:
    """Return the program and version that write baselines."""
    from cvmlab import __version__

    return f"cvmlab {__version__}"


def now() -> str:
    """Return the time as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _refuse(boot: Assessment) -> None:
    where = boot.evidence.source
    broken = [link for link in boot.links if link.status == "broken"]
    if broken:
        raise BaselineError(
            f"{where}: the link {broken[0].name} is broken ({broken[0].why}): "
            "a baseline is only learned from evidence that holds"
        )
    if boot.log is None or not boot.log.events:
        raise BaselineError(f"{where}: there is no boot event log to learn from")


def source_of(boot: Assessment) -> Source:
    """Return the entry of a boot among a baseline's sources."""
    unchecked = tuple(link.name for link in boot.links if link.status == "not-checked")
    public = boot.binding.public
    return Source(
        machine=boot.evidence.machine,
        evidence=boot.evidence.evidence_hash,
        unchecked=unchecked,
        learned=now(),
        ak_name=public.name.hex() if public is not None else "",
        ek_spki_sha256=boot.binding.endorsement_spki_sha256,
    )


def pinned_banks(boot: Assessment) -> dict[int, frozenset[str]]:
    """Registers to learn and the banks that may be believed of each.

    With quotes these are the quoted registers whose replay matches. Without any, the log is all there
    is: its registers are learned, and the source records that nothing vouches for them.
    """
    log = boot.log
    if log is None:
        return {}
    if boot.quotes.values:
        found: dict[int, set[str]] = {}
        for register, bank in boot.replay.matching():
            found.setdefault(register, set()).add(bank)
        return {register: frozenset(banks) for register, banks in found.items()}
    banks = frozenset(bank for bank in log.banks if bank in STRONGEST_FIRST)
    return {state.register: banks for state in boot.replay.states}


def _learn_register(
    boots: Sequence[Assessment],
    pinned: Sequence[dict[int, frozenset[str]]],
    set_: str,
    register: int,
    data: dict[str, bytes],
) -> RegisterBaseline:
    locality = 0
    # boots with the same events are aligned once: most of a fleet's are
    alike: dict[tuple[object, ...], list[int]] = {}
    first: dict[tuple[object, ...], tuple[list[Event], frozenset[str]]] = {}
    for number, boot in enumerate(boots):
        log = boot.log
        if log is None:
            continue
        if set_ == "tpm" and register == 0:
            start = start_of_register_0(log)[0]
            if number and start != locality:
                raise BaselineError(
                    f"{boot.evidence.source}: register 0 starts from locality {start}, in the boots before "
                    f"it from {locality}: learn one baseline for each"
                )
            locality = start
        banks = pinned[number][register]
        events = [event for event in register_events(log, register) if banks & event.digests.keys()]
        key = tuple((event.type, event.phase, *sorted(event.digests.items()), event.data) for event in events)
        alike.setdefault((banks, key), []).append(number)
        first.setdefault((banks, key), (events, banks))
    slots: list[Slot] = []
    memo: Memo = {}
    for count, (same, numbers) in enumerate(alike.items()):
        events, banks = first[same]
        new = [_seen(slot_of(event, banks, numbers[0], data), numbers) for event in events]
        slots = new if count == 0 else merge_slots(slots, new, memo=memo)
    machines = [boot.binding.public.name.hex() if boot.binding.public else "" for boot in boots]
    classed = tuple(classify(_ascending(slot), len(boots), machines) for slot in slots)
    return RegisterBaseline(set_, register, classed, locality)


def _seen(slot: Slot, numbers: Sequence[int]) -> Slot:
    return replace(slot, alternatives=tuple(replace(a, sources=tuple(numbers)) for a in slot.alternatives))


def _ascending(slot: Slot) -> Slot:
    alternatives = tuple(replace(a, sources=tuple(sorted(a.sources))) for a in slot.alternatives)
    return replace(slot, alternatives=alternatives)


def slot_of(event: Event, banks: frozenset[str], source: int, data: dict[str, bytes]) -> Slot:
    """Return one event as a slot.

    Args:
        event: The event.
        banks: Banks whose digests may be believed.
        source: Index of the boot among the sources.
        data: Event data kept by their SHA-256; the event's are added while there is room.
    """
    kept = ""
    if 0 < len(event.data) <= MAX_DATA and event.digest_check == "covers-data":
        name = hashlib.sha256(event.data).hexdigest()
        if name in data or sum(map(len, data.values())) + len(event.data) <= MAX_KEPT:
            data.setdefault(name, event.data)
            kept = name
    digests = {bank: value for bank, value in event.digests.items() if bank in banks}
    payload = event.payload
    alternative = Alternative(digests, payload.summary, kept, (source,))
    return Slot(
        "fixed",
        (alternative,),
        event.type_name,
        payload.producer,
        payload.kind,
        payload.name,
        event.phase,
        event.index,
    )


def _files(boots: Sequence[Assessment]) -> dict[str, frozenset[str]] | None:
    if any(boot.replay.ima is None for boot in boots):
        return None
    found: dict[str, set[str]] = {}
    for boot in boots:
        for path, digests in boot_facts(boot).files.items():
            found.setdefault(path, set()).update(digests)
    return {path: frozenset(digests) for path, digests in found.items()}


def _policy(
    boots: Sequence[Assessment], data: dict[str, bytes], pinned: Sequence[dict[int, frozenset[str]]]
) -> Policy:
    facts = [boot_facts(boot, everything=not boot.believed) for boot in boots]
    states = {fact.secure_boot for fact in facts}
    secure_boot = states.pop() if len(states) == 1 else None
    banks = [frozenset[str]().union(*found.values()) for found in pinned]
    quoted = all(boot.quotes.values for boot in boots)
    common = frozenset.intersection(*banks) if quoted else frozenset()
    levels: dict[str, int] = {}
    for fact in facts:
        for component, generation in fact.sbat_level.items():
            levels[component] = min(levels.get(component, generation), generation)
    lists = {fact.revocation_list for fact in facts}
    vouched = all(boot.link("hardware-report").status == "holds" for boot in boots)
    tcbs = [tcb for boot in boots if (tcb := reported_tcb(boot)) is not None]
    launches = [value for boot in boots if (value := launch_measurement(boot)) is not None]
    revocation = hashlib.sha256(lists.pop() or b"").hexdigest() if len(lists) == 1 else ""
    return Policy(
        # a rule that Secure Boot must be off would be absurd: off means no rule
        secure_boot=True if secure_boot else None,
        required_bank=next((bank for bank in ("sha256", "sha384", "sha512") if bank in common), ""),
        sbat_level=levels,
        revocation_list=revocation if revocation in data else "",
        hardware_report=vouched,
        lowest_tcb={name: min(tcb[name] for tcb in tcbs) for name in tcbs[0]}
        if len(tcbs) == len(boots) and len({frozenset(tcb) for tcb in tcbs}) == 1
        else {},
        launch_measurements=tuple(sorted(set(launches))) if len(launches) == len(boots) else (),
    )
