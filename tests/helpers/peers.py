"""Keylime and systemd-pcrlock, as `install-peers` puts them beside the virtual environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needs import absent

PEERS = Path(sys.prefix) / "peers"


def keylime() -> Path:
    """The Python of the environment that has Keylime."""
    python = PEERS / "keylime" / "bin" / "python"
    if not python.exists():
        absent("Keylime is not here: make .venv/.peers")
    return python


def pcrlock(*arguments: object, **environment: str) -> str:
    """Run systemd-pcrlock of Debian 13 with its own libraries; return what it printed."""
    root = PEERS / "pcrlock"
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    # all that a full check may go without: another distribution's archive can be out of reach. Agreement with
    # pcrlock is then not shown; every other check of these exports holds by itself
    if (root / ".unavailable").exists():
        pytest.skip((root / ".unavailable").read_text())
    if not (root / ".done").exists():
        absent("systemd-pcrlock is not here: make .venv/.peers")
    done = subprocess.run(
        [
            str(libraries / "ld-linux-x86-64.so.2"),
            *("--library-path", f"{libraries}:{libraries / 'systemd'}"),
            str(root / "usr" / "lib" / "systemd" / "systemd-pcrlock"),
            *map(str, arguments),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"systemd-pcrlock {arguments}: {done.stderr}"
    return done.stdout
