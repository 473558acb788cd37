"""`fleet watch` and `fleet report` over a lake: real boots arrive, restarts in between."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cvmlab
from cvmlab.cli import app
from cvmlab.errors import EvidenceError
from cvmlab.fleet import inbox
from cvmlab.fleet.inbox import complete, mirror
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.watch import lake_alerts

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def arrive(inbox: Path, store: Path, machine: str, boot: str) -> None:
    """Put a boot of the samples into the inbox, and what the verifier knows into its own store."""
    source = Path(str(cvmlab.sample(boot)))
    (store / machine).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(inbox / machine, ignore_errors=True)
    (inbox / machine).mkdir(parents=True)
    for file in source.iterdir():
        own = file.name in ("nonce.hex", "credential_activation.json")
        shutil.copyfile(file, (store if own else inbox) / machine / file.name)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fleet", *map(str, arguments)])
    return result.exit_code, result.stdout


def save_baseline(path: Path) -> Path:
    from cvmlab.baseline.document import load_baseline
    from cvmlab.baseline.document import save_baseline as save

    known = cvmlab.sample_baseline()
    save(known if not isinstance(known, str | Path) else load_baseline(known), path)
    return path


def test_alerts_open_once_survive_restarts_and_resolve(tmp_path: Path) -> None:
    inbox, store, lake = tmp_path / "in", tmp_path / "store", tmp_path / "lake"
    hook = tmp_path / "hook.py"
    hook.write_text(f"import sys\nopen({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read())\n")
    options = (
        "watch", inbox, "--lake", lake, "--once", "--settle", 0, "--json", "--store", store,
        "--baseline", save_baseline(tmp_path / "b.json"), "--trust-root", cvmlab.sample_trust_root(),
        "--hook", f"{sys.executable} {hook}",
    )  # fmt: skip
    arrive(inbox, store, "vm1", "cmdline_changed")
    (inbox / "vm2").mkdir()
    (inbox / "vm2" / "eventlog.bin").write_bytes(b"no log")
    code, text = run(*options)
    lines = {line["machine"]: line for line in map(json.loads, text.splitlines())}
    assert code == 1
    assert (lines["vm1"]["cause"], lines["vm1"]["event"]) == ("kernel-command-line-changed", "opened")
    assert lines["vm1"]["reason"] == "boot-deviates"
    assert "vm2" in lines
    assert run(*options) == (1, "")
    arrive(inbox, store, "vm1", "baseline")
    changed = [json.loads(line) for line in run(*options)[1].splitlines()]
    assert [(one["machine"], one["event"]) for one in changed] == [("vm1", "resolved")]
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert sum(one["machine"] == "vm1" and one["event"] == "opened" for one in told) == 1
    assert len({one.alert for one in lake_alerts(Lake(lake))}) == 2
    code, text = run("report", "--lake", lake, "--json", "--html", tmp_path / "r.html")
    assert code == 1
    assert json.loads(text)["status"]["attested"] == 1
    assert "What fails now" in (tmp_path / "r.html").read_text()


def test_a_hook_that_fails_is_told_and_stops_nothing(tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    arrive(inbox, tmp_path / "store", "vm1", "cmdline_changed")
    options = ("watch", inbox, "--lake", tmp_path / "lake", "--once", "--settle", 0)
    result = CliRunner().invoke(app, ["fleet", *map(str, options), "--hook", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "hook for alert" in result.stderr


def test_inventory_is_never_taken_for_evidence(tmp_path: Path) -> None:
    sample = Path(__file__).resolve().parents[2] / "sample_data" / "fleet" / "sample"
    (tmp_path / "in").mkdir()
    shutil.copyfile(sample / "assessments.json", tmp_path / "in" / "assessments.json")
    options = ("watch", tmp_path / "in", "--lake", tmp_path / "lake", "--once", "--settle", 0)
    assert run(*options, "--inventory", sample / "inventory") == (0, "")
    lake = Lake(tmp_path / "lake")
    assert len(lake.read("machines")) == 12
    assert len(lake.read("quarantine")) == 0
    assert run(*options, "--inventory", sample / "keys")[0] != 0


def test_report_of_an_empty_lake_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fleet", "report", "--lake", str(tmp_path / "lake")])
    assert result.exit_code != 0


@pytest.mark.parametrize("name", [".vm1", "vm1.part", "vm1.TMP", "vm1~"])
def test_partial_names_are_not_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert complete(tmp_path, timedelta(0), datetime.now(UTC) + timedelta(hours=1)) == []


def test_what_changed_lately_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "vm").mkdir()
    file = tmp_path / "vm" / "eventlog.bin"
    file.write_bytes(b"x")
    old = (NOW - timedelta(minutes=5)).timestamp()
    os.utime(file, (old, old))
    os.utime(tmp_path / "vm", (old, old))
    assert complete(tmp_path, timedelta(minutes=1), NOW) == [tmp_path / "vm"]
    assert complete(tmp_path, timedelta(minutes=6), NOW) == []
    (tmp_path / "vm" / "quote.msg.part").write_bytes(b"")
    later = datetime.now(UTC)
    assert complete(tmp_path, timedelta(minutes=1), later + timedelta(minutes=30)) == []
    # an upload that broke off an hour ago holds nothing back any more
    assert complete(tmp_path, timedelta(minutes=1), later + timedelta(hours=2)) == [tmp_path / "vm"]


def test_what_file_managers_leave_behind_is_no_machine_and_no_upload(tmp_path: Path) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "eventlog.bin").write_bytes(b"x")
    for place in (tmp_path, tmp_path / "vm"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"")
    assert complete(tmp_path, timedelta(0), datetime.now(UTC) + timedelta(minutes=1)) == [tmp_path / "vm"]


def test_more_entries_than_the_bound_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_ENTRIES", 3)
    for number in range(4):
        (tmp_path / f"vm{number}").mkdir()
    with pytest.raises(EvidenceError, match="more than 3 entries"):
        complete(tmp_path, timedelta(0), NOW)


def test_objects_that_are_gone_leave_the_mirror(tmp_path: Path) -> None:
    bucket, folder = tmp_path / "bucket", tmp_path / "copy"
    for machine in ("vm1", "vm2"):
        (bucket / machine).mkdir(parents=True)
        (bucket / machine / "eventlog.bin").write_bytes(b"x")
    folder.mkdir()
    assert mirror(bucket.as_uri(), folder) == []
    shutil.rmtree(bucket / "vm1")
    mirror(bucket.as_uri(), folder)
    assert [path.name for path in folder.iterdir()] == ["vm2"]


def test_a_machine_with_an_object_that_fails_waits_for_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, folder = tmp_path / "bucket", tmp_path / "copy"
    for machine in ("vm1", "vm2"):
        (bucket / machine).mkdir(parents=True)
        for name in ("eventlog.bin", "quote.msg"):
            (bucket / machine / name).write_bytes(b"x")
    folder.mkdir()
    mirror(bucket.as_uri(), folder)
    real = inbox._copied

    def failing(store: object, info: object, into: Path, parts: list[str]) -> Path:
        if parts == ["vm1", "quote.msg"]:
            raise OSError("connection reset")
        return real(store, info, into, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "_copied", failing)
    (line,) = mirror(bucket.as_uri(), folder)
    assert "connection reset" in line
    assert "all of 'vm1' waits" in line
    assert [path.name for path in folder.iterdir()] == ["vm2"], "no part of it is offered as if it were all"
    monkeypatch.setattr(inbox, "_copied", real)
    assert mirror(bucket.as_uri(), folder) == []
    assert {path.name for path in (folder / "vm1").iterdir()} == {"eventlog.bin", "quote.msg"}


def test_an_object_that_ends_early_is_not_taken_for_whole(tmp_path: Path) -> None:
    from pyarrow import fs

    (tmp_path / "object").write_bytes(b"1234")
    folder = tmp_path / "copy"
    folder.mkdir()
    store = fs.LocalFileSystem()
    info = store.get_file_info(str(tmp_path / "object"))
    (tmp_path / "object").write_bytes(b"12")
    with pytest.raises(OSError, match="2 of 4 bytes"):
        inbox._copied(store, info, folder, ["vm1", "object"])
    assert not (folder / "vm1" / "object").exists()


def test_a_prefix_is_watched_at_once(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    arrive(bucket, tmp_path / "store", "vm1", "cmdline_changed")
    options = ("--lake", tmp_path / "lake", "--once", "--settle", 0, "--json")
    code, text = run("watch", bucket.as_uri(), *options)
    assert code == 1
    (line,) = map(json.loads, text.splitlines())
    assert (line["machine"], line["event"]) == ("vm1", "opened")
    assert run("watch", bucket.as_uri(), *options) == (1, "")


def test_objects_with_names_that_are_no_path_are_left_out_and_said(tmp_path: Path) -> None:
    bucket, folder = tmp_path / "bucket", tmp_path / "copy"
    (bucket / "vm1" / "deep" / "er").mkdir(parents=True)
    (bucket / "vm1" / "eventlog.bin").write_bytes(b"x")
    (bucket / "vm1" / "a\\b").write_bytes(b"x")
    (bucket / "vm1" / "deep" / "er" / "file").write_bytes(b"x")
    folder.mkdir()
    left = mirror(bucket.as_uri(), folder)
    assert len(left) == 2
    assert any("no plain path" in line for line in left)
    assert any("more than 2 parts" in line for line in left)
    assert [path.name for path in (folder / "vm1").iterdir()] == ["eventlog.bin"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "a//b", "./x", "a\0b/x", "x" * 256, ""])
def test_hostile_keys_are_unfit(key: str) -> None:
    assert inbox._unfit(key.split("/"))


def test_an_object_that_is_too_large_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_OBJECT", 10)
    bucket, folder = tmp_path / "bucket", tmp_path / "copy"
    (bucket / "vm1").mkdir(parents=True)
    (bucket / "vm1" / "eventlog.bin").write_bytes(b"x" * 11)
    (bucket / "vm1" / "quote.msg").write_bytes(b"x")
    folder.mkdir()
    (line,) = mirror(bucket.as_uri(), folder)
    assert "eventlog.bin" in line
    assert "11 bytes" in line
    assert (folder / "vm1" / "quote.msg").exists()


def test_objects_under_a_prefix_are_mirrored_once(tmp_path: Path) -> None:
    (tmp_path / "bucket" / "vm").mkdir(parents=True)
    (tmp_path / "bucket" / "vm" / "eventlog.bin").write_bytes(b"x")
    url, folder = (tmp_path / "bucket").as_uri(), tmp_path / "copy"
    mirror(url, folder)
    before = (folder / "vm" / "eventlog.bin").stat().st_ino
    mirror(url, folder)
    assert (folder / "vm" / "eventlog.bin").stat().st_ino == before
