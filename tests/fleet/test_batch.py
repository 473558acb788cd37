"""Batches of logs are read as single logs are: field by field, whatever was done to the logs."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from cvmlab.errors import CvmlabError, EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.fleet.batch import batch_schema, process_logs
from cvmlab.fleet.batch_columns import BANKS

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"


def expected(data: bytes, source: str = "<batch>") -> dict[str, object]:
    """What the reader of single logs says, in the shape of a row."""
    log = read_event_log(data, name=source)
    return {
        "format": log.format,
        "set": log.set,
        "banks": ",".join(log.banks),
        "size": log.size,
        "end": log.end,
        "startup_locality": log.startup_locality,
        "resumed": log.resumed,
        "complete": log.complete,
        "events": [
            {
                "offset": event.offset,
                "register": event.register,
                "phase": event.phase,
                "type": event.type_name,
                "type_number": event.type,
                "digest_check": event.digest_check,
                "covered": event.covered,
                "data_size": len(event.data),
                "data_sha256": sha256(event.data).digest(),
                **{bank: event.digests.get(bank) for bank in BANKS},
            }
            for event in log.events
        ],
        "registers": [
            {"register": register, "bank": bank, "value": value}
            for bank, registers in log.replay().items()
            for register, value in registers.items()
        ],
        "problems": [
            {
                "offset": problem.offset,
                "field": problem.field,
                "message": problem.message,
                "fatal": problem.fatal,
                "need": problem.need,
                "have": problem.have,
            }
            for problem in log.problems
        ],
    }


def batch_of(logs: Sequence[bytes | None]) -> pa.RecordBatch:
    names = pa.array([f"m{i}" for i in range(len(logs))], pa.string())
    return pa.record_batch({"machine": names, "log": pa.array(logs, pa.binary())})


def assert_same(logs: Sequence[bytes]) -> None:
    rows = process_logs(batch_of(logs)).to_pylist()
    for number, (row, data) in enumerate(zip(rows, logs, strict=True)):
        wanted = {"machine": f"m{number}", **expected(data)}
        assert row == wanted, f"log {number} of {len(logs)}"


def sample_logs() -> list[bytes]:
    return [path.read_bytes() for path in sorted((SAMPLES / "boots").glob("*/eventlog.bin"))]


def test_every_sample_in_one_batch() -> None:
    assert_same(sample_logs() * 2)


def test_every_log_of_the_corpus_in_one_batch(corpus: Path) -> None:
    logs = []
    for path in sorted((corpus / "eventlogs").rglob("*")):
        if path.is_file() and path.stat().st_size < 1 << 20:
            data = path.read_bytes()
            try:
                read_event_log(data)
            except CvmlabError:
                continue
            logs.append(data)
    assert len(logs) > 50
    assert_same(logs)


def test_schema_is_the_same_for_any_batch() -> None:
    wanted = pa.schema([pa.field("machine", pa.string()), *batch_schema()])
    for logs in ([], [b""], [None], sample_logs()[:1], [sample_logs()[0][:500]]):
        result = process_logs(batch_of(logs))
        assert result.schema.equals(wanted)
        assert result.num_rows == len(logs)
        result.validate(full=True)


def test_column_without_logs_is_refused() -> None:
    with pytest.raises(EvidenceError, match="one column 'log' of bytes"):
        process_logs(pa.record_batch({"machine": ["a"]}))
    with pytest.raises(EvidenceError, match="this has string"):
        process_logs(pa.record_batch({"log": ["text"]}))
