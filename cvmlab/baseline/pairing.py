"""Which event of a register stands at which slot."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from cvmlab.baseline.align import align, pair_leftovers

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from cvmlab.baseline.document import Alternative, Slot
    from cvmlab.eventlog.model import Event


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which event of a register stands at which slot.

    Attributes:
        exact: (slot, event position) of events that the slot allows.
        open: Those of slots that take any event of their label: ignored, or per-machine for a new machine.
        changed: Those paired by label or kind alone: the two sides of a change.
        moved: Those of events that an unpaired slot elsewhere allows.
        added: Positions of events of no slot.
        removed: Slots that need an event and have none.
        repeated: Positions of further events of a repeatable slot.
    """

    exact: tuple[tuple[int, int], ...]
    open: tuple[tuple[int, int], ...]
    changed: tuple[tuple[int, int], ...]
    moved: tuple[tuple[int, int], ...]
    added: tuple[int, ...]
    removed: tuple[int, ...]
    repeated: tuple[int, ...]

    @property
    def ordered(self) -> list[tuple[int, int]]:
        """All pairs that keep the order of both sides, ascending."""
        return sorted((*self.exact, *self.open, *self.changed))


@dataclass(frozen=True, slots=True)
class SlotKeys:
    """What slots allow in some banks, made once for many boots.

    Attributes:
        allowed: Keys of the events that each slot allows.
        typed: The same with the type of the event, in the slots that have one; None for a slot of any type.
    """

    allowed: tuple[frozenset[Hashable], ...]
    typed: tuple[frozenset[Hashable] | None, ...]

    @classmethod
    def of(cls, slots: Sequence[Slot], banks: Sequence[str], machine: frozenset[int]) -> SlotKeys:
        """Make the keys; the arguments are those of `pair_events`."""
        allowed = tuple(frozenset(_key(a.digests, banks) for a in _usable(slot, machine)) for slot in slots)
        typed = tuple(
            frozenset((key, slot.type) for key in keys) if slot.type else None
            for slot, keys in zip(slots, allowed, strict=True)
        )
        return cls(allowed, typed)


def pair_events(
    slots: Sequence[Slot],
    events: Sequence[Event],
    banks: Sequence[str],
    machine: frozenset[int],
    known: SlotKeys | None = None,
) -> Pairing:
    """Align the events of one register with its slots.

    Args:
        slots: The slots, in order.
        events: The events that have a digest in one of the banks, in log order.
        banks: Banks that count.
        machine: Sources of the baseline that are this machine.
        known: `SlotKeys.of` these slots, banks and machine, where many boots are paired.
    """
    known = known if known is not None else SlotKeys.of(slots, banks, machine)
    allowed = known.allowed
    keys = [_key(event.digests, banks) for event in events]
    exact = _exact(known, events, keys)
    paired = dict(exact)
    taken = set(paired.values())
    free_slots = {i: slot.label for i, slot in enumerate(slots) if i not in paired}
    free_events = {j: _label(event) for j, event in enumerate(events) if j not in taken}
    # the same digest elsewhere says more than the same label here
    moved = _moved(slots, free_slots, free_events, allowed, keys)
    for i, j in moved:
        del free_slots[i], free_events[j]
    by_label = pair_leftovers(free_slots, free_events, exact)
    for i, j in by_label:
        del free_slots[i], free_events[j]
    by_kind = pair_leftovers(
        {i: label[0::2] for i, label in free_slots.items()},
        {j: label[0::2] for j, label in free_events.items()},
        [*exact, *by_label],
    )
    for i, j in by_kind:
        del free_slots[i], free_events[j]
    open_ = tuple((i, j) for i, j in by_label if _open(slots[i], machine))
    changed = tuple((i, j) for i, j in (*by_label, *by_kind) if (i, j) not in open_)
    repeatable = {
        key for i, slot in enumerate(slots) if slot.slot_class == "repeatable" for key in allowed[i]
    }
    missing = {i for i in free_slots if slots[i].slot_class not in ("optional", "ignored")}
    repeated = [j for j in sorted(free_events) if keys[j] in repeatable]
    added = [j for j in sorted(free_events) if keys[j] not in repeatable]
    return Pairing(
        tuple(exact), open_, changed, tuple(moved), tuple(added), tuple(sorted(missing)), tuple(repeated)
    )


def _exact(known: SlotKeys, events: Sequence[Event], keys: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs whose digests agree: those of one type first, since two programs may measure the same thing."""
    allowed = known.allowed
    types = {event.type_name for event in events} if None in known.typed else set()
    typed = [
        own if own is not None else frozenset((key, name) for key in keys_ for name in types)
        for own, keys_ in zip(known.typed, allowed, strict=True)
    ]
    pairs = align(typed, [(key, event.type_name) for key, event in zip(keys, events, strict=True)])
    if len(pairs) == min(len(allowed), len(events)):
        return pairs
    found = list(pairs)
    for (a, b), (a_end, b_end) in pairwise([(-1, -1), *pairs, (len(allowed), len(events))]):
        found += [(a + 1 + i, b + 1 + j) for i, j in align(allowed[a + 1 : a_end], keys[b + 1 : b_end])]
    return sorted(found)


def _moved(
    slots: Sequence[Slot],
    free_slots: Mapping[int, object],
    free_events: Mapping[int, object],
    allowed: Sequence[frozenset[Hashable]],
    keys: Sequence[Hashable],
) -> list[tuple[int, int]]:
    """Pair events with unpaired slots elsewhere that allow just them."""
    homes: dict[Hashable, list[int]] = {}
    for i in sorted(free_slots, reverse=True):
        if slots[i].slot_class not in ("optional", "ignored", "repeatable"):
            for key in allowed[i]:
                homes.setdefault(key, []).append(i)
    found: list[tuple[int, int]] = []
    used: set[int] = set()
    for j in sorted(free_events):
        waiting = homes.get(keys[j], [])
        while waiting and waiting[-1] in used:
            waiting.pop()
        if waiting:
            used.add(waiting[-1])
            found.append((waiting.pop(), j))
    return found


def _key(digests: Mapping[str, bytes], banks: Sequence[str]) -> tuple[bytes | None, ...]:
    return tuple(digests.get(bank) for bank in banks)


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
