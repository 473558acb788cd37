"""Figures: axes to draw on, without a ground that hides the page's, and what is drawn as a block."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from cvmlab.errors import MissingExtraError
from cvmlab.view.model import Figure as FigureBlock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def axes_for(ax: Axes | None, what: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure and axes of it.

    Args:
        ax: Axes to draw on; None for those of a new figure.
        what: What is drawn, for the error where matplotlib is missing.
        size: Width and height of a new figure, inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The axes belong to no figure.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(what, "notebook") from error
    if ax is None:
        figure = Figure(figsize=size, layout="constrained")
        ax = figure.subplots()
    else:
        own = ax.get_figure()
        if not isinstance(own, Figure):
            raise ValueError("the axes belong to no figure")
        figure = own
    figure.patch.set_alpha(0)
    ax.patch.set_alpha(0)
    return figure, ax


def figure_block(figure: Figure, alt: str, caption: str = "") -> FigureBlock:
    """Return a figure as a block of a document, as SVG.

    Args:
        figure: The figure.
        alt: What it shows, for those who do not see it.
        caption: The line under it.
    """
    target = io.BytesIO()
    figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    return FigureBlock(target.getvalue(), alt, caption)
