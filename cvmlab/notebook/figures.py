"""Pictures of a boot. Each has a text that says the same, and a table with the numbers behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view import bounded, visible
from cvmlab.view.axes import axes_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cvmlab.explain.model import Cause
    from cvmlab.report.investigation import Investigation

# Marker and colour of each worth: told apart without colour, and in greyscale; mid tones read on any ground.
_MARKS: Final = {
    "proven": ("o", "#3a8f5d", "proven by the quote"),
    "digest-only": ("D", "#4a7fb5", "digest proven, text claimed"),
    "unproven": ("x", "#b0803a", "unproven"),
}
_CAUSE: Final = "#c2403a"
_INK: Final = "#7a7f87"
MAX_LABELS: Final = 6
"""Most events that are named in a picture."""

MAX_EVENTS: Final = 5_000
"""Most events drawn; the table has all."""


def timeline(result: Investigation, ax: Axes | None = None) -> Figure:
    """Draw the boot: every event in log order, by register, with what it is worth.

    Args:
        result: An investigation.
        ax: Axes to draw into; a new figure of 10 by 4.2 inches where left out.

    Returns:
        The figure. Events of causes are ringed and the first of them named. `Investigation.events` has
        the same as a table, `timeline_alt` as text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, ax = axes_for(ax, "The timeline", (10, 4.2))
    log = result.assessment.log
    events = [event for event in (log.events if log is not None else ()) if event.register < 32][:MAX_EVENTS]
    trust = result.assessment.event_trust
    rows = {register: row for row, register in enumerate(sorted({event.register for event in events}))}
    for worth, (marker, colour, label) in _MARKS.items():
        chosen = [event for event in events if trust.get(event.index, "unproven") == worth]
        if chosen:
            x = [event.index for event in chosen]
            y = [rows[event.register] for event in chosen]
            ax.scatter(x, y, marker=marker, s=34, c=colour, label=label, zorder=3, linewidths=1.2)
    labels = _rings(ax, result, rows)
    _frame(ax, len(events), rows, labels)
    return figure


def _rings(ax: Axes, result: Investigation, rows: Mapping[int, int]) -> int:
    """Ring the events of causes; name the first of each cause above the plot, with a line down to it.

    Returns:
        How many were named.
    """
    log = result.assessment.log
    if log is None:
        return 0
    seen: set[int] = set()
    labels = 0
    for cause in _serious(result):
        for index in cause.events:
            if index in seen or index >= len(log.events) or log.events[index].register not in rows:
                continue
            first = not seen.intersection(cause.events)
            seen.add(index)
            y = rows[log.events[index].register]
            ax.scatter([index], [y], s=150, facecolors="none", edgecolors=_CAUSE, linewidths=1.8, zorder=4)
            if first and labels < MAX_LABELS:
                top = len(rows) - 0.2 + labels * 0.75
                ax.plot([index, index], [y + 0.35, top], color=_CAUSE, linewidth=0.8, alpha=0.7, zorder=2)
                side = "right" if index > len(log.events) / 2 else "left"
                label = _plain(f"event {index}: {cause.entry.title}")
                ax.text(index, top, label, ha=side, va="bottom", fontsize=9, color=_CAUSE, zorder=5)
                labels += 1
    return labels


def _serious(result: Investigation) -> list[Cause]:
    found: list[Cause] = []
    for cause in result.causes:
        if cause.severity != "info":
            found += [cause, *cause.consequences]
    return found


def _plain(text: str) -> str:
    """Text for a label: bounded, control characters visible, nothing read as mathematics."""
    return bounded(visible(text), 60).replace("$", r"\$")


def _frame(ax: Axes, events: int, rows: Mapping[int, int], labels: int) -> None:
    ax.set_xlabel("event, in the order of the log", color=_INK)
    ax.set_ylabel("register", color=_INK)
    ax.set_yticks(list(rows.values()), [str(register) for register in rows])
    ax.set_ylim(-0.7, max(len(rows), 1) - 0.3 + labels * 0.8)
    ax.set_xlim(-1, max(events, 1) + 1)
    ax.grid(visible=True, axis="y", color=_INK, alpha=0.25, linewidth=0.7)
    ax.tick_params(colors=_INK)
    for spine in ax.spines.values():
        spine.set_color(_INK)
        spine.set_alpha(0.5)
    if ax.get_legend_handles_labels()[0]:
        legend = ax.legend(loc="upper left", bbox_to_anchor=(0, 1.13), ncols=3, frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_color(_INK)
    if not events:
        ax.text(0.5, 0.5, "no boot event log", transform=ax.transAxes, ha="center", color=_INK)


def timeline_alt(result: Investigation) -> str:
    """Say in words what the timeline shows."""
    log = result.assessment.log
    if log is None or not log.events:
        return "Timeline of the boot: there is no boot event log."
    worth: list[str] = list(result.assessment.event_trust.values())
    counts = ", ".join(f"{worth.count(name)} {label}" for name, (_, _, label) in _MARKS.items())
    if not worth:
        counts = "none proven"
    marked = [
        f"events {', '.join(map(str, cause.events[:4]))} ({cause.entry.title})"
        for cause in _serious(result)
        if cause.events
    ]
    text = f"Timeline of the boot: {len(log.events)} events by register; {counts}."
    return f"{text} Marked: {'; '.join(marked)}." if marked else f"{text} No event is marked."
