"""From edits of single registers to what was done to the log as a whole, as findings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog.replay import register_events
from cvmlab.explain.reconcile.edits import CODES, short
from cvmlab.explain.reconcile.known import EXIT, quirks
from cvmlab.explain.reconcile.search import MAX_EVENTS, SECONDS, reconcile
from cvmlab.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.baseline.document import Baseline
    from cvmlab.eventlog.model import EventLog
    from cvmlab.explain.reconcile.edits import Edit
    from cvmlab.explain.reconcile.search import Reconciliation
    from cvmlab.trust.assess import Assessment

_RUNTIME: Final = 10
_USERSPACE: Final = frozenset({11, 12, 13, 15, 16, 23})
_LAST_FIRMWARE_REGISTER: Final = 7
_AFTER_BASELINE: Final = 1 << 21


def replay_findings(
    boot: Assessment, baseline: Baseline | None, *, seconds: float = SECONDS
) -> list[Finding]:
    """Explain why the replay of the log does not give the quoted values.

    Args:
        boot: The trust chain, with its registers.
        baseline: The baseline, whose events may be the ones that the log lacks; or None.
        seconds: Bound of the search in time.

    Returns:
        Findings on the link ``log-replay``: an edit for each register that could be explained, and one for
        the rest. Empty where log and quotes agree.
    """
    log = boot.log
    wrong = {state.register for state in boot.replay.states if state.status == "not-replayed"}
    if log is None or not log.events or not wrong:
        return []
    findings: list[Finding] = []
    told = any(f.code == "event-data-forged" and _RUNTIME in f.registers for f in boot.findings)
    if _RUNTIME in wrong and not told:
        findings.append(_ima(log))
    states = [s for s in boot.replay.states if s.register in wrong and s.register != _RUNTIME]
    found = reconcile(log, states, baseline, seconds=seconds)
    found = replace(found, edits=tuple(_as_truncation(log, found.edits, baseline)))
    return [*findings, *_findings(log, boot, found)]


def _ima(log: EventLog) -> Finding:
    return Finding(
        "log-event-modified",
        "log-replay",
        "no prefix of the IMA list gives the quoted register 10: entries were edited, removed or added",
        log.set,
        (_RUNTIME,),
        trust="proven",
        detail={"order": 1 << 24, "confidence": 0.7},
    )


def _as_truncation(log: EventLog, edits: Sequence[Edit], baseline: Baseline | None) -> list[Edit]:
    """Missing tails are a truncation only if nothing in the log stood behind them; else they were cut out."""
    missing = [order for edit in edits if edit.change == "truncated" for order in edit.slots]
    if not missing or log.cut:
        return list(edits)
    held = _last_held(log, baseline)
    if held is not None and held > min(missing):
        return [replace(edit, change="removed") if edit.change == "truncated" else edit for edit in edits]
    return list(edits)


def _last_held(log: EventLog, baseline: Baseline | None) -> int | None:
    """The latest place in the baseline's boot order of an event that the log does have."""
    if baseline is None:
        return _AFTER_BASELINE if any(event.data == EXIT[-1] for event in log.events) else None
    held = None
    for pinned in baseline.registers:
        events = register_events(log, pinned.register)
        left = Counter(value for event in events for value in event.digests.values())
        for slot in pinned.slots:
            known = (a for a in slot.alternatives if any(left[value] > 0 for value in a.digests.values()))
            # values that many registers share, such as separators, hold no place
            here = next(known, None) if slot.kind != "separator" else None
            if here is not None:
                # a boot loader's command that comes again holds a place only as often as the log has it
                left.subtract(here.digests.values())
                held = slot.order if held is None else max(held, slot.order)
    return held


def _findings(log: EventLog, boot: Assessment, result: Reconciliation) -> list[Finding]:
    truncated = [edit for edit in result.edits if edit.change == "truncated"]
    open_: tuple[int, ...] = result.unexplained
    found: list[Finding] = []
    others = _relocations([edit for edit in result.edits if edit.change != "truncated"])
    lacking = [edit for edit in others if edit.change == "removed" and not edit.events]
    cut = bool(truncated) or log.cut
    if not cut and _never_closed(log, [*open_, *(edit.register for edit in lacking)]):
        # what these registers lack is lost with the end of the log
        cut, truncated = True, lacking
        others = [edit for edit in others if edit not in lacking]
    if cut and (truncated or open_):
        found.append(_truncation(log, truncated, open_))
        open_ = ()
    # the kernel took boot_aggregate when it started: if it fits the log, what differs now came later
    measured = boot.replay.aggregate == "replayed" and not others and not truncated
    late = bool(open_) and (measured or set(open_) <= _USERSPACE)
    # beside a register that nothing explains, more than one small edit speaks for another boot
    changed = any(edit.change == "modified" or len(edit.events) > 1 for edit in others)
    if not cut and (_of_another_boot(others) or (open_ and not late and (changed or len(open_) > 1))):
        return [*found, _another_boot(log, boot, others, open_)]
    found.extend(_edit_finding(log, edit) for edit in others)
    if open_:
        found.append(_unexplained(log, open_, result, late=late, measured=measured))
    return found


