"""Events of devices, dynamic launches and management engines.

Bytes are laid out by hand after PFP 1.06, DSP0274 1.2 and edk2's ``UefiTcgPlatform.h``, by tpm2-pytss where
it has the structure, and come from real logs where there are some.
"""

from __future__ import annotations

import struct
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.model import Invalid
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EVENT_TYPES, event_type_name

if TYPE_CHECKING:
    from pathlib import Path

BLOB, CONFIG, POLICY, AUTHORITY = 0x800000E1, 0x800000E2, 0x800000E3, 0x800000E4
PCI = struct.pack("<HHHHB3sHH", 0, 16, 0x8086, 0x1592, 2, b"\0\0\x02", 0x8086, 0x0001)
# PciRoot(0x0)/Pci(0x2,0x0), as UEFI 2.10, sections 10.3.2.1 and 10.3.3 lay it out
PATH = bytes.fromhex("02010c00d041030a00000000" + "010106000002" + "7fff0400")
DEVICE_DB = uuid.UUID("b9c2b4f4-bf5f-462d-8adf-c5c70ac35dad")


def block(index: int, kind: int, value: bytes) -> bytes:
    return struct.pack("<BBHBH", index, 1, 3 + len(value), kind, len(value)) + value


def version1(measurement: bytes, device_type: int, context: bytes) -> bytes:
    header = b"SPDM Device Sec\0" + struct.pack(
        "<HHII", 1, 28 + len(measurement) + len(context), 2, device_type
    )
    return header + measurement + context


def version2(sub_type: int, sub: bytes, context: bytes, *, auth: int = 0, device_type: int = 1) -> bytes:
    tail = struct.pack("<IIIQQ", device_type, sub_type, len(sub), 0x1122334455667788, len(PATH))
    body = tail + PATH + sub + context
    return b"SPDM Device Sec2" + struct.pack("<HBBI", 2, auth, 0, len(body)) + body


def measurements(*blocks: bytes, algorithm: int = 2) -> bytes:
    return struct.pack("<HBBI", 0x12, len(blocks), 0, algorithm) + b"".join(blocks)


# --- SPDM --------------------------------------------------------------------------------------------


def test_device_measurement_of_version_1_names_the_pci_device() -> None:
    data = version1(block(1, 1, b"\xaa" * 32), 1, PCI)
    payload = decode(BLOB, 2, data)
    assert (payload.kind, payload.name) == ("device-measurement", "PCI 8086:1592")
    assert payload.fields["hash"] == "sha256"
    assert payload.fields["measurements"] == [
        {"index": 1, "type": "mutable-firmware", "raw": False, "value": "aa" * 32}
    ]
    assert payload.fields["subsystem"] == "8086:0001"
    assert payload.fields["class_code"] == "0x020000"


def test_device_measurement_of_version_2_has_path_state_and_several_blocks() -> None:
    sub = measurements(block(1, 0, b"\x01" * 32), block(2, 0x83, b"config"))
    payload = decode(CONFIG, 3, version2(0, sub, PCI, auth=1))
    assert payload.fields["auth_state"] == "not-authenticated"
    assert payload.fields["device_path"] == "PciRoot(0x0)/Pci(0x2,0x0)"
    assert payload.fields["uid"] == "0x1122334455667788"
    kinds = [(m["type"], m["raw"]) for m in payload.fields["measurements"]]  # type: ignore[attr-defined]
    assert kinds == [("immutable-rom", False), ("firmware-configuration", True)]
    assert "not-authenticated" in payload.summary


def test_usb_device_is_named_by_its_first_descriptor() -> None:
    descriptor = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0320, 0, 0, 0, 9, 0x046D, 0xC52B, 0x1200, 1, 2, 0, 1)
    context = struct.pack("<HH", 0, 4 + len(descriptor)) + descriptor
    payload = decode(BLOB, 2, version2(0, measurements(block(1, 1, bytes(32))), context, device_type=2))
    assert payload.name == "USB 046d:c52b"


def test_device_that_failed_to_prove_itself_has_no_measurement() -> None:
    """As edk2 logs it: no sub-header, the context at once."""
    payload = decode(BLOB, 2, version2(0, b"", PCI, auth=4))
    assert payload.fields["auth_state"] == "signature-invalid"
    assert payload.fields["measurements"] == []
    assert payload.name == "PCI 8086:1592"
    assert "nothing measured" in payload.summary


