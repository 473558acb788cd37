"""Hypotheses of what was done to a log, in order of cost. Each returns an edit that gives the quoted value.

A hypothesis counts only if it gives that value: the hash decides, not plausibility.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.align import align, pair_leftovers
from cvmlab.eventlog.replay import extend_all
from cvmlab.explain.reconcile.edits import Edit
from cvmlab.explain.reconcile.known import EXIT, PHASES, SEPARATORS, candidates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cvmlab.baseline.document import Slot
    from cvmlab.eventlog.model import Event
    from cvmlab.explain.reconcile.track import Track

_LOCALITIES: Final = (0, 3, 4)
_MAX_PAIRS: Final = 64
"""Registers with more events are not searched for two edits at once, or for a swap of distant events."""
_EXIT_REGISTER: Final = 5
_PHASE_REGISTER: Final = 11
_EXIT_ORDER: Final = 1 << 20


def ends(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """The log ends too early, or has more events than were measured when the quote was taken."""
    register, total = track.register, len(track.digests)
    last = track.place(total)
    for first in range(len(track.slots)):
        rest = track.slots[first:]
        tail = only_digests(rest, track.bank)
        if tail is not None and track.meets(total, tail):
            orders = tuple(slot.order for slot in rest)
            return Edit(register, "truncated", (), last, _words(rest), orders)
    if register == _EXIT_REGISTER:
        for first in range(len(EXIT)):
            if track.meets(total, [track.hash(text) for text in EXIT[first:]]):
                what = "; ".join(text.decode() for text in EXIT[first:])
                return Edit(register, "truncated", (), last, what, (_EXIT_ORDER,))
    if register == _PHASE_REGISTER:
        for count in range(1, len(PHASES) + 1):
            for first in range(len(PHASES) - count + 1):
                phases = PHASES[first : first + count]
                if track.meets(total, [track.hash(text) for text in phases]):
                    what = ", ".join(text.decode() for text in phases)
                    return Edit(register, "late", (), last, f"the boot phases {what} of systemd")
    for count in range(total):
        if track.prefix[count] == track.wanted:
            extra = tuple(event.index for event in track.events[count:])
            size = len(extra)
            # a single event too many is as well an event put in: only a run is told by its likeness
            if size > 1 and track.digests[count:] == track.digests[max(count - size, 0) : count]:
                what = f"the last {size} events, which stand in the log twice"
                return Edit(register, "quirk", extra, extra[0], what, quirk="events-listed-twice")
            what = track.events[count].payload.summary
            if len(extra) > 1:
                what += f" and the {len(extra) - 1} events after it"
            return Edit(register, "inserted", extra, extra[0], what)
    return None


def starts(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """The register began with another value than the log says."""
    if track.register != 0:
        return None
    for locality in _LOCALITIES:
        start = bytes(track.size - 1) + bytes([locality])
        if start != track.start and _fold(track, start, track.digests) == track.wanted:
            what = f"started from locality {locality}"
            events = tuple(event.index for event in track.events[:1])
            return Edit(0, "locality", events, 0, what, quirk="startup-locality-not-logged")
    return None


def banks(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """The bank was capped, or extended with digests of another one."""
    for what, data in SEPARATORS:
        if len(track.digests) > 1 and _fold(track, track.start, [track.hash(data)]) == track.wanted:
            return Edit(track.register, "quirk", (), 0, f"only {what}", quirk="bank-capped")
    weak = [event.digests.get("sha1") for event in track.events]
    if track.bank == "sha1" or any(value is None for value in weak):
        return None
    padded = [value.ljust(track.size, b"\0") for value in weak if value is not None]
    for count in range(len(padded)):
        # software from some point on could hash no more than SHA-1
        if padded[count:] != track.digests[count:] and track.meets(count, padded[count:]):
            events = tuple(event.index for event in track.events[count:])
            what = f"SHA-1 digests from event {events[0]} on"
            return Edit(track.register, "quirk", events, events[0], what, quirk="sha1-padded")
    return None


def baseline(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """Undo the differences between the log and the baseline: one by one, in runs, then all together."""
    slots, digests, events = track.slots, track.digests, track.events
    if not slots:
        return None
    allowed = [frozenset(a.digests.get(track.bank) for a in slot.alternatives) for slot in slots]
    track.budget.look()
    pairs = align(allowed, digests)
    done_slots, done_events = {i for i, _ in pairs}, {j for _, j in pairs}
    free_slots = {i: slot.label for i, slot in enumerate(slots) if i not in done_slots}
    free_events = {
        j: (e.payload.kind, e.payload.name, e.phase) for j, e in enumerate(events) if j not in done_events
    }
    changed = pair_leftovers(free_slots, free_events, pairs)
    for i, j in changed:
        for value in _values(slots[i], track.bank):
            if track.meets(j, [value, *digests[j + 1 :]]):
                event = events[j]
                return Edit(track.register, "modified", (event.index,), event.index, event.payload.summary)
    known = dict(sorted([*pairs, *changed]))
    missing = [i for i in free_slots if i not in known]
    for run in _runs(missing):
        found = _restored(track, run, known)
        if found is not None:
            return found
    extra = [j for j in free_events if j not in known.values()]
    return _like_baseline(track, changed, missing, extra)


def _restored(track: Track, run: Sequence[int], known: Mapping[int, int]) -> Edit | None:
    """Put a run of slots that the log lacks back where the baseline has it."""
    slots = [track.slots[i] for i in run]
    after = next((known[k] for k in range(run[-1] + 1, len(track.slots)) if k in known), len(track.digests))
    before = next((known[k] + 1 for k in range(run[0] - 1, -1, -1) if k in known), 0)
    sequence = only_digests(slots, track.bank)
    choices = [sequence] if sequence is not None else []
    if len(slots) == 1:
        choices = [[value] for value in _values(slots[0], track.bank)]
    for at in range(before, after + 1):
        for choice in choices:
            if track.meets(at, [*choice, *track.digests[at:]]):
                orders = tuple(slot.order for slot in slots)
                return Edit(track.register, "removed", (), track.place(at), _words(slots), orders)
    return None


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Single slots first, then runs of neighbours."""
    yield from ((number,) for number in numbers)
    run: list[int] = []
    for number in [*numbers, -1]:
        if run and number != run[-1] + 1:
            if len(run) > 1:
                yield tuple(run)
            run = []
        run.append(number)


