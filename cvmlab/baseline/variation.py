"""How the slots of a baseline vary among the boots that it was learned from, and what that suggests.

Nothing here decides: a suggestion is for a person to confirm, and each says what it would open.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.cohorts import count_cohorts, split_by_cohort
from cvmlab.baseline.slots import PER_MACHINE_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cvmlab.baseline.document import Baseline, Cohort, RegisterBaseline, Slot, SlotClass

MAX_SUGGESTIONS: Final = 60
_MAX_COHORTS: Final = 12
"""More ways to boot than a person would tell apart."""


@dataclass(frozen=True, slots=True)
class Variation:
    """How one slot varies.

    Attributes:
        pinned: Its register.
        index: Its index there.
        slot: The slot.
        cohort: Name of the cohort that it belongs to; empty where all boots share it.
        boots: How many boots there are.
        shares: How many boots have each alternative, in the order of the alternatives.
        why: How it varies, in words.
    """

    pinned: RegisterBaseline
    index: int
    slot: Slot
    cohort: str
    boots: int
    shares: tuple[int, ...]
    why: str

    @property
    def varies(self) -> bool:
        """True where not every boot has the same event here."""
        return len(self.shares) > 1 or sum(self.shares) < self.boots


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A class that the variation of a slot speaks for.

    Attributes:
        register: Register index; -1 for the whole baseline.
        slot: Index of the slot; -1 for the whole baseline.
        cohort: Name of the cohort; empty where all boots share the slot.
        slot_class: The class; ``split`` for telling cohorts apart.
        why: What speaks for it.
        opens: What would then no longer be seen.
    """

    register: int
    slot: int
    cohort: str
    slot_class: SlotClass | str
    why: str
    opens: str


def variations(baseline: Baseline) -> tuple[Variation, ...]:
    """Return how every slot varies: those that all boots share first, then those of each cohort."""
    return tuple(
        Variation(
            pinned,
            index,
            slot,
            cohort.name if cohort else "",
            boots,
            tuple(len(set(a.sources)) for a in slot.alternatives),
            _why(baseline, slot, boots),
        )
        for cohort, pinned, boots in _places(baseline)
        for index, slot in enumerate(pinned.slots)
    )


def _places(baseline: Baseline) -> Iterator[tuple[Cohort | None, RegisterBaseline, int]]:
    for register in baseline.registers:
        yield None, register, len(baseline.sources)
    for cohort in baseline.cohorts:
        for register in cohort.registers:
            yield cohort, register, len(cohort.sources)


def _machines(baseline: Baseline, slot: Slot) -> dict[str, set[int]]:
    """Machine to the alternatives that its boots had; boots of unknown machines are left out."""
    found: dict[str, set[int]] = defaultdict(set)
    for index, alternative in enumerate(slot.alternatives):
        for source in alternative.sources:
            if source < len(baseline.sources) and (name := baseline.sources[source].ak_name):
                found[name].add(index)
    return found


def _why(baseline: Baseline, slot: Slot, boots: int) -> str:
    seen = {source for a in slot.alternatives for source in a.sources}
    if not seen:
        return "nothing says in which boots it was seen"
    missing = f"; missing in {boots - len(seen)} of {boots} boots" if len(seen) < boots else ""
    values = len(slot.alternatives)
    if values == 1:
        return f"the same in all {len(seen)} boots that have it{missing}" if missing else "the same in all"
    of_machine = _machines(baseline, slot)
    if len(of_machine) > 1 and all(len(found) == 1 for found in of_machine.values()):
        own = len({next(iter(found)) for found in of_machine.values()}) == len(of_machine)
        how = "another on every machine" if own else "the same in all boots of one machine"
        return f"{values} values on {len(of_machine)} machines: {how}{missing}"
    if values == len(seen) and values > 2:
        return f"another in each of {values} boots{missing}"
    changing = sum(len(found) > 1 for found in of_machine.values())
    within = f", changing on {changing} of {len(of_machine)} machines" if changing else ""
    return f"{values} values in {len(seen)} boots{within}{missing}"


def suggestions(baseline: Baseline, known: tuple[Variation, ...] | None = None) -> tuple[Suggestion, ...]:
    """Return what the variation among the boots speaks for, at most `MAX_SUGGESTIONS`, in boot order.

    Args:
        baseline: The baseline.
        known: Its `variations`, where they were made before.
    """
    found: list[Suggestion] = []
    machines = {source.ak_name for source in baseline.sources if source.ak_name}
    for one in known if known is not None else variations(baseline):
        if one.slot.slot_class not in ("fixed", "one-of", "optional"):
            continue
        what = f"the {one.slot.kind} in register {one.pinned.register}"
        place = (one.pinned.register, one.index, one.cohort)
        of_machine = _machines(baseline, one.slot)
        stable = len(of_machine) > 1 and all(len(values) == 1 for values in of_machine.values())
        values = len(one.slot.alternatives)
        if one.slot.slot_class != "optional" and stable and 1 < values == len(of_machine):
            opens = f"{what} could be any on a machine that was not learned"
            found.append(Suggestion(*place, "per-machine", one.why, opens))
        elif values > 2 and values == sum(one.shares):
            opens = f"{what} could be any, on every machine"
            found.append(Suggestion(*place, "ignored", one.why, opens))
        elif len(machines) == 1 and values == 1 and one.slot.kind in PER_MACHINE_KINDS - {"boot-order"}:
            opens = f"{what} could be any on a machine that was not learned"
            why = "learned from one machine only, and it may name the machine or its disk"
            found.append(Suggestion(*place, "per-machine", why, opens))
    # as many kinds as boots is no grouping
    ways = count_cohorts(baseline) if not baseline.cohorts else 0
    if 1 < ways < len(baseline.sources) and ways <= _MAX_COHORTS:
        named = ", ".join(cohort.name for cohort in split_by_cohort(baseline).cohorts[:4])
        why = f"the boots start in {ways} ways ({named})"
        opens = "nothing: values of one cohort are no longer allowed beside those of another"
        found.insert(0, Suggestion(-1, -1, "", "split", why, opens))
    return tuple(found[:MAX_SUGGESTIONS])


def slot_rule(
    *, text: str = "", producer: str = "", phase: str = "", varies: bool | None = None, boots: int = 0
) -> Callable[[RegisterBaseline, Slot], bool]:
    """Return a rule for `cvmlab.baseline.set_class`; what is left out names every slot.

    Args:
        text: Pattern of the name or of an event's line, ``*`` for anything; a text without one is looked
            for anywhere.
        producer: Who writes the event.
        phase: ``before`` or ``after`` the separator.
        varies: True for slots that are not the same in all boots, False for those that are.
        boots: How many boots there are, for `varies`.
    """
    pattern = text if "*" in text or not text else f"*{text}*"

    def rule(_: RegisterBaseline, slot: Slot) -> bool:
        if producer and slot.producer != producer:
            return False
        if phase and slot.phase != phase:
            return False
        if varies is not None:
            seen = {source for a in slot.alternatives for source in a.sources}
            if (len(slot.alternatives) > 1 or len(seen) < boots) != varies:
                return False
        lines = (slot.name, *(a.summary for a in slot.alternatives))
        return not pattern or any(fnmatchcase(line.lower(), pattern.lower()) for line in lines)

    return rule
