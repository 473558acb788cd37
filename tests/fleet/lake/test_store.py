"""The lake's tables: what is appended is read, twice the same is once, newer lakes are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from cvmlab.errors import EvidenceError
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.schema import arrow_schema, arrow_table, versions
from cvmlab.tables_lake import LAKE_TABLES, QUARANTINE

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def rows(*names: str) -> pa.Table:
    made = [
        {
            "attestation": name,
            "machine": name,
            "received": datetime(2026, 1, 31, 23, tzinfo=UTC),
            "day": "2026-01-31",
            "source": "test",
            "reason": "a test",
            "file_names": ["a"],
            "blobs": ["00"],
            **versions(),
        }
        for name in names
    ]
    return arrow_table(QUARANTINE, made)


@pytest.mark.parametrize("table", LAKE_TABLES, ids=lambda table: table.name)
def test_table_that_nothing_was_written_to_is_empty_with_its_columns(tmp_path: Path, table: object) -> None:
    assert Lake(tmp_path).read(table).schema.names == arrow_schema(table).names


def test_rows_come_back(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.append(QUARANTINE, rows("a", "b")) == 2
    assert lake.read(QUARANTINE).sort_by("machine").equals(rows("a", "b"))
    assert list(lake.frame("quarantine", columns=["machine"]).machine) == ["a", "b"]


def test_key_that_is_there_or_twice_given_is_left_out(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.append(QUARANTINE, rows("a", "a", "b"), key=["attestation"]) == 2
    assert lake.append(QUARANTINE, rows("b", "c"), key=["attestation"]) == 1
    assert sorted(lake.frame(QUARANTINE).machine) == ["a", "b", "c"]


def test_concurrent_writers_of_the_same_rows_write_them_once(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]

    def write(writer: int) -> int:
        lake = Lake(tmp_path)
        return sum(
            lake.append(QUARANTINE, rows(name, f"own{writer}-{name}"), key=["attestation"]) for name in names
        )

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 12 + 4 * 12
    found = list(Lake(tmp_path).frame(QUARANTINE).machine)
    assert len(found) == len(set(found)) == 12 + 4 * 12


def test_rows_outside_the_schema_are_refused(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with pytest.raises(ValueError, match="missing"):
        lake.append(QUARANTINE, rows("a").drop_columns(["machine"]))
    with pytest.raises(ValueError, match="absent"):
        arrow_table(QUARANTINE, [{"machine": "a"}])
    assert lake.delta(QUARANTINE) is None


def test_lake_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    with monkeypatch.context() as newer:
        newer.setattr("cvmlab.fleet.lake.store.SCHEMA_VERSION", 99)
        lake.append(QUARANTINE, rows("a"))
    with pytest.raises(EvidenceError, match="schema version 99"):
        lake.read(QUARANTINE)


def test_unreadable_table_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(QUARANTINE, rows("a"))
    for log in (tmp_path / "quarantine" / "_delta_log").glob("*.json"):
        log.write_text("{broken")
    with pytest.raises(EvidenceError, match="no table that can be read"):
        lake.read(QUARANTINE)


def test_a_folder_is_read_without_python_in_arrows_threads(tmp_path: Path) -> None:
    """Else a process that ends while they close files is aborted, apache/arrow issue 34314."""
    from pyarrow.fs import PyFileSystem, SubTreeFileSystem

    from cvmlab.fleet.lake.schema import arrow_table
    from cvmlab.tables_lake import MACHINES

    lake = Lake(tmp_path / "lake")
    row = {"machine": "vm1", "known_since": datetime(2026, 3, 1, tzinfo=UTC)}
    lake.append(MACHINES, arrow_table(MACHINES, [row]))
    files = lake.dataset(MACHINES).filesystem
    assert isinstance(files, SubTreeFileSystem)
    assert not isinstance(files.base_fs, PyFileSystem)
    assert len(lake.read(MACHINES)) == 1


def test_lake_of_an_older_version_is_read_and_gets_the_new_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from cvmlab.fleet.lake import store
    from cvmlab.fleet.lake.ask import sql
    from cvmlab.fleet.lake.care import compact
    from cvmlab.schema import Column

    Lake(tmp_path).append(QUARANTINE, rows("old"), key=["attestation"])
    added = Column("ticket", "object", "A column of a later version", nullable=True)
    newer = replace(QUARANTINE, columns=(*QUARANTINE.columns, added))
    monkeypatch.setitem(store.BY_NAME, "quarantine", newer)
    monkeypatch.setattr(store, "SCHEMA_VERSION", 2)
    lake = Lake(tmp_path)
    query = "select machine, ticket from quarantine order by machine"
    assert sql(lake, query).to_pylist() == [{"machine": "old", "ticket": None}]
    new = rows("old", "new").append_column("ticket", [["T1", "T2"]])
    assert lake.append(newer, new, key=["attestation"]) == 1
    for _ in range(2):
        assert sql(lake, query).to_pylist() == [
            {"machine": "new", "ticket": "T2"},
            {"machine": "old", "ticket": None},
        ]
        compact(lake, vacuum_hours=0)
    monkeypatch.setattr(store, "SCHEMA_VERSION", 1)
    with pytest.raises(EvidenceError, match="written by schema version 2, and this program knows 1: install"):
        Lake(tmp_path).read("quarantine")
