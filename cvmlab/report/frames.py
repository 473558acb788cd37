"""Tables of results as DataFrames, by the schemas of `cvmlab.tables`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.tables import REGISTERS, make_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from cvmlab.explain.model import RegisterRow


def registers_frame(rows: Iterable[RegisterRow]) -> pd.DataFrame:
    """Return the registers table (`cvmlab.tables.REGISTERS`), one row a register and bank."""
    rows = list(rows)
    columns: dict[str, list[object]] = {
        name: [getattr(row, name) for row in rows] for name in ("set", "register", "bank", "status", "why")
    }
    for name in ("quoted", "replayed", "baseline"):
        columns[name] = [getattr(row, name) or None for row in rows]
    return make_frame(REGISTERS, columns)
