"""What happens to machines with Windows, done to the log of any of them (see `relog_changes`)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from relog import file_name, renew, rewrite
from remeasure import APPLICATION, EVENT_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relog import Log
    from remeasure import Measured

    Codes = set[str]

# wbcl.h of the Windows SDK
AGGREGATION: Final = 0x40000000
BOOT_DEBUGGING, KERNEL_DEBUG, TEST_SIGNING = 0x00040001, 0x00050001, 0x00050003
FILE_PATH, AUTHENTICODE_HASH = 0x00070001, 0x00070004


def tree(data: bytes) -> list[tuple[int, object]] | None:
    found: list[tuple[int, object]] = []
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            return None
        number, size = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + 8 + size]
        if len(body) < size:
            return None
        found.append((number, tree(body) if number & AGGREGATION else body))
        at += 8 + size
    return found


def flat(events: list[tuple[int, object]]) -> bytes:
    out = b""
    for number, body in events:
        data = flat(body) if isinstance(body, list) else body
        out += struct.pack("<II", number, len(data)) + data
    return out


def wbcl(log: Log) -> list[Measured]:
    return [
        e for e in log.boot.events if e.type == EVENT_TAG and e.register in (11, 12, 13, 14) and tree(e.data)
    ]


def walk(events: list[tuple[int, object]]) -> Iterator[tuple[int, object]]:
    for number, body in events:
        yield number, body
        if isinstance(body, list):
            yield from walk(body)


def set_flag(log: Log, wanted: int) -> bool:
    def one(events: list[tuple[int, object]]) -> list[tuple[int, object]]:
        return [
            (n, one(body) if isinstance(body, list) else b"\1" if n == wanted and body == b"\0" else body)
            for n, body in events
        ]

    hit = False
    for event in wbcl(log):
        new = flat(one(tree(event.data) or []))
        if new != event.data:
            hit |= rewrite(event, new)
    return hit


def boot_debugging(log: Log) -> Codes | None:
    return {"boot-debugging-enabled"} if set_flag(log, BOOT_DEBUGGING) else None


def kernel_debugging(log: Log) -> Codes | None:
    return {"kernel-debugging-enabled"} if set_flag(log, KERNEL_DEBUG) else None


def test_signing(log: Log) -> Codes | None:
    return {"test-signing-enabled"} if set_flag(log, TEST_SIGNING) else None


def replace_module(log: Log, *names: str) -> bool:
    """Another file of the same name: its Authenticode hash is another one wherever it is told."""
    hashes = set()
    for event in wbcl(log):
        for number, body in walk(tree(event.data) or []):
            if not number & AGGREGATION or not isinstance(body, list):
                continue
            fields = {n: b for n, b in body if isinstance(b, bytes)}
            path = fields.get(FILE_PATH, b"").decode("utf-16-le", "replace").rstrip("\0").lower()
            if path.endswith(names) and fields.get(AUTHENTICODE_HASH):
                hashes.add(fields[AUTHENTICODE_HASH])
    for event in wbcl(log):
        data = event.data
        for value in hashes:
            data = data.replace(value, bytes(b ^ 0x5A for b in value))
        if data != event.data:
            rewrite(event, data)
    return bool(hashes)


def windows_driver(log: Log) -> Codes | None:
    return {"boot-module-changed"} if replace_module(log, "\\tpm.sys") else None


def windows_update(log: Log) -> Codes | None:
    if not replace_module(log, "\\winload.efi", "\\ntoskrnl.exe", "\\ci.dll", "\\hal.dll", "\\ntfs.sys"):
        return None
    for event in log.boot.events:
        if event.type == APPLICATION and file_name(event).lower().endswith("bootmgfw.efi"):
            renew(event, "updated")
            return {"boot-loader-changed", "kernel-changed"}
    return {"kernel-changed"}
