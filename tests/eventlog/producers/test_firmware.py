"""Firmware's events from bytes laid out by hand after PFP 1.06 and UEFI 2.10."""

from __future__ import annotations

import struct
import uuid

import pytest

from cvmlab.eventlog.model import Invalid, Opaque, Payload
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.producers.firmware import SpecIdEvent

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHA256_LIST = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le
OWNER = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b").bytes_le


def variable(guid: uuid.UUID, name: str, data: bytes) -> bytes:
    text = name.encode("utf-16-le")
    return guid.bytes_le + struct.pack("<QQ", len(text) // 2, len(data)) + text + data


def config(guid: uuid.UUID, name: str, data: bytes) -> Payload:
    return decode(0x80000001, 7, variable(guid, name, data))


# --- headers -----------------------------------------------------------------------------------------


def test_spec_id_crypto_agile() -> None:
    data = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 105, 2)
    data += struct.pack("<IHHHH", 2, 4, 20, 11, 32) + b"\x03abc"
    payload = decode(3, 0, data)
    assert payload.value == SpecIdEvent("Spec ID Event03", 0, (2, 0, 105), 2, ((4, 20), (11, 32)), b"abc")
    assert (payload.kind, payload.candidates) == ("spec-id", ())


def test_spec_id_of_a_1_2_log() -> None:
    payload = decode(3, 0, b"Spec ID Event02\0" + struct.pack("<IBBBBB", 1, 2, 1, 0, 2, 0))
    assert payload.fields["specification"] == "1.2.0"
    assert payload.fields["algorithms"] == []


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"Spec ID Event03\0", "platformClass", id="spec_id_cut_short"),
        pytest.param(
            b"Spec ID Event03\0" + bytes(8) + b"\xff\xff\xff\xff",
            "numberOfAlgorithms",
            id="spec_id_count_maximum",
        ),
        pytest.param(
            b"Spec ID Event03\0" + bytes(8) + struct.pack("<IHH", 2, 4, 20),
            "algorithmId",
            id="spec_id_count_past_end",
        ),
        pytest.param(
            b"Spec ID Event03\0" + bytes(12) + b"\x05ab", "vendorInfo", id="spec_id_vendor_past_end"
        ),
        pytest.param(b"StartupLocality\0", "StartupLocality", id="locality_missing"),
        pytest.param(b"StartupLocality\0\x03\x00", "StartupLocality", id="locality_bytes_left_over"),
        pytest.param(b"SP800-155 Event\0\x01", "VendorId", id="platform_id_cut_short"),
    ],
)
def test_broken_no_action(data: bytes, field: str) -> None:
    payload = decode(3, 0, data, base=1000)
    assert isinstance(payload.value, Invalid)
    assert payload.value.error.field.startswith(field)
    assert payload.value.error.offset >= 1016
    assert payload.value.data == data
    assert payload.candidates == ()


def test_startup_locality() -> None:
    payload = decode(3, 0, b"StartupLocality\0\x03")
    assert (payload.kind, payload.fields) == ("startup-locality", {"locality": 3})


def test_no_action_of_unknown_signature_is_opaque() -> None:
    assert isinstance(decode(3, 0, b"Something else!!rest").value, Opaque)
    assert decode(3, 0, b"").kind == "no-action"


# --- separators and texts ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [bytes(4), b"\xff\xff\xff\xff"])
def test_both_normal_separators(data: bytes) -> None:
    payload = decode(4, 7, data)
    assert (payload.kind, payload.relation, payload.candidates) == ("separator", "data", (("data", data),))


def test_skiboot_separator_may_be_the_digest_of_ffffffff() -> None:
    candidates = decode(4, 0, b"Skiboot Boot").candidates
    assert b"\xff\xff\xff\xff" in [data for _, data in candidates]


def test_no_other_text_may_be_the_digest_of_ffffffff() -> None:
    for data in (b"Skiboot", b"", b"\0\0\0\1", b"skiboot boot"):
        assert b"\xff\xff\xff\xff" not in [value for _, value in decode(4, 0, data).candidates]


def test_separator_that_announces_an_error_says_so() -> None:
    assert "error" in decode(4, 0, b"\x01\0\0\0").summary


