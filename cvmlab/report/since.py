"""A boot against its machine's own history: what changed since the last evidence that could be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.comparison import compare
from cvmlab.errors import EvidenceError
from cvmlab.trust.history import latest, record_of
from cvmlab.view import Cell, Heading, List, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.baseline.comparison import Comparison, DiffRow
    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.context import MachineRecord
    from cvmlab.explain.model import Cause
    from cvmlab.findings import Finding
    from cvmlab.report.investigation import Investigation
    from cvmlab.report.two_boots import TwoBoots
    from cvmlab.trust.assess import Assessment
    from cvmlab.view import Block

SHOWN_ROWS: Final = 40

RowKey = tuple[str, int, str, int, frozenset[tuple[str, bytes]], frozenset[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Since:
    """What is new since the machine's last sound evidence, and what was there already.

    Attributes:
        boots: That evidence and this one, compared.
        known: Differences from the baseline that the earlier boot had as well.
    """

    boots: TwoBoots
    known: frozenset[RowKey]

    @property
    def earlier(self) -> str:
        """Where the earlier evidence came from; a path, unescaped."""
        return self.boots.before.evidence.source

    def is_new(self, row: DiffRow) -> bool:
        """True for a difference from the baseline that the earlier boot did not have."""
        return _key(row) not in self.known

    def of_cause(self, cause: Cause, comparison: Comparison | None) -> str:
        """Say of one cause whether it is new; empty where it is not of the comparison's differences."""
        rows = [
            row for row in (comparison.rows if comparison is not None else ()) if _of(row, cause.findings)
        ]
        if not rows:
            return ""
        new = sum(self.is_new(row) for row in rows)
        if new == len(rows):
            return "New since the machine's last sound evidence"
        if not new:
            return "It was there already in the machine's last sound evidence"
        return f"{new} of its {len(rows)} differences are new since the machine's last sound evidence"


def since_last(past: Sequence[Assessment], now: Assessment, baseline: Baseline | None) -> Since | None:
    """Compare a boot with the latest earlier one of which every checked link holds.

    Sound is not the same as matching the baseline: an earlier boot may have had differences already, and
    that is what is told apart here.

    Args:
        past: Earlier evidence of the same machine.
        now: This boot.
        baseline: What both are compared with, to tell old differences from new ones.

    Returns:
        None where no earlier evidence is sound or has a log of the same register set.
    """
    from cvmlab.report.two_boots import compare_boots

    log = now.log
    sound = [boot for boot in past if _sound(boot, log.set if log is not None else "")]
    if not sound:
        return None
    last = sound[latest([record_of(boot) for boot in sound], _record(now))]
    known = compare(last, baseline).rows if baseline is not None else ()
    return Since(compare_boots(last, now), frozenset(_key(row) for row in known))


def _record(boot: Assessment) -> MachineRecord | None:
    try:
        return record_of(boot)
    except EvidenceError:
        return None


def _sound(boot: Assessment, wanted: str) -> bool:
    if boot.log is None or not boot.log.events or (wanted and boot.log.set != wanted):
        return False
    return boot.believed and not any(link.status == "broken" for link in boot.links)


def _key(row: DiffRow) -> RowKey:
    """What makes a difference the same one in two boots; numbers of events move."""
    before, after = frozenset(row.digests_before.items()), frozenset(row.digests_after.items())
    return row.set, row.register, row.change, row.slot, before, after


def _of(row: DiffRow, findings: Sequence[Finding]) -> bool:
    return any(
        row.register in finding.registers
        and (row.event in finding.events if finding.events else row.event < 0)
        and finding.detail.get("slot") == row.slot
        for finding in findings
    )


def since_blocks(result: Investigation) -> list[Block]:
    """Return the section of the report; nothing where there is no history to compare with."""
    since = result.since
    if since is None:
        return []
    blocks: list[Block] = [Heading("Since the machine's last sound evidence")]
    blocks.append(Paragraph((Cell(since.earlier), ": the latest of the history whose every link holds.")))
    if since.boots.same:
        blocks.append(Paragraph("No register and no event differs from it."))
    elif since.boots.causes:
        items = tuple(
            (f"{cause.entry.title}: ", Cell(cause.summary)) for cause in since.boots.causes[:SHOWN_ROWS]
        )
        blocks += [Paragraph("What changed since then:"), List(items)]
    rows = result.comparison.rows if result.comparison is not None else ()
    if rows:
        shown = tuple(
            (
                row.register,
                row.event if row.event >= 0 else None,
                row.change,
                Cell(row.after or row.before),
                "new" if since.is_new(row) else "there already",
            )
            for row in rows[:SHOWN_ROWS]
        )
        table = Table(
            columns=("register", "event", "change", "what", "since then"),
            rows=shown,
            total=len(rows),
            caption="Differences from the baseline: new, or there already",
            numeric=frozenset({"register", "event"}),
        )
        blocks.append(table)
    return blocks
