"""Cohorts: boots that differ by more than what names a machine, told apart and named by what differs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.document import Cohort
from cvmlab.baseline.slots import LEARNED, PER_MACHINE_KINDS, classify
from cvmlab.errors import BaselineError
from cvmlab.eventlog.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cvmlab.baseline.document import Alternative, Baseline, RegisterBaseline, Slot

MAX_NAME: Final = 100
MAX_MARKS: Final = 3

_KERNEL: Final = re.compile(r"vmlinu[zx]-(\S+)")
_FIRST: Final = (
    "kernel-command-line", "grub-command", "kernel", "uki-section", "crtm-version", "firmware-blob", "driver",
    "secure-boot", "signature-database", "revocation-list", "authority", "initrd", "application",
)  # fmt: skip
"""Kinds that name a cohort, the one that says most to a person first; others follow."""

_CONTENT: Final = frozenset(_FIRST) - {"grub-command", "kernel-command-line"}
"""Kinds whose digest is of program code or keys: different ones are different boots, however many."""


def split_by_cohort(baseline: Baseline) -> Baseline:
    """Split the slots of a learned baseline into cohorts: boots that agree in all but per-machine slots.

    A baseline of two kernels whose slots each allow either event also allows the kernel of one with the
    initial RAM disk of the other; its cohorts allow each kernel only with what it came with. Slots that
    name a machine, that a person set to ``ignored`` or ``repeatable``, or that take another value in most
    boots tell no cohort apart.

    Args:
        baseline: Learned from boots: each alternative says which sources had it.

    Returns:
        The baseline with `Baseline.cohorts`, each named by what tells it apart; the same baseline where all
        boots start alike. Registers in which no cohort differs stay shared. Signatures are dropped.

    Raises:
        BaselineError: Nothing says from which boots the alternatives are.
    """
    if not baseline.sources or not any(
        a.sources for r in baseline.every_register() for slot in r.slots for a in slot.alternatives
    ):
        raise BaselineError(
            f"{baseline.name}: nothing says which boot an event was seen in, so no cohorts can be told "
            "apart; learn the baseline from boots"
        )
    if baseline.cohorts:
        return baseline
    telling, members = _groups(baseline)
    total = len(baseline.sources)
    if len(members) < 2:
        return baseline
    parted = {id(register) for register, _ in telling}
    names = _names(telling, members)
    machines = [source.ak_name for source in baseline.sources]
    cohorts = tuple(
        Cohort(
            name,
            tuple(_restricted(r, group, total, machines) for r in baseline.registers if id(r) in parted),
            tuple(group),
        )
        for name, group in zip(names, members, strict=True)
    )
    shared = tuple(register for register in baseline.registers if id(register) not in parted)
    return replace(baseline, registers=shared, cohorts=cohorts, signatures=())


def count_cohorts(baseline: Baseline) -> int:
    """Return how many cohorts `split_by_cohort` would make of a baseline that has none."""
    return len(_groups(baseline)[1])


def _groups(baseline: Baseline) -> tuple[list[tuple[RegisterBaseline, Slot]], list[list[int]]]:
    """The slots that tell boots apart, and the sources that agree in all of them."""
    telling = _telling(baseline)
    total = len(baseline.sources)
    choices = [_choices(slot, total) for _, slot in telling]
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for source in range(total):
        groups[tuple(chosen[source] for chosen in choices)].append(source)
    return telling, list(groups.values())


def _telling(baseline: Baseline) -> list[tuple[RegisterBaseline, Slot]]:
    """Slots whose event depends on the boot and says how it boots, not on which machine."""
    total = len(baseline.sources)
    found = []
    for register in baseline.registers:
        for slot in register.slots:
            if slot.slot_class in ("per-machine", "ignored", "repeatable") or slot.kind in PER_MACHINE_KINDS:
                continue
            count = len(set(_choices(slot, total)))
            if count > 1 and not (total >= 4 and count > total // 2 and slot.kind not in _CONTENT):
                found.append((register, slot))
    return found


def _choice(slot: Slot, source: int) -> int:
    """Which alternative a boot had: its index, or -1 for none."""
    return next((i for i, a in enumerate(slot.alternatives) if source in a.sources), -1)


def _choices(slot: Slot, total: int) -> list[int]:
    """`_choice` of every source at once."""
    found = [-1] * total
    for index in range(len(slot.alternatives) - 1, -1, -1):
        for source in slot.alternatives[index].sources:
            if 0 <= source < total:
                found[source] = index
    return found


def _restricted(
    register: RegisterBaseline, group: Sequence[int], total: int, machines: Sequence[str]
) -> RegisterBaseline:
    """The slots that one cohort's boots had; alternatives of no boot are a person's, and stay in all."""
    here = frozenset(group)
    slots = []
    for slot in register.slots:
        kept = tuple(a for a in slot.alternatives if not a.sources or here & set(a.sources))
        if not kept:
            continue
        own = tuple(replace(a, sources=tuple(s for s in a.sources if s in here)) for a in kept)
        new = replace(slot, alternatives=own)
        learned = slot.slot_class in LEARNED and slot.slot_class != "per-machine"
        if learned and slot.slot_class == classify(slot, total, machines).slot_class:
            new = classify(new, len(group), machines)
        slots.append(new)
    values = tuple(v for v in register.values if not v.sources or here & set(v.sources))
    return replace(register, slots=tuple(slots), values=values)


def _names(telling: Sequence[tuple[RegisterBaseline, Slot]], groups: Sequence[Sequence[int]]) -> list[str]:
    """Name each group by the fewest marks that no other group has together."""
    ordered = sorted(telling, key=lambda pair: (_rank(pair[1].kind), pair[1].order))
    marks: list[list[str]] = []
    for group in groups:
        own: list[str] = []
        for register, slot in ordered:
            index = _choice(slot, group[0])
            if index >= 0 and (text := _mark(register, slot, slot.alternatives[index])) not in own:
                own.append(text)
        marks.append(own)
    names = []
    for number, own in enumerate(marks):
        left = [frozenset(other) for index, other in enumerate(marks) if index != number]
        chosen: list[str] = []
        while left and len(chosen) < MAX_MARKS:
            # of the marks that rule out most of the groups left, the one that says most
            best = max(own, key=lambda mark: sum(mark not in other for other in left), default="")
            after = [other for other in left if best in other]
            if len(after) == len(left):
                break
            chosen.append(best)
            left = after
        names.append(", ".join(chosen)[:MAX_NAME] or "without what the others have")
    counts = Counter(names)
    return [
        f"{name} (like boot {groups[number][0]})" if counts[name] > 1 else name
        for number, name in enumerate(names)
    ]


def _rank(kind: str) -> int:
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _mark(register: RegisterBaseline, slot: Slot, alternative: Alternative) -> str:
    """Say what one event is, so that it tells a boot apart."""
    for text in (alternative.summary, slot.name):
        if found := _KERNEL.search(text):
            return f"kernel {found[1]}"
    digest = next(
        (alternative.digests[b].hex()[:12] for b in STRONGEST_FIRST if b in alternative.digests), ""
    )
    summary = alternative.summary or slot.name
    if slot.kind == "crtm-version":
        return f"firmware {summary}"
    if slot.kind == "driver":
        return f"machine with option ROM {summary} ({digest})"
    if slot.kind == "secure-boot":
        return summary
    # where nothing decoded tells two events apart, their digests do
    same = len({a.summary for a in slot.alternatives}) < len(slot.alternatives)
    what = KINDS.get(slot.kind, f"event of register {register.register}")
    return f"{what}: {summary}{f' ({digest})' if same or not summary else ''}"


def whole_cohorts(baseline: Baseline, parted: Iterable[tuple[str, int]] = ()) -> list[Cohort]:
    """Return every cohort with all registers that any cohort, or `parted`, has for its own.

    A baseline without cohorts is one cohort of its own name, so that two baselines can be laid side by side.
    """
    wanted = {(r.set, r.register) for cohort in baseline.cohorts for r in cohort.registers} | {*parted}
    shared = tuple(r for r in baseline.registers if (r.set, r.register) in wanted)
    if not baseline.cohorts:
        return [Cohort(baseline.name, shared, tuple(range(len(baseline.sources))))]
    return [
        replace(
            cohort,
            registers=tuple(sorted((*cohort.registers, *shared), key=lambda r: (r.set, r.register))),
        )
        for cohort in baseline.cohorts
    ]


def replace_register(baseline: Baseline, register: RegisterBaseline, cohort: str = "") -> Baseline:
    """Return a baseline with another version of one register, of one cohort or shared.

    Raises:
        BaselineError: There is no such cohort, or it does not pin the register.
    """
    place = (register.set, register.register)

    def swapped(registers: tuple[RegisterBaseline, ...]) -> tuple[RegisterBaseline, ...]:
        return tuple(register if (r.set, r.register) == place else r for r in registers)

    if any((r.set, r.register) == place for r in baseline.registers):
        return replace(baseline, registers=swapped(baseline.registers), signatures=())
    found = cohort_named(baseline, cohort)
    if not any((r.set, r.register) == place for r in found.registers):
        raise BaselineError(f"{baseline.name}: the baseline does not pin register {register.register}")
    new = replace(found, registers=swapped(found.registers))
    cohorts = tuple(new if one is found else one for one in baseline.cohorts)
    return replace(baseline, cohorts=cohorts, signatures=())


def cohort_named(baseline: Baseline, name: str) -> Cohort:
    """Return the cohort of a name.

    Raises:
        BaselineError: There is none.
    """
    for cohort in baseline.cohorts:
        if cohort.name == name:
            return cohort
    listed = ", ".join(repr(cohort.name) for cohort in baseline.cohorts) or "none"
    raise BaselineError(f"{baseline.name}: there is no cohort {name!r}; there are: {listed}")
