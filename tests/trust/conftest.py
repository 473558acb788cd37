"""Copies of sample boots, changed and assessed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from edits import BOOTS

from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edits import Change


@pytest.fixture
def assessed(tmp_path: Path) -> Callable[..., Assessment]:
    """Assess a copy of a sample boot after a change."""

    def run(name: str, change: Change | None = None, **options: object) -> Assessment:
        folder = tmp_path / name
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(BOOTS / name, folder)
        if change is not None:
            change(folder)
        settings: dict[str, object] = {"trust_roots": [BOOTS / "trust-root.pem"], **options}
        return assess(load_evidence(folder), load_context(folder, **settings))  # type: ignore[arg-type]

    return run
