"""Real logs of other machines, before and after what happens to machines: the cause is named, and no other.

Laptops, servers with option ROMs, appliances, cloud and confidential VMs, with Linux and with Windows. Each
log is measured anew with one change by an editor of the tests' own; the logs stay outside the project.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from relog import Log, read, written
from relog_changes import CHANGES
from remeasure import NO_ACTION, NUMBERS, enrolled_key, write_boot

import cvmlab
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from cvmlab.explain.model import Cause

CORPUS = Path(os.environ.get("CVMLAB_CORPUS", "/nonexistent"))
_ROWS = json.loads((CORPUS / "eventlogs.json").read_text()) if (CORPUS / "eventlogs.json").exists() else []
FILES = [row["file"] for row in _ROWS if row["events"] and read(CORPUS / "eventlogs" / row["file"])]
# an event that does not say what its digest is of, a bank that nothing was extended into, and a register that
# H-CRTM started: good boots of these cannot be made from the log alone
NOT_LEARNED = {"txt-logs.bin", "uefi_event_log_invalid.bin", "binary_measurements_hcrtm.bin"}


def wrong(causes: tuple[Cause, ...], expected: set[str]) -> bool:
    """An update of Windows is two independent causes, everything else is one."""
    roots = [cause.code for cause in causes if cause.severity != "info"]
    both = {"boot-loader-changed", "kernel-changed"}
    if expected == both:
        return set(roots) != both
    return len(roots) != bool(expected) or not set(roots) <= expected


def whole_banks(log: Log) -> list[str]:
    """Banks in which every event has a digest."""
    events = [event for event in log.boot.events if event.type != NO_ACTION]
    return [bank for bank in log.banks if bank in NUMBERS and all(bank in e.digests for e in events)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.rsplit("/", 1)[-1][-60:])
def test_change_of_a_real_machine_is_named_and_nothing_else(
    corpus: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, file: str
) -> None:
    path = corpus / "eventlogs" / file
    good = read(path)
    assert good is not None
    assert path.read_bytes().startswith(written(good)), "the tests' own reader gives the log back"
    (tmp_path / "before.bin").write_bytes(written(good))
    banks, key = whole_banks(good), enrolled_key(tmp_path)
    baseline = None
    # no baseline is learned of SHA-1 alone
    if "sha256" in banks:
        folder = write_boot(tmp_path / "good", good.boot.events, banks=banks)
        if any(file.endswith(name) for name in NOT_LEARNED):
            with pytest.raises(BaselineError):
                cvmlab.learn([folder], enrolled_keys=[key])
        else:
            baseline = cvmlab.learn([folder], enrolled_keys=[key])
    missed = []
    for name, change in CHANGES.items():
        log = read(path)
        assert log is not None
        expected = change(log)
        if expected is None:
            continue
        (tmp_path / "after.bin").write_bytes(written(log))
        found = cvmlab.diff(tmp_path / "before.bin", tmp_path / "after.bin")
        if wrong(found.causes, expected) or found.same is bool(expected):
            missed.append((name, "diff", [cause.code for cause in found.causes]))
        if baseline is None:
            continue
        boot = write_boot(tmp_path / "now", log.boot.events, banks=banks)
        result = cvmlab.investigate(boot, baseline=baseline, enrolled_keys=[key])
        if wrong(result.causes, expected) or result.verdict != ("not-trusted" if expected else "trusted"):
            missed.append((name, result.verdict, [cause.code for cause in result.causes]))
    assert not missed


# fewest logs of the corpus that each change fits: an editor that does nothing would prove nothing
FEWEST = {
    "kernel_update": 20, "initrd_update": 20, "command_line": 35, "first_loader": 50, "shim_update": 25,
    "firmware_update": 60, "option_rom": 20, "option_rom_gone": 20, "revocation": 60, "revocations_gone": 50,
    "key_added": 50, "key_exchange_added": 50, "boot_order": 60, "boot_entry_gone": 60, "partition": 55,
    "secure_boot_off": 25, "secure_boot_on": 15, "setup_mode": 25, "other_application": 50, "owner_keys": 20,
    "firmware_setting": 8, "boot_debugging": 5, "kernel_debugging": 5, "test_signing": 5, "windows_driver": 5,
    "windows_update": 5, "nothing": 75,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_fits_many_machines(corpus: Path, name: str) -> None:
    fits = 0
    for file in FILES:
        log = read(corpus / "eventlogs" / file)
        assert log is not None
        before = written(log)
        expected = CHANGES[name](log)
        if expected is not None:
            fits += 1
            assert (written(log) == before) is not bool(expected)
    assert fits >= FEWEST[name]
