"""Counts as bars: how many rows of a table say what, by what they have in common."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from cvmlab.view import bounded, visible
from cvmlab.view.axes import axes_for, figure_block

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cvmlab.view import Figure as FigureBlock

# Told apart without colour by hatches and in greyscale; mid tones read on any ground.
_WORDS: Final = {
    "Unhealthy": ("#c2403a", "//"),
    "failed": ("#c2403a", "//"),
    "Healthy": ("#3a8f5d", ""),
    "attested": ("#3a8f5d", ""),
    "stale": ("#b0803a", ".."),
    "silent": ("#b0803a", "xx"),
    "cannot": ("#4a7fb5", "\\\\"),
    "NotApplicable": ("#7a7f87", ".."),
}
_OTHERS: Final = (("#4a7fb5", ""), ("#8a6fb0", "--"), ("#5c9a9a", "++"), ("#a06a4a", "oo"))
_INK: Final = "#7a7f87"
_LABEL: Final = 120
_LINE: Final = 46
MAX_BARS: Final = 14
"""Most bars; the table has all."""


def _counts(frame: pd.DataFrame, word: str, by: str) -> pd.DataFrame:
    """Rows by group and word; the worst groups first, so that a cut leaves out what is fine."""
    import pandas as pd

    counts = pd.crosstab(frame[by].astype(str), frame[word].astype(str))
    known = [name for name in _WORDS if name in counts.columns]
    counts = counts[[*known, *(name for name in counts.columns if name not in known)]]
    return counts.sort_values([*counts.columns], ascending=False, kind="stable")


def count_figure(frame: pd.DataFrame, word: str, by: str, ax: Axes | None = None) -> Figure:
    """Draw how many rows say what, one bar a group.

    Args:
        frame: The table.
        word: Column of what they say, such as ``state``.
        by: Column of groups; the worst `MAX_BARS` are drawn.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    counts = _counts(frame, word, by).head(MAX_BARS)
    figure, ax = axes_for(ax, "The bars", (9, 0.9 + 0.42 * max(len(counts), 1)))
    places = list(range(len(counts)))
    base = [0] * len(counts)
    others = iter(_OTHERS * (1 + len(counts.columns)))
    for name in counts.columns:
        colour, hatch = _WORDS.get(str(name)) or next(others)
        widths = [int(value) for value in counts[name]]
        ax.barh(
            places, widths, left=base, height=0.7, color=colour, hatch=hatch, edgecolor="white",
            linewidth=0.5, label=_plain(str(name)),
        )  # fmt: skip
        base = [low + wide for low, wide in zip(base, widths, strict=True)]
    ax.set_yticks(places, [textwrap.fill(_plain(str(name)), _LINE) for name in counts.index])
    ax.invert_yaxis()
    ax.set_xlabel("rows", color=_INK)
    ax.tick_params(colors=_INK, labelsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(_INK)
    if len(counts.columns):
        ax.legend(
            frameon=False, labelcolor=_INK, fontsize=9, ncols=5, loc="lower left", bbox_to_anchor=(0, 1)
        )
    return figure


def count_alt(frame: pd.DataFrame, word: str, by: str) -> str:
    """Say in words what `count_figure` shows."""
    counts = _counts(frame, word, by)
    parts = []
    for name, row in counts.head(MAX_BARS).iterrows():
        said = ", ".join(f"{int(value):,} {bounded(str(what), 40)}" for what, value in row.items() if value)
        parts.append(f"{bounded(str(name), 80)}: {said}")
    more = f"; {len(counts) - MAX_BARS} more" if len(counts) > MAX_BARS else ""
    return f"Rows by {by.replace('_', ' ')} and {word.replace('_', ' ')}. {'; '.join(parts)}{more}."


def count_picture(word: str, by: str) -> Callable[[pd.DataFrame], FigureBlock]:
    """Return a function that draws a table as `cvmlab.notebook.FleetView` asks for it."""

    def draw(frame: pd.DataFrame) -> FigureBlock:
        caption = f"{word.capitalize()} by {by.replace('_', ' ')}"
        return figure_block(count_figure(frame, word, by), count_alt(frame, word, by), caption)

    return draw


def _plain(text: str) -> str:
    """Text for a label: bounded, control characters visible, nothing read as mathematics."""
    return bounded(visible(text), _LABEL).replace("$", r"\$")
