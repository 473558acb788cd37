"""Assessments, alerts and suppression rules: the provider's own examples, and every other export of them."""

from __future__ import annotations

import copy
import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from azure_records import COMPUTE, SUBSCRIPTION, cased

from cvmlab.fleet.inventory import read_inventory, read_inventory_bytes

if TYPE_CHECKING:
    from pathlib import Path

SPECS = "azure/Azure__azure-rest-api-specs/specification/security/resource-manager/Microsoft.Security"
EXAMPLES = (
    "stable/2020-01-01/examples/Assessments/ListAssessments_example.json",
    "stable/2020-01-01/examples/Assessments/GetAssessmentWithExpand_example.json",
    "stable/2022-01-01/examples/Alerts/GetAlertsSubscriptionsLocation_example.json",
    "stable/2025-05-04/examples/AssessmentsMetadata/ListAssessmentsMetadata_example.json",
    "preview/2019-01-01-preview/examples/AlertsSuppressionRules/GetAlertsSuppressionRules_example.json",
)
KEY = "69ad830b-d98c-b1cf-2158-9d69d38c7093"
MACHINE = f"{COMPUTE}/virtualMachines/VM1"


def _body(corpus: Path, example: str) -> Any:
    return json.loads((corpus / SPECS / example).read_text())["responses"]["200"]["body"]


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("unwrapped", [False, True], ids=["as-published", "answer-alone"])
def test_the_providers_examples_are_read_without_loss(
    corpus: Path, example: str, unwrapped: bool, tmp_path: Path
) -> None:
    body = _body(corpus, example)
    wanted = body.get("value", [body])
    path = corpus / SPECS / example
    if unwrapped:
        path = tmp_path / "answer.json"
        path.write_text(json.dumps(body))
    inventory = read_inventory(path)
    assert not any(problem.fatal for problem in inventory.problems)
    read = (*inventory.assessments, *inventory.alerts, *inventory.suppressions, *inventory.other)
    assert [one.raw for one in read] == [(one,) for one in wanted]
    for table in ("assessments", "provider_alerts", "suppressions"):
        for text in inventory.frame(table)["raw"]:
            assert json.loads(text)[0] in wanted


@pytest.mark.parametrize("path", ["Security Center", "Trusted Launch"])
def test_the_providers_policies_are_kept_whole(corpus: Path, path: str) -> None:
    folder = next((corpus / "azure/Azure__azure-policy/built-in-policies").glob(f"*/{path}"))
    files = sorted(folder.glob("*.json"))
    inventory = read_inventory(*files)
    assert files
    assert [one.raw for one in inventory.other] == [(json.loads(f.read_text()),) for f in files]
    assert all("policy" in one.type for one in inventory.other)


def test_every_field_of_the_assessment_example(corpus: Path) -> None:
    body = _body(corpus, EXAMPLES[1])
    (one,) = read_inventory_bytes(json.dumps(body).encode()).assessments
    status = body["properties"]["status"]
    assert one.machine == body["properties"]["resourceDetails"]["id"].lower()
    assert (one.key, one.name) == (body["name"], body["properties"]["displayName"])
    assert (one.state, one.cause, one.description) == (status["code"], status["cause"], status["description"])
    # seven digits of a fraction stay
    assert (one.first_evaluated, one.changed) == (status["firstEvaluationDate"], status["statusChangeDate"])
    assert json.loads(one.additional_data or "") == body["properties"]["additionalData"]
    assert (one.provider, one.subscription) == ("azure", SUBSCRIPTION)


def test_every_field_of_the_alert_example(corpus: Path) -> None:
    body = _body(corpus, EXAMPLES[2])
    inventory = read_inventory_bytes(json.dumps(body).encode())
    for one, record in zip(inventory.alerts, body["value"], strict=True):
        inner = record["properties"]
        assert one.alert == inner["systemAlertId"]
        assert one.machine == inner["resourceIdentifiers"][0]["azureResourceId"].lower()
        assert (one.alert_type, one.title) == (inner["alertType"], inner["alertDisplayName"])
        assert (one.severity, one.status, one.intent) == (inner["severity"], inner["status"], inner["intent"])
        assert (one.started, one.generated) == (inner["startTimeUtc"], inner["timeGeneratedUtc"])
        assert json.loads(one.extended_properties or "") == inner["extendedProperties"]


