"""Comparing one boot with a baseline: the aligned diff, the values allowed, the IMA set, the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.baseline.addresses import only_addresses_differ
from cvmlab.baseline.difference import Difference, difference
from cvmlab.baseline.facts import BootFacts, boot_facts
from cvmlab.baseline.files import unknown_digests
from cvmlab.baseline.modules import ModuleRules, only_counters
from cvmlab.baseline.pairing import pair_events
from cvmlab.baseline.policy import PolicyResult, check_policy
from cvmlab.baseline.values import allowed_values
from cvmlab.eventlog.ima_replay import IMA_REGISTER
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.registers import LOCALITY, REGISTERS, start_of_register_0
from cvmlab.eventlog.replay import register_events
from cvmlab.eventlog.types import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from cvmlab.baseline.document import Alternative, Baseline, Cohort, RegisterBaseline, Slot
    from cvmlab.eventlog.model import Event, EventLog, Payload
    from cvmlab.findings import Trust
    from cvmlab.trust.assess import Assessment

Change = Literal["added", "removed", "changed", "moved", "relabelled"]
CompareStatus = Literal["matches", "differs", "not-replayed", "not-quoted", "not-checked"]

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
        harmless: True where the difference is no deviation: a device at another hardware address.
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
    harmless: bool = False


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
        cohort: Name of the cohort that fits best; empty where the baseline has none.
        cohort_why: Why that one, in a sentence.
        pins: How many slots and values decided anything for this boot; per-machine slots are open for a
            machine that the baseline does not know.

    `baseline` is the one compared with: of a baseline with cohorts, what the boots of `cohort` must meet.
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
    cohort: str = ""
    cohort_why: str = ""
    pins: int = 0

    @property
    def matches(self) -> bool:
        """True where anything is pinned, every pinned register was compared and nothing differs."""
        return (
            all(register.status == "matches" for register in self.registers)
            and not self.files
            and self.pins > 0
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
    machine = machine_sources(boot, baseline)
    rules = ModuleRules.of(boot, baseline)
    shared = _part(boot, rules, baseline.registers, machine)
    cohort, own, why = _best_cohort(boot, rules, machine, shared.pins)
    met = baseline.of_cohort(cohort)
    facts = boot_facts(boot)
    files, files_why = _files(boot, baseline, facts)
    rows = sorted((*shared.rows, *own.rows), key=lambda row: (row.order, row.register, row.slot))
    return Comparison(
        baseline=met,
        rows=tuple(rows),
        registers=tuple(sorted((*shared.registers, *own.registers), key=lambda r: (r.set, r.register))),
        files=files,
        files_why=files_why,
        policy=check_policy(boot, met, facts, known_machine=bool(machine)),
        facts=facts,
        known_machine=bool(machine),
        cohort=cohort.name if cohort is not None else "",
        cohort_why=why,
        pins=shared.pins + own.pins,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """Some registers of a baseline, compared."""

    registers: tuple[ComparedRegister, ...] = ()
    rows: tuple[DiffRow, ...] = ()
    pins: int = 0

    @property
    def misfit(self) -> int:
        """How many events, or values that no event explains, differ."""
        explained = {(row.set, row.register) for row in self.rows}
        by_value = sum(
            r.status not in ("matches", "not-quoted") and (r.set, r.register) not in explained
            for r in self.registers
        )
        return sum(not row.harmless for row in self.rows) + by_value


def _part(
    boot: Assessment, rules: ModuleRules, registers: Sequence[RegisterBaseline], machine: frozenset[int]
) -> _Part:
    states: list[ComparedRegister] = []
    rows: list[DiffRow] = []
    for pinned in registers:
        state, found = _register(boot, rules, pinned, machine)
        states.append(state)
        rows.extend(found)
    open_ = sum(
        slot.slot_class == "per-machine" and not machine for pinned in registers for slot in pinned.slots
    )
    return _Part(tuple(states), tuple(rows), max(0, sum(pinned.pins for pinned in registers) - open_))


def _best_cohort(
    boot: Assessment, rules: ModuleRules, machine: frozenset[int], shared_pins: int
) -> tuple[Cohort | None, _Part, str]:
    """The cohort from which the boot differs least; one that pins nothing only where there is no other."""
    baseline = rules.baseline
    if not baseline.cohorts:
        return None, _Part(), ""
    parts = [_part(boot, rules, cohort.registers, machine) for cohort in baseline.cohorts]

    def rank(index: int) -> tuple[bool, int, int, int]:
        part = parts[index]
        nothing = not (part.pins + shared_pins)
        return nothing, part.misfit, -len(baseline.cohorts[index].sources), index

    first, *others = sorted(range(len(parts)), key=rank)
    misfit = parts[first].misfit
    why = f"in its own registers {_count(misfit)} from it"
    if others:
        next_ = others[0]
        why += f", and {_count(parts[next_].misfit)} from the next, {baseline.cohorts[next_].name}"
    return baseline.cohorts[first], parts[first], why


def _count(misfit: int) -> str:
    return {0: "nothing differs", 1: "1 event differs"}.get(misfit, f"{misfit} events differ")


def machine_sources(boot: Assessment, baseline: Baseline) -> frozenset[int]:
    """Return the sources of a baseline that are this machine, by its verified keys."""
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
    boot: Assessment, rules: ModuleRules, pinned: RegisterBaseline, machine: frozenset[int]
) -> tuple[ComparedRegister, list[DiffRow]]:
    baseline = rules.baseline
    number = pinned.register
    states = [
        state
        for state in boot.replay.states
        if state.set == pinned.set and state.register == number and state.bank not in boot.replay.idle
    ]
    quoted = {state.bank: state for state in states if state.quoted is not None}
    # a register that the good boots never extended must not be extended in any bank
    in_baseline = pinned.whole_banks or set(quoted)
    banks = tuple(sorted(in_baseline & quoted.keys()))
    values = {bank: allowed_values(pinned, bank) for bank in (banks or tuple(sorted(in_baseline)))}

    def result(status: CompareStatus, why: str) -> ComparedRegister:
        return ComparedRegister(pinned.set, number, status, why, banks, values)

    log = boot.log
    events = register_events(log, number) if log is not None and log.set == pinned.set else []
    if not banks:
        claimed = tuple(sorted(in_baseline & set(log.banks if log is not None else ())))
        # a log says of a register that nothing was measured into it, too
        tells = bool(claimed and log is not None and log.set == pinned.set and log.events)
        rows = _rows(baseline, pinned, events, claimed, machine, "unproven") if tells else []
        if quoted:
            why = (
                f"the quotes cover {', '.join(sorted(quoted))}, the baseline {', '.join(sorted(in_baseline))}"
            )
            return result("not-checked", why), rows
        why = "no verified quote covers it" + ("; the log claims another boot" if rows else "")
        return result("not-quoted", why), rows
    if _value_allowed(pinned, {bank: quoted[bank].quoted for bank in banks}):
        return result("matches", "the quoted value is one that the baseline lists"), []
    if pinned.by_value:
        why = "the quoted value is none that the baseline lists; it lists no events to say what changed"
        return result("differs", why), []
    if all(quoted[bank].status == "matches" for bank in banks) and log is not None and log.events:
        worth: Trust = "proven" if boot.believed else "unproven"
        differ = _rows(baseline, pinned, events, banks, machine, worth)
        rows = [*_start(pinned, log, worth), *rules.settle(differ)]
        if not rows and not pinned.complete:
            why = f"the baseline names {len(pinned.slots)} of its {len(events)} events, and all are there"
            return result("not-checked", why), []
        if rows and all(row.harmless for row in rows):
            return result("matches", "only hardware addresses in boot entries are others"), rows
        if rows:
            return result(
                "differs",
                f"{len(rows)} {'event differs' if len(rows) == 1 else 'events differ'} from the baseline",
            ), rows
        settled = "; changed modules are listed or by an allowed signer" if differ else ""
        return result("matches", f"every event is one that the baseline allows{settled}"), []
    if pinned.complete and all(quoted[bank].quoted in values[bank] for bank in banks):
        return result("matches", "the quoted value is one that the baseline allows"), []
    if any(quoted[bank].status == "not-replayed" for bank in banks):
        rows = _rows(baseline, pinned, events, banks, machine, "unproven")
        return result("not-replayed", "log and quote disagree; the differences are claims"), rows
    if all(values[bank] for bank in banks):
        return result("differs", "the quoted value is none that the baseline allows; no log shows why"), []
    return result("not-checked", "there is no log, and the baseline allows too many values to list"), []


def _start(pinned: RegisterBaseline, log: EventLog, trust: Trust) -> list[DiffRow]:
    """What register 0 started from, where the baseline has it otherwise: equal events, another value."""
    if REGISTERS[pinned.set][pinned.register].changed_by != LOCALITY or not pinned.complete:
        return []
    here, event = start_of_register_0(log)
    if here == pinned.locality:
        return []
    order = event if event >= 0 else log.events[0].index
    before, after = (f"started from locality {number}" for number in (pinned.locality, here))
    lines = Difference((("-", before), ("+", after)))
    return [
        DiffRow(
            pinned.set, pinned.register, "changed", -1, event, order, "startup-locality", "StartupLocality",
            before, after, {}, {}, lines, trust,
        )
    ]  # fmt: skip


def _value_allowed(pinned: RegisterBaseline, quoted: Mapping[str, bytes | None]) -> bool:
    """True where one listed value agrees in every bank that it and the quotes have, one at least."""
    for value in pinned.values:
        banks = value.digests.keys() & quoted.keys()
        if banks and all(value.digests[bank] == quoted[bank] for bank in banks):
            return True
    return False


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
    pairing = pair_events(slots, events, banks, machine)
    found: list[tuple[Change, int, int]] = [
        *(("relabelled", i, j) for i, j in pairing.exact if _relabelled(slots[i], events[j])),
        *(("changed", i, j) for i, j in pairing.changed),
        *(("moved", i, j) for i, j in pairing.moved),
        *(("added", -1, j) for j in pairing.added if pinned.complete),
    ]
    rows = [
        _row(baseline, pinned, change, i, events[j], events[j].index, trust, banks) for change, i, j in found
    ]
    for i in pairing.removed:
        order = _order(i, pairing.ordered, events, slots)
        rows.append(_row(baseline, pinned, "removed", i, None, order, trust, banks))
    return [row for row in rows if not only_counters(row)]


def _relabelled(slot: Slot, event: Event) -> bool:
    """Tell whether an event has a slot's digest and another type that another program does not explain.

    GRUB and the kernel's EFI stub both measure the initial ramdisk, each in an event of its own type.
    """
    if slot.type in ("", event.type_name):
        return False
    return slot.kind != event.payload.kind or slot.producer == event.payload.producer


def _order(
    slot: int, pairs: Sequence[tuple[int, int]], events: Sequence[Event], slots: Sequence[Slot]
) -> int:
    """Boot order of a missing event: that of the next paired one, else just behind the last.

    Where the boot has no event of the register at all, the baseline's order has to do.
    """
    following = [j for i, j in pairs if i > slot]
    if following:
        return events[min(following)].index
    return events[-1].index + 1 if events else slots[slot].order


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
        harmless=change == "changed" and trust == "proven" and only_addresses_differ(old, new),
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
        if known is not None and digests <= known:
            continue
        new = unknown_digests(path, digests, baseline.files, facts.signatures, baseline.file_signers)
        if new:
            change: Literal["added", "changed"] = "added" if known is None else "changed"
            rows.append(FileRow(path, change, tuple(sorted(known or ())), tuple(sorted(new))))
    return tuple(rows), ""
