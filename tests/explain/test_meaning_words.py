"""What a person reads of a change: the words beside the cause, each from a change whose answer is known."""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING

import pytest
from remeasure import GPT, Boot, digests_of, enrolled_key, events_of, write_boot

import cvmlab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cvmlab.explain.model import Cause

# UEFI 2.10, table 5.5 (header), PFP 1.06, 10.4 (UEFI_GPT_DATA), UEFI table 5.7 (entry)
DISK_GUID, COUNT, FIRST_ENTRY, ENTRY = 56, 92, 100, 128


def primary(folder: Path, change: Callable[[Boot], object]) -> Cause:
    key = enrolled_key(folder)
    baseline = cvmlab.learn([write_boot(folder / "good", events_of("baseline"))], enrolled_keys=[key])
    boot = Boot(events_of("baseline"))
    change(boot)
    found = cvmlab.investigate(
        write_boot(folder / "changed", boot.events), baseline=baseline, enrolled_keys=[key]
    ).primary
    assert found is not None
    return found


def edited(change: Callable[[bytearray], object]) -> Callable[[Boot], None]:
    """A change of the partition table that the firmware measured."""

    def run(boot: Boot) -> None:
        event = boot.events[boot.where(GPT)[0]]
        data = bytearray(event.data)
        change(data)
        event.data, event.digests = bytes(data), digests_of(bytes(data))

    return run


def grow(data: bytearray, sectors: int) -> None:
    (last,) = struct.unpack_from("<Q", data, FIRST_ENTRY + 40)
    struct.pack_into("<Q", data, FIRST_ENTRY + 40, last + sectors)


def add(data: bytearray) -> None:
    (count,) = struct.unpack_from("<Q", data, COUNT)
    struct.pack_into("<Q", data, COUNT, count + 1)
    linux = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4").bytes_le
    entry = linux + bytes(range(16)) + struct.pack("<QQQ", 1 << 22, (1 << 22) + 4095, 0)
    data += entry + "extra".encode("utf-16-le").ljust(72, b"\0")


def remake(data: bytearray) -> None:
    data[FIRST_ENTRY + 16 : FIRST_ENTRY + 32] = bytes(range(16))


def another_disk(data: bytearray) -> None:
    data[DISK_GUID : DISK_GUID + 16] = uuid.UUID(int=7).bytes_le


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: grow(data, 4096), " grew by 2 MiB, from "),
        (lambda data: grow(data, -2048), " shrank by 1 MiB, from "),
        (add, "partition 'extra' (Linux filesystem, 2 MiB) was added"),
        (remake, " has another GUID: it was made anew"),
        (another_disk, "another disk, or one partitioned anew: "),
    ],
    ids=["grown", "shrunk", "added", "made_anew", "another_disk"],
)
def test_partitions(tmp_path: Path, change: Callable[[bytearray], object], said: str) -> None:
    cause = primary(tmp_path, edited(change))
    assert cause.code == "partition-table-changed"
    assert len(cause.meaning.says) == 1
    assert said in cause.meaning.says[0]


def test_certificates_of_the_2023_roll_out_are_known_by_fingerprint() -> None:
    """Real certificates, enrolled by the lab; their imitation is in `test_meaning`."""
    found = cvmlab.investigate(
        cvmlab.sample("db_certificates_2023"),
        baseline=cvmlab.sample_baseline(),
        trust_roots=[cvmlab.sample_trust_root()],
    ).primary
    assert found is not None
    assert found.code == "secure-boot-key-added"
    text = " ".join(found.meaning.says)
    assert "Windows UEFI CA 2023" in text
    assert "Microsoft UEFI CA 2023" in text
    assert "was added to db" in text
    assert "roll-out of its 2023 Secure Boot certificates" in text
    assert "known by its fingerprint" in found.meaning.likeness
    assert not found.meaning.attack