@pytest.mark.parametrize("spelling", ["Utc", "UTC"])
def test_suppression_rules_in_both_spellings(corpus: Path, spelling: str) -> None:
    rows = _body(corpus, EXAMPLES[4])["value"]
    text = json.dumps(rows).replace("lastModifiedUtc", f"lastModified{spelling}")
    text = text.replace("expirationDateUtc", f"expirationDate{spelling}")
    inventory = read_inventory_bytes(text.encode())
    assert not inventory.problems
    for one, record in zip(inventory.suppressions, rows, strict=True):
        inner = record["properties"]
        assert (one.rule, one.alert_type, one.state) == (record["name"], inner["alertType"], inner["state"])
        assert one.expires == inner["expirationDateUtc"]
        assert one.modified == inner["lastModifiedUtc"]
        assert one.scope == tuple(inner.get("suppressionAlertsScope", {}).get("allOf", ()))
        assert one.subscription == SUBSCRIPTION


@pytest.mark.parametrize(
    "change",
    [
        {"suppressionAlertsScope": "everything"},
        {"suppressionAlertsScope": {"anyOf": []}},
        {"suppressionAlertsScope": {"allOf": ["field"]}},
        {"expirationDateUtc": "soon"},
    ],
    ids=["scope_text", "scope_without_allof", "scope_of_texts", "expiry_no_time"],
)
def test_suppression_rule_that_would_hide_more_than_meant_is_left_out(
    corpus: Path, change: dict[str, object]
) -> None:
    record = copy.deepcopy(_body(corpus, EXAMPLES[4])["value"][0])
    record["properties"] |= change
    inventory = read_inventory_bytes(json.dumps(record).encode())
    assert not inventory.suppressions
    assert any(problem.fatal for problem in inventory.problems)


def _graph_row(state: str = "Unhealthy", **changes: Any) -> dict[str, Any]:
    """A row of securityresources: letter case and further columns as the provider's published queries use."""
    properties = {
        "resourceDetails": {"Source": "Azure", "Id": f" {MACHINE} "},
        "displayName": "Secure Boot should be enabled on supported Windows virtual machines",
        "status": {
            "code": state, "cause": "Exempt", "firstEvaluationDate": "2024-01-01T00:00:00.0000001Z",
            "statusChangeDate": "2024-01-02T00:00:00Z",
        },
        "metadata": {"severity": "Low", "policyDefinitionId": "/Providers/X"},
        "links": {"azurePortal": "portal.azure.com/x"},
    } | changes  # fmt: skip
    return {
        "id": f"{MACHINE}/providers/Microsoft.Security/assessments/{KEY}",
        "name": KEY,
        "type": "microsoft.security/assessments",
        "tenantId": "t",
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": "myrg",
        "properties": properties,
    }


def _flat_rows() -> dict[str, dict[str, Any]]:
    times = {
        "FirstEvaluationDate": "2024-01-01T00:00:00.0000001Z",
        "StatusChangeDate": "2024-01-02T00:00:00Z",
    }
    return {
        "resource-graph": _graph_row(),
        "resource-graph-text": _graph_row() | {"properties": json.dumps(_graph_row()["properties"])},
        "continuous-export": _graph_row() | {"AssessmentEventDataEnrichment": {"Action": "Insert"}},
        "upper-case": cased(_graph_row(), str.upper),
        "log-analytics": {
            "AssessedResourceId": MACHINE, "RecommendationId": f"{MACHINE}/providers/x/assessments/{KEY}",
            "RecommendationDisplayName": "Secure Boot", "RecommendationState": "Unhealthy",
            "RecommendationSeverity": "Low", "PolicyDefinitionId": "/providers/x", "Environment": "Azure",
            "Type": "SecurityRecommendation", **times,
        },
        "fleet-query": {
            "resourceId": MACHINE.lower(), "subscriptionId": SUBSCRIPTION, "assessmentKey": KEY,
            "name": "Secure Boot", "state": "Unhealthy", "cause": "Exempt", "severity": "Low",
            "firstSeen": times["FirstEvaluationDate"], "changed": times["StatusChangeDate"],
        },
        "starter-kit-query": {
            "AssessmentID": KEY, "DisplayName": "x", "StatusCode": "Unhealthy", "Severity": "Low",
            "id": f"{MACHINE}/providers/Microsoft.Security/assessments/{KEY}", "PolicyDefID": "/providers/x",
            **times,
        },
    }  # fmt: skip


