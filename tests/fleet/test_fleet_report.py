"""`fleet report` over a simulated fleet, held against the simulator's own record of who did what when."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import cvmlab
from cvmlab.cli import app
from cvmlab.fleet import fleet_report
from cvmlab.fleet.boot_values import profile_values, told_apart
from cvmlab.fleet.enforce import would_find
from cvmlab.fleet.fleet_report import fleet_document, fleet_object
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.simulate import GOOD, START, UPDATED, Fleet
from cvmlab.fleet.simulate_lake import fill_lake, simulated_baseline
from cvmlab.fleet.watch import lake_status
from cvmlab.view import render_page, render_text

if TYPE_CHECKING:
    from datetime import datetime

COUNT, DAYS = 60, 6
FAILING = {"secure-boot-off", "command-line", "unknown-boot-loader", "drift", "nonce-replayed"}
"""Faults whose boots are not trusted by the fleet's baseline."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Lake, datetime]:
    fleet = Fleet(COUNT, DAYS, seed=23, faults=0.4, updated=0.7, repaired=0.5)
    lake = Lake(tmp_path_factory.mktemp("report") / "lake")
    return fleet, lake, fill_lake(lake, fleet)


@pytest.fixture(scope="module")
def told(filled: tuple[Fleet, Lake, datetime]) -> dict[str, Any]:
    fleet, lake, now = filled
    enforced = simulated_baseline(fleet, updated=True)
    return fleet_object(lake, now, enforce=enforced, context=fleet.context())


def last_boots(fleet: Fleet) -> dict[int, str]:
    """The boot of the last day on which a machine reported anything."""
    shown: dict[int, str] = {}
    for index in range(COUNT):
        for day in range(DAYS):
            boot = fleet.machine(index).boot(day)
            if boot is not None:
                shown[index] = boot
    return shown


def test_what_tells_machines_apart_is_counted_and_decoded(
    filled: tuple[Fleet, Lake, datetime], told: dict[str, Any]
) -> None:
    boots = Counter(last_boots(filled[0]).values())
    updated = boots[UPDATED]
    rows = {(row["name"], row["value"]): row for row in told["apart"]}
    row = rows["revocation list (dbx)", "dbx: 2 hashes"]
    other = rows["revocation list (dbx)", "dbx: 1 hash"]
    assert (row["machines"], other["machines"]) == (updated, boots.total() - updated)
    assert row["of"] == boots.total()
    rare = row if other["common"] else other
    assert rare["differs"][0] in (
        "1 entry before, 2 now: 1 added, 0 removed",
        "2 entries before, 1 now: 0 added, 1 removed",
    )
    off = rows["Secure Boot", "Secure Boot is off"]
    assert off["machines"] == boots["secureboot_disabled"] > 0
    line = next(
        row for (name, value), row in rows.items() if name == "kernel command line" and "mitig" in value
    )
    assert line["machines"] == boots["cmdline_changed"] > 0
    assert any("mitigations=off was added" in text for text in line["differs"])
    assert line["sentence"].startswith(f"{line['machines']} of {boots.total()} machines: kernel command line")


def test_values_that_all_machines_have_are_not_listed(told: dict[str, Any]) -> None:
    assert {row["name"] for row in told["apart"]}.isdisjoint({"kernel", "initial ramdisk", "firmware"})


def test_enforcing_the_updated_baseline_fails_who_was_not_updated(
    filled: tuple[Fleet, Lake, datetime], told: dict[str, Any]
) -> None:
    """Oracle: which boot each machine showed last; machines that never reported are not known."""
    boots = last_boots(filled[0])
    outcomes: Counter[str] = Counter()
    for row in told["enforced"]["outcomes"]:
        outcomes[row["outcome"]] += row["machines"]
    passes = sum(boot == UPDATED for boot in boots.values())
    assert outcomes == {"passes": passes, "fails": len(boots) - passes, "not-known": COUNT - len(boots)}
    causes = {row["cause"]: row["machines"] for row in told["enforced"]["outcomes"]}
    secure_boot_off = sum(boot == "secureboot_disabled" for boot in boots.values())
    assert causes["secure-boot-disabled"] == secure_boot_off
    assert causes["revocation-list-rolled-back"] == len(boots) - passes - secure_boot_off


