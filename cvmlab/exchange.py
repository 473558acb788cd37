"""Frames to Arrow, Parquet and CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO

from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

# what spreadsheets take for the start of a formula, full-width forms included (OWASP, "CSV Injection")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# a spreadsheet may split at other separators than ours, and a field behind one may start a formula
_QUOTED: Final = frozenset(',;|\t\r\n" ')


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


def write_csv(frame: pd.DataFrame, target: TextIO, *, header: bool = True) -> None:
    r"""Write a frame as CSV that a spreadsheet shows as text: nothing in it starts a formula.

    Text that starts like a formula, also behind blanks, gets an apostrophe before it. Fields are quoted
    where they hold any separator that a spreadsheet may know, not only the comma. NUL is written as
    ``\x00``; what is absent is an empty field.

    Args:
        frame: The frame.
        target: Where to.
        header: Whether the names of the columns come first; not for a further part of one table.
    """
    if header:
        target.write(_line(frame.columns))
    plain = frame.astype(object).where(frame.notna(), None)
    for row in plain.itertuples(index=False):
        target.write(_line(row))


def _line(fields: Iterable[object]) -> str:
    # one empty field alone would be an empty line, which readers skip
    return (",".join(map(_field, fields)) or '""') + "\n"


def _field(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = value.replace("\0", "\\x00")
    if text.lstrip(" \u00a0\u3000").startswith(_FORMULA) or text.startswith(_FORMULA):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if not _QUOTED.isdisjoint(text) else text
