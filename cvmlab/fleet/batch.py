"""Logs of many machines at once: an Arrow record batch in, a record batch out (design, section 6).

The functions here are pure and picklable: they keep nothing from call to call, so they run as they are in
another thread, process or machine. What they need in memory is bounded by the batch that they are given.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.batch_columns import batch_schema, to_record_batch
from cvmlab.fleet.batch_plain import read_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from cvmlab.fleet.batch_columns import Numbers, Part

LOG_COLUMN: Final = "log"
"""Column of the logs' bytes."""
CHUNK_LOGS: Final = 4096
CHUNK_BYTES: Final = 16 << 20
"""Most logs, and most bytes of logs, that are read together."""

__all__ = ["LOG_COLUMN", "batch_schema", "process_logs"]


def process_logs(batch: pa.RecordBatch, *, source: str = "<batch>") -> pa.RecordBatch:
    """Frame, replay and check the boot event logs of a batch.

    Every value is the one that `cvmlab.read_event_log` and `EventLog.replay` give for the log alone; damaged
    logs keep what could be read, with the same problems at the same offsets. What that function refuses (such
    as a log of more than 64 MiB) is a log without events and one fatal problem.

    Args:
        batch: One row a log: a column ``log`` (binary or large_binary; null counts as an empty log), and any
            others, such as ``machine``, which are handed through.
        source: What to call the logs in messages.

    Returns:
        The rows of `batch` in their order, without ``log``, and the columns of `batch_schema`: ``format``,
        ``set``, ``banks`` (joined by commas, in the log's order), ``size``, ``end``, ``startup_locality``,
        ``resumed``, ``complete``, and three lists of structs: ``events`` (index is the place in the list),
        ``registers`` (the replayed value of every register and bank) and ``problems``. Texts, digests and
        values are dictionaries; digests are bytes.

    Raises:
        EvidenceError: There is no column ``log`` of bytes.
    """
    import pyarrow as pa

    logs = _logs(batch)
    parts, order = _read(logs, source) if _can_compile() else ([read_plain(_each(logs), source)], None)
    result = to_record_batch(parts, order)
    names = [name for name in batch.schema.names if name != LOG_COLUMN]
    return pa.RecordBatch.from_arrays(
        [*(batch.column(name) for name in names), *result.columns], [*names, *result.schema.names]
    )


@cache
def _can_compile() -> bool:
    return find_spec("numba") is not None


def _each(logs: pa.Array) -> Iterator[bytes]:
    return (value.as_py() or b"" for value in logs)


def _read(logs: pa.Array, source: str) -> tuple[list[Part], Numbers | None]:
    """Read regular logs together, the others one by one; say where each log is in the parts."""
    import numpy as np

    from cvmlab.fleet.batch_fast import read_fast

    buffer, offsets = _flat(logs)
    parts: list[Part] = []
    places = np.empty(len(logs), np.int64)
    done = np.zeros(len(logs), bool)
    total = 0
    for first, last in _chunks(offsets):
        part, chosen = read_fast(buffer, offsets[first:last], offsets[first + 1 : last + 1])
        parts.append(part)
        places[first + chosen] = total + np.arange(len(chosen))
        done[first + chosen] = True
        total += len(chosen)
    others = np.flatnonzero(~done)
    if len(others) or not parts:
        data = (buffer[offsets[log] : offsets[log + 1]].tobytes() for log in others)
        parts.append(read_plain(data, source))
        places[others] = total + np.arange(len(others))
    in_order = len(others) == 0 or bool((places[1:] > places[:-1]).all())
    return parts, None if in_order else places


def _flat(logs: pa.Array) -> tuple[Numbers, Numbers]:
    """Return the bytes of all logs and where each begins, and the last ends; nothing is copied."""
    import numpy as np
    import pyarrow as pa

    wide = pa.types.is_large_binary(logs.type)
    if logs.null_count:
        logs = logs.fill_null(b"")
    _, starts, data = logs.buffers()
    if not len(logs):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    kind = np.int64 if wide else np.int32
    offsets = np.frombuffer(starts, kind)[logs.offset : logs.offset + len(logs) + 1].astype(np.int64)
    buffer = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    return buffer, offsets


def _chunks(offsets: Numbers) -> Iterator[tuple[int, int]]:
    """Cut a batch into stretches of bounded size, which bounds the memory of what is made of them."""
    import numpy as np

    count = len(offsets) - 1
    first = 0
    while first < count:
        most = int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES, side="right")) - 1
        last = min(count, max(first + 1, most), first + CHUNK_LOGS)
        yield first, last
        first = last


def _logs(batch: pa.RecordBatch) -> pa.Array:
    import pyarrow as pa

    index = batch.schema.get_field_index(LOG_COLUMN)
    kind = batch.schema.field(index).type if index >= 0 else None
    if kind is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise EvidenceError(f"a batch of logs needs one column {LOG_COLUMN!r} of bytes, and this has {kind}")
    return batch.column(index)
