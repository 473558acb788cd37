"""Frames to Arrow, Parquet and CSV."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final, TextIO

from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as an Arrow table; the name of the table stands in the schema's metadata."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    name = str(frame.attrs.get("cvmlab_table", ""))
    return table.replace_schema_metadata({b"cvmlab_table": name.encode()})


def write_parquet(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame as Parquet.

    Raises:
        EvidenceError: The file cannot be written.
    """
    import pyarrow.parquet as pq

    try:
        pq.write_table(to_arrow(frame), str(path))
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_csv(frame: pd.DataFrame, target: TextIO) -> None:
    r"""Write a frame as CSV that a spreadsheet shows as text: nothing in it starts a formula.

    Text that starts like a formula gets an apostrophe before it; NUL is written as ``\x00``; what is
    absent is an empty field.
    """
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(frame.columns)
    plain = frame.astype(object).where(frame.notna(), None)
    for row in plain.itertuples(index=False):
        writer.writerow([_safe(value) for value in row])


def _safe(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        text = value.replace("\0", "\\x00")
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value
