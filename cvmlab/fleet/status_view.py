"""Status and alerts of a lake, as a plain object and as a document: what `fleet status` and `alerts` show."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.alert_export import alert_object
from cvmlab.fleet.alerts import Alert, affected
from cvmlab.fleet.status import (
    SCORE_FORMULA,
    STATUSES,
    Thresholds,
    boots_table,
    connect,
    integrity_score,
    moment,
    result,
    status_history,
    status_table,
)
from cvmlab.fleet.watch import known_machines, lake_alerts, reports_of
from cvmlab.view import Cell, Document, Heading, Note, Paragraph, Stats, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from cvmlab.fleet.lake import Lake
    from cvmlab.view import Block, CellKind

STATUS_SCHEMA: Final = "cvmlab.fleet-status/1"
HISTORY_SCHEMA: Final = "cvmlab.fleet-history/1"
ALERTS_SCHEMA: Final = "cvmlab.fleet-alerts/1"
GROUPS: Final = ("subscription", "resource_group", "region", "os", "size", "scale_set", "status")
"""Columns that statuses and scores are grouped by."""
STATUS_COLUMNS: Final = (
    "machine", "name", "subscription", "resource_group", "region", "os", "size", "scale_set", "status",
    "cause", "reason", "prerequisite", "verdict", "summary", "since", "received", "age_seconds",
    "reset_count", "boot", "boots", "boots_not_attested", "resets_backwards", "reports", "open_alerts",
    "hidden_alerts", "profile", "evidence_hash",
)  # fmt: skip
HISTORY_COLUMNS: Final = ("machine", "status", "cause", "since", "until")
SHOWN: Final = 60
KINDS: Final[dict[str, CellKind]] = {"attested": "good", "failed": "bad", "stale": "warn", "silent": "warn"}

_ROWS: Final = """
WITH last AS (SELECT machine, status, cause, since FROM history WHERE until IS NULL),
open_ AS (SELECT machine, count(*) FILTER (NOT hidden) AS shown, count(*) FILTER (hidden) AS hidden
    FROM alerts GROUP BY machine)
SELECT s.machine, s.name, s.subscription, s.resource_group, s.region, s.os, s.size, s.scale_set, s.status,
    CASE s.status WHEN 'failed' THEN coalesce(s."primary", 'evidence-incomplete')
        WHEN 'cannot' THEN s.prerequisite WHEN 'silent' THEN 'extension-silent'
        WHEN 'stale' THEN CASE WHEN s.reports > 0 THEN 'evidence-stale' END END AS cause,
    CASE s.status WHEN 'failed' THEN coalesce(s.reason, 'no-report') WHEN 'cannot' THEN 'prerequisite'
        WHEN 'silent' THEN 'no-report' WHEN 'stale' THEN CASE WHEN s.reports > 0 THEN 'no-report' END
        END AS reason,
    s.prerequisite, s.verdict, s.summary,
    CASE WHEN s.status = l.status THEN l.since
        WHEN s.received IS NOT NULL THEN s.received + $stale
        WHEN s.status = 'silent' THEN s.known_since + $silent
        ELSE s.known_since END AS since,
    s.received, s.age_seconds, s.reset_count, s.boot, coalesce(b.boots, 0) AS boots,
    coalesce(b.boots_not_attested, 0) AS boots_not_attested,
    coalesce(b.resets_backwards, 0) AS resets_backwards,
    s.reports, coalesce(o.shown, 0) AS open_alerts, coalesce(o.hidden, 0) AS hidden_alerts, s.profile,
    s.evidence_hash
FROM status s LEFT JOIN last l USING (machine) LEFT JOIN boots b USING (machine)
    LEFT JOIN open_ o USING (machine)
