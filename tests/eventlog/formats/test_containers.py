"""Containers and text forms of other programs, built here after their specification or source.

The text dumps are made by the programs themselves (xxd, hexdump, od) where they are installed.
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from pathlib import Path

import pytest
from needs import tools

from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.formats.wrappers import json_cost
from cvmlab.eventlog.reader import read_event_logs

BOOTS = Path(__file__).resolve().parents[3] / "sample_data" / "boots"
LOG = (BOOTS / "baseline" / "eventlog.bin").read_bytes()
OLD = (BOOTS / "tpm12" / "eventlog.bin").read_bytes()
PLAIN, PLAIN_OLD = read_event_log(LOG), read_event_log(OLD)
PACKED = base64.b64encode(LOG).decode()


def txt_container(log: bytes, *, behind: int | None = None) -> bytes:
    """Intel TXT Software Development Guide, appendix C: signature, versions, size and offsets."""
    head = b"TXT Event Container\0" + bytes(12) + bytes([1, 0, 1, 0])
    return head + struct.pack("<III", 65536, 48, 48 + len(log) if behind is None else behind) + log


def attestation_blob(log: bytes, *, magic: bytes = b"PAD2") -> bytes:
    """``TpmAtt.h``: magic, platform, header size, sizes of PCR values, quote, signature, log, algorithm."""
    values, quote, signature = bytes(24 * 32), b"q" * 100, b"s" * 256
    tail = struct.pack("<I", 11) if magic == b"PAD2" else b""
    sizes = struct.pack("<4I", len(values), len(quote), len(signature), len(log))
    return magic + struct.pack("<II", 2, 28 + len(tail)) + sizes + tail + values + quote + signature + log


def big_endian(log: bytes) -> bytes:
    """The same TCG 1.2 log as a big-endian machine writes it."""
    turned = bytearray(log)
    for event in read_event_log(log).events:
        for at in (event.offset, event.offset + 4, event.offset + 28):
            turned[at : at + 4] = turned[at : at + 4][::-1]
    return bytes(turned)


def textproto(log: bytes) -> bytes:
    """Text form of protobuf: bytes as octal escapes (protobuf text format specification)."""
    text = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in log)
    return f'ak_pub: "\\000\\001\\000"\nevent_log: "{text}"\ninstance_info: {{}}\n'.encode()


def reg_query(log: bytes) -> bytes:
    """What ``reg query …\\IntegrityServices /v WBCL`` prints."""
    key = b"HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Control\\IntegrityServices"
    return b"\r\n" + key + b"\r\n    WBCL    REG_BINARY    " + log.hex().upper().encode() + b"\r\n\r\n"


def acpidump(table: bytes) -> bytes:
    """ACPICA: the table's name and address, then lines of 16 bytes and their text."""
    lines = [b"CCEL @ 0x0000000000000000"]
    for at in range(0, len(table), 16):
        part = table[at : at + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        lines.append(f"    {at:04X}: {' '.join(f'{b:02X}' for b in part):<47}  {text}".encode())
    return b"\n".join(lines) + b"\n\n"


HELD = {
    "attestation_blob": attestation_blob(LOG),
    "attestation_blob_in_base64": base64.b64encode(attestation_blob(LOG)),
    "text_of_protobuf": textproto(LOG),
    "reg_query": reg_query(LOG),
    "reg_query_utf16": b"\xff\xfe" + reg_query(LOG).decode().encode("utf-16-le"),
    "json_with_utf8_mark": b"\xef\xbb\xbf" + json.dumps({"TcgLogs": PACKED}).encode(),
    "json_of_other_letters": json.dumps({"owner": "Jürgen", "log": PACKED}, ensure_ascii=False).encode(),
    "json_utf16": json.dumps({"owner": "Jürgen", "log": PACKED}).encode("utf-16"),
    "json_lines": b'{"a": 1}\n' + json.dumps({"log": PACKED}).encode() + b"\n",
    "xml": b"<Host><EventLog>" + base64.encodebytes(LOG) + b"</EventLog></Host>",
    "yaml": b"eventlog: |\n" + b"".join(b"  " + r + b"\n" for r in base64.encodebytes(LOG).splitlines()),
    "armour": b"-----BEGIN LOG-----\n" + base64.encodebytes(LOG) + b"-----END LOG-----\n",
    "another_kind_of_file": b"\x93\x01\x02\xc4" * 30 + LOG,
}


@pytest.mark.parametrize("name", HELD)
def test_log_is_found_in_what_holds_it(name: str) -> None:
    log = read_event_log(HELD[name])
    assert log.complete, log.problems
    assert log.replay() == PLAIN.replay()
    assert len(log.events) == len(PLAIN.events)


@pytest.mark.parametrize("command", [["xxd"], ["hexdump", "-C"], ["od", "-A", "x", "-t", "x1z"]])
@pytest.mark.parametrize("size", [len(LOG), 19_001])
def test_dump_of_a_program_is_the_log(tmp_path: Path, command: list[str], size: int) -> None:
    tools(command[0])
    path = tmp_path / "log"
    path.write_bytes(LOG[:size] + bytes(160 if size == len(LOG) else 0))
    dumped = subprocess.run([*command, str(path)], capture_output=True, check=True).stdout
    log = read_event_log(dumped)
    assert [event.data for event in log.events] == [
        event.data for event in PLAIN.events if event.data_offset + len(event.data) <= size
    ]


def test_table_that_acpidump_printed_is_the_table() -> None:
    table = bytearray(b"CCEL" + struct.pack("<I", 56) + b"\x01\x00" + b"VENDOR" + b"TABLEID " + bytes(12))
    table += bytes([2, 0, 0, 0]) + struct.pack("<QQ", 65536, 0x7F00_0000)
    table[9] = -sum(table) % 256
    log = read_event_log(acpidump(bytes(table)))
    assert log.set == "cc"
    assert "0x7f000000" in log.problems[0].message


def test_txt_container_ends_where_it_says() -> None:
    log = read_event_log(txt_container(OLD) + b"\xcc" * 200)
    assert log.complete
    assert log.replay() == PLAIN_OLD.replay()
    assert [event.offset - 48 for event in log.events] == [event.offset for event in PLAIN_OLD.events]


@pytest.mark.parametrize("behind", [0, 47, 1 << 31])
def test_txt_container_of_offsets_outside_it_says_so(behind: int) -> None:
    log = read_event_log(txt_container(OLD, behind=behind))
    assert log.problems[0].field == "NextEventOffset"
    assert not log.complete


def test_attestation_blob_of_tpm_1_2_has_an_old_log() -> None:
    log = read_event_log(attestation_blob(OLD, magic=b"PADS"))
    assert log.complete
    assert log.replay() == PLAIN_OLD.replay()


def test_cut_attestation_blob_keeps_the_events_before() -> None:
    log = read_event_log(attestation_blob(LOG)[:-100])
    assert len(log.events) == len(PLAIN.events) - 1
    assert [problem.fatal for problem in log.problems] == [False, True]


def test_final_events_table_has_the_banks_of_its_events() -> None:
    """TCG EFI Protocol 1.0, section 7: version, number, TCG_PCR_EVENT2."""
    at = PLAIN.events[40].offset
    count = len(PLAIN.events) - 40
    log = read_event_log(struct.pack("<QQ", 1, count) + LOG[at:])
    assert log.complete
    assert log.banks == ("sha1", "sha256", "sha384")
    assert [event.data for event in log.events] == [event.data for event in PLAIN.events[40:]]
    wrong = read_event_log(struct.pack("<QQ", 1, count + 1) + LOG[at:])
    assert wrong.problems[0].field == "NumberOfEvents"


def test_big_endian_log_is_the_same_log() -> None:
    log = read_event_log(big_endian(OLD))
    assert log.replay() == PLAIN_OLD.replay()
    assert [(e.offset, e.register, e.type, e.data) for e in log.events] == [
        (e.offset, e.register, e.type, e.data) for e in PLAIN_OLD.events
    ]


@pytest.mark.parametrize("cut", [1000, 1001, 1002, 1003])
@pytest.mark.parametrize("make", [base64.b64encode, lambda log: log.hex().encode()], ids=["base64", "hex"])
def test_cut_text_keeps_the_events_before(make: object, cut: int) -> None:
    assert callable(make)
    log = read_event_log(make(LOG)[:-cut])
    assert len(log.events) in (55, 56, 57, 58, 59)
    assert not log.complete


def test_cut_json_keeps_the_events_before() -> None:
    log = read_event_log(json.dumps({"TcgLogs": PACKED}).encode()[:-1000])
    assert len(log.events) > 50
    assert not log.complete


@pytest.mark.parametrize(
    "text", [b"[" + b"[]," * 4_000_000 + b"0]", b'[{"a":1}' + b',{"a":1}' * 3_000_000 + b"]"]
)
def test_json_that_would_swell_is_not_read(text: bytes) -> None:
    assert json_cost(text) is None
    assert not read_event_logs(text)[0].events


def test_json_of_a_large_log_is_read() -> None:
    assert json_cost(json.dumps({"log": "A" * 40_000_000}).encode()) is not None


HOSTILE = {
    "txt_header_alone": b"TXT Event Container\0" + b"\xff" * 28,
    "attestation_sizes_maximum": b"PAD2" + b"\xff" * 60,
    "final_events_of_nothing": struct.pack("<QQ", 1, 9) + b"\x11" * 64,
    "dump_of_offsets_that_jump": b"00000000  " + b"00 " * 16 + b"\n*\nffffff00  " + b"00 " * 16 + b"\n" * 2,
    "many_dump_titles": b"title\n" * 100_000,
    "quoted_backslashes": b'"' + b"\\x" * 200_000 + b'"',
    "open_quotes": b'"\\0' * 100_000,
    "escaped_line_ends": b"A\\n" * 200_000 + b"!",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_containers_hold_no_log(name: str) -> None:
    log = read_event_log(HOSTILE[name])
    assert not log.events
    assert not log.complete
