"""Known keys are found, and new ones told, also after files were joined, removed or forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

import pyarrow as pa

from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake import keys as module
from cvmlab.fleet.lake.care import compact
from cvmlab.fleet.lake.keys import Keys
from cvmlab.fleet.lake.schema import arrow_table, versions
from cvmlab.tables_lake import QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest


def name_of(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def rows(numbers: Iterable[int], day: int = 1) -> pa.Table:
    at = datetime(2026, 1, day, tzinfo=UTC)
    made = [
        {
            "attestation": name_of(number),
            "machine": f"m{number}",
            "received": at,
            "day": at.strftime("%Y-%m-%d"),
            "source": "test",
            "reason": "a test",
            "file_names": [],
            "blobs": [],
            **versions(),
        }
        for number in numbers
    ]
    return arrow_table(QUARANTINE, made)


def found(lake: Lake, keys: Keys, numbers: Iterable[int]) -> list[str]:
    """Machines found by key in the way that an append looks for them."""
    table = lake.files(QUARANTINE)
    wanted = keys.maybe(table, pa.array([name_of(number) for number in numbers], pa.string()))
    return sorted(
        one
        for rows in keys.rows(table, wanted, ("attestation", "machine"))
        for one in rows["machine"].to_pylist()
    )


def test_keys_of_every_file_are_found_and_no_others(tmp_path: Path) -> None:
    lake, keys = Lake(tmp_path), Keys("attestation")
    assert found(lake, keys, range(5)) == []
    for start in range(0, 30, 10):
        lake.append(QUARANTINE, rows(range(start, start + 10)))
        wanted = range(start + 5, start + 15)
        assert found(lake, keys, wanted) == sorted(f"m{n}" for n in wanted if n < start + 10)
    assert found(lake, keys, range(100, 400)) == []


def test_same_evidence_on_another_day_is_known(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.append(QUARANTINE, rows(range(10)), key=["attestation"]) == 10
    assert lake.append(QUARANTINE, rows(range(5, 15), day=2), key=["attestation"]) == 5
    assert Lake(tmp_path).append(QUARANTINE, rows(range(15), day=3), key=["attestation"]) == 0


def test_what_was_joined_is_known_and_what_was_removed_is_new(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for day in (1, 1, 2):
        lake.append(QUARANTINE, rows(range(day * 10, day * 10 + 5), day), key=["attestation"])
        lake.append(QUARANTINE, rows(range(day * 100, day * 100 + 5), day), key=["attestation"])
    compact(lake, keep_days=0, now=datetime(2026, 1, 2, tzinfo=UTC), vacuum_hours=0)
    assert lake.append(QUARANTINE, rows(range(20, 25), 3), key=["attestation"]) == 0
    assert lake.append(QUARANTINE, rows(range(10, 15), 3), key=["attestation"]) == 5


def test_full_filter_and_forgotten_hashes_cost_time_and_not_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILTER_BITS", 64)
    monkeypatch.setattr(module, "MAX_HASHES", 1)
    lake = Lake(tmp_path)
    for start in range(0, 40, 10):
        assert lake.append(QUARANTINE, rows(range(start, start + 10)), key=["attestation"]) == 10
    assert lake.append(QUARANTINE, rows(range(35, 45)), key=["attestation"]) == 5
    assert found(lake, lake.keys(QUARANTINE, "attestation"), range(50)) == sorted(f"m{n}" for n in range(45))
    assert sum(map(module._bytes, lake.keys(QUARANTINE, "attestation")._hashes.values())) <= 80


def test_lake_sent_to_a_process_keeps_what_it_learned(tmp_path: Path) -> None:
    import pickle

    sent = pickle.dumps(Lake(tmp_path, storage_options={"region": "x"}))
    assert pickle.loads(sent) is pickle.loads(sent)


def test_text_has_the_same_hash_beside_whatever_it_stands() -> None:
    texts = [name_of(1), "short", name_of(2), "ü" * 32, "", None, "x" * 63, "x" * 65, name_of(3)]
    together = module._hashes(pa.array(texts, pa.string()))
    assert [module._hashes(pa.array([text], pa.string()))[0] for text in texts] == list(together)
    assert list(module._hashes(pa.array(texts, pa.string()).slice(2, 5))) == list(together[2:7])
    assert list(module._hashes(pa.array(texts, pa.string_view()))) == list(together)
    many = module._hashes(pa.array([name_of(number) for number in range(20_000)]))
    assert len(set(many.tolist())) == 20_000
