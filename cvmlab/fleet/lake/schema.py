"""Schemas of the lake's tables as Arrow schemas, and rows of Python values as Arrow tables."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cvmlab.tables_lake import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from cvmlab.schema import Table

_ARROW: Final = {
    "object": "string",
    "category": "string",
    "int64": "int64",
    "Int64": "int64",
    "bool": "bool",
    "binary": "binary",
}


@cache
def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table."""
    import pyarrow as pa

    def kind(dtype: str) -> pa.DataType:
        if dtype == "timestamp":
            return pa.timestamp("us", tz="UTC")
        if dtype.startswith("list["):
            return pa.list_(kind(dtype[5:-1]))
        return pa.type_for_alias(_ARROW[dtype])

    return pa.schema([pa.field(c.name, kind(c.dtype), nullable=c.nullable) for c in table.columns])


def arrow_table(table: Table, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Make an Arrow table of rows; what a nullable column lacks is absent.

    Raises:
        ValueError: A row lacks a value that may not be absent, or has one outside the vocabulary.
    """
    import pyarrow as pa

    loose = pa.schema([field.with_nullable(True) for field in arrow_schema(table)])
    return checked(table, pa.Table.from_pylist(list(rows), schema=loose))


def checked(table: Table, data: pa.Table) -> pa.Table:
    """Return the data with the table's columns in their order.

    Raises:
        ValueError: Columns are missing or unknown, values are absent or outside the vocabulary.
    """
    import pyarrow.compute as pc

    unknown = [name for name in data.column_names if name not in table.names]
    missing = [name for name in table.names if name not in data.column_names]
    if unknown or missing:
        raise ValueError(f"table {table.name}: columns missing {missing}, not in the schema {unknown}")
    data = data.select(list(table.names))
    for column in table.columns:
        values = data.column(column.name)
        if not column.nullable and values.null_count:
            raise ValueError(f"table {table.name}: values of {column.name} are absent")
        if column.values and len(values):
            odd = [v for v in pc.unique(values).to_pylist() if v is not None and v not in column.values]
            if odd:
                raise ValueError(f"table {table.name}: {column.name} has {odd[:5]}, outside its vocabulary")
    return data.cast(arrow_schema(table))


def among(name: str, values: pa.Array) -> Any:
    """Return the expression that a column of text has one of the values.

    The cast keeps Arrow from comparing the values with a file's least and greatest one, which fails where the
    file was rewritten by a compaction (its text is of another Arrow type); for digests it would gain nothing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.field(name).cast(pa.large_string()).isin(values.cast(pa.large_string()))


def versions() -> dict[str, object]:
    """Return the values of the columns that say what wrote a row."""
    from cvmlab import __version__

    return {"schema_version": SCHEMA_VERSION, "tool_version": __version__}


def day_of(received: datetime) -> str:
    """Return the day of a time, UTC."""
    return received.astimezone(UTC).strftime("%Y-%m-%d")
