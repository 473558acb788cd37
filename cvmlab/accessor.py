"""``df.cvm``: thin sugar over the tables, for those who have a frame in hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cvmlab.exchange import to_arrow, write_csv, write_parquet
from cvmlab.tables import check, table_named

if TYPE_CHECKING:
    import pyarrow as pa

    from cvmlab.tables import Table


@pd.api.extensions.register_dataframe_accessor("cvm")
class CvmAccessor:
    """Methods on the frames that cvmlab makes.

    Raises:
        AttributeError: The frame is none of cvmlab's tables.

    Example:
        >>> import cvmlab
        >>> log = cvmlab.read_event_log(cvmlab.sample("baseline") / "eventlog.bin")
        >>> len(log.to_frame().cvm.of_register(7))
        9
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        name = frame.attrs.get("cvmlab_table")
        if not isinstance(name, str):
            raise AttributeError("this frame is none of cvmlab's tables: frame.attrs has no 'cvmlab_table'")
        self._frame = frame
        self._table = table_named(name)

    @property
    def table(self) -> Table:
        """The schema: name and columns with dtype, unit and meaning."""
        return self._table

    def of_register(self, *registers: int) -> pd.DataFrame:
        """Return the rows of some registers."""
        return self._frame[self._frame["register"].isin(registers)]

    def proven(self) -> pd.DataFrame:
        """Return the rows that a verified quote vouches for, text included."""
        return self._frame[self._frame["trust"] == "proven"]

    def claimed(self) -> pd.DataFrame:
        """Return the rows whose text is only a claim."""
        return self._frame[self._frame["trust"] != "proven"]

    def check(self) -> pd.DataFrame:
        """Compare the frame with its schema: one row a failure, none where all is well."""
        return check(self._frame, self._table)

    def to_arrow(self) -> pa.Table:
        """Return the frame as an Arrow table; text that repeats as dictionaries."""
        return to_arrow(self._frame)

    def to_parquet(self, path: str | Path) -> None:
        """Write the frame as Parquet."""
        write_parquet(self._frame, path)

    def to_csv(self, path: str | Path) -> None:
        """Write the frame as CSV in which nothing starts a spreadsheet's formula."""
        try:
            with Path(path).open("w", encoding="utf-8", newline="") as file:
                write_csv(self._frame, file)
        except OSError as error:
            from cvmlab.errors import EvidenceError

            raise EvidenceError(f"{path}: cannot be written: {error.strerror or error}") from error
