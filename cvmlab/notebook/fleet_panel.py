"""The widgets of a fleet's filters. Importing this module needs ipywidgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ipywidgets as widgets

from cvmlab.notebook.controls import labelled, snug
from cvmlab.notebook.fleet_filters import TEXT
from cvmlab.view import Code, Document, Paragraph, bounded, render_html, visible

if TYPE_CHECKING:
    from cvmlab.notebook.fleet_view import FleetView

_ALL: Final = ""
_LABEL: Final = 70


class FilterPanel:
    """One control for each filter; each change calls `FleetView.select`, as code does.

    Attributes:
        view: The view.
        filters: The control of each column.
        text: The control of the free text; it counts when Enter is pressed or the field is left.
        reset: Opens all filters.
        box: The widgets.
    """

    def __init__(self, view: FleetView) -> None:
        self.view = view
        self._filling = False
        self._said = widgets.HTML()
        self.filters = {column: self._filter(column) for column in view.columns}
        self.text = labelled(
            widgets.Text, "Text", "Anything in a row; press Enter", width="24em", continuous_update=False
        )
        self.reset = widgets.Button(description="Show all", tooltip="Open all filters", layout=snug())
        self.reset.on_click(lambda _: self._apply({}))
        for control in (*self.filters.values(), self.text):
            control.observe(self._changed, names="value")
        wrap = widgets.Layout(flex_flow="row wrap", overflow="visible")
        self.box = widgets.VBox(
            [widgets.HBox([*self.filters.values(), self.text, self.reset], layout=wrap), self._said]
        )
        self.fill()

    def _filter(self, column: str) -> Any:
        options = [("all", _ALL)]
        options += [
            (f"{visible(bounded(value, _LABEL))} ({count:,})", value)
            for value, count in self.view.options(column)
        ]
        label = column.replace("_", " ").capitalize() if column != "os" else "OS"
        return labelled(widgets.Dropdown, label, f"Choose by {label}", width="24em", options=options)

    def _changed(self, _: object) -> None:
        if self._filling:
            return
        chosen = {column: control.value for column, control in self.filters.items()}
        self._apply({**chosen, TEXT: self.text.value})

    def _apply(self, chosen: dict[str, str]) -> None:
        self.view.select(**chosen)

    def fill(self) -> None:
        """Show what is chosen, whoever chose it."""
        value = self.view.value
        self._filling = True
        try:
            for column, control in self.filters.items():
                if value.get(column, _ALL) in dict(control.options).values():
                    control.value = value.get(column, _ALL)
            self.text.value = value.get(TEXT, "")
        finally:
            self._filling = False
        blocks = (Paragraph(self.view.headline()), Code(self.view.code(), "python"))
        self._said.value = render_html(Document("", blocks))
