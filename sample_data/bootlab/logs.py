"""Reading and writing TCG logs (PFP 1.06, section 10), so that edited ones can be measured and sent."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

ALGORITHMS = {"sha1": 0x4, "sha256": 0xB, "sha384": 0xC, "sha512": 0xD}
SIZES = {0x4: 20, 0xB: 32, 0xC: 48, 0xD: 64}
BANKS = ("sha1", "sha256", "sha384")
NO_ACTION, SEPARATOR, EVENT_TAG, COMPACT_HASH, IPL = 0x3, 0x4, 0x6, 0xC, 0xD
EFI_APPLICATION, EFI_ACTION, EFI_HANDOFF_TABLES2 = 0x80000003, 0x80000007, 0x8000000B
EFI_AUTHORITY = 0x800000E0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One event (TCG_PCR_EVENT2, section 10.2.2), with a digest for each bank by its algorithm's number."""

    register: int
    type: int
    digests: dict[int, bytes]
    data: bytes

    def pack(self) -> bytes:
        """Write it."""
        packed = b"".join(struct.pack("<H", number) + digest for number, digest in self.digests.items())
        head = struct.pack("<III", self.register, self.type, len(self.digests))
        return head + packed + struct.pack("<I", len(self.data)) + self.data

    def extension(self) -> str:
        """Write it as an argument of tpm2_pcrextend."""
        names = {number: bank for bank, number in ALGORITHMS.items()}
        values = ",".join(f"{names[number]}={digest.hex()}" for number, digest in self.digests.items())
        return f"{self.register}:{values}"

    def only(self, *banks: str) -> Measurement:
        """Leave digests of these banks alone."""
        return replace(
            self, digests={n: d for n, d in self.digests.items() if n in map(ALGORITHMS.get, banks)}
        )


def measured(
    register: int, kind: int, data: bytes, of: bytes | None = None, banks: Sequence[str] = BANKS
) -> Measurement:
    """Make an event whose digests are of its data, or `of` something else."""
    hashed = data if of is None else of
    return Measurement(
        register, kind, {ALGORITHMS[bank]: hashlib.new(bank, hashed).digest() for bank in banks}, data
    )


def read(log: bytes) -> tuple[bytes, list[Measurement]]:
    """Take a log apart: its first event (Spec ID) as it is, and the events after it."""
    (size,) = struct.unpack_from("<I", log, 28)
    offset = 32 + size
    head, events = log[:offset], []
    while offset < len(log):
        register, kind, count = struct.unpack_from("<III", log, offset)
        offset += 12
        digests = {}
        for _ in range(count):
            (number,) = struct.unpack_from("<H", log, offset)
            digests[number] = log[offset + 2 : offset + 2 + SIZES[number]]
            offset += 2 + SIZES[number]
        (size,) = struct.unpack_from("<I", log, offset)
        events.append(Measurement(register, kind, digests, log[offset + 4 : offset + 4 + size]))
        offset += 4 + size
    return head, events


def spec_id(banks: Sequence[str]) -> bytes:
    """Write the first event of a log of these banks (TCG_EfiSpecIDEventStruct, section 10.4.5.1)."""
    sizes = b"".join(struct.pack("<HH", ALGORITHMS[b], SIZES[ALGORITHMS[b]]) for b in banks)
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(banks)) + sizes + b"\0"
    return struct.pack("<II20sI", 0, NO_ACTION, bytes(20), len(body)) + body


def write(head: bytes, events: Sequence[Measurement]) -> bytes:
    """Put a log together."""
    return head + b"".join(event.pack() for event in events)
