"""Tables of an inventory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.inventory.fields import to_json
from cvmlab.tables import make_frame, table_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from cvmlab.fleet.inventory.read import Inventory

_SWITCH: Final = {True: "on", False: "off", None: "not-stated"}
_SWITCHES: Final = frozenset({"secure_boot", "vtpm", "encryption_at_host", "auto_upgrade", "alerts_disabled"})
_ROWS: Final[dict[str, Callable[[Inventory], Iterable[object]]]] = {
    "inventory": lambda inventory: inventory.machines,
    "extensions": lambda inventory: inventory.extensions,
    "assessments": lambda inventory: inventory.assessments,
    "provider_alerts": lambda inventory: inventory.alerts,
    "suppressions": lambda inventory: inventory.suppressions,
    "problems": lambda inventory: inventory.problems,
}


def frame_of(inventory: Inventory, name: str) -> pd.DataFrame:
    """Return a table of an inventory; see `Inventory.frame`."""
    if name not in _ROWS:
        raise KeyError(f"an inventory has no table {name!r}; it has {', '.join(_ROWS)}")
    table = table_named(name)
    rows = list(_ROWS[name](inventory))
    return make_frame(table, {one.name: [cell_of(row, one.name) for row in rows] for one in table.columns})


def cell_of(row: object, column: str) -> object:
    """Return what a table has of a record in a column."""
    if column == "raw":
        return to_json(row.raw)  # type: ignore[attr-defined]
    if column == "source" and hasattr(row, "origin"):
        return row.origin.source
    if column == "record":
        return row.origin.index  # type: ignore[attr-defined]
    if column == "scope":
        return row.scope_json  # type: ignore[attr-defined]
    value = getattr(row, column)
    if column in _SWITCHES:
        return _SWITCH[value]
    if isinstance(value, tuple):
        return json.dumps(value)
    return value
