"""Figures for notebooks and reports. Nothing here displays anything: functions return."""

from __future__ import annotations

from cvmlab.notebook.figures import figure_block, timeline, timeline_alt

__all__ = ["figure_block", "timeline", "timeline_alt"]