def test_certificates_of_a_device_in_an_nv_index(tmp_path: Path) -> None:
    der = tmp_path / "device.der"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "9", "-subj", "/CN=Example Device", "-keyout", tmp_path / "key", "-outform", "DER",
         "-out", der],
        check=True, capture_output=True,
    )  # fmt: skip
    chain = der.read_bytes() * 2
    sub = struct.pack("<HBBI", 0x12, 3, 0, 1) + struct.pack("<HH", 4 + 32 + len(chain), 0) + bytes(32) + chain
    data = b"NvIndexInstance\0" + struct.pack("<H6x", 1) + version2(1, sub, PCI)
    payload = decode(3, 0x01C40200, data)
    assert payload.kind == "no-action"
    assert [one["common_name"] for one in payload.fields["certificates"]] == ["Example Device"] * 2  # type: ignore[attr-defined]
    assert payload.fields["slot"] == 3
    assert payload.candidates == ()


def test_nonce_in_an_nv_index() -> None:
    text = b"SPDM CHALLENGE\0"
    data = (
        b"NvIndexDynamic \0"
        + struct.pack("<H6xQH", 1, 7, len(text))
        + text
        + struct.pack("<H", 4)
        + b"\1\2\3\4"
    )
    payload = decode(3, 0x01C40201, data)
    assert payload.fields == {
        "uid": "0x0000000000000007", "description": "SPDM CHALLENGE", "data": "01020304",
    }  # fmt: skip


def test_keys_that_may_vouch_for_devices_and_the_one_that_did() -> None:
    x509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
    lists = x509 + struct.pack("<III", 28 + 16 + 5, 0, 16 + 5) + bytes(16) + b"hello"
    name = "devdb".encode("utf-16-le")
    head = DEVICE_DB.bytes_le + struct.pack("<QQ", 5, len(lists)) + name
    payload = decode(POLICY, 7, head + lists)
    assert (payload.kind, payload.name, payload.relation) == ("device-policy", "devdb", "data")
    assert payload.fields["types"] == {"X509": 1}
    entry = bytes(16) + b"\x07" * 32
    data = DEVICE_DB.bytes_le + struct.pack("<QQ", 5, len(entry)) + name + entry
    assert decode(AUTHORITY, 7, data).kind == "device-authority"
    empty = DEVICE_DB.bytes_le + struct.pack("<QQ", 5, 0) + name
    assert "no key of devdb vouched" in decode(AUTHORITY, 7, empty).summary


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"SPDM Device Sec3" + bytes(64), "Signature", id="signature_unknown"),
        pytest.param(version1(block(1, 1, bytes(32)), 1, PCI)[:30], "Measurement", id="block_cut"),
        pytest.param(
            version1(struct.pack("<BBHBH", 1, 1, 5, 1, 32) + bytes(2), 1, b""),
            "DMTFSpecMeasurementValue",
            id="value_longer_than_its_block",
        ),
        pytest.param(
            version1(struct.pack("<BBHBH", 1, 1, 5, 1, 1) + bytes(2), 1, b""),
            "Measurement",
            id="value_shorter_than_its_block",
        ),
        pytest.param(
            version1(block(1, 1, bytes(32)), 1, struct.pack("<HH", 0, 3)),
            "Length",
            id="context_length_too_small",
        ),
        pytest.param(
            version1(block(1, 1, bytes(32)), 1, struct.pack("<HH", 0, 0xFFFF)),
            "DeviceContext",
            id="context_past_end",
        ),
        pytest.param(
            b"SPDM Device Sec2" + struct.pack("<HBBIIIIQ", 2, 0, 0, 0, 1, 0, 0xFFFFFFFF, 0),
            "SubHeaderLength",
            id="sub_header_maximum",
        ),
        pytest.param(
            b"SPDM Device Sec2" + struct.pack("<HBBIIIIQQ", 2, 0, 0, 0, 1, 0, 0, 0, 1 << 63),
            "DevicePathLength",
            id="path_maximum",
        ),
        pytest.param(
            version2(0, struct.pack("<HBBI", 0x12, 255, 0, 2), PCI), "Index", id="blocks_past_sub_header"
        ),
        pytest.param(
            version2(1, struct.pack("<HBBIHH", 0x12, 0, 0, 2, 0, 0), PCI), "RootHash", id="root_hash_cut"
        ),
    ],
)
def test_broken_device_events(data: bytes, field: str) -> None:
    payload = decode(BLOB, 2, data, base=5000)
    assert isinstance(payload.value, Invalid)
    assert payload.value.error.field.startswith(field)
    assert 5000 <= payload.value.error.offset <= 5000 + len(data)
    assert payload.kind == "device-measurement"


