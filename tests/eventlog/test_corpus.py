"""Registers and events of real logs of many machines, held against what their publishers and others say.

`golden_registers` were read from the machine's TPM or stated by the log's publisher; `reference_registers`
come from an independent script that knows StartupLocality, H-CRTM and CC registers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cvmlab.eventlog import read_event_log

CORPUS = Path(os.environ.get("CVMLAB_CORPUS", "/nonexistent"))
ROWS: list[dict[str, Any]] = (
    json.loads((CORPUS / "eventlogs.json").read_text()) if (CORPUS / "eventlogs.json").exists() else []
)


def _registers(row: dict[str, Any]) -> dict[str, dict[str, str]]:
    return row.get("golden_registers") or row.get("reference_registers") or {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"].rsplit("/", 1)[-1][-60:])
def test_replay_gives_the_registers_that_the_machine_had(corpus: Path, row: dict[str, Any]) -> None:
    log = read_event_log(corpus / "eventlogs" / row["file"])
    expected = _registers(row)
    replayed = log.replay()
    compared = 0
    for bank, values in expected.items():
        for index, value in values.items():
            got = replayed.get(bank, {}).get(int(index))
            wanted = bytes.fromhex(value.removeprefix("0x"))
            if got is None:
                # a register that nothing extended reads as it started: all zeros or all ones
                assert len(set(wanted)) == 1
                continue
            assert got == wanted, f"{bank} {index}"
            compared += 1
    if expected and log.events and any(event.extends for event in log.events):
        assert compared


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"].rsplit("/", 1)[-1][-60:])
def test_every_event_is_found(corpus: Path, row: dict[str, Any]) -> None:
    log = read_event_log(corpus / "eventlogs" / row["file"])
    if row["events"] is None:
        assert not log.events
        return
    # the reference script leaves the Spec ID event out of its count, for some formats
    assert len(log.events) - row["events"] in (0, 1)
    damaged = any("beyond end" in hint or "trailing" in hint for hint in row.get("notes") or [])
    if not damaged:
        assert log.complete, log.problems


def test_forged_secure_boot_variable_contradicts_its_digest(corpus: Path) -> None:
    log = read_event_log(corpus / "eventlogs" / "secure_boot_byte_forged.bin")
    forged = [event for event in log.events if event.payload.kind == "secure-boot"]
    assert [event.digest_check for event in forged] == ["mismatch"]


def test_signature_list_of_size_zero_ends_that_event_only(corpus: Path) -> None:
    log = read_event_log(corpus / "eventlogs" / "signature_list_size_zero.bin")
    assert log.complete
    damaged = [event for event in log.events if type(event.payload.value).__name__ == "Invalid"]
    assert damaged
    assert any("error" in event.payload.fields for event in damaged)


@pytest.mark.parametrize("name", ["baseline", "kernel_changed", "uki_signed", "tpm12", "sdboot_uki"])
def test_events_are_those_of_tpm2_eventlog(sample_data: Path, name: str) -> None:
    path = sample_data / "boots" / name / "eventlog.bin"
    said = subprocess.run(["tpm2_eventlog", str(path)], capture_output=True, text=True, check=True).stdout
    log = read_event_log(path)
    types = re.findall(r"^  EventType: (\S+)$", said, re.M)
    registers = [int(n) for n in re.findall(r"^  PCRIndex: (\d+)$", said, re.M)]
    digests = re.findall(r'^ {2,4}-? ?Digest: "([0-9a-f]+)"$', said, re.M)
    assert [event.type_name for event in log.events] == types
    assert [event.register for event in log.events] == registers
    ours = [value.hex() for event in log.events for value in event.digests.values()]
    assert ours == digests or ours == [d for d in digests if d]
