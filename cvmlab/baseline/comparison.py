"""Comparing one boot with a baseline: the aligned diff, the values allowed, the IMA set, the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import extend
from cvmlab.baseline.align import align, pair_leftovers
from cvmlab.baseline.difference import Difference, difference
from cvmlab.baseline.facts import BootFacts, boot_facts
from cvmlab.baseline.policy import PolicyResult, check_policy
from cvmlab.eventlog.ima_replay import IMA_REGISTER
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.registers import REGISTERS
from cvmlab.eventlog.replay import register_events
from cvmlab.eventlog.types import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from cvmlab.baseline.document import Alternative, Baseline, RegisterBaseline, Slot
    from cvmlab.eventlog.model import Event, Payload
    from cvmlab.findings import Trust
    from cvmlab.trust.assess import Assessment

Change = Literal["added", "removed", "changed", "moved", "relabelled"]
CompareStatus = Literal["matches", "differs", "not-replayed", "not-quoted", "not-checked"]

MAX_VALUES: Final = 64
"""Most register values that the slots of one register are unfolded to."""

_TYPE_NUMBER: Final = {name: number for number, name in EVENT_TYPES.items()}


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One difference between a boot and the baseline.

    Attributes:
        set: Register set.
        register: Register index.
        change: ``added``, ``removed``, ``changed``, ``moved``, or ``relabelled`` (same digest, other type).
        slot: Index of the slot; -1 where there is none.
        event: Index of the event; -1 where it is missing.
        order: Where it stands in boot order: the event's index, or that of the event it should precede.
        kind: What the event is about.
        name: What tells it apart; a claim, unescaped.
        before: The baseline's event, in one line; unescaped.
        after: This boot's, likewise.
        digests_before: Bank to digest in the baseline.
        digests_after: Bank to digest in this boot.
        difference: The decoded difference.
        trust: What the row is worth: ``unproven`` where no verified quote covers the register.
        payload_before: The baseline's event, decoded; None where its data were not kept.
        payload_after: This boot's event, decoded; None where it is missing.
    """

    set: str
    register: int
    change: Change
    slot: int
    event: int
    order: int
    kind: str
    name: str
    before: str
    after: str
    digests_before: Mapping[str, bytes]
    digests_after: Mapping[str, bytes]
    difference: Difference
    trust: Trust
    payload_before: Payload | None = None
    payload_after: Payload | None = None


