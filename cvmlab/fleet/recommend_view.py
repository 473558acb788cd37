"""What ``cvmlab fleet recommend`` shows: tables, one JSON object, one document."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.tables import make_frame
from cvmlab.tables_fleet import CONTRADICTIONS, RECOMMENDATIONS
from cvmlab.view import Cell, Details, Document, Heading, KeyValues, List, Note, Paragraph, Stats, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from cvmlab.findings import Problem
    from cvmlab.fleet.recommend_lake import FleetRecommendations
    from cvmlab.fleet.recommendations import Contradiction, Recommendation, Recommendations
    from cvmlab.fleet.rules import Rule
    from cvmlab.view import Block, CellKind

SCHEMA: Final = "cvmlab.recommendations/1"
SHOWN: Final = 60
"""Rows of a table in a document; the frame and the JSON have all."""
MAX_RESULTS: Final = 10_000
"""Results in the JSON of a lake."""
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


def contradiction_object(one: Contradiction) -> dict[str, object]:
    """Return evidence against configuration as an object of the reports' JSON."""
    return {
        "machine": one.machine.machine,
        "name": one.machine.name,
        "fact": one.fact,
        "configured": one.configured,
        "proven": one.proven,
        "severity": one.severity,
        "explanation": one.explanation,
    }


def recommendations_frame(found: Iterable[Recommendation]) -> pd.DataFrame:
    """Return one row a machine and rule, with the columns of the table ``recommendations``."""
    rows = [_row(one) for one in found]
    for row in rows:
        row["facts"] = json.dumps(row["facts"], default=list)
    return make_frame(
        RECOMMENDATIONS, {c.name: [row[c.name] for row in rows] for c in RECOMMENDATIONS.columns}
    )


def contradictions_frame(found: Recommendations) -> pd.DataFrame:
    """Return one row for each disagreement of evidence and configuration."""
    rows = [contradiction_object(one) for one in found.contradictions]
    return make_frame(CONTRADICTIONS, {c.name: [row[c.name] for row in rows] for c in CONTRADICTIONS.columns})


def recommendations_object(found: Recommendations) -> dict[str, object]:
    """Return the object of ``cvmlab fleet recommend --json``."""
    counts = found.counts()
    return {
        "schema": SCHEMA,
        "machines": len({one.machine.machine for one in found.results}),
        "evidence": found.evidence,
        "rules": _rule_objects(found.rules, counts),
        "results": [_row(one) for one in found.results],
        "contradictions": [contradiction_object(one) for one in found.contradictions],
        "unmatched_assessments": [
            {"machine": one.machine, "key": one.key, "state": one.state} for one in found.unmatched
        ],
        "problems": [
            {"source": p.source, "offset": p.offset, "field": p.field, "message": p.message, "fatal": p.fatal}
            for p in found.problems
        ],
    }


