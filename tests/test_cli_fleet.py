"""The fleet's commands over a small lake of real boots: output, exit codes, what they refuse."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cvmlab.cli import app
from cvmlab.errors import CvmlabError

ROOT = Path(__file__).resolve().parents[1]
BOOTS = ROOT / "sample_data" / "boots"
BASELINE = ROOT / "sample_data" / "baseline.json"
TRUST = BOOTS / "trust-root.pem"
VERIFIER = ("nonce.hex", "credential_activation.json")
MACHINES = """id,name,subscription,resource_group,region,os,vtpm,secure_boot
good,good,s1,g1,north,linux,true,true
bad,bad,s2,g2,south,linux,true,true
"""


def arrive(inbox: Path, store: Path, machine: str, boot: str) -> None:
    for file in (BOOTS / boot).iterdir():
        place = (store if file.name in VERIFIER else inbox) / machine
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place / file.name)


def run(*arguments: object) -> tuple[int, str, str]:
    """Run a command; errors of the program become exit code 2, as `cvmlab.cli.main` makes them."""
    result = CliRunner().invoke(app, ["fleet", *map(str, arguments)])
    if isinstance(result.exception, CvmlabError):
        return 2, result.stdout, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def told(*arguments: object) -> tuple[int, Any]:
    code, out, _ = run(*arguments, "--json")
    return code, json.loads(out)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that a watch filled: a machine that is attested, one that is not, and a file that strayed in."""
    place = tmp_path_factory.mktemp("fleet")
    arrive(place / "in", place / "store", "good", "baseline")
    arrive(place / "in", place / "store", "bad", "cmdline_changed")
    (place / "in" / "README.txt").write_text("Put evidence here.\n")
    (place / "machines.csv").write_text(MACHINES)
    code, _, err = run(
        "watch", place / "in", "--lake", place / "lake", "--once", "--settle", 0, "--baseline", BASELINE,
        "--trust-root", TRUST, "--store", place / "store", "--inventory", place / "machines.csv",
    )  # fmt: skip
    assert code == 1
    assert "1 not evidence" in err
    return place / "lake"


def test_status_lists_machines_worst_first_with_cause_and_since(lake: Path) -> None:
    code, found = told("status", "--lake", lake)
    assert code == 1
    assert found["schema"] == "cvmlab.fleet-status/1"
    assert [(row["machine"], row["status"], row["cause"]) for row in found["machines"]] == [
        ("bad", "failed", "kernel-command-line-changed"),
        ("good", "attested", None),
    ]
    assert found["counts"] == {"attested": 1, "failed": 1, "stale": 0, "silent": 0, "cannot": 0}
    assert found["score"] == 50.0
    assert "100 while it is attested" in found["score_formula"]
    bad = found["machines"][0]
    assert bad["since"] == bad["received"]
    assert 0 <= bad["age_seconds"] < 600
    assert bad["open_alerts"] == 1
    assert bad["reset_count"] is not None


def test_status_is_filtered_and_grouped(lake: Path) -> None:
    code, found = told("status", "--lake", lake, "--status", "attested", "--by", "subscription")
    assert code == 0
    assert [row["machine"] for row in found["machines"]] == ["good"]
    assert [(row["group"], row["score"], row["machines"]) for row in found["groups"]] == [
        ("s2", 0.0, 1),
        ("s1", 100.0, 1),
    ]
    assert told("status", "--lake", lake, "--status", "silent")[0] == 0
    code, out, _ = run("status", "--lake", lake, "--by", "region")
    assert code == 1
    assert "boot integrity score" in out
    assert "south" in out
    assert "kernel-command" in out


def test_status_of_one_machine_is_its_history(lake: Path) -> None:
    code, found = told("status", "--lake", lake, "--machine", "BAD")
    assert code == 1
    assert found["machine"]["machine"] == "bad"
    assert [(run["status"], run["until"]) for run in found["history"]] == [("failed", None)]
    assert len(found["reports"]) == len(found["alerts"]) == 1
    code, out, _ = run("status", "--lake", lake, "--machine", "good")
    assert code == 0
    assert "History of good" in out


