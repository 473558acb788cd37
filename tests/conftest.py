"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from needs import absent
from soft_tpm import TOOLS, SoftTpm

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture(scope="session")
def soft_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftTpm]:
    """A started TPM whose registers 0, 7, 16 and 23 differ in every bank."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        absent(f"these tests need {', '.join(missing)} (Debian: swtpm, tpm2-tools, openssl)")
    tpm = SoftTpm(tmp_path_factory.mktemp("swtpm"))
    try:
        for register in (0, 7, 16, 23):
            (tpm.folder / "event").write_bytes(f"event of register {register}".encode())
            tpm("pcrevent", register, "event")
        yield tpm
    finally:
        tpm.close()
