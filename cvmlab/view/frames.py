"""DataFrames as tables of a document: bounded, with words coloured, and with a dash where nothing is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view.escape import bounded
from cvmlab.view.model import Cell, Document, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd

    from cvmlab.view.model import CellKind, Value

SHOWN: Final = 60
"""Rows of a frame that are shown; the frame has all."""
_WIDE: Final = 160
_WORDS: Final[dict[str, CellKind]] = {
    "Healthy": "good", "attested": "good", "agree": "good", "trusted": "good", "passes": "good",
    "Unhealthy": "bad", "failed": "bad", "not-trusted": "bad", "high": "bad", "fails": "bad",
    "disagree": "warn", "stale": "warn", "silent": "warn", "medium": "warn", "cannot": "warn",
    "NotApplicable": "muted",
}  # fmt: skip
CLAIMED: Final = frozenset({"machine", "name", "examples", "value", "summary", "sentence"})
"""Columns of a fleet's tables that are somebody else's text."""


def show_frame(frame: pd.DataFrame, title: str, *, limit: int = SHOWN) -> Document:
    """Return a frame as a document of one table, to be shown at the end of a cell.

    Args:
        frame: The frame; texts in it are unescaped.
        title: What it is.
        limit: Most rows shown.
    """
    block = frame_table(frame, "", limit=limit) if len(frame) else Paragraph("None.")
    return Document(title, (block,))


def frame_table(
    frame: pd.DataFrame, caption: str, *, claimed: Collection[str] = CLAIMED, limit: int = SHOWN
) -> Table:
    """Return a frame as a table of its first rows.

    Args:
        frame: The frame; texts in it are unescaped.
        caption: What the table shows.
        claimed: Columns that are somebody else's text; they are marked as claimed.
        limit: Most rows shown.
    """
    columns = [str(column) for column in frame.columns]
    rows = tuple(
        tuple(_cell(name, value, claimed) for name, value in zip(columns, row, strict=True))
        for row in frame.head(limit).itertuples(index=False, name=None)
    )
    numeric = frozenset(named(str(name)) for name, column in frame.items() if column.dtype.kind in "iuf")
    return Table(tuple(map(named, columns)), rows, total=len(frame), caption=caption, numeric=numeric)


def named(column: str) -> str:
    """Return a column's name in words."""
    return column.replace("_", " ")


def _cell(name: str, value: object, claimed: Collection[str]) -> Value:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or None
    # NaN and NaT are not equal to themselves; pandas' NA is neither equal nor not
    if value is None or type(value).__name__ == "NAType" or value != value:
        return None
    if isinstance(value, float):
        value = f"{value:,.2f}" if abs(value) < 10 and not value.is_integer() else f"{value:,.0f}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    elif hasattr(value, "strftime"):
        value = value.strftime("%Y-%m-%d %H:%M")
    text = str(value)
    title = text if len(text) > _WIDE else ""
    if name in claimed:
        return Cell(bounded(text, _WIDE), title=title, kind="claimed")
    if name == "profile" or (len(text) == 64 and set(text) <= set("0123456789abcdef")):
        return Cell(text, kind="digest")
    return Cell(bounded(text, _WIDE), title=title, kind=_WORDS.get(text, ""))
