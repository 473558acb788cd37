"""Inventory and assessments in the lake: what changed, each export once, in the order of its time."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure_records import COMPUTE, extension, machine

from cvmlab.fleet.inbox import Intake
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.care import compact
from cvmlab.fleet.lake.records import machine_of_row, take_inventory
from cvmlab.fleet.watch import known_machines

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def export(path: Path, records: list[dict[str, Any]], at: datetime) -> Path:
    path.write_text(json.dumps({"value": records}))
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def assessment(state: str, changed: str = "2026-02-01T00:00:00Z") -> dict[str, Any]:
    return {
        "id": f"{COMPUTE}/virtualMachines/vm1/providers/Microsoft.Security/assessments/key-1",
        "name": "key-1",
        "type": "Microsoft.Security/assessments",
        "properties": {
            "resourceDetails": {"source": "Azure", "id": f"{COMPUTE}/virtualMachines/vm1"},
            "displayName": "Secure Boot",
            "status": {"code": state, "statusChangeDate": changed},
        },
    }


def told(lake: Lake) -> list[tuple[str, str, datetime]]:
    rows = lake.read("inventory").sort_by([("machine", "ascending"), ("received", "ascending")]).to_pylist()
    return [(row["name"], row["secure_boot"], row["received"]) for row in rows]


def secure_boot_now(lake: Lake) -> dict[str, bool | None]:
    return {row["name"]: row["secure_boot"] for row in known_machines(lake).to_pylist()}


def test_a_row_is_written_for_each_change_and_for_nothing_else(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    on, off = machine("vm1", secure_boot=True), machine("vm1", secure_boot=False)
    other = machine("vm2")
    first = export(tmp_path / "1.json", [on, other], NOW)
    kept = take_inventory(lake, [first], now=NOW + DAY)
    assert (kept.machines, kept.changed, kept.updated) == (2, 2, 2)
    assert take_inventory(lake, [first], now=NOW + DAY).known
    second = export(tmp_path / "2.json", [off, other], NOW + DAY)
    assert take_inventory(lake, [second], now=NOW + 2 * DAY).changed == 1
    # the same state again after another one is a change, although the lake has seen these bytes before
    again = export(tmp_path / "3.json", [on, other], NOW + 2 * DAY)
    assert take_inventory(lake, [again], now=NOW + 2 * DAY).changed == 1
    assert told(lake) == [
        ("vm1", "on", NOW), ("vm1", "off", NOW + DAY), ("vm1", "on", NOW + 2 * DAY), ("vm2", "on", NOW),
    ]  # fmt: skip
    assert secure_boot_now(lake) == {"vm1": True, "vm2": True}


def test_an_older_export_read_late_changes_history_and_not_the_present(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    take_inventory(lake, [export(tmp_path / "b.json", [machine(secure_boot=False)], NOW)], now=NOW)
    late = export(tmp_path / "a.json", [machine(secure_boot=True)], NOW - DAY)
    kept = take_inventory(lake, [late], now=NOW)
    assert (kept.changed, kept.updated) == (1, 0)
    assert told(lake) == [("vm1", "on", NOW - DAY), ("vm1", "off", NOW)]
    assert secure_boot_now(lake) == {"vm1": False}


def test_a_file_from_the_future_counts_from_when_it_was_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    take_inventory(lake, [export(tmp_path / "a.json", [machine()], NOW + 99 * DAY)], now=NOW)
    assert [at for *_, at in told(lake)] == [NOW]


def test_extensions_may_come_in_another_file_and_at_another_time(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    machines = export(tmp_path / "vm.json", [machine("vm1"), machine("vm2")], NOW)
    take_inventory(lake, [machines], now=NOW)
    assert {row["extension"] for row in known_machines(lake).to_pylist()} == {None}
    guest = extension(machine="vm1")
    take_inventory(lake, [export(tmp_path / "ext.json", [guest], NOW + DAY)], now=NOW + DAY)
    now = {row["name"]: row["extension"] for row in known_machines(lake).to_pylist()}
    assert now == {"vm1": True, "vm2": False}
    # an export that says nothing of extensions leaves what is known of them
    later = export(tmp_path / "vm2.json", [machine("vm1", secure_boot=False), machine("vm2")], NOW + 2 * DAY)
    take_inventory(lake, [later], now=NOW + 2 * DAY)
    rows = known_machines(lake).to_pylist()
    assert {row["name"]: (row["extension"], row["secure_boot"]) for row in rows} == {
        "vm1": (True, False), "vm2": (False, True),
    }  # fmt: skip
    last = lake.read("inventory").sort_by("received").to_pylist()[-1]
    read = machine_of_row(last)
    assert (read.name, read.secure_boot, read.extensions_collected) == ("vm1", False, True)
    assert [one.type for one in read.extensions] == ["GuestAttestation"]
    assert read.extensions[0].alerts_disabled is False


def test_a_row_gives_back_the_machine_that_was_read(tmp_path: Path) -> None:
    from dataclasses import replace

    from cvmlab.fleet.inventory import read_inventory

    place = export(tmp_path / "a.json", [machine(extensions=[extension()]), extension()], NOW)
    wanted = read_inventory(place).machines[0]
    lake = Lake(tmp_path / "lake")
    take_inventory(lake, [place], now=NOW)
    found = machine_of_row(lake.read("inventory").to_pylist()[0])
    bare = [replace(one, raw=(), origin=wanted.origin) for one in wanted.extensions]
    assert list(found.extensions) == bare
    wanted = replace(wanted, extensions=(), os_stated=None)
    assert replace(found, extensions=(), os_stated=None) == wanted


def test_assessments_keep_their_history(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for days, state in ((0, "Unhealthy"), (1, "Unhealthy"), (2, "Healthy"), (3, "Unhealthy")):
        path = export(tmp_path / f"{days}.json", [assessment(state)], NOW + days * DAY)
        take_inventory(lake, [path], now=NOW + 5 * DAY)
    rows = lake.read("assessments").sort_by("received").to_pylist()
    assert [(row["state"], (row["received"] - NOW).days) for row in rows] == [
        ("Unhealthy", 0), ("Healthy", 2), ("Unhealthy", 3),
    ]  # fmt: skip


def test_of_two_words_in_one_export_the_later_counts(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    said = [assessment("Healthy", "2026-02-02T00:00:00Z"), assessment("Unhealthy", "2026-02-01T00:00:00Z")]
    take_inventory(lake, [export(tmp_path / "a.json", said, NOW)], now=NOW)
    assert [row["state"] for row in lake.read("assessments").to_pylist()] == ["Healthy"]


def test_an_import_that_was_cut_short_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path / "lake")
    place = export(tmp_path / "a.json", [machine("vm1"), machine("vm2"), assessment("Healthy")], NOW)
    whole = Lake.append

    def stops(self: Lake, table: Any, data: Any, **options: Any) -> int:
        if table.name == "machines":
            raise KeyboardInterrupt
        return whole(self, table, data, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "append", stops)
        with pytest.raises(KeyboardInterrupt):
            take_inventory(lake, [place], now=NOW)
    kept = take_inventory(lake, [place], now=NOW)
    assert (kept.known, kept.updated) == (False, 2)
    counts = [len(lake.read(name)) for name in ("inventory", "machines", "assessments", "imports")]
    assert counts == [2, 2, 1, 1]


def test_the_state_of_a_machine_outlives_the_days_that_are_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    take_inventory(lake, [export(tmp_path / "a.json", [machine()], NOW)], now=NOW)
    compact(lake, keep_days=30, now=NOW + 90 * DAY)
    assert len(told(lake)) == 1


def test_files_of_an_inbox_are_read_together_and_once(tmp_path: Path) -> None:
    from cvmlab.evidence.context import VerifierContext

    lake, inbox = Lake(tmp_path / "lake"), tmp_path / "in"
    inbox.mkdir()
    files = [
        export(inbox / "z-machines.json", [machine("vm1")], NOW),
        export(inbox / "a-extensions.json", [extension()], NOW),
    ]
    intake = Intake(lake, None, VerifierContext())
    taken = intake.take(sorted(files), NOW)
    assert (taken.machines, taken.added, taken.quarantined) == (1, 0, 0)
    assert known_machines(lake).to_pylist()[0]["extension"] is True
    assert Intake(lake, None, VerifierContext()).take(sorted(files), NOW + DAY).machines == 0
    assert len(lake.read("inventory")) == 1


def test_nothing_of_a_file_without_inventory_is_remembered(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    place = export(tmp_path / "a.json", [{"colour": "red"}], NOW)
    for _ in range(2):
        kept = take_inventory(lake, [place], now=NOW)
        assert not kept.known
        assert kept.machines + kept.assessments + kept.others == 0


def test_ingest_takes_inventory_alone(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cvmlab.cli import app

    place = export(tmp_path / "a.json", [machine("vm1"), assessment("Healthy")], NOW)
    arguments = ["fleet", "ingest", "--lake", str(tmp_path / "lake"), "--inventory", str(place), "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert {k: found["inventory"][k] for k in ("known", "machines", "assessments", "changed")} == {
        "known": False, "machines": 1, "assessments": 1, "changed": 2,
    }  # fmt: skip
    assert json.loads(CliRunner().invoke(app, arguments).stdout)["inventory"]["known"]
    (tmp_path / "none.json").write_text("[]")
    arguments[5] = str(tmp_path / "none.json")
    assert "nothing in it is inventory" in str(CliRunner().invoke(app, arguments).exception)
    nothing = CliRunner().invoke(app, ["fleet", "ingest", "--lake", str(tmp_path / "lake")])
    assert "give evidence" in str(nothing.exception)
