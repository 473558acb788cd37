"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from needs import absent


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        absent(f"{variable} does not name a folder; these tests need the shared evidence")
    return Path(value)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real logs collected from public sources (not part of the project)."""
    return _folder("CVMLAB_CORPUS")


@pytest.fixture(scope="session")
def boots() -> Path:
    """The folder of real measured boots with expected answers (not part of the project)."""
    return _folder("CVMLAB_BOOTS")


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The project's own measured boots."""
    return Path(__file__).resolve().parents[1] / "sample_data"
