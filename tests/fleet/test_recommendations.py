"""Recommendations of a fleet: evidence, contradictions, the provider's word, commands, the command line."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure_records import COMPUTE, SUBSCRIPTION, extension, machine
from typer.testing import CliRunner

import cvmlab
from cvmlab.cli import app
from cvmlab.fleet.inventory import read_inventory_bytes
from cvmlab.fleet.proven import Proven, proven_by
from cvmlab.fleet.recommend_view import recommendations_document, recommendations_object
from cvmlab.fleet.recommendations import match_evidence, recommend
from cvmlab.fleet.rules import load_rules
from cvmlab.tables import check, table_named
from cvmlab.view import render_html, render_text

if TYPE_CHECKING:
    from cvmlab.fleet.inventory import Inventory
    from cvmlab.fleet.recommendations import Recommendation, Recommendations

SECURE_BOOT = "69ad830b-d98c-b1cf-2158-9d69d38c7093"
STATUS = "b7604066-ed76-45f9-a5c1-c97e4812dc55"
COMPONENTS = "ad50b498-f90c-451f-886f-d0a169cc5002"
MODULES = "e2f798b8-621a-4d46-99d7-1310e09eba26"
OWN = "cvmlab-linux-secure-boot"
WINDOWS = ("MicrosoftWindowsServer", "WindowsServer", "2022")


def _inventory(*records: dict[str, Any]) -> Inventory:
    return read_inventory_bytes("\n".join(map(json.dumps, records)).encode())


def _one(found: Recommendations, key: str) -> Recommendation:
    (one,) = [one for one in found.results if one.rule.key == key]
    return one


def _of(records: Inventory, proven: Proven) -> dict[str, Proven]:
    return {one.machine: proven for one in records.machines}


@pytest.mark.parametrize(
    ("boot", "secure_boot", "components", "modules"),
    [
        ("baseline", True, "enforced", None),
        ("secureboot_disabled", False, "not-enforced", "not-enforced"),
        ("cmdline_changed", True, "enforced", None),
        ("mix_other_vm_quote", None, None, None),
        ("mix_nonce_replayed", None, None, None),
        # register 7 still fits the quote; what was cut off is of other registers
        ("mix_log_truncated", True, None, None),
        ("tpm12", None, None, None),
    ],
)
def test_what_real_boots_prove(
    sample_data: Path, boot: str, secure_boot: bool | None, components: str | None, modules: str | None
) -> None:
    """Only of verified evidence is anything proven; what each boot is, its origin.json says."""
    boots = sample_data / "boots"
    result = cvmlab.investigate(
        boots / boot, baseline=sample_data / "baseline.json", trust_roots=[boots / "trust-root.pem"]
    )
    proven = proven_by(result)
    assert (proven.secure_boot, proven.boot_components, proven.module_signatures) == (
        secure_boot,
        components,
        modules,
    )
    assert proven.verdict == result.verdict


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("attested", "Healthy", "attested"),
        ("failed", "Unhealthy", "attestation-failed"),
        ("inconclusive", "Unhealthy", "attestation-inconclusive"),
        ("stale", "Unhealthy", "stale"),
        ("silent", "Unhealthy", "no-report"),
        ("none", "Unhealthy", "no-report"),
        ("cannot", "Unhealthy", "prerequisite"),
    ],
)
def test_status_of_attestation(status: Any, state: str, reason: str) -> None:
    records = _inventory(machine(extensions=[extension()]))
    one = _one(recommend(records, _of(records, Proven(status))), STATUS)
    assert (one.state, one.reason) == (state, reason)


def test_machine_without_evidence_in_a_fleet_with_evidence_does_not_report() -> None:
    records = _inventory(machine(extensions=[extension()]))
    assert _one(recommend(records, {}), STATUS).reason == "no-report"
    none = _one(recommend(records), STATUS)
    assert (none.state, none.reason, none.judged) == ("NotApplicable", "evidence-not-collected", False)


@pytest.mark.parametrize("configured", [True, False, None])
@pytest.mark.parametrize("proven", [True, False, None])
def test_evidence_against_configuration(configured: bool | None, proven: bool | None) -> None:
    records = _inventory(machine(system="Windows", image=WINDOWS, secure_boot=configured))
    found = recommend(records, _of(records, Proven("attested", True, secure_boot=proven)))
    one = _one(found, SECURE_BOOT)
    if configured is None or proven is None or configured == proven:
        assert not found.contradictions
    else:
        (finding,) = found.contradictions
        assert (finding.fact, finding.severity) == ("secure_boot", "low" if proven else "high")
    assert one.state == ("Healthy" if configured and proven is not False else "Unhealthy")
    wanted = {(True, True): "secure-boot-proven-on", (True, None): "secure-boot-configured-on",
              (True, False): "secure-boot-proven-off"}  # fmt: skip
    if configured:
        assert one.reason == wanted[configured, proven]


def test_vtpm_off_with_a_verified_quote_and_silence_with_an_extension_contradict() -> None:
    records = _inventory(machine(vtpm=False, extensions=[extension()]))
    found = recommend(records, _of(records, Proven("silent", True)))
    assert {one.fact for one in found.contradictions} == {"vtpm", "guest_attestation"}


def _assessment(key: str, state: str, **status: str) -> dict[str, Any]:
    return {
        "id": f"{COMPUTE}/virtualMachines/VM1/providers/Microsoft.Security/assessments/{key}",
        "name": key,
        "type": "Microsoft.Security/assessments",
        "properties": {
            "resourceDetails": {"source": "Azure", "id": f"{COMPUTE}/virtualMachines/VM1"},
            "status": {"code": state, **status},
        },
    }


@pytest.mark.parametrize(
    ("status", "comparison"),
    [
        (None, "provider-silent"),
        ({"state": "Unhealthy"}, "agree"),
        ({"state": "Healthy"}, "disagree"),
        ({"state": "NotApplicable"}, "disagree"),
        ({"state": "NotApplicable", "cause": "OffByPolicy"}, "provider-silent"),
        ({"state": "NotApplicable", "cause": "Exempt"}, "provider-silent"),
        ({"state": "Odd"}, "not-compared"),
    ],
)
def test_comparison_with_the_provider(status: dict[str, str] | None, comparison: str) -> None:
    rows = [machine(system="Windows", image=WINDOWS, secure_boot=False)]
    rows += [_assessment(SECURE_BOOT, **status)] if status else []
    one = _one(recommend(_inventory(*rows)), SECURE_BOOT)
    assert one.comparison == comparison


def test_the_providers_last_word_counts_and_what_is_not_judged_is_not_compared() -> None:
    rows = [
        machine(system="Windows", image=WINDOWS, secure_boot=False),
        _assessment(SECURE_BOOT, "Unhealthy", statusChangeDate="2024-02-01T00:00:00Z"),
        _assessment(SECURE_BOOT, "Healthy", statusChangeDate="2024-01-01T00:00:00Z"),
        _assessment(COMPONENTS, "Healthy"),
    ]
    found = recommend(_inventory(*rows))
    assert _one(found, SECURE_BOOT).comparison == "agree"
    linux = recommend(_inventory(machine(), _assessment(COMPONENTS, "Healthy")))
    assert _one(linux, COMPONENTS).comparison == "not-compared"


def test_assessments_of_machines_that_are_not_there_are_said() -> None:
    found = recommend(_inventory(machine("vm2"), _assessment(SECURE_BOOT, "Healthy")))
    assert [one.key for one in found.unmatched] == [SECURE_BOOT]


@pytest.mark.parametrize("name", ["vm1", "vm $(reboot)", "vm'; rm -rf /", "a b"])
def test_commands_are_quoted(name: str) -> None:
    record = machine(secure_boot=False)
    record["name"] = name
    one = _one(recommend(_inventory(record)), OWN)
    assert one.command is not None
    assert shlex.split(one.command) == [
        "az", "vm", "update", "--subscription", SUBSCRIPTION, "--resource-group", "myrg", "--name", name,
        "--enable-secure-boot", "true",
    ]  # fmt: skip


def test_no_command_for_options_in_names_or_other_clouds() -> None:
    record = machine(secure_boot=False)
    record["name"] = "--yes"
    assert _one(recommend(_inventory(record)), OWN).command is None
    text = b"name,os,security type,secure boot,cloud\nx,Linux,TDX,off,gcp\n"
    one = _one(recommend(read_inventory_bytes(text)), OWN)
    assert (one.state, one.command) == ("Unhealthy", None)


def test_cloud_in_columns_without_extensions_is_not_judged_about_them() -> None:
    text = b"name,os,security type,secure boot,vtpm\nx,Linux,SEV-SNP,on,on\n"
    found = recommend(read_inventory_bytes(text))
    one = _one(found, "e94a7421-fc27-7a4d-e9ba-2ba01384cacd")
    assert (one.state, one.reason, one.judged) == ("NotApplicable", "extensions-not-collected", False)


def test_provider_and_own_rules_never_both_find_a_machine_without_secure_boot() -> None:
    agent = extension(publisher="Microsoft.Azure.Security.Monitoring", type="AzureSecurityLinuxAgent")
    for held in ([], [agent]):
        found = recommend(_inventory(machine(secure_boot=False, extensions=held)))
        keys = {one.rule.key for one in found.unhealthy if one.reason.startswith("secure-boot")}
        assert keys == ({"0396b18c-41aa-489c-affd-4ee5d1714a59"} if held else {OWN})


def test_tables_object_and_documents_say_the_same() -> None:
    hostile = machine("a", secure_boot=False) | {"name": "<script>\x1b[31m\u202e"}
    records = _inventory(hostile, machine("b", extensions=[extension()]), _assessment(STATUS, "Healthy"))
    found = recommend(
        records, _of(records, Proven("failed", True, "not-trusted", "kernel-changed", (), False))
    )
    assert check(found.frame(), table_named("recommendations")).empty
    assert check(found.contradictions_frame(), table_named("contradictions")).empty
    whole = json.loads(json.dumps(recommendations_object(found)))
    assert len(whole["results"]) == len(found.frame()) == 2 * len(load_rules())
    assert sum(sum(rule["counts"].values()) for rule in whole["rules"]) == len(found.results)
    page, text = render_html(recommendations_document(found)), render_text(recommendations_document(found))
    assert "<script>\x1b" not in page
    assert "\x1b[31m" not in text
    for part in (page, text):
        assert "Evidence against configuration" in part
        assert "kernel-changed" in part


def test_evidence_is_matched_by_any_name_and_only_if_it_fits_one() -> None:
    records = _inventory(machine("a"), machine("b"))
    first, second = (one.machine for one in records.machines)
    names = ["A", second.upper(), "c", "C52D9F06-1FBD-4F6A-A0E7-9A3B4C1D2E3F"]
    found, problems = match_evidence(records, names)
    assert found == {"A": first, second.upper(): second}
    assert ["fits 0" in problems[0], "fits 2" in problems[1]] == [True, True]


@pytest.fixture
def files(tmp_path: Path, sample_data: Path) -> list[str]:
    (tmp_path / "vms.json").write_text(json.dumps({"data": [machine("secureboot_disabled", extensions=[])]}))
    (tmp_path / "defender.json").write_text(json.dumps({"value": [_assessment(STATUS, "Healthy")]}))
    boots = sample_data / "boots"
    return [
        "fleet", "recommend", str(tmp_path / "vms.json"), "--assessments", str(tmp_path / "defender.json"),
        "--evidence", str(boots / "secureboot_disabled"), "--baseline", str(sample_data / "baseline.json"),
        "--trust-root", str(boots / "trust-root.pem"),
    ]  # fmt: skip


def test_command_line_with_a_real_boot_against_its_configuration(files: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*files, "--json", "--html", str(tmp_path / "r.html")])
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert found["schema"] == "cvmlab.recommendations/1"
    (finding,) = found["contradictions"]
    assert (finding["fact"], finding["configured"], finding["proven"]) == ("secure_boot", "on", "off")
    states = {row["key"]: (row["state"], row["reason"]) for row in found["results"]}
    assert states[COMPONENTS] == ("Unhealthy", "signatures-not-enforced")
    assert states[MODULES] == ("Unhealthy", "module-signatures-not-enforced")
    assert states[OWN] == ("Unhealthy", "secure-boot-proven-off")
    assert len(found["unmatched_assessments"]) == 1
    assert "Evidence against configuration" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_command_line_csv_text_and_errors(files: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*files[:3], "--csv"])
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == len(load_rules())
    text = CliRunner().invoke(app, files[:3])
    assert "No evidence was given" in text.stdout
    (tmp_path / "odd.json").write_text("[1]")
    assert CliRunner().invoke(app, [*files[:2], str(tmp_path / "odd.json")]).exit_code != 0


def test_command_line_goes_on_past_evidence_that_fits_no_machine(files: list[str], tmp_path: Path) -> None:
    """A folder of evidence: one fits, one is of nobody, one is no evidence."""
    import shutil

    boots = tmp_path / "boots"
    source = Path(files[6])
    for name in ("secureboot_disabled", "stranger"):
        shutil.copytree(source, boots / name)
    (boots / "empty").mkdir()
    done = CliRunner().invoke(app, [*files[:6], str(boots), *files[7:], "--json"])
    assert done.exit_code == 1
    assert "'stranger' fits 0 machines" in done.stderr
    assert len(json.loads(done.stdout)["contradictions"]) == 1


def test_sentences_of_machines_with_the_same_decision_name_their_own_facts(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        '[[rule]]\nkey = "place"\nname = "Place"\nseverity = "low"\n'
        '[[rule.step]]\nname = "os"\nrequire = {field = "os", equals = "Windows"}\notherwise = "Unhealthy"\n'
        'reason = "linux"\ntext = "In {region}."\n[[rule.healthy]]\nreason = "fine"\ntext = "Fine."\n'
    )
    records = _inventory(machine("a"), machine("b") | {"location": "eastus"})
    found = recommend(records, rules=[tmp_path / "r.toml"])
    assert [one.explanation for one in found.results if one.rule.key == "place"] == [
        "In westeurope.",
        "In eastus.",
    ]


@pytest.mark.parametrize(
    ("word", "state"),
    [("true", "Unhealthy"), (True, "Unhealthy"), ("false", "Healthy"), (None, "Healthy")],
)
def test_silenced_alerts_are_found(word: object, state: str) -> None:
    """Setting: the provider's deploy policy writes `disableAlerts` inside `AttestationConfig`."""
    one = extension()
    one["properties"]["settings"]["AttestationConfig"]["disableAlerts"] = word
    found = _one(recommend(_inventory(machine(extensions=[one]))), "cvmlab-alerts-not-silenced")
    assert found.state == state
