"""Figures of a fleet: told apart in greyscale, a text that says the same, hostile names harmless."""

from __future__ import annotations

import io
from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvmlab.fleet.figures import (
    MAX_DAYS,
    adoption_alt,
    adoption_figure,
    cohorts_alt,
    cohorts_figure,
    compliance_alt,
    compliance_figure,
    remediation_alt,
    remediation_figure,
    survival_alt,
    survival_figure,
    trend_alt,
    trend_figure,
)

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


OWN = pd.DataFrame(
    {"recommendation": ["$good$", "bad " * 60], "healthy": [9, 1], "unhealthy": [1, 3]},
)
COHORTS = pd.DataFrame(
    {"profile": ["a" * 64, "b" * 64], "machines": [9, 3], "attested": [8, 0], "failed": [0, 3]}
)
ADOPTION = pd.DataFrame(
    {
        "name": ["dbx"] * 2,
        "value": ["$2$ hashes\x1b"] * 2,
        "start": pd.to_datetime(["2026-03-01", "2026-03-03"]),
        "machines": [1, 2],
        "reached": [1, 3],
        "share": [0.25, 0.75],
    }
)


def test_compliance_shows_the_least_compliant_first_and_says_so() -> None:
    axes = compliance_figure(OWN).axes[0]
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels[0].startswith("bad bad")
    assert max(len(line) for label in labels for line in label.split("\n")) <= 40
    assert compliance_alt(OWN).startswith("Compliance, least first. bad")
    assert "1 of 10 unhealthy" in compliance_alt(OWN)
    assert compliance_alt(OWN.iloc[:0]) == "No recommendation was judged."


def test_cohorts_are_bars_by_status() -> None:
    axes = cohorts_figure(COHORTS).axes[0]
    widths = [[bar.get_width() for bar in group.patches] for group in axes.containers]
    assert widths == [[8, 0], [0, 3], [1, 0]]
    assert len({group.patches[0].get_hatch() for group in axes.containers}) == 3
    assert cohorts_alt(COHORTS) == (
        "2 boot profiles; the largest is that of 9 machines, 8 of which are attested."
    )


def test_adoption_and_remediation_are_told_in_words() -> None:
    assert "from 2026-03-01, 3 machines (75%) by 2026-03-03" in adoption_alt(ADOPTION)
    assert adoption_alt(ADOPTION.iloc[:0]) == "Nothing is rolling out."
    assert "dbx: half put right after 24 hours" in remediation_alt(SURVIVAL)
    assert remediation_alt(SURVIVAL.iloc[:0]) == "Nothing was ever wrong."
    for figure in (adoption_figure(ADOPTION), remediation_figure(SURVIVAL.drop(columns="censored"))):
        figure.savefig(io.BytesIO(), format="png")


def test_days_below_an_axis_do_not_run_into_each_other() -> None:
    days = pd.date_range("2026-03-01", periods=40)
    trend = pd.concat([TREND.iloc[:1]] * 40, ignore_index=True).assign(start=days)
    figure = trend_figure(trend)
    figure.savefig(io.BytesIO(), format="png")
    axes = figure.axes[0]
    assert len(axes.get_xticks()) <= MAX_DAYS
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (trend_figure, TREND), (survival_figure, SURVIVAL), (remediation_figure, SURVIVAL),
        (compliance_figure, OWN), (cohorts_figure, COHORTS), (adoption_figure, ADOPTION),
    ],
)  # fmt: skip
def test_axes_given_are_drawn_into(draw: object, frame: pd.DataFrame) -> None:
    figure = Figure()
    axes = figure.subplots()
    assert isinstance(axes, Axes)
    assert draw(frame, axes) is figure  # type: ignore[operator]
