"""What one export may cost: bounds on everything that a file can choose, and the list of its problems."""

from __future__ import annotations

from typing import Final

from cvmlab.findings import Problem

MAX_FILE: Final = 1 << 29
"""Bytes of one file; a page of Resource Graph has a thousand records and a few megabytes."""
MAX_RECORD: Final = 1 << 22
"""Characters of one record."""
MAX_RECORDS: Final = 5_000_000
"""Records of one file."""
MAX_DEPTH: Final = 64
"""Nesting of one record."""
MAX_PROBLEMS: Final = 10_000
"""Problems listed for one reading; further ones are counted."""
MAX_EXTENSIONS: Final = 256
"""Extensions of one machine."""


class Problems:
    """Problems of one reading, in order, bounded: beyond the limit they are counted, not listed."""

    def __init__(self) -> None:
        self._rows: list[Problem] = []
        self._more = 0

    def add(self, source: str, offset: int, field: str, message: str, *, fatal: bool = False) -> None:
        """Add one; `fatal` where a record or the rest of a file was left out because of it."""
        if len(self._rows) < MAX_PROBLEMS:
            self._rows.append(Problem(source, offset, field, message, fatal))
        else:
            self._more += 1

    def rows(self) -> tuple[Problem, ...]:
        """Return the rows, with a last one that counts those left out."""
        if not self._more:
            return tuple(self._rows)
        last = Problem("all", 0, "problems", f"{self._more} further problems are counted and not listed")
        return (*self._rows, last)
