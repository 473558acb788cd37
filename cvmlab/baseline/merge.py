"""Two baselines become one that allows what either allows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.cohorts import whole_cohorts
from cvmlab.baseline.document import Cohort, Policy
from cvmlab.baseline.slots import PER_MACHINE_KINDS, classify, common_banks, merge_slots
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cvmlab.baseline.document import Alternative, Baseline, RegisterBaseline, Slot, SlotClass, Source

_LOOSEST_FIRST: Final[tuple[SlotClass, ...]] = ("ignored", "repeatable", "optional", "per-machine")


def merge(a: Baseline, b: Baseline, *, name: str | None = None) -> Baseline:
    """Return a baseline that allows what either of two allows.

    Registers that only one pins stay pinned; rules that only one has stay rules (a list of IMA files from one
    tool joins a baseline of boots from another). Where both have a rule, the one that asks less counts.
    Cohorts of one name are merged, others kept side by side.

    Args:
        a: The first; its names and labels win.
        b: The second.
        name: Name of the result; that of `a` by default.

    Returns:
        The merged baseline without signatures, with both histories by time.

    Raises:
        BaselineError: The two pin one register in no common bank.
    """
    sources, moved = _sources(a.sources, b.sources)
    second = _renumbered(b, moved)
    parted = {(r.set, r.register) for one in (a, b) for cohort in one.cohorts for r in cohort.registers}
    shared = _registers(
        [r for r in a.registers if (r.set, r.register) not in parted],
        [r for r in second.registers if (r.set, r.register) not in parted],
        sources,
    )
    cohorts: tuple[Cohort, ...] = ()
    if parted:
        cohorts = _cohorts(whole_cohorts(a, parted), whole_cohorts(second, parted), sources)
    return replace(
        a,
        name=name if name is not None else a.name,
        sources=sources,
        registers=shared,
        cohorts=cohorts,
        files=_union(a.files, b.files),
        modules=_union(a.modules, b.modules),
        file_signers=tuple(dict.fromkeys((*a.file_signers, *b.file_signers))),
        module_signers=tuple(dict.fromkeys((*a.module_signers, *b.module_signers))),
        policy=_policy(a, b),
        history=tuple(sorted(dict.fromkeys((*a.history, *b.history)), key=lambda change: change.when)),
        data={**b.data, **a.data},
        signatures=(),
    )


def _sources(a: tuple[Source, ...], b: tuple[Source, ...]) -> tuple[tuple[Source, ...], dict[int, int]]:
    """All sources, each evidence once, and where those of the second went."""
    found = list(a)
    place = {source.evidence: index for index, source in enumerate(a) if source.evidence}
    moved: dict[int, int] = {}
    for index, source in enumerate(b):
        if source.evidence in place:
            moved[index] = place[source.evidence]
            old = found[moved[index]]
            found[moved[index]] = replace(old, learned=max(old.learned, source.learned))
        else:
            moved[index] = len(found)
            found.append(source)
    return tuple(found), moved


def _renumbered(baseline: Baseline, moved: Mapping[int, int]) -> Baseline:
    def one(alternative: Alternative) -> Alternative:
        return replace(alternative, sources=tuple(moved[s] for s in alternative.sources if s in moved))

    return _mapped(baseline, one, lambda cohort: tuple(moved[s] for s in cohort.sources if s in moved))


def _mapped(
    baseline: Baseline,
    alternative: Callable[[Alternative], Alternative],
    sources: Callable[[Cohort], tuple[int, ...]],
) -> Baseline:
    def register(pinned: RegisterBaseline) -> RegisterBaseline:
        slots = tuple(
            replace(slot, alternatives=tuple(alternative(a) for a in slot.alternatives))
            for slot in pinned.slots
        )
        return replace(pinned, slots=slots, values=tuple(alternative(v) for v in pinned.values))

    return replace(
        baseline,
        registers=tuple(register(r) for r in baseline.registers),
        cohorts=tuple(
            replace(c, registers=tuple(register(r) for r in c.registers), sources=sources(c))
            for c in baseline.cohorts
        ),
        signatures=(),
    )


def _cohorts(a: Sequence[Cohort], b: Sequence[Cohort], sources: Sequence[Source]) -> tuple[Cohort, ...]:
    second = {cohort.name: cohort for cohort in b}
    merged = []
    for cohort in a:
        other = second.pop(cohort.name, None)
        if other is not None:
            both = tuple(dict.fromkeys((*cohort.sources, *other.sources)))
            registers = _registers(cohort.registers, other.registers, sources)
            cohort = Cohort(cohort.name, registers, both)
        merged.append(cohort)
    return (*merged, *second.values())


def _registers(
    a: Sequence[RegisterBaseline], b: Sequence[RegisterBaseline], sources: Sequence[Source]
) -> tuple[RegisterBaseline, ...]:
    found = {(r.set, r.register): r for r in a}
    for register in b:
        place = (register.set, register.register)
        found[place] = _register(found[place], register, sources) if place in found else register
    return tuple(found[place] for place in sorted(found))


def _register(a: RegisterBaseline, b: RegisterBaseline, sources: Sequence[Source]) -> RegisterBaseline:
    """Slots of one side and values of the other stand beside each other: either is allowed."""
    values = tuple(dict.fromkeys((*map(_Value, a.values), *map(_Value, b.values))))
    listed = tuple(value.alternative for value in values)
    if a.by_value or b.by_value:
        return replace(b if a.by_value else a, values=listed)
    banks = common_banks(a.slots, b.slots)
    if not a.slots and b.slots and not a.values:
        # nothing may be extended, or all of these
        return replace(b, slots=tuple(_optional(slot) for slot in b.slots), values=listed)
    if a.slots and b.slots and not banks:
        raise BaselineError(
            f"register {a.register}: one baseline pins {', '.join(sorted(a.banks))}, "
            f"the other {', '.join(sorted(b.banks))}: they have no bank in common"
        )
    if a.locality != b.locality:
        raise BaselineError(
            f"register {a.register} starts from locality {a.locality} in one baseline and from {b.locality} "
            "in the other: keep them apart"
        )
    machines = [source.ak_name for source in sources]

    def both(one: Slot, other: Slot, joined: Slot) -> Slot:
        return _joint(joined, {one.slot_class, other.slot_class}, machines)

    slots = merge_slots(a.slots, b.slots, unpaired=_optional, paired=both)
    return replace(a, slots=tuple(slots), values=listed, complete=a.complete or b.complete)


class _Value:
    """A listed value, equal to another of the same digests."""

    __slots__ = ("alternative",)

    def __init__(self, alternative: Alternative) -> None:
        self.alternative = alternative

    def __hash__(self) -> int:
        return hash(frozenset(self.alternative.digests.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and dict(self.alternative.digests) == dict(other.alternative.digests)


def _joint(slot: Slot, classes: set[SlotClass], machines: Sequence[str]) -> Slot:
    """The class of a slot that both sides have: the looser of the two."""
    for looser in _LOOSEST_FIRST:
        if looser in classes:
            return replace(slot, slot_class=looser)
    if len(slot.alternatives) == 1:
        return slot
    seen = {source for one in slot.alternatives for source in one.sources}
    if slot.kind in PER_MACHINE_KINDS and seen:
        return classify(slot, len(seen), {source: machines[source] for source in seen})
    return replace(slot, slot_class="one-of")


def _optional(slot: Slot) -> Slot:
    return slot if slot.slot_class in ("ignored", "optional") else replace(slot, slot_class="optional")


def _union(
    a: Mapping[str, frozenset[str]] | None, b: Mapping[str, frozenset[str]] | None
) -> dict[str, frozenset[str]] | None:
    if a is None and b is None:
        return None
    first, second = a or {}, b or {}
    return {
        path: first.get(path, frozenset()) | second.get(path, frozenset())
        for path in sorted(first.keys() | second.keys())
    }


def _policy(a: Baseline, b: Baseline) -> Policy:
    """Rules of one side stay; of two the one that asks less counts."""
    one, two = a.policy, b.policy
    banks = [bank for bank in (one.required_bank, two.required_bank) if bank]
    secure = {state for state in (one.secure_boot, two.secure_boot) if state is not None}
    authorities = [set(x) for x in (one.authorities, two.authorities) if x is not None]
    registers = [set(x) for x in (one.required_registers, two.required_registers) if x is not None]
    lists = [x for x in (one.revocation_list, two.revocation_list) if x]
    levels = {
        component: min(p.sbat_level[component] for p in (one, two) if component in p.sbat_level)
        for component in (*one.sbat_level, *(c for c in two.sbat_level if c not in one.sbat_level))
    }
    return Policy(
        secure_boot=secure.pop() if len(secure) == 1 else None,
        debugging=one.debugging and two.debugging,
        required_registers=tuple(sorted(set.union(*registers))) if registers else None,
        required_bank=min(banks, key=_strength) if banks else "",
        authorities=tuple(sorted(set.union(*authorities))) if authorities else None,
        sbat_level=levels,
        revocation_list=_shorter(lists, {**b.data, **a.data}),
        pinned_machines=one.pinned_machines and two.pinned_machines,
        hardware_report=one.hardware_report and two.hardware_report,
        lowest_tcb={
            name: min(one.lowest_tcb[name], two.lowest_tcb[name])
            for name in one.lowest_tcb
            if name in two.lowest_tcb
        },
        launch_measurements=tuple(sorted({*one.launch_measurements, *two.launch_measurements})),
    )


def _strength(bank: str) -> int:
    return {"sha1": 0, "sm3_256": 1, "sha256": 1, "sha384": 2, "sha512": 3}.get(bank, 0)


def _shorter(lists: Sequence[str], data: Mapping[str, bytes]) -> str:
    """Of two revocation lists the one whose entries the other has all of; none where neither is."""
    from cvmlab.baseline.policy import revoked

    names = [name for name in lists if name in data]
    if len(set(names)) < 2:
        return names[0] if names else ""
    entries = {name: revoked(data[name]) for name in names}
    for name in sorted(entries):
        mine = entries[name]
        if mine is not None and all(other is not None and mine <= other for other in entries.values()):
            return name
    return ""
