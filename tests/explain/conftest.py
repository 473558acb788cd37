"""Copies of sample boots with one thing changed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from edits import BOOTS

import cvmlab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edits import Change

    from cvmlab.baseline import Baseline
    from cvmlab.report.investigation import Investigation


@pytest.fixture(scope="session")
def good() -> Baseline:
    """The baseline of the good sample boots."""
    return cvmlab.load_baseline(cvmlab.sample_baseline())


@pytest.fixture
def judge(tmp_path: Path, good: Baseline) -> Callable[..., Investigation]:
    """Investigate a copy of a sample boot after a change."""

    def run(name: str, change: Change | None = None, **options: object) -> Investigation:
        folder = tmp_path / name
        shutil.copytree(BOOTS / name, folder)
        if change is not None:
            change(folder)
        settings: dict[str, object] = {"baseline": good, "trust_roots": BOOTS / "trust-root.pem", **options}
        return cvmlab.investigate(folder, **settings)  # type: ignore[arg-type]

    return run
