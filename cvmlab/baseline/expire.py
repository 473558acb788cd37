"""Values that no boot had for long go out of a baseline."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from cvmlab.baseline.document import Baseline, RegisterBaseline


def expire(baseline: Baseline, before: datetime | str) -> tuple[Baseline, tuple[str, ...]]:
    """Drop alternatives that no boot had since a time, where others were seen since.

    A value is old if every source that had it was learned before the time. It goes if its slot has one that
    was seen since, or if boots of its cohort were learned since and none had the slot. What a person added
    without a source stays, and so does a register that no newer boot speaks of. A cohort none of whose boots
    was learned since goes while another remains.

    Args:
        baseline: The baseline.
        before: Time, ISO 8601 where it is text; without an offset it is UTC.

    Returns:
        The baseline without signatures, and one line for each value that went.

    Raises:
        BaselineError: The time cannot be read, or nothing was learned since: everything would go.
    """
    cut = _time(before, "the time")
    fresh = frozenset(
        index for index, source in enumerate(baseline.sources) if _time(source.learned, "a source") >= cut
    )
    if not fresh:
        raise BaselineError(
            f"{baseline.name}: no boot was learned since {cut.isoformat()}: nothing says what replaced the "
            "old values. Learn or accept a current boot first"
        )
    gone: list[str] = []
    kept = tuple(c for c in baseline.cohorts if not c.sources or fresh & set(c.sources))
    if kept:
        gone += [f"cohort {cohort.name}" for cohort in baseline.cohorts if cohort not in kept]
    else:
        kept = baseline.cohorts
    new = replace(
        baseline,
        registers=tuple(_expired(r, fresh, gone, "") for r in baseline.registers),
        cohorts=tuple(
            replace(
                c,
                registers=tuple(
                    _expired(r, fresh & set(c.sources), gone, f"{c.name}, ") for r in c.registers
                ),
            )
            for c in kept
        ),
        signatures=(),
    )
    return replace(new, data=_used(new)), tuple(gone)


def _time(value: datetime | str, what: str) -> datetime:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        raise BaselineError(f"{what} is {value!r}, which is no ISO 8601 time") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _expired(
    pinned: RegisterBaseline, fresh: frozenset[int], gone: list[str], where: str
) -> RegisterBaseline:
    speaks = any(fresh & set(a.sources) for slot in pinned.slots for a in slot.alternatives)
    slots = []
    for index, slot in enumerate(pinned.slots):
        old = [a for a in slot.alternatives if a.sources and not fresh & set(a.sources)]
        new = tuple(a for a in slot.alternatives if a not in old)
        if not old or slot.slot_class == "ignored" or (not new and not speaks):
            slots.append(slot)
            continue
        gone += [f"{where}register {pinned.register}, slot {index} ({slot.kind}): {a.summary}" for a in old]
        if new:
            fixed = slot.slot_class == "one-of" and len(new) == 1
            slots.append(replace(slot, alternatives=new, slot_class="fixed" if fixed else slot.slot_class))
    values = pinned.values
    if any(fresh & set(value.sources) for value in values):
        values = tuple(v for v in values if not v.sources or fresh & set(v.sources))
        gone += [
            f"{where}register {pinned.register}: a value" for _ in range(len(pinned.values) - len(values))
        ]
    return replace(pinned, slots=tuple(slots), values=values)


def _used(baseline: Baseline) -> dict[str, bytes]:
    """Event data that something still names."""
    names = {a.data for r in baseline.every_register() for slot in r.slots for a in slot.alternatives}
    names.add(baseline.policy.revocation_list)
    return {name: data for name, data in baseline.data.items() if name in names}