def test_status_as_csv_has_a_row_a_machine(lake: Path) -> None:
    code, out, _ = run("status", "--lake", lake, "--csv")
    assert code == 1
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["machine"]: row["status"] for row in rows} == {"good": "attested", "bad": "failed"}
    assert list(csv.DictReader(io.StringIO(run("status", "--lake", lake, "--machine", "bad", "--csv")[1])))


def test_alerts_are_listed_and_exported(lake: Path, tmp_path: Path) -> None:
    code, found = told("alerts", "--lake", lake)
    assert (code, found["open"], found["suppressed"], found["resolved"]) == (1, 1, 0, 0)
    (alert,) = found["alerts"]
    assert alert["schema"] == "cvmlab.alert/1"
    assert (alert["machine"], alert["verdict"], alert["affected_machines"]) == ("bad", "not-trusted", 1)
    code, out, _ = run("alerts", "--lake", lake, "--as", "lines")
    assert code == 1
    assert [json.loads(line) for line in out.splitlines()] == [alert]
    file = tmp_path / "alerts.json"
    arguments = ("alerts", "--lake", lake, "--as", "provider", "-o", file)
    assert run(*arguments, "--alert-type", "Cvm_AttestationFailed")[:2] == (1, "")
    (record,) = json.loads(file.read_text())["value"]
    assert record["properties"]["alertType"] == "Cvm_AttestationFailed"
    assert record["properties"]["severity"] == "Medium"
    run(*arguments)
    assert "alertType" not in json.loads(file.read_text())["value"][0]["properties"]
    assert "1 open, 0 open but hidden" in run("alerts", "--lake", lake, "--csv")[2]
    assert "kernel-command" in run("alerts", "--lake", lake)[1]


def test_hidden_alerts_are_counted_and_shown_on_request(lake: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lake"
    shutil.copytree(lake, copy)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[suppress]]\nname = "known"\nwhy = "being changed"\nmachine = "bad"\n')
    (tmp_path / "in").mkdir()
    watch = (
        "watch",
        tmp_path / "in",
        "--lake",
        copy,
        "--once",
        "--baseline",
        BASELINE,
        "--trust-root",
        TRUST,
    )
    assert run(*watch, "--suppress", rules)[0] == 0
    code, found = told("alerts", "--lake", copy)
    assert (code, found["open"], found["suppressed"], found["alerts"]) == (0, 0, 1, [])
    assert "1 open alerts are hidden by rules" in run("alerts", "--lake", copy)[1]
    assert told("alerts", "--lake", copy, "--all")[1]["alerts"][0]["suppressed_by"] == "known"
    assert "hidden by known" in run("alerts", "--lake", copy, "--all")[1]
    assert told("status", "--lake", copy)[1]["machines"][0]["hidden_alerts"] == 1
    assert told("report", "--lake", copy)[1]["suppressed_alerts"] == 1
    record = json.loads(run("alerts", "--lake", copy, "--all", "--as", "provider")[1])["value"][0]
    assert record["properties"]["status"] == "Dismissed"


def test_a_file_that_strayed_in_is_kept_and_is_no_machine(lake: Path) -> None:
    code, found = told("sql", "select source, evidence from quarantine", "--lake", lake)
    assert code == 0
    assert [(Path(row["source"]).name, row["evidence"]) for row in found["rows"]] == [("README.txt", False)]


def test_report_states_status_and_alerts(lake: Path, tmp_path: Path) -> None:
    code, found = told("report", "--lake", lake, "--html", tmp_path / "r.html")
    assert code == 1
    assert found["machines"] == 2
    assert len(found["open_alerts"]) == 1
    assert "kernel-command-line-changed" in (tmp_path / "r.html").read_text()


