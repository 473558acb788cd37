"""The search for edits: every register that does not replay, by increasing cost, bounded in time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST, available
from cvmlab.eventlog.registers import initial_value
from cvmlab.eventlog.replay import register_events
from cvmlab.explain.reconcile.hypotheses import STEPS, by_register
from cvmlab.explain.reconcile.track import Budget, TimeUpError, Track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cvmlab.baseline.document import Baseline, Slot
    from cvmlab.eventlog.model import Event, EventLog
    from cvmlab.explain.reconcile.edits import Edit
    from cvmlab.explain.reconcile.hypotheses import Step
    from cvmlab.trust.replaycheck import RegisterState

SECONDS: Final = 2.0
"""Default bound of one search, over all registers."""

MAX_EVENTS: Final = 4096
"""Registers with more events are not searched."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the search found.

    Attributes:
        edits: The smallest edit of each register that one explains, by register.
        unexplained: Registers for which there is none.
        unfinished: Those of them whose search ended at the time bound.
        too_long: Those of them that were not searched, with more events than `MAX_EVENTS`.
        tried: Hypotheses tried.
        seconds: The bound.
    """

    edits: tuple[Edit, ...]
    unexplained: tuple[int, ...]
    unfinished: tuple[int, ...]
    too_long: tuple[int, ...]
    tried: int
    seconds: float


def reconcile(
    log: EventLog,
    states: Sequence[RegisterState],
    baseline: Baseline | None,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Reconciliation:
    """Search for the smallest edit of a log that gives the quoted values.

    Args:
        log: The log as it was handed in.
        states: Registers with their quoted and replayed values; those that replay are looked at only to tell
            which banks an edit concerns.
        baseline: The baseline, whose events may be the ones that the log lacks; or None.
        seconds: Bound in time over all registers. What was found before is kept.
        clock: What the bound is measured with, in seconds.

    Returns:
        One edit for each register that could be explained. Registers that one cheap hypothesis explains
        are done first, so that a costly one does not use up the time of the others.
    """
    budget = Budget(seconds, clock)
    others = by_register(log.events)
    open_: dict[int, list[Track]] = {}
    matching: dict[int, list[str]] = {}
    for state in states:
        if state.status == "matches":
            matching.setdefault(state.register, []).append(state.bank)
        elif state.status == "not-replayed" and available(state.bank) and state.quoted is not None:
            open_.setdefault(state.register, []).append(_track(log, state, baseline, budget))
    for tracks in open_.values():
        tracks.sort(key=lambda track: _strength(track.bank))
    too_long = {register for register, tracks in open_.items() if len(tracks[0].digests) > MAX_EVENTS}
    edits: dict[int, Edit] = {}
    unfinished: tuple[int, ...] = ()
    try:
        for step in STEPS:
            for register, tracks in open_.items():
                if register not in edits and register not in too_long:
                    edit = step(tracks[0], others)
                    if edit is not None:
                        edits[register] = _confirmed(edit, tracks, step, others, matching.get(register, ()))
    except TimeUpError:
        unfinished = tuple(sorted(open_.keys() - edits.keys() - too_long))
    return Reconciliation(
        edits=tuple(edits[register] for register in sorted(edits)),
        unexplained=tuple(sorted(open_.keys() - edits.keys())),
        unfinished=unfinished,
        too_long=tuple(sorted(too_long)),
        tried=budget.tried,
        seconds=seconds,
    )


def _strength(bank: str) -> int:
    return STRONGEST_FIRST.index(bank) if bank in STRONGEST_FIRST else len(STRONGEST_FIRST)


def _track(log: EventLog, state: RegisterState, baseline: Baseline | None, budget: Budget) -> Track:
    bank, register = state.bank, state.register
    events = [event for event in register_events(log, register) if bank in event.digests]
    pinned = baseline.register(log.set, register) if baseline is not None else None
    slots: Sequence[Slot] = pinned.slots if pinned is not None else ()
    assert state.quoted is not None
    return Track(
        register=register,
        bank=bank,
        start=initial_value(log.set, register, bank, log),
        events=events,
        digests=[event.digests[bank] for event in events],
        wanted=state.quoted,
        slots=slots if len(slots) <= MAX_EVENTS else (),
        budget=budget,
    )


def _confirmed(
    edit: Edit,
    tracks: Sequence[Track],
    step: Step,
    others: Mapping[int, Sequence[Event]],
    matching: Sequence[str],
) -> Edit:
    """Say in which other banks the same edit gives the quoted value: two banks are no chance."""
    banks = [tracks[0].bank]
    for track in tracks[1:]:
        try:
            again = step(track, others)
        except TimeUpError:
            break
        if again is not None and (again.change, again.events) == (edit.change, edit.events):
            banks.append(track.bank)
    return replace(edit, banks=tuple(banks), other_banks=tuple(matching))
