"""What firmware and system software measure everywhere: candidates for events that a log lacks."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SEPARATORS: Final = (
    ("separator 00000000", bytes(4)),
    ("separator FFFFFFFF", b"\xff" * 4),
    ("separator of an error, 00000001", b"\x01\0\0\0"),
)
# TCG PFP 1.06, section 10.4.4: texts of EV_EFI_ACTION
_CALLING: Final = b"Calling EFI Application from Boot Option"
_RETURNING: Final = b"Returning from EFI Application from Boot Option"
EXIT: Final = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
EXIT_FAILED: Final = b"Exit Boot Services Returned with Failure"
# systemd-pcrphase.service(8): what userspace extends into PCR 11, in order
PHASES: Final = (b"enter-initrd", b"leave-initrd", b"sysinit", b"ready", b"shutdown", b"final")
_GLOBAL: Final = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


def _variable(name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA of a variable of the global GUID (TCG PFP 1.06, section 10.2.6)."""
    text = name.encode("utf-16-le")
    return _GLOBAL + len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little") + text + value


_SECURE_BOOT: Final = tuple(
    (f"{name} = {value}", _variable(name, bytes([value])))
    for name in ("SecureBoot", "AuditMode", "DeployedMode", "SetupMode")
    for value in (0, 1)
)
_ACTIONS: Final = tuple((text.decode(), text) for text in (_CALLING, _RETURNING, *EXIT, EXIT_FAILED))


def candidates(register: int) -> tuple[tuple[str, bytes], ...]:
    """Return what is measured into a PCR on most machines: words, and the data that are hashed."""
    found: tuple[tuple[str, bytes], ...] = SEPARATORS if register <= 7 else ()
    if register in (4, 5):
        found += _ACTIONS
    if register == 7:
        found += _SECURE_BOOT
        found += (("UEFI debug mode", b"UEFI Debug Mode"),)
    if register == 11:
        found += tuple((f"boot phase {text.decode()}", text) for text in PHASES)
    if register == 12:
        found += (("epoch or end of snap-bootstrap", bytes(4)),)
    return found


@dataclass(frozen=True, slots=True)
class Quirk:
    """A known fault: stable name, what happened, and where it is described."""

    name: str
    title: str
    link: str


@cache
def quirks() -> Mapping[str, Quirk]:
    """Return the table of quirks by name."""
    text = resources.files("cvmlab.explain.reconcile").joinpath("quirks.toml").read_text("utf-8")
    rows = tomllib.loads(text)["quirk"]
    return {row["name"]: Quirk(row["name"], row["title"], row["link"]) for row in rows}
