"""Recommendations for every machine of a lake, from what it holds of inventory and evidence.

Rules are asked once for all machines with the same facts, and machines stay rows of Arrow tables: what this
costs in Python grows with the distinct configurations of a fleet, not with its machines.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cvmlab.fleet.inventory.model import Origin, ProviderAssessment
from cvmlab.fleet.lake.records import machine_of_row
from cvmlab.fleet.lake.schema import arrow_table, day_of, versions
from cvmlab.fleet.proven import Proven
from cvmlab.fleet.recommendations import Decider, compared, contradictions_of, facts_of, recommendation_of
from cvmlab.fleet.rules import MACHINE_FIELDS, load_rules
from cvmlab.fleet.status import connect, moment, result, status_table
from cvmlab.fleet.watch import known_machines, reports_of
from cvmlab.tables_lake import DECISIONS, RECOMMENDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa

    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.recommendations import Contradiction, Decision, Recommendation
    from cvmlab.fleet.rules import Rule
    from cvmlab.fleet.status import Thresholds

SHOWN: Final = 60
_ROWS: Final = 10_000
_IDENTITY: Final = ("machine", "resource_id", "name", "kind", "provider", "subscription", "resource_group")
_DIMENSIONS: Final = ("region", "os", "size", "scale_set")
_PROVEN: Final = (
    "state", "believed", "verdict", "primary", "codes", "proven_secure_boot", "boot_components",
    "boot_components_why", "module_signatures", "module_signatures_why",
)  # fmt: skip
_NAMELESS: Final = {"machine": "", "resource_id": "", "name": None, "kind": "virtual-machine"}
_ALWAYS: Final = frozenset({"secure_boot", "vtpm"})
"""Facts that contradictions rest on, whichever rules there are; those of evidence are asked always."""

_FACTS: Final = """
CREATE TEMP TABLE facts AS
WITH last AS (SELECT machine, max_by(struct_pack({packed}), received) AS r FROM inventory GROUP BY machine),
said AS (SELECT machine, arg_max(struct_pack(b := believed, s := proven_secure_boot, c := boot_components,
        cw := boot_components_why, m := module_signatures, mw := module_signatures_why),
        struct_pack(r := received, h := evidence_hash)) AS p
    FROM reports WHERE received <= $now GROUP BY machine)
SELECT row_number() OVER () - 1 AS id, l.machine, {names},
    CASE WHEN s.status IS NULL THEN 'none' WHEN s.status = 'stale' AND s.reports = 0 THEN 'awaited'
        WHEN s.status = 'failed' AND s.verdict = 'inconclusive' THEN 'inconclusive'
        ELSE s.status END AS state,
    CASE WHEN s.status IN ('attested', 'failed') THEN struct_pack(believed := coalesce(p.b, false),
        verdict := s.verdict, "primary" := s."primary", codes := s.codes, proven_secure_boot := p.s,
        boot_components := p.c, boot_components_why := p.cw, module_signatures := p.m,
        module_signatures_why := p.mw) END AS proven