def test_device_keys_have_their_place_in_register_7(sample_data: Path) -> None:
    """PFP 1.06, section 3.3.4.8 lists them; a log that has one is not malformed for it."""
    from cvmlab.eventlog.order import _PCR7_TYPES

    assert {POLICY, AUTHORITY} <= _PCR7_TYPES


# --- reference manifests -----------------------------------------------------------------------------


def platform_id(form: str, tail: bytes) -> bytes:
    guid = uuid.UUID("016b3e8a-061f-488f-a169-091994700e84").bytes_le
    return form.encode().ljust(16, b"\0") + struct.pack("<I", 11129) + guid + tail


STRINGS = b"\x05Acme\0\x06Model\0\x02" + b"1\0\x05Firm\0" + struct.pack("<I", 343) + b"\x042.7\0"


def test_reference_manifest_of_each_form() -> None:
    first = decode(3, 0, platform_id("SP800-155 Event", b""))
    assert first.fields == {"vendor_id": 11129, "manifest_guid": "016b3e8a-061f-488f-a169-091994700e84"}
    second = decode(3, 0, platform_id("SP800-155 Event2", STRINGS))
    assert second.fields["platform_model"] == "Model"
    assert second.fields["firmware_version"] == "2.7"
    assert second.fields["firmware_vendor_id"] == 343
    uri = b"https://example.org/rim"
    variable = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le + "Rim\0".encode("utf-16-le")
    tail = struct.pack("<II", 1, len(uri)) + uri + struct.pack("<II", 3, len(variable)) + variable
    third = decode(3, 0, platform_id("SP800-155 Event3", STRINGS + tail))
    assert third.fields["manifest"] == {"type": "uri", "where": "https://example.org/rim"}
    assert third.fields["certificate"] == {
        "type": "variable", "where": "UEFI variable Rim of EFI_GLOBAL_VARIABLE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(platform_id("SP800-155 Event2", STRINGS[:8]), "platform_model", id="string_past_end"),
        pytest.param(platform_id("SP800-155 Event3", STRINGS), "RimLocatorType", id="locator_missing"),
        pytest.param(
            platform_id("SP800-155 Event3", STRINGS + struct.pack("<II", 1, 0xFFFFFFFF)),
            "RimLocator",
            id="locator_maximum",
        ),
        pytest.param(b"H-CRTM CompMeas\0\x05ab", "ComponentDescription", id="component_cut"),
        pytest.param(
            b"H-CRTM CompMeas\0\x02ab\0\x01\x00x" + b"left",
            "TCG_HCRTMComponentEvent",
            id="component_left_over",
        ),
        pytest.param(b"NvIndexDynamic \0" + bytes(4), "Reserved", id="nv_dynamic_cut"),
        pytest.param(b"NvIndexInstance\0" + bytes(8) + b"x" * 16, "Signature", id="nv_instance_of_nothing"),
    ],
)
def test_broken_platform_events(data: bytes, field: str) -> None:
    payload = decode(3, 0, data, base=100)
    assert isinstance(payload.value, Invalid)
    assert payload.value.error.field.startswith(field)


def test_part_of_the_h_crtm() -> None:
    payload = decode(3, 0, b"H-CRTM CompMeas\0\x05ACM\0\0\x01\x04\x00abcd")
    assert payload.fields == {"description": "ACM", "format": 1, "measurement": b"abcd".hex()}


def test_reference_manifests_of_real_machines(corpus: Path) -> None:
    """The strings as they stand in the bytes, and the locator that Google documents: a UEFI variable."""
    seen = 0
    for name in ("CCEL_data_grub_gke", "confidential-gke-debug-251000_eventlog.bin"):
        for path in (corpus / "eventlogs").rglob(f"{name}*"):
            for event in read_event_log(path).events:
                if event.payload.name == "SP800-155 Event3":
                    assert event.payload.fields["firmware_manufacturer"] == "Google, Inc."
                    assert event.payload.fields["vendor_id"] == 11129
                    manifest = event.payload.fields["manifest"]
                    assert isinstance(manifest, dict)
                    assert manifest["type"] in ("variable", "uri")
                    seen += 1
    assert seen >= 1


# --- dynamic launch ----------------------------------------------------------------------------------


