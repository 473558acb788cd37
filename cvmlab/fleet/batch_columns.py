"""The columns that a batch of logs becomes, and the Arrow record batch made of them.

Whoever reads the logs, plain Python or compiled code, fills a `Part`; only this module lays Arrow out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cvmlab.tables import EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pyarrow as pa

    Numbers = np.ndarray[Any, np.dtype[Any]]

BANKS: Final = tuple(
    name for name in EVENTS.names if name in ("sha1", "sha256", "sha384", "sha512", "sm3_256")
)
"""Banks that have a digest column, whether a log uses them or not."""

_TEXT, _BYTES = "text", "bytes"
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "logs": {
        "format": _TEXT,
        "set": _TEXT,
        "banks": _TEXT,
        "size": "int64",
        "end": "int64",
        "startup_locality": "int8",
        "resumed": "int32",
        "complete": "bool",
    },
    "events": {
        "offset": "int64",
        "register": "uint32",
        "phase": _TEXT,
        "type": _TEXT,
        "type_number": "uint32",
        "digest_check": _TEXT,
        "covered": _TEXT,
        "data_size": "int32",
        "data_sha256": _BYTES,
        **dict.fromkeys(BANKS, _BYTES),
    },
    "registers": {"register": "int32", "bank": _TEXT, "value": _BYTES},
    "problems": {
        "offset": "int64",
        "field": _TEXT,
        "message": _TEXT,
        "fatal": "bool",
        "need": "int64",
        "have": "int64",
    },
}
"""Columns of a batch: of each log, and of the lists that each log has. Text and bytes are dictionaries."""
NULLABLE: Final = frozenset({"startup_locality", "resumed", "need", "have"})
"""Numbers that may be absent; in a `Part` the smallest integer stands for absent."""
ABSENT: Final = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Part:
    """Some logs of a batch, read.

    Attributes:
        columns: Table (`COLUMNS`) to column to numbers; of dictionaries, places in `pools`, -1 for none.
        counts: Rows that each log has in ``events``, ``registers`` and ``problems``, in order of the logs.
        pools: Dictionary column to its values, none of them twice.
    """

    columns: Mapping[str, Mapping[str, Numbers]]
    counts: Mapping[str, Numbers]
    pools: Mapping[str, pa.Array]


@cache
def batch_schema() -> pa.Schema:
    """Return the schema of what `cvmlab.fleet.batch.process_logs` adds to the caller's own columns."""
    import pyarrow as pa

    fields = [pa.field(name, _type(kind)) for name, kind in COLUMNS["logs"].items()]
    for table in ("events", "registers", "problems"):
        items = [pa.field(name, _type(kind)) for name, kind in COLUMNS[table].items()]
        fields.append(pa.field(table, pa.list_(pa.struct(items))))
    return pa.schema(fields)


def _type(kind: str) -> pa.DataType:
    import pyarrow as pa

    if kind in (_TEXT, _BYTES):
        return pa.dictionary(pa.int32(), pa.string() if kind == _TEXT else pa.binary())
    return pa.type_for_alias(kind)


def to_record_batch(parts: Sequence[Part], order: Numbers | None) -> pa.RecordBatch:
    """Lay parts out as one record batch (`batch_schema`), one row a log.

    Args:
        parts: At least one.
        order: For each row of the result, which log of the joined parts it is; None: in their order.
    """
    import numpy as np
    import pyarrow as pa

    schema = batch_schema()
    arrays = [_column(parts, "logs", name) for name in COLUMNS["logs"]]
    for table in ("events", "registers", "problems"):
        columns = [_column(parts, table, name) for name in COLUMNS[table]]
        counts = np.concatenate([part.counts[table] for part in parts])
        offsets = np.zeros(len(counts) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        item = schema.field(table).type.value_type
        rows = pa.StructArray.from_arrays(columns, fields=list(item))
        arrays.append(pa.ListArray.from_arrays(pa.array(offsets), rows))
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return batch if order is None else batch.take(pa.array(order))


def _column(parts: Sequence[Part], table: str, name: str) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    kind = COLUMNS[table][name]
    pieces = [part.columns[table][name] for part in parts]
    if kind in (_TEXT, _BYTES):
        return _dictionary(pieces, [part.pools[name] for part in parts], _type(kind))
    numbers = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    if name not in NULLABLE:
        return pa.array(numbers, _type(kind))
    absent = numbers == ABSENT
    return pa.array(np.where(absent, 0, numbers), _type(kind), mask=absent)


def _dictionary(pieces: Sequence[Numbers], pools: Sequence[pa.Array], type_: pa.DataType) -> pa.Array:
    """Join pools of values, each with places in it, to one dictionary without repetition."""
    import numpy as np
    import pyarrow as pa

    if len(pools) == 1:
        indices, values = pieces[0].astype(np.int32, copy=False), pools[0]
    else:
        values, codes = _joined(pools)
        # the code behind the last of a part stands for -1
        indices = np.concatenate([code[places] for code, places in zip(codes, pieces, strict=True)])
    absent = indices < 0
    mask = absent if absent.any() else None
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32(), mask=mask), values)


def _joined(pools: Sequence[pa.Array]) -> tuple[pa.Array, list[Numbers]]:
    """Join pools; return the values, and for each pool the code of each value and of none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values, codes = pools[0], [np.append(np.arange(len(pools[0]), dtype=np.int32), np.int32(-1))]
    for pool in pools[1:]:
        code = np.full(len(pool) + 1, -1, np.int32)
        # the smaller of the two becomes a table in which the larger is looked up
        if len(pool) < len(values):
            found = pc.index_in(values, value_set=pool).fill_null(-1).to_numpy(zero_copy_only=False)
            known = np.flatnonzero(found >= 0)
            code[found[known]] = known
        else:
            code[:-1] = pc.index_in(pool, value_set=values).fill_null(-1).to_numpy(zero_copy_only=False)
        new = np.flatnonzero(code[:-1] < 0)
        code[new] = len(values) + np.arange(len(new))
        values = pa.concat_arrays([values, pool.take(pa.array(new))])
        codes.append(code)
    return values, codes
