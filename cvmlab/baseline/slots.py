"""Slots of several boots or baselines laid over each other: aligned, joined and classed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.align import align, pair_leftovers
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cvmlab.baseline.document import Alternative, Slot

PER_MACHINE_KINDS: Final = frozenset({"boot-entry", "boot-order", "partition-table", "machine-identity"})
"""Kinds whose contents name a disk, a device or the machine itself: they may differ between machines."""

LEARNED: Final = frozenset({"fixed", "one-of", "optional", "per-machine"})
"""Classes that learning gives; the others a person set."""

Key = frozenset[tuple[str, bytes]]
Memo = dict[tuple[int, frozenset[str]], tuple["Alternative", Key]]
"""Keys of alternatives that were made before, for merging one list of slots with many boots."""


def slot_key(digests: Mapping[str, bytes], banks: frozenset[str]) -> Key:
    """Return what an event is in the banks that count."""
    return frozenset((bank, value) for bank, value in digests.items() if bank in banks)


def _alternative_key(alternative: Alternative, banks: frozenset[str], memo: Memo) -> Key:
    place = (id(alternative), banks)
    known = memo.get(place)
    # the alternative is kept with its key: an id is only its own while it lives
    if known is None or known[0] is not alternative:
        known = memo[place] = (alternative, slot_key(alternative.digests, banks))
    return known[1]


def common_banks(slots: Iterable[Slot], new: Iterable[Slot]) -> frozenset[str]:
    """Return the banks that both sides have digests of."""
    before = {bank for slot in slots for a in slot.alternatives for bank in a.digests}
    after = {bank for slot in new for a in slot.alternatives for bank in a.digests}
    return frozenset(before & after)


def merge_slots(
    slots: Sequence[Slot],
    new: Sequence[Slot],
    *,
    unpaired: Callable[[Slot], Slot] | None = None,
    paired: Callable[[Slot, Slot, Slot], Slot] | None = None,
    memo: Memo | None = None,
) -> list[Slot]:
    """Lay one more list of slots over another: a list of which both are subsequences.

    Args:
        slots: What was known.
        new: The events of one more boot as slots, or the slots of another baseline.
        unpaired: Applied to slots that have no partner on the other side.
        paired: Applied to the two sides of a pair and what they joined to.
        memo: Kept from one call to the next where many boots are laid over one list.

    Raises:
        BaselineError: The two have no bank in common.
    """
    banks = common_banks(slots, new)
    if slots and new and not banks:
        raise BaselineError("the quotes of the boots have no bank in common: quote them in the same bank")
    memo = {} if memo is None else memo
    allowed = [frozenset(_alternative_key(a, banks, memo) for a in slot.alternatives) for slot in slots]
    known = frozenset().union(*allowed) if any(len(slot.alternatives) > 1 for slot in new) else frozenset()
    pairs = align(allowed, [_one_key(slot, banks, known) for slot in new])
    done_slots = {slot for slot, _ in pairs}
    done_events = {event for _, event in pairs}
    leftovers = pair_leftovers(
        {i: slot.label for i, slot in enumerate(slots) if i not in done_slots},
        {j: slot.label for j, slot in enumerate(new) if j not in done_events},
        pairs,
    )
    partner = dict(pairs) | dict(leftovers)
    alone = unpaired or (lambda slot: slot)
    merged: list[Slot] = []
    at = 0
    for index, slot in enumerate(slots):
        event = partner.get(index)
        if event is None:
            merged.append(alone(slot))
            continue
        merged.extend(alone(one) for one in new[at:event])
        joined = join(slot, new[event], banks, memo)
        merged.append(paired(slot, new[event], joined) if paired is not None else joined)
        at = event + 1
    merged.extend(alone(one) for one in new[at:])
    return merged


def _one_key(slot: Slot, banks: frozenset[str], known: frozenset[Key]) -> Key:
    """Of a slot of several alternatives the one that the other side knows."""
    keys = [slot_key(a.digests, banks) for a in slot.alternatives]
    return next((key for key in keys if key in known), keys[0] if keys else frozenset())


def join(slot: Slot, other: Slot, banks: frozenset[str], memo: Memo | None = None) -> Slot:
    """Return one slot that allows what either does; class and labels are the first's."""
    memo = {} if memo is None else memo
    alternatives = list(slot.alternatives)
    for addition in other.alternatives:
        key = slot_key(addition.digests, banks)
        for index, alternative in enumerate(alternatives):
            if _alternative_key(alternative, banks, memo) == key:
                alternatives[index] = replace(
                    alternative,
                    digests={**addition.digests, **alternative.digests},
                    sources=tuple(dict.fromkeys((*alternative.sources, *addition.sources))),
                    data=alternative.data or addition.data,
                )
                break
        else:
            alternatives.append(addition)
    return replace(slot, alternatives=tuple(alternatives))


def classify(slot: Slot, total: int, machines: Mapping[int, str] | Sequence[str]) -> Slot:
    """Return a slot with the class that its alternatives' sources speak for.

    What all boots share is ``fixed``, what only some have ``optional``. A kind that may name the machine and
    is the same in all boots of each of several machines is ``per-machine``; other differences are ``one-of``.

    Args:
        slot: The slot; its alternatives say which sources had them.
        total: How many boots there are in all.
        machines: Source to name of its attestation key; empty where it is unknown.
    """
    seen = Counter(source for alternative in slot.alternatives for source in alternative.sources)
    if len(seen) < total:
        return replace(slot, slot_class="optional")
    if len(slot.alternatives) == 1:
        return replace(slot, slot_class="fixed")
    of_machine: dict[str, set[int]] = {}
    for index, alternative in enumerate(slot.alternatives):
        for source in alternative.sources:
            of_machine.setdefault(machines[source], set()).add(index)
    stable = len(of_machine) > 1 and all(len(found) == 1 for found in of_machine.values())
    if slot.kind in PER_MACHINE_KINDS and stable and "" not in of_machine:
        return replace(slot, slot_class="per-machine")
    return replace(slot, slot_class="one-of")
