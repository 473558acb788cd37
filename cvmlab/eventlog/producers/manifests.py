"""EV_NO_ACTION events that describe the platform: reference manifests, H-CRTM parts, NV index extends.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10.4.5. Such events extend no register, so all
of this is a claim.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.wording import bounded_name, one_line
from cvmlab.uefi.devicepath import parse_device_path
from cvmlab.uefi.guids import guid_name
from cvmlab.uefi.text import decode_utf8, decode_utf16, short_hex, until_nul

SIGNATURE_SIZE: Final = 16
_MAX_LOCATOR: Final = 1 << 20
_STRINGS: Final = (
    "platform_manufacturer",
    "platform_model",
    "platform_version",
    "firmware_manufacturer",
)
_LOCATORS: Final = {0: "raw", 1: "uri", 2: "device-path", 3: "variable"}


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a manifest or certificate is: in the event itself, or behind a URI, path or UEFI variable.

    Attributes:
        type: ``raw``, ``uri``, ``device-path``, ``variable``, or the number.
        data: Its bytes.
        text: Its meaning as text; empty where it is raw or cannot be read.
    """

    type: str
    data: bytes
    text: str


# PFP 1.06, section 10.4.5.2 (TCG_Sp800-155-PlatformId_Event, ..._Event2, ..._Event3)
@dataclass(frozen=True, slots=True)
class PlatformIdEvent:
    """Reference to the platform's reference integrity manifest (NIST SP 800-155).

    Attributes:
        signature: ``SP800-155 Event``, or its second or third form.
        vendor_id: IANA enterprise number of the platform's maker.
        manifest_guid: ReferenceManifestGuid.
        texts: Names and versions by field, from the second form on.
        firmware_vendor_id: IANA enterprise number of the firmware's maker; -1 in the first form.
        manifest: Where the manifest is, in the third form.
        certificate: Where the platform certificate is, in the third form.
        rest: Bytes behind it.
    """

    signature: str
    vendor_id: int
    manifest_guid: uuid.UUID
    texts: dict[str, str]
    firmware_vendor_id: int
    manifest: Locator | None
    certificate: Locator | None
    rest: bytes


# PFP 1.06, section 10.4.5.4 (TCG_HCRTMComponentEvent)
@dataclass(frozen=True, slots=True)
class HcrtmComponent:
    """One part of what ran before the firmware (H-CRTM)."""

    description: str
    format: int
    measurement: bytes


# PFP 1.06, section 10.4.5.5 (NV_INDEX_DYNAMIC_EVENT_LOG_DATA)
@dataclass(frozen=True, slots=True)
class NvIndexDynamic:
    """Data of one boot, such as a nonce, that was extended into an NV index instead of a register."""

    version: int
    uid: int
    description: str
    data: bytes


def platform_id(cursor: Cursor, signature: str) -> Payload:
    """Decode a reference to a manifest, in any of its three forms.

    Raises:
        ParseError: It is cut short, or a locator is longer than 1 MiB.
    """
    cursor.take(SIGNATURE_SIZE, "Signature")
    vendor = cursor.u32("VendorId")
    guid = cursor.guid("ReferenceManifestGuid")
    texts: dict[str, str] = {}
    firmware_vendor = -1
    manifest = certificate = None
    if signature != "SP800-155 Event":
        texts = {field: _text(cursor, field) for field in _STRINGS}
        firmware_vendor = cursor.u32("FirmwareManufacturerId")
        texts["firmware_version"] = _text(cursor, "firmware_version")
        if signature == "SP800-155 Event3":
            manifest = _locator(cursor, "RimLocator")
            certificate = _locator(cursor, "PlatformCertLocator")
    value = PlatformIdEvent(
        signature, vendor, guid, texts, firmware_vendor, manifest, certificate, cursor.rest()
    )
    fields: dict[str, object] = {"vendor_id": vendor, "manifest_guid": str(guid), **texts}
    if firmware_vendor >= 0:
        fields["firmware_vendor_id"] = firmware_vendor
    for name, locator in (("manifest", manifest), ("certificate", certificate)):
        if locator is not None:
            where = bounded_name(locator.text) or short_hex(locator.data)
            fields[name] = {"type": locator.type, "where": where}
    summary = f"{signature}: reference manifest {guid}"
    made = " ".join(texts[key] for key in ("firmware_manufacturer", "firmware_version") if texts.get(key))
    summary += f" of {made}" if made else ""
    summary += f", at {manifest.text}" if manifest is not None and manifest.text else ""
    return Payload("firmware", "no-action", bounded_name(signature), one_line(summary), value, fields)


def _text(cursor: Cursor, field: str) -> str:
    return bounded_name(until_nul(decode_utf8(cursor.counted(1, field, limit=255))))


def _locator(cursor: Cursor, field: str) -> Locator:
    number = cursor.u32(f"{field}Type")
    data = cursor.counted(4, field, limit=_MAX_LOCATOR)
    name = _LOCATORS.get(number, str(number))
    text = ""
    if name == "uri":
        text = until_nul(decode_utf8(data))
    elif name == "variable" and len(data) >= SIGNATURE_SIZE:
        guid = uuid.UUID(bytes_le=data[:SIGNATURE_SIZE])
        text = f"UEFI variable {until_nul(decode_utf16(data[SIGNATURE_SIZE:]))} of {guid_name(guid)}"
    elif name == "device-path":
        text = _path(cursor, data)
    return Locator(name, data, text)


def _path(cursor: Cursor, data: bytes) -> str:
    try:
        return parse_device_path(Cursor(data, source=cursor.source, base=cursor.offset - len(data))).text
    except ParseError:
        return ""


def hcrtm_component(cursor: Cursor) -> Payload:
    """Decode the measurement of one part of the H-CRTM.

    Raises:
        ParseError: It is cut short.
    """
    cursor.take(SIGNATURE_SIZE, "Signature")
    description = decode_utf8(cursor.counted(1, "ComponentDescription", limit=255)).rstrip("\0")
    kind = cursor.u8("MeasurementFormatType")
    value = HcrtmComponent(description, kind, cursor.counted(2, "ComponentMeasurement", limit=1 << 16))
    cursor.finish("TCG_HCRTMComponentEvent")
    fields: dict[str, object] = {
        "description": description,
        "format": kind,
        "measurement": short_hex(value.measurement),
    }
    summary = one_line(f"H-CRTM part {description}: {short_hex(value.measurement, 64)}")
    return Payload("firmware", "no-action", bounded_name(description), summary, value, fields)


def nv_index_dynamic(cursor: Cursor) -> Payload:
    """Decode data of one boot that went into an NV index.

    Raises:
        ParseError: It is cut short.
    """
    cursor.take(SIGNATURE_SIZE, "Signature")
    version = cursor.u16("Version")
    cursor.take(6, "Reserved")
    uid = cursor.u64("UID")
    description = until_nul(decode_utf8(cursor.counted(2, "Description", limit=1 << 12)))
    value = NvIndexDynamic(version, uid, description, cursor.counted(2, "Data", limit=1 << 16))
    fields: dict[str, object] = {
        "uid": f"0x{uid:016x}",
        "description": bounded_name(description),
        "data": short_hex(value.data),
    }
    summary = one_line(f"{description or 'data of this boot'} in an NV index: {short_hex(value.data, 64)}")
    return Payload("firmware", "no-action", bounded_name(description), summary, value, fields)
