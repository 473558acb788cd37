"""Well-known digests: values that every machine measures, computed when asked."""

from __future__ import annotations

import uuid
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cvmlab.banks import available, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

BANKS: Final = ("sha1", "sha256", "sha384", "sha512")
EFI_GLOBAL_VARIABLE: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")

# TCG PFP 1.06, sections 10.4.1 and 3.3.4; systemd-pcrphase.service(8); systemd, TPM2_PCR_MEASUREMENTS
_TEXTS: Final = {
    b"\0\0\0\0": "separator: the firmware hands over without an error",
    b"\xff\xff\xff\xff": "separator: the firmware hands over without an error (older form)",
    b"\x01\0\0\0": "separator: the firmware announces an error",
    b"": "nothing: the digest of no bytes",
    b"Calling EFI Application from Boot Option": "action: the firmware calls a boot option",
    b"Returning from EFI Application from Boot Option": "action: a boot option returned",
    b"Exit Boot Services Invocation": "action: the boot loader leaves the firmware",
    b"Exit Boot Services Returned with Success": "action: the firmware let the boot loader go",
    b"Exit Boot Services Returned with Failure": "action: the firmware did not let the boot loader go",
    b"UEFI Debug Mode": "action: the firmware runs in debug mode",
    **{
        name: f"boot phase {name.decode()} of systemd"
        for name in (b"enter-initrd", b"leave-initrd", b"sysinit", b"ready", b"shutdown", b"final")
    },
    **{
        name + b"\0": f"name of section {name.decode()} of a unified kernel image"
        for name in (
            b".linux", b".osrel", b".cmdline", b".initrd", b".ucode", b".splash", b".dtb", b".dtbauto",
            b".uname", b".sbat", b".pcrpkey", b".profile", b".hwids",
        )
    },
}  # fmt: skip


def variable_data(name: str, guid: uuid.UUID, data: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA (PFP 1.06, section 10.2.6), whose digest is measured for a variable."""
    wide = name.encode("utf-16-le")
    sizes = len(name).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    return guid.bytes_le + sizes + wide + data


@cache
def known_digests() -> Mapping[bytes, str]:
    """Return every well-known digest and what it is of."""
    values = dict(_TEXTS)
    for name in ("SecureBoot", "AuditMode", "DeployedMode", "SetupMode"):
        for value, word in ((b"\0", "off"), (b"\1", "on")):
            values[variable_data(name, EFI_GLOBAL_VARIABLE, value)] = f"UEFI variable {name}: {word}"
    found: dict[bytes, str] = {}
    for bank in BANKS:
        if available(bank):
            for data, meaning in values.items():
                found.setdefault(digest(bank, data), meaning)
    return MappingProxyType(found)
