"""Which program and version a PE image is, by what its maker wrote into it.

Source: rhboot/shim, SBAT.md (``.sbat``); systemd, os-release(5) (``.osrel``); Linux, Documentation/arch/x86/
boot.rst (``kernel_version``). The digest of the image covers these, so they are as good as its signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.uefi.text import decode_utf8, until_nul

if TYPE_CHECKING:
    from cvmlab.uefi.pe import PeImage

MAX_PRODUCT: Final = 120
_SBAT_COLUMNS: Final = 5
_HEADER_AT: Final = 0x202
_VERSION_AT: Final = 0x20E


def product(image: PeImage) -> str:
    """Return such as ``shim 16.1 of Debian``; empty where the image does not say."""
    return (_unified(image) or _sbat(image) or _linux(image))[:MAX_PRODUCT]


def _unified(image: PeImage) -> str:
    """A unified kernel image carries the system's os-release and the kernel's version."""
    release, kernel = image.section(".osrel"), image.section(".uname")
    if image.section(".linux") is None or release is None:
        return ""
    fields = dict(line.split("=", 1) for line in _text(release).splitlines() if "=" in line)
    name = fields.get("PRETTY_NAME", fields.get("ID", "")).strip("\"'")
    version = f" with Linux {_text(kernel).strip()}" if kernel else ""
    return f"unified kernel image of {name}{version}" if name else ""


def _sbat(image: PeImage) -> str:
    """The vendor's row is the last one with a dot in its component; without one, the program's own."""
    data = image.section(".sbat")
    if data is None:
        return ""
    rows = [line.split(",") for line in _text(data[: 1 << 16]).splitlines()]
    rows = [row for row in rows if len(row) >= _SBAT_COLUMNS and row[0] != "sbat"]
    if not rows:
        return ""
    _, _, vendor, name, version = next((row for row in reversed(rows) if "." in row[0]), rows[-1])[:5]
    return f"{name} {version} of {vendor}"


def _linux(image: PeImage) -> str:
    data = image.data
    if data[_HEADER_AT : _HEADER_AT + 4] != b"HdrS":
        return ""
    at = int.from_bytes(data[_VERSION_AT : _VERSION_AT + 2], "little")
    version = _text(data[at + 0x200 : at + 0x300]) if at else ""
    return f"Linux {version.split(' ', 1)[0]}" if version else ""


def _text(data: bytes) -> str:
    return until_nul(decode_utf8(data))
