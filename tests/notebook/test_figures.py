"""The timeline: what it marks, what it says without being seen, and that evidence cannot write into it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.figure
import pytest

import cvmlab
from cvmlab.notebook import figure_block, timeline, timeline_alt
from cvmlab.view import Document, render_html, render_text

if TYPE_CHECKING:
    from cvmlab.report.investigation import Investigation

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"


def _investigate(name: str) -> Investigation:
    return cvmlab.investigate(
        BOOTS / name, baseline=cvmlab.sample_baseline(), trust_roots=cvmlab.sample_trust_root()
    )


def test_timeline_is_a_figure_and_leaves_no_global_state() -> None:
    code = (
        "import cvmlab, sys; from cvmlab.notebook import timeline;"
        "r = cvmlab.investigate(cvmlab.sample('baseline'));"
        "timeline(r); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_timeline_draws_into_given_axes() -> None:
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    assert timeline(_investigate("baseline"), axes) is figure


def test_worth_is_told_by_marker_not_by_colour_alone() -> None:
    axes = timeline(_investigate("cmdline_changed")).axes[0]
    shapes = {tuple(map(tuple, c.get_paths()[0].vertices.round(3))) for c in axes.collections[:3]}
    assert len(shapes) == 3


def test_alt_text_names_events_and_causes() -> None:
    text = timeline_alt(_investigate("cmdline_changed"))
    assert "60 events" in text
    assert "The kernel command line changed" in text
    assert "54" in text


@pytest.mark.parametrize("name", ["stock_linux_cmd_sboff"])
def test_without_a_log_the_picture_says_so(name: str) -> None:
    result = _investigate(name)
    assert "no boot event log" in timeline_alt(result)
    axes = timeline(result).axes[0]
    assert any("no boot event log" in text.get_text() for text in axes.texts)


def test_labels_show_hostile_text_as_text() -> None:
    result = _investigate("cmdline_changed")
    cause = result.causes[0]
    hostile = replace(cause.entry, title="$\\frac{1}{0}$\x1b[31m‮" + "x" * 500)
    causes = (replace(cause, entry=hostile), *result.causes[1:])
    changed = replace(result, explanation=replace(result.explanation, causes=causes))
    figure = timeline(changed)
    figure_block(figure, "x")
    label = next(text.get_text() for text in figure.axes[0].texts if "frac" in text.get_text())
    assert "\\$" in label
    assert "\x1b" not in label
    assert "‮" not in label
    assert len(label) < 120


def test_figure_enters_a_report_with_its_alt_text() -> None:
    result = _investigate("cmdline_changed")
    block = figure_block(timeline(result), timeline_alt(result), "Boot events")
    document = Document("Timeline", (block,))
    page = render_html(document)
    assert "data:image/svg+xml;base64," in page
    assert "The kernel command line changed" in page
    assert "60 events" in render_text(document)