def test_the_baseline_in_force_finds_what_the_verdicts_say(filled: tuple[Fleet, Lake, datetime]) -> None:
    fleet, lake, now = filled
    status = lake_status(lake, now)
    found = would_find(lake, status, simulated_baseline(fleet), fleet.context())
    by_profile: dict[str, set[str | None]] = {}
    for row in status.to_pylist():
        if row["profile"] and row["status"] in ("attested", "failed") and row["reason"] != "quote-origin":
            by_profile.setdefault(row["profile"], set()).add(row["primary"])
    assert by_profile
    for profile, primaries in by_profile.items():
        assert {found[profile][0] if found[profile] else None} == primaries


def test_the_roll_out_is_told_from_its_first_day(
    filled: tuple[Fleet, Lake, datetime], told: dict[str, Any]
) -> None:
    fleet = filled[0]
    first: dict[int, int] = {}
    for index in range(COUNT):
        for day in range(DAYS):
            if fleet.machine(index).boot(day) == UPDATED:
                first.setdefault(index, day)
    rows = [row for row in told["spread"] if row["value"] == "dbx: 2 hashes"]
    assert (rows[0]["machines"], rows[0]["shape"]) == (len(first), "rolling-out")
    assert rows[0]["first_seen"][:10] == f"{START + timedelta(days=min(first.values())):%Y-%m-%d}"
    wanted, reached = {}, 0
    for day in sorted(set(first.values())):
        reached += sum(value == day for value in first.values())
        wanted[f"{START + timedelta(days=day):%Y-%m-%d}"] = reached
    curve = {row["start"][:10]: row["reached"] for row in told["adoption"] if row["value"] == "dbx: 2 hashes"}
    assert curve == wanted


def test_time_to_put_right_is_that_of_the_simulator(
    filled: tuple[Fleet, Lake, datetime], told: dict[str, Any]
) -> None:
    fleet = filled[0]
    episodes = ended = 0
    for machine in map(fleet.machine, range(COUNT)):
        shown = [machine.boot(day) is not None and machine.faulty(day) for day in range(DAYS)]
        if machine.fault not in FAILING or not any(shown):
            continue
        episodes += 1
        ended += machine.repair_day is not None and machine.repair_day < DAYS
    row = next(row for row in told["remediation"] if row["key"] == fleet_report.ATTESTATION)
    # a vTPM that was set up anew is no failure of one boot; what it is shows in the boots
    assert (row["episodes"], row["ended"], row["open"]) == (episodes, ended, episodes - ended)
    assert episodes > ended > 0


def test_reset_counts_that_went_backwards_are_those_of_new_vtpms(
    filled: tuple[Fleet, Lake, datetime], told: dict[str, Any]
) -> None:
    fleet = filled[0]
    wanted = {
        machine.resource_id.lower()
        for machine in map(fleet.machine, range(COUNT))
        if machine.fault == "vtpm-reset" and machine.fault_day > 0
    }
    found = {row["machine"] for row in told["unseen_boots"] if row["resets_backwards"]}
    assert found == wanted


def test_compliance_is_that_of_the_records(
    filled: tuple[Fleet, Lake, datetime], told: dict[str, Any]
) -> None:
    fleet = filled[0]
    missing: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for machine in map(fleet.machine, range(COUNT)):
        off = machine.faulty(DAYS - 1) and machine.fault == "vtpm-off"
        record_off = (
            machine.faulty(DAYS - 1) and machine.fault == "secure-boot-off" and not machine.record_wrong
        )
        if off or record_off:  # the rule is for machines with Secure Boot and vTPM on
            continue
        total[machine.region] += 1
        missing[machine.region] += machine.faulty(DAYS - 1) and machine.fault == "extension-missing"
    name = "Guest Attestation extension should be installed on supported Linux virtual machines"
    rows = [r for r in told["compliance"] if (r["recommendation"], r["dimension"]) == (name, "region")]
    assert {r["value"]: (r["unhealthy"], r["healthy"] + r["unhealthy"]) for r in rows} == {
        region: (missing[region], total[region]) for region in total
    }


