"""One investigation as a story: the verdict, the cause, its two sides, what follows, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.baseline.difference import facing
from cvmlab.view import Block, Cell, Details, List, Note, Paragraph, Table, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.explain.model import Cause
    from cvmlab.report.investigation import Investigation

SHOWN_ROWS: Final = 40
SHOWN_EDITS: Final = 12


def verdict(result: Investigation) -> list[Block]:
    """Return the verdict, in one sentence."""
    return [Verdict(result.verdict, result.summary)]


def cause(result: Investigation) -> list[Block]:
    """Return the card of the primary cause."""
    from cvmlab.report.document import cause_card

    primary = result.primary
    if primary is None:
        return [Note("good", "Nothing has to be explained: every link holds.")]
    return [cause_card(result, primary)]


def sides(result: Investigation) -> list[Block]:
    """Return before and after of the primary cause, side by side."""
    primary = result.primary
    if primary is None or result.comparison is None:
        return [Note("info", "There is no difference to show.")]
    rows = [row for row in result.comparison.rows if _belongs(row, primary)]
    if not rows:
        return [Note("info", "The cause is no difference from the baseline: see the trust chain.")]
    blocks: list[Block] = [side_table(rows)]
    from cvmlab.baseline.show import diff_block

    told: dict[object, Block] = {}
    for row in rows[:SHOWN_EDITS]:
        block = diff_block(row) if row.difference.lines else None
        if block is not None:
            told.setdefault(block.lines, block)
    return [*blocks, *list(told.values())[:3]]


def side_table(
    rows: Sequence[DiffRow], names: tuple[str, str] = ("baseline", "this boot"), caption: str = ""
) -> Table:
    """Return differences with their two sides next to each other."""
    cells = tuple((row.register, row.kind, *_two(row)) for row in rows[:SHOWN_ROWS])
    return Table(
        columns=("register", "what", *names),
        rows=cells,
        total=len(rows),
        caption=caption or "Before and after",
        numeric=frozenset({"register"}),
    )


def _two(row: DiffRow) -> tuple[Cell, Cell]:
    before, after = (
        Cell(text, kind="claimed" if row.trust != "proven" else "") if text else Cell("–", kind="muted")
        for text in facing(row.before, row.after, row.payload_before, row.payload_after)
    )
    return before, after


def _belongs(row: DiffRow, cause: Cause) -> bool:
    return any(
        row.register in finding.registers
        and (row.event in finding.events if finding.events else row.event < 0)
        and finding.detail.get("slot") == row.slot
        for finding in cause.findings
    )


def edit(result: Investigation) -> list[Block]:
    """Return the edit of the log that gives the quoted values, where log and quote disagree."""
    link = next(link for link in result.chain if link.name == "log-replay")
    found = [finding for finding in result.explanation.findings if finding.link == "log-replay"]
    serious = [finding for finding in found if finding.detail.get("severity") != "info"]
    if link.status == "holds" or not serious:
        if link.status == "holds":
            return [Note("good", "Log and quote agree: no edit is needed.")]
        return [Note("warning", f"{link.why}.")]
    items = tuple((f"{finding.code}: ", Cell(finding.summary)) for finding in serious[:SHOWN_EDITS])
    return [Paragraph("The log does not give the quoted values. What would reconcile them:"), List(items)]


def consequences(result: Investigation) -> list[Block]:
    """Return what follows from each cause, folded, and the causes beside the primary one."""
    blocks: list[Block] = []
    for each in result.causes:
        if each.severity == "info":
            continue
        items = tuple(_below(each))
        text = f"{each.entry.title}: {len(items)} {'follows' if len(items) == 1 else 'follow'} from it"
        if items:
            blocks.append(Details(text, (List(items),)))
        elif not each.primary:
            blocks.append(Paragraph((f"{each.entry.title}: ", Cell(each.summary))))
    return blocks or [Paragraph("Nothing else differs.")]


def _below(cause: Cause) -> list[tuple[str | Cell, ...]]:
    found: list[tuple[str | Cell, ...]] = []
    for child in cause.consequences:
        found.append((f"{child.entry.title}: ", Cell(child.summary)))
        found += _below(child)
    return found


def what_to_do(result: Investigation) -> list[Block]:
    """Return the next steps in order, when each cause would be benign, and what was not checked."""
    from cvmlab.report.document import not_checked

    serious = [each for each in result.causes if each.severity != "info"]
    blocks: list[Block] = []
    if serious:
        blocks.append(List(tuple((each.entry.next_step,) for each in serious), ordered=True))
        benign = tuple(
            (f"{each.entry.title}: ", each.entry.benign_if, " ", Cell(each.likeness))
            if each.likeness
            else (f"{each.entry.title}: ", each.entry.benign_if)
            for each in serious
        )
        blocks += [Paragraph("It is benign if:"), List(benign)]
    else:
        blocks.append(Paragraph("There is nothing to do."))
    open_ = not_checked(result)
    return [*blocks, *open_] if open_ else [*blocks, Note("good", "Every link of the chain was checked.")]
