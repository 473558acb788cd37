"""A fleet as frames for notebooks: machines, recommendations, alerts and values over time of one lake."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cvmlab.fleet import statistics as stats
from cvmlab.fleet.evaluate import evaluate_batch, evidence_schema
from cvmlab.fleet.lake.blobs import Blobs
from cvmlab.fleet.recommend_lake import recommend_lake, recommendation_changes
from cvmlab.fleet.recommend_view import recommendations_frame
from cvmlab.fleet.status import connect, result, status_table
from cvmlab.fleet.watch import known_machines, lake_alerts, reports_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence import VerifierContext
    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.recommend_lake import FleetRecommendations
    from cvmlab.fleet.status import Thresholds
    from cvmlab.view import Document

FACTS: Final = ("subscription", "region", "os", "size", "scale_set", "status")
"""What is known of machines beside a recommendation, to choose by."""
_RECORD: Final = (
    "name", "subscription", "region", "size", "os", "security_type", "secure_boot", "vtpm",
)  # fmt: skip
VALUES: Final = (
    "revocation-list", "secure-boot", "signature-database", "sbat-level", "kernel", "initrd",
    "kernel-command-line", "application",
)  # fmt: skip
"""Kinds of events whose values are followed over time."""


@dataclass(frozen=True, slots=True)
class FleetOverview:
    """How a fleet stands at a moment.

    Attributes:
        lake: The lake.
        now: The moment.
        machines: What is last known of each machine (`cvmlab.fleet.status.machines_schema`).
        reports: Every verdict (`cvmlab.fleet.status.reports_schema`).
        status: One row a machine (`cvmlab.fleet.status.status_table`).
        recommendations: What rules say of every machine.
    """

    lake: Lake
    now: datetime
    machines: pa.Table
    reports: pa.Table
    status: pa.Table
    recommendations: FleetRecommendations

    @property
    def simulated(self) -> bool:
        """Whether any machine says that it does not exist."""
        return any(
            "simulated" in f"{row['machine']} {row['name']}".lower()
            for row in self.status.select(["machine", "name"]).to_pylist()
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of events whose values are followed."""
        return VALUES

    def view(self, part: str) -> Document:
        """Return one part as a document.

        Args:
            part: ``inventory``, ``to-do``, ``status``, ``alerts``, ``compliance``, ``alike`` or ``survival``.

        Raises:
            ValueError: There is no such part.
        """
        from cvmlab.fleet.overview_view import part_document

        return part_document(self, part)

    def inventory_rows(self) -> pd.DataFrame:
        """Return the last record of each machine: what it is, and what is configured."""
        columns = ", ".join(f'max_by(struct_pack(x := "{name}"), received).x AS "{name}"' for name in _RECORD)
        query = f"""SELECT machine, {columns} FROM inventory WHERE kind <> 'scale-set' GROUP BY machine
            ORDER BY name, machine"""  # noqa: S608 - names of columns
        read = ["machine", "received", "kind", *_RECORD]
        return connect(inventory=self.lake.read("inventory", columns=read)).execute(query).df()

    def recommendation_rows(self) -> pd.DataFrame:
        """Return one row a machine and rule: the table ``recommendations``, and `FACTS` of the machine.

        What is to be done comes first, gravest first.
        """
        found = recommendations_frame(self.recommendations.results())
        facts = self.status.select(["machine", *FACTS]).to_pandas()
        rows = found.merge(facts, on="machine", how="left")
        order = rows["state"].map({"Unhealthy": 0, "Healthy": 1, "NotApplicable": 2}).astype(int)
        grave = rows["severity"].map({"high": 0, "medium": 1, "low": 2}).astype(int)
        rows = rows.assign(_order=order, _grave=grave)
        return rows.sort_values(["_order", "_grave", "recommendation", "name"], kind="stable").drop(
            columns=["_order", "_grave"]
        )

    def status_rows(self) -> pd.DataFrame:
        """Return one row a machine: its facts, status and why, age in hours; what is wrong comes first."""
        query = """SELECT machine, name, subscription, region, os, size, scale_set, status,
                coalesce("primary", prerequisite) AS cause, reason, round(age_seconds / 3600, 1) AS age_hours,
                reports, profile, summary
            FROM status ORDER BY list_position(['failed', 'silent', 'cannot', 'stale', 'attested'], status),
                cause, name, machine"""
        return connect(status=self.status).execute(query).df()

    def alert_rows(self) -> pd.DataFrame:
        """Return the last line of every alert, with ``state``: open, hidden or resolved; open ones first."""
        import pandas as pd

        found = [
            {
                "state": "resolved" if one.resolved else "hidden" if one.suppressed_by else "open",
                "machine": one.machine,
                "name": one.name,
                "reason": one.reason,
                "cause": one.cause,
                "cause_severity": one.cause_severity,
                "opened": one.opened,
                "resolved": one.resolved,
                "count": one.count,
                "suppressed_by": one.suppressed_by,
                "why": one.why,
                "summary": one.summary,
            }
            for one in lake_alerts(self.lake)
        ]
        order = ("open", "hidden", "resolved")
        found.sort(key=lambda row: (order.index(str(row["state"])), str(row["opened"]), str(row["machine"])))
        return pd.DataFrame(found)

    def values(self, kinds: Iterable[str] = VALUES) -> pa.Table:
        """Return what machines showed over time, as `spread`, `outliers` and `survival` take it.

        Args:
            kinds: Kinds of events (`cvmlab.eventlog.kinds`).

        Returns:
            ``machine``, ``at``, ``name`` (the kind), ``value``: the decoded line and the start of the digest.
        """
        import pyarrow as pa

        events = self.lake.read("events", columns=["profile", "own", "kind", "name", "summary", "sha256"])
        wanted = pa.table({"kind": pa.array(list(kinds), pa.string())})
        # of several of a kind in one boot, such as applications, all make one value together
        query = """WITH each AS (SELECT profile, kind::VARCHAR AS kind, string_agg(DISTINCT
                    coalesce(nullif(summary, ''), name) || ' · ' || coalesce(left(sha256, 12), 'no digest'),
                    '; ' ORDER BY coalesce(nullif(summary, ''), name) || ' · '
                    || coalesce(left(sha256, 12), 'no digest')) AS value
                FROM events WHERE NOT own AND kind::VARCHAR IN (SELECT kind FROM wanted) GROUP BY ALL)
            SELECT r.machine, r.received AS "at", e.kind AS name, e.value
            FROM reports r JOIN each e USING (profile) ORDER BY ALL"""
        return result(connect(reports=self.reports, events=events, wanted=wanted), query)

    def changes(self) -> pa.Table:
        """Return recommendations over time, as `cvmlab.fleet.statistics.remediation` takes them."""
        return recommendation_changes(self.lake)

    def enforced(self, baseline: Baseline, context: VerifierContext) -> pd.DataFrame:
        """Say how many machines would fail if a baseline were enforced; the lake stays as it is.

        Of each boot profile one evidence is judged anew, the newest whose quote was believed. What is wrong
        with a quote is no matter of the baseline; where no quote of a boot is believed, it is not known.

        Returns:
            See `cvmlab.fleet.statistics.enforced`.
        """
        import pyarrow.compute as pc

        query = """SELECT attestation FROM attestations a LEFT JOIN verdicts v USING (attestation)
            WHERE a.profile IS NOT NULL QUALIFY row_number() OVER (PARTITION BY a.profile
                ORDER BY coalesce(v.believed, false) DESC, a.received DESC, attestation) = 1"""
        attestations = self.lake.read("attestations", columns=["attestation", "profile", "received"])
        verdicts = self.lake.read("verdicts", columns=["attestation", "believed"])
        chosen = result(connect(attestations=attestations, verdicts=verdicts), query).column("attestation")
        where = pc.field("attestation").isin(chosen.combine_chunks())
        rows = self.lake.read("attestations", where=where).to_pylist()
        judged = evaluate_batch(_evidence(self.lake, rows), baseline=baseline, context=context)
        codes: dict[str, tuple[str, ...]] = {}
        for row, one in zip(rows, judged.to_pylist(), strict=True):
            if one["believed"]:
                causes = json.loads(one["object"])["causes"]
                codes[row["profile"]] = tuple(
                    cause["code"]
                    for cause in causes
                    if cause["reason"] == "boot-deviates" and cause["severity"] != "info"
                )
        return stats.enforced(self.status, codes)


