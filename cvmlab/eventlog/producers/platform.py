"""Events of firmware about what it ran and found: blobs, tables, processors, devices, configuration.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 10.2 and 10.4.1. Most digests here are of
things outside the log; what the data say of them is a claim.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog import types
from cvmlab.eventlog.model import Opaque, Payload
from cvmlab.eventlog.producers.csme import engine_payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.tdshim import PAYLOAD, shim_payload
from cvmlab.eventlog.producers.wording import (
    MAX_ITEMS,
    any_text,
    bounded_name,
    byte_text,
    one_line,
    plural,
    summary_hex,
)
from cvmlab.uefi.certificates import display_name, read_certificate
from cvmlab.uefi.guids import guid_name
from cvmlab.uefi.text import decode_utf8, short_hex

if TYPE_CHECKING:
    import uuid

EV_PREBOOT_CERT: Final = 0x00000000
EV_POST_CODE: Final = 0x00000001
EV_UNUSED: Final = 0x00000002
EV_CPU_MICROCODE: Final = 0x00000009
EV_PLATFORM_CONFIG_FLAGS: Final = 0x0000000A
EV_TABLE_OF_DEVICES: Final = 0x0000000B
EV_IPL_PARTITION_DATA: Final = 0x0000000E
EV_NONHOST_CODE: Final = 0x0000000F
EV_NONHOST_CONFIG: Final = 0x00000010
EV_NONHOST_INFO: Final = 0x00000011
EV_POST_CODE2: Final = 0x00000013

_BLOB_SIZE: Final = 16
_MAX_TABLES: Final = 4096
_MACHINE_UUID: Final = re.compile(r"UUID: ([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})")
_GCE_SIGNATURE: Final = b"GCE NonHostInfo\0"
# google/go-eventlog, extract: GCEConfidentialTechnology
_GCE_TECHNOLOGY: Final = {0: "none", 1: "AMD SEV", 2: "AMD SEV-ES", 3: "Intel TDX", 4: "AMD SEV-SNP"}


# PFP 1.06, sections 10.2.4 (UEFI_PLATFORM_FIRMWARE_BLOB) and 10.2.5 (..._BLOB2)
@dataclass(frozen=True, slots=True)
class FirmwareBlob:
    """Bytes of firmware in memory, as (address, length in bytes), with a name in the second form."""

    base: int
    length: int
    description: str = ""


# PFP 1.06, sections 10.2.6 (UEFI_HANDOFF_TABLE_POINTERS) and 10.2.7 (..._POINTERS2)
@dataclass(frozen=True, slots=True)
class HandoffTables:
    """Configuration tables, as (vendor GUID, address) pairs, with a name in the second form."""

    tables: tuple[tuple[uuid.UUID, int], ...]
    description: str = ""


@decoder("firmware", types.EV_EFI_PLATFORM_FIRMWARE_BLOB, kind="firmware-blob", relation="outside")
def _blob(event: EventData) -> Payload:
    if len(event.data) != _BLOB_SIZE and byte_text(event.data) is not None:
        return _text_or_bytes(event, "firmware-blob", "outside")
    return _blob_payload(_parse_blob(event), "firmware-blob")


@decoder("firmware", types.EV_EFI_PLATFORM_FIRMWARE_BLOB2, kind="firmware-blob", relation="outside")
def _blob2(event: EventData) -> Payload:
    payload = _blob2_payload(event, "firmware-blob")
    return replace(payload, kind="kernel") if payload.name == PAYLOAD and event.set == "cc" else payload


def _blob2_payload(event: EventData, kind: str) -> Payload:
    cursor = event.cursor()
    description = decode_utf8(cursor.counted(1, "BlobDescription", limit=255)).rstrip("\0")
    value = FirmwareBlob(cursor.u64("BlobBase"), cursor.u64("BlobLength"), description)
    cursor.finish("UEFI_PLATFORM_FIRMWARE_BLOB2")
    return _blob_payload(value, kind)


def _parse_blob(event: EventData) -> FirmwareBlob:
    cursor = event.cursor()
    value = FirmwareBlob(cursor.u64("BlobBase"), cursor.u64("BlobLength"))
    cursor.finish("UEFI_PLATFORM_FIRMWARE_BLOB")
    return value


def _blob_payload(value: FirmwareBlob, kind: str) -> Payload:
    place = f"{value.length} bytes at 0x{value.base:x}"
    summary = f"{value.description}, {place}" if value.description else f"firmware code, {place}"
    fields: dict[str, object] = {"base": value.base, "length": value.length}
    if value.description:
        fields["description"] = value.description
    name = bounded_name(value.description) or f"0x{value.base:x}"
    return Payload("firmware", kind, name, one_line(summary), value, fields, (), "outside")


@decoder("firmware", types.EV_EFI_HANDOFF_TABLES, kind="handoff-tables", relation="outside")
def _handoff(event: EventData) -> Payload:
    return _handoff_payload(HandoffTables(_parse_tables(event, 0)))


@decoder("firmware", types.EV_EFI_HANDOFF_TABLES2, kind="handoff-tables", relation="outside")
def _handoff2(event: EventData) -> Payload:
    description = event.cursor().counted(1, "TableDescription", limit=255)
    tables = _parse_tables(event, 1 + len(description))
    return _handoff_payload(HandoffTables(tables, decode_utf8(description).rstrip("\0")))


def _parse_tables(event: EventData, start: int) -> tuple[tuple[uuid.UUID, int], ...]:
    cursor = event.cursor(event.data[start:], start)
    at = cursor.offset
    count = cursor.u64("NumberOfTables")
    if count > _MAX_TABLES:
        raise ParseError(event.source, at, "NumberOfTables", _MAX_TABLES, count, "more than the limit")
    tables = tuple((cursor.guid("VendorGuid"), cursor.u64("VendorTable")) for _ in range(count))
    cursor.finish("UEFI_HANDOFF_TABLE_POINTERS")
    return tables


def _handoff_payload(value: HandoffTables) -> Payload:
    names = [guid_name(guid) for guid, _ in value.tables[:MAX_ITEMS]]
    fields: dict[str, object] = {"count": len(value.tables), "tables": names}
    if value.description:
        fields["description"] = value.description
    label = value.description or ", ".join(names)
    summary = f"{plural(len(value.tables), 'table')}: {label}" if label else "no tables"
    name = bounded_name(label)
    return Payload("firmware", "handoff-tables", name, one_line(summary), value, fields, (), "outside")


@decoder("firmware", EV_POST_CODE, EV_POST_CODE2, kind="post-code", relation="outside")
def _post_code(event: EventData) -> Payload:
    if event.type == EV_POST_CODE2 and _fits_blob2(event.data):
        return _blob2_payload(event, "post-code")
    return _code(event, "post-code")


def _fits_blob2(data: bytes) -> bool:
    return bool(data) and len(data) == 1 + data[0] + _BLOB_SIZE


@decoder("firmware", types.EV_S_CRTM_CONTENTS, kind="crtm-contents", relation="outside")
def _crtm_contents(event: EventData) -> Payload:
    return _code(event, "crtm-contents")


def _code(event: EventData, kind: str) -> Payload:
    """Decode what may be a text, a UEFI_PLATFORM_FIRMWARE_BLOB or anything else."""
    if len(event.data) == _BLOB_SIZE and any_text(event.data) is None:
        return _blob_payload(_parse_blob(event), kind)
    return _text_or_bytes(event, kind, "outside")


@decoder("firmware", EV_CPU_MICROCODE, kind="microcode", relation="outside")
def _microcode(event: EventData) -> Payload:
    return _text_or_bytes(event, "microcode", "outside")


@decoder("firmware", EV_PLATFORM_CONFIG_FLAGS, kind="platform-config")
def _platform_config(event: EventData) -> Payload:
    return shim_payload(event) or _text_or_bytes(event, "platform-config", "unknown")


@decoder("firmware", EV_TABLE_OF_DEVICES, kind="table-of-devices", relation="outside")
def _table_of_devices(event: EventData) -> Payload:
    # some firmware logs the table's place as it does for EV_EFI_HANDOFF_TABLES
    count = int.from_bytes(event.data[:8], "little")
    if 0 < count <= _MAX_TABLES and len(event.data) == 8 + 24 * count:
        return replace(_handoff_payload(HandoffTables(_parse_tables(event, 0))), kind="table-of-devices")
    return _text_or_bytes(event, "table-of-devices", "outside")


# retired types: a certificate of the firmware's maker, or whatever a vendor put there
@decoder("firmware", EV_PREBOOT_CERT, EV_UNUSED, kind="unknown")
def _retired(event: EventData) -> Payload:
    certificate = read_certificate(event.data)
    if certificate is None:
        return _text_or_bytes(event, "unknown", "unknown")
    name = bounded_name(display_name(certificate))
    fields: dict[str, object] = {"subject": bounded_name(certificate.subject), "sha256": certificate.sha256}
    summary = one_line(f"certificate {name}")
    return Payload("firmware", "unknown", name, summary, certificate, fields, (("data", event.data),))


@decoder("firmware", EV_IPL_PARTITION_DATA, kind="partition-table")
def _ipl_partition(event: EventData) -> Payload:
    return _text_or_bytes(event, "partition-table", "unknown")


# PFP 1.06, section 10.4.1: the digest is of what ran before the firmware (H-CRTM), not of this text
@decoder("firmware", types.EV_EFI_HCRTM_EVENT, kind="crtm-contents", relation="outside")
def _hcrtm(event: EventData) -> Payload:
    return _text_or_bytes(event, "crtm-contents", "outside")


@decoder("firmware", EV_NONHOST_CODE, EV_NONHOST_CONFIG, EV_NONHOST_INFO, kind="nonhost")
def _nonhost(event: EventData) -> Payload:
    if event.type == EV_NONHOST_INFO and event.data.startswith(_GCE_SIGNATURE) and len(event.data) == 32:
        number = event.data[len(_GCE_SIGNATURE)]
        technology = _GCE_TECHNOLOGY.get(number, f"unknown ({number})")
        fields: dict[str, object] = {"text": "GCE NonHostInfo", "confidential_technology": technology}
        summary = f"GCE NonHostInfo: memory encryption {technology}"
        candidates = (("data", event.data),)
        return Payload(
            "firmware", "nonhost", "GCE NonHostInfo", summary, Opaque(event.data), fields, candidates
        )
    engine = engine_payload(event)
    return _text_or_bytes(event, "nonhost", "unknown") if engine is None else engine


@decoder("firmware", types.EV_COMPACT_HASH, kind="unknown")
def _compact_hash(event: EventData) -> Payload:
    text = byte_text(event.data)
    if text is not None and (match := _MACHINE_UUID.fullmatch(text)):
        # Hyper-V and Azure firmware: PCR 6 starts with the digest of this text
        fields: dict[str, object] = {"uuid": match[1].lower(), "text": text}
        candidates = (("text without NUL", text.encode()), ("data", event.data))
        return Payload("firmware", "machine-identity", "", text, text, fields, candidates, "data")
    if event.set == "tpm" and event.register == 11:
        # Windows Boot Manager extends BitLocker's register before it leaves the boot environment
        summary = one_line(f"Windows boot manager: {summary_hex(event.data)}")
        value = Opaque(event.data)
        return Payload("unknown", "windows-boot", "", summary, value, {}, (("data", event.data),))
    return _text_or_bytes(event, "platform-config", "unknown")


def _text_or_bytes(event: EventData, kind: str, relation: str) -> Payload:
    candidates = (("data", event.data),)
    text = any_text(event.data)
    if text is None:
        value = Opaque(event.data)
        return Payload("firmware", kind, "", summary_hex(event.data), value, {}, candidates, relation)
    name = bounded_name(text)
    fields: dict[str, object] = {"text": name}
    behind = _behind(event.data, text)
    if behind:
        # such as the value of a processor's register behind its name
        fields["value"] = short_hex(behind)
    shown = one_line(f"{text} ({short_hex(behind, 32)})" if behind else text)
    return Payload("firmware", kind, name, shown, text, fields, candidates, relation)


def _behind(data: bytes, text: str) -> bytes:
    """Return the bytes behind a text and its terminator; empty where they are padding."""
    for size, end in ((2 * len(text), b"\0\0"), (len(text.encode()), b"\0")):
        if data[size : size + len(end)] == end and data[: len(end)] != end:
            rest = data[size + len(end) :]
            return rest if any(rest) else b""
    return b""
