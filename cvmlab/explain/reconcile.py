"""Log and quote disagree: what was done to the log? Hypotheses are tried against the quoted values.

A hypothesis counts only if it gives the quoted value: the hash decides, not plausibility. What no hypothesis
gives is said with low confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import available, digest
from cvmlab.baseline.align import align, pair_leftovers
from cvmlab.eventlog.registers import initial_value
from cvmlab.eventlog.replay import extend_all, register_events
from cvmlab.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cvmlab.baseline.document import Baseline, Slot
    from cvmlab.eventlog.model import Event, EventLog
    from cvmlab.trust.assess import Assessment
    from cvmlab.trust.replaycheck import RegisterState

MAX_EVENTS: Final = 400
"""Registers with more events are not searched for edits: the cost grows with the square."""

_EXIT: Final = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
_USERSPACE: Final = frozenset({11, 12, 13, 15, 16, 23})


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the log that gives the quoted value.

    Attributes:
        register: Register index.
        change: ``truncated``, ``removed``, ``inserted``, ``modified`` or ``reordered``.
        events: Indices of the log's events concerned.
        order: Where in boot order.
        what: The events concerned, in words.
        slots: Boot order of the baseline's slots that the log lacks.
    """

    register: int
    change: str
    events: tuple[int, ...]
    order: int
    what: str
    slots: tuple[int, ...] = field(default=())


_CODES: Final = {
    "truncated": "log-truncated",
    "removed": "log-event-removed",
    "inserted": "log-event-inserted",
    "modified": "log-event-modified",
    "reordered": "log-events-reordered",
}


def replay_findings(boot: Assessment, baseline: Baseline | None) -> list[Finding]:
    """Explain why the replay of the log does not give the quoted values.

    Args:
        boot: The trust chain, with its registers.
        baseline: The baseline, whose events may be the ones that the log lacks; or None.

    Returns:
        Findings on the link ``log-replay``: an edit for each register that could be explained, and one for
        the rest. Empty where log and quotes agree.
    """
    log = boot.log
    states = [state for state in boot.replay.states if state.status == "not-replayed"]
    if log is None or not log.events or not states:
        return []
    by_register: dict[int, RegisterState] = {}
    for state in states:
        if available(state.bank):
            by_register.setdefault(state.register, state)
    runtime = by_register.pop(10, None)
    told = any(f.code == "event-data-forged" and 10 in f.registers for f in boot.findings)
    findings = [_ima(runtime)] if runtime is not None and not told else []
    edits: list[Edit] = []
    open_: list[int] = []
    for register, state in sorted(by_register.items()):
        edit = _edit(log, state, _slots(baseline, log.set, register))
        if edit is None:
            open_.append(register)
        else:
            edits.append(edit)
    edits = _as_truncation(log, edits, baseline)
    return [*findings, *_findings(log, boot, edits, open_)]


def _slots(baseline: Baseline | None, set_: str, register: int) -> tuple[Slot, ...]:
    pinned = baseline.register(set_, register) if baseline is not None else None
    return pinned.slots if pinned is not None else ()


def _ima(state: RegisterState) -> Finding:
    return Finding(
        "log-event-modified",
        "log-replay",
        "no prefix of the IMA list gives the quoted register 10: entries were edited, removed or added",
        state.set,
        (10,),
        trust="proven",
        detail={"order": 1 << 24, "confidence": 0.7},
    )


def _edit(log: EventLog, state: RegisterState, slots: Sequence[Slot]) -> Edit | None:
    """Return the first hypothesis that gives the quoted value."""
    bank, register, wanted = state.bank, state.register, state.quoted
    events = [event for event in register_events(log, register) if bank in event.digests]
    if wanted is None or len(events) > MAX_EVENTS:
        return None
    start = initial_value(log.set, register, bank, log)
    digests = [event.digests[bank] for event in events]
    for edit, sequence in _hypotheses(bank, register, events, digests, slots):
        if extend_all(bank, start, sequence) == wanted:
            return edit
    return None


def _hypotheses(
    bank: str, register: int, events: Sequence[Event], digests: list[bytes], slots: Sequence[Slot]
) -> Iterator[tuple[Edit, list[bytes]]]:
    yield from _tails(bank, register, events, digests, slots)
    yield from _baseline_edits(bank, register, events, digests, slots)
    for i, event in enumerate(events):
        edit = Edit(register, "inserted", (event.index,), event.index, event.payload.summary)
        yield edit, digests[:i] + digests[i + 1 :]
    for i in range(len(events) - 1):
        pair = (events[i].index, events[i + 1].index)
        edit = Edit(register, "reordered", pair, pair[0], events[i].payload.summary)
        yield edit, [*digests[:i], digests[i + 1], digests[i], *digests[i + 2 :]]
    for i, event in enumerate(events):
        for _, data in event.payload.candidates:
            edit = Edit(register, "modified", (event.index,), event.index, event.payload.summary)
            yield edit, [*digests[:i], digest(bank, data), *digests[i + 1 :]]


