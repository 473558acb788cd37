"""Events about Intel's management engine (CSME): what it measured of itself, its state, its remote access.

Source: Intel, reference firmware (``CSME_MEASUREMENT_EVENT``, ``CSME_INFO_MEASUREMENT`` and the AMT
configuration event of ``DxeMeExtMeasurement``). The digest of the first is of the engine's extend registers,
which the log does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.wording import MAX_ITEMS, bounded_name, one_line, plural
from cvmlab.uefi.text import decode_utf8, short_hex, until_nul

if TYPE_CHECKING:
    from cvmlab.eventlog.producers.registry import EventData

MEASUREMENTS: Final = b"IntelCSxEEvent01".ljust(20, b"\0")
STATE: Final = b"IntelCSxEInfoEvent".ljust(20, b"\0")
REMOTE_ACCESS: Final = b"IntelCSMEAmtConfig".ljust(20, b"\0")
_SIGNATURE_SIZE: Final = 20
_MAX_EVENTS: Final = 512
_HASHES: Final = {0: "sha1", 2: "sha256", 4: "sha384"}
_FORMS: Final = {0: "initial manifest", 1: "manifest", 2: "manifest version", 3: "configuration"}
_STATE_BITS: Final = (
    "hardware_root_of_trust",
    "invalid_state",
    "untrusted_measurement",
    "invalid_measurement",
    "log_unavailable",
    "field_debug_invalid_measurement",
)
_AMT_BITS: Final = {
    0: "enabled",
    1: "password_set",
    2: "provisioned",
    3: "enterprise_mode",
    4: "zero_touch",
    8: "kvm",
    9: "serial_over_lan",
    10: "usb_redirection",
}


@dataclass(frozen=True, slots=True)
class EngineMeasurement:
    """One thing that the engine measured: its form, the number of what it is, and its data."""

    form: int
    entity: int
    data: bytes


def engine_payload(event: EventData) -> Payload | None:
    """Return the payload of an event about the management engine, None for any other.

    Raises:
        ParseError: It is one and is cut short.
    """
    signature = event.data[:_SIGNATURE_SIZE]
    if signature == MEASUREMENTS:
        return _measurements(event)
    if signature == STATE:
        return _state(event)
    return _remote_access(event) if signature == REMOTE_ACCESS else None


def _payload(event: EventData, name: str, summary: str, value: object, fields: dict[str, object]) -> Payload:
    candidates = (("data", event.data),)
    return Payload("firmware", "nonhost", name, one_line(summary), value, fields, candidates)


def _measurements(event: EventData) -> Payload:
    cursor = event.cursor()
    cursor.take(_SIGNATURE_SIZE, "Signature")
    number = cursor.u32("ERHashAlgorithm")
    found: list[EngineMeasurement] = []
    while cursor.remaining:
        if len(found) == _MAX_EVENTS:
            raise cursor.error("Events", f"more than {_MAX_EVENTS} measurements")
        form, entity = cursor.u8("EventDataType"), cursor.u8("MeasuredEntityID")
        cursor.u16("Reserved")
        found.append(EngineMeasurement(form, entity, cursor.counted(4, "EventData")))
    fields: dict[str, object] = {
        "hash": _HASHES.get(number, str(number)),
        "count": len(found),
        "measurements": [
            {"form": _FORMS.get(m.form, str(m.form)), "entity": m.entity, "data": short_hex(m.data)}
            for m in found[:MAX_ITEMS]
        ],
    }
    summary = f"Intel management engine: {plural(len(found), 'measurement')} of itself"
    return _payload(event, "IntelCSxEEvent01", summary, tuple(found), fields)


def _state(event: EventData) -> Payload:
    cursor = event.cursor()
    cursor.take(_SIGNATURE_SIZE, "Signature")
    version, vendor, device = cursor.u32("Version"), cursor.u16("VendorID"), cursor.u16("DeviceID")
    flags = cursor.u32("Flags")
    cursor.finish("CSME_INFO_MEASUREMENT")
    bits = {name: bool(flags >> at & 1) for at, name in enumerate(_STATE_BITS)}
    fields: dict[str, object] = {"version": version, "device": f"{vendor:04x}:{device:04x}", **bits}
    shown = ", ".join(name.replace("_", " ") for name, on in bits.items() if on) or "no flag set"
    summary = f"Intel management engine {vendor:04x}:{device:04x}: {shown}"
    return _payload(event, "IntelCSxEInfoEvent", summary, flags, fields)


def _remote_access(event: EventData) -> Payload:
    cursor = event.cursor()
    cursor.take(_SIGNATURE_SIZE, "Signature")
    body = cursor.sub(cursor.u32("DataLength"), "Data")
    flags = body.u16("AmtStatus")
    bits = {name: bool(flags >> at & 1) for at, name in _AMT_BITS.items()}
    fields: dict[str, object] = dict(bits)
    if body.remaining >= 256:
        suffix = until_nul(decode_utf8(body.take(256, "SecurePkiSuffix")))
        fields["domain_suffix"] = bounded_name(suffix)
    fields["rest"] = short_hex(body.rest())
    shown = ", ".join(name.replace("_", " ") for name, on in bits.items() if on) or "off"
    return _payload(event, "IntelCSMEAmtConfig", f"Intel remote access (AMT): {shown}", flags, fields)