def test_txt_events_of_a_real_launch(corpus: Path) -> None:
    path = next((corpus / "eventlogs").rglob("txt-logs.bin"))
    events = {}
    for event in read_event_log(path).events:
        events.setdefault((event.register, event.type_name), event)
    start = events[17, "EV_TXT_HASH_START"]
    # the module's digest and the flags of GETSEC[SENTER] stand behind each other in the data
    assert start.payload.fields["module_digest"] == start.data[:32].hex()
    assert start.payload.fields["flags"] == 0
    assert start.digest_check == "covers-data"
    assert events[17, "EV_TXT_CPU_SCRTM_STAT"].payload.fields == {"value": 1}
    assert events[17, "EV_TXT_MLE_HASH"].digest_check == "describes"
    assert events[17, "EV_TB_MEASUREMENT"].payload.kind == "drtm"
    assert {event.payload.kind for event in events.values()} == {"drtm", "spec-id"}


def test_nv_indices_of_a_launch_are_those_that_tpm2_pytss_reads(corpus: Path) -> None:
    from tpm2_pytss import TPMS_NV_PUBLIC

    path = next((corpus / "eventlogs").rglob("txt-logs.bin"))
    event = next(e for e in read_event_log(path).events if e.type_name == "EV_TXT_NV_INFO_HASH")
    rest, found = event.data, []
    while rest:
        exists, rest = rest[0], rest[1:]
        if exists:
            area, used = TPMS_NV_PUBLIC.unmarshal(rest)
            rest = rest[used:]
            found.append(
                {
                    "index": f"0x{int(area.nvIndex):08x}",
                    "name_algorithm": f"0x{int(area.nameAlg):04x}",
                    "attributes": f"0x{int(area.attributes):08x}",
                    "auth_policy": bytes(area.authPolicy).hex(),
                    "data_size": int(area.dataSize),
                }
            )
    assert len(found) == 2
    assert event.payload.fields["indices"] == found
    assert event.payload.fields["absent"] == 1


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        pytest.param(0x402, b"\1\2", "EdxSenterFlags", id="hash_start_cut"),
        pytest.param(0x40A, bytes(19), "BiosAcmId", id="module_id_cut"),
        pytest.param(0x40B, bytes(5), "CpuScrtmStatus", id="status_left_over"),
        pytest.param(0x414, b"\x01\x01\xc1", "nvIndex", id="nv_index_cut"),
        pytest.param(0x414, b"\x01" + bytes(10) + b"\xff\xff", "authPolicy", id="nv_policy_maximum"),
        pytest.param(0x414, (b"\x01" + bytes(14)) * 20, "nvIndex", id="nv_too_many"),
    ],
)
def test_broken_launch_events(kind: int, data: bytes, field: str) -> None:
    payload = decode(kind, 17, data)
    assert isinstance(payload.value, Invalid)
    assert payload.value.error.field.startswith(field)


def test_types_of_vendors_have_the_names_of_their_headers() -> None:
    """Numbers of Linux' ``slaunch.h`` and of Windows' ``wbcl.h``, first, last and in between of each run."""
    for number, name in {
        0x502: "EV_TXT_SLAUNCH", 0x504: "EV_TXT_SLAUNCH_END", 0x41A: "EV_TXT_BOOT_POL_HASH",
        0x8001: "EV_AMD_SL_LOAD", 0x8007: "EV_AMD_SL_SEPARATOR",
        33281: "EV_AMD_SPL_TABLE_ROM", 33290: "EV_AMD_ABL_1", 33337: "EV_AMD_ABL_48", 33340: "EV_AMD_VBL_1",
        33349: "EV_AMD_VBL_10", 33363: "EV_AMD_GMI3", 33367: "EV_AMD_PSP_DF_RIB0",
        33382: "EV_AMD_PSP_DF_RIB15", 33383: "EV_AMD_SECURE_DEBUG_UNLOCK", 33538: "EV_AMD_AGESA_DRV",
        36865: "EV_ARM_PCR_SCHEMA", 36878: "EV_ARM_SECURE_INT_DISABLE",
    }.items():  # fmt: skip
        assert event_type_name(number) == name
    assert len(set(EVENT_TYPES.values())) == len(EVENT_TYPES)
    assert decode(0x8001, 17, b"").kind == "drtm"
    assert decode(33290, 0, b"").kind == "firmware-blob"
    assert decode(0x5FF, 17, b"x").kind == "drtm"


# --- firmware's other forms --------------------------------------------------------------------------


