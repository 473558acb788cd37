"""Real logs of other machines measured anew with one change, by a reader and an editor of our own.

`read` takes any log of TCG PC Client PFP 1.06, section 10 (crypto agile, or SHA-1 alone), `written` gives the
bytes of a log back. Nothing here uses the package's own readers.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remeasure import NO_ACTION, NUMBERS, Boot, Measured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}
NAMES = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512", 0x0012: "sm3_256"}


@dataclass
class Log:
    """A log: what stands before the first event that extends, and the events.

    Attributes:
        head: The Spec ID event, as it stands; empty for a log of SHA-1 alone.
        banks: The digests each event has, in order.
        boot: The events.
    """

    head: bytes
    banks: tuple[str, ...]
    boot: Boot


def read(path: Path) -> Log | None:
    """Return a log; None for one that is damaged, has no event or an unknown bank."""
    data = path.read_bytes()
    if len(data) < 32:
        return None
    size = struct.unpack_from("<I", data, 28)[0]
    if data[32:48] != b"Spec ID Event03\0":
        return _old(data)
    at = 32 + size
    head = data[:at]
    count = struct.unpack_from("<I", data, 56)[0]
    numbers = [struct.unpack_from("<H", data, 60 + 4 * i)[0] for i in range(count)]
    if not all(number in NAMES for number in numbers):
        return None
    events = []
    while at + 16 <= len(data):
        register, kind, count = struct.unpack_from("<III", data, at)
        if kind == 0xFFFFFFFF or (register, kind, count) == (0, 0, 0):
            break
        if count > len(numbers):
            return None
        at += 12
        digests = {}
        for _ in range(count):
            number = struct.unpack_from("<H", data, at)[0]
            if number not in NAMES:
                return None
            digests[NAMES[number]] = data[at + 2 : at + 2 + SIZES[number]]
            at += 2 + SIZES[number]
        size = struct.unpack_from("<I", data, at)[0]
        if at + 4 + size > len(data):
            return None
        events.append(Measured(register, kind, data[at + 4 : at + 4 + size], digests))
        at += 4 + size
    return Log(head, tuple(NAMES[number] for number in numbers), Boot(events)) if events else None


def _old(data: bytes) -> Log | None:
    """TCG_PCClientPCREvent (PFP 1.06, section 10.1): one SHA-1 digest an event."""
    events, at = [], 0
    while at + 32 <= len(data):
        register, kind = struct.unpack_from("<II", data, at)
        size = struct.unpack_from("<I", data, at + 28)[0]
        if kind == 0xFFFFFFFF or (register, kind, size) == (0, 0, 0):
            break
        if (register > 24 and kind != NO_ACTION) or at + 32 + size > len(data):
            return None
        body = data[at + 32 : at + 32 + size]
        events.append(Measured(register, kind, body, {"sha1": data[at + 8 : at + 28]}))
        at += 32 + size
    return Log(b"", ("sha1",), Boot(events)) if events else None


def written(log: Log) -> bytes:
    """The bytes of a log."""
    out = log.head
    number = {name: value for value, name in NAMES.items()}
    for event in log.boot.events:
        if not log.head:
            out += struct.pack("<II", event.register, event.type) + event.digests["sha1"]
        else:
            out += struct.pack("<III", event.register, event.type, len(event.digests))
            out += b"".join(struct.pack("<H", number[b]) + value for b, value in event.digests.items())
        out += struct.pack("<I", len(event.data)) + event.data
    return out


def load_path(event: Measured) -> bytes | None:
    """The device path of EFI_IMAGE_LOAD_EVENT (PFP 1.06, section 10.2.3)."""
    if len(event.data) < 32:
        return None
    size = struct.unpack_from("<Q", event.data, 24)[0]
    return event.data[32 : 32 + size]


def nodes(path: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + 4 <= len(path):
        kind, sub, size = struct.unpack_from("<BBH", path, at)
        if size < 4 or kind == 0x7F:
            return
        yield kind, sub, path[at + 4 : at + size]
        at += size


def file_name(event: Measured) -> str:
    path = load_path(event) or b""
    parts = (data for kind, sub, data in nodes(path) if (kind, sub) == (4, 4))
    return "".join(data.decode("utf-16-le", "replace").rstrip("\0") for data in parts)


# ---------------------------------------------------------------- what a digest is of


def _forms(data: bytes) -> Iterator[bytes]:
    """What the digest of an event may be of, by its writer."""
    yield data
    yield data.rstrip(b"\0")
    # GRUB leaves out its prefix, "grub_cmd: " or "kernel_cmdline: ", and the end of the text
    prefix, colon, rest = data.partition(b": ")
    if colon and prefix.isascii() and b"\0" not in prefix:
        yield rest.rstrip(b"\0")
        yield rest
    if len(data) >= 32:
        count, size = struct.unpack_from("<QQ", data, 16)
        at = 32 + 2 * count
        if count < 512 and at + size == len(data):
            yield data[at:]
    if data.endswith(b"\0\0"):
        yield data[:-2]
    if len(data) > 8:
        yield data[8:]


def rewrite(event: Measured, data: bytes) -> bool:
    """Give an event other data, and the digests that its writer would have measured of them.

    Returns:
        False where the digest was of something that the log does not have: it stands for new contents then.
    """
    known = next((bank for bank in event.digests if bank in NUMBERS), None)
    old = list(_forms(event.data))
    event_data, event.data = event.data, data
    if known is not None:
        wanted = event.digests[known]
        for place, form in enumerate(old):
            if hashlib.new(known, form).digest() == wanted:
                new = _form(data, event_data, form, place)
                event.digests = _of(event, new)
                return True
    renew(event, data.hex())
    return False


def _form(data: bytes, old: bytes, form: bytes, place: int) -> bytes:
    for other, each in zip(_forms(old), _forms(data), strict=False):
        if other == form:
            return each
    raise AssertionError(place)


def _of(event: Measured, data: bytes) -> dict[str, bytes]:
    return {bank: hashlib.new(_NAMED.get(bank, bank), data).digest() for bank in event.digests}


def digests_like(event: Measured) -> dict[str, bytes]:
    """Digests of an event's own data, in the banks that it has."""
    return _of(event, event.data)


def renew(event: Measured, what: str) -> None:
    """Give an event the digests of contents that no log has: another file, another image."""
    event.digests = _of(event, f"contents of {what} {event.data.hex()}".encode())


_NAMED = {"sm3_256": "sm3"}
