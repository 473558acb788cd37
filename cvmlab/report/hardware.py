"""The part of a report about hardware reports: what they say, and whether a genuine processor said it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.trust.fields import hardware_rows
from cvmlab.view import Cell, Details, Heading, KeyValues, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.report.investigation import Investigation
    from cvmlab.trust.fields import FieldRow
    from cvmlab.view import Block, Value

_TITLES: Final = {
    "hcl-report": "HCL report",
    "runtime-claims": "runtime claims",
    "snp-report": "SNP report",
    "td-report": "TDREPORT",
    "td-quote": "TD quote",
    "certificate": "certificate of the signing key",
}
# what a person on duty looks at first, where it is there
_FIRST: Final = (
    ("snp-report", "CPUID"), ("snp-report", "POLICY"), ("snp-report", "VMPL"), ("snp-report", "REPORTED_TCB"),
    ("snp-report", "MEASUREMENT"), ("td-quote", "TDATTRIBUTES"), ("td-quote", "MRTD"), ("certificate", "TCB"),
    ("runtime-claims", "vmUniqueId"), ("runtime-claims", "secure-boot"),
)  # fmt: skip


def hardware_blocks(result: Investigation, *, folded: bool = True) -> list[Block]:
    """Return the section; empty where the evidence has no hardware report."""
    rows = hardware_rows(result.assessment.hardware)
    if not rows:
        return []
    groups: dict[tuple[str, str], list[FieldRow]] = {}
    for row in rows:
        groups.setdefault((row.report, row.kind), []).append(row)
    tables = [_table(report, kind, group) for (report, kind), group in groups.items()]
    if not folded:
        return [Heading("Hardware"), *tables]
    count = f"{len(rows)} fields of {len(groups)} parts"
    return [Heading("Hardware"), KeyValues(_summary(result, rows)), Details(count, tuple(tables))]


def _summary(result: Investigation, rows: Sequence[FieldRow]) -> tuple[tuple[str, Value], ...]:
    facts: list[tuple[str, Value]] = []
    for check in result.assessment.hardware.checks:
        said = (
            "signed by a genuine processor" if check.authentic else "not shown to be of a genuine processor"
        )
        facts.append(("Report", Cell(f"{check.claim.source}: {said}")))
        if check.path is not None:
            facts.append(("Certificates", Cell(check.path.describe())))
    for kind, name in _FIRST:
        row = next((row for row in rows if (row.kind, row.field) == (kind, name)), None)
        if row is not None:
            text = f"{row.value} ({row.meaning})"
            facts.append((row.field, Cell(text) if row.worth == "proven" else Cell(text, kind="claimed")))
    return tuple(facts)


def _table(report: str, kind: str, rows: Sequence[FieldRow]) -> Table:
    return Table(
        columns=("field", "value", "meaning", "worth"),
        rows=tuple(
            (
                Cell(row.field),
                Cell(row.value) if row.worth == "proven" else Cell(row.value, kind="claimed"),
                Cell(row.meaning),
                Cell(row.worth, kind="status"),
            )
            for row in rows
        ),
        total=len(rows),
        caption=f"{report}: {_TITLES[kind]}",
    )
