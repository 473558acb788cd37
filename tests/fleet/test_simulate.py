"""The simulated fleet: what it says is wrong is what the product finds; it says that it is simulated."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvmlab.baseline.learn import learn_baseline
from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.evidence.directory import evidence_of
from cvmlab.evidence.sources import RawFile
from cvmlab.fleet.evaluate import evaluate_batch, evidence_schema
from cvmlab.fleet.inventory import read_inventory, read_inventory_bytes
from cvmlab.fleet.recommendations import recommend
from cvmlab.fleet.simulate import FAULTS, Fleet, machines
from cvmlab.fleet.simulate_records import assessments_page, inventory_pages
from cvmlab.trust.assess import assess
from cvmlab.trust.history import record_of

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_data" / "fleet" / "sample"
EXPECTED = {
    "secure-boot-off": "secure-boot-disabled",
    "command-line": "kernel-command-line-changed",
    "unknown-boot-loader": "boot-loader-changed",
    "drift": "boot-order-changed",
    "nonce-replayed": "nonce-mismatch",
}


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(80, 3, seed=7, faults=0.8)


def _evidence(row: dict[str, Any]) -> Any:
    files = [RawFile(one["name"], one["data"], len(one["data"])) for one in row["files"]]
    return evidence_of(files, source="x", default_name="x")


def _assessed(fleet: Fleet, row: dict[str, Any], **known: Any) -> Any:
    return assess(_evidence(row), replace(fleet.context(), nonce=row["nonce"], **known))


def test_faults_are_found_and_the_faultless_are_trusted(fleet: Fleet) -> None:
    """Oracle: the lab's boot that a machine shows, whose cause `sample_data/boots/expected.json` names."""
    baseline = learn_baseline([_assessed(fleet, row) for row in fleet.good()])
    chosen: dict[str, dict[str, Any]] = {}
    for row in fleet.rows(range(2, 3)):
        machine = fleet.machine(int(str(row["machine"]).rsplit("-", 1)[1]))
        if machine.boot(2) != "dbx_updated":
            chosen.setdefault(str(row["fault"]), row)
        elif not row["fault"]:
            chosen.setdefault("updated", row)
    assert {*chosen} == {"", "updated", "vtpm-reset", *EXPECTED}
    names = list(chosen)
    batch = pa.RecordBatch.from_pylist([chosen[name] for name in names], schema=evidence_schema())
    found = evaluate_batch(batch, baseline=baseline, context=fleet.context()).to_pylist()
    primary = {name: row["primary"] for name, row in zip(names, found, strict=True)}
    assert not any(row["error"] for row in found)
    assert primary == {"": None, "updated": "revocation-list-updated", "vtpm-reset": None, **EXPECTED}


def test_reset_of_a_vtpm_shows_against_the_days_before(fleet: Fleet) -> None:
    machine = replace(fleet.machine(0), fault="vtpm-reset", fault_day=2)
    before, after = fleet.evidence(machine, 1), fleet.evidence(machine, 2)
    assert before is not None
    assert after is not None
    history = record_of(_assessed(fleet, before))
    assert history is not None
    codes = {one.code for one in _assessed(fleet, after, history=(history,)).findings}
    assert codes & {"vtpm-reset", "clock-rolled-back"}
    fine = fleet.evidence(replace(machine, fault=""), 2)
    assert fine is not None
    assert not {one.code for one in _assessed(fleet, fine, history=(history,)).findings}


def test_machines_that_cannot_or_do_not_report_send_nothing(fleet: Fleet) -> None:
    for fault in (name for name, boot in FAULTS.items() if boot is None):
        machine = replace(fleet.machine(0), fault=fault, fault_day=1)
        assert fleet.evidence(machine, 0) is not None
        assert fleet.evidence(machine, 1) is None


