"""Figures and the baseline studio for notebooks. Functions return and display nothing."""

from __future__ import annotations

from cvmlab.notebook.figures import figure_block, timeline, timeline_alt
from cvmlab.notebook.studio import BaselineStudio

__all__ = ["BaselineStudio", "figure_block", "timeline", "timeline_alt"]