FROM last l LEFT JOIN status s USING (machine) LEFT JOIN said USING (machine)
"""


@dataclass(frozen=True, slots=True)
class FleetRecommendations:
    """What rules say of every machine of a lake.

    Attributes:
        machines: One row a machine: its ids and dimensions, ``decision`` (index of `decisions`).
        decisions: What rules say of machines with the same facts, in the order of the rules.
        conflicts: For each of `decisions`, evidence against configuration.
        provider: The provider's last word by ``machine`` and ``key``: ``provider_state``, ``cause``,
            ``description``.
        rules: The rules, by key.
        evidence: Whether the lake has evidence at all.
    """

    machines: pa.Table
    decisions: tuple[tuple[Decision, ...], ...]
    conflicts: tuple[tuple[Contradiction, ...], ...]
    provider: pa.Table
    rules: Mapping[str, Rule]
    evidence: bool

    def rows(self) -> pa.Table:
        """Return `decisions` as a table, one row a decision and rule.

        Returns:
            ``decision``, ``place`` (of the rule), ``key``, ``recommendation``, ``severity``, ``origin``,
            ``state``, ``reason``, ``judged``.
        """
        import pyarrow as pa

        schema = pa.schema(
            [
                ("decision", pa.int32()), ("place", pa.int32()), ("key", pa.string()),
                ("recommendation", pa.string()), ("severity", pa.string()), ("origin", pa.string()),
                ("state", pa.string()), ("reason", pa.string()), ("judged", pa.bool_()),
            ]
        )  # fmt: skip
        made = [
            {
                "decision": index, "place": place, "key": rule.key, "recommendation": rule.name,
                "severity": rule.severity, "origin": rule.origin, "state": one.state, "reason": one.reason,
                "judged": one.judged,
            }
            for index, decided in enumerate(self.decisions)
            for place, (rule, one) in enumerate(zip(self.rules.values(), decided, strict=True))
        ]  # fmt: skip
        return pa.Table.from_pylist(made, schema=schema)

    def ask(self, query: str, values: dict[str, object] | None = None) -> pa.Table:
        """Answer a question to ``machines``, ``decided`` (`rows`) and ``provider``."""
        link = connect(machines=self.machines, decided=self.rows(), provider=self.provider)
        return result(link, query, values)

    def counts(self) -> dict[str, Counter[str]]:
        """Return how many machines have which state, by key of the rule; what is not judged apart."""
        query = """SELECT key, CASE WHEN judged THEN state ELSE 'not-judged' END AS word, count(*) AS n
            FROM machines JOIN decided USING (decision) GROUP BY ALL"""
        found: dict[str, Counter[str]] = {key: Counter() for key in self.rules}
        for row in self.ask(query).to_pylist():
            found[row["key"]][row["word"]] += row["n"]
        return found

    def concerned(self) -> int:
        """Return how many machines have something to do."""
        query = """SELECT count(*) AS n FROM machines WHERE decision IN
            (SELECT decision FROM decided WHERE state = 'Unhealthy')"""
        return int(self.ask(query).column("n")[0].as_py())

    def words(self) -> list[dict[str, Any]]:
        """Return own and provider's states that meet, with how many machines and up to five of them.

        Returns:
            ``key``, ``recommendation``, ``comparison``, ``state``, ``reason``, ``provider_state`` (None where
            the provider says nothing), ``cause``, ``machines``, ``examples``; the most machines first.
        """
        query = """SELECT d.decision, d.place, d.key, d.recommendation, d.state, d.reason, p.provider_state,
                p.cause, p.machine IS NOT NULL AS said, count(*) AS machines,
                min(coalesce(m.name, m.machine), 5) AS examples
            FROM machines m JOIN decided d USING (decision)
                LEFT JOIN provider p ON p.machine = m.machine AND p.key = d.key GROUP BY ALL"""
        met: dict[tuple[object, ...], dict[str, Any]] = {}
        rules = tuple(self.rules.values())
        for row in self.ask(query).to_pylist():
            rule, one = rules[row["place"]], self.decisions[row["decision"]][row["place"]]
            word = _word(row["provider_state"], row["cause"]) if row["said"] else None
            row["comparison"] = compared(rule, one.state, word, judged=one.judged)[0]
            names = ("key", "comparison", "state", "reason", "provider_state", "cause")
            held = met.setdefault(
                tuple(row[name] for name in names),
                {**{n: row[n] for n in (*names, "recommendation")}, "machines": 0, "examples": []},
            )
            held["machines"] += row["machines"]
            held["examples"] = sorted({*held["examples"], *row["examples"]})[:5]
        return sorted(met.values(), key=lambda row: (-row["machines"], row["key"], str(row["reason"])))

    def results(self, where: str = "true", limit: int | None = None) -> Iterator[Recommendation]:
        """Yield results as `cvmlab.fleet.recommendations.recommend` makes them, a few at a time in memory.

        Args:
            where: Condition on the columns of ``machines`` (m), ``decided`` (d) and ``provider`` (p).
            limit: Most results; gravest first, then by machine. Without, in no order.
        """
        order = "ORDER BY list_position(['high', 'medium', 'low'], d.severity), m.name, m.machine, d.place"
        order = f"{order} LIMIT {limit:d}" if limit is not None else ""
        query = f"""SELECT m.*, d.place, p.provider_state, p.cause, p.description,
                p.machine IS NOT NULL AS said FROM machines m JOIN decided d USING (decision)
            LEFT JOIN provider p ON p.machine = m.machine AND p.key = d.key WHERE {where} {order}"""  # noqa: S608
        link = connect(machines=self.machines, decided=self.rows(), provider=self.provider)
        rules = tuple(self.rules.values())
        for batch in link.sql(query).to_arrow_reader(_ROWS):
            for row in batch.to_pylist():
                rule, one = rules[row["place"]], self.decisions[row["decision"]][row["place"]]
                said = _word(row["provider_state"], row["cause"], row["description"]) if row["said"] else None
                yield recommendation_of(machine_of_row(row), rule, one, said)

    def contradictions(self, limit: int = SHOWN) -> tuple[list[Contradiction], int]:
        """Return evidence against configuration, the gravest first, and how often there is any."""
        query = "SELECT decision, count(*) AS n FROM machines GROUP BY 1"
        sizes = {row["decision"]: row["n"] for row in self.ask(query).to_pylist()}
        total = sum(len(found) * sizes.get(index, 0) for index, found in enumerate(self.conflicts))
        shown: list[Contradiction] = []
        for severity in ("high", "medium", "low"):
            indices = [i for i, f in enumerate(self.conflicts) if any(c.severity == severity for c in f)]
            if not indices or len(shown) >= limit:
                continue
            query = """SELECT * FROM machines WHERE list_contains($indices, decision)
                ORDER BY name, machine LIMIT $limit"""
            rows = self.ask(query, {"indices": indices, "limit": limit}).to_pylist()
            shown += [
                replace(one, machine=machine_of_row(row))
                for row in rows
                for one in self.conflicts[row["decision"]]
                if one.severity == severity
            ]
        return shown[:limit], total


def _word(state: Any, cause: str | None, description: str | None = None) -> ProviderAssessment:
    """The provider's word as far as a comparison looks at it."""
    return ProviderAssessment(
        machine="", key="", name=None, state=state, cause=cause, description=description, severity=None,
        policy=None, first_evaluated=None, changed=None, provider=None, subscription=None,
        additional_data=None, origin=Origin("lake", 0), raw=(),
    )  # fmt: skip