ORDER BY list_position(['failed', 'silent', 'stale', 'cannot', 'attested'], s.status), since, s.machine
"""


def machine_rows(
    lake: Lake, now: datetime, thresholds: Thresholds | None = None
) -> tuple[pa.Table, pa.Table]:
    """Return the status of every machine with its cause, since when, its boots and its open alerts.

    Args:
        lake: The lake.
        now: The moment to judge for.
        thresholds: When evidence is too old.

    Returns:
        One row a machine, the worst first, and the table of `cvmlab.fleet.status.status_table`.
    """
    limits = thresholds or Thresholds()
    machines = known_machines(lake)
    told = reports_of(lake, machines)
    status = status_table(told, machines, now=now, thresholds=limits)
    tables = {
        "status": status,
        "history": status_history(told, now=now, thresholds=limits),
        "boots": boots_table(told, now=now),
        "alerts": _open_table(lake_alerts(lake)),
    }
    return result(connect(**tables), _ROWS, {"stale": limits.stale, "silent": limits.silent}), status


def _open_table(alerts: Iterable[Alert]) -> pa.Table:
    import pyarrow as pa

    still = [one for one in alerts if one.resolved is None]
    return pa.table(
        {
            "machine": pa.array([one.machine for one in still], pa.string()),
            "hidden": pa.array([one.suppressed_by is not None for one in still], pa.bool_()),
        }
    )


def status_object(
    lake: Lake,
    now: datetime,
    thresholds: Thresholds | None = None,
    *,
    wanted: Sequence[str] = (),
    by: str | None = None,
) -> dict[str, Any]:
    """Return what `fleet status --json` prints: plain values, times in ISO 8601.

    Args:
        lake: The lake.
        now: The moment to judge for.
        thresholds: When evidence is too old.
        wanted: Statuses to list; all where empty. Counts and scores are of all machines.
        by: One of `GROUPS` to give scores for as well.

    Raises:
        EvidenceError: A status or group is unknown, or no machine is in the lake.
    """
    limits = thresholds or Thresholds()
    odd = [one for one in wanted if one not in STATUSES]
    if odd:
        raise EvidenceError(f"there is no status {odd[0]!r}; there are {', '.join(STATUSES)}")
    if by is not None and by not in GROUPS:
        raise EvidenceError(f"machines are not grouped by {by!r}, but by {', '.join(GROUPS)}")
    rows, status = machine_rows(lake, now, limits)
    if not len(rows):
        raise EvidenceError(
            f"{lake.location}: no machine is in this lake; fill it with fleet ingest or watch"
        )
    listed = [plain(row) for row in rows.to_pylist() if not wanted or row["status"] in wanted]
    fleet = integrity_score(status).to_dict("records")[0]
    groups = integrity_score(status, by).to_dict("records") if by is not None else []
    return {
        "schema": STATUS_SCHEMA,
        "at": now.isoformat(),
        "stale_hours": limits.stale.total_seconds() / 3600,
        "silent_hours": limits.silent.total_seconds() / 3600,
        "score": float(fleet["score"]),
        "score_formula": SCORE_FORMULA,
        "counts": {word: int(fleet[word]) for word in STATUSES},
        "by": by,
        "groups": [_group(one) for one in groups],
        "machines": listed,
    }


def _group(row: Mapping[Any, Any]) -> dict[str, Any]:
    name = row["group"]
    return {
        "group": name if isinstance(name, str) else None,
        "score": float(row["score"]),
        **{word: int(row[word]) for word in ("machines", *STATUSES)},
    }


def history_object(
    lake: Lake, machine: str, now: datetime, thresholds: Thresholds | None = None
) -> dict[str, Any]:
    """Return what is known of one machine over time: its runs of one status, its evidence, its alerts.

    Args:
        lake: The lake.
        machine: Id or name, in any case.
        now: The moment to judge for.
        thresholds: When evidence is too old.

    Raises:
        EvidenceError: No machine, or more than one, is called so.
    """
    rows, _ = machine_rows(lake, now, thresholds)
    query = "SELECT * FROM rows WHERE lower(machine) = $m OR lower(name) = $m"
    found = result(connect(rows=rows), query, {"m": machine.lower()}).to_pylist()
    exact = [row for row in found if row["machine"].lower() == machine.lower()] or found
    if len(exact) != 1:
        listed = ", ".join(str(row["machine"]) for row in exact[:4])
        raise EvidenceError(
            f"{machine}: {len(exact)} machines are called so ({listed}); give the id"
            if exact
            else f"{machine}: no machine of this lake is called so; `cvmlab fleet status` lists them"
        )
    name = exact[0]["machine"]
    query = "SELECT * FROM told WHERE machine = $m AND received <= $now ORDER BY received, evidence_hash"
    told = result(
        connect(told=reports_of(lake, known_machines(lake))), query, {"m": name, "now": moment(now)}
    )
    return {
        "schema": HISTORY_SCHEMA,
        "at": now.isoformat(),
        "machine": plain(exact[0]),
        "history": [plain(row) for row in status_history(told, now=now, thresholds=thresholds).to_pylist()],
        "reports": [plain(row) for row in told.to_pylist()],
        "alerts": [alert_object(one) for one in lake_alerts(lake) if one.machine == name],
    }


def alerts_object(lake: Lake, now: datetime, *, every: bool = False) -> tuple[dict[str, Any], list[Alert]]:
    """Return what `fleet alerts --json` prints, and the alerts in it.

    Args:
        lake: The lake.
        now: The moment of asking.
        every: Also those that a rule hides and those that were resolved; they are counted in any case.
    """
    alerts = lake_alerts(lake)
    still = [one for one in alerts if one.resolved is None]
    shown = [one for one in still if one.suppressed_by is None]
    chosen = sorted(alerts if every else shown, key=lambda one: (one.opened, one.machine, one.cause))
    shared = affected(alerts)
    found = {
        "schema": ALERTS_SCHEMA,
        "at": now.isoformat(),
        "open": len(shown),
        "suppressed": len(still) - len(shown),
        "resolved": len(alerts) - len(still),
        "alerts": [alert_object(one, shared.get(one.correlation, 0)) for one in chosen],
    }
    return found, chosen


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of Arrow with its times in ISO 8601."""
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}


