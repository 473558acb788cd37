"""What a prediction says: the new baseline, each register before and after, each event that changes, why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.comparison import Comparison, DiffRow
from cvmlab.baseline.difference import difference
from cvmlab.baseline.facts import BootFacts
from cvmlab.baseline.values import allowed_values
from cvmlab.eventlog.model import Event, EventLog, Payload
from cvmlab.explain.codes import diff_findings
from cvmlab.explain.rank import causes
from cvmlab.findings import Link

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.baseline.document import Baseline, RegisterBaseline, Slot
    from cvmlab.explain.model import Cause
    from cvmlab.explain.predict.plan import Key, Place, Plan

SCHEMA: Final = "cvmlab.prediction/1"


@dataclass(frozen=True, slots=True)
class PredictedRegister:
    """One register in one bank.

    Attributes:
        set: Register set.
        register: Register index.
        bank: Bank.
        before: Values that the baseline allows; empty where its slots cannot be unfolded into values.
        after: Values after the update; empty where they cannot be, or are not known.
        status: ``same``, ``changes`` or ``unknown``.
        why: What is not known of it; empty otherwise.
    """

    set: str
    register: int
    bank: str
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    status: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class PredictedEvent:
    """One event that the update changes.

    Attributes:
        set: Register set.
        register: Register index.
        change: ``changed``, ``added`` or ``removed``.
        kind: What it is about.
        name: What tells it apart.
        before: In one line; empty where it is added. Unescaped.
        after: Likewise; empty where it is removed.
        digests_before: Bank to digest.
        digests_after: Bank to digest.
        why: What changes it.
    """

    set: str
    register: int
    change: str
    kind: str
    name: str
    before: str
    after: str
    digests_before: Mapping[str, bytes]
    digests_after: Mapping[str, bytes]
    why: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outcome.

    Attributes:
        before: The baseline.
        baseline: The baseline after the update. Registers whose value is not known keep what they had, so a
            boot after the update is flagged there instead of passed.
        registers: Every pinned register in every bank.
        events: Events that change, in boot order.
        causes: What a boot after the update would be blamed for by the old baseline, ranked as ever.
        unknown: (set, register) to what could not be predicted of it, and why.
        notes: What the prediction rests on.
    """

    before: Baseline
    baseline: Baseline
    registers: tuple[PredictedRegister, ...]
    events: tuple[PredictedEvent, ...]
    causes: tuple[Cause, ...]
    unknown: Mapping[tuple[str, int], tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True where nothing is left unknown."""
        return not self.unknown

    def register(self, index: int, bank: str, set_: str = "tpm") -> PredictedRegister:
        """Return one register in one bank.

        Raises:
            KeyError: The baseline does not pin it there.
        """
        for one in self.registers:
            if (one.set, one.register, one.bank) == (set_, index, bank):
                return one
        raise KeyError(f"the baseline does not pin register {index} in {bank}")

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.explain.predict.show import prediction_view
        from cvmlab.view import mimebundle

        return mimebundle(prediction_view(self))


def outcome(plan: Plan, after: Baseline) -> Prediction:
    """Draw the outcome from a worked plan and the baseline made of it."""
    ordered = sorted(
        (place for places in plan.places.values() for place in places),
        key=lambda p: (p.slot.order, p.register),
    )
    events, at = _log(plan, ordered)
    rows = tuple(
        _row(plan, place, at.get(id(place), -1), i) for i, place in enumerate(ordered) if place.changed
    )
    comparison = Comparison(plan.baseline, rows, (), None, "", (), BootFacts(), known_machine=True)
    findings = diff_findings(comparison, events)
    ranked = causes(findings, {"baseline": Link("baseline", "broken", "")})
    return Prediction(
        before=plan.baseline,
        baseline=after,
        registers=tuple(_registers(plan, after)),
        events=tuple(_event(place) for place in ordered if place.changed),
        causes=ranked,
        unknown={key: tuple(reasons) for key, reasons in sorted(plan.unknown.items())},
        notes=tuple(plan.notes),
    )


def _registers(plan: Plan, after: Baseline) -> list[PredictedRegister]:
    found = []
    for old in plan.baseline.registers:
        new = after.register(old.set, old.register)
        key = (old.set, old.register)
        reasons = plan.unknown.get(key, [])
        changed = any(place.changed for place in plan.places.get(key, []))
        for bank in STRONGEST_FIRST:
            if bank not in (old.banks or plan.baseline.banks):
                continue
            was = allowed_values(old, bank)
            now = allowed_values(new, bank) if new is not None and not reasons else ()
            status = "unknown" if reasons else "changes" if changed and _differs(plan, key, bank) else "same"
            found.append(PredictedRegister(*key, bank, was, now, status, "; ".join(reasons)))
    return found


def _differs(plan: Plan, key: Key, bank: str) -> bool:
    def digests(slot: Slot | None) -> list[bytes | None]:
        return [one.digests.get(bank) for one in slot.alternatives] if slot is not None else []

    return any(digests(place.before) != digests(place.after) for place in plan.places[key])


def _line(slot: Slot | None) -> str:
    return slot.alternatives[0].summary if slot is not None else ""


def _digests(slot: Slot | None) -> dict[str, bytes]:
    return dict(slot.alternatives[0].digests) if slot is not None else {}


def _change(place: Place) -> str:
    return "added" if place.before is None else "removed" if place.after is None else "changed"


def _event(place: Place) -> PredictedEvent:
    why = "; ".join(dict.fromkeys(place.why))
    return PredictedEvent(
        *place.register, _change(place), place.slot.kind, place.slot.name, _line(place.before),
        _line(place.after), _digests(place.before), _digests(place.after), why,
    )  # fmt: skip


def _log(plan: Plan, ordered: list[Place]) -> tuple[EventLog, dict[int, int]]:
    """The boot after the update as a log: what decides on causes looks at the events around a difference."""
    events: list[Event] = []
    at: dict[int, int] = {}
    for place in ordered:
        if place.after is None:
            continue
        slot = place.after
        at[id(place)] = len(events)
        data = plan.data.get(slot.alternatives[0].data, b"")
        events.append(
            Event(
                index=len(events), offset=0, register=place.register[1], type=plan.type_number(slot),
                digests=_digests(slot), data=data, data_offset=0,
                digest_check="covers-data" if data else "describes", covered="", phase=slot.phase,
                payload=_payload(plan, place, slot),
            )
        )  # fmt: skip
    set_ = ordered[0].register[0] if ordered else "tpm"
    log = EventLog("prediction", "unknown", set_, plan.baseline.banks, tuple(events), (), (), None, 0, 0)
    return log, at


def _payload(plan: Plan, place: Place, slot: Slot) -> Payload:
    decoded = plan.payload_of(place, slot)
    if decoded is not None:
        return decoded
    return Payload(slot.producer, slot.kind, slot.name, _line(slot), None)


def _row(plan: Plan, place: Place, event: int, order: int) -> DiffRow:
    old, new = plan.payload_of(place, place.before), plan.payload_of(place, place.after)
    shown = _payload(plan, place, place.after) if place.after is not None else None
    return DiffRow(
        set=place.register[0], register=place.register[1], change=_change(place),  # type: ignore[arg-type]
        slot=place.index, event=event, order=order, kind=place.slot.kind, name=place.slot.name,
        before=_line(place.before), after=_line(place.after), digests_before=_digests(place.before),
        digests_after=_digests(place.after), difference=difference(old, new), trust="proven",
        payload_before=old, payload_after=new or (shown if old is not None or place.before is None else None),
    )  # fmt: skip


def made(plan: Plan) -> tuple[RegisterBaseline, ...]:
    """Return the registers after the update; one whose value is not known keeps what it had."""
    found = []
    for pinned in plan.baseline.registers:
        key = (pinned.set, pinned.register)
        if key in plan.unknown:
            found.append(pinned)
            continue
        slots = tuple(place.after for place in plan.places[key] if place.after is not None)
        # final values listed beside the slots are those of boots before the update
        values = () if any(place.changed for place in plan.places[key]) else pinned.values
        found.append(replace(pinned, slots=slots, values=values))
    return tuple(found)