def test_actions() -> None:
    payload = decode(0x80000007, 4, b"Calling EFI Application from Boot Option")
    assert (payload.name, payload.relation) == ("Calling EFI Application from Boot Option", "data")
    assert decode(5, 4, b"Calling INT 19h").relation == "unknown"
    assert isinstance(decode(0x80000007, 4, b"\xff\xfe\x00").value, Opaque)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        pytest.param("GCE Virtual Firmware v1\0".encode("utf-16-le"), "GCE Virtual Firmware v1", id="utf_16"),
        pytest.param(b"V27.01.07\0", "V27.01.07", id="ascii"),
        pytest.param(b"\0\0", "", id="one_nul_character"),
        pytest.param(b"", "", id="no_data"),
        pytest.param(
            bytes.fromhex("1efb6b540c1d5540a4ad4ef4bf17b83a"),
            "546bfb1e-1d0c-4055-a4ad-4ef4bf17b83a",
            id="guid",
        ),
    ],
)
def test_crtm_version(data: bytes, version: str) -> None:
    payload = decode(8, 0, data)
    assert payload.fields["version"] == version
    assert (payload.kind, payload.relation, payload.candidates) == ("crtm-version", "data", (("data", data),))


def test_crtm_version_of_other_bytes_is_opaque() -> None:
    assert isinstance(decode(8, 0, b"\x01\x02\x03").value, Opaque)


# --- blobs, tables, processors -----------------------------------------------------------------------


def test_blobs() -> None:
    one = decode(0x80000008, 0, struct.pack("<QQ", 0x820000, 0xE0000))
    assert one.fields == {"base": 0x820000, "length": 0xE0000}
    assert (one.name, one.relation) == ("0x820000", "outside")
    two = decode(0x8000000A, 0, b"\x07FV_MAIN" + struct.pack("<QQ", 1, 2))
    assert two.fields == {"base": 1, "length": 2, "description": "FV_MAIN"}


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        pytest.param(0x80000008, bytes(15), id="blob_cut_short"),
        pytest.param(0x80000008, bytes(17), id="blob_bytes_left_over"),
        pytest.param(0x80000008, b"", id="blob_empty"),
        pytest.param(0x8000000A, b"\xffabc", id="blob2_description_past_end"),
        pytest.param(0x8000000A, b"\x00" + bytes(15), id="blob2_cut_short"),
        pytest.param(0x80000009, b"\xff" * 8, id="tables_count_maximum"),
        pytest.param(0x80000009, struct.pack("<Q", 2) + bytes(24), id="tables_count_past_end"),
        pytest.param(0x80000009, struct.pack("<Q", 0) + b"x", id="tables_bytes_left_over"),
        pytest.param(0x8000000B, b"\x09TdxTable", id="tables2_description_past_end"),
        pytest.param(0x80000003, bytes(31), id="image_cut_short"),
        pytest.param(0x80000003, bytes(24) + b"\xff" * 8, id="image_path_length_maximum"),
        pytest.param(0x80000004, bytes(24) + struct.pack("<Q", 4) + bytes(4), id="image_path_node_size_zero"),
        pytest.param(0x80000006, b"EFI PART", id="gpt_cut_short"),
        pytest.param(0x80000006, b"EFI TRAP" + bytes(92), id="gpt_wrong_signature"),
    ],
)
def test_broken_firmware_events(event_type: int, data: bytes) -> None:
    payload = decode(event_type, 0, data, base=64)
    assert isinstance(payload.value, Invalid)
    assert payload.kind != "unknown"
    assert 64 <= payload.value.error.offset <= 64 + len(data)


def test_handoff_tables_are_named() -> None:
    smbios3 = uuid.UUID("f2fd1544-9794-4a2c-992e-e5bbcf20e394").bytes_le
    payload = decode(0x80000009, 1, struct.pack("<Q", 1) + smbios3 + bytes(8))
    assert payload.fields == {"count": 1, "tables": ["SMBIOS3_TABLE_GUID"]}


def test_nonhost_info_of_google() -> None:
    payload = decode(0x11, 0, b"GCE NonHostInfo\0\x04" + bytes(15))
    assert payload.fields["confidential_technology"] == "AMD SEV-SNP"
    assert (
        decode(0x11, 0, b"GCE NonHostInfo\0\x63" + bytes(15)).fields["confidential_technology"]
        == "unknown (99)"
    )


