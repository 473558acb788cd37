"""Events of firmware about itself: log headers, versions, separators, actions.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 9.4 and 10.4.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from cvmlab.errors import ParseError
from cvmlab.eventlog import types
from cvmlab.eventlog.model import Opaque, Payload
from cvmlab.eventlog.producers.manifests import (
    SIGNATURE_SIZE,
    hcrtm_component,
    nv_index_dynamic,
    platform_id,
)
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.spdm import nv_index_instance
from cvmlab.eventlog.producers.wording import any_text, bounded_name, byte_text, one_line, plural, summary_hex
from cvmlab.uefi.text import until_nul

_MAX_ALGORITHMS: Final = 64


# PFP 1.06, section 10.4.5.1 (TCG_EfiSpecIDEvent); 1.2 logs: TCG EFI Platform Specification 1.22, section 7.4
@dataclass(frozen=True, slots=True)
class SpecIdEvent:
    """The header of a log.

    Attributes:
        signature: ``Spec ID Event00`` (BIOS), ``02`` (EFI, SHA-1 only) or ``03`` (crypto agile).
        platform_class: 0 client, 1 server.
        version: Specification version as (major, minor, errata).
        uintn_size: 1 for 32-bit, 2 for 64-bit firmware; 0 (reserved) in ``Event00``.
        algorithms: (TPM_ALG_ID, digest size in bytes) pairs, empty in 1.2 logs.
        vendor_info: Vendor's bytes.
    """

    signature: str
    platform_class: int
    version: tuple[int, int, int]
    uintn_size: int
    algorithms: tuple[tuple[int, int], ...]
    vendor_info: bytes


# PFP 1.06, section 10.4.5.3 (TCG_EfiStartupLocalityEvent)
@dataclass(frozen=True, slots=True)
class StartupLocality:
    """The locality from which the TPM was started: the initial value of PCR 0 depends on it."""

    locality: int


@decoder("firmware", types.EV_NO_ACTION, kind="no-action")
def _no_action(event: EventData) -> Payload:
    signature = until_nul(event.data[:SIGNATURE_SIZE].decode("latin-1"))
    if signature.startswith("Spec ID Event"):
        return _spec_id(event, signature)
    if signature == "StartupLocality":
        return _startup_locality(event)
    if signature.startswith("SP800-155 Event"):
        return platform_id(event.cursor(), signature)
    if signature == "H-CRTM CompMeas":
        return hcrtm_component(event.cursor())
    if signature == "NvIndexInstance":
        return nv_index_instance(event)
    if signature.startswith("NvIndexDynamic"):
        return nv_index_dynamic(event.cursor())
    text = byte_text(event.data[:SIGNATURE_SIZE]) or ""
    summary = text or summary_hex(event.data)
    return Payload("firmware", "no-action", bounded_name(text), one_line(summary), Opaque(event.data))


def _spec_id(event: EventData, signature: str) -> Payload:
    value = _parse_spec_id(event, signature)
    major, minor, errata = value.version
    fields: dict[str, object] = {
        "signature": signature,
        "specification": f"{major}.{minor}.{errata}",
        "platform_class": value.platform_class,
        "algorithms": [{"id": number, "digest_size": size} for number, size in value.algorithms],
        "vendor_info": value.vendor_info.hex(),
    }
    banks = plural(len(value.algorithms), "bank") if value.algorithms else "SHA-1 only"
    summary = f"{signature}, version {major}.{minor} errata {errata}, {banks}"
    return Payload("firmware", "spec-id", signature, one_line(summary), value, fields)


def _parse_spec_id(event: EventData, signature: str) -> SpecIdEvent:
    cursor = event.cursor()
    cursor.take(SIGNATURE_SIZE, "signature")
    platform_class = cursor.u32("platformClass")
    minor, major, errata = (
        cursor.u8("specVersionMinor"),
        cursor.u8("specVersionMajor"),
        cursor.u8("specErrata"),
    )
    uintn = cursor.u8("uintnSize")
    algorithms: tuple[tuple[int, int], ...] = ()
    if signature == "Spec ID Event03":
        at = cursor.offset
        count = cursor.u32("numberOfAlgorithms")
        if count > _MAX_ALGORITHMS:
            reason = "more than the limit"
            raise ParseError(event.source, at, "numberOfAlgorithms", _MAX_ALGORITHMS, count, reason)
        algorithms = tuple((cursor.u16("algorithmId"), cursor.u16("digestSize")) for _ in range(count))
    vendor_info = cursor.counted(1, "vendorInfo", limit=255)
    return SpecIdEvent(signature, platform_class, (major, minor, errata), uintn, algorithms, vendor_info)


def _startup_locality(event: EventData) -> Payload:
    cursor = event.cursor()
    cursor.take(SIGNATURE_SIZE, "Signature")
    locality = cursor.u8("StartupLocality")
    cursor.finish("StartupLocality")
    summary = f"TPM started from locality {locality}"
    fields: dict[str, object] = {"locality": locality}
    return Payload("firmware", "startup-locality", "", summary, StartupLocality(locality), fields)


# PFP 1.06, section 10.4.1: 0 and FFFFFFFF are both normal; after an error the digest is of 00000001
@decoder("firmware", types.EV_SEPARATOR, kind="separator", relation="data")
def _separator(event: EventData) -> Payload:
    data = event.data
    candidates = [("data", data)]
    fields: dict[str, object] = {"value": data[:32].hex()}
    if data in (bytes(4), b"\xff\xff\xff\xff"):
        return Payload(
            "firmware", "separator", "", f"separator {data.hex()}", data, fields, tuple(candidates), "data"
        )
    text = byte_text(data)
    if text is not None:
        fields["text"] = bounded_name(text)
    if data == b"\x01\x00\x00\x00":
        summary = "separator 01000000: the firmware reports an error"
    else:
        candidates.append(("error value 00000001", b"\x01\x00\x00\x00"))
        summary = (
            f"separator with the text {text!r}" if text is not None else f"separator of {summary_hex(data)}"
        )
    if text == "Skiboot Boot":
        # skiboot (POWER) extends the digest of FFFFFFFF and logs this text
        candidates.insert(1, ("FFFFFFFF, as skiboot measures", b"\xff\xff\xff\xff"))
    return Payload("firmware", "separator", "", one_line(summary), data, fields, tuple(candidates), "data")


@decoder("firmware", types.EV_EFI_ACTION, kind="efi-action", relation="data")
def _efi_action(event: EventData) -> Payload:
    return _action(event, "efi-action", "data")


# Vendors hash their own things here in one of three logs, so a digest of other bytes is no contradiction.
@decoder("firmware", types.EV_ACTION, kind="action")
def _bios_action(event: EventData) -> Payload:
    return _action(event, "action", "unknown")


# PFP 1.06, section 10.4.1: the text is BOOT ATTEMPTS OMITTED
@decoder("firmware", 0x00000012, kind="action")
def _omit_boot_devices(event: EventData) -> Payload:
    return _action(event, "action", "unknown")


def _action(event: EventData, kind: str, relation: str) -> Payload:
    text = byte_text(event.data)
    candidates = (("data", event.data),)
    if text is None:
        return Payload(
            "firmware", kind, "", summary_hex(event.data), Opaque(event.data), {}, candidates, relation
        )
    name = bounded_name(text)
    return Payload("firmware", kind, name, one_line(text), text, {"text": name}, candidates, relation)


# PFP 1.06, section 10.4.1: a NUL-terminated string or a GUID; firmware in the field uses both alphabets
@decoder("firmware", types.EV_S_CRTM_VERSION, kind="crtm-version", relation="data")
def _crtm_version(event: EventData) -> Payload:
    data = event.data
    candidates = (("data", data),)
    version: str | None
    if not any(data):
        version, summary = "", "firmware version is empty"
    elif (version := any_text(data)) is not None:
        summary = f"firmware version {version}"
    elif len(data) == 16:
        version = str(uuid.UUID(bytes_le=data))
        summary = f"firmware version {version}"
    else:
        summary = f"firmware version of {summary_hex(data)}"
        return Payload(
            "firmware", "crtm-version", "", one_line(summary), Opaque(data), {}, candidates, "data"
        )
    fields: dict[str, object] = {"version": bounded_name(version)}
    return Payload("firmware", "crtm-version", "", one_line(summary), version, fields, candidates, "data")
