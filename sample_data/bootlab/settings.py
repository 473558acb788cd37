"""Where the lab works, and the identities that its machines and disks carry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
PUBLISHED = HERE.parent / "boots"
UPDATES = HERE.parent / "updates"
LAB = Path(os.environ.get("LAB", "/var/tmp/cvmlab-bootlab"))
ACCELERATOR = os.environ.get("LAB_ACCEL", "tcg")
TIMEOUT = float(os.environ.get("LAB_TIMEOUT", "300"))

DEBS, TREE, BUILD = LAB / "debs", LAB / "tree", LAB / "build"
RAW, WORK, VARS = LAB / "boots", LAB / "work", LAB / "vars"
RECORDS, SMALL = LAB / "artifacts.json", LAB / "updates"
FIRMWARE = Path("/usr/share/OVMF")

# Owner of every signature list entry that the lab adds.
OWNER_GUID = "8d3f6e52-41ba-4c0e-b6c7-2a9d15e07b34"
DISK_GUID = "6F1C2A54-8F0E-4D6B-9A37-0C5B1E7D4A01"
ESP_GUID = "6F1C2A54-8F0E-4D6B-9A37-0C5B1E7D4A02"
ROOT_GUID = "6F1C2A54-8F0E-4D6B-9A37-0C5B1E7D4A03"
EXTRA_GUID = "6F1C2A54-8F0E-4D6B-9A37-0C5B1E7D4A04"
ROOT_FS_UUID = "c8b1f0d4-5e27-4f39-8a6d-71e4902b3c10"
ESP_SERIAL = "5A3E91D7"
ESP_UUID = "5A3E-91D7"

BASE_CMDLINE = "root=/dev/vda2 ro console=tty0 console=ttyS0,115200n8 audit=1 quiet"
IMA_CMDLINE = BASE_CMDLINE + " ima_policy=tcb ima_hash=sha256"

# Time stamp of everything that is packed into an archive or a file system: a rebuild is identical.
EPOCH = 1_735_689_600


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed, keeping its output for the error message.

    Args:
        *command: The program and its arguments; each is turned into text.
        **options: Passed to `subprocess.run`.

    Returns:
        The finished process, with stdout and stderr as text.

    Raises:
        RuntimeError: The command failed; the message holds its standard error.
    """
    done = attempt(*command, **options)
    if done.returncode:
        message = f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr[-800:]}"
        raise RuntimeError(message)
    return done


def attempt(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command whose exit code the caller looks at."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)