def _tails(
    bank: str, register: int, events: Sequence[Event], digests: list[bytes], slots: Sequence[Slot]
) -> Iterator[tuple[Edit, list[bytes]]]:
    """The log ends too early, or something extended the register after the log ended."""
    last = events[-1].index + 1 if events else 0
    for k in range(len(slots)):
        rest = slots[k:]
        tail = _digests(rest, bank)
        if tail is not None:
            what = "; ".join(slot.alternatives[0].summary for slot in rest[:4])
            orders = tuple(slot.order for slot in rest)
            yield Edit(register, "truncated", (), last, what, orders), digests + tail
    if register == 5:
        for k in range(len(_EXIT)):
            tail = [digest(bank, text) for text in _EXIT[k:]]
            what = "; ".join(text.decode() for text in _EXIT[k:])
            yield Edit(register, "truncated", (), last, what, (1 << 20,)), digests + tail


def _digests(slots: Iterable[Slot], bank: str) -> list[bytes] | None:
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


def _baseline_edits(
    bank: str, register: int, events: Sequence[Event], digests: list[bytes], slots: Sequence[Slot]
) -> Iterator[tuple[Edit, list[bytes]]]:
    """Undo, one by one and then all together, the differences between the log and the baseline."""
    if not slots or len(slots) > MAX_EVENTS:
        return
    allowed = [frozenset(a.digests.get(bank) for a in slot.alternatives) for slot in slots]
    pairs = align(allowed, digests)
    done_slots, done_events = {i for i, _ in pairs}, {j for _, j in pairs}
    free_slots = {i: slot.label for i, slot in enumerate(slots) if i not in done_slots}
    free_events = {
        j: (e.payload.kind, e.payload.name, e.phase) for j, e in enumerate(events) if j not in done_events
    }
    changed = pair_leftovers(free_slots, free_events, pairs)
    for i, j in changed:
        for alternative in slots[i].alternatives:
            if bank in alternative.digests:
                edit = Edit(
                    register, "modified", (events[j].index,), events[j].index, events[j].payload.summary
                )
                yield edit, [*digests[:j], alternative.digests[bank], *digests[j + 1 :]]
    known = dict(sorted([*pairs, *changed]))
    for i in free_slots:
        if i in known:
            continue
        at = next((known[k] for k in range(i + 1, len(slots)) if k in known), len(events))
        order = events[at].index if at < len(events) else (events[-1].index + 1 if events else 0)
        for alternative in slots[i].alternatives:
            if bank in alternative.digests:
                edit = Edit(register, "removed", (), order, alternative.summary, (slots[i].order,))
                yield edit, [*digests[:at], alternative.digests[bank], *digests[at:]]
    whole = _digests(slots, bank)
    if whole is not None:
        missing = [i for i in free_slots if i not in known]
        extra = [j for j in free_events if j not in known.values()]
        kinds = {"modified": bool(changed), "removed": bool(missing), "inserted": bool(extra)}
        kind = next((k for k, present in kinds.items() if present and sum(kinds.values()) == 1), "modified")
        concerned = sorted([events[j].index for _, j in changed] + [events[j].index for j in extra])
        order = min(concerned, default=events[-1].index + 1 if events else 0)
        what = "; ".join(
            [slots[i].alternatives[0].summary for i, _ in changed]
            + [slots[i].alternatives[0].summary for i in missing]
        )
        if sorted(whole) == sorted(digests):
            kind = "reordered"
        orders = tuple(slots[i].order for i in missing)
        yield Edit(register, kind, tuple(concerned), order, what[:500], orders), whole


def _as_truncation(log: EventLog, edits: list[Edit], baseline: Baseline | None) -> list[Edit]:
    """Missing tails are a truncation only if nothing in the log stood behind them; else they were cut out."""
    missing = [order for edit in edits if edit.change == "truncated" for order in edit.slots]
    if not missing:
        return edits
    if not log.complete:
        return edits
    first = min(missing)
    held = _last_held(log, baseline)
    if held is not None and held > first:
        return [replace(edit, change="removed") if edit.change == "truncated" else edit for edit in edits]
    return edits


