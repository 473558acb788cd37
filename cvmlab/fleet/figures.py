"""Pictures of a fleet. The frame that each is drawn from is its table; a text says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view import bounded, visible
from cvmlab.view.axes import axes_for

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart without colour: hatches on bars, dashes on lines. Mid tones read on any ground.
_BARS: Final = {
    "trusted": ("#3a8f5d", ""),
    "not_trusted": ("#c2403a", "//"),
    "inconclusive": ("#b0803a", ".."),
    "unusable": ("#7a7f87", "xx"),
}
_LINES: Final = ("-", "--", ":", "-.")
_INK: Final = "#7a7f87"
MAX_LINES: Final = 8


def trend_figure(trend: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw the machines of each bucket of time by their last verdict, stacked.

    Args:
        trend: What `cvmlab.fleet.statistics.trend` returns.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, ax = axes_for(ax, "The figures of a fleet", (9, 3.6))
    places = list(range(len(trend)))
    base = [0] * len(trend)
    for name, (colour, hatch) in _BARS.items():
        heights = [int(value) for value in trend[name]]
        label = name.replace("_", " ")
        ax.bar(places, heights, bottom=base, color=colour, hatch=hatch, edgecolor="white", label=label)
        base = [low + high for low, high in zip(base, heights, strict=True)]
    gap = max(1, len(places) // 8)
    ax.set_xticks(places[::gap], [f"{start:%Y-%m-%d}" for start in trend["start"]][::gap])
    _finish(ax, "machines", "last verdict")
    return figure


def trend_alt(trend: pd.DataFrame) -> str:
    """Say in words what `trend_figure` shows."""
    if trend.empty:
        return "No report was received."
    first, last = trend.iloc[0], trend.iloc[-1]
    return (
        f"Machines by last verdict, {first['start']:%Y-%m-%d} to {last['start']:%Y-%m-%d}: "
        f"{first['trusted']:,} of {first['machines']:,} trusted at first, "
        f"{last['trusted']:,} of {last['machines']:,} at last."
    )


def survival_figure(survival: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw how long old values live on, one stepped line a name; a tick where a life was censored.

    Args:
        survival: What `cvmlab.fleet.statistics.survival` returns; `MAX_LINES` names are drawn.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, ax = axes_for(ax, "The figures of a fleet", (9, 3.6))
    for number, (name, rows) in enumerate(survival.groupby("name")):
        if number == MAX_LINES:
            break
        label = bounded(visible(str(name)), 40).replace("$", r"\$")
        style = _LINES[number % len(_LINES)]
        ax.step([0, *rows["hours"]], [1, *rows["survival"]], style, where="post", label=label)
        cut = rows[rows["censored"] > 0]
        ax.plot(cut["hours"], cut["survival"], "|", color=_INK, markersize=9)
    ax.set_xlabel("hours since first seen")
    ax.set_ylim(0, 1.05)
    _finish(ax, "share still there", "value of")
    return figure


def survival_alt(survival: pd.DataFrame) -> str:
    """Say in words what `survival_figure` shows, censoring included."""
    if survival.empty:
        return "No value was seen."
    parts = []
    for name, rows in survival.groupby("name"):
        half = rows[rows["survival"] <= 0.5]
        when = f"half gone after {half['hours'].iloc[0]:,.0f} hours" if len(half) else "never half gone"
        ended, cut = int(rows["ended"].sum()), int(rows["censored"].sum())
        parts.append(f"{name}: {when} ({ended:,} ended, {cut:,} censored)")
    return "Survival of old values. " + "; ".join(parts[:MAX_LINES]) + "."


def _finish(ax: Axes, ylabel: str, title: str) -> None:
    ax.set_ylabel(ylabel, color=_INK)
    ax.tick_params(colors=_INK)
    ax.xaxis.label.set_color(_INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(_INK)
    if ax.get_legend_handles_labels()[0]:
        legend = ax.legend(
            title=title, frameon=False, labelcolor=_INK, loc="upper left", bbox_to_anchor=(1, 1)
        )
        legend.get_title().set_color(_INK)
