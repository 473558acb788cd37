"""Logs of a Windows boot that never was: its events as Windows writes them, on the lab's firmware.

Structure and ids are those of ``wbcl.h`` of the Windows SDK: SIPA events in EV_EVENT_TAG events of registers
12 to 14. Register 12 has settings with digests and addresses of modules, 13 has modules by path and signer.
Files, digests and serial numbers are made up; nothing of Microsoft's is in here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from logs import (
    COMPACT_HASH,
    EFI_ACTION,
    EFI_APPLICATION,
    EFI_AUTHORITY,
    EVENT_TAG,
    SEPARATOR,
    Measurement,
    measured,
)

TRUST_BOUNDARY, LOADED_MODULE = 0x40010001, 0x40010003
BOOT_COUNTER, TRANSFER_CONTROL = 0x00020002, 0x00020003
BOOT_DEBUGGING, KERNEL_DEBUG, CODE_INTEGRITY, TEST_SIGNING = 0x00040001, 0x00050001, 0x00050002, 0x00050003
SAFE_MODE, SYSTEM_ROOT, FLIGHT_SIGNING = 0x00050005, 0x00050009, 0x00050021
PUBLIC_KEY = 0x00060002
PATH, SIZE, HASH_ALGORITHM, HASH, ISSUER, SERIAL, BASE, PUBLISHER, THUMBPRINT, VALIDATED = range(
    0x00070001, 0x0007000B
)
CAPI_SHA256 = 0x800C
SECURE_DATABASE_GUID = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
# Signature list header: type GUID, list size, header size, entry size (UEFI 2.10, section 32.4.1)
LIST_HEADER = 28


@dataclass(frozen=True, slots=True)
class Driver:
    """One module of the boot."""

    path: str
    contents: str = "1"
    publisher: str = "SIMULATED Windows"
    issuer: str = "SIMULATED Windows Production PCA"
    validated: bool = True


DRIVERS = (
    Driver("\\Windows\\system32\\ntoskrnl.exe"),
    Driver("\\Windows\\system32\\hal.dll"),
    Driver("\\Windows\\system32\\CI.dll"),
    Driver("\\Windows\\System32\\drivers\\tpm.sys"),
    Driver("\\Windows\\System32\\drivers\\disk.sys"),
    Driver(
        "\\Windows\\System32\\drivers\\netvsc.sys", publisher="SIMULATED Hardware Compatibility Publisher"
    ),
)
SETTINGS: Mapping[int, int] = {
    BOOT_DEBUGGING: 0, KERNEL_DEBUG: 0, TEST_SIGNING: 0, FLIGHT_SIGNING: 0, CODE_INTEGRITY: 1, SAFE_MODE: 0,
}  # fmt: skip


def _sipa(number: int, payload: bytes) -> bytes:
    return struct.pack("<II", number, len(payload)) + payload


def _flag(number: int, value: int) -> bytes:
    return _sipa(number, bytes([value]))


def _text(number: int, text: str) -> bytes:
    return _sipa(number, text.encode("utf-16-le") + b"\0\0")


def _hash(driver: Driver) -> bytes:
    return hashlib.sha256(f"SIMULATED {driver.path} {driver.contents}".encode()).digest()


def _by_digest(driver: Driver) -> bytes:
    base = struct.pack("<Q", 0x1000 * (int.from_bytes(_hash(driver)[:2], "big") + 0x1000))
    return _sipa(LOADED_MODULE, _sipa(HASH, _hash(driver)) + _sipa(BASE, base))


def _by_path(driver: Driver) -> bytes:
    signer = f"{driver.issuer}/{driver.publisher}".encode()
    parts = [
        _text(PATH, driver.path),
        _sipa(SIZE, struct.pack("<Q", 0x10000)),
        _sipa(HASH_ALGORITHM, struct.pack("<I", CAPI_SHA256)),
        _sipa(HASH, _hash(driver)),
        _flag(VALIDATED, driver.validated),
    ]
    if driver.validated:
        parts += [
            _text(ISSUER, driver.issuer),
            _text(PUBLISHER, driver.publisher),
            _sipa(SERIAL, hashlib.sha256(signer).digest()[:19]),
            _sipa(THUMBPRINT, hashlib.sha1(signer, usedforsecurity=False).digest()),
        ]
    return _sipa(LOADED_MODULE, b"".join(parts))


def _boundary(*parts: bytes) -> bytes:
    return _sipa(TRUST_BOUNDARY, b"".join(parts))


def _authority(firmware: list[Measurement]) -> Measurement:
    """Let the first certificate of db vouch for the boot manager (EV_EFI_VARIABLE_AUTHORITY)."""
    wanted = SECURE_DATABASE_GUID + struct.pack("<Q", 2)
    name = "db".encode("utf-16-le")
    database = next(
        event.data
        for event in firmware
        if event.register == 7 and event.data.startswith(wanted) and event.data[32:36] == name
    )
    (size,) = struct.unpack_from("<I", database, 36 + 24)
    entry = database[36 + LIST_HEADER : 36 + LIST_HEADER + size]
    data = database[:24] + struct.pack("<Q", len(entry)) + name + entry
    return measured(7, EFI_AUTHORITY, data)


def windows_log(
    firmware: list[Measurement],
    settings: Mapping[int, int] | None = None,
    drivers: tuple[Driver, ...] = DRIVERS,
) -> list[Measurement]:
    """Write the events of a Windows boot.

    Args:
        firmware: A log of the lab; what its firmware measured before it started a boot loader is taken.
        settings: Settings that differ from those of a good boot.
        drivers: The modules, in the order in which they are loaded.

    Returns:
        The events after the Spec ID event. Everything but the load addresses is the same in every boot.
    """
    last = max(i for i, e in enumerate(firmware) if e.type == SEPARATOR)
    calling = b"Exit Boot Services"
    values = b"".join(_flag(number, value) for number, value in {**SETTINGS, **(settings or {})}.items())
    loader = Driver("\\Windows\\system32\\winload.efi")
    started = "\\EFI\\Microsoft\\Boot\\bootmgfw.efi".encode("utf-16-le") + b"\0\0"
    path = b"\x04\x04" + struct.pack("<H", 4 + len(started)) + started + b"\x7f\xff\x04\0"
    image = struct.pack("<QQQQ", 0x6000000, 0x180000, 0, len(path)) + path
    root = _text(SYSTEM_ROOT, "\\Windows")
    key = _sipa(PUBLIC_KEY, hashlib.sha512(b"SIMULATED public key").digest() * 4)
    return [
        *firmware[: last + 1],
        _authority(firmware),
        measured(4, EFI_APPLICATION, image, b"SIMULATED bootmgfw.efi"),
        measured(11, COMPACT_HASH, struct.pack("<I", 0x10)),
        measured(12, EVENT_TAG, _boundary(
            _by_digest(loader), _sipa(TRANSFER_CONTROL, struct.pack("<I", 1)), values)),
        measured(13, EVENT_TAG, _boundary(values, _by_path(loader))),
        measured(14, EVENT_TAG, key),
        measured(12, EVENT_TAG, _boundary(*map(_by_digest, drivers), root, values)),
        measured(13, EVENT_TAG, _boundary(root, values, *map(_by_path, drivers))),
        measured(14, EVENT_TAG, _boundary(key)),
        *(e for e in firmware if e.type == EFI_ACTION and e.data.startswith(calling)),
        measured(11, COMPACT_HASH, struct.pack("<I", 0xFFFF0000)),
        *(measured(register, SEPARATOR, b"WBCL") for register in (12, 13, 14)),
    ]  # fmt: skip