def _relocations(edits: Sequence[Edit]) -> list[Edit]:
    """An event that one register lacks and another has too much is one edit: its register index."""
    taken = {(edit.source, edit.events) for edit in edits if edit.change == "relocated"}
    return [
        edit for edit in edits if not (edit.change == "inserted" and (edit.register, edit.events) in taken)
    ]


def _never_closed(log: EventLog, registers: Sequence[int]) -> bool:
    """The log ends before the firmware closed its registers: most that disagree have no separator."""
    firmware = [register for register in registers if register <= _LAST_FIRMWARE_REGISTER]
    closed = {event.register for event in log.events if event.payload.kind == "separator"}
    return log.set == "tpm" and len(firmware) > 1 and 2 * len(closed.intersection(firmware)) < len(firmware)


def _of_another_boot(edits: Sequence[Edit]) -> bool:
    """Several registers that differ in several ways, or in what was measured: not one edit."""
    changes = {edit.change for edit in edits if edit.change not in ("late", "quirk", "locality")}
    registers = {edit.register for edit in edits if edit.change not in ("late", "quirk", "locality")}
    return len(registers) > 1 and (len(changes) > 1 or changes == {"modified"})


def _truncation(log: EventLog, truncated: Sequence[Edit], open_: Sequence[int]) -> Finding:
    end = log.events[-1].index + 1
    registers = tuple(sorted({edit.register for edit in truncated} | set(open_)))
    what = "; ".join(dict.fromkeys(edit.what for edit in truncated if edit.what))
    if truncated and not open_:
        proof = f"with what belongs there ({short(what)}) replay gives the quoted values"
    elif log.cut:
        proof = "the file ends inside an event"
    else:
        proof = "it ends before the firmware closed its registers"
    why = f"the log ends after event {end - 1}, before the boot did: {proof}"
    confidence = 0.95 if truncated and not open_ else 0.8
    detail = {"order": end, "confidence": confidence, "missing": what[:2000]}
    return Finding("log-truncated", "log-replay", why, log.set, registers, (end - 1,), detail=detail)


def _edit_finding(log: EventLog, edit: Edit) -> Finding:
    what = repr(short(edit.what))
    quirk = quirks().get(edit.quirk)
    sentence = {
        "truncated": f"the log ends before {what}; with it, replay gives the quoted value",
        "removed": f"the log lacks {what}; with it, replay gives the quoted value",
        "inserted": f"without {what} replay gives the quoted value",
        "modified": f"{what} is not what was measured there",
        "reordered": f"{what} was measured at another place; in that order the events give the quoted value",
        "relocated": f"{what} was measured into this register and is listed for register {edit.source}",
        "late": f"{short(edit.what)} came after the log's end; with them, replay gives the quoted value",
        "locality": f"the TPM {edit.what}, and the log does not say so",
        "quirk": f"{edit.what}: {quirk.title if quirk else 'a known fault'}",
    }[edit.change]
    if edit.change == "removed" and edit.source < 0 and edit.events:
        sentence = f"{what} was measured, and the log lists it as an event that is not"
    if edit.other_banks:
        sentence += (
            f" (only its {', '.join(edit.banks)} digest was edited: {', '.join(edit.other_banks)} replays)"
        )
    detail: dict[str, object] = {
        "order": edit.order,
        "confidence": 0.95 if edit.banks != ("sha1",) else 0.85,
        "edit": edit.change,
        "banks": list(edit.banks),
    }
    if quirk is not None:
        detail |= {"quirk": quirk.name, "link": quirk.link}
    if edit.change in ("late", "locality", "quirk"):
        detail["severity"] = "low"
    registers = (edit.register,) if edit.source < 0 else tuple(sorted({edit.register, edit.source}))
    where = f"register {edit.register}: {sentence}"
    return Finding(CODES[edit.change], "log-replay", where, log.set, registers, edit.events, detail=detail)


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
    detail = {"order": order, "confidence": confidence}
    return Finding("log-of-another-boot", "log-replay", why, log.set, registers, detail=detail)


def _unexplained(
    log: EventLog, registers: Sequence[int], result: Reconciliation, *, late: bool, measured: bool
) -> Finding:
    listed = ", ".join(map(str, registers))
    if late:
        why = f"register {listed}: something extended it that no log tells of"
        if measured:
            why += "; the kernel's boot_aggregate still fits the log, so it was after the kernel started"
        detail: dict[str, object] = {
            "order": log.events[-1].index + 1,
            "confidence": 0.9 if measured else 0.6,
            "tried": result.tried,
        }
        return Finding(
            "registers-extended-after-log", "log-replay", why, log.set, tuple(registers), detail=detail
        )
    why = f"register {listed}: the log's events do not give the quoted value, and none of {result.tried:,} "
    why += "edits that were tried does"
    if result.unfinished:
        why += f"; the search was stopped after {result.seconds:g} s"
    if result.too_long:
        listed = ", ".join(map(str, result.too_long))
        why += f"; register {listed} was not searched, with more than {MAX_EVENTS:,} events"
    stopped = bool(result.unfinished or result.too_long)
    detail = {"order": 0, "confidence": 0.4, "tried": result.tried, "stopped": stopped}
    return Finding("log-event-modified", "log-replay", why, log.set, tuple(registers), detail=detail)
