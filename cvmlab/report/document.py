"""The report of one investigation, as a document: the order in which a person on duty needs it."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.show import diff_block, diff_table
from cvmlab.report import story
from cvmlab.report.hardware import hardware_blocks
from cvmlab.report.identified import identified
from cvmlab.report.since import since_blocks
from cvmlab.report.token_views import token_section
from cvmlab.view import (
    Card,
    Cell,
    Chain,
    ChainLink,
    Details,
    Diff,
    Document,
    Heading,
    KeyValues,
    List,
    Note,
    Paragraph,
    Table,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cvmlab.explain.model import Cause, RegisterRow
    from cvmlab.findings import Finding
    from cvmlab.report.investigation import Investigation
    from cvmlab.view import Block, Value

SHOWN_EVENTS: Final = 60
SHOWN_FINDINGS: Final = 6
SHOWN_FILES: Final = 20
SHOWN_PROBLEMS: Final = 12


def investigation_document(result: Investigation) -> Document:
    """Return the report: verdict, cause, evidence, what was not checked, next step, then everything else."""
    causes = [cause for cause in result.causes if cause.severity != "info"]
    remarks = [cause for cause in result.causes if cause.severity == "info"]
    blocks: list[Block] = [Verdict(result.verdict, result.summary)]
    if causes:
        blocks.append(cause_card(result, causes[0]))
    blocks += not_checked(result)
    for cause in causes[1:]:
        blocks.append(cause_card(result, cause))
    blocks += [Heading("Trust chain"), _chain(result)]
    blocks += hardware_blocks(result)
    blocks += register_table(result)
    blocks += _known(result)
    blocks += token_section(result.assessment.tokens.reports)
    if result.comparison is not None and result.comparison.rows:
        blocks += [Heading("Differences from the baseline"), diff_table(result.comparison)]
    blocks += since_blocks(result)
    blocks += _events(result)
    if remarks:
        blocks.append(Heading("Remarks"))
        blocks += [
            Note("info", finding.summary) for cause in remarks for finding in cause.findings[:SHOWN_FINDINGS]
        ]
    blocks += _inputs(result)
    return Document(
        title=f"Attestation of {result.evidence.machine}", blocks=tuple(blocks), subtitle=_subtitle(result)
    )


def section_document(result: Investigation, section: str) -> Document:
    """Return one part of the report; see `Investigation.view`."""
    sections: dict[str, tuple[str, Callable[[], list[Block]]]] = {
        "verdict": ("Verdict", lambda: story.verdict(result)),
        "cause": ("The cause", lambda: story.cause(result)),
        "sides": ("Before and after", lambda: story.sides(result)),
        "edit": ("Log and quote", lambda: story.edit(result)),
        "consequences": ("What follows from it", lambda: story.consequences(result)),
        "what-to-do": ("What to do", lambda: story.what_to_do(result)),
        "chain": ("Trust chain", lambda: [_chain(result)]),
        "hardware": ("Hardware", lambda: hardware_blocks(result, folded=False)),
        "registers": ("Registers", lambda: register_table(result)),
        "differences": ("Differences from the baseline", lambda: _differences(result)),
        "since": ("Since the machine's last sound evidence", lambda: since_blocks(result)),
        "events": ("Boot events", lambda: _events(result, folded=False)),
        "inputs": ("Inputs", lambda: _inputs(result)),
    }
    if section not in sections:
        raise KeyError(f"there is no section {section!r}; there are {', '.join(sections)}")
    title, blocks = sections[section]
    shown = tuple(block for block in blocks() if not isinstance(block, Heading))
    return Document(title=title, blocks=shown or (Paragraph("Nothing to show."),))


def _differences(result: Investigation) -> list[Block]:
    if result.comparison is None:
        return [Note("warning", "No baseline was given, so nothing was compared.")]
    if not result.comparison.rows:
        return [Note("info", "No event of the registers that could be compared differs.")]
    decoded = [block for row in result.comparison.rows if (block := diff_block(row)) is not None]
    return [diff_table(result.comparison), *decoded[:SHOWN_FINDINGS]]


def _subtitle(result: Investigation) -> str:
    from cvmlab import __version__

    at = result.assessment.at.astimezone(UTC)
    baseline = result.comparison.baseline.name if result.comparison is not None else "none"
    return f"Judged for {at:%Y-%m-%d %H:%M} UTC against the baseline {baseline}, cvmlab {__version__}"


def cause_card(result: Investigation, cause: Cause) -> Card:
    """Return one cause as a card: what it means, what was seen, before and after, what to do."""
    entry = cause.entry
    kicker = f"{'Primary cause' if cause.primary else 'Also'} · {cause.code} · {cause.link}"
    blocks: list[Block] = [Paragraph(entry.explanation), KeyValues(_facts(result, cause))]
    blocks += _decoded(result, cause)
    blocks += _meaning(cause)
    blocks.append(KeyValues((("Benign if", entry.benign_if), ("Next step", entry.next_step))))
    if cause.consequences:
        items = tuple(_consequence(each) for each in cause.consequences)
        blocks.append(Details(f"Follows from it: {len(items)} more", (List(items),)))
    return Card(entry.title, kicker, cause.severity, tuple(blocks), cause.primary)


def _meaning(cause: Cause) -> list[Block]:
    """What the difference means: in words, and whether it looks like an update."""
    meaning = cause.meaning
    blocks: list[Block] = [List(tuple((Cell(text),) for text in meaning.says))] if meaning.says else []
    if cause.likeness:
        blocks.append(Note("warning" if meaning.attack else "info", cause.likeness))
    return blocks


def _facts(result: Investigation, cause: Cause) -> tuple[tuple[str, Value], ...]:
    facts: list[tuple[str, Value]] = []
    for number, finding in enumerate(cause.findings[:SHOWN_FINDINGS]):
        facts.append(("Seen" if number == 0 else "and", Cell(finding.summary)))
    if len(cause.findings) > SHOWN_FINDINGS:
        facts.append(("and", f"{len(cause.findings) - SHOWN_FINDINGS} more of this kind"))
    facts += [(f"File, {side}", Cell(text)) for side, text in identified(result, cause)]
    if cause.registers:
        facts.append(("Registers", ", ".join(map(str, cause.registers))))
    if cause.events:
        facts.append(("Events", _event_places(result, cause.events)))
    worth = cause.findings[0].trust
    if cause.claimed:
        facts.append(("Worth", Cell("claimed", kind="status")))
    elif cause.link in ("baseline", "event-data"):
        facts.append(("Worth", Cell(worth, kind="status")))
    if result.since is not None and (age := result.since.of_cause(cause, result.comparison)):
        facts.append(("History", age))
    facts.append(("Confidence", f"{cause.confidence:.0%}"))
    return tuple(facts)


def _event_places(result: Investigation, events: Sequence[int]) -> str:
    log = result.assessment.log
    parts = []
    for index in events[:8]:
        if log is not None and index < len(log.events):
            parts.append(f"{index} (offset {log.events[index].offset})")
        else:
            parts.append(str(index))
    return ", ".join(parts) + (f" and {len(events) - 8} more" if len(events) > 8 else "")


def _decoded(result: Investigation, cause: Cause) -> list[Block]:
    """The decoded difference of the finding that says most."""
    if result.comparison is None:
        return []
    best = max(
        cause.findings,
        key=lambda f: (
            _lines(f) > 0,
            f.trust == "proven",
            f.detail.get("kind") != "grub-command",
            -_lines(f),
        ),
    )
    row = next(
        (
            row
            for row in result.comparison.rows
            if (row.event,) == (best.events or (-1,)) and row.register in best.registers
        ),
        None,
    )
    block = diff_block(row) if row is not None and _lines(best) else None
    if block is not None:
        return [block]
    if cause.code == "runtime-file-unknown":
        lines = [
            line
            for finding in cause.findings[:SHOWN_FILES]
            for line in ((("-", finding.before),) if finding.before else ())
            + (("+", f"{finding.detail.get('path')} {finding.after}"),)
        ]
        return [Diff("Files outside the baseline", tuple(lines))]  # type: ignore[arg-type]
    return []


def _lines(finding: Finding) -> int:
    lines = finding.detail.get("difference")
    return len(lines) if isinstance(lines, list) else 0


def _consequence(cause: Cause) -> tuple[str | Cell, ...]:
    return (f"{cause.entry.title}: ", cause.summary)


def not_checked(result: Investigation) -> list[Block]:
    """Return the links that were not checked, with the reason; nothing where all were."""
    open_ = [link for link in result.chain if link.status == "not-checked"]
    if not open_:
        return []
    items = tuple((Cell(link.name), f" — {link.why}") for link in open_)
    return [Note("warning", "Not checked, and therefore not vouched for:"), List(items)]


def _chain(result: Investigation) -> Chain:
    return Chain(tuple(ChainLink(link.name, link.status, link.why) for link in result.chain))


def shown_bank(rows: Sequence[RegisterRow]) -> str:
    """Return the one bank to show: the strongest that verified quotes cover, else the strongest."""
    quoted = {row.bank for row in rows if row.quoted}
    banks = quoted or {row.bank for row in rows}
    return next((bank for bank in STRONGEST_FIRST if bank in banks), "")


def register_table(result: Investigation, *, baseline: str = "baseline") -> list[Block]:
    """Return the registers of one bank as a table; `baseline`: what its values to compare with are called."""
    rows = result.explanation.registers
    bank = shown_bank(rows)
    shown = [row for row in rows if row.bank == bank]
    if not shown:
        return []
    table = Table(
        columns=("register", "status", "quoted", "replayed", baseline, "why"),
        rows=tuple(
            (
                row.register,
                Cell(row.status, kind="status"),
                _digest(row.quoted),
                _digest(row.replayed),
                _digest(row.baseline),
                row.why,
            )
            for row in shown
        ),
        total=len(rows),
        caption=f"Registers of the {bank} bank",
        numeric=frozenset({"register"}),
    )
    return [Heading("Registers"), table]


def _known(result: Investigation) -> list[Block]:
    """Quoted values that no log explains and public measurements do."""
    known = result.explanation.known
    if not known:
        return []
    rows = tuple(
        (
            each.register if not number else Cell("", kind="muted"),
            _digest(each.value.hex()) if not number else Cell("", kind="muted"),
            step,
        )
        for each in known
        for number, step in enumerate(each.steps)
    )
    table = Table(
        columns=("register", "quoted", "measured, in this order"),
        rows=rows,
        caption="Quoted values without a log",
        numeric=frozenset({"register"}),
    )
    note = (
        "No log explains these values. What is said of each is proven: measured in this order, it gives them."
    )
    return [Heading("What the quoted values say"), Paragraph(note), table]


def _digest(value: str) -> Value:
    return Cell(value, kind="digest") if value else None


def _events(result: Investigation, *, folded: bool = True) -> list[Block]:
    log = result.assessment.log
    if log is None or not log.events:
        return []
    trust = result.assessment.event_trust
    marked = {event for cause in result.causes for event in cause.events}
    events = sorted(log.events, key=lambda event: (event.index not in marked, event.index))[:SHOWN_EVENTS]
    rows = []
    for event in sorted(events, key=lambda event: event.index):
        worth = trust.get(event.index, "unproven")
        summary = event.payload.summary
        rows.append(
            (
                event.index,
                event.register if event.register < 64 else Cell("–", kind="muted"),
                event.type_name,
                Cell(summary) if worth == "proven" else Cell(summary, kind="claimed"),
                Cell(event.digest_check, kind="status"),
                Cell(worth, kind="status"),
            )
        )
    table = Table(
        columns=("event", "register", "type", "says", "digest check", "trust"),
        rows=tuple(rows),
        total=len(log.events),
        caption=f"Events of {log.source}",
        numeric=frozenset({"event", "register"}),
    )
    if not folded:
        return [table]
    return [Heading("Boot events"), Details(f"{len(log.events)} events of {log.source}", (table,))]


def _inputs(result: Investigation) -> list[Block]:
    evidence = result.evidence
    rows = tuple(
        (
            Cell(file.name),
            file.role,
            file.size,
            file.status if file.status == "read" else Cell(f"{file.status}: {file.note}", kind="muted"),
            Cell(file.sha256, kind="digest") if file.sha256 else None,
        )
        for file in evidence.files
    )
    table = Table(
        columns=("file", "taken for", "bytes", "status", "SHA-256"),
        rows=rows,
        caption="Files",
        numeric=frozenset({"bytes"}),
    )
    facts: list[tuple[str, Value]] = [
        ("Source", Cell(evidence.source)),
        ("Evidence hash", Cell(evidence.evidence_hash, kind="digest")),
        ("Nonce from", result.context.nonce_source or "nowhere"),
        ("Key bound by", result.assessment.binding.way or "nothing"),
    ]
    if result.comparison is not None:
        baseline = result.comparison.baseline
        machines = ", ".join(source.machine for source in baseline.sources[:6])
        facts.append(("Baseline", f"{baseline.name}, learned {baseline.created} from {machines}"))
    left_out = _left_out(result)
    return [Heading("Inputs"), KeyValues(tuple(facts)), *left_out, Details(f"{len(rows)} files", (table,))]


def _left_out(result: Investigation) -> list[Block]:
    """Parts of files that were not used; whole files that could not be read are causes already."""
    problems = [p for p in (*result.evidence.problems, *result.context.problems) if not p.fatal]
    if not problems:
        return []
    shown: list[Cell | str] = [Cell(str(problem)) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        shown.append(f"and {len(problems) - SHOWN_PROBLEMS:,} more")
    return [Note("warning", "Left out while reading:"), List(tuple(shown))]
