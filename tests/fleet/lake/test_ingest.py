"""Evidence goes into the lake once, comes back byte for byte, and is judged as it is alone."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pytest

import cvmlab
from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_context
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.ask import sql
from cvmlab.fleet.lake.blobs import Blobs, Packer
from cvmlab.fleet.lake.care import compact
from cvmlab.fleet.lake.evaluation import evaluate
from cvmlab.fleet.lake.ingest import commit, ingest
from cvmlab.fleet.lake.prepare import prepare, submission_schema
from cvmlab.fleet.lake.submissions import VerifierStore, find_submissions
from cvmlab.tables_lake import ATTESTATIONS, BLOBS, LAKE_TABLES

SAMPLES = Path(__file__).resolve().parents[3] / "sample_data"
BOOTS = SAMPLES / "boots"
ROOT = BOOTS / "trust-root.pem"
FEW = ("baseline", "cmdline_changed", "initrd_tampered", "mix_nonce_replayed", "mix_log_truncated", "ima_tcb")


def inbox(tmp_path: Path, names: tuple[str, ...] = FEW) -> tuple[Path, Path]:
    """Lay out what machines sent, and what the verifier knows, apart from each other."""
    sent, known = tmp_path / "inbox", tmp_path / "known"
    for name in names:
        shutil.copytree(BOOTS / name, sent / name)
        (known / name).mkdir(parents=True)
        for file in ("nonce.hex", "credential_activation.json"):
            if (sent / name / file).exists():
                (sent / name / file).rename(known / name / file)
    return sent, known


def contents(lake: Lake) -> dict[str, list[tuple[str, str]]]:
    rows = lake.read(ATTESTATIONS).to_pylist()
    return {r["machine"]: sorted(zip(r["file_names"], r["blobs"], strict=True)) for r in rows}


def test_verdicts_are_those_of_single_investigations(tmp_path: Path) -> None:
    sent, known = inbox(tmp_path)
    lake = Lake(tmp_path / "lake")
    counts = ingest(lake, find_submissions([sent]), store=VerifierStore(known))
    assert (counts.added, counts.quarantined) == (len(FEW), 0)
    baseline = cvmlab.load_baseline(SAMPLES / "baseline.json")
    context = load_context(trust_roots=[ROOT])
    assert evaluate(lake, baseline, context) == len(FEW)
    assert evaluate(lake, baseline, context) == 0
    for row in lake.read("verdicts").to_pylist():
        alone = cvmlab.investigate(BOOTS / row["machine"], baseline=baseline, trust_roots=ROOT)
        assert (row["verdict"], row["codes"]) == (
            alone.verdict,
            [c["code"] for c in json.loads(alone.to_json())["causes"]],
        )
        findings = [f for f in lake.read("findings").to_pylist() if f["machine"] == row["machine"]]
        assert [f["code"] for f in sorted(findings, key=lambda f: f["position"])] == row["codes"]
    assert evaluate(lake, None, context) == len(FEW)
    assert len(lake.read("verdicts")) == 2 * len(FEW)


def test_verifiers_files_from_the_machine_do_not_count(tmp_path: Path) -> None:
    shutil.copytree(BOOTS / "baseline", tmp_path / "inbox" / "baseline")
    lake = Lake(tmp_path / "lake")
    ingest(lake, find_submissions([tmp_path / "inbox"]))
    evaluate(lake, cvmlab.load_baseline(SAMPLES / "baseline.json"), load_context(trust_roots=[ROOT]))
    (row,) = lake.read("verdicts").to_pylist()
    assert row["verdict"] != "trusted"
    assert lake.read(ATTESTATIONS).to_pylist()[0]["nonce"] is None


@pytest.mark.parametrize("name", ["..", ".", "", "../known", "a/b", "a\\b", "a\0b"])
def test_machine_cannot_name_its_way_through_the_verifiers_store(tmp_path: Path, name: str) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "nonce.hex").write_text("00")
    assert VerifierStore(tmp_path / "known").files_of(name) == ()


def test_every_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    sent, _ = inbox(tmp_path)
    lake = Lake(tmp_path / "lake")
    ingest(lake, find_submissions([sent]))
    for machine, files in contents(lake).items():
        found = Blobs(lake).get(blob for _, blob in files)
        assert {name: found[blob] for name, blob in files} == {
            f.name: f.read_bytes() for f in (sent / machine).iterdir()
        }


def test_same_evidence_again_adds_nothing(tmp_path: Path) -> None:
    sent, known = inbox(tmp_path)
    lake = Lake(tmp_path / "lake")
    ingest(lake, find_submissions([sent]), store=VerifierStore(known))
    before = {table.name: len(lake.read(table)) for table in LAKE_TABLES}
    again = ingest(lake, find_submissions([sent]), store=VerifierStore(known))
    assert (again.added, again.known) == (0, len(FEW))
    assert {table.name: len(lake.read(table)) for table in LAKE_TABLES} == before


def test_bad_evidence_is_in_quarantine_with_its_reason_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "notes.txt").write_bytes(b"hello")
    (tmp_path / "inbox" / "cut.zip").write_bytes(b"PK\x03\x04broken")
    (tmp_path / "inbox" / "link").symlink_to(BOOTS / "baseline")
    lake = Lake(tmp_path / "lake")
    counts = ingest(lake, find_submissions([tmp_path / "inbox"]))
    assert (counts.added, counts.quarantined) == (0, 3)
    rows = {row["machine"]: row for row in lake.read("quarantine").to_pylist()}
    assert "neither an archive" in rows["notes.txt"]["reason"]
    assert "links" in rows["link"]["reason"]
    assert Blobs(lake).get(rows["notes.txt"]["blobs"]) == {hashlib.sha256(b"hello").hexdigest(): b"hello"}


def test_archive_of_many_machines_is_what_its_folders_are(tmp_path: Path) -> None:
    sent, _ = inbox(tmp_path)
    with tarfile.open(tmp_path / "fleet.tar.gz", "w:gz") as tar:
        tar.add(sent, arcname="fleet")
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    ingest(one, find_submissions([sent]))
    ingest(other, find_submissions([tmp_path / "fleet.tar.gz"]))
    assert contents(one) == contents(other)


def test_changed_content_is_refused_on_reading(tmp_path: Path) -> None:
    packer = Packer()
    name = packer.add(b"true" * 100, "f", "s")
    table = packer.table()
    other = Packer()
    other.add(b"fake" * 100, "f", "s")
    forged = table.set_column(
        table.schema.get_field_index("data"), table.schema.field("data"), other.table().column("data")
    )
    lake = Lake(tmp_path)
    lake.append(BLOBS, forged)
    with pytest.raises(EvidenceError, match="not what was stored"):
        Blobs(lake).get([name])
    with pytest.raises(EvidenceError, match="missing"):
        Blobs(lake).get(["00" * 32])


def test_retention_removes_old_evidence_and_keeps_what_is_shared(tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime(2020, 6, 1, 12, tzinfo=UTC)
    lake = Lake(tmp_path / "lake")
    sent, _ = inbox(tmp_path, ("baseline", "cmdline_changed"))
    ingest(lake, find_submissions([sent / "baseline"]), received=now - timedelta(days=40))
    ingest(lake, find_submissions([sent / "cmdline_changed"]), received=now)
    kept = contents(lake)["cmdline_changed"]
    young = compact(lake, keep_days=30, now=now, vacuum_hours=0)
    assert (young.expired, young.contents) == (1, 0)  # stored a moment ago: an ingest may yet refer to them
    assert contents(lake) == {"cmdline_changed": kept}
    assert evaluate(lake) == 1
    assert sql(lake, "select machine from attestations").to_pylist() == [{"machine": "cmdline_changed"}]
    assert ingest(lake, find_submissions([sent / "cmdline_changed"])).known == 1
    later = compact(lake, keep_days=10_000, now=datetime.now(UTC) + timedelta(days=2), vacuum_hours=0)
    assert later.contents > 0
    found = Blobs(lake).get(blob for _, blob in kept)
    assert {name: found[blob] for name, blob in kept} == {
        file.name: file.read_bytes() for file in (sent / "cmdline_changed").iterdir()
    }


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "copy (select 1) to '/tmp/cvmlab-out.csv'",
        "attach '/tmp/cvmlab.db'",
        "set enable_external_access = true",
        "install httpfs",
        "select * from nowhere",
        "create table t (a int)",
    ],
)
def test_query_can_neither_reach_out_nor_change(tmp_path: Path, query: str) -> None:
    with pytest.raises(EvidenceError):
        sql(Lake(tmp_path), query)


def test_query_sees_tables_and_the_last_verdicts(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    sent, known = inbox(tmp_path)
    ingest(lake, find_submissions([sent]), store=VerifierStore(known))
    evaluate(lake)
    evaluate(lake, cvmlab.load_baseline(SAMPLES / "baseline.json"), load_context(trust_roots=[ROOT]))
    found = sql(lake, "select machine, verdict from latest_verdicts order by 1").to_pylist()
    assert [row["machine"] for row in found] == sorted(FEW)
    assert {r["verdict"] for r in found if r["machine"] == "baseline"} == {"trusted"}
    for query in (
        "with blobs as (select machine from LATEST_VERDICTS) select count(*) n from blobs",
        "select count(*) n from (select machine from attestations) a join latest_verdicts v using (machine)",
        "select count(*) n from query_table('attestations')",
    ):
        assert sql(lake, query).to_pylist() == [{"n": len(FEW)}]
    names = sql(lake, "select table_name from information_schema.tables").to_pylist()
    assert {row["table_name"] for row in names} >= {table.name for table in LAKE_TABLES}


INGEST = """
import sys
from cvmlab.fleet.lake import Lake, ingest
from cvmlab.fleet.lake import ingest as module
from cvmlab.fleet.lake.submissions import find_submissions
module.BATCH_MACHINES = 2
print("ready", flush=True)
module.ingest(Lake(sys.argv[1]), find_submissions([sys.argv[2]]))
print("done", flush=True)
"""


def test_ingest_killed_at_any_point_loses_and_doubles_nothing(tmp_path: Path) -> None:
    sent, _ = inbox(tmp_path)
    (sent / "notes").mkdir()
    (sent / "notes" / "read.me").write_bytes(b"no evidence")
    whole = Lake(tmp_path / "whole")
    ingest(whole, find_submissions([sent]))
    source = random.Random(7)
    for attempt in range(3):
        place = tmp_path / f"killed{attempt}"
        done = False
        for _ in range(4):
            with subprocess.Popen(
                [sys.executable, "-c", INGEST, str(place), str(sent)], stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                time.sleep(source.uniform(0.2, 2.0))
                process.send_signal(signal.SIGKILL)
                done = "done" in process.stdout.read()
            # whatever is committed is whole: every file that a row names comes back
            for files in contents(Lake(place)).values():
                Blobs(Lake(place)).get(blob for _, blob in files)
            if done:
                break
        ingest(Lake(place), find_submissions([sent]))
        assert same(Lake(place), whole)


@pytest.mark.parametrize("stop", range(5), ids=["blobs", "events", "profiles", "quarantine", "attestations"])
def test_ingest_that_stops_before_a_table_is_made_good_by_the_next(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, _ = inbox(tmp_path, ("baseline", "cmdline_changed"))
    (sent / "notes.txt").write_bytes(b"hello")
    whole, lake = Lake(tmp_path / "whole"), Lake(tmp_path / "lake")
    ingest(whole, find_submissions([sent]))
    calls = iter(range(100))
    append = Lake.append

    def stopping(self: Lake, *args: object, **options: object) -> int:
        if next(calls) == stop:
            raise KeyboardInterrupt
        return append(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "append", stopping)
        with pytest.raises(KeyboardInterrupt):
            ingest(lake, find_submissions([sent]))
    assert len(lake.read(ATTESTATIONS)) == 0
    ingest(lake, find_submissions([sent]))
    assert same(lake, whole)


def same(one: Lake, other: Lake) -> bool:
    """Whether two lakes hold the same, whenever and in whichever batches it was written."""
    for table, columns in (
        ("attestations", ["attestation", "machine", "blobs", "profile"]),
        ("quarantine", ["attestation", "reason"]),
        ("profiles", ["profile"]),
        ("events", ["profile", "index"]),
        ("blobs", ["sha256", "size"]),
    ):
        rows = [
            sorted(json.dumps(row) for row in lake.read(table, columns=columns).to_pylist())
            for lake in (one, other)
        ]
        if rows[0] != rows[1] or len(set(rows[0])) != len(rows[0]):
            return False
    return True


def test_batch_of_nothing_is_written_without_harm(tmp_path: Path) -> None:
    rows = prepare(pa.RecordBatch.from_pylist([], schema=submission_schema()))
    assert commit(Lake(tmp_path), rows) == (0, 0)


@pytest.mark.parametrize("when", ["after it looked", "between contents and row", "after the row"])
def test_what_is_sent_again_while_retention_removes_it_is_kept(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime, timedelta

    from cvmlab.fleet.lake import care

    now = datetime.now(UTC) + timedelta(days=2)
    sent, _ = inbox(tmp_path, ("baseline", "cmdline_changed"))
    lake = Lake(tmp_path / "lake")
    ingest(lake, find_submissions([sent]), received=now - timedelta(days=40))
    other = Lake(tmp_path / "lake")
    used, append = care._used, Lake.append
    done: list[str] = []

    def again() -> None:
        if not done:
            done.append(when)
            ingest(other, find_submissions([sent]), received=now)

    def looked(*args: object) -> pa.Array:
        found = used(*args)
        again()
        return found

    def appended(self: Lake, table: object, *args: object, **options: object) -> int:
        if self is other and table is ATTESTATIONS and len(done) == 1:
            done.append("removed")
            care.compact(lake, keep_days=30, now=now, vacuum_hours=0)
        return append(self, table, *args, **options)

    if when == "after it looked":
        monkeypatch.setattr(care, "_used", looked)
        compact(lake, keep_days=30, now=now, vacuum_hours=0)
    elif when == "between contents and row":
        compact(lake, keep_days=30, now=now - timedelta(days=2), vacuum_hours=0)
        monkeypatch.setattr(Lake, "append", appended)
        again()
        assert done[-1] == "removed"
    else:
        compact(lake, keep_days=30, now=now - timedelta(days=2), vacuum_hours=0)
        again()
        compact(lake, keep_days=30, now=now, vacuum_hours=0)
    assert set(contents(lake)) == {"baseline", "cmdline_changed"}
    for machine, files in contents(lake).items():
        found = Blobs(lake).get(blob for _, blob in files)
        assert {name: found[blob] for name, blob in files} == {
            one.name: one.read_bytes() for one in (sent / machine).iterdir()
        }
