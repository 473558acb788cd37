"""Pictures of a fleet. The frame that each is drawn from is its table; a text says the same."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Final

from cvmlab.view import visible
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
_STATES: Final = {"healthy": ("#3a8f5d", ""), "unhealthy": ("#c2403a", "//")}
_COHORTS: Final = {"attested": ("#3a8f5d", ""), "failed": ("#c2403a", "//"), "other": ("#7a7f87", "xx")}
_LINES: Final = ("-", "--", ":", "-.")
_COLOURS: Final = ("#3b78b5", "#c2403a", "#3a8f5d", "#b0803a", "#8a5fb0", "#7a7f87", "#2f8f96", "#b0567f")
_INK: Final = "#7a7f87"
MAX_LINES: Final = 8
MAX_BARS: Final = 14
MAX_DAYS: Final = 6
"""Days that are written below an axis."""
_LABEL: Final = 78
_WRAP: Final = 40


def trend_figure(trend: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw the machines of each bucket of time by their last verdict, stacked.

    Args:
        trend: What `cvmlab.fleet.statistics.trend` returns.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, ax = axes_for(ax, "The figures of a fleet", _SIZE)
    places = list(range(len(trend)))
    base = [0] * len(trend)
    for name, (colour, hatch) in _BARS.items():
        heights = [int(value) for value in trend[name]]
        label = name.replace("_", " ")
        ax.bar(places, heights, bottom=base, color=colour, hatch=hatch, edgecolor="white", label=label)
        base = [low + high for low, high in zip(base, heights, strict=True)]
    gap = -(-len(places) // MAX_DAYS) or 1
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
        survival: What `cvmlab.fleet.statistics.survival` returns; `MAX_LINES` names are drawn. ``censored``
            may be left out.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _steps(survival, ax, "since first seen", "share still there", "value of")


def survival_alt(survival: pd.DataFrame) -> str:
    """Say in words what `survival_figure` shows, censoring included."""
    if survival.empty:
        return "No value was seen."
    return "Survival of old values. " + _halves(survival, "gone") + "."


def remediation_figure(curve: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw how long it takes to put something right, one stepped line a recommendation or cause.

    Args:
        curve: What `cvmlab.fleet.statistics.remediation_curve` returns; `MAX_LINES` names are drawn.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _steps(curve, ax, "since it was wrong", "share not put right", "what was wrong")


def remediation_alt(curve: pd.DataFrame) -> str:
    """Say in words what `remediation_figure` shows."""
    if curve.empty:
        return "Nothing was ever wrong."
    return "Time to put right. " + _halves(curve, "put right") + "."


def compliance_figure(own: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw healthy and unhealthy machines of each recommendation, the least compliant first.

    Args:
        own: ``recommendation``, ``healthy`` and ``unhealthy``; `MAX_BARS` are drawn.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = _worst(own).head(MAX_BARS)
    return _bars(shown["recommendation"], {name: shown[name] for name in _STATES}, _STATES, ax, "state")


def compliance_alt(own: pd.DataFrame) -> str:
    """Say in words what `compliance_figure` shows."""
    if own.empty:
        return "No recommendation was judged."
    parts = [
        f"{row['recommendation']}: {row['unhealthy']:,} of {row['healthy'] + row['unhealthy']:,} unhealthy"
        for row in _worst(own).head(3).to_dict("records")
    ]
    return "Compliance, least first. " + "; ".join(parts) + "."


def _worst(own: pd.DataFrame) -> pd.DataFrame:
    share = own["healthy"] / (own["healthy"] + own["unhealthy"])
    return own.assign(share=share).sort_values(["share", "unhealthy"], ascending=[True, False])


def cohorts_figure(cohorts: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw the machines of each boot profile by their status, the largest first.

    Args:
        cohorts: What `cvmlab.fleet.statistics.cohorts` returns; `MAX_BARS` are drawn.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = cohorts.head(MAX_BARS)
    parts = {"attested": shown["attested"], "failed": shown["failed"]}
    parts["other"] = shown["machines"] - shown["attested"] - shown["failed"]
    return _bars(shown["profile"].str[:12], parts, _COHORTS, ax, "status")


def cohorts_alt(cohorts: pd.DataFrame) -> str:
    """Say in words what `cohorts_figure` shows."""
    if cohorts.empty:
        return "No machine has shown how it boots."
    first = cohorts.iloc[0]
    return (
        f"{len(cohorts):,} boot profiles; the largest is that of {first['machines']:,} machines, "
        f"{first['attested']:,} of which are attested."
    )


def adoption_figure(adoption: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Draw how values spread: the share of machines that each had reached, one stepped line a value.

    Args:
        adoption: What `cvmlab.fleet.statistics.adoption` returns; `MAX_LINES` values are drawn.
        ax: Axes to draw into; a new figure where left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, ax = axes_for(ax, "The figures of a fleet", _SIZE)
    # a value that was reached on the last day is to be seen as a level, not as an edge
    end = adoption["start"].max() + (adoption["start"].max() - adoption["start"].min()) / 20
    for number, ((_, value), rows) in enumerate(adoption.groupby(["name", "value"])):
        if number == MAX_LINES:
            break
        ax.step(
            [*rows["start"], end], [*rows["share"], rows["share"].iloc[-1]], _LINES[number % len(_LINES)],
            where="post", label=_label(value), color=_COLOURS[number % len(_COLOURS)],
        )  # fmt: skip
    ax.set_ylim(0, 1.05)
    days = sorted({start.normalize() for start in adoption["start"]})
    shown = days[:: -(-len(days) // MAX_DAYS) or 1]
    ax.set_xticks(shown, [f"{day:%Y-%m-%d}" for day in shown])
    _finish(ax, "share of machines", "reached by")
    return figure


def adoption_alt(adoption: pd.DataFrame) -> str:
    """Say in words what `adoption_figure` shows."""
    if adoption.empty:
        return "Nothing is rolling out."
    parts = []
    for (name, value), rows in list(adoption.groupby(["name", "value"]))[:MAX_LINES]:
        first, last = rows.iloc[0], rows.iloc[-1]
        parts.append(
            f"{name}, {value}: from {first['start']:%Y-%m-%d}, {last['reached']:,} machines "
            f"({last['share']:.0%}) by {last['start']:%Y-%m-%d}"
        )
    return "How values spread. " + "; ".join(parts) + "."


_SIZE: Final = (9, 3.6)


def _steps(curve: pd.DataFrame, ax: Axes | None, since: str, ylabel: str, title: str) -> Figure:
    figure, ax = axes_for(ax, "The figures of a fleet", _SIZE)
    days = len(curve) > 0 and curve["hours"].max() > 96
    unit = 24 if days else 1
    for number, (name, rows) in enumerate(curve.groupby("name")):
        if number == MAX_LINES:
            break
        style, colour = _LINES[number % len(_LINES)], _COLOURS[number % len(_COLOURS)]
        hours = rows["hours"] / unit
        ax.step([0, *hours], [1, *rows["survival"]], style, where="post", label=_label(name), color=colour)
        if "censored" in rows:
            cut = rows["censored"] > 0
            ax.plot(hours[cut], rows["survival"][cut], "|", color=_INK, markersize=9)
    ax.set_xlabel(f"{'days' if days else 'hours'} {since}")
    ax.set_ylim(0, 1.05)
    _finish(ax, ylabel, title)
    return figure


def _halves(curve: pd.DataFrame, word: str) -> str:
    parts = []
    for name, rows in curve.groupby("name"):
        half = rows[rows["survival"] <= 0.5]
        when = f"half {word} after {half['hours'].iloc[0]:,.0f} hours" if len(half) else f"never half {word}"
        counts = ""
        if "censored" in rows:
            counts = f" ({int(rows['ended'].sum()):,} ended, {int(rows['censored'].sum()):,} censored)"
        parts.append(f"{name}: {when}{counts}")
    return "; ".join(parts[:MAX_LINES])


def _bars(
    labels: pd.Series[str],
    parts: dict[str, pd.Series[int]],
    looks: dict[str, tuple[str, str]],
    ax: Axes | None,
    title: str,
) -> Figure:
    """Bars that lie, so that long names can be read, stacked, the first on top."""
    figure, ax = axes_for(ax, "The figures of a fleet", (9, 1.1 + 0.42 * max(len(labels), 1)))
    places = list(range(len(labels)))
    base = [0] * len(labels)
    for name, values in parts.items():
        colour, hatch = looks[name]
        widths = [int(value) for value in values]
        ax.barh(
            places, widths, left=base, color=colour, hatch=hatch, edgecolor="white", label=name, height=0.7
        )
        base = [low + high for low, high in zip(base, widths, strict=True)]
    ax.set_yticks(places, [_label(text) for text in labels])
    ax.invert_yaxis()
    ax.set_xlabel("machines")
    _finish(ax, "", title)
    return figure


def _label(text: object) -> str:
    plain = visible(str(text))
    cut = plain if len(plain) <= _LABEL else f"{plain[: _LABEL - 1].rstrip()}…"
    return "\n".join(wrap(cut, _WRAP)).replace("$", r"\$")


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
