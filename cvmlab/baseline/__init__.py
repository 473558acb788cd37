"""Baselines: what a good boot measures, learned from boots, reviewed by people, compared with others."""

from __future__ import annotations

from cvmlab.baseline.comparison import Comparison, DiffRow, compare
from cvmlab.baseline.document import Baseline, load_baseline, save_baseline
from cvmlab.baseline.learn import learn_baseline

__all__ = [
    "Baseline",
    "Comparison",
    "DiffRow",
    "compare",
    "learn_baseline",
    "load_baseline",
    "save_baseline",
]
