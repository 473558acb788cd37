"""Accepting a cause: the differences behind it become allowed, with who, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.baseline.edit import accept_rows, record
from cvmlab.errors import BaselineError
from cvmlab.report.verdict import all_causes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.baseline.document import Baseline
    from cvmlab.explain.model import Cause
    from cvmlab.findings import Finding
    from cvmlab.report.investigation import Investigation


def accept(
    baseline: Baseline,
    investigation: Investigation,
    code: str,
    *,
    reason: str,
    who: str | None = None,
    when: str | None = None,
) -> Baseline:
    """Accept one cause of an investigation, and what follows from it.

    Every difference that the cause and its consequences stand for becomes allowed, as
    `cvmlab.baseline.edit.accept_rows` says. Rules of the policy are never relaxed by this: a cause that a
    rule forbids stays until the rule is changed.

    Args:
        baseline: The baseline that the evidence was investigated with, whole.
        investigation: What `cvmlab.investigate` returned.
        code: Code of the cause.
        reason: Why it is accepted.
        who: Who accepts it; the user of this process by default.
        when: ISO 8601 time; now by default.

    Returns:
        The baseline with one more entry in its history.

    Raises:
        BaselineError: There is no such cause, it is no difference from the baseline, it is only claimed, or
            the evidence has a broken link.
    """
    comparison = investigation.comparison
    if comparison is None:
        raise BaselineError("the evidence was investigated without a baseline: there is nothing to accept")
    if not reason.strip():
        raise BaselineError("accepting a cause needs a reason")
    cohort = next((one for one in baseline.cohorts if one.name == comparison.cohort), None)
    if baseline.of_cohort(cohort).registers != comparison.baseline.registers:
        raise BaselineError(f"the evidence was investigated with another baseline than {baseline.name}")
    found = {cause.code: cause for cause in all_causes(investigation.causes)}
    if code not in found:
        listed = ", ".join(found) or "none"
        raise BaselineError(f"{investigation.evidence.machine} has no cause {code!r}; it has: {listed}")
    findings = [finding for finding in _findings(found[code]) if finding.link == "baseline"]
    wanted = {_place(finding) for finding in findings}
    rows = [
        row
        for row in comparison.rows
        if (row.set, row.register, row.change, row.slot, row.event if row.event >= 0 else None) in wanted
    ]
    files = [str(f.detail["path"]) for f in findings if "path" in f.detail]
    values = [f.registers[0] for f in findings if f.detail.get("by_value") and f.registers]
    if not rows and not files and not values:
        if any(f.detail.get("rule") for f in _findings(found[code])):
            raise BaselineError(
                f"{code} breaks a rule of the policy, which accepting never relaxes. Next step: learn a "
                "baseline from evidence like this and merge the two (cvmlab baseline merge)"
            )
        raise BaselineError(
            f"{code} is no difference from the baseline: accepting it would not make it go away. "
            f"Next step: {found[code].entry.next_step}"
        )
    accepted = accept_rows(baseline, investigation.assessment, comparison, rows, files=files, values=values)
    codes = [cause.code for cause in all_causes((found[code],))]
    evidence = investigation.evidence.evidence_hash
    return record(accepted, reason, who=who, when=when, evidence=evidence, codes=codes)


def _findings(cause: Cause) -> Iterator[Finding]:
    yield from cause.findings
    for consequence in cause.consequences:
        yield from _findings(consequence)


def _place(finding: Finding) -> tuple[object, ...]:
    """What tells the row of a finding apart."""
    return (
        finding.set,
        finding.registers[0] if finding.registers else -1,
        finding.detail.get("change"),
        finding.detail.get("slot"),
        finding.events[0] if finding.events else None,
    )