def test_lists_are_bounded_and_say_of_how_many(
    filled: tuple[Fleet, Lake, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lake, now = filled
    monkeypatch.setattr(fleet_report, "MAX_ROWS", 3)
    found = fleet_object(lake, now)
    lists = {name: value for name, value in found.items() if isinstance(value, list) and "curve" not in name}
    assert max(len(value) for value in lists.values()) == 3
    assert found["totals"]["cohorts"] > 3
    assert "of" in render_text(fleet_document(found))


def test_the_page_shows_every_part(told: dict[str, Any]) -> None:
    page = render_page(fleet_document(told))
    for heading in (
        "What fails now", "were enforced", "Recommendations", "Evidence against configuration",
        "Where the provider says other", "Trend", "Time to put right", "Groups that boot alike",
        "What tells them apart", "First seen, and how it spread", "How long old values live on",
        "What is not known", "Boots, attested or not",
    ):  # fmt: skip
        assert heading in page, heading
    assert page.count("<img ") == 6
    assert page.count('alt=""') == 0
    assert len(page) < 2_000_000


def test_the_object_is_plain_json(told: dict[str, Any]) -> None:
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_an_empty_lake_has_a_report(tmp_path: Path) -> None:
    found = fleet_object(Lake(tmp_path / "lake"), START)
    assert found["machines"] == 0
    assert "Fleet report" in render_text(fleet_document(found))


def test_names_and_texts_of_evidence_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert(1)<script>"
    inbox, lake = tmp_path / "in", tmp_path / "lake"
    for machine, boot in ((name, "cmdline_changed"), ("b", GOOD)):
        shutil.copytree(str(cvmlab.sample(boot)), inbox / machine)
    CliRunner().invoke(app, ["fleet", "ingest", str(inbox), "--lake", str(lake)])
    page = tmp_path / "r.html"
    result = CliRunner().invoke(app, ["fleet", "report", "--lake", str(lake), "--html", str(page), "--json"])
    assert json.loads(result.stdout)["machines"] == 2
    text = page.read_text()
    assert name not in text
    assert "&lt;script&gt;" in text


def test_real_boots_are_told_apart_by_name(tmp_path: Path) -> None:
    """Oracle: what the lab did to each boot (sample_data/bootlab/scenarios.py)."""
    inbox, lake = tmp_path / "in", Lake(tmp_path / "lake")
    boots = {
        "a1": "baseline", "a2": "baseline_repeat", "a3": "baseline_machine_b", "k": "db_key_added",
        "n": "kernel_changed", "i": "initrd_updated", "s": "sbat_level_changed",
    }  # fmt: skip
    boots_dir = Path(__file__).parents[2] / "sample_data" / "boots"
    for machine, boot in boots.items():
        shutil.copytree(boots_dir / boot, inbox / machine)
    CliRunner().invoke(app, ["fleet", "ingest", str(inbox), "--lake", lake.location])
    status = lake_status(lake, START + timedelta(days=9999))
    profiles = {row["profile"] for row in status.to_pylist()}
    values = profile_values(lake, profiles)
    apart, total = told_apart(lake, status, values, 100)
    assert total == len(apart)
    said = {(one.name, *one.examples): " ".join(one.differs) for one in apart if not one.common}
    assert "certificate cvmlab bootlab image signing" in said["allowed signatures (db)", "k"]
    assert "6.12.117+deb12-cloud-amd64" in said["kernel", "n"]
    assert "contents are not" in said["initial ramdisk", "i"]
    assert "2025021800 before, 2026010100 now" in said["SBAT level", "s"]
    kernels = {one.value: one.machines for one in apart if one.name == "kernel"}
    assert sorted(kernels.values()) == [1, 6]
