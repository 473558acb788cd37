"""`fleet report`: what fails now and why, since when, what machines share; then the rest, in that order.

The object of ``fleet report --json`` is described in docs/fleet-report.md; every list in it is bounded, and
says of how many it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cvmlab.fleet import statistics as stats
from cvmlab.fleet.boot_values import (
    LIVES,
    profile_values,
    told_apart,
    turns,
    values_over_time,
    varying,
)
from cvmlab.fleet.fleet_view import fleet_document as fleet_document
from cvmlab.fleet.recommend_lake import recommend_lake, recommendation_changes
from cvmlab.fleet.recommend_view import contradiction_object
from cvmlab.fleet.status import (
    SCORE_FORMULA,
    STATUSES,
    Thresholds,
    boots_table,
    connect,
    integrity_score,
    result,
    status_history,
    status_table,
)
from cvmlab.fleet.watch import known_machines, lake_alerts, reports_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.fleet.lake import Lake

SCHEMA: Final = "cvmlab.fleet/1"
MAX_ROWS: Final = 500
"""Most rows of a list in the object; ``totals`` says how many there are."""
WORST: Final = 20
"""Values of a dimension that are listed of each recommendation, the least compliant first."""
CURVE: Final = 200
"""Most points of one curve."""
ATTESTATION: Final = "attestation failed"
"""Key of episodes of failed attestation among those of recommendations."""


def fleet_object(
    lake: Lake,
    now: datetime,
    thresholds: Thresholds | None = None,
    *,
    rules: Iterable[str | Path] = (),
    enforce: Baseline | None = None,
    context: VerifierContext | None = None,
) -> dict[str, Any]:
    """Return the report as one object (``fleet report --json``): plain values, times in ISO 8601.

    Args:
        lake: The lake.
        now: The moment to report for.
        thresholds: When evidence is too old.
        rules: TOML files that add rules of recommendations or replace them.
        enforce: A baseline: say how many machines would fail if it were enforced.
        context: What the verifier knows of all machines, for that question.
    """
    machines = known_machines(lake)
    told = reports_of(lake, machines)
    status = status_table(told, machines, now=now, thresholds=thresholds)
    score = _rows(integrity_score(status))
    alerts = lake_alerts(lake)
    still = [one for one in alerts if one.resolved is None]
    shown = [one for one in still if one.suppressed_by is None]
    link = connect(status=status)
    counts = {row["status"]: row["n"] for row in result(link, _COUNTS).to_pylist()}
    simulated = "SELECT bool_or(concat_ws(' ', machine, name) ILIKE '%simulated%') AS s FROM status"
    assessments = lake.read("assessments", columns=["machine", "name", "key", "state", "received"])
    renamed = assessments.rename_columns(["machine", "recommendation", "key", "state", "received"])
    last = result(connect(said=renamed), _LAST)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "at": now.isoformat(),
        "simulated": bool(result(link, simulated).column("s")[0].as_py()),
        "machines": sum(counts.values()),
        "status": {word: counts.get(word, 0) for word in STATUSES},
        "score": score[0]["score"] if score else None,
        "score_formula": SCORE_FORMULA,
        "shared_causes": _rows(stats.shared_causes(status)),
        "open_alerts": [
            {
                "alert": one.alert,
                "machine": one.machine,
                "reason": one.reason,
                "cause": one.cause,
                "opened": one.opened.isoformat(),
                "summary": one.summary,
            }
            for one in sorted(shown, key=lambda one: (one.opened, one.machine))
        ],
        "suppressed_alerts": len(still) - len(shown),
        "resolved_alerts": len(alerts) - len(still),
        "recommendations": _rows(stats.compliance(last, machines, ("region",))),
        "cohorts": _rows(stats.cohorts(status)),
        "trend": _rows(stats.trend(told)),
        "not_known": [_plain(row) for row in result(link, _QUIET).to_pylist()],
    }
    found |= _own(lake, told, status, now, rules, thresholds)
    found |= _boots(lake, told, status, now, thresholds)
    if enforce is not None:
        from cvmlab.fleet.enforce import would_find

        codes = would_find(lake, status, enforce, context)
        found["enforced"] = {
            "baseline": enforce.name,
            "outcomes": _rows(stats.enforced(status, codes)),
            "profiles_judged": len(codes),
        }
    return _bounded(found)


_COUNTS: Final = "SELECT status, count(*) AS n FROM status GROUP BY 1"
_QUIET: Final = """SELECT machine, name, status, prerequisite, age_seconds, reports FROM status
    WHERE status IN ('silent', 'stale', 'cannot') ORDER BY status, machine"""
_LAST: Final = """SELECT * FROM said
    QUALIFY row_number() OVER (PARTITION BY machine, key ORDER BY received DESC) = 1"""


def _own(
    lake: Lake,
    told: pa.Table,
    status: pa.Table,
    now: datetime,
    rules: Iterable[str | Path],
    thresholds: Thresholds | None,
) -> dict[str, Any]:
    """What own rules say, against what the provider says, and how long it takes to put right."""
    found = recommend_lake(lake, now=now, rules=rules, thresholds=thresholds, reports=told, status=status)
    counts = found.counts()
    compliance = stats.own_compliance(found)
    judged = compliance[compliance["healthy"] + compliance["unhealthy"] > 0]
    worst = judged.sort_values(["compliance", "unhealthy"], ascending=[True, False], kind="stable")
    worst = worst.groupby(["recommendation", "dimension"], sort=False).head(WORST)
    worst = worst.sort_values(["recommendation", "dimension", "compliance", "value"], kind="stable")
    words = found.words()
    contradictions, against = found.contradictions()
    episodes = _episodes(lake, told, now, thresholds)
    curve = stats.remediation_curve(episodes)
    return {
        "own": [
            {
                "key": rule.key,
                "recommendation": rule.name,
                "severity": rule.severity,
                "origin": rule.origin,
                **{
                    word.replace("-", "_").lower(): counts[rule.key][word]
                    for word in ("Healthy", "Unhealthy", "NotApplicable", "not-judged")
                },
                "compliance": _share(counts[rule.key]["Healthy"], counts[rule.key]["Unhealthy"]),
                **{
                    name: sum(w["machines"] for w in words if (w["key"], w["comparison"]) == (rule.key, said))
                    for name, said in (("provider_agrees", "agree"), ("provider_disagrees", "disagree"))
                },
            }
            for rule in found.rules.values()
        ],
        "compliance": _rows(worst),
        "compliance_total": len(judged),
        "differences": [
            {name: word[name] for name in _DIFFERENCE} for word in words if word["comparison"] == "disagree"
        ],
        "contradictions": [contradiction_object(one) for one in contradictions],
        "contradictions_total": against,
        "remediation": _remediation(episodes, curve),
        "remediation_curve": _curve(curve),
    }


_DIFFERENCE: Final = (
    "key", "recommendation", "state", "reason", "provider_state", "cause", "machines", "examples",
)  # fmt: skip


def _share(good: int, bad: int) -> float | None:
    return good / (good + bad) if good + bad else None


def _episodes(lake: Lake, told: pa.Table, now: datetime, thresholds: Thresholds | None) -> pd.DataFrame:
    """Episodes of unhealthy recommendations, as recorded, and of failed attestation, from the verdicts."""
    import pyarrow as pa

    history = status_history(told, now=now, thresholds=thresholds)
    # what is not known does not end a failure: only an attested boot does
    query = f"""SELECT machine, '{ATTESTATION}' AS key, since AS "at",
        CASE status WHEN 'failed' THEN 'Unhealthy' ELSE 'Healthy' END AS state
        FROM history WHERE status IN ('failed', 'attested')
        AND machine IN (SELECT machine FROM history WHERE status = 'failed')"""  # noqa: S608
    failed = result(connect(history=history), query)
    changes = recommendation_changes(lake)
    both = pa.concat_tables([changes, failed.select(changes.column_names).cast(changes.schema)])
    episodes: pd.DataFrame = stats.remediation(both, now=now)
    return episodes


def _remediation(episodes: pd.DataFrame, curve: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for key, held in episodes.groupby("key", sort=True):
        points = curve[(curve["name"] == key) & (curve["survival"] <= 0.5)]
        lasting = held[~held["ended"]]
        rows.append(
            {
                "key": str(key),
                "episodes": len(held),
                "ended": int(held["ended"].sum()),
                "open": int(held["until"].isna().sum()),
                "median_hours": float(points["hours"].iloc[0]) if len(points) else None,
                "longest_open_hours": float(lasting["hours"].max()) if len(lasting) else None,
            }
        )
    return sorted(rows, key=lambda row: (-row["open"], row["key"]))


def _boots(
    lake: Lake, told: pa.Table, status: pa.Table, now: datetime, thresholds: Thresholds | None
) -> dict[str, Any]:
    """What machines boot with, what tells them apart, and how it spreads and dies out."""
    limits = thresholds or Thresholds()
    turned = turns(told, now)
    values = profile_values(lake, turned.column("profile").unique().to_pylist())
    apart, total = told_apart(lake, status, values, MAX_ROWS)
    timed = values_over_time(turned, values, varying(status, values))
    spread = stats.spread(timed)
    rolling = spread[spread["shape"] == "rolling-out"]
    pairs = rolling.nlargest(8, "machines", keep="first")[["name", "value"]]
    adoption = stats.adoption(timed).merge(pairs, on=["name", "value"]) if len(pairs) else None
    lives = stats.survival(values_over_time(turned, values, LIVES), now=now, gone=limits.silent)
    boots = boots_table(told, now=now)
    summed = result(connect(boots=boots), _BOOTS).to_pylist()[0]
    return {
        "apart": [
            {
                "name": one.name,
                "value": one.value,
                "machines": one.machines,
                "of": one.of,
                "common": one.common,
                "differs": list(one.differs),
                "examples": list(one.examples),
                "sentence": one.sentence,
            }
            for one in apart
        ],
        "apart_total": total,
        "spread": _rows(spread),
        "adoption": _rows(adoption) if adoption is not None else [],
        "outliers": _rows(stats.outliers(_now(status, values))),
        "survival": [
            {
                "name": str(name),
                "lives": int(held["at_risk"].max()),
                "ended": int(held["ended"].sum()),
                "censored": int(held["censored"].sum()),
                "median_hours": _median(held),
            }
            for name, held in lives.groupby("name", sort=True)
        ],
        "survival_curve": _curve(lives),
        "boots": {
            name: int(summed[name] or 0) for name in ("boots", "not_attested", "machines", "backwards")
        },
        "unseen_boots": _rows(connect(boots=boots).execute(_UNSEEN).df()),
    }


_BOOTS: Final = """SELECT sum(boots) AS boots, sum(boots_not_attested) AS not_attested,
    count(*) FILTER (boots_not_attested > 0) AS machines, sum(resets_backwards) AS backwards FROM boots"""
_UNSEEN: Final = """SELECT machine, boots, boots_not_attested, resets_backwards FROM boots
    WHERE boots_not_attested > 0 OR resets_backwards > 0
    ORDER BY resets_backwards DESC, boots_not_attested DESC, machine"""


def _now(status: pa.Table, values: pa.Table) -> pa.Table:
    """What each machine's last boot has, of names that vary."""
    query = """SELECT s.machine, v.name, v.value FROM status s JOIN values_ v USING (profile)
        WHERE list_contains($names, v.name)"""
    names = varying(status, values)
    return result(connect(status=status, values_=values), query, {"names": names})


