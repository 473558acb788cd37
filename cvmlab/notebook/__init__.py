"""Figures, filters of a fleet and the baseline studio, for notebooks. Functions display nothing."""

from __future__ import annotations

from cvmlab.notebook.count_figure import count_picture
from cvmlab.notebook.figures import timeline, timeline_alt
from cvmlab.notebook.fleet_filters import FleetFilters
from cvmlab.notebook.fleet_view import FleetView
from cvmlab.notebook.progress import progress
from cvmlab.notebook.studio import BaselineStudio
from cvmlab.view.axes import figure_block
from cvmlab.view.frames import frame_table, show_frame

__all__ = [
    "BaselineStudio",
    "FleetFilters",
    "FleetView",
    "count_picture",
    "figure_block",
    "frame_table",
    "progress",
    "show_frame",
    "timeline",
    "timeline_alt",
]
