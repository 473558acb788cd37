"""Make the log of another machine, or another boot, out of a real one: for simulation and measurement only.

What varies is what varies in fleets: boot entries and their order, partition tables, machine identities,
command lines with a disk's UUID, load addresses; where more is asked for, keys, files and images too. Digests
are made as the event's writer makes them, so that the log stays consistent: an event whose digest covers its
data still does, and replay gives other, valid values.
"""

from __future__ import annotations

import random
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cvmlab.banks import ALGORITHM_BY_BANK, DIGEST_SIZE, available, digest
from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log, types

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cvmlab.eventlog.model import Event, EventLog

_FIRST: Final = ("boot-entry", "boot-order", "partition-table", "machine-identity", "kernel-command-line")
"""Kinds that differ between machines of one image; they vary before any other."""
_FIXED: Final = frozenset(
    {"separator", "secure-boot", "secure-boot-variable", "startup-locality", "boot-phase"}
)
_LEAST: Final = 16
"""Shortest data, in bytes, in which something of a machine can stand."""
_VARIABLE_HEADER: Final = 32
_DISK_GUID: Final = 56
_IMAGES: Final = frozenset(
    {
        types.EV_EFI_BOOT_SERVICES_APPLICATION,
        types.EV_EFI_BOOT_SERVICES_DRIVER,
        types.EV_EFI_RUNTIME_SERVICES_DRIVER,
    }
)


def vary_log(
    data: bytes, seed: int | str, share: float = 0.3, *, kinds: Collection[str] | None = None
) -> bytes:
    """Return the log of another machine and boot.

    Args:
        data: A whole TCG log.
        seed: Names the machine and boot: the same seed gives the same log.
        share: How much of the events shall be unlike those of any other seed, 0 to 1 of those that extend a
            register. Separators and switches cannot be, so 1 leaves a few.
        kinds: Vary the events of these kinds and no other; `share` does not count then.

    Returns:
        A log of as many events, in the same format and banks.

    Raises:
        EvidenceError: The log is damaged or no TCG log, or has a bank that cannot be computed here.
    """
    log = _log(data)
    source = random.Random(f"cvmlab {seed}")  # noqa: S311 - repeatable on purpose, nothing secret
    extending = [event for event in log.events if event.extends]
    ranked = sorted((event for event in extending if _may_vary(event)), key=lambda e: (_rank(e), e.index))
    kept = sum(_rank(event) < len(_FIRST) for event in ranked)
    others = ranked[kept:]
    source.shuffle(others)
    if kinds is not None:
        chosen = {event.index for event in ranked if event.payload.kind in kinds}
    else:
        chosen = {event.index for event in [*ranked[:kept], *others][: round(share * len(extending))]}
    pieces = []
    for event, end in zip(log.events, [*(e.offset for e in log.events[1:]), log.end], strict=True):
        pieces.append(_varied(event, log, source) if event.index in chosen else data[event.offset : end])
    return b"".join(pieces)


@lru_cache(maxsize=128)
def _log(data: bytes) -> EventLog:
    log = read_event_log(data)
    if log.problems or log.format not in ("tcg-1.2", "crypto-agile") or not log.events:
        raise EvidenceError("only a whole TCG event log without problems can be varied")
    if not all(available(bank) for bank in log.banks):
        raise EvidenceError(f"cannot make digests of {', '.join(log.banks)} here")
    return log


def _rank(event: Event) -> int:
    kind = event.payload.kind
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _may_vary(event: Event) -> bool:
    if event.payload.kind in _FIXED or event.digest_check == "mismatch" or event.covered == "section name":
        return False
    return event.digest_check != "covers-data" or len(event.data) >= _LEAST


def _varied(event: Event, log: EventLog, source: random.Random) -> bytes:
    data = event.data
    digests: Mapping[str, bytes]
    if event.digest_check == "covers-data":
        data = _other_data(event, source)
        covered = _covered(event, data)
        digests = {bank: digest(bank, covered) for bank in event.digests}
    else:
        if event.type in _IMAGES and len(data) > _LEAST:
            data = (source.getrandbits(20) << 12).to_bytes(8, "little") + data[8:]
        contents = source.randbytes(32)
        digests = {bank: digest(bank, contents) for bank in event.digests}
    return _event_bytes(event, digests, data, agile=log.format == "crypto-agile")


def _other_data(event: Event, source: random.Random) -> bytes:
    data, kind = event.data, event.payload.kind
    if kind == "machine-identity":
        text = str(event.payload.fields["uuid"]).encode()
        new = str(uuid.UUID(int=source.getrandbits(128))).encode()
        return data.replace(text, new).replace(text.upper(), new.upper())
    if kind == "partition-table" and len(data) >= _DISK_GUID + 16:
        return data[:_DISK_GUID] + source.randbytes(16) + data[_DISK_GUID + 16 :]
    if event.payload.producer == "grub" or kind in ("efi-action", "action"):
        text, nul, rest = data.partition(b"\0")
        return text + f" id={source.getrandbits(64):016x}".encode() + nul + rest
    if kind in ("boot-entry", "boot-order"):
        return _longer_variable(data, source.randbytes(16))
    return data[:-8] + source.randbytes(8)


def _longer_variable(data: bytes, more: bytes) -> bytes:
    """Add to a variable's data: optional data of a boot entry, further entries of a boot order."""
    name = 2 * int.from_bytes(data[16:24], "little")
    size = int.from_bytes(data[24:32], "little")
    end = _VARIABLE_HEADER + name + size
    return data[:24] + (size + len(more)).to_bytes(8, "little") + data[32:end] + more + data[end:]


def _covered(event: Event, data: bytes) -> bytes:
    """Return the part of the new data that the event's writer hashes: the one it hashed before."""
    from cvmlab.eventlog.producers import decode

    payload = decode(event.type, event.register, data, base=event.data_offset)
    parts = dict(payload.candidates)
    return parts.get(event.covered, data)


def _event_bytes(event: Event, digests: Mapping[str, bytes], data: bytes, *, agile: bool) -> bytes:
    """Lay an event out (PFP 1.06, sections 10.2.1 and 10.2.2)."""

    def u32(value: int) -> bytes:
        return value.to_bytes(4, "little")

    head = u32(event.register) + u32(event.type)
    if not agile:
        return head + digests.get("sha1", bytes(DIGEST_SIZE["sha1"])) + u32(len(data)) + data
    listed = b"".join(
        ALGORITHM_BY_BANK[bank].to_bytes(2, "little") + value for bank, value in digests.items()
    )
    return head + u32(len(digests)) + listed + u32(len(data)) + data
