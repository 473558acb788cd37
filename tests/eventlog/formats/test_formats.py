"""Every format gives the events and registers of the log it was made from, here, after its specification."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.eventlog import EventLog, read_event_log
from cvmlab.eventlog.ima import read_ima
from cvmlab.eventlog.ima_replay import prefix_values
from cvmlab.eventlog.reader import read_event_logs

if TYPE_CHECKING:
    from collections.abc import Callable

BOOTS = Path(__file__).resolve().parents[3] / "sample_data" / "boots"
LOG = (BOOTS / "baseline" / "eventlog.bin").read_bytes()
OLD = (BOOTS / "tpm12" / "eventlog.bin").read_bytes()
IMA_TEXT = (BOOTS / "debian_ima" / "ima_ascii.log").read_bytes()
IMA_BINARY = (BOOTS / "debian_ima" / "ima_binary.bin").read_bytes()
PLAIN = read_event_log(LOG)
ALGORITHM = {"sha1": 0x04, "sha256": 0x0B, "sha384": 0x0C}


def tlv(kind: int, value: bytes) -> bytes:
    """CEL 1.0, section 5.1: type, length in network order, value."""
    return bytes([kind]) + struct.pack(">I", len(value)) + value


def cel_tlv(log: EventLog, *, width: int = 8) -> bytes:
    records = b""
    for number, event in enumerate(log.events):
        digests = b"".join(tlv(ALGORITHM[bank], value) for bank, value in event.digests.items())
        content = tlv(0, struct.pack(">I", event.type)) + tlv(1, event.data)
        records += tlv(0, number.to_bytes(width, "big")) + tlv(1, struct.pack(">I", event.register))
        records += tlv(3, digests) + tlv(5, content)
    return records


def cel_maps(log: EventLog) -> list[dict[str, object]]:
    return [
        {
            "recnum": number,
            "pcr": event.register,
            "digests": [{"hashAlg": b, "digest": d.hex()} for b, d in event.digests.items()],
            "content_type": "pcclient_std",
            "content": {"event_type": event.type_name, "event_data": event.data.hex()},
        }
        for number, event in enumerate(log.events)
    ]


def cel_numbers(log: EventLog) -> list[dict[int, object]]:
    return [
        {
            0: number,
            1: event.register,
            3: [{0: ALGORITHM[bank], 1: value} for bank, value in event.digests.items()],
            5: {0: event.type, 1: event.data},
        }
        for number, event in enumerate(log.events)
    ]


def message(*fields: tuple[int, bytes]) -> bytes:
    """Length-delimited fields of a protobuf message."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    return b"".join(varint(number << 3 | 2) + varint(len(body)) + body for number, body in fields)


def registry(data: bytes) -> str:
    rows = [",".join(f"{byte:02x}" for byte in data[at : at + 25]) for at in range(0, len(data), 25)]
    body = ",\\\r\n  ".join(rows)
    head = "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\IntegrityServices]\r\n"
    return f'{head}"WBCL"=hex:{body}\r\n'


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