def _rule_objects(rules: Mapping[str, Rule], counts: Mapping[str, Counter[str]]) -> list[dict[str, object]]:
    return [
        {
            "key": rule.key,
            "name": rule.name,
            "severity": rule.severity,
            "origin": rule.origin,
            "policy": dict(rule.policy) or None,
            "remediation": list(rule.remediation),
            "counts": {word: counts[rule.key][word] for word in (*_STATE, "not-judged")},
        }
        for rule in rules.values()
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the document shows of recommendations, wherever they were computed.

    Attributes:
        machines: Machines judged.
        concerned: Machines with something to do.
        evidence: Whether evidence was given at all.
        rules: The rules, by key.
        counts: States by key of the rule, ``not-judged`` among them.
        compared: Comparisons with the provider by key of the rule.
        unhealthy: What is to be done, gravest first: those shown.
        to_do: How many there are.
        commands: How many commands there are, by key of the rule.
        contradictions: Evidence against configuration: those shown.
        against: How many there are.
        reasons: Machines by name of the rule, reason and whether it was judged, of what is NotApplicable.
        unmatched: Assessments of machines that the inventory does not have.
        problems: What could not be read.
    """

    machines: int
    concerned: int
    evidence: bool
    rules: Mapping[str, Rule]
    counts: Mapping[str, Counter[str]]
    compared: Mapping[str, Counter[str]]
    unhealthy: tuple[Recommendation, ...]
    to_do: int
    commands: Mapping[str, int]
    contradictions: tuple[Contradiction, ...]
    against: int
    reasons: Counter[tuple[str, str, bool]]
    unmatched: int = 0
    problems: tuple[Problem, ...] = ()


def summary_of(found: Recommendations) -> Summary:
    """Return what the document shows of recommendations that were computed from records at hand."""
    unhealthy = found.unhealthy
    compared: dict[str, Counter[str]] = {key: Counter() for key in found.rules}
    for one in found.results:
        compared[one.rule.key][one.comparison] += 1
    return Summary(
        machines=len({one.machine.machine for one in found.results}),
        concerned=len({one.machine.machine for one in unhealthy}),
        evidence=found.evidence,
        rules=found.rules,
        counts=found.counts(),
        compared=compared,
        unhealthy=unhealthy[:SHOWN],
        to_do=len(unhealthy),
        commands=Counter(one.rule.key for one in unhealthy if one.command),
        contradictions=found.contradictions[:SHOWN],
        against=len(found.contradictions),
        reasons=Counter(
            (one.rule.name, one.reason, one.judged) for one in found.results if one.state == "NotApplicable"
        ),
        unmatched=len(found.unmatched),
        problems=found.problems,
    )


def lake_summary(found: FleetRecommendations) -> Summary:
    """Return the same of recommendations for a lake; what is not shown is counted where it lies."""
    unhealthy = tuple(found.results("d.state = 'Unhealthy'", SHOWN))
    compared: dict[str, Counter[str]] = {key: Counter() for key in found.rules}
    reasons: Counter[tuple[str, str, bool]] = Counter()
    for row in found.words():
        compared[row["key"]][row["comparison"]] += row["machines"]
    for row in found.ask(_REASONS).to_pylist():
        reasons[row["recommendation"], row["reason"], row["judged"]] += row["machines"]
    counts = found.counts()
    shown, against = found.contradictions(SHOWN)
    with_command = {one.rule.key for one in unhealthy if one.command}
    return Summary(
        machines=len(found.machines),
        concerned=found.concerned(),
        evidence=found.evidence,
        rules=found.rules,
        counts=counts,
        compared=compared,
        unhealthy=unhealthy,
        to_do=sum(held["Unhealthy"] for held in counts.values()),
        commands={key: counts[key]["Unhealthy"] for key in with_command},
        contradictions=tuple(shown),
        against=against,
        reasons=reasons,
    )


_REASONS: Final = """SELECT recommendation, reason, judged, count(*) AS machines
    FROM machines JOIN decided USING (decision) WHERE state = 'NotApplicable' GROUP BY ALL"""


def lake_recommendations_object(found: FleetRecommendations) -> dict[str, object]:
    """Return the object of ``cvmlab fleet recommend --lake --json``: every count, and results that matter.

    ``results`` has what is Unhealthy, gravest first, at most `MAX_RESULTS`; ``results_total`` says how many
    there are. ``provider`` says how own and provider's states meet, with up to five machines of each.
    """
    counts, (against, total) = found.counts(), found.contradictions(MAX_RESULTS)
    return {
        "schema": SCHEMA,
        "machines": len(found.machines),
        "evidence": found.evidence,
        "rules": _rule_objects(found.rules, counts),
        "results": [_row(one) for one in found.results("d.state = 'Unhealthy'", MAX_RESULTS)],
        "results_total": sum(held["Unhealthy"] for held in counts.values()),
        "contradictions": [contradiction_object(one) for one in against],
        "contradictions_total": total,
        "provider": found.words(),
        "unmatched_assessments": [],
        "problems": [],
    }


def recommendations_document(found: Recommendations | FleetRecommendations) -> Document:
    """Return what to do first, then how every rule stands, then what was not judged or read."""
    from cvmlab.fleet.recommendations import Recommendations

    shown = summary_of(found) if isinstance(found, Recommendations) else lake_summary(found)
    blocks: list[Block] = [
        Stats(
            (
                (f"{shown.machines:,}", "machines", ""),
                (f"{shown.concerned:,}", "with something to do", "bad" if shown.concerned else "good"),
                (f"{shown.against:,}", "evidence against configuration", _bad(shown.against)),
            )
        )
    ]
    if not shown.evidence:
        blocks.append(Note("info", "No evidence was given: rules about how machines booted are not judged."))
    if shown.contradictions:
        blocks += [Heading("Evidence against configuration"), contradictions_table(shown)]
    blocks += [Heading("Rules"), rules_table(shown)]
    if shown.unhealthy:
        blocks += [Heading("To do"), unhealthy_table(shown), *remedies(shown)]
    blocks += _rest(shown)
    return Document("Recommendations", tuple(blocks))


def _bad(found: object) -> CellKind:
    return "bad" if found else "good"


def rules_table(found: Summary) -> Table:
    """Return how every rule stands, and how often the provider says the same."""
    counts, compared = found.counts, found.compared
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


def unhealthy_table(found: Summary) -> Table:
    """Return what is to be done, gravest first."""
    rows = tuple(
        (
            Cell(one.machine.name or one.machine.machine, title=one.machine.machine, kind="claimed"),
            one.rule.name,
            one.rule.severity,
            Cell(one.reason, kind="code"),
            one.explanation,
            one.comparison,
        )
        for one in found.unhealthy
    )
    columns = ("machine", "recommendation", "severity", "reason", "why", "provider")
    return Table(columns, rows, total=found.to_do, caption="What is to be done")


def remedies(found: Summary) -> list[Block]:
    """Return what remedies each rule that is not met: steps, commands, and the policy it rests on."""
    blocks: list[Block] = []
    for rule in {one.rule.key: one.rule for one in found.unhealthy}.values():
        commands = [one.command for one in found.unhealthy if one.rule.key == rule.key and one.command]
        parts: list[Block] = [List(rule.remediation, ordered=True)]
        if commands:
            shown = tuple((Cell(command, kind="code"),) for command in commands[:SHOWN])
            parts.append(
                Table(
                    ("command",),
                    shown,
                    total=max(len(commands), found.commands.get(rule.key, 0)),
                    caption="Commands",
                )
            )
        if rule.policy:
            parts.append(KeyValues(tuple((name, value) for name, value in rule.policy.items())))
        blocks.append(Details(f"Remedy: {rule.name}", tuple(parts)))
    return blocks


def contradictions_table(found: Summary) -> Table:
    """Return evidence against configuration."""
    rows = tuple(
        (
            Cell(one.machine.name or one.machine.machine, title=one.machine.machine, kind="claimed"),
            one.fact,
            Cell(one.configured, kind="claimed"),
            Cell(one.proven, kind="bad" if one.severity == "high" else "warn"),
            one.severity,
            one.explanation,
        )
        for one in found.contradictions
    )
    columns = ("machine", "setting", "configured", "proven", "severity", "what that means")
    return Table(columns, rows, total=found.against, caption="Evidence against configuration")


def _rest(found: Summary) -> list[Block]:
    blocks: list[Block] = []
    reasons = found.reasons
    if reasons:
        rows = tuple(
            (name, Cell(reason, kind="code"), "not applicable" if judged else "not judged", count)
            for (name, reason, judged), count in reasons.most_common()
        )
        columns = ("recommendation", "reason", "state", "machines")
        table = Table(columns, rows[:SHOWN], total=len(rows), numeric=frozenset({"machines"}))
        blocks.append(Details("Why rules are not applicable or not judged", (table,)))
    if found.unmatched:
        text = f"{found.unmatched} assessments are of machines that the inventory does not have."
        blocks.append(Note("warning", text))
    if found.problems:
        fatal = sum(problem.fatal for problem in found.problems)
        wrong = tuple((p.source, p.offset, p.field, p.message) for p in found.problems[:SHOWN])
        columns = ("source", "offset", "field", "what is wrong")
        table = Table(columns, wrong, total=len(found.problems), numeric=frozenset({"offset"}))
        words = f"{len(found.problems)} problems in what was read; {fatal} of them left something out."
        blocks.append(Note("warning" if fatal else "info", words))
        blocks.append(Details("Problems", (table,)))
    if not found.machines:
        blocks.append(Paragraph("No machine was read."))
    return blocks