def test_machine_identity_of_azure() -> None:
    text = b"UUID: 5E8A6EAC-2A0B-4F9E-8C7A-000000000001"
    payload = decode(0xC, 6, text)
    assert (payload.kind, payload.relation) == ("machine-identity", "data")
    assert payload.fields["uuid"] == "5e8a6eac-2a0b-4f9e-8c7a-000000000001"
    assert payload.candidates[0][1] == text


@pytest.mark.parametrize("data", [b"UUID: x", b"UUID: ", b"Dell Configuration Information 1"])
def test_other_texts_are_no_machine_identity(data: bytes) -> None:
    assert decode(0xC, 6, data).kind == "platform-config"


# --- variables ---------------------------------------------------------------------------------------


def test_secure_boot() -> None:
    payload = config(GLOBAL, "SecureBoot", b"\1")
    assert (payload.kind, payload.fields["enabled"]) == ("secure-boot", True)
    assert config(GLOBAL, "SecureBoot", b"\0").fields["enabled"] is False
    whole = variable(GLOBAL, "SecureBoot", b"\1")
    assert payload.candidates == (("data", whole), ("variable data only", b"\1"))


@pytest.mark.parametrize("data", [b"", b"\2", b"\1\0", b"\xff"])
def test_secure_boot_of_no_known_value_is_neither_on_nor_off(data: bytes) -> None:
    payload = config(GLOBAL, "SecureBoot", data)
    assert payload.kind == "secure-boot"
    assert "enabled" not in payload.fields
    assert "neither" in payload.summary


@pytest.mark.parametrize(
    ("guid", "name"),
    [(SECURITY, "SecureBoot"), (GLOBAL, "SecureBoot\0"), (GLOBAL, "secureboot"), (uuid.UUID(int=0), "db")],
)
def test_look_alikes_of_secure_boot_variables(guid: uuid.UUID, name: str) -> None:
    payload = config(guid, name, b"\1")
    assert payload.kind == "driver-config-variable"
    assert "enabled" not in payload.fields


@pytest.mark.parametrize(
    ("guid", "name", "kind"),
    [
        (GLOBAL, "PK", "platform-key"),
        (GLOBAL, "KEK", "key-exchange-keys"),
        (SECURITY, "db", "signature-database"),
        (SECURITY, "dbx", "revocation-list"),
        (SECURITY, "dbt", "secure-boot-variable"),
        (GLOBAL, "AuditMode", "secure-boot-variable"),
    ],
)
def test_kinds_of_secure_boot_variables(guid: uuid.UUID, name: str, kind: str) -> None:
    assert config(guid, name, b"").kind == kind


def signature_list(count: int) -> bytes:
    entries = b"".join(OWNER + index.to_bytes(32, "big") for index in range(count))
    return SHA256_LIST + struct.pack("<III", 28 + len(entries), 0, 48) + entries


def test_large_revocation_list_keeps_all_entries_in_the_value_and_counts_in_the_fields() -> None:
    payload = config(SECURITY, "dbx", signature_list(10_000))
    assert payload.fields["types"] == {"SHA256": 10_000}
    assert len(payload.value[0].signatures) == 10_000
    assert len(repr(payload.fields)) < 1000


def test_siglist_size_zero_keeps_the_kind_and_what_came_before() -> None:
    broken = signature_list(2) + SHA256_LIST + bytes(12)
    payload = decode(0x80000001, 7, variable(SECURITY, "dbx", broken), base=500)
    assert isinstance(payload.value, Invalid)
    assert (payload.kind, payload.name) == ("revocation-list", "dbx")
    assert payload.fields["entries"] == 2
    assert payload.fields["error_offset"] == 500 + 32 + 6 + 28 + 96 + 16


