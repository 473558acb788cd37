"""Events about devices that measure themselves (SPDM): firmware and configuration (PCR 2, 3), keys (PCR 7).

Source: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4.3, 3.3.4.4 and 10.4.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog import types
from cvmlab.eventlog.model import Opaque, Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.secureboot import authority_payload, certificate_statements, signature_payload
from cvmlab.eventlog.producers.wording import MAX_ITEMS, bounded_name, one_line, plural
from cvmlab.uefi.spdm import DeviceSecurityEvent, PciDevice, parse_device_security
from cvmlab.uefi.text import short_hex
from cvmlab.uefi.variables import parse_variable

if TYPE_CHECKING:
    from cvmlab.binary import Cursor

_NV_HEADER: Final = 24


@decoder(
    "firmware",
    types.EV_EFI_SPDM_FIRMWARE_BLOB,
    types.EV_EFI_SPDM_FIRMWARE_CONFIG,
    kind="device-measurement",
)
def _measurement(event: EventData) -> Payload:
    payload = _device_payload(event.cursor(), "device-measurement")
    return replace(payload, candidates=(("data", event.data),))


def nv_index_instance(event: EventData) -> Payload:
    """Decode data of this device that went into an NV index (NV_INDEX_INSTANCE_EVENT_LOG_DATA).

    Raises:
        ParseError: It is cut short.
    """
    cursor = event.cursor()
    cursor.take(_NV_HEADER, "NV_INDEX_INSTANCE_EVENT_LOG_DATA")
    payload = _device_payload(cursor, "no-action")
    return replace(payload, summary=one_line(f"in an NV index: {payload.summary}"))


def _device_payload(cursor: Cursor, kind: str) -> Payload:
    value = parse_device_security(cursor)
    where = value.path.text if value.path is not None else ""
    name = value.device.name if value.device is not None else where
    fields: dict[str, object] = {
        "version": value.version,
        "hash": value.hash_name,
        "measurements": [
            {"index": m.index, "type": m.type, "raw": m.raw, "value": short_hex(m.value)}
            for m in value.measurements[:MAX_ITEMS]
        ],
    }
    if value.auth_state:
        fields["auth_state"] = value.auth_state
        fields["uid"] = f"0x{value.uid:016x}"
        fields["device_path"] = bounded_name(where)
    if isinstance(value.device, PciDevice):
        fields |= {
            "device": value.device.name,
            "revision": value.device.revision,
            "class_code": f"0x{value.device.class_code:06x}",
            "subsystem": f"{value.device.subsystem_vendor:04x}:{value.device.subsystem:04x}",
        }
    elif value.device is not None:
        fields["device"] = value.device.name
    if value.chain is not None:
        fields["slot"] = value.chain.slot
        fields["certificates"] = [certificate_statements(info) for info in value.chain.certificates]
    summary = one_line(f"{name or 'device'}{_state(value)}: {_contents(value)}")
    return Payload("firmware", kind, bounded_name(name), summary, value, fields)


def _state(value: DeviceSecurityEvent) -> str:
    return f" ({value.auth_state})" if value.auth_state and value.auth_state != "authenticated" else ""


def _contents(value: DeviceSecurityEvent) -> str:
    if value.chain is not None:
        names = [info.common_name or info.sha256[:12] for info in value.chain.certificates]
        return f"{plural(len(names), 'certificate')} ({', '.join(names)})" if names else "no certificate"
    found = [
        f"{m.type} {'' if m.raw else value.hash_name + ' '}{short_hex(m.value, 32)}".strip()
        for m in value.measurements
    ]
    return ", ".join(found) or "nothing measured"


@decoder("firmware", types.EV_EFI_SPDM_DEVICE_POLICY, kind="device-policy", relation="data")
def _policy(event: EventData) -> Payload:
    return signature_payload(event, parse_variable(event.cursor()), "device-policy")


@decoder("firmware", types.EV_EFI_SPDM_DEVICE_AUTHORITY, kind="device-authority", relation="data")
def _authority(event: EventData) -> Payload:
    variable = parse_variable(event.cursor())
    if not variable.data:
        # a device that no key vouched for: the variable is named and empty
        fields: dict[str, object] = {"variable": bounded_name(variable.name), "guid": str(variable.guid)}
        candidates = (("data", event.data),)
        summary = one_line(f"no key of {variable.name} vouched for a device")
        value = Opaque(event.data)
        name = bounded_name(variable.name)
        return Payload("firmware", "device-authority", name, summary, value, fields, candidates, "data")
    return replace(authority_payload(event, variable, "firmware"), kind="device-authority")