def recommend_lake(
    lake: Lake,
    *,
    now: datetime,
    rules: Iterable[str | Path] | Mapping[str, Rule] = (),
    thresholds: Thresholds | None = None,
    reports: pa.Table | None = None,
    status: pa.Table | None = None,
) -> FleetRecommendations:
    """Judge every machine of a lake's inventory by every rule.

    Evidence counts while it is fresh: what a machine proved before its last verdict was stale says nothing of
    how it booted since.

    Args:
        lake: The lake.
        now: The moment to judge for.
        rules: TOML files that add rules or replace them, or the rules themselves.
        thresholds: When evidence is too old.
        reports: What `cvmlab.fleet.watch.reports_of` returned, where it was asked already.
        status: What `cvmlab.fleet.status.status_table` returned of it.

    Raises:
        EvidenceError: A file of rules cannot be used.
    """
    from collections.abc import Mapping as Known

    known = dict(rules) if isinstance(rules, Known) else load_rules(rules)
    machines = known_machines(lake) if reports is None or status is None else None
    if reports is None:
        reports = reports_of(lake, machines)
    if status is None:
        status = status_table(reports, machines, now=now, thresholds=thresholds)
    decider = Decider(tuple(known.values()))
    table, facts = _grouped(lake, reports, status, decider.fields, now)
    evidence = len(reports) > 0
    decisions, conflicts = [], []
    for row in facts:
        machine, proven = machine_of_row({**_NAMELESS, **row}), _proven(row)
        decisions.append(decider.decisions(facts_of(machine, proven if evidence else None)))
        conflicts.append(tuple(contradictions_of(machine, proven)) if evidence else ())
    provider = _provider(lake, known, now)
    return FleetRecommendations(table, tuple(decisions), tuple(conflicts), provider, known, evidence)