def test_seed_fixes_machines_and_logs_but_not_keys() -> None:
    one, two, other = (list(machines(6, 2, seed=seed)) for seed in (3, 3, 4))
    logs = [[row["files"][0]["data"] for row in rows] for rows in (one, two, other)]  # type: ignore[index]
    assert logs[0] == logs[1] != logs[2]
    assert [row["nonce"] for row in one] == [row["nonce"] for row in two]
    assert one[0]["files"][2] != two[0]["files"][2]  # type: ignore[index]


@pytest.mark.parametrize("share", [None, 0.3, 1.0])
def test_logs_of_two_machines_differ_by_the_share_asked_for(share: float | None) -> None:
    fleet = Fleet(2, share=share, faults=0)
    logs = [read_event_log(row["files"][0]["data"]) for row in fleet.rows()]  # type: ignore[index]
    events = [[e for e in log.events if e.extends] for log in logs]
    unlike = sum(a.digests != b.digests for a, b in zip(*events, strict=True)) / len(events[0])
    low, high = {None: (0.01, 0.1), 0.3: (0.3, 0.6), 1.0: (0.5, 1.0)}[share]
    assert low <= unlike <= high


def test_a_large_fleet_is_made_in_flight() -> None:
    rows = list(islice(machines(1_000_000, 30), 3))
    assert [row["day"] for row in rows] == [0, 0, 0]


def test_inventory_reads_without_problems_and_has_the_configured_faults(fleet: Fleet) -> None:
    pages = list(inventory_pages(fleet, size=30))
    inventory = read_inventory_bytes("\n".join(map(json.dumps, pages)).encode())
    assert not inventory.problems
    assert len(inventory.machines) == fleet.count
    for index, found in enumerate(inventory.machines):
        machine = fleet.machine(index)
        fault = machine.fault if machine.faulty(2) else ""
        assert (found.vtpm is False) == (fault == "vtpm-off")
        assert (not found.extensions) == (fault == "extension-missing")
        assert (found.secure_boot is False) == (fault == "secure-boot-off" and not machine.record_wrong)
        assert "SIMULATED" in found.resource_id
    said = read_inventory_bytes(json.dumps(assessments_page(fleet, inventory)).encode())
    assert not said.problems
    words = {one.comparison for one in recommend(replace(inventory, assessments=said.assessments)).results}
    assert words == {"agree", "disagree", "provider-silent"}


def test_missing_boots_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no such boot"):
        Fleet(1, boots=tmp_path)


def test_script_writes_a_fleet_that_the_product_reads(tmp_path: Path) -> None:
    script = ROOT / "sample_data" / "fleet" / "simulate.py"
    choices = ["--machines", "5", "--days", "2", "--out", str(tmp_path), "--evidence", "1"]
    subprocess.run([sys.executable, str(script), *choices], check=True, cwd=ROOT, env=_environment())
    assert len(read_inventory(tmp_path / "inventory").machines) == 5
    assert "SIMULATED" in (tmp_path / "README.md").read_text()


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_committed_sample_is_small_labelled_and_judged_as_it_says() -> None:
    import cvmlab

    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 300 * 1024
    inventory = read_inventory(SAMPLE / "inventory", SAMPLE / "assessments.json")
    assert not inventory.problems
    assert all("SIMULATED" in one.resource_id for one in inventory.machines)
    with (SAMPLE / "truth.csv").open(newline="") as file:
        truth = {row["machine"]: row for row in csv.DictReader(file)}
    assert {one.name for one in inventory.machines} == {*truth}
    keys = sorted((SAMPLE / "keys").glob("*.name"))
    for folder in sorted((SAMPLE / "evidence").glob("day-*/*")):
        day, row = int(folder.parent.name.rsplit("-", 1)[1]), truth[folder.name]
        result = cvmlab.investigate(folder, baseline=SAMPLE / "baseline.json", enrolled_keys=keys)
        fault = row["fault"] if row["fault"] and day >= int(row["fault_day"]) else ""
        updated = "revocation-list-updated" if day >= int(row["update_day"]) else None
        assert (result.primary.code if result.primary else None) == EXPECTED.get(fault, updated)
