"""The catalogue of causes: each is shown by sample data, with what was expected written down beside it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from expected_causes import named_codes

from cvmlab.explain.catalogue import catalogue
from cvmlab.fleet.alerts import conditions
from cvmlab.fleet.inventory import read_inventory_bytes
from cvmlab.fleet.simulate import START, Fleet
from cvmlab.fleet.simulate_records import inventory_pages
from cvmlab.fleet.status import machines_of, reports_schema, status_table

SAMPLES = Path(__file__).resolve().parents[1] / "sample_data"
FAULTS: dict[str, Any] = json.loads((SAMPLES / "fleet" / "expected.json").read_text())
DAYS = 3


def _shown() -> dict[str, list[str]]:
    """Every code that sample data show, and the scenarios that do. Tests hold each set to its answers."""
    found: dict[str, list[str]] = {}
    for place in ("boots", "edited", "azure", "fleet"):
        for name, expected in json.loads((SAMPLES / place / "expected.json").read_text()).items():
            for code in named_codes(expected):
                found.setdefault(code, []).append(f"{place}/{name}")
    return found


def _exceptions() -> set[str]:
    """Codes that the samples' README says no sample shows, each with a reason."""
    text = (SAMPLES / "boots" / "README.md").read_text()
    section = text.split("## Causes without a sample", 1)[1].split("\n## ", 1)[0]
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", section, re.MULTILINE))
    assert all(len(reason) > 20 for reason in rows.values())
    return set(rows)


def test_every_cause_is_shown_by_sample_data_or_listed_with_a_reason() -> None:
    shown, excepted = set(_shown()), _exceptions()
    assert not shown - catalogue().keys(), "codes that the catalogue does not know"
    assert not excepted & shown, "listed as not shown, and shown"
    assert catalogue().keys() == shown | excepted


def test_answers_leave_no_choice() -> None:
    """One verdict and one primary cause each: what is not sure of its answer proves nothing."""
    for place in ("boots", "edited", "azure"):
        for name, expected in json.loads((SAMPLES / place / "expected.json").read_text()).items():
            assert isinstance(expected["verdict"], str), name
            assert len(expected.get("primary", ())) == (expected["verdict"] != "trusted"), name
            assert "any" not in expected, name


def test_consequences_hang_as_the_catalogue_allows() -> None:
    for place in ("boots", "edited", "azure"):
        for name, expected in json.loads((SAMPLES / place / "expected.json").read_text()).items():
            for parent, codes in expected.get("consequences", {}).items():
                for code in codes:
                    assert parent in catalogue()[code].consequence_of, f"{name}: {code} under {parent}"


def test_every_folder_of_evidence_has_an_answer() -> None:
    for place in ("boots", "edited", "azure"):
        answers = json.loads((SAMPLES / place / "expected.json").read_text())
        folders = {path.parent.name for path in (SAMPLES / place).glob("*/nonce.hex")}
        assert folders <= answers.keys()


def _conditions() -> tuple[Fleet, dict[str, dict[str, Any]]]:
    """A simulated fleet on its last day, an hour after the reports: its statuses by machine.

    Machines report as their faults let them; what their evidence says is another test's.
    """
    fleet = Fleet(120, DAYS, seed=11, faults=0.8)
    inventory = read_inventory_bytes("\n".join(map(json.dumps, inventory_pages(fleet))).encode())
    rows = []
    for machine in map(fleet.machine, range(fleet.count)):
        for day in range(DAYS):
            if machine.boot(day) is not None:
                name = machine.resource_id.lower()
                told = {"machine": name, "received": START + timedelta(days=day), "verdict": "trusted"}
                rows.append({**told, "evidence_hash": f"{machine.index}@{day}"})
    reports = pa.Table.from_pylist(rows, schema=reports_schema())
    known = machines_of(inventory, START - timedelta(days=1))
    status = status_table(reports, known, now=START + timedelta(days=DAYS - 1, hours=1))
    causes = {one.machine["machine"]: one.cause for one in conditions(status)}
    return fleet, {row["machine"]: {**row, "cause": causes[row["machine"]]} for row in status.to_pylist()}


@pytest.fixture(scope="module")
def judged() -> tuple[Fleet, dict[str, dict[str, Any]]]:
    return _conditions()


@pytest.mark.parametrize("fault", FAULTS)
def test_machine_that_sends_nothing_has_the_cause_that_was_written_down(
    fault: str, judged: tuple[Fleet, dict[str, dict[str, Any]]]
) -> None:
    fleet, found = judged
    machines = [m for m in map(fleet.machine, range(fleet.count)) if m.fault == fault]
    assert machines
    for machine in machines:
        row = found[machine.resource_id.lower()]
        assert row["status"] == FAULTS[fault]["status"]
        assert (row["cause"] or row["prerequisite"]) in FAULTS[fault]["primary"]


def test_faultless_machine_has_no_cause(judged: tuple[Fleet, dict[str, dict[str, Any]]]) -> None:
    fleet, found = judged
    for machine in map(fleet.machine, range(fleet.count)):
        if not machine.fault:
            row = found[machine.resource_id.lower()]
            assert row["status"] == "attested"
            assert not row["cause"]
            assert not row["prerequisite"]
