"""Filters of a fleet: what they leave, what they refuse, and that controls, twin and code say the same."""

from __future__ import annotations

import io
from typing import Any

import ipywidgets as widgets
import pandas as pd
import pytest

from cvmlab.notebook import FleetFilters, FleetView, count_picture, frame_table
from cvmlab.notebook.count_figure import MAX_BARS, count_alt, count_figure
from cvmlab.notebook.fleet_panel import FilterPanel
from cvmlab.view import Cell, render_html

ROWS = pd.DataFrame(
    {
        "machine": ["a", "a", "b", "c"],
        "name": ["vm-a", "vm-a", "vm-b", "<b>vm-c</b>"],
        "region": ["eastus", "eastus", "westeurope", None],
        "state": ["Healthy", "Unhealthy", "Unhealthy", "NotApplicable"],
        "reason": ["fine", "Secure Boot is OFF", "no report", "not judged"],
    }
)


@pytest.fixture
def view() -> FleetView:
    return FleetView(
        ROWS, "Fleet", show=("name", "state", "reason"), picture=count_picture("state", "region")
    )


def test_nothing_chosen_leaves_everything(view: FleetView) -> None:
    assert len(view.frame) == 4
    assert view.value == {}
    assert view.columns == ("region", "state")


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ({"region": "eastus"}, [0, 1]),
        ({"region": "eastus", "state": "Unhealthy"}, [1]),
        ({"region": "not-stated"}, [3]),
        ({"text": "secure boot"}, [1]),
        # a text that spans two columns is in neither
        ({"text": "avm-a"}, []),
        ({"text": "."}, []),
        ({"region": None, "text": ""}, [0, 1, 2, 3]),
    ],
)
def test_choice_leaves_its_rows(view: FleetView, chosen: dict[str, str | None], left: list[int]) -> None:
    view.select(**chosen)
    assert list(view.frame.index) == left


def test_choice_is_made_anew_and_code_repeats_it(view: FleetView) -> None:
    view.select(region="eastus")
    view.select(state="Unhealthy", text="vm-b")
    other = FleetView(ROWS, "Fleet")
    exec(view.code("other"), {"other": other})
    assert other.value == view.value == {"state": "Unhealthy", "text": "vm-b"}
    other.value = {"region": "westeurope"}
    assert list(other.frame.index) == [2]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [({"planet": "mars"}, "no filter 'planet'"), ({"region": "mars"}, "no row has 'mars'")],
)
def test_choice_that_cannot_be_made_changes_nothing(
    view: FleetView, chosen: dict[str, str], said: str
) -> None:
    view.select(region="eastus")
    with pytest.raises(ValueError, match=said):
        view.select(**chosen)
    assert view.value == {"region": "eastus"}


@pytest.mark.parametrize("options", [{"columns": ("planet",)}, {"show": ("planet",)}])
def test_column_that_is_not_there_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no column planet"):
        FleetView(ROWS, "Fleet", **options)


def test_options_count_machines_not_rows() -> None:
    filters = FleetFilters(ROWS)
    assert filters.options("region") == [("eastus", 1), ("not-stated", 1), ("westeurope", 1)]
    assert FleetFilters(ROWS, unit="").options("region")[0] == ("eastus", 2)
    assert (filters.count(), filters.rows()) == (3, 4)


def _all(widget: Any) -> list[Any]:
    return [widget, *(found for child in getattr(widget, "children", ()) for found in _all(child))]


def test_every_control_has_a_name_and_does_what_code_does(view: FleetView) -> None:
    panel = FilterPanel(view)
    controls = [w for w in _all(panel.box) if not isinstance(w, widgets.HTML | widgets.Box)]
    assert [w for w in controls if not w.description.strip()] == []
    panel.filters["region"].value = "eastus"
    assert view.value == {"region": "eastus"}
    panel.text.value = "OFF"
    assert list(view.frame.index) == [1]
    panel.reset.click()
    assert view.value == {}


def test_controls_follow_the_code(view: FleetView) -> None:
    box = view.panel()
    region = next(w for w in _all(box) if getattr(w, "description", "") == "Region")
    view.select(region="westeurope")
    assert region.value == "westeurope"
    said = "".join(w.value for w in _all(box) if isinstance(w, widgets.HTML))
    assert "1 of 3 machines" in said
    assert "view.select(region=" in said


def test_twin_says_what_is_chosen_and_what_can_be(view: FleetView) -> None:
    view.select(region="eastus")
    page = render_html(view.document())
    for said in ("1 of 3", "2 of 4", "Secure Boot is OFF", "westeurope (1)", "alt=", "view.select(region="):
        assert said in page
    assert "no report" not in page


def test_twin_of_nothing_left_says_so(view: FleetView) -> None:
    view.select(text="nowhere")
    assert "No row is left" in render_html(view.document())


def test_texts_of_machines_are_escaped_and_marked(view: FleetView) -> None:
    page = render_html(view.document())
    assert "<b>vm-c</b>" not in page
    assert "&lt;b&gt;vm-c" in page
    assert "claimed" in page


def test_shown_views_follow(view: FleetView, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, twin: Any) -> None:
            shown.append(twin._repr_mimebundle_()["text/html"])

    monkeypatch.setattr("IPython.display.display", lambda *_, **options: Handle() if options else None)
    view._ipython_display_()
    view.select(region="westeurope")
    assert "no report" in shown[-1]
    assert "fine" not in shown[-1]


def test_frame_becomes_a_table_with_dashes_where_nothing_is() -> None:
    frame = pd.DataFrame(
        {
            "state": ["Unhealthy", None],
            "share": [0.25, float("nan")],
            "codes": [["a", "b"], []],
            "at": [pd.NaT] * 2,
        }
    )
    table = frame_table(frame, "x", limit=1)
    assert table.count == "1 of 2 rows"
    assert table.rows[0] == (Cell("Unhealthy", kind="bad"), Cell("0.25"), Cell("a, b"), None)
    assert frame_table(frame, "x").rows[1] == (None, None, None, None)
    assert table.numeric == {"share"}


def test_bars_are_bounded_and_said_in_words() -> None:
    frame = pd.DataFrame(
        {"region": [f"r{n:02}" for n in range(20)], "state": ["Unhealthy"] + ["Healthy"] * 19}
    )
    figure = count_figure(frame, "state", "region")
    assert len(figure.axes[0].get_yticks()) == MAX_BARS
    assert "r00: 1 Unhealthy" in count_alt(frame, "state", "region")
    assert "6 more" in count_alt(frame, "state", "region")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["Unhealthy", "Healthy"]


def test_dollar_in_a_name_is_no_mathematics() -> None:
    frame = pd.DataFrame({"region": ["$x$"], "state": ["odd$"]})
    figure = count_figure(frame, "state", "region")
    figure.savefig(io.BytesIO())
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"\$x\$"
