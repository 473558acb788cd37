"""What ``cvmlab fleet recommend`` shows: tables, one JSON object, one document."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from cvmlab.tables import make_frame
from cvmlab.tables_fleet import CONTRADICTIONS, RECOMMENDATIONS
from cvmlab.view import Cell, Details, Document, Heading, KeyValues, List, Note, Paragraph, Stats, Table

if TYPE_CHECKING:
    import pandas as pd

    from cvmlab.fleet.recommendations import Contradiction, Recommendation, Recommendations
    from cvmlab.view import Block, CellKind

SCHEMA: Final = "cvmlab.recommendations/1"
SHOWN: Final = 60
"""Rows of a table in a document; the frame and the JSON have all."""
_STATE: Final[dict[str, CellKind]] = {"Healthy": "good", "Unhealthy": "bad", "NotApplicable": "muted"}


def _row(one: Recommendation) -> dict[str, object]:
    return {
        "machine": one.machine.machine,
        "name": one.machine.name,
        "key": one.rule.key,
        "recommendation": one.rule.name,
        "severity": one.rule.severity,
        "state": one.state,
        "reason": one.reason,
        "explanation": one.explanation,
        "facts": dict(one.facts),
        "provider_state": one.provider_state,
        "comparison": one.comparison,
        "comparison_explanation": one.comparison_explanation,
        "command": one.command,
    }


def _contradiction(one: Contradiction) -> dict[str, object]:
    return {
        "machine": one.machine.machine,
        "name": one.machine.name,
        "fact": one.fact,
        "configured": one.configured,
        "proven": one.proven,
        "severity": one.severity,
        "explanation": one.explanation,
    }


def recommendations_frame(found: Recommendations) -> pd.DataFrame:
    """Return one row a machine and rule, with the columns of the table ``recommendations``."""
    rows = [_row(one) for one in found.results]
    for row in rows:
        row["facts"] = json.dumps(row["facts"], default=list)
    return make_frame(
        RECOMMENDATIONS, {c.name: [row[c.name] for row in rows] for c in RECOMMENDATIONS.columns}
    )


def contradictions_frame(found: Recommendations) -> pd.DataFrame:
    """Return one row for each disagreement of evidence and configuration."""
    rows = [_contradiction(one) for one in found.contradictions]
    return make_frame(CONTRADICTIONS, {c.name: [row[c.name] for row in rows] for c in CONTRADICTIONS.columns})


def recommendations_object(found: Recommendations) -> dict[str, object]:
    """Return the object of ``cvmlab fleet recommend --json``."""
    counts = found.counts()
    return {
        "schema": SCHEMA,
        "machines": len({one.machine.machine for one in found.results}),
        "evidence": found.evidence,
        "rules": [
            {
                "key": rule.key,
                "name": rule.name,
                "severity": rule.severity,
                "origin": rule.origin,
                "policy": dict(rule.policy) or None,
                "remediation": list(rule.remediation),
                "counts": {word: counts[rule.key][word] for word in (*_STATE, "not-judged")},
            }
            for rule in found.rules.values()
        ],
        "results": [_row(one) for one in found.results],
        "contradictions": [_contradiction(one) for one in found.contradictions],
        "unmatched_assessments": [
            {"machine": one.machine, "key": one.key, "state": one.state} for one in found.unmatched
        ],
        "problems": [
            {"source": p.source, "offset": p.offset, "field": p.field, "message": p.message, "fatal": p.fatal}
            for p in found.problems
        ],
    }


def recommendations_document(found: Recommendations) -> Document:
    """Return what to do first, then how every rule stands, then what was not judged or read."""
    machines = {one.machine.machine for one in found.results}
    unhealthy = found.unhealthy
    concerned = {one.machine.machine for one in unhealthy}
    blocks: list[Block] = [
        Stats(
            (
                (f"{len(machines):,}", "machines", ""),
                (f"{len(concerned):,}", "with something to do", "bad" if concerned else "good"),
                (
                    f"{len(found.contradictions):,}",
                    "evidence against configuration",
                    _bad(found.contradictions),
                ),
            )
        )
    ]
    if not found.evidence:
        blocks.append(Note("info", "No evidence was given: rules about how machines booted are not judged."))
    if found.contradictions:
        blocks += [Heading("Evidence against configuration"), _contradictions(found.contradictions)]
    blocks += [Heading("Rules"), _rules(found)]
    if unhealthy:
        blocks += [Heading("To do"), _unhealthy(unhealthy), *_remedies(unhealthy)]
    blocks += _rest(found)
    return Document("Recommendations", tuple(blocks))


def _bad(found: object) -> CellKind:
    return "bad" if found else "good"


def _rules(found: Recommendations) -> Table:
    counts = found.counts()
    compared: dict[str, Counter[str]] = {key: Counter() for key in found.rules}
    for one in found.results:
        compared[one.rule.key][one.comparison] += 1
    rows = tuple(
        (
            rule.name,
            rule.severity,
            counts[key]["Healthy"],
            Cell(f"{counts[key]['Unhealthy']:,}", kind="bad" if counts[key]["Unhealthy"] else ""),
            counts[key]["NotApplicable"],
            counts[key]["not-judged"],
            compared[key]["agree"],
            Cell(f"{compared[key]['disagree']:,}", kind="warn" if compared[key]["disagree"] else ""),
        )
        for key, rule in found.rules.items()
    )
    columns = (
        "recommendation", "severity", "healthy", "unhealthy", "not applicable", "not judged",
        "provider agrees",
        "provider disagrees",
    )  # fmt: skip
    return Table(columns, rows, caption="Machines by rule and state", numeric=frozenset(columns[2:]))


def _unhealthy(found: tuple[Recommendation, ...]) -> Table:
    rows = tuple(
        (
            Cell(one.machine.name or one.machine.machine, title=one.machine.machine, kind="claimed"),
            one.rule.name,
            one.rule.severity,
            Cell(one.reason, kind="code"),
            one.explanation,
            one.comparison,
        )
        for one in found[:SHOWN]
    )
    columns = ("machine", "recommendation", "severity", "reason", "why", "provider")
    return Table(columns, rows, total=len(found), caption="What is to be done")


def _remedies(found: tuple[Recommendation, ...]) -> list[Block]:
    blocks: list[Block] = []
    for rule in {one.rule.key: one.rule for one in found}.values():
        commands = [one.command for one in found if one.rule.key == rule.key and one.command]
        parts: list[Block] = [List(rule.remediation, ordered=True)]
        if commands:
            shown = tuple((Cell(command, kind="code"),) for command in commands[:SHOWN])
            parts.append(Table(("command",), shown, total=len(commands), caption="Commands"))
        if rule.policy:
            parts.append(KeyValues(tuple((name, value) for name, value in rule.policy.items())))
        blocks.append(Details(f"Remedy: {rule.name}", tuple(parts)))
    return blocks


def _contradictions(found: tuple[Contradiction, ...]) -> Table:
    rows = tuple(
        (
            Cell(one.machine.name or one.machine.machine, title=one.machine.machine, kind="claimed"),
            one.fact,
            Cell(one.configured, kind="claimed"),
            Cell(one.proven, kind="bad" if one.severity == "high" else "warn"),
            one.severity,
            one.explanation,
        )
        for one in found[:SHOWN]
    )
    columns = ("machine", "setting", "configured", "proven", "severity", "what that means")
    return Table(columns, rows, total=len(found), caption="Evidence against configuration")


def _rest(found: Recommendations) -> list[Block]:
    blocks: list[Block] = []
    reasons = Counter(
        (one.rule.name, one.reason, one.judged) for one in found.results if one.state == "NotApplicable"
    )
    if reasons:
        rows = tuple(
            (name, Cell(reason, kind="code"), "not applicable" if judged else "not judged", count)
            for (name, reason, judged), count in reasons.most_common()
        )
        columns = ("recommendation", "reason", "state", "machines")
        table = Table(columns, rows[:SHOWN], total=len(rows), numeric=frozenset({"machines"}))
        blocks.append(Details("Why rules are not applicable or not judged", (table,)))
    if found.unmatched:
        text = f"{len(found.unmatched)} assessments are of machines that the inventory does not have."
        blocks.append(Note("warning", text))
    if found.problems:
        fatal = sum(problem.fatal for problem in found.problems)
        wrong = tuple((p.source, p.offset, p.field, p.message) for p in found.problems[:SHOWN])
        columns = ("source", "offset", "field", "what is wrong")
        table = Table(columns, wrong, total=len(found.problems), numeric=frozenset({"offset"}))
        words = f"{len(found.problems)} problems in what was read; {fatal} of them left something out."
        blocks.append(Note("warning" if fatal else "info", words))
        blocks.append(Details("Problems", (table,)))
    if not found.results:
        blocks.append(Paragraph("No machine was read."))
    return blocks
