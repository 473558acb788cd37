"""Every rule's applicability and state, cell by cell, against the provider's own policies.

The policies are evaluated by `azure_policy`, which shares nothing with the package. The grid is every
combination of what the policies look at, and of what they do not.
"""

from __future__ import annotations

import csv
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from azure_policy import evaluate, violated
from azure_records import extension, machine, scale_set

from cvmlab.fleet.inventory import read_inventory_bytes
from cvmlab.fleet.proven import Proven
from cvmlab.fleet.recommendations import recommend
from cvmlab.fleet.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cvmlab.fleet.recommendations import Recommendation

SECURITY_TYPES = (None, "Standard", "TrustedLaunch", "ConfidentialVM", "trustedlaunch")
# (uefi settings there, Secure Boot, vTPM)
UEFI = ((False, None, None), *((True, s, v) for s in (None, False, True) for v in (None, False, True)))
IMAGES = (
    ("Canonical", "0001-com-ubuntu-confidential-vm-focal", "20_04-lts-cvm"),
    ("canonical", "UbuntuServer", "18_04-lts-gen2"),
    ("Canonical", "0001-com-ubuntu-server-focal", "20_04-lts-gen2"),
    ("RedHat", "RHEL", "83-gen2"),
    ("SUSE", "SLES-15-SP2", "gen2"),
    ("OpenLogic", "CENTOS", "8_3-gen2"),
    ("Oracle", "Oracle-Linux", "ol83-lvm-gen2"),
    ("microsoftcblmariner", "cbl-mariner", "1-gen2"),
    ("debian", "debian-11", "11-gen2"),
    ("debian", "debian-12", "12-gen2"),
    ("Canonical", "RHEL", "83-gen2"),
    ("MicrosoftWindowsServer", "WindowsServer", "2022-datacenter-smalldisk-g2"),
)
SYSTEMS = (None, "Linux", "Windows")
LINUX, WINDOWS = "Microsoft.Azure.Security.LinuxAttestation", "Microsoft.Azure.Security.WindowsAttestation"
AGENT = {"publisher": "Microsoft.Azure.Security.Monitoring", "type": "AzureSecurityLinuxAgent"}
EXTENSIONS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"publisher": LINUX},
    {"publisher": LINUX, "state": "Provisioning succeeded"},
    {"publisher": LINUX, "state": "Failed"},
    {"publisher": LINUX, "state": None},
    {"publisher": LINUX, "type": "Other"},
    {"publisher": WINDOWS},
    {"publisher": WINDOWS, "state": "Updating"},
    {"publisher": "Somebody.Else"},
    AGENT,
    {**AGENT, "publisher": "Somebody.Else"},
)


def _policies(corpus: Path) -> dict[str, dict[str, Any]]:
    folder = corpus / "azure/Azure__azure-policy/built-in-policies/policyDefinitions/Security Center"
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*_Audit.json")}


