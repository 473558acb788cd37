"""Assessments, alerts and suppression rules of Defender for Cloud, in every shape that users export.

Sources: Microsoft.Security REST specification (assessments 2020-01-01 to 2025-05-04, alerts 2022-01-01,
alertsSuppressionRules 2019-01-01-preview), the schemas of continuous export, the tables
SecurityRecommendation and SecurityAlert of Log Analytics, and Resource Graph's ``securityresources``, whose
letter case differs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.fleet.inventory.fields import to_json
from cvmlab.fleet.inventory.model import ProviderAlert, ProviderAssessment, ProviderSuppression
from cvmlab.fleet.inventory.resources import subscription_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.fleet.inventory.fields import Fields
    from cvmlab.fleet.inventory.model import Origin, State

ASSESSMENT: Final = "microsoft.security/assessments"
SUPPRESSION: Final = "microsoft.security/alertssuppressionrules"
ALERTS: Final = frozenset({"microsoft.security/locations/alerts", "microsoft.security/alerts"})
MAX_RESOURCES: Final = 1024
_STATES: Final[dict[str, State]] = {
    "healthy": "Healthy",
    "unhealthy": "Unhealthy",
    "notapplicable": "NotApplicable",
}
_RULE_STATES: Final[dict[str, Literal["Enabled", "Disabled", "Expired"]]] = {
    "enabled": "Enabled",
    "disabled": "Disabled",
    "expired": "Expired",
}
_KEY: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_flat_assessment(record: Fields) -> bool:
    """Say whether a row is an assessment: of SecurityRecommendation, or of a query that laid it flat."""
    return (record.has("AssessedResourceId") and record.has("RecommendationState")) or (
        any(record.has(name) for name in ("assessmentKey", "AssessmentID", "recommendationId"))
        and any(record.has(name) for name in ("state", "StatusCode", "recommendationState", "status"))
    )


def is_flat_alert(record: Fields) -> bool:
    """Say whether a row is an alert: of continuous export or of SecurityAlert."""
    return record.has("SystemAlertId") and (record.has("AlertType") or record.has("AlertName"))


def assessment_of(record: Fields, origin: Origin) -> ProviderAssessment | None:
    """Read an assessment resource; None, and a problem, where it names no resource or no key."""
    body = record.sub("properties")
    status = body.sub("status") if body else None
    details = body.sub("resourceDetails") if body else None
    metadata = body.sub("metadata") if body else None
    identity = record.text("id") or ""
    source = details.text("source") if details else None
    names = ("azureResourceId", "id") if (source or "azure").lower() != "azure" else ("id", "azureResourceId")
    machine = (details.text(*names) if details else None) or _before(
        identity, "/providers/microsoft.security/"
    )
    key = (record.text("name") or identity.rpartition("/")[2]).lower()
    return _assessment(
        record,
        origin,
        machine=machine,
        key=key,
        state=status.text("code") if status else None,
        name=body.text("displayName") if body else None,
        cause=status.text("cause") if status else None,
        description=status.text("description") if status else None,
        severity=metadata.text("severity") if metadata else None,
        policy=metadata.text("policyDefinitionId") if metadata else None,
        first=status.time("firstEvaluationDate") if status else None,
        changed=status.time("statusChangeDate") if status else None,
        provider=source,
        subscription=record.text("subscriptionId"),
        additional=body.json("additionalData") if body else None,
    )


def flat_assessment(record: Fields, origin: Origin) -> ProviderAssessment | None:
    """Read an assessment that stands in columns.

    ``RecommendationId`` is a path that ends in the key. A query's own names count: ``resourceId`` or ``id``,
    ``assessmentKey``, ``state`` and those of the provider's published queries.
    """
    identity = (
        record.text("RecommendationId", "recommendationId", "assessmentKey", "AssessmentID", "id") or ""
    )
    key = identity.rpartition("/")[2].lower()
    if not _KEY.fullmatch(key):
        key = (record.text("assessmentKey", "RecommendationName", "name") or key).lower()
    machine = record.text("AssessedResourceId", "resourceId", "id", "ResourceName")
    return _assessment(
        record,
        origin,
        machine=_before(machine or "", "/providers/microsoft.security/") or machine,
        key=key,
        state=record.text("RecommendationState", "state", "StatusCode", "status"),
        name=record.text("RecommendationDisplayName", "displayName", "recommendationName", "name"),
        cause=record.text("cause", "StatusCause"),
        description=record.text("StatusDescription"),
        severity=record.text("RecommendationSeverity", "severity"),
        policy=record.text("PolicyDefinitionId", "PolicyDefID"),
        first=record.time("FirstEvaluationDate", "firstSeen"),
        changed=record.time("StatusChangeDate", "changed"),
        provider=record.text("Environment", "source"),
        subscription=record.text("subscriptionId"),
        additional=record.json("RecommendationAdditionalData"),
    )


def _assessment(
    record: Fields,
    origin: Origin,
    *,
    machine: str | None,
    key: str,
    state: str | None,
    name: str | None,
    cause: str | None,
    description: str | None,
    severity: str | None,
    policy: str | None,
    first: str | None,
    changed: str | None,
    provider: str | None,
    subscription: str | None,
    additional: str | None,
) -> ProviderAssessment | None:
    if not machine or not key:
        record.note("assessment", "names no resource or no key and is left out", fatal=True)
        return None
    word = re.sub(r"[\s_-]", "", state or "").lower()
    if word not in _STATES:
        record.note("status.code", f"{state!r} is no state that is known; it counts as none")
    return ProviderAssessment(
        machine=machine.lower(),
        key=key,
        name=name,
        state=_STATES.get(word),
        cause=cause,
        description=description,
        severity=severity,
        policy=policy.lower() if policy else None,
        first_evaluated=first,
        changed=changed,
        provider=provider.lower() if provider else None,
        subscription=subscription_of(machine) or (subscription.lower() if subscription else None),
        additional_data=additional,
        origin=origin,
        raw=(record.value,),
    )


def _before(identity: str, mark: str) -> str | None:
    at = identity.lower().find(mark)
    return identity[:at] if at > 0 else None


def alert_of(record: Fields, origin: Origin) -> ProviderAlert | None:
    """Read an alert: resource, continuous export or row of SecurityAlert. None where it has no id."""
    body = record.sub("properties") if record.has("properties") and not record.has("SystemAlertId") else None
    body = body or record
    alert = body.text("systemAlertId") or record.text("name")
    if not alert:
        record.note("systemAlertId", "absent: an alert without an id is left out", fatal=True)
        return None
    resources = _resources(body)
    entity = body.text("compromisedEntity")
    return ProviderAlert(
        alert=alert,
        machine=next((one for one in resources if "/virtualmachine" in one), None)
        or (resources[0] if resources else (entity or "").lower()),
        alert_type=body.text("alertType"),
        title=body.text("alertDisplayName", "DisplayName", "AlertName"),
        description=body.text("description"),
        severity=body.text("severity", "AlertSeverity", "ReportedSeverity"),
        status=body.text("status"),
        intent=body.text("intent", "Tactics"),
        compromised_entity=entity,
        started=body.time("startTimeUtc", "StartTime"),
        ended=body.time("endTimeUtc", "EndTime"),
        generated=body.time("timeGeneratedUtc", "TimeGenerated"),
        resources=resources,
        extended_properties=body.json("extendedProperties"),
        origin=origin,
        raw=(record.value,),
    )


def _resources(body: Fields) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in ("AzureResourceId", "ResourceId"):
        identity = body.text(name) if body.has(name) else None
        if identity:
            found[identity.lower()] = None
    for number, one in enumerate(body.objects("resourceIdentifiers")):
        if number == MAX_RESOURCES:
            body.note("resourceIdentifiers", f"more than {MAX_RESOURCES}; the rest is left out", fatal=True)
            break
        identity = one.text("azureResourceId")
        if identity:
            found[identity.lower()] = None
    return tuple(found)


def suppression_of(record: Fields, origin: Origin) -> ProviderSuppression | None:
    """Read a suppression rule; ``…Utc`` and ``…UTC`` count alike. None where it has no name.

    A rule whose scope cannot be read would hide more than it should, so it is left out too.
    """
    body = record.sub("properties") if record.has("properties") else None
    body = body or record
    name = record.text("name") or (record.text("id") or "").rpartition("/")[2]
    if not name:
        record.note("name", "absent: a rule without a name is left out", fatal=True)
        return None
    scope: tuple[Mapping[str, object], ...] = ()
    if body.has("suppressionAlertsScope"):
        given = body.sub("suppressionAlertsScope")
        parts = given.get("allOf") if given else None
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            record.note("suppressionAlertsScope", "cannot be read, so the rule is left out", fatal=True)
            return None
        scope = tuple(parts)
    expires = body.time("expirationDateUtc")
    if expires is None and body.has("expirationDateUtc"):
        record.note("expirationDateUtc", "cannot be read, so the rule is left out", fatal=True)
        return None
    state = body.text("state")
    return ProviderSuppression(
        rule=name,
        subscription=subscription_of(record.text("id") or ""),
        alert_type=body.text("alertType"),
        state=_RULE_STATES.get((state or "").lower()),
        reason=body.text("reason"),
        comment=body.text("comment"),
        expires=expires,
        modified=body.time("lastModifiedUtc"),
        scope=scope,
        scope_json=to_json(body.get("suppressionAlertsScope"))
        if body.has("suppressionAlertsScope")
        else None,
        origin=origin,
        raw=(record.value,),
    )
