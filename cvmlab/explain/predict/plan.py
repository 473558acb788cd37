"""A baseline being changed, event by event, with why; what cannot be known is kept beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import available, digest
from cvmlab.baseline.document import MAX_DATA, Alternative
from cvmlab.errors import BaselineError
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cvmlab.baseline.document import Baseline, Slot
    from cvmlab.eventlog.model import Payload

_TYPE_NUMBER: Final = {name: number for number, name in EVENT_TYPES.items()}
Key = tuple[str, int]


@dataclass(slots=True, eq=False)
class Place:
    """One slot on its way from before to after.

    Attributes:
        register: Register set and index.
        before: The slot as it is; None for an event that the update adds.
        after: The slot as it will be; None for an event that goes.
        index: Index of `before` among the register's slots; -1 where there is none.
        why: What changes it.
    """

    register: Key
    before: Slot | None
    after: Slot | None
    index: int
    why: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """True where before and after differ."""
        return self.before != self.after

    @property
    def slot(self) -> Slot:
        """What is known of the event: as it will be, else as it was."""
        found = self.after or self.before
        assert found is not None
        return found


class Plan:
    """The working copy of a baseline."""

    def __init__(self, baseline: Baseline) -> None:
        """Lay out every slot of a baseline without cohorts."""
        self.baseline = baseline
        self.data: dict[str, bytes] = dict(baseline.data)
        self.places: dict[Key, list[Place]] = {
            (r.set, r.register): [Place((r.set, r.register), s, s, i) for i, s in enumerate(r.slots)]
            for r in baseline.registers
        }
        self.unknown: dict[Key, list[str]] = {}
        self.notes: list[str] = []
        self.handed: set[str] = set()

    def __iter__(self) -> Iterator[Place]:
        """Yield the places whose event is still there, in boot order."""
        found = [place for places in self.places.values() for place in places if place.after is not None]
        yield from sorted(found, key=lambda place: (place.slot.order, place.register))

    def of_kind(self, *kinds: str) -> list[Place]:
        """Return the places of some kinds, in boot order."""
        return [place for place in self if place.slot.kind in kinds]

    def doubt(self, place_or_key: Place | Key, why: str) -> None:
        """Mark a register: its value after the update is not known."""
        key = place_or_key.register if isinstance(place_or_key, Place) else place_or_key
        reasons = self.unknown.setdefault(key, [])
        if why not in reasons:
            reasons.append(why)

    def note(self, text: str) -> None:
        """Record what a prediction rests on."""
        if text not in self.notes:
            self.notes.append(text)

    def remove(self, place: Place, why: str) -> None:
        """Take an event out."""
        place.after = None
        place.why.append(why)

    def put(
        self,
        place: Place,
        digests: Mapping[str, bytes],
        why: str,
        *,
        what: str,
        summary: str | None = None,
        data: bytes | None = None,
    ) -> None:
        """Give an event other digests, in the banks that the baseline pins it in.

        Args:
            place: The event.
            digests: Bank to digest.
            why: What changes it.
            what: The file or variable that the digests are of, for the message where one is missing.
            summary: One line for people; the old one by default.
            data: The event's data, where its digest covers them.
        """
        slot = place.slot
        banks = sorted({bank for alternative in slot.alternatives for bank in alternative.digests})
        wanted = {bank: digests[bank] for bank in banks if bank in digests}
        if lacking := [bank for bank in banks if bank not in digests]:
            self.doubt(place, f"there is no {', '.join(lacking)} digest of {what}")
        if not wanted or all(dict(one.digests) == wanted for one in slot.alternatives):
            return
        line = summary if summary is not None else slot.alternatives[0].summary
        kept = self.keep(data) if data is not None else ""
        # a slot of several alternatives becomes one: the update leaves one file there
        kind = "fixed" if slot.slot_class == "one-of" else slot.slot_class
        place.after = replace(slot, slot_class=kind, alternatives=(Alternative(wanted, line, kept),))
        place.why.append(why)

    def rewrite(
        self, place: Place, edit: Callable[[bytes, Payload], bytes | None], why: str, *, needed: bool
    ) -> None:
        """Change the data of an event whose digest covers them, and its digest with them.

        Args:
            place: The event.
            edit: From the old data and what they mean to the new data; None where it cannot tell.
            why: What changes it.
            needed: The change concerns this event for sure, so its data must be there; otherwise data that
                were not kept leave the register in doubt too.
        """
        slot = place.slot
        alternatives: list[Alternative] = []
        for one in slot.alternatives:
            old = self.data.get(one.data)
            if old is None:
                what = slot.name or slot.kind
                concern = "changes" if needed else "may change"
                self.doubt(place, f"the text of {what} {concern} and the baseline does not have it")
                return
            before = self.payload(slot, place.register, old)
            new = edit(old, before)
            if new is None:
                self.doubt(
                    place, f"the data of {slot.name or slot.kind} are in a form that cannot be rewritten"
                )
                return
            if new == old:
                alternatives.append(one)
                continue
            made = self._measured(slot, place.register, one, before, new)
            if made is None:
                self.doubt(place, f"the digest of {slot.name or slot.kind} is of other data than the log has")
                return
            alternatives.append(made)
        if tuple(alternatives) == slot.alternatives:
            return
        unique: dict[tuple[tuple[str, bytes], ...], Alternative] = {}
        for one in alternatives:
            unique.setdefault(tuple(sorted(one.digests.items())), one)
        kind = "fixed" if slot.slot_class == "one-of" and len(unique) == 1 else slot.slot_class
        place.after = replace(slot, slot_class=kind, alternatives=tuple(unique.values()))
        place.why.append(why)

    def _measured(
        self, slot: Slot, register: Key, old: Alternative, before: Payload, new: bytes
    ) -> Alternative | None:
        """New data measured as the old were: of the same part of the event."""
        label = next(
            (
                name
                for name, data in before.candidates
                if any(available(b) and digest(b, data) == value for b, value in old.digests.items())
            ),
            None,
        )
        after = self.payload(slot, register, new)
        covered = dict(after.candidates).get(label) if label is not None else None
        if covered is None:
            return None
        digests = {bank: digest(bank, covered) for bank in old.digests if available(bank)}
        return Alternative(digests, after.summary, self.keep(new), ())

    def rename(self, place: Place, name: str, summary: str, why: str) -> None:
        """Give an event another name; its digest is not of it."""
        slot = place.slot
        if slot.name == name:
            return
        alternatives = tuple(replace(one, summary=summary) for one in slot.alternatives)
        place.after = replace(slot, name=name, alternatives=alternatives)
        place.why.append(why)

    def keep(self, data: bytes) -> str:
        """Store event data for decoded differences; return their name, empty where they are too long."""
        if not 0 < len(data) <= MAX_DATA:
            return ""
        name = hashlib.sha256(data).hexdigest()
        self.data[name] = data
        return name

    def payload(self, slot: Slot, register: Key, data: bytes) -> Payload:
        """Decode an event's data."""
        number = _TYPE_NUMBER.get(slot.type)
        if number is None:
            raise BaselineError(f"register {register[1]}: {slot.type!r} is no type of an event")
        return decode(number, register[1], data, set=register[0], source="baseline")

    def payload_of(self, place: Place, slot: Slot | None) -> Payload | None:
        """Decode the first alternative of a slot; None where its data are not kept."""
        if slot is None or not slot.alternatives or slot.type not in _TYPE_NUMBER:
            return None
        data = self.data.get(slot.alternatives[0].data)
        return self.payload(slot, place.register, data) if data is not None else None

    @staticmethod
    def type_number(slot: Slot) -> int:
        """Return an event type's number; 0 where it is not known."""
        return _TYPE_NUMBER.get(slot.type, 0)

    def only_values(self, register: int, why: str) -> None:
        """A register that the baseline pins by value cannot be followed event by event."""
        for pinned in self.baseline.registers:
            if pinned.register == register and (pinned.by_value or not pinned.complete):
                self.doubt((pinned.set, register), f"the baseline lists no events of it, and {why}")