def test_sql_answers_and_evaluate_judges_again(lake: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lake"
    shutil.copytree(lake, copy)
    code, found = told("evaluate", "--lake", copy, "--baseline", BASELINE, "--trust-root", TRUST)
    assert (code, found["schema"], found["verdicts"]) == (0, "cvmlab.evaluate/1", 0)
    assert told("evaluate", "--lake", copy)[1]["verdicts"] == 2
    query = "select verdict, count(*) n from latest_verdicts group by 1"
    code, found = told("sql", query, "--lake", copy)
    assert (code, found["rows"]) == (0, [{"verdict": "inconclusive", "n": 2}])
    assert run("sql", query, "--lake", copy, "--csv")[1] == "verdict,n\ninconclusive,2\n"
    assert "2 verdicts added" not in run("evaluate", "--lake", copy)[1]


def test_without_a_baseline_the_status_says_not_checked(lake: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lake"
    shutil.copytree(lake, copy)
    assert run("evaluate", "--lake", copy, "--trust-root", TRUST)[0] == 0
    row = next(r for r in told("status", "--lake", copy)[1]["machines"] if r["machine"] == "good")
    assert (row["status"], row["verdict"], row["reason"]) == ("failed", "inconclusive", "no-report")
    assert row["summary"].startswith("Not checked: the verifier lacks a baseline. ")


def test_ingest_and_compact_count(tmp_path: Path) -> None:
    arrive(tmp_path / "in", tmp_path / "store", "good", "baseline")
    arguments = ("ingest", tmp_path / "in", "--lake", tmp_path / "lake", "--verifier", tmp_path / "store")
    code, found = told(*arguments, "--baseline", BASELINE, "--trust-root", TRUST)
    assert (code, found["schema"], found["added"], found["verdicts"]) == (0, "cvmlab.ingest/1", 1, 1)
    assert told(*arguments, "--baseline", BASELINE, "--trust-root", TRUST)[1]["known"] == 1
    (tmp_path / "in" / "vm3.zip").write_bytes(b"PK\x03\x04 and no more")
    code, found = told(*arguments)
    assert (code, found["quarantined"]) == (1, 1)
    code, found = told("compact", "--lake", tmp_path / "lake", "--keep-days", 30)
    assert (code, found["schema"], found["expired"]) == (0, "cvmlab.compact/1", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("alerts",),
        ("report",),
        ("compact",),
        ("evaluate",),
        ("sql", "select 1"),
    ],
    ids=lambda words: words[0],
)
def test_no_lake_is_unusable_input(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--lake", tmp_path / "none")
    assert (code, out) == (2, "")
    assert "lake" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--status", "fine"),
        ("status", "--by", "colour"),
        ("status", "--machine", "nobody"),
        ("status", "--machine", "bad", "--by", "region"),
        ("status", "--csv", "--json"),
        ("status", "--stale", "0"),
        ("status", "--stale", "48", "--silent", "24"),
        ("status", "--storage-option", "endpoint_url"),
        ("status", "--storage-option", "endpoint_url=http://127.0.0.1:1"),
        ("alerts", "--as", "xml"),
        ("alerts", "--as", "lines", "--json"),
        ("alerts", "--alert-type", "T"),
        ("alerts", "--as", "lines", "-o", "/nowhere/alerts"),
        ("sql", "selec 1"),
        ("sql", "select * from nowhere"),
        ("sql", "drop table verdicts"),
        ("sql", "select 1; select 2"),
        ("sql", "select 1", "--csv", "--json"),
        ("report", "--stale", "-1"),
        ("evaluate", "--baseline", "/nowhere"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_answered_is_refused(lake: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--lake", lake)
    assert (code, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--hook", "'unclosed"), "--hook"),
        (("--suppress", "/nowhere.toml"), "/nowhere.toml"),
        (("--baseline", "/nowhere.json"), "/nowhere.json"),
        (("--inventory", "/nowhere.csv"), "/nowhere.csv"),
        (("--stale", "9", "--silent", "3"), "--stale"),
    ],
)
def test_watch_refuses_options_that_cannot_be_used(
    tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    (tmp_path / "in").mkdir()
    code, out, err = run("watch", tmp_path / "in", "--lake", tmp_path / "lake", "--once", *arguments)
    assert (code, out) == (2, "")
    assert word in err


def test_watch_of_an_inbox_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    code, out, err = run("watch", tmp_path / "none", "--lake", tmp_path / "lake", "--once")
    assert (code, out) == (2, "")
    assert "cannot be listed" in err
    assert run("watch", "ftp://host/x", "--lake", tmp_path / "lake", "--once")[0] == 2


def test_ingest_of_nothing_is_refused(tmp_path: Path) -> None:
    code, _, err = run("ingest", tmp_path / "none", "--lake", tmp_path / "lake")
    assert code == 2
    assert "nothing here" in err
