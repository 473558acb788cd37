"""Tables of results as DataFrames, by the schemas of `cvmlab.tables`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.tables import HARDWARE, REGISTERS, make_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from cvmlab.explain.model import RegisterRow
    from cvmlab.trust.hardware import HardwareResult


def registers_frame(rows: Iterable[RegisterRow]) -> pd.DataFrame:
    """Return the registers table (`cvmlab.tables.REGISTERS`), one row a register and bank."""
    rows = list(rows)
    columns: dict[str, list[object]] = {
        name: [getattr(row, name) for row in rows] for name in ("set", "register", "bank", "status", "why")
    }
    for name in ("quoted", "replayed", "baseline"):
        columns[name] = [getattr(row, name) or None for row in rows]
    return make_frame(REGISTERS, columns)


def hardware_frame(result: HardwareResult) -> pd.DataFrame:
    """Return the hardware table (`cvmlab.tables.HARDWARE`), one row a field of a hardware report."""
    from cvmlab.trust.fields import hardware_rows

    rows = hardware_rows(result)
    return make_frame(HARDWARE, {name: [getattr(row, name) for row in rows] for name in HARDWARE.names})
