"""A walker over logs that is apart from the product's, and the logs it walks."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = {4: "sha1", 0xB: "sha256", 0xC: "sha384", 0xD: "sha512"}
_SIZES = {4: 20, 0xB: 32, 0xC: 48, 0xD: 64, 0x12: 32}


@dataclass(frozen=True)
class RawEvent:
    """An event as the walker frames it; `digests` has the banks that hashlib knows."""

    register: int
    type: int
    digests: dict[str, bytes]
    data: bytes
    base: int

    def covered(self, candidates: tuple[tuple[str, bytes], ...]) -> str | None:
        """Return the label of the candidate that the strongest digest is of."""
        bank, digest = max(self.digests.items(), key=lambda item: len(item[1]))
        for label, data in candidates:
            if hashlib.new(bank, data).digest() == digest:
                return label
        return None


def _walk_legacy(log: bytes) -> list[RawEvent]:
    events, at = [], 0
    while at + 32 <= len(log):
        register, kind = struct.unpack_from("<II", log, at)
        (size,) = struct.unpack_from("<I", log, at + 28)
        if register > 0xFF or at + 32 + size > len(log):
            break
        digests = {"sha1": log[at + 8 : at + 28]}
        events.append(RawEvent(register, kind, digests, log[at + 32 : at + 32 + size], at + 32))
        at += 32 + size
    return events


def walk(log: bytes) -> list[RawEvent]:
    """Frame a log by the layout of PFP 1.06, section 10.2, up to the first thing that does not fit."""
    (size,) = struct.unpack_from("<I", log, 28)
    header = log[32 : 32 + size]
    if not header.startswith(b"Spec ID Event03"):
        return _walk_legacy(log)
    register, kind = struct.unpack_from("<II", log)
    events, at = [RawEvent(register, kind, {}, header, 32)], 32 + size
    while at + 12 <= len(log):
        register, kind, count = struct.unpack_from("<III", log, at)
        if register == 0xFFFFFFFF or not 1 <= count <= 8:
            break
        at += 12
        digests = {}
        for _ in range(count):
            (algorithm,) = struct.unpack_from("<H", log, at)
            if algorithm in _NAMES:
                digests[_NAMES[algorithm]] = log[at + 2 : at + 2 + _SIZES[algorithm]]
            at += 2 + _SIZES[algorithm]
        (size,) = struct.unpack_from("<I", log, at)
        if at + 4 + size > len(log):
            break
        events.append(RawEvent(register, kind, digests, log[at + 4 : at + 4 + size], at + 4))
        at += 4 + size
    return events


@pytest.fixture(scope="session")
def boot_logs(boots: Path) -> dict[str, list[RawEvent]]:
    """The events of every measured boot, by the boot's name."""
    return {path.parent.name: walk(path.read_bytes()) for path in sorted(boots.glob("*/eventlog.bin"))}


@pytest.fixture(scope="session")
def corpus_logs(corpus: Path) -> dict[str, tuple[str, list[RawEvent]]]:
    """Register set and events of every undamaged log of the corpus, by its file."""
    logs = {}
    for row in json.loads((corpus / "eventlogs.json").read_text()):
        path = corpus / "eventlogs" / row["file"]
        if row["format"] is None:
            continue
        data = path.read_bytes()
        if len(data) < 64:
            continue
        events = walk(data)
        first = events[0] if events else None
        is_cc = first is not None and first.register == 1 and first.data.startswith(b"Spec ID Event03")
        logs[row["file"]] = ("cc" if is_cc else "tpm", events)
    return logs


@pytest.fixture(scope="session")
def edited_logs(corpus: Path) -> dict[str, list[RawEvent]]:
    """The logs of the corpus in which single bytes were changed and the digests were not."""
    names = ("secure_boot_byte_forged.bin", "signature_list_size_zero.bin")
    return {name: walk((corpus / "eventlogs" / name).read_bytes()) for name in names}
