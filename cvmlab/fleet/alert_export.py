"""Alerts for other programs: JSON lines, and records of Microsoft.Security alerts, 2022-01-01."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Final

from cvmlab.explain.catalogue import catalogue
from cvmlab.fleet.alerts import SEVERITY, TITLE, alerts_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from cvmlab.fleet.alerts import Alert

SCHEMA: Final = "cvmlab.alert/1"
VENDOR: Final = "cvmlab"
COLUMNS: Final = (
    "alert", "state", "machine", "name", "reason", "cause", "verdict", "severity", "cause_severity", "opened",
    "resolved", "event", "at", "episode", "count", "affected_machines", "correlation", "suppressed_by",
    "why", "summary", "evidence_hash",
)  # fmt: skip
"""Columns of `alert_object` in a table."""


def alert_object(alert: Alert, affected: int | None = None) -> dict[str, object]:
    """Return an alert as the JSON object that hooks and JSON lines carry.

    Args:
        alert: The alert.
        affected: Machines that have an open alert with the same reason and cause, where counted.
    """
    values = {name: getattr(alert, name) for name in alerts_schema().names}
    values |= {name: _iso(values[name]) for name in ("at", "opened", "resolved")}
    return {
        "schema": SCHEMA,
        "title": TITLE,
        "severity": SEVERITY,
        "state": "open" if alert.resolved is None else "resolved",
        "affected_machines": affected,
        **values,
    }


def json_lines(alerts: Iterable[Alert], shared: Mapping[str, int] | None = None) -> str:
    """Return one JSON object a line, with a newline at the end of each.

    Args:
        alerts: The alerts.
        shared: What `cvmlab.fleet.alerts.affected` returns, where counted.
    """
    counted = shared or {}
    return "".join(json.dumps(alert_object(one, counted.get(one.correlation))) + "\n" for one in alerts)


def provider_object(alert: Alert, alert_type: str | None, location: str = "") -> dict[str, object]:
    """Return an alert as a resource of Microsoft.Security alerts (REST, 2022-01-01).

    Args:
        alert: The alert.
        alert_type: The type to state. The provider does not publish its own for this alert, so none is made
            up: ``alertType`` is left out where None.
        location: Location for the id; left out of it where empty.

    Returns:
        The resource. ``productName`` says that cvmlab raised it. What has no place there is in
        ``extendedProperties``. ``resourceIdentifiers`` is empty where the machine is no resource id.
    """
    parts = alert.machine.split("/")
    azure = len(parts) > 2 and parts[1] == "subscriptions"
    scope = f"/subscriptions/{parts[2]}" if azure else ""
    within = f"locations/{location}/" if location else ""
    entry = catalogue().get(alert.cause)
    status = "Dismissed" if alert.suppressed_by else "Active"
    body: dict[str, object] = {
        "version": "2022-01-01",
        "alertType": alert_type,
        "systemAlertId": alert.alert,
        "productComponentName": "guest attestation",
        "alertDisplayName": TITLE,
        "description": alert.summary,
        "severity": SEVERITY.capitalize(),
        "intent": "Unknown",
        "startTimeUtc": _iso7(alert.opened),
        "endTimeUtc": _iso7(alert.resolved or alert.at),
        "resourceIdentifiers": [{"type": "AzureResource", "azureResourceId": alert.machine}] if azure else [],
        "remediationSteps": [entry.next_step] if entry is not None and entry.next_step else [],
        "vendorName": VENDOR,
        "status": "Resolved" if alert.resolved is not None else status,
        "extendedLinks": [],
        "timeGeneratedUtc": _iso7(alert.opened),
        "processingEndTimeUtc": _iso7(alert.at),
        "productName": VENDOR,
        "entities": [],
        "isIncident": False,
        "correlationKey": alert.correlation,
        "extendedProperties": {
            "reason": alert.reason,
            "cause": alert.cause,
            "causeSeverity": alert.cause_severity,
            "verdict": alert.verdict or "",
            "episode": str(alert.episode),
            "evidenceCount": str(alert.count),
            "evidenceHash": alert.evidence_hash or "",
            "suppressedBy": alert.suppressed_by or "",
        },
        "compromisedEntity": alert.name or alert.machine.rpartition("/")[2],
    }
    if alert_type is None:
        del body["alertType"]
    return {
        "id": f"{scope}/providers/Microsoft.Security/{within}alerts/{alert.alert}",
        "name": alert.alert,
        "type": "Microsoft.Security/Locations/alerts",
        "properties": body,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None


def _iso7(moment: datetime) -> str:
    """The provider writes seven digits of a second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"