@pytest.mark.parametrize("shape", _flat_rows())
@pytest.mark.parametrize("as_csv", [False, True], ids=["json", "csv"])
def test_an_assessment_reads_the_same_in_every_export(shape: str, as_csv: bool) -> None:
    row = _flat_rows()[shape]
    data = json.dumps([row]).encode()
    if as_csv:
        out = io.StringIO()
        writer = csv.DictWriter(out, row)
        writer.writeheader()
        writer.writerow({k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()})
        data = out.getvalue().encode()
    inventory = read_inventory_bytes(data)
    assert not inventory.problems, inventory.problems
    (one,) = inventory.assessments
    assert (one.machine, one.key, one.state, one.severity) == (MACHINE.lower(), KEY, "Unhealthy", "Low")
    assert (one.first_evaluated, one.changed) == ("2024-01-01T00:00:00.0000001Z", "2024-01-02T00:00:00Z")
    assert one.subscription == SUBSCRIPTION


@pytest.mark.parametrize("source", ["Aws", "Gcp"])
def test_resources_of_other_clouds_have_their_id_elsewhere(source: str) -> None:
    details = {"Source": source, "Id": "arn:aws:ec2", "AzureResourceId": f"{MACHINE}"}
    (one,) = read_inventory_bytes(json.dumps(_graph_row(resourceDetails=details)).encode()).assessments
    assert (one.machine, one.provider) == (MACHINE.lower(), source.lower())


def test_without_details_the_id_names_the_resource() -> None:
    (one,) = read_inventory_bytes(json.dumps(_graph_row(resourceDetails=None)).encode()).assessments
    assert one.machine == MACHINE.lower()


@pytest.mark.parametrize("state", ["Not applicable", "notApplicable", "HEALTHY", "Odd", None])
def test_states(state: str | None) -> None:
    inventory = read_inventory_bytes(json.dumps(_graph_row(state=state)).encode())  # type: ignore[arg-type]
    wanted = {"Not applicable": "NotApplicable", "notApplicable": "NotApplicable", "HEALTHY": "Healthy"}
    assert inventory.assessments[0].state == wanted.get(state or "")
    assert bool(inventory.problems) == (state not in wanted)


def test_joined_query_tells_of_the_machine_too() -> None:
    row = _flat_rows()["fleet-query"] | {
        "location": "westeurope", "vmSize": "Standard_DC2as_v5", "osType": "Windows", "vTpm": True,
        "securityType": "ConfidentialVM", "secureBoot": False, "diskEncryption": "VMGuestStateOnly",
    }  # fmt: skip
    inventory = read_inventory_bytes(json.dumps({"data": [row]}).encode())
    (found,) = inventory.machines
    assert (found.machine, found.os, found.security_type) == (MACHINE.lower(), "Windows", "ConfidentialVM")
    assert (found.secure_boot, found.vtpm, found.disk_encryption) == (False, True, "VMGuestStateOnly")
    assert len(inventory.assessments) == 1


ALERT = {
    "VendorName": "Microsoft", "AlertType": "X_Y", "StartTimeUtc": "2016-12-20T13:38:00.000Z",
    "TimeGenerated": "2016-12-20T13:38:03.000Z", "Severity": "Medium", "Status": "New",
    "SystemAlertId": "2342409243234234_F2BFED55", "AzureResourceId": MACHINE, "CompromisedEntity": "VM1",
    "AlertDisplayName": "Attestation failed your virtual machine", "ExtendedProperties": {"PID": 944},
    "ResourceIdentifiers": [{"Type": "AzureResource", "AzureResourceId": MACHINE}],
}  # fmt: skip
TABLE_ALERT = {
    "TimeGenerated": "2016-12-20T13:38:03.000Z", "DisplayName": "Attestation failed your virtual machine",
    "AlertName": "x", "AlertSeverity": "Medium", "AlertType": "X_Y", "ResourceId": MACHINE,
    "StartTime": "2016-12-20T13:38:00.000Z", "Status": "New", "SystemAlertId": "2342409243234234_F2BFED55",
    "CompromisedEntity": "VM1", "ExtendedProperties": '{"PID": 944}', "Entities": "[]",
    "Type": "SecurityAlert",
}  # fmt: skip


@pytest.mark.parametrize("record", [ALERT, TABLE_ALERT], ids=["continuous-export", "log-analytics"])
def test_an_alert_reads_the_same_in_every_export(record: dict[str, Any]) -> None:
    inventory = read_inventory_bytes(json.dumps(record).encode())
    assert not inventory.problems
    (one,) = inventory.alerts
    assert (one.alert, one.machine) == ("2342409243234234_F2BFED55", MACHINE.lower())
    assert (one.alert_type, one.severity, one.status) == ("X_Y", "Medium", "New")
    assert one.title == "Attestation failed your virtual machine"
    assert (one.started, one.generated) == ("2016-12-20T13:38:00.000Z", "2016-12-20T13:38:03.000Z")
    assert json.loads(one.extended_properties or "") == {"PID": 944}
    assert one.raw == (record,)
