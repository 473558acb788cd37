"""Logs of many machines at once: an Arrow record batch in, a record batch out (design, section 6).

The functions here are pure and picklable: they keep nothing from call to call, so they run as they are in
another thread, process or machine. What they need in memory is bounded by the batch that they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.batch_columns import batch_schema, to_record_batch
from cvmlab.fleet.batch_plain import read_plain

if TYPE_CHECKING:
    import pyarrow as pa

LOG_COLUMN: Final = "log"
"""Column of the logs' bytes."""

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
    part = read_plain((value.as_py() or b"" for value in logs), source)
    result = to_record_batch([part], None)
    names = [name for name in batch.schema.names if name != LOG_COLUMN]
    return pa.RecordBatch.from_arrays(
        [*(batch.column(name) for name in names), *result.columns], [*names, *result.schema.names]
    )


def _logs(batch: pa.RecordBatch) -> pa.Array:
    import pyarrow as pa

    index = batch.schema.get_field_index(LOG_COLUMN)
    kind = batch.schema.field(index).type if index >= 0 else None
    if kind is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise EvidenceError(f"a batch of logs needs one column {LOG_COLUMN!r} of bytes, and this has {kind}")
    return batch.column(index)