def _like_baseline(
    track: Track, changed: Sequence[tuple[int, int]], missing: Sequence[int], extra: Sequence[int]
) -> Edit | None:
    """The quoted value is that of the baseline as a whole: all differences are the log's."""
    whole = only_digests(track.slots, track.bank)
    if whole is None or not track.meets(0, whole):
        return None
    slots, events = track.slots, track.events
    kinds = {"modified": bool(changed), "removed": bool(missing), "inserted": bool(extra)}
    present = [kind for kind, there in kinds.items() if there]
    change = present[0] if len(present) == 1 else "modified"
    if sorted(whole) == sorted(track.digests):
        change = "reordered"
    concerned = tuple(sorted([events[j].index for _, j in changed] + [events[j].index for j in extra]))
    order = min(concerned, default=track.place(len(events)))
    named = [slots[i] for i, _ in changed] + [slots[i] for i in missing]
    orders = tuple(slots[i].order for i in missing)
    return Edit(track.register, change, concerned, order, _words(named), orders)  # type: ignore[arg-type]


def extra_event(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """An event of the log was not measured."""
    for i, event in enumerate(track.events):
        if track.meets(i, track.digests[i + 1 :]):
            return Edit(track.register, "inserted", (event.index,), event.index, event.payload.summary)
    return None


def swapped(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """Two events stand in the wrong order: neighbours first, then any two of a short register."""
    digests, events = track.digests, track.events
    count = len(digests)
    pairs: Iterable[tuple[int, int]] = ((i, i + 1) for i in range(count - 1))
    far = combinations(range(count), 2) if count <= _MAX_PAIRS else ()
    for i, j in (*pairs, *(pair for pair in far if pair[1] > pair[0] + 1)):
        if digests[i] == digests[j]:
            continue
        if track.meets(i, [digests[j], *digests[i + 1 : j], digests[i], *digests[j + 1 :]]):
            pair = (events[i].index, events[j].index)
            return Edit(track.register, "reordered", pair, pair[0], events[i].payload.summary)
    return None


def other_data(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """An event's digest was edited: that of its own data is the one that was measured."""
    for i, event in enumerate(track.events):
        for _label, data in event.payload.candidates:
            value = track.hash(data)
            if value != track.digests[i] and track.meets(i, [value, *track.digests[i + 1 :]]):
                return Edit(track.register, "modified", (event.index,), event.index, event.payload.summary)
    if track.register > 7:
        return None
    for i, event in enumerate(track.events):
        for what, data in SEPARATORS:
            if event.payload.kind != "separator" or track.digests[i] == track.hash(data):
                continue
            if track.meets(i, [track.hash(data), *track.digests[i + 1 :]]):
                index = (event.index,)
                quirk = "separator-of-ones" if data != SEPARATORS[2][1] else ""
                change = "quirk" if quirk else "modified"
                return Edit(track.register, change, index, event.index, what, quirk=quirk)  # type: ignore[arg-type]
    return None


def well_known(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """The log lacks an event that is measured on most machines, or one of its own a second time."""
    known = [(what, track.hash(data)) for what, data in candidates(track.register)]
    own = [(event.payload.summary, value) for event, value in zip(track.events, track.digests, strict=True)]
    for choices in (known, own):
        for at in range(len(track.digests), -1, -1):
            for what, value in choices:
                if track.meets(at, [value, *track.digests[at:]]):
                    return Edit(track.register, "removed", (), track.place(at), what)
    for i, event in enumerate(track.events):
        for what, value in known:
            if value != track.digests[i] and track.meets(i, [value, *track.digests[i + 1 :]]):
                return Edit(track.register, "modified", (event.index,), event.index, what)
    return None


def elsewhere(track: Track, others: Mapping[int, Sequence[Event]]) -> Edit | None:
    """An event of this register is listed for another one, or as one that only informs."""
    for register, events in others.items():
        if register == track.register:
            continue
        for event in events:
            value = event.digests.get(track.bank)
            if value is None or not any(value):
                continue
            # its place in the log is the first to try; then anywhere
            own = sum(each.index < event.index for each in track.events)
            for at in (own, *(at for at in range(len(track.digests) + 1) if at != own)):
                if track.meets(at, [value, *track.digests[at:]]):
                    what, index = event.payload.summary, (event.index,)
                    if register < 0:
                        return Edit(track.register, "removed", index, event.index, what, source=register)
                    return Edit(track.register, "relocated", index, event.index, what, source=register)
    return None


def blocks(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """A run of events was put in."""
    digests, events = track.digests, track.events
    count = len(digests)
    for size in range(2, count):
        for at in range(count - size + 1):
            if track.meets(at, digests[at + size :]):
                run = tuple(event.index for event in events[at : at + size])
                what = f"{events[at].payload.summary} and the {size - 1} events after it"
                return Edit(track.register, "inserted", run, run[0], what)
    return None


def moved(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """One event stands at another place than it was measured."""
    digests, events = track.digests, track.events
    for i, event in enumerate(events):
        rest = [*digests[:i], *digests[i + 1 :]]
        for at in range(len(rest) + 1):
            if abs(at - i) <= 1:
                continue
            keep = min(at, i)
            if track.meets(keep, [*rest[keep:at], digests[i], *rest[at:]]):
                return Edit(track.register, "reordered", (event.index,), event.index, event.payload.summary)
    return None


def two_extra(track: Track, _: Mapping[int, Sequence[Event]]) -> Edit | None:
    """Two events of a short register were not measured."""
    if len(track.digests) > _MAX_PAIRS:
        return None
    for i, j in combinations(range(len(track.digests)), 2):
        if track.meets(i, [*track.digests[i + 1 : j], *track.digests[j + 1 :]]):
            pair = (track.events[i], track.events[j])
            what = "; ".join(event.payload.summary for event in pair)
            return Edit(track.register, "inserted", tuple(e.index for e in pair), pair[0].index, what)
    return None


Step = Callable[["Track", "Mapping[int, Sequence[Event]]"], Edit | None]

STEPS: Final[tuple[Step, ...]] = (
    ends, starts, banks, baseline, extra_event, swapped, other_data, well_known, elsewhere, blocks, moved,
    two_extra,
)  # fmt: skip
"""The hypotheses in order of cost."""


def only_digests(slots: Iterable[Slot], bank: str) -> list[bytes] | None:
    """The one sequence of digests of some slots; None where they leave a choice."""
    found = []
    for slot in slots:
        if len(slot.alternatives) != 1 or slot.slot_class in ("ignored", "repeatable"):
            return None
        value = slot.alternatives[0].digests.get(bank)
        if value is None:
            return None
        found.append(value)
    return found


def _values(slot: Slot, bank: str) -> list[bytes]:
    return [a.digests[bank] for a in slot.alternatives if bank in a.digests]


def _words(slots: Sequence[Slot]) -> str:
    said = [slot.alternatives[0].summary for slot in slots[:4]]
    more = [f"{len(slots) - 4} more"] if len(slots) > 4 else []
    return "; ".join([*said, *more])[:500]


def _fold(track: Track, start: bytes, digests: Sequence[bytes]) -> bytes:
    track.budget.spend(len(digests))
    return extend_all(track.bank, start, digests)


def by_register(events: Iterable[Event]) -> Mapping[int, Sequence[Event]]:
    """Events by register; those that only inform under -1, where they carry a digest."""
    found: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        found[event.register if event.extends else -1].append(event)
    return found
