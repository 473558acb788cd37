"""A fleet at a glance: its documents say what the simulation did, and the lake stays as it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cvmlab.errors import EvidenceError
from cvmlab.fleet.demo import OpenedFleet, Scale, example_rules, open_or_simulate
from cvmlab.fleet.lake.run import runner
from cvmlab.fleet.simulate import SUBSCRIPTIONS
from cvmlab.tables_lake import VERDICTS
from cvmlab.view import render_text

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("inventory", "to-do", "status", "alerts", "compliance", "alike", "survival")


@pytest.fixture(scope="module")
def found() -> OpenedFleet:
    return open_or_simulate("", 90, 4, seed=15, rules=example_rules())


@pytest.mark.parametrize("part", PARTS)
def test_each_part_says_that_it_is_simulated(found: OpenedFleet, part: str) -> None:
    assert "SIMULATED: machines of this lake do not exist" in render_text(found.overview().view(part))


def test_part_that_is_not_there_is_refused(found: OpenedFleet) -> None:
    with pytest.raises(ValueError, match="'weather' is no part of a fleet"):
        found.overview().view("weather")


def test_status_is_what_the_simulation_did(found: OpenedFleet) -> None:
    assert found.simulated is not None
    rows = found.overview().status_rows().set_index("name")
    assert len(rows) == 90
    for machine in map(found.simulated.machine, range(90)):
        row = rows.loc[machine.name]
        if not machine.faulty(3):
            assert row["status"] == "attested"
        if machine.faulty(3) and machine.fault == "command-line":
            assert (row["status"], row["cause"]) == ("failed", "kernel-command-line-changed")
        if machine.faulty(3) and machine.fault == "secure-boot-off":
            assert (row["status"], row["cause"]) == ("failed", "secure-boot-disabled")


def test_rule_hides_alerts_and_keeps_them(found: OpenedFleet) -> None:
    alerts = found.overview().alert_rows()
    off = alerts[alerts["cause"] == "secure-boot-disabled"]
    hidden = off["machine"].str.contains(SUBSCRIPTIONS[1])
    assert hidden.any()
    assert set(off[hidden]["state"]) == {"hidden"}
    assert set(off[~hidden]["state"]) <= {"open"}


def test_record_that_says_on_against_a_quote_that_proves_off_is_told(found: OpenedFleet) -> None:
    assert found.simulated is not None
    wrong = {
        machine.name
        for machine in map(found.simulated.machine, range(90))
        if machine.faulty(3) and machine.fault == "secure-boot-off" and machine.record_wrong
    }
    told, _ = found.overview().recommendations.contradictions()
    assert wrong
    assert {one.machine.name for one in told if one.fact == "secure_boot"} == wrong


def test_what_if_judges_each_boot_and_writes_nothing(found: OpenedFleet) -> None:
    assert found.simulated is not None
    before = found.lake.read(VERDICTS).num_rows
    known, context = found.what_if()
    result = found.overview().enforced(known, context)
    assert found.lake.read(VERDICTS).num_rows == before
    assert result["machines"].sum() == 90
    old = sum(
        machine.boot(3) == "baseline" and machine.fault not in ("stale", "silent")
        for machine in map(found.simulated.machine, range(90))
    )
    rolled = result[result["cause"] == "revocation-list-rolled-back"]["machines"].sum()
    # machines that stopped reporting count by the boot that they showed last
    assert 0 < old <= rolled + result[result["outcome"] == "not-known"]["machines"].sum()


def test_update_rolls_out_and_fault_stands_alone(found: OpenedFleet) -> None:
    text = render_text(found.overview().view("alike"))
    assert "rolling-out" in text
    assert "dbx: 2 hashes" in text


def test_lake_of_ones_own_needs_the_baseline_named(found: OpenedFleet) -> None:
    opened = open_or_simulate(found.lake.location, 0, 0)
    with pytest.raises(EvidenceError, match="name the baseline"):
        opened.what_if()


def test_rules_of_a_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[suppress]]\nname = "x"\nwhy = "y"\ncause = "secure-boot-disabled"\n')
    assert [rule.name for rule in example_rules(path)] == ["x"]


def test_scale_compares_lakes_and_tells_when_they_differ(tmp_path: Path) -> None:
    scale = Scale(12, batch=5, folder=tmp_path)
    with runner() as run:
        scale.measure("one", run)
        scale.measure("other", run)
        assert "same" in render_text(scale.same())
        less = Scale(6, batch=5, folder=tmp_path / "less")
        less.measure("one", run)
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(tmp_path / "less" / "one", tmp_path / "other")
    with pytest.raises(EvidenceError, match="attestations differ"):
        scale.same()
