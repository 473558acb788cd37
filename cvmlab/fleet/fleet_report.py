"""`fleet report`: what fails now and why, since when, what machines share; then the rest, in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cvmlab.fleet import statistics as stats
from cvmlab.fleet.status import SCORE_FORMULA, STATUSES, Thresholds, integrity_score, status_table
from cvmlab.fleet.watch import known_machines, lake_alerts, reports_of
from cvmlab.view import Cell, Document, Figure, Heading, Note, Paragraph, Stats, Table

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from cvmlab.fleet.lake import Lake
    from cvmlab.view import Block, CellKind

SCHEMA: Final = "cvmlab.fleet/1"
SHOWN: Final = 60
_KIND: Final[dict[str, CellKind]] = {"attested": "good", "failed": "bad", "stale": "warn", "silent": "warn"}


def fleet_object(lake: Lake, now: datetime, thresholds: Thresholds | None = None) -> dict[str, Any]:
    """Return the report as one object (``fleet report --json``): plain values, times in ISO 8601."""
    machines = known_machines(lake)
    told = reports_of(lake, machines)
    status = status_table(told, machines, now=now, thresholds=thresholds)
    score = _rows(integrity_score(status))
    alerts = lake_alerts(lake)
    still = [one for one in alerts if one.resolved is None]
    shown = [one for one in still if one.suppressed_by is None]
    quiet = status.select(["machine", "name", "status", "prerequisite", "age_seconds", "reports"]).to_pylist()
    assessments = lake.read("assessments", columns=["machine", "name", "key", "state", "received"])
    renamed = assessments.rename_columns(["machine", "recommendation", "key", "state", "received"])
    return {
        "schema": SCHEMA,
        "at": now.isoformat(),
        "simulated": any("simulated" in f"{row['machine']} {row['name']}".lower() for row in quiet),
        "machines": len(quiet),
        "status": {word: sum(row["status"] == word for row in quiet) for word in STATUSES},
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
        "recommendations": _rows(stats.compliance(renamed, machines, ("region",))),
        "cohorts": _rows(stats.cohorts(status)),
        "trend": _rows(stats.trend(told)),
        "not_known": sorted(
            (row for row in quiet if row["status"] in ("silent", "stale", "cannot")),
            key=lambda row: (str(row["status"]), str(row["machine"])),
        ),
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    import pandas as pd

    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        if isinstance(value, list):
            return [plain(one) for one in value]
        if value is None or value is pd.NaT or value != value:
            return None
        return value.isoformat() if hasattr(value, "isoformat") else value

    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def fleet_document(found: dict[str, Any]) -> Document:
    """Return the report as a document, of what `fleet_object` returned."""
    counts = found["status"]
    blocks: list[Block] = []
    if found["simulated"]:
        blocks.append(Note("warning", "Simulated: machines of this lake do not exist."))
    blocks.append(
        Stats(
            (
                (f"{found['machines']:,}", "machines", ""),
                *((f"{counts[word]:,}", word, _KIND.get(word, "")) for word in STATUSES),
                (str(found["score"]) if found["score"] is not None else "-", "boot integrity score", ""),
            )
        )
    )
    blocks.append(Heading("What fails now, shared causes first"))
    blocks.append(
        _table(
            found["shared_causes"], ("cause", "reason", "machines", "profiles", "first", "last", "examples"),
            "Causes of failed machines",
        )
    )  # fmt: skip
    blocks += [Heading("Open alerts"), _table(found["open_alerts"], _ALERT, "By when they were opened")]
    hidden = found["suppressed_alerts"]
    if hidden:
        blocks.append(Note("warning", f"{hidden:,} open alerts are hidden by suppression rules."))
    blocks += [Heading("Recommendations"), _table(found["recommendations"], _STATES, "As the provider says")]
    blocks += [
        Heading("Trend"),
        *_picture(found["trend"]),
        _table(found["trend"], _TREND, "Last verdict of each machine, by day (UTC)"),
    ]
    blocks += [Heading("Groups that boot alike"), _table(found["cohorts"], _COHORT, "By boot profile")]
    blocks += [Heading("What is not known"), _table(found["not_known"], _QUIET, "No fresh evidence")]
    blocks.append(Paragraph(found["score_formula"]))
    return Document("Fleet report", tuple(blocks), subtitle=found["at"])


_ALERT: Final = ("machine", "reason", "cause", "opened", "summary")
_STATES: Final = ("recommendation", "value", "healthy", "unhealthy", "not_applicable", "not_stated")
_TREND: Final = ("start", "machines", "trusted", "not_trusted", "inconclusive", "unusable")
_COHORT: Final = ("profile", "machines", "attested", "failed", "causes", "examples")
_QUIET: Final = ("machine", "status", "prerequisite", "age_seconds", "reports")
_CLAIMED: Final = frozenset({"machine", "examples", "value"})


def _picture(trend: list[dict[str, Any]]) -> list[Block]:
    """Return the trend as a picture; nothing where matplotlib is not installed: the table says the same."""
    import io

    import pandas as pd

    from cvmlab.errors import MissingExtraError
    from cvmlab.fleet.figures import trend_alt, trend_figure

    if not trend:
        return []
    frame = pd.DataFrame(trend)
    frame["start"] = pd.to_datetime(frame["start"])
    try:
        drawn = trend_figure(frame)
    except MissingExtraError:
        return []
    image = io.BytesIO()
    drawn.savefig(image, format="png", dpi=110)
    return [Figure(image.getvalue(), trend_alt(frame), "Machines by last verdict")]


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...], caption: str) -> Block:
    if not rows:
        return Paragraph(f"{caption}: none.")
    shown = tuple(tuple(_cell(name, row[name]) for name in columns) for row in rows[:SHOWN])
    return Table(tuple(one.replace("_", " ") for one in columns), shown, total=len(rows), caption=caption)


def _cell(name: str, value: Any) -> Cell | str | int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float):
        return f"{value:,.0f}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if name == "profile":
        return Cell(text, kind="digest")
    return Cell(text, kind="claimed") if name in _CLAIMED else text
