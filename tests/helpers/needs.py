"""What a test needs from the machine: absent, it skips for a developer and fails in a full check."""

from __future__ import annotations

import importlib
import os
import shutil
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from types import ModuleType


def absent(what: str) -> NoReturn:
    """Skip, or fail where CI is set: there nothing may be left out."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (nothing is skipped here: `make system` installs what tests need)")
    pytest.skip(what)


def module(name: str) -> ModuleType:
    """Import another verifier to compare with; absent where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        absent(f"{name} is not installed")


def tools(*names: str) -> None:
    """Need programs on the path."""
    if missing := [name for name in names if shutil.which(name) is None]:
        absent(f"these tests need {', '.join(missing)}")