def _evidence(lake: Lake, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Evidence of a few attestations, with the nonce that the verifier had sent."""
    import pyarrow as pa

    contents = Blobs(lake).get({name for row in rows for name in row["blobs"]})
    made = [
        {
            "machine": row["machine"],
            "files": [
                {"name": name, "data": contents[blob]}
                for name, blob in zip(row["file_names"], row["blobs"], strict=True)
            ],
            "nonce": bytes.fromhex(row["nonce"]) if row["nonce"] else None,
            "activation": None,
        }
        for row in rows
    ]
    return pa.RecordBatch.from_pylist(made, schema=evidence_schema())


def overview(
    lake: Lake,
    now: datetime,
    *,
    thresholds: Thresholds | None = None,
    rules: Iterable[str | Path] = (),
) -> FleetOverview:
    """Read how a fleet stands.

    Args:
        lake: The lake.
        now: The moment to judge for.
        thresholds: When evidence is too old.
        rules: TOML files that add rules of recommendations or replace them.

    Raises:
        EvidenceError: A file of rules cannot be used.
    """
    machines = known_machines(lake)
    reports = reports_of(lake, machines)
    status = status_table(reports, machines, now=now, thresholds=thresholds)
    found = recommend_lake(lake, now=now, rules=rules, thresholds=thresholds, reports=reports, status=status)
    return FleetOverview(lake, now, machines, reports, status, found)
