"""Tables of a log: held against openssl's reading of certificates and against the declared schemas."""

from __future__ import annotations

import base64
import csv
import io
import subprocess
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.log_tables import LOG_TABLES
from cvmlab.exchange import write_csv
from cvmlab.tables import TABLES, check, make_frame, table_named
from cvmlab.uefi.siglist import SignatureList

if TYPE_CHECKING:
    from pathlib import Path


def _logs(corpus: Path) -> list[Path]:
    return sorted(p for p in (corpus / "eventlogs").rglob("*") if p.is_file() and p.stat().st_size)


@pytest.mark.parametrize("name", LOG_TABLES)
def test_every_table_of_every_log_follows_its_schema(corpus: Path, name: str) -> None:
    for path in _logs(corpus)[::3]:
        frame = read_event_log(path).table(name)
        assert check(frame.reset_index(drop=True), table_named(name)).empty, path.name


def test_certificates_are_those_that_openssl_reads(sample_data: Path) -> None:
    log = read_event_log(sample_data / "boots" / "baseline" / "eventlog.bin")
    frame = log.table("signatures")
    rows = frame[(frame["type"] == "X509") & (frame["list"] >= 0)]
    assert len(rows) >= 5
    for row in rows.itertuples():
        lists = log.events[row.event].payload.value
        assert isinstance(lists, tuple)
        assert isinstance(lists[row.list], SignatureList)
        der = lists[row.list].signatures[row.entry].data
        pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        said = subprocess.run(
            [
                "openssl",
                "x509",
                "-noout",
                "-serial",
                "-fingerprint",
                "-sha256",
                "-enddate",
                "-dateopt",
                "iso_8601",
            ],
            input=pem,
            capture_output=True,
            check=True,
        ).stdout.decode()
        facts = dict(line.split("=", 1) for line in said.splitlines())
        assert int(row.serial, 16) == int(facts["serial"], 16)
        fingerprint = next(value for key, value in facts.items() if "ingerprint" in key)
        assert row.sha256 == fingerprint.replace(":", "").lower()
        assert row.not_after[:19].replace("T", " ") == facts["notAfter"].removesuffix("Z")


def test_windows_modules_have_a_path_and_an_authenticode_hash(corpus: Path) -> None:
    path = next(p for p in _logs(corpus) if p.name == "p511.bin")
    modules = read_event_log(path).table("modules")
    thirteen = modules[modules["register"] == 13]
    assert len(thirteen) > 80
    assert thirteen["authenticode"].str.len().eq(64).all()
    assert thirteen["path"].str.lower().str.endswith((".sys", ".dll", ".exe", ".efi", ".mui")).mean() > 0.9


def test_unknown_table_is_named_with_those_there_are(sample_data: Path) -> None:
    log = read_event_log(sample_data / "boots" / "baseline" / "eventlog.bin")
    with pytest.raises(KeyError, match="variables"):
        log.table("modulez")


def test_empty_log_gives_empty_tables_of_the_same_columns() -> None:
    log = read_event_log(b"")
    for name in LOG_TABLES:
        frame = log.table(name)
        assert len(frame) == (name == "problems")
        assert list(frame.columns) == list(table_named(name).names)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\tx", "\rx"])
def test_csv_never_starts_a_formula(text: str) -> None:
    target = io.StringIO()
    write_csv(pd.DataFrame({"name": [text]}), target)
    rows = list(csv.reader(io.StringIO(target.getvalue(), newline="")))
    assert rows[1][0].startswith("'")


def test_csv_keeps_commas_quotes_newlines_and_says_nul() -> None:
    target = io.StringIO()
    write_csv(pd.DataFrame({"name": ['a,"b"\nc\0d', None]}), target)
    rows = list(csv.reader(io.StringIO(target.getvalue(), newline="")))
    assert rows[1:] == [['a,"b"\nc\\x00d'], [""]]


def test_parquet_round_trip_keeps_values_and_dictionaries(sample_data: Path, tmp_path: Path) -> None:
    frame = read_event_log(sample_data / "boots" / "baseline" / "eventlog.bin").to_frame()
    frame.cvm.to_parquet(tmp_path / "events.parquet")
    table = pq.read_table(tmp_path / "events.parquet")
    assert table.schema.metadata[b"cvmlab_table"] == b"events"
    assert str(table.schema.field("sha256").type).startswith("dictionary")
    assert table.column("sha256").to_pylist() == [
        None if pd.isna(value) else value for value in frame["sha256"].astype(object)
    ]


def test_accessor_selects_by_register_and_trust(sample_data: Path) -> None:
    frame = read_event_log(sample_data / "boots" / "baseline" / "eventlog.bin").to_frame()
    assert set(frame.cvm.of_register(4, 5)["register"]) == {4, 5}
    assert frame.cvm.proven().empty
    assert len(frame.cvm.claimed()) == len(frame)
    assert frame.cvm.check().empty
    assert frame.cvm.table.name == "events"


def test_accessor_refuses_frames_of_others() -> None:
    make_frame(TABLES[0], {})
    with pytest.raises(AttributeError, match="none of cvmlab's tables"):
        pd.DataFrame({"a": [1]}).cvm.check()
