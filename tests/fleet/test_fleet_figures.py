"""Figures of a fleet: told apart in greyscale, a text that says the same, hostile names harmless."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvmlab.fleet.figures import survival_alt, survival_figure, trend_alt, trend_figure

TREND = pd.DataFrame(
    {
        "start": pd.to_datetime(["2026-03-01", "2026-03-02"]),
        "machines": [10, 10],
        "trusted": [9, 6],
        "not_trusted": [1, 3],
        "inconclusive": [0, 1],
        "unusable": [0, 0],
    }
)
SURVIVAL = pd.DataFrame(
    {
        "name": ["dbx", "dbx", "$x$\x1b"],
        "hours": [24.0, 48.0, 3.0],
        "at_risk": [10, 4, 1],
        "ended": [6, 0, 0],
        "censored": [0, 4, 1],
        "survival": [0.4, 0.4, 1.0],
    }
)


def test_trend_bars_differ_by_hatch_and_are_told_in_words() -> None:
    axes = trend_figure(TREND).axes[0]
    assert len({bars.patches[0].get_hatch() for bars in axes.containers}) == 4
    assert trend_alt(TREND) == (
        "Machines by last verdict, 2026-03-01 to 2026-03-02: 9 of 10 trusted at first, 6 of 10 at last."
    )
    assert trend_alt(TREND.iloc[:0]) == "No report was received."


def test_survival_draws_hostile_names_as_plain_text_and_states_censoring() -> None:
    figure = survival_figure(SURVIVAL)
    figure.savefig(io.BytesIO(), format="png")
    assert "dbx: half gone after 24 hours (6 ended, 4 censored)" in survival_alt(SURVIVAL)
    assert survival_alt(SURVIVAL.iloc[:0]) == "No value was seen."


@pytest.mark.parametrize(("draw", "frame"), [(trend_figure, TREND), (survival_figure, SURVIVAL)])
def test_axes_given_are_drawn_into(draw: object, frame: pd.DataFrame) -> None:
    figure = Figure()
    axes = figure.subplots()
    assert isinstance(axes, Axes)
    assert draw(frame, axes) is figure  # type: ignore[operator]
