"""Aligning events with slots: anchors on unique keys, then longest common subsequence in between."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

MAX_CELLS: Final = 4_000_000
"""Most cells of one comparison table; beyond, the stretch counts as replaced."""

Pairs = list[tuple[int, int]]


def align(slots: Sequence[frozenset[Hashable]], events: Sequence[Hashable]) -> Pairs:
    """Pair slots and events whose keys agree, keeping both orders.

    Args:
        slots: Keys that each slot allows.
        events: Key of each event.

    Returns:
        Pairs (slot, event), ascending in both. What is in no pair was added or removed.
    """
    pairs: Pairs = []
    _stretch(slots, events, 0, len(slots), 0, len(events), pairs)
    return sorted(pairs)


def _stretch(
    slots: Sequence[frozenset[Hashable]],
    events: Sequence[Hashable],
    a: int,
    a_end: int,
    b: int,
    b_end: int,
    pairs: Pairs,
) -> None:
    while a < a_end and b < b_end and events[b] in slots[a]:
        pairs.append((a, b))
        a, b = a + 1, b + 1
    while a < a_end and b < b_end and events[b_end - 1] in slots[a_end - 1]:
        a_end, b_end = a_end - 1, b_end - 1
        pairs.append((a_end, b_end))
    if a == a_end or b == b_end:
        return
    if (a_end - a) * (b_end - b) <= MAX_CELLS:
        pairs.extend(_longest(slots, events, a, a_end, b, b_end))
        return
    anchors = _anchors(slots, events, a, a_end, b, b_end)
    if not anchors:
        return
    previous = (a, b)
    for slot, event in [*anchors, (a_end, b_end)]:
        if slot > previous[0] or event > previous[1]:
            at_a, at_b = previous
            if (slot - at_a) * (event - at_b) <= MAX_CELLS:
                pairs.extend(_longest(slots, events, at_a, slot, at_b, event))
        if slot < a_end:
            pairs.append((slot, event))
        previous = (slot + 1, event + 1)


def _anchors(
    slots: Sequence[frozenset[Hashable]], events: Sequence[Hashable], a: int, a_end: int, b: int, b_end: int
) -> Pairs:
    """Pairs whose key is unique on both sides, the longest run of them that keeps the order."""
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for slot in range(a, a_end):
        for key in slots[slot]:
            by_key[key].append(slot)
    seen: dict[Hashable, list[int]] = defaultdict(list)
    for event in range(b, b_end):
        seen[events[event]].append(event)
    unique = sorted(
        (at[0], by_key[key][0]) for key, at in seen.items() if len(at) == 1 and len(by_key.get(key, ())) == 1
    )
    tails: list[int] = []
    tail_at: list[int] = []
    back: list[int] = []
    for position, (_, slot) in enumerate(unique):
        length = bisect_left(tails, slot)
        back.append(tail_at[length - 1] if length else -1)
        if length == len(tails):
            tails.append(slot)
            tail_at.append(position)
        else:
            tails[length] = slot
            tail_at[length] = position
    chosen: Pairs = []
    at = tail_at[-1] if tail_at else -1
    while at >= 0:
        event, slot = unique[at]
        chosen.append((slot, event))
        at = back[at]
    return chosen[::-1]


def _longest(
    slots: Sequence[frozenset[Hashable]], events: Sequence[Hashable], a: int, a_end: int, b: int, b_end: int
) -> Pairs:
    """Longest common subsequence of one stretch."""
    width = b_end - b
    rows = [[0] * (width + 1)]
    for slot in range(a_end - 1, a - 1, -1):
        below = rows[-1]
        row = [0] * (width + 1)
        allowed = slots[slot]
        for column in range(width - 1, -1, -1):
            if events[b + column] in allowed:
                row[column] = below[column + 1] + 1
            else:
                # a comparison costs a third of a call of max, and this is the innermost loop
                skip_slot, skip_event = below[column], row[column + 1]
                row[column] = skip_slot if skip_slot > skip_event else skip_event
        rows.append(row)
    rows.reverse()
    pairs: Pairs = []
    i = j = 0
    while i < a_end - a and j < width:
        if events[b + j] in slots[a + i] and rows[i][j] == rows[i + 1][j + 1] + 1:
            pairs.append((a + i, b + j))
            i, j = i + 1, j + 1
        elif rows[i + 1][j] >= rows[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def pair_leftovers(
    slots: Mapping[int, Hashable], events: Mapping[int, Hashable], pairs: Iterable[tuple[int, int]]
) -> Pairs:
    """Pair by label what alignment left over: the two sides of a change.

    Args:
        slots: Label of each leftover slot.
        events: Label of each leftover event.
        pairs: Aligned pairs; a leftover pair may not cross one.
    """
    here, there = sorted(slots), sorted(events)
    bounds = [(-1, -1), *sorted(pairs), (1 << 60, 1 << 60)]
    found: Pairs = []
    for (a, b), (a_end, b_end) in pairwise(bounds):
        left = here[bisect_right(here, a) : bisect_left(here, a_end)]
        right = there[bisect_right(there, b) : bisect_left(there, b_end)]
        if left and right:
            matched = align([frozenset({slots[slot]}) for slot in left], [events[event] for event in right])
            found += [(left[i], right[j]) for i, j in matched]
    return found
