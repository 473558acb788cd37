"""A table of a fleet with filters beside it, a figure of what is chosen, and a twin that needs no widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import MissingExtraError
from cvmlab.notebook.fleet_filters import TEXT, FleetFilters
from cvmlab.notebook.twin import Twinned
from cvmlab.view import Cell, Code, Details, Document, KeyValues, Paragraph, Stats, Table, bounded
from cvmlab.view.frames import frame_table, named

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from cvmlab.notebook.fleet_panel import FilterPanel
    from cvmlab.view import Block

_VALUES: Final = 12
"""Values of a filter that the twin names."""


class FleetView(Twinned, FleetFilters):
    """A table of a fleet that is filtered by controls or by code; both do the same.

    Shown in a notebook it is a panel of filters, and below it the rows that are left, as a figure and a table
    that stay in an exported notebook.

    Args:
        frame: The table, one row for whatever there is to show.
        title: What it is of.
        show: Columns of the table that is shown; all where left out.
        columns: Columns to choose by.
        picture: Draws the rows that are left: a block such as `cvmlab.notebook.figure_block` returns, or None
            where there is nothing to draw.
        unit: Column of what is counted.
        claimed: Columns that are somebody else's text; they are marked as claimed.

    Raises:
        ValueError: A column is not in the table.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        title: str,
        *,
        show: tuple[str, ...] = (),
        columns: tuple[str, ...] | None = None,
        picture: Callable[[pd.DataFrame], Block | None] | None = None,
        unit: str = "machine",
        claimed: tuple[str, ...] = ("machine", "name"),
    ) -> None:
        missing = [name for name in show if name not in frame.columns]
        if missing:
            raise ValueError(
                f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, frame))}"
            )
        super().__init__(frame, columns, unit=unit)
        self.title = title
        self._show = show or tuple(map(str, frame.columns))
        self._picture = picture
        self._claimed = frozenset(claimed)
        self._panels: tuple[FilterPanel, ...] = ()

    def select(self, **chosen: str | None) -> None:
        """Choose anew, see `FleetFilters.select`; what is shown follows."""
        super().select(**chosen)
        for panel in self._panels:
            panel.fill()
        self.refresh()

    def panel(self) -> Any:
        """Return the filters, an `ipywidgets.VBox`.

        Raises:
            MissingExtraError: ipywidgets is not installed.
        """
        try:
            from cvmlab.notebook.fleet_panel import FilterPanel
        except ImportError as error:
            raise MissingExtraError("The panel of filters", "notebook") from error
        made = FilterPanel(self)
        # of a cell that runs again only the newest panel is still there
        self._panels = (*self._panels[-3:], made)
        return made.box

    def headline(self) -> str:
        """Say how much is left of how much, and by what it was chosen."""
        what = f"{self.unit}s" if self.unit else "rows"
        chosen = ", ".join(f"{named(name)}: {value}" for name, value in self.value.items())
        count = f"{self.count():,} of {self.count(whole=True):,} {what}"
        if self.unit:
            count += f", {self.rows():,} of {self.rows(whole=True):,} rows"
        return f"{count}. Chosen by {chosen}." if chosen else f"{count}. No filter is set."

    def document(self) -> Document:
        """Return the static twin: the filters and what is chosen, the figure, the rows."""
        frame = self.frame
        what = f"{self.unit}s" if self.unit else "rows"
        blocks: list[Block] = [
            Stats(
                (
                    (f"{self.count():,} of {self.count(whole=True):,}", what, ""),
                    (f"{len(frame):,} of {self.rows(whole=True):,}", "rows", ""),
                )
            )
        ]
        chosen = tuple((named(name), Cell(value)) for name, value in self.value.items())
        blocks.append(KeyValues(chosen) if chosen else Paragraph("No filter is set."))
        drawn = self._picture(frame) if self._picture is not None and len(frame) else None
        blocks += [drawn] if drawn is not None else []
        if len(frame):
            blocks.append(frame_table(frame[list(self._show)], "Rows that are left", claimed=self._claimed))
        else:
            blocks.append(Paragraph("No row is left: open a filter."))
        code = Code(self.code(), "python")
        blocks.append(Details("What can be chosen, and the code that repeats this", (self._choices(), code)))
        return Document(self.title, tuple(blocks))

    def _choices(self) -> Table:
        what = f"{self.unit}s" if self.unit else "rows"
        rows = []
        for column in self.columns:
            found = self.options(column)
            listed = ", ".join(f"{bounded(value, 60)} ({count:,})" for value, count in found[:_VALUES])
            more = f" and {len(found) - _VALUES} more" if len(found) > _VALUES else ""
            rows.append((named(column), Cell(self.value.get(column, "all")), listed + more))
        rows.append((TEXT, Cell(self.value.get(TEXT, "any")), "whatever a row has, in any case"))
        return Table(("filter", "chosen", f"values ({what})"), tuple(rows), caption="Filters")