@pytest.mark.parametrize("event_type", [0x80000001, 0x80000002, 0x8000000C, 0x800000E0])
@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"", "VariableName", id="variable_empty"),
        pytest.param(GLOBAL.bytes_le, "UnicodeNameLength", id="variable_lengths_missing"),
        pytest.param(GLOBAL.bytes_le + b"\xff" * 16, "UnicodeNameLength", id="variable_name_length_maximum"),
        pytest.param(
            GLOBAL.bytes_le + struct.pack("<QQ", 4, 0) + b"P\0", "UnicodeName", id="variable_name_past_end"
        ),
        pytest.param(
            GLOBAL.bytes_le + struct.pack("<QQ", 1, 9) + b"P\0", "VariableData", id="variable_data_past_end"
        ),
    ],
)
def test_broken_variables(event_type: int, data: bytes, field: str) -> None:
    payload = decode(event_type, 7, data, source="a.bin", base=10)
    assert isinstance(payload.value, Invalid)
    assert payload.value.error.field == field
    assert payload.value.error.source == "a.bin"
    assert payload.relation == "data"
    assert payload.candidates == (("data", data),)


def test_boot_order_and_entry() -> None:
    order = decode(0x80000002, 1, variable(GLOBAL, "BootOrder", bytes.fromhex("0300010000000200")))
    assert order.fields["order"] == ["0003", "0001", "0000", "0002"]
    assert [label for label, _ in order.candidates] == ["variable data only", "data"]
    path = bytes.fromhex("04040c005c0061002e000000") + bytes.fromhex("7fff0400")
    option = (
        struct.pack("<IH", 1, len(path))
        + "debian\0".encode("utf-16-le")
        + path
        + "quiet\0".encode("utf-16-le")
    )
    entry = decode(0x8000000C, 1, variable(GLOBAL, "Boot0003", option))
    assert (entry.kind, entry.name) == ("boot-entry", "Boot0003")
    assert entry.fields["description"] == "debian"
    assert entry.fields["path"] == "\\a."
    assert entry.fields["optional_text"] == "quiet"
    assert [label for label, _ in entry.candidates] == ["data", "variable data only"]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        pytest.param("BootOrder", b"\1", "boot-order", id="boot_order_odd_size"),
        pytest.param("Boot0001", b"\1\0\0\0\xff\xff", "boot-entry", id="boot_entry_cut_short"),
        pytest.param(
            "Boot0001", struct.pack("<IH", 1, 99) + b"a\0\0\0", "boot-entry", id="boot_entry_paths_past_end"
        ),
    ],
)
def test_broken_boot_variables_keep_name_and_candidates(name: str, data: bytes, kind: str) -> None:
    payload = decode(0x80000002, 1, variable(GLOBAL, name, data))
    assert isinstance(payload.value, Invalid)
    assert (payload.kind, payload.name, payload.relation) == (kind, name, "data")
    assert ("variable data only", data) in payload.candidates


def test_other_boot_variable_is_kept_as_it_is() -> None:
    assert decode(0x80000002, 1, variable(GLOBAL, "BootNext", b"\1\0")).kind == "boot-variable"
    assert decode(0x80000002, 1, variable(GLOBAL, "Boot000G", b"\1\0")).kind == "boot-variable"


def test_image_from_a_file() -> None:
    path = bytes.fromhex("040412005c0062006f006f0074002e0065000000")[:18] + bytes.fromhex("7fff0400")
    data = struct.pack("<QQQQ", 0x1000, 77, 0, len(path)) + path
    payload = decode(0x80000003, 4, data)
    assert (payload.kind, payload.name, payload.relation) == ("application", "\\boot.e", "outside")
    assert payload.fields["length"] == 77
    assert decode(0x80000005, 2, data).kind == "driver"


def test_image_from_memory_has_no_name() -> None:
    payload = decode(0x80000003, 4, struct.pack("<QQQQ", 0x1000, 77, 0, 0))
    assert (payload.name, payload.summary) == ("", "EFI application loaded from memory, 77 bytes")


# --- authorities -------------------------------------------------------------------------------------


def test_authority_that_is_a_hash() -> None:
    payload = decode(0x800000E0, 7, variable(SECURITY, "db", OWNER + bytes(32)))
    assert (payload.kind, payload.name, payload.fields["type"]) == ("authority", "db", "SHA256")


def test_authority_may_be_logged_with_one_byte_too_many() -> None:
    data = variable(SECURITY, "db", OWNER + bytes(32)) + b"\xaa"
    assert [value for _, value in decode(0x800000E0, 7, data).candidates] == [data, data[:-1]]


def test_authority_without_contents() -> None:
    payload = decode(0x800000E0, 7, variable(SECURITY, "db", OWNER))
    assert isinstance(payload.value, Invalid)
    assert payload.kind == "authority"