def test_post_code_2_names_its_blob() -> None:
    data = b"\x09POST CODE" + struct.pack("<QQ", 0xFF000000, 4096)
    payload = decode(0x13, 0, data)
    assert (payload.kind, payload.name) == ("post-code", "POST CODE")
    assert payload.fields["length"] == 4096


def test_table_of_devices_that_is_a_pointer_names_its_table() -> None:
    data = struct.pack("<Q", 1) + uuid.UUID("eb9d2d31-2d88-11d3-9a16-0090273fc14d").bytes_le + bytes(8)
    payload = decode(0xB, 1, data)
    assert (payload.kind, payload.name) == ("table-of-devices", "SMBIOS_TABLE_GUID")


def test_value_behind_a_name_is_shown() -> None:
    payload = decode(0xA, 1, b"MSR_TME_ACTIVATE\0" + b"\x0b" + bytes(7))
    assert payload.name == "MSR_TME_ACTIVATE"
    assert payload.fields["value"] == "0b" + "00" * 7
    assert "value" not in decode(0xA, 1, b"etc/table-loader\0").fields


def test_management_engine_of_a_real_machine(corpus: Path) -> None:
    """Counts and flags read by hand from the log: 15 entries behind the header of 24 bytes; flags 1."""
    events = [
        event
        for path in (corpus / "eventlogs").rglob("*")
        if path.is_file() and b"IntelCSxE" in path.read_bytes()
        for event in read_event_log(path).events
        if event.payload.kind == "nonhost" and event.data.startswith(b"IntelCSxE")
    ]
    state = [e for e in events if e.payload.name == "IntelCSxEInfoEvent"]
    assert state
    assert all(e.payload.fields["device"] == "8086:43e0" for e in state)
    assert all(e.payload.fields["hardware_root_of_trust"] is True for e in state)
    assert all(e.digest_check == "covers-data" for e in state)
    measured = next(e for e in events if e.payload.name == "IntelCSxEEvent01")
    rest, count = measured.data[24:], 0
    while rest:
        rest, count = rest[8 + int.from_bytes(rest[4:8], "little") :], count + 1
    assert measured.payload.fields["count"] == count
    assert measured.payload.fields["hash"] == "sha384"


def test_remote_access_of_a_management_engine() -> None:
    body = struct.pack("<H", 0b10000000101) + b"example.org".ljust(256, b"\0") + bytes(68)
    data = b"IntelCSMEAmtConfig".ljust(20, b"\0") + struct.pack("<I", len(body)) + body
    payload = decode(0x10, 1, data)
    fields = payload.fields
    assert (fields["enabled"], fields["provisioned"], fields["usb_redirection"]) == (True, True, True)
    assert (fields["kvm"], fields["domain_suffix"]) == (False, "example.org")
    assert isinstance(decode(0x10, 1, data[:30]).value, Invalid)


@pytest.mark.parametrize("kind", [BLOB, CONFIG])
def test_digest_of_a_device_measurement_is_of_all_its_data(kind: int) -> None:
    import hashlib

    data = version2(0, measurements(block(1, 1, bytes(32))), PCI)
    payload = decode(kind, 2, data)
    digests = {"sha256": hashlib.sha256(data).digest(), "sha384": hashlib.sha384(data).digest()}
    assert check_digest(kind, 2, digests, payload) == ("covers-data", "data")
    digests["sha256"] = bytes(32)
    assert check_digest(kind, 2, digests, payload)[0] == "mismatch"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"td_payload_info\0" + struct.pack("<I", 9) + b"quiet", "Info", id="info_past_end"),
        pytest.param(b"td_payload_info\0\xff\xff\xff\xff", "Info", id="info_maximum"),
        pytest.param(
            b"secure_policy_db" + struct.pack("<I", 1) + b"ab",
            "TD_SHIM_PLATFORM_CONFIG_INFO",
            id="info_left_over",
        ),
        pytest.param(b"td_hob\0\0", "Descriptor", id="descriptor_cut"),
    ],
)
def test_broken_events_of_td_shim(data: bytes, field: str) -> None:
    payload = decode(0xA, 1, data, set="cc")
    assert isinstance(payload.value, Invalid)
    assert payload.value.error.field.startswith(field)


def test_kernel_of_td_shim_is_a_kernel_in_a_tdx_guest_only() -> None:
    data = b"\x0btd_payload\0" + struct.pack("<QQ", 0x901000, 4096)
    assert decode(0x8000000A, 2, data, set="cc").kind == "kernel"
    assert decode(0x8000000A, 0, data).kind == "firmware-blob"