def _median(curve: pd.DataFrame) -> float | None:
    half = curve[curve["survival"] <= 0.5]
    return float(half["hours"].iloc[0]) if len(half) else None


def _curve(estimate: pd.DataFrame) -> list[dict[str, Any]]:
    """The points at which something ended, and the last one: the rest of the curve is level."""
    kept = []
    for name, held in estimate.groupby("name", sort=True):
        steps = held[held["ended"] > 0]
        if len(steps) > CURVE:
            steps = steps.iloc[:: len(steps) // CURVE + 1]
        end = {"name": str(name), "hours": float(held["hours"].max())}
        kept += [
            {"name": str(name), "hours": float(hours), "survival": float(survival)}
            for hours, survival in zip(steps["hours"], steps["survival"], strict=True)
        ]
        kept.append(end | {"survival": float(held["survival"].iloc[-1])})
    return kept


def _bounded(found: dict[str, Any]) -> dict[str, Any]:
    """Cut every list to `MAX_ROWS`, and say in ``totals`` how long those were that are cut."""
    totals = {
        name: len(value)
        for name, value in found.items()
        if isinstance(value, list) and len(value) > MAX_ROWS and "curve" not in name
    }
    cut = {name: value[:MAX_ROWS] if name in totals else value for name, value in found.items()}
    return cut | {"totals": totals}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [_plain(row) for row in frame.to_dict("records")]


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    import pandas as pd

    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        if isinstance(value, list):
            return [plain(one) for one in value]
        if value is None or value is pd.NaT or value != value:
            return None
        return value.isoformat() if hasattr(value, "isoformat") else value

    return {str(k): plain(v) for k, v in row.items()}
