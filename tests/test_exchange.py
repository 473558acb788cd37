"""Frames out of the program and in again: every table of real logs, and text that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import cvmlab
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.ima import read_ima
from cvmlab.eventlog.log_tables import LOG_TABLES
from cvmlab.exchange import to_arrow, write_csv
from cvmlab.tables import check, table_named

if TYPE_CHECKING:
    from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _csv(frame: pd.DataFrame) -> str:
    target = io.StringIO()
    write_csv(frame, target)
    return target.getvalue()


def _rows(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdigit()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.from_regex(
    r"[=+\-@;,\t\r\n\"' |]{0,4}[a-z=(]{0,6}"
)


@given(text=TEXTS)
@example(text="=1+1")
@example(text="x;=1+1")
@example(text="x\t=1+1")
@example(text='x";"=1+1')
@example(text=" =1+1")
@example(text="\n=1+1")
@example(text="\uff1d1+1")
@example(text="x|@SUM(A1)")
def test_no_text_starts_a_formula_whatever_a_spreadsheet_splits_at(text: str) -> None:
    written = _csv(pd.DataFrame({"name": [text], "number": [-1]}))
    for delimiter in ",;\t|":
        for row in _rows(written, delimiter)[1:]:
            for field in row:
                assert not field.lstrip(" ").startswith(FORMULA) or field == "-1", (delimiter, field)
    (row,) = _rows(written)[1:]
    assert row[1] == "-1"
    assert row[0] in (text.replace("\0", "\\x00"), "'" + text.replace("\0", "\\x00"))


@pytest.mark.parametrize(
    ("text", "field"),
    [("plain", "plain"), ("a,b", '"a,b"'), ("a;b", '"a;b"'), ('a"b', '"a""b"'), ("=x", "'=x"), ("", '""')],
)
def test_fields_are_quoted_only_where_they_must_be(text: str, field: str) -> None:
    assert _csv(pd.DataFrame({"name": [text]})) == f"name\n{field}\n"


@pytest.fixture(scope="module")
def logs(corpus: Path, boots: Path) -> list[Path]:
    """Windows, Linux, TDX, TXT and old logs; IMA lists."""
    names = (
        "p511.bin", "option_rom_eventlog", "txt-logs.bin", "CCEL_data_gcp", "uefi_log.bin", "gdc-host.bin",
        "HP_Compaq_TPM1.2_UEFI_SB_Windows.log", "signature_list_size_zero.bin", "event-moklisttrusted.bin",
    )  # fmt: skip
    found = [next((corpus / "eventlogs").rglob(name)) for name in names]
    return [*found, boots / "debian_ima" / "ima_ascii.log", boots / "ima_tcb" / "ima_binary.bin"]


@pytest.mark.parametrize("name", LOG_TABLES)
def test_every_table_of_real_logs_survives_parquet_and_csv(
    logs: list[Path], tmp_path: Path, name: str
) -> None:
    filled = 0
    for path in logs:
        frame = read_event_log(path).table(name).reset_index(drop=True)
        assert check(frame, table_named(name)).empty, path.name
        filled += len(frame)
        frame.cvm.to_parquet(tmp_path / "x.parquet")
        back = pq.read_table(tmp_path / "x.parquet")
        assert back.schema.metadata[b"cvmlab_table"] == name.encode()
        assert back.to_pylist() == to_arrow(frame).to_pylist()
        frame.cvm.to_csv(tmp_path / "x.csv")
        rows = _rows((tmp_path / "x.csv").read_text(encoding="utf-8"))
        assert len(rows) == len(frame) + 1
        assert rows[0] == list(frame.columns)
        assert all(len(row) == len(rows[0]) for row in rows)
        fields = [field for row in rows[1:] for field in row]
        assert not [f for f in fields if f.startswith(FORMULA) and not _is_number(f)]
    assert filled or name == "problems"


def test_ima_table_of_a_log_is_that_of_the_list(boots: Path) -> None:
    path = boots / "debian_ima" / "ima_ascii.log"
    theirs = read_ima(path).to_frame().reset_index(drop=True)
    ours = read_event_log(path).table("ima").reset_index(drop=True)
    columns = [c for c in theirs.columns if c != "digest_check"]
    assert ours[columns].astype(str).equals(theirs[columns].astype(str))


def test_investigation_gives_every_table(sample_data: Path) -> None:
    result = cvmlab.investigate(sample_data / "boots" / "debian_ima")
    for name in LOG_TABLES:
        frame = result.table(name)
        assert check(frame.reset_index(drop=True), table_named(name)).empty, name
    assert len(result.table("ima")) > 100
    assert "/init" in set(result.table("ima")["path"]) or len(set(result.table("ima")["path"])) > 50
