"""Controls that both panels are made of. Importing this module needs ipywidgets."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from cvmlab.view import Document, Heading, render_html


def snug() -> widgets.Layout:
    """Return a layout as wide as what is in it.

    It is a widget itself, so each control has its own: one that is shared is lost when the page is loaded
    again, and whatever uses it shows an error in its place.
    """
    return widgets.Layout(width="auto", align_self="flex-start")


def labelled(kind: type, label: str, hint: str, *, width: str = "98%", **options: Any) -> Any:
    """Return a widget with a label that is its accessible name, and a hint."""
    if kind is widgets.Text:
        options.setdefault("placeholder", hint)
    return kind(
        description=label,
        tooltip=hint,
        style={"description_width": "8.5em"},
        layout=widgets.Layout(width=width),
        **options,
    )


def section(title: str, *children: widgets.Widget) -> widgets.VBox:
    """Return widgets under a heading."""
    heading = widgets.HTML(render_html(Document("", (Heading(title, 3),))))
    return widgets.VBox([heading, *children])