def _last_held(log: EventLog, baseline: Baseline | None) -> int | None:
    """The latest place in the baseline's boot order of an event that the log does have."""
    if baseline is None:
        ended = any(event.data == _EXIT[-1] for event in log.events)
        return 1 << 21 if ended else None
    held = None
    for pinned in baseline.registers:
        present = {
            value for event in register_events(log, pinned.register) for value in event.digests.values()
        }
        for slot in pinned.slots:
            # values that many registers share, such as separators, hold no place
            if slot.kind != "separator" and any(
                value in present for a in slot.alternatives for value in a.digests.values()
            ):
                held = slot.order if held is None else max(held, slot.order)
    return held


def _findings(log: EventLog, boot: Assessment, edits: Sequence[Edit], open_: Sequence[int]) -> list[Finding]:
    set_ = log.set
    truncated = [edit for edit in edits if edit.change == "truncated"]
    found: list[Finding] = []
    end = log.events[-1].index + 1
    if truncated or (open_ and not log.complete):
        registers = tuple(sorted({edit.register for edit in truncated} | set(open_)))
        what = "; ".join(dict.fromkeys(edit.what for edit in truncated if edit.what))
        proof = (
            f"with what belongs there ({_short(what)}) replay gives the quoted values"
            if truncated
            else "the file ends inside an event"
        )
        why = f"the log ends after event {end - 1}, before the boot did: {proof}"
        confidence = 0.95 if truncated and not open_ else 0.8
        found.append(
            Finding(
                "log-truncated",
                "log-replay",
                why,
                set_,
                registers,
                (end - 1,),
                detail={"order": end, "confidence": confidence, "missing": what[:2000]},
            )
        )
        open_ = ()
    others = [edit for edit in edits if edit.change != "truncated"]
    kinds = {edit.change for edit in others}
    another = len(others) > 1 and (len(kinds) > 1 or kinds == {"modified"})
    # the kernel took boot_aggregate when it started: if it fits the log, what differs now came later
    measured = boot.replay.aggregate == "replayed" and not others and not truncated
    late = bool(open_) and (measured or set(open_) <= _USERSPACE)
    if (another and not truncated) or (len(open_) > 1 and not late):
        found.append(_another_boot(log, boot, others, open_))
        return found
    found.extend(_edit_finding(set_, edit) for edit in others)
    if open_:
        found.append(_unexplained(log, open_, late=late, measured=measured))
    return found


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "…"


def _edit_finding(set_: str, edit: Edit) -> Finding:
    what = repr(_short(edit.what))
    sentence = {
        "removed": f"the log lacks {what}; with it, replay gives the quoted value",
        "inserted": f"without {what} replay gives the quoted value",
        "modified": f"{what} is not what was measured there",
        "reordered": "in another order the events give the quoted value",
    }[edit.change]
    detail: Mapping[str, object] = {"order": edit.order, "confidence": 0.95}
    return Finding(
        _CODES[edit.change],
        "log-replay",
        f"register {edit.register}: {sentence}",
        set_,
        (edit.register,),
        edit.events,
        detail=detail,
    )


def _another_boot(log: EventLog, boot: Assessment, edits: Sequence[Edit], open_: Sequence[int]) -> Finding:
    registers = tuple(sorted({edit.register for edit in edits} | set(open_)))
    listed = ", ".join(map(str, registers))
    why = f"the log {log.source} is not of the boot that was quoted: registers {listed} disagree"
    confidence = 0.7
    if boot.replay.aggregate == "quoted":
        why += "; the IMA list's boot_aggregate fits the quote and not the log"
        confidence = 0.9
    elif edits and not open_:
        why += "; the quoted values are those of the baseline, the log tells of another boot"
        confidence = 0.9
    order = min((edit.order for edit in edits), default=0)
    return Finding(
        "log-of-another-boot",
        "log-replay",
        why,
        log.set,
        registers,
        detail={"order": order, "confidence": confidence},
    )


def _unexplained(log: EventLog, registers: Sequence[int], *, late: bool, measured: bool) -> Finding:
    listed = ", ".join(map(str, registers))
    if late:
        why = f"register {listed}: something extended it that no log tells of"
        if measured:
            why += "; the kernel's boot_aggregate still fits the log, so it was after the kernel started"
        return Finding(
            "registers-extended-after-log",
            "log-replay",
            why,
            log.set,
            tuple(registers),
            detail={"order": log.events[-1].index + 1, "confidence": 0.9 if measured else 0.6},
        )
    why = f"register {listed}: the log's events do not give the quoted value, and no single edit of it does"
    return Finding(
        "log-event-modified",
        "log-replay",
        why,
        log.set,
        tuple(registers),
        detail={"order": 0, "confidence": 0.4},
    )