@dataclass(frozen=True, slots=True)
class ComparedRegister:
    """One pinned register: what came of it.

    Attributes:
        set: Register set.
        register: Register index.
        status: ``matches``, ``differs``, ``not-replayed``, ``not-quoted`` or ``not-checked``.
        why: One sentence.
        banks: Banks that decided.
        values: Bank to the values the slots allow; empty where they cannot be unfolded.
    """

    set: str
    register: int
    status: CompareStatus
    why: str
    banks: tuple[str, ...]
    values: Mapping[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of the IMA list that the baseline's set does not have, or has with another digest."""

    path: str
    change: Literal["added", "changed"]
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome.

    Attributes:
        baseline: The baseline.
        rows: Differences, in boot order.
        registers: Every pinned register.
        files: Differences of the IMA set; None where it was not compared, with `files_why`.
        files_why: Why the IMA set was not compared.
        policy: Results of the rules.
        facts: What the boot proves.
        known_machine: True where the boot's keys are among the baseline's sources.
    """

    baseline: Baseline
    rows: tuple[DiffRow, ...]
    registers: tuple[ComparedRegister, ...]
    files: tuple[FileRow, ...] | None
    files_why: str
    policy: tuple[PolicyResult, ...]
    facts: BootFacts
    known_machine: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def matches(self) -> bool:
        """True where every pinned register was compared and nothing differs."""
        return (
            all(register.status == "matches" for register in self.registers)
            and not self.files
            and bool(self.registers)
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the table `cvmlab.tables.DIFF`, one row a difference."""
        from cvmlab.baseline.show import diff_frame

        return diff_frame(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.baseline.show import comparison_view
        from cvmlab.view import mimebundle

        return mimebundle(comparison_view(self))


def compare(boot: Assessment, baseline: Baseline) -> Comparison:
    """Compare a boot with a baseline.

    Registers are decided only by values and digests that verified quotes cover and that replay gives;
    differences seen elsewhere are rows with trust ``unproven``.

    Args:
        boot: The trust chain of the evidence.
        baseline: The baseline.

    Returns:
        Rows, register states, files and policy results. Never raises for evidence.
    """
    machine = _machine(boot, baseline)
    rows: list[DiffRow] = []
    registers: list[ComparedRegister] = []
    for pinned in baseline.registers:
        state, found = _register(boot, baseline, pinned, machine)
        registers.append(state)
        rows.extend(found)
    facts = boot_facts(boot)
    files, files_why = _files(boot, baseline, facts)
    rows.sort(key=lambda row: (row.order, row.register, row.slot))
    return Comparison(
        baseline=baseline,
        rows=tuple(rows),
        registers=tuple(registers),
        files=files,
        files_why=files_why,
        policy=check_policy(boot, baseline, facts, known_machine=bool(machine)),
        facts=facts,
        known_machine=bool(machine),
    )


def _machine(boot: Assessment, baseline: Baseline) -> frozenset[int]:
    """Sources of the baseline that are this machine, by its verified keys."""
    if not boot.binding.bound or boot.binding.public is None:
        return frozenset()
    name = boot.binding.public.name.hex()
    spki = boot.binding.endorsement_spki_sha256
    return frozenset(
        index
        for index, source in enumerate(baseline.sources)
        if source.ak_name == name or (spki and source.ek_spki_sha256 == spki)
    )


def _register(
    boot: Assessment, baseline: Baseline, pinned: RegisterBaseline, machine: frozenset[int]
) -> tuple[ComparedRegister, list[DiffRow]]:
    number = pinned.register
    states = [s for s in boot.replay.states if s.set == pinned.set and s.register == number]
    quoted = {state.bank: state for state in states if state.quoted is not None}
    # a register that the good boots never extended must not be extended in any bank
    in_baseline = _banks(pinned) or set(quoted)
    banks = tuple(sorted(in_baseline & quoted.keys()))
    values = {bank: allowed_values(pinned, bank) for bank in (banks or tuple(sorted(in_baseline)))}

    def result(status: CompareStatus, why: str) -> ComparedRegister:
        return ComparedRegister(pinned.set, number, status, why, banks, values)

    log = boot.log
    events = register_events(log, number) if log is not None and log.set == pinned.set else []
    if not banks:
        claimed = tuple(sorted(in_baseline & set(log.banks if log is not None else ())))
        rows = _rows(baseline, pinned, events, claimed, machine, "unproven") if events and claimed else []
        if quoted:
            why = (
                f"the quotes cover {', '.join(sorted(quoted))}, the baseline {', '.join(sorted(in_baseline))}"
            )
            return result("not-checked", why), rows
        why = "no verified quote covers it" + ("; the log claims another boot" if rows else "")
        return result("not-quoted", why), rows
    if all(quoted[bank].status == "matches" for bank in banks) and log is not None and log.events:
        rows = _rows(baseline, pinned, events, banks, machine, "proven" if boot.believed else "unproven")
        if rows:
            return result(
                "differs",
                f"{len(rows)} {'event differs' if len(rows) == 1 else 'events differ'} from the baseline",
            ), rows
        return result("matches", "every event is one that the baseline allows"), []
    if all(quoted[bank].quoted in values[bank] for bank in banks):
        return result("matches", "the quoted value is one that the baseline allows"), []
    if any(quoted[bank].status == "not-replayed" for bank in banks):
        rows = _rows(baseline, pinned, events, banks, machine, "unproven")
        return result("not-replayed", "log and quote disagree; the differences are claims"), rows
    if all(values[bank] for bank in banks):
        return result("differs", "the quoted value is none that the baseline allows; no log shows why"), []
    return result("not-checked", "there is no log, and the baseline allows too many values to list"), []


def _banks(pinned: RegisterBaseline) -> set[str]:
    return {bank for slot in pinned.slots for a in slot.alternatives for bank in a.digests}


def allowed_values(pinned: RegisterBaseline, bank: str) -> tuple[bytes, ...]:
    """Unfold the slots of a register into the values they allow.

    Returns:
        At most `MAX_VALUES` values; none where a slot is open (per-machine, repeatable, ignored), lacks a
        digest of the bank, or where there would be more.
    """
    from cvmlab.banks import DIGEST_SIZE, available

    if not available(bank):
        return ()
    rule = REGISTERS[pinned.set][pinned.register]
    size = DIGEST_SIZE[bank]
    start = bytes([rule.fill]) * size
    if pinned.locality:
        start = bytes(size - 1) + bytes([pinned.locality])
    elif rule.changed_by == "drtm" and pinned.slots:
        start = bytes(size)
    values = [start]
    for slot in pinned.slots:
        if slot.slot_class in ("per-machine", "repeatable", "ignored"):
            return ()
        digests = [a.digests[bank] for a in slot.alternatives if bank in a.digests]
        if len(digests) != len(slot.alternatives):
            return ()
        new = [extend(bank, value, item) for value in values for item in digests]
        values = list(dict.fromkeys((*values, *new) if slot.slot_class == "optional" else new))
        if len(values) > MAX_VALUES:
            return ()
    return tuple(values)


def _key(digests: Mapping[str, bytes], banks: Sequence[str]) -> tuple[bytes | None, ...]:
    return tuple(digests.get(bank) for bank in banks)


def _rows(
    baseline: Baseline,
    pinned: RegisterBaseline,
    events: Sequence[Event],
    banks: Sequence[str],
    machine: frozenset[int],
    trust: Trust,
) -> list[DiffRow]:
    """Align the events of one register with its slots and return what does not fit."""
    events = [event for event in events if any(bank in event.digests for bank in banks)]
    slots = pinned.slots
    keys = [_key(event.digests, banks) for event in events]
    allowed = [frozenset(_key(a.digests, banks) for a in _usable(slot, machine)) for slot in slots]
    pairs = align(allowed, keys)
    paired = dict(pairs)
    taken = set(paired.values())
    free_slots = {i: slot.label for i, slot in enumerate(slots) if i not in paired}
    free_events = {j: _label(event) for j, event in enumerate(events) if j not in taken}
    by_label = pair_leftovers(free_slots, free_events, pairs)
    rows: list[DiffRow] = []
    for i, j in pairs:
        if slots[i].type != events[j].type_name:
            rows.append(_row(baseline, pinned, "relabelled", i, events[j], events[j].index, trust, banks))
    open_pairs = [*pairs]
    for i, j in by_label:
        del free_slots[i], free_events[j]
        open_pairs.append((i, j))
        if not _open(slots[i], machine):
            rows.append(_row(baseline, pinned, "changed", i, events[j], events[j].index, trust, banks))
    by_kind = pair_leftovers(
        {i: label[0::2] for i, label in free_slots.items()},
        {j: label[0::2] for j, label in free_events.items()},
        open_pairs,
    )
    for i, j in by_kind:
        del free_slots[i], free_events[j]
        open_pairs.append((i, j))
        rows.append(_row(baseline, pinned, "changed", i, events[j], events[j].index, trust, banks))
    repeatable = {
        key for i, slot in enumerate(slots) if slot.slot_class == "repeatable" for key in allowed[i]
    }
    missing = {i for i in free_slots if slots[i].slot_class not in ("optional", "ignored")}
    for j in sorted(free_events):
        event = events[j]
        if keys[j] in repeatable:
            continue
        home = next((i for i in sorted(missing) if keys[j] in allowed[i]), None)
        if home is not None:
            missing.discard(home)
            rows.append(_row(baseline, pinned, "moved", home, event, event.index, trust, banks))
        else:
            rows.append(_row(baseline, pinned, "added", -1, event, event.index, trust, banks))
    for i in sorted(missing):
        rows.append(_row(baseline, pinned, "removed", i, None, _order(i, open_pairs, events), trust, banks))
    return rows


def _label(event: Event) -> tuple[str, str, str]:
    return event.payload.kind, event.payload.name, event.phase


def _usable(slot: Slot, machine: frozenset[int]) -> list[Alternative]:
    """Alternatives that count: of a per-machine slot those of this machine, where it is a known one."""
    if slot.slot_class == "per-machine" and machine:
        own = [a for a in slot.alternatives if machine & set(a.sources)]
        return own or list(slot.alternatives)
    return list(slot.alternatives)


def _open(slot: Slot, machine: frozenset[int]) -> bool:
    """True where any event of the slot's label will do."""
    return slot.slot_class == "ignored" or (slot.slot_class == "per-machine" and not machine)


def _order(slot: int, pairs: Sequence[tuple[int, int]], events: Sequence[Event]) -> int:
    """Boot order of a missing event: that of the next paired one, else just behind the last."""
    following = [j for i, j in pairs if i > slot]
    if following:
        return events[min(following)].index
    return events[-1].index + 1 if events else 0


def _row(
    baseline: Baseline,
    pinned: RegisterBaseline,
    change: Change,
    slot_index: int,
    event: Event | None,
    order: int,
    trust: Trust,
    banks: Sequence[str],
) -> DiffRow:
    slot = pinned.slots[slot_index] if slot_index >= 0 else None
    before = slot.alternatives[0] if slot is not None and slot.alternatives else None
    old = _payload(baseline, pinned, slot, before) if slot is not None and before is not None else None
    new = event.payload if event is not None else None
    if trust == "proven" and event is not None and event.digest_check != "covers-data":
        trust = "digest-only"
    return DiffRow(
        set=pinned.set,
        register=pinned.register,
        change=change,
        slot=slot_index,
        event=event.index if event is not None else -1,
        order=order,
        kind=new.kind if new is not None else slot.kind if slot is not None else "unknown",
        name=new.name if new is not None else slot.name if slot is not None else "",
        before=before.summary if before is not None else "",
        after=new.summary if new is not None else "",
        digests_before={b: before.digests[b] for b in banks if b in before.digests} if before else {},
        digests_after={b: event.digests[b] for b in banks if b in event.digests} if event else {},
        difference=difference(old, new) if old is not None or slot is None else Difference(),
        trust=trust,
        payload_before=old,
        payload_after=new,
    )


def _payload(
    baseline: Baseline, pinned: RegisterBaseline, slot: Slot, alternative: Alternative
) -> Payload | None:
    data = baseline.data.get(alternative.data)
    number = _TYPE_NUMBER.get(slot.type)
    if number is None and slot.type.startswith("0x"):
        try:
            number = int(slot.type, 16)
        except ValueError:
            return None
    if data is None or number is None:
        return None
    return decode(number, pinned.register, data, set=pinned.set, source="baseline", base=0)


def _files(boot: Assessment, baseline: Baseline, facts: BootFacts) -> tuple[tuple[FileRow, ...] | None, str]:
    if baseline.files is None:
        return None, "the baseline has no set of runtime files"
    if boot.replay.ima is None:
        state = next((s for s in boot.replay.states if s.register == IMA_REGISTER and s.quoted), None)
        return None, state.why if state is not None else "no verified quote covers register 10"
    rows = []
    for path, digests in facts.files.items():
        known = baseline.files.get(path)
        if known is None:
            rows.append(FileRow(path, "added", (), tuple(sorted(digests))))
        elif not digests <= known:
            rows.append(FileRow(path, "changed", tuple(sorted(known)), tuple(sorted(digests - known))))
    return tuple(rows), ""