def _grouped(
    lake: Lake, reports: pa.Table, status: pa.Table, fields: Sequence[str], now: datetime
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The machines, each with the index of its facts, and the distinct facts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = tuple(dict.fromkeys((*_IDENTITY[1:], *_DIMENSIONS, *MACHINE_FIELDS, "extensions")))
    inventory = lake.read(
        "inventory",
        columns=["machine", "received", *names],
        where=pc.field("received") <= pa.scalar(now, pa.timestamp("us", "UTC")),
    )
    link = connect(inventory=inventory, reports=reports, status=status)
    packed = ", ".join(f'"{name}" := "{name}"' for name in names)
    picked = ", ".join(f'l.r."{name}" AS "{name}"' for name in names)
    link.execute(_FACTS.format(packed=packed, names=picked), {"now": moment(now)})
    wanted = [n for n in (*MACHINE_FIELDS, "extensions") if n in {*fields, *_ALWAYS, "extensions"}]
    facts = ", ".join(f'"{name}"' for name in wanted)
    groups = link.sql(f"SELECT {facts}, state, proven, list(id) AS ids FROM facts GROUP BY ALL")  # noqa: S608
    found = groups.to_arrow_table()
    ids = found.column("ids").combine_chunks()
    sizes = pc.list_value_length(ids).to_numpy()
    decision = np.empty(int(sizes.sum()), np.int32)
    decision[ids.flatten().to_numpy()] = np.repeat(np.arange(len(found), dtype=np.int32), sizes)
    kept = ", ".join(f'"{name}"' for name in (*_IDENTITY, *_DIMENSIONS))
    machines = link.sql(f"SELECT {kept} FROM facts ORDER BY id").to_arrow_table()  # noqa: S608
    return machines.append_column("decision", pa.array(decision)), found.drop_columns("ids").to_pylist()


def _proven(row: Mapping[str, Any]) -> Proven:
    held = row["proven"] or {}
    return Proven(
        status=row["state"],
        believed=bool(held.get("believed")),
        verdict=held.get("verdict"),
        primary=held.get("primary"),
        codes=tuple(held.get("codes") or ()),
        secure_boot={"on": True, "off": False}.get(held.get("proven_secure_boot") or ""),
        **{name: held.get(name) for name in _PROVEN[6:]},
    )


def _provider(lake: Lake, rules: Mapping[str, Rule], now: datetime) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    from cvmlab.fleet.lake.schema import among

    said = lake.read(
        "assessments",
        columns=["machine", "key", "state", "cause", "description", "received"],
        where=among("key", pa.array(rules, pa.string()))
        & (pc.field("received") <= pa.scalar(now, pa.timestamp("us", "UTC"))),
    )
    query = """SELECT machine, key, p.s AS provider_state, p.c AS cause, p.d AS description FROM
        (SELECT machine, key::VARCHAR AS key, max_by(struct_pack(s := state::VARCHAR, c := cause::VARCHAR,
            d := description), received) AS p FROM said GROUP BY ALL)"""
    return result(connect(said=said), query)


def record_recommendations(lake: Lake, found: FleetRecommendations, now: datetime) -> int:
    """Write what rules say otherwise than before, so that the lake knows since when.

    Returns:
        Machines of which they do.
    """
    import pyarrow as pa

    stamp = versions()
    ids, rows = [], []
    for decided in found.decisions:
        made = [_decided(rule, one) for rule, one in zip(found.rules.values(), decided, strict=True)]
        ids.append(sha256(json.dumps(made, sort_keys=True).encode()).hexdigest())
        rows += [{**row, "decision": ids[-1], **stamp} for row in made]
    pairs = pa.table({"decision": pa.array(range(len(ids)), pa.int32()), "hash": pa.array(ids, pa.string())})
    last = lake.read(RECOMMENDED, columns=["machine", "received", "decision"])
    query = """WITH before AS (SELECT machine, max_by(decision, received) AS decision FROM last
            WHERE received <= $now GROUP BY machine)
        SELECT m.machine, $now AS received, $day AS day, p.hash AS decision,
            $schema::BIGINT AS schema_version, $tool AS tool_version
        FROM machines m JOIN pairs p USING (decision) LEFT JOIN before b USING (machine)
        WHERE b.decision IS DISTINCT FROM p.hash"""
    values = {
        "now": moment(now), "day": day_of(now), "schema": stamp["schema_version"],
        "tool": stamp["tool_version"],
    }  # fmt: skip
    machines = found.machines.select(["machine", "decision"])
    changed = result(connect(machines=machines, pairs=pairs, last=last), query, values)
    if not len(changed):
        return 0
    lake.append(DECISIONS, arrow_table(DECISIONS, rows), key=("decision", "key"))
    return lake.append(RECOMMENDED, changed, key=("machine", "received"))


def _decided(rule: Rule, one: Decision) -> dict[str, Any]:
    return {
        "key": rule.key,
        "recommendation": rule.name,
        "severity": rule.severity,
        "origin": rule.origin,
        "state": one.state,
        "reason": one.reason,
        "explanation": one.explanation,
        "facts": json.dumps(one.facts, default=list, sort_keys=True),
        "judged": one.judged,
    }


def recommendation_changes(lake: Lake) -> pa.Table:
    """Return states over time as `cvmlab.fleet.statistics.remediation` takes them.

    Only pairs of machine and rule that were ever Unhealthy; what was not judged says nothing and is left out.
    """
    recommended = lake.read(RECOMMENDED, columns=["machine", "received", "decision"])
    decisions = lake.read(DECISIONS, columns=["decision", "key", "recommendation", "state", "judged"])
    query = """WITH bad AS (SELECT DISTINCT machine, key FROM recommended JOIN decisions USING (decision)
            WHERE state = 'Unhealthy')
        SELECT r.machine, d.recommendation::VARCHAR AS key, d.state::VARCHAR AS state, r.received AS "at"
        FROM recommended r JOIN decisions d USING (decision)
            JOIN bad b ON b.machine = r.machine AND b.key = d.key WHERE d.judged"""
    return result(connect(recommended=recommended, decisions=decisions), query)