def _cells(kind: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every configuration, and its extensions as resources of their own."""
    make, path = (machine, "virtualMachines") if kind == "vm" else (scale_set, "virtualMachineScaleSets")
    grid = itertools.product(SYSTEMS, IMAGES, SECURITY_TYPES, UEFI, EXTENSIONS)
    for number, (system, image, security, (uefi, secure, vtpm), one) in enumerate(grid):
        name = f"m{number}"
        held = [extension(machine=name, kind=path, **one)] if one is not None else []
        yield make(
            name, system=system, image=image, security_type=security, uefi=uefi, secure_boot=secure,
            vtpm=vtpm, extensions=held,
        ), held  # fmt: skip


def _results(records: list[dict[str, Any]], keys: set[str]) -> dict[tuple[str, str], Recommendation]:
    inventory = read_inventory_bytes("\n".join(map(json.dumps, records)).encode())
    assert len(inventory.machines) == len(records)
    assert not inventory.problems
    rules = {key: rule for key, rule in load_rules().items() if key in keys}
    found = recommend(inventory, rules=rules)
    return {(one.machine.resource_id, one.rule.key): one for one in found.results}


def test_rules_are_those_of_the_providers_list(corpus: Path) -> None:
    """Oracle: the reference list of recommendations, and the policies' own files."""
    rules = load_rules()
    provider = {key: rule for key, rule in rules.items() if rule.origin == "provider"}
    assert len(provider) == 10
    policies = _policies(corpus)
    listed = corpus.parent / "facts" / "recommendations.csv"
    if listed.exists():
        with listed.open(encoding="utf-8", newline="") as file:
            rows = {row["assessment_key"]: row for row in csv.DictReader(file)}
        assert {*provider} == {*rows}
        for key, row in rows.items():
            assert provider[key].name == row["recommendation_name"]
            assert provider[key].severity == row["severity"].lower()
            assert provider[key].policy.get("id", "") == row["policy_definition_id"]
    for rule in provider.values():
        if rule.policy:
            published = policies.pop(rule.policy["file"])
            assert published["name"] == rule.policy["id"]
            assert published["properties"]["displayName"] == rule.policy["name"]
            assert published["properties"]["version"] == rule.policy["version"]
    assert not policies


CONFIGURED = {
    "69ad830b-d98c-b1cf-2158-9d69d38c7093": "vm",
    "861bbc73-0a55-8d1d-efc6-e92d9e1176e0": "vm",
    "e94a7421-fc27-7a4d-e9ba-2ba01384cacd": "vm",
    "874b14bd-b49e-495a-88c6-46acb89b0a33": "vm",
    "a9a53f4f-26b6-3d68-33f3-2ec1f2452b5d": "vmss",
    "02e8ca50-0e7e-cc34-0b91-215af2904248": "vmss",
}
"""Rules whose policy looks at the configuration alone."""


def _without_last(policy: dict[str, Any]) -> dict[str, Any]:
    """The `if` of an Audit policy without its last clause, the violation: where it applies at all."""
    clauses = policy["properties"]["policyRule"]["if"]["allOf"]
    assert clauses[-1]["notequals"] == "true"
    return {"allOf": clauses[:-1]}


@pytest.mark.parametrize("kind", ["vm", "vmss"])
def test_configuration_rules_cell_by_cell(corpus: Path, kind: str) -> None:
    """In each cell the rule applies where the policy does, and finds what the policy finds."""
    rules, policies = load_rules(), _policies(corpus)
    cells = list(_cells(kind))
    results = _results([record for record, _ in cells], set(CONFIGURED))
    seen = set()
    for record, held in cells:
        for key in CONFIGURED:
            policy = policies[rules[key].policy["file"]]
            says = violated(policy, record, held)
            audit = "details" not in policy["properties"]["policyRule"]["then"]
            if audit:
                applies = evaluate(_without_last(policy), record)
                wanted = "NotApplicable" if not applies else "Unhealthy" if says else "Healthy"
            else:
                wanted = {None: "NotApplicable", True: "Unhealthy", False: "Healthy"}[says]
            found = results[record["id"], key]
            assert found.state == wanted, (rules[key].name, found.reason, record)
            assert found.judged
            seen.add((key, found.state))
    assert {key for key, k in CONFIGURED.items() if k == kind} == {
        key for key, state in seen if state == "Unhealthy"
    }


ASSESSED = {
    "0396b18c-41aa-489c-affd-4ee5d1714a59": "extension",
    "b7604066-ed76-45f9-a5c1-c97e4812dc55": "extension",
    "ad50b498-f90c-451f-886f-d0a169cc5002": "machine",
}
"""Rules whose policy only asks for the provider's assessment, of these resources."""
EVIDENCE = (
    None, Proven(), Proven("attested", True, "trusted", None, (), True, "enforced", None, "enforced"),
    Proven("failed", True, "not-trusted", "secure-boot-disabled", (), False, "not-enforced", "x"),
    Proven("inconclusive"), Proven("inconclusive", True), Proven("stale"), Proven("silent"), Proven("cannot"),
    Proven("awaited"),
)  # fmt: skip
NARROWER = {
    "0396b18c-41aa-489c-affd-4ee5d1714a59": {
        "security-type-not-stated", "not-trusted-launch-or-confidential", "no-uefi-settings",
    },
    "b7604066-ed76-45f9-a5c1-c97e4812dc55": {"evidence-not-collected", "not-yet-reported"},
    "ad50b498-f90c-451f-886f-d0a169cc5002": {"evidence-not-collected", "no-verified-evidence", "not-proven"},
}  # fmt: skip
"""Reasons for which a rule says NotApplicable though the policy applies; docs/recommendations.md says why."""


def test_assessment_rules_cell_by_cell(corpus: Path) -> None:
    """No rule applies where the policy does not; the policy finds a machine as the rule's state says."""
    rules, policies = load_rules(), _policies(corpus)
    # images do not matter here, evidence does
    cells = [cell for cell in _cells("vm") if _image(cell[0]) in (IMAGES[0], IMAGES[-1])]
    inventory = read_inventory_bytes("\n".join(json.dumps(record) for record, _ in cells).encode())
    chosen = {key: rules[key] for key in ASSESSED}
    reasons: dict[str, set[str]] = {key: set() for key in ASSESSED}
    for proven in EVIDENCE:
        given = None if proven is None else {one.machine: proven for one in inventory.machines}
        found = {
            (r.machine.resource_id, r.rule.key): r for r in recommend(inventory, given, rules=chosen).results
        }
        for record, held in cells:
            for key, about in ASSESSED.items():
                one = found[record["id"], key]
                assessment = {
                    "type": "Microsoft.Security/assessments", "name": key,
                    "properties": {"status": {"code": one.state}},
                }  # fmt: skip
                policy = policies[rules[key].policy["file"]]
                subjects = held if about == "extension" else [record]
                says = [violated(policy, subject, [assessment]) for subject in subjects]
                applies = any(answer is not None for answer in says)
                assert applies or one.state == "NotApplicable", (key, record)
                if applies:
                    assert (True in says) == (one.state == "Unhealthy")
                    if one.state == "NotApplicable":
                        reasons[key].add(one.reason)
    assert reasons == NARROWER


def _image(record: dict[str, Any]) -> tuple[str, ...]:
    reference = record["properties"]["storageProfile"]["imageReference"]
    return tuple(reference[name] for name in ("publisher", "offer", "sku"))


def test_differences_from_the_policies_are_in_the_documentation() -> None:
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "recommendations.md").read_text(encoding="utf-8")
    for reasons in NARROWER.values():
        for reason in reasons:
            assert f"`{reason}`" in page