WRAPPED: dict[str, bytes] = {
    "base64": base64.b64encode(LOG),
    "base64_lines": base64.encodebytes(LOG),
    "base64url_without_padding": base64.urlsafe_b64encode(LOG).rstrip(b"="),
    "hex": LOG.hex().encode(),
    "hex_upper_0x": b"0x" + LOG.hex().upper().encode(),
    "hex_lines": b"\n".join(LOG.hex()[at : at + 64].encode() for at in range(0, 2 * len(LOG), 64)),
    "azure_attestation_info": json.dumps({"TcgLogs": packed(LOG), "TpmInfo": {"PCRs": []}}).encode(),
    "keylime": json.dumps(
        {"results": {"quote": "r" + "A" * 200, "mb_measurement_list": packed(LOG)}}
    ).encode(),
    "trustee": json.dumps({"quote": packed(bytes(600)), "cc_eventlog": packed(LOG)}).encode(),
    "go_attestation": json.dumps({"Log": {"PCRs": [], "PCRAlg": 4, "Raw": packed(LOG)}}).encode(),
    "integers": json.dumps({"eventlog": list(LOG)}).encode(),
    "go_tpm_tools": message((1, b"k" * 300), (2, message((1, b"q" * 100))), (3, LOG)),
    "registry_utf16": b"\xff\xfe" + registry(LOG).encode("utf-16-le"),
    "registry_ascii": registry(LOG).encode(),
    "base64_of_json_of_hex": base64.b64encode(json.dumps({"log": LOG.hex()}).encode()),
    "cel_tlv": cel_tlv(PLAIN),
    "cel_tlv_short_numbers": cel_tlv(PLAIN, width=4),
    "cel_json": json.dumps(cel_maps(PLAIN)).encode(),
    "cel_json_in_object": json.dumps({"events": cel_maps(PLAIN)}).encode(),
    "cel_cbor": cbor2.dumps(cel_maps(PLAIN)),
    "cel_cbor_numbers": cbor2.dumps(cel_numbers(PLAIN)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_log_in_other_clothes_is_the_same_log(name: str) -> None:
    log = read_event_log(WRAPPED[name])
    assert log.complete
    assert log.replay() == PLAIN.replay()
    assert [(e.register, e.type, e.data) for e in log.events] == [
        (e.register, e.type, e.data) for e in PLAIN.events
    ]
    assert [e.digest_check for e in log.events] == [e.digest_check for e in PLAIN.events]
    form = "-".join(name.split("_")[:2]) if name.startswith("cel") else "crypto-agile"
    assert log.format == form


def test_old_log_without_a_mark_is_known_inside_text() -> None:
    log = read_event_log(base64.b64encode(OLD))
    assert log.format == "tcg-1.2"
    assert log.replay() == read_event_log(OLD).replay()


def test_all_logs_of_a_file_are_given_the_boot_log_first() -> None:
    value = {"ima_measurement_list": IMA_TEXT.decode(), "mb_measurement_list": packed(LOG)}
    logs = read_event_logs(json.dumps(value).encode())
    assert [log.format for log in logs] == ["crypto-agile", "ima-ascii"]


@pytest.mark.parametrize("data", [IMA_TEXT, IMA_BINARY], ids=["ascii", "binary"])
def test_ima_list_as_a_log_replays_as_the_list_does(data: bytes) -> None:
    log = read_event_log(data)
    ima = read_ima(data)
    assert len(log.events) == len(ima.entries)
    *_, (_, last) = prefix_values(ima, "sha1", "listed")
    assert log.replay()["sha1"][10] == last
    assert {event.digest_check for event in log.events} == {"covers-data"}
    assert log.events[0].type_name == f"IMA {ima.entries[0].template}"


def test_edited_ima_path_is_a_mismatch() -> None:
    log = read_event_log(IMA_BINARY.replace(b"/init\0", b"/inix\0", 1))
    assert [event.payload.name for event in log.events if event.digest_check == "mismatch"] == ["/inix"]


def measured(*texts: str) -> bytes:
    """Records as systemd writes them (tpm2-util.c): record separator, JSON, line feed."""
    return b"".join(
        b"\x1e"
        + json.dumps(
            {
                "pcr": 11,
                "digests": [{"hashAlg": "sha256", "digest": hashlib.sha256(text.encode()).hexdigest()}],
                "content_type": "systemd",
                "content": {"string": text, "bootId": "0" * 32, "timestamp": 7, "eventType": "phase"},
            }
        ).encode()
        + b"\n"
        for text in texts
    )


def test_userspace_log_replays_into_register_11() -> None:
    log = read_event_log(measured("enter-initrd", "leave-initrd"))
    value = bytes(32)
    for text in (b"enter-initrd", b"leave-initrd"):
        value = hashlib.sha256(value + hashlib.sha256(text).digest()).digest()
    assert log.format == "systemd-userspace"
    assert log.replay() == {"sha256": {11: value}}
    assert [event.digest_check for event in log.events] == ["covers-data", "covers-data"]
    assert log.events[0].payload.fields["bootId"] == "0" * 32


def test_changed_text_of_the_userspace_log_is_a_mismatch() -> None:
    log = read_event_log(measured("sysinit").replace(b'"sysinit"', b'"ready"'))
    assert [event.digest_check for event in log.events] == ["mismatch"]


def test_damaged_record_costs_only_itself() -> None:
    data = measured("enter-initrd", "leave-initrd", "sysinit").replace(b"leave", b'le"ave', 1)
    log = read_event_log(data)
    assert [event.payload.summary for event in log.events] == ["enter-initrd", "sysinit"]
    assert [problem.fatal for problem in log.problems] == [False]
    assert "record 1" in log.problems[0].field


def test_cut_userspace_log_says_so() -> None:
    log = read_event_log(measured("enter-initrd", "leave-initrd")[:-30])
    assert len(log.events) == 1
    assert not log.complete
    assert "cut" in log.problems[0].message


def test_record_of_wrong_inside_costs_only_itself_in_tlv() -> None:
    good = cel_tlv(PLAIN)
    bad = tlv(0, b"\0" * 8) + tlv(1, b"\0\0\0\0") + tlv(3, tlv(0x0B, b"short")) + tlv(5, b"")
    log = read_event_log(good + bad + good)
    assert len(log.events) == 2 * len(PLAIN.events)
    assert [problem.field for problem in log.problems] == ["digest"]


@pytest.mark.parametrize("cut", range(1, 400, 7))
def test_every_cut_of_a_canonical_log_keeps_whole_records(cut: int) -> None:
    data = cel_tlv(PLAIN)[: 600 + cut]
    log = read_event_log(data)
    assert [e.data for e in log.events] == [e.data for e in PLAIN.events[: len(log.events)]]


@pytest.mark.parametrize("records", [cel_maps, cel_numbers])
def test_cbor_log_that_ends_between_records_is_cut(records: Callable[[EventLog], list[object]]) -> None:
    """The array states how many records there are; an array without a number must be closed."""
    items = [cbor2.dumps(record) for record in records(PLAIN)]
    whole = b"\x9f" + b"".join(items) + b"\xff"
    assert read_event_log(whole).complete
    for data in (b"\x9f" + b"".join(items[:-1]), b"\x98" + bytes([len(items)]) + b"".join(items[:-1])):
        log = read_event_log(data)
        assert len(log.events) == len(items) - 1
        assert not log.complete


@pytest.mark.parametrize("cut", range(1, 300, 13))
def test_every_cut_of_a_cbor_log_keeps_whole_records(cut: int) -> None:
    log = read_event_log(cbor2.dumps(cel_numbers(PLAIN))[:-cut])
    assert [e.data for e in log.events] == [e.data for e in PLAIN.events[: len(log.events)]]
    assert len(log.events) > 50
    assert not log.complete


@pytest.mark.parametrize("cut", range(1, 2000, 97))
def test_every_cut_of_a_json_log_keeps_whole_records(cut: int) -> None:
    log = read_event_log(json.dumps(cel_maps(PLAIN)).encode()[:-cut])
    assert [e.data for e in log.events] == [e.data for e in PLAIN.events[: len(log.events)]]
    assert len(log.events) > 50
    assert not log.complete


def test_damaged_record_of_a_json_log_costs_only_itself() -> None:
    items = [json.dumps(record) for record in cel_maps(PLAIN)]
    items[7] = items[7].replace('"digests"', '"dig"ests"')
    log = read_event_log(("[" + ",\n".join(items) + "]").encode())
    assert [e.data for e in log.events] == [e.data for n, e in enumerate(PLAIN.events) if n != 7]
    assert [(p.field, p.fatal) for p in log.problems] == [("record 7", False)]


@pytest.mark.parametrize(
    ("one", "form"),
    [(b'\x1e{"pcr":1,"digests":[]}\n', "systemd-userspace"), (b"\xa3\x00\x00\x01\x01\x03\x80", "cel-cbor")],
)
def test_more_records_than_the_limit_are_said(one: bytes, form: str) -> None:
    log = read_event_log(one * 70_000)
    assert log.format == form
    assert not log.complete
    assert log.problems[-1].need is not None
    assert len(log.events) <= 65_536


def test_other_contents_are_kept() -> None:
    template = struct.pack("<I", 7 + 1 + 32) + b"sha256:\0" + bytes(32) + struct.pack("<I", 5) + b"/sbin"
    digest = hashlib.sha256(template).digest()
    head = tlv(0, bytes(8)) + tlv(1, b"\x0a") + tlv(3, tlv(0x0B, digest))
    log = read_event_log(
        head + tlv(7, tlv(0, b"ima-ng") + tlv(1, template))
        + head + tlv(9, b"enter-initrd")
        + head + tlv(77, b"vendor's own")
        + tlv(0, bytes(8)) + tlv(2, b"\x01\x40\x00\x01") + tlv(3, tlv(0x0B, digest)) + tlv(4, tlv(1, b"\x01"))
    )  # fmt: skip
    assert [event.type_name for event in log.events] == [
        "IMA ima-ng",
        "systemd",
        "content 77",
        "CEL management",
    ]
    assert log.events[0].digest_check == "covers-data"
    assert log.events[0].payload.name == "/sbin"
    assert log.events[1].digest_check == "mismatch"
    assert log.events[2].digest_check == "unknown"
    assert not log.events[3].extends


def _table(laml: int = 65536, lasa: int = 0x7F00_0000) -> bytes:
    """ACPI 6.5, 5.2.34."""
    table = bytearray(b"CCEL" + struct.pack("<I", 56) + b"\x01\x00" + b"VENDOR" + b"TABLEID " + bytes(12))
    table += bytes([2, 0, 0, 0]) + struct.pack("<QQ", laml, lasa)
    table[9] = -sum(table) % 256
    return bytes(table)


def test_table_alone_says_where_the_log_is() -> None:
    log = read_event_log(_table())
    assert log.set == "cc"
    assert not log.complete
    assert "0x7f000000" in log.problems[0].message


def test_table_and_area_are_the_log(corpus: Path) -> None:
    area = next((corpus / "eventlogs").rglob("CCEL_data_ovmf")).read_bytes()
    alone, both = read_event_log(area), read_event_log(_table(len(area)) + area)
    assert both.replay() == alone.replay()
    assert [e.offset - 56 for e in both.events] == [e.offset for e in alone.events]


def test_wrong_checksum_of_the_table_is_said(corpus: Path) -> None:
    area = next((corpus / "eventlogs").rglob("CCEL_data_ovmf")).read_bytes()
    table = bytearray(_table())
    table[9] ^= 1
    assert read_event_log(bytes(table) + area).problems[0].field == "Checksum"


@pytest.mark.parametrize(
    ("name", "faulty"),
    [
        ("cos-113-intel-tdx-dupe-separator.bin", True),
        ("cos-113-intel-tdx.bin", False),
        ("event_log.bin", False),
    ],
)
def test_known_fault_of_ovmf_is_explained(corpus: Path, name: str, faulty: bool) -> None:
    log = read_event_log(next((corpus / "eventlogs").rglob(name)))
    assert [a.rule for a in log.anomalies] == (["ovmf-duplicate-separator"] if faulty else [])


HOSTILE: dict[str, bytes] = {
    "deep_json": b"[" * 50_000,
    "deep_object": b'{"a":' * 20_000,
    "deep_cbor": b"\x81" * 100_000,
    "base64_of_base64": base64.b64encode(base64.b64encode(base64.b64encode(base64.b64encode(bytes(3000))))),
    "cbor_length_past_end": b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\xa1\x00\x00",
    "tlv_length_maximum": tlv(0, bytes(8)) + tlv(1, bytes(4)) + b"\x03\xff\xff\xff\xff",
    "spaces_after_hex": b"00" * 40 + b" " * 2_000_000 + b"x",
    "separators_only": b"\x1e" * 10_000,
    "many_short_strings": json.dumps(["A" * 40] * 20_000).encode(),
    "protobuf_of_nothing": b"\x0a\x00" * 5_000,
    "registry_without_values": b"Windows Registry Editor Version 5.00\r\n" + b'"WBCL"=hex:' * 5_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_and_are_no_log(name: str) -> None:
    log = read_event_log(HOSTILE[name])
    assert not [event for event in log.events if event.digest_check == "covers-data"]


@pytest.mark.parametrize("make", [base64.b64encode, bytes.hex, cel_tlv], ids=["base64", "hex", "tlv"])
@settings(max_examples=40, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255)), max_size=8))
def test_changed_bytes_never_raise(make: Callable[..., object], changes: list[tuple[int, int]]) -> None:
    made = make(PLAIN) if make is cel_tlv else make(LOG)
    data = bytearray(made if isinstance(made, bytes) else str(made).encode())
    for at, value in changes:
        data[at % len(data)] = value
    read_event_log(bytes(data)).replay()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600))
def test_random_bytes_never_raise(data: bytes) -> None:
    for prefix in (b"", b"\x1e", b"[", b"{", b"\x00\x00\x00\x00\x08", b"\x9f", b"CCEL8\0\0\0", b"10 "):
        read_event_log(prefix + data).replay()