def age_text(seconds: float | None) -> str | None:
    """Return an age in the two largest units that say something: ``3 d 4 h``, ``12 min``."""
    if seconds is None:
        return None
    whole = timedelta(seconds=max(0, int(seconds)))
    hours, minutes = whole.seconds // 3600, whole.seconds % 3600 // 60
    if whole.days:
        return f"{whole.days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


_STATUS: Final = ("machine", "status", "cause", "since", "age", "verdict", "open_alerts")
_ALERT: Final = ("machine", "reason", "cause", "verdict", "opened", "count", "state")
_CLAIMED: Final = frozenset({"machine", "summary", "group", "name"})
_NUMBERS: Final = frozenset({"open_alerts", "boots", "reports", "count", "score", "machines", *STATUSES})


def status_document(found: Mapping[str, Any]) -> Document:
    """Return the document of `status_object`."""
    blocks: list[Block] = [
        Stats(
            (
                (str(found["score"]), "boot integrity score", ""),
                *((f"{found['counts'][word]:,}", word, KINDS.get(word, "")) for word in STATUSES),
            )
        )
    ]
    if found["by"] is not None:
        columns = ("group", "score", "machines", *STATUSES)
        blocks += [
            Heading(f"By {found['by'].replace('_', ' ')}"),
            _table(found["groups"], columns, "Lowest first"),
        ]
    blocks += [Heading("Machines"), _table(found["machines"], _STATUS, "Worst first")]
    hidden = sum(row["hidden_alerts"] for row in found["machines"])
    if hidden:
        blocks.append(Note("warning", f"{hidden:,} open alerts of these machines are hidden by rules."))
    blocks.append(Paragraph(found["score_formula"]))
    return Document("Attestation status", tuple(blocks), subtitle=found["at"])


def history_document(found: Mapping[str, Any]) -> Document:
    """Return the document of `history_object`."""
    machine = found["machine"]
    blocks: list[Block] = [
        _table(
            [machine], ("status", "cause", "since", "age", "reports", "boots", "boots_not_attested"), "Now"
        )
    ]
    if machine["summary"]:
        blocks.append(Paragraph((Cell(machine["summary"], kind="claimed"),)))
    if machine["resets_backwards"]:
        times = machine["resets_backwards"]
        text = f"The TPM's resetCount went backwards {times} times: another or a cleared TPM."
        blocks.append(Note("warning", text))
    told = ("received", "verdict", "primary", "reset_count", "evidence_hash", "summary")
    blocks += [
        Heading("Statuses"), _table(found["history"], HISTORY_COLUMNS[1:], "In order"),
        Heading("Evidence"), _table(found["reports"][::-1], told, "Last first"),
        Heading("Alerts"), _table(found["alerts"], ("cause", "opened", "resolved", "count", "why"), "All"),
    ]  # fmt: skip
    return Document(f"History of {machine['machine']}", tuple(blocks), subtitle=found["at"])


def alerts_document(found: Mapping[str, Any]) -> Document:
    """Return the document of `alerts_object`."""
    blocks: list[Block] = [
        Stats(
            (
                (f"{found['open']:,}", "open", "bad" if found["open"] else "good"),
                (f"{found['suppressed']:,}", "open, hidden by rules", "warn" if found["suppressed"] else ""),
                (f"{found['resolved']:,}", "resolved", ""),
            )
        ),
        _table(found["alerts"], _ALERT, "By when they were opened"),
    ]
    if found["suppressed"] and not any(one["suppressed_by"] for one in found["alerts"]):
        blocks.append(
            Note("warning", f"{found['suppressed']:,} open alerts are hidden by rules: --all lists them.")
        )
    return Document("Alerts: VM attestation failure", tuple(blocks), subtitle=found["at"])


def _table(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...], caption: str) -> Block:
    if not rows:
        return Paragraph(f"{caption}: none.")
    shown = tuple(tuple(_cell(name, row) for name in columns) for row in rows[:SHOWN])
    heads = tuple(name.replace("_", " ") for name in columns)
    numbers = frozenset(name.replace("_", " ") for name in columns if name in _NUMBERS)
    return Table(heads, shown, total=len(rows), caption=caption, numeric=numbers)


def _cell(name: str, row: Mapping[str, Any]) -> Cell | str | int | None:
    value = age_text(row["age_seconds"]) if name == "age" else row[name]
    if name == "state" and row["suppressed_by"] and row["resolved"] is None:
        return Cell(f"hidden by {row['suppressed_by']}", kind="claimed")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if name == "evidence_hash":
        return Cell(str(value), kind="digest")
    if name in ("since", "until", "received", "opened", "resolved"):
        return str(value)[:16].replace("T", " ")
    return Cell(str(value), kind="claimed") if name in _CLAIMED else str(value)
