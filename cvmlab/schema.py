"""What a table's schema is made of: `Column` and `Table`. The tables themselves are in `cvmlab.tables`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Column name.
        dtype: pandas dtype: ``int64``, ``Int64`` (integers that may be absent), ``bool``, ``object`` (text)
            or ``category`` (text that repeats).
        meaning: What it holds, with the unit.
        values: The only values allowed; empty where any is.
        nullable: True where a value may be absent (shown as such, never as a blank that reads as fine).
    """

    name: str
    dtype: str
    meaning: str
    values: tuple[str, ...] = ()
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name and columns in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)
