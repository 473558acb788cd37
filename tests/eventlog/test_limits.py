"""No input costs more than a second a megabyte, nor more memory than four times its size and 64 MB.

Each input is the worst of its format that is known here: the smallest events, records or nodes there can be.
Processor time is measured, so that other work on the machine does not count.
"""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from cvmlab.eventlog.reader import read_event_logs

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 512 << 10
SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le


def event(kind: int, data: bytes, register: int = 7) -> bytes:
    return struct.pack("<II", register, kind) + bytes(range(20)) + struct.pack("<I", len(data)) + data


def behind_first(kind: int, data: bytes, register: int = 7) -> bytes:
    return event(5, b"text") + event(kind, data, register)


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack(">I", len(value)) + value


def variable(name: str, data: bytes) -> bytes:
    return bytes(16) + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def fill(one: bytes) -> bytes:
    return one * (SIZE // len(one))


def spec_id() -> bytes:
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, 4, 20, 0)
    return struct.pack("<II20xI", 0, 3, len(body)) + body


CASES = {
    "old_events": lambda: fill(event(5, b"")),
    "old_variables": lambda: fill(event(0x80000001, variable("db", b""))),
    "agile_events_without_digest": lambda: spec_id() + fill(struct.pack("<IIII", 1, 5, 0, 0)),
    "agile_events": lambda: spec_id() + fill(struct.pack("<IIIH20sI", 1, 5, 1, 4, b"", 0)),
    "starts_behind_damage": lambda: (
        spec_id() + b"\xff" * 32 + fill(struct.pack("<IIIH20sI", 0, 5, 1, 4, b"", 1 << 31))
    ),
    "logs_of_no_event": lambda: fill(spec_id()),
    "signatures": lambda: behind_first(
        0x80000001, variable("dbx", SHA256 + struct.pack("<III", 28 + 48 * 9000, 0, 48) + bytes(48 * 9000))
    ),
    "signature_lists": lambda: behind_first(
        0x80000001, variable("dbx", fill(SHA256 + struct.pack("<III", 45, 0, 17) + bytes(17)))
    ),
    "device_path_nodes": lambda: behind_first(
        0x80000003, struct.pack("<QQQQ", 0, 0, 0, SIZE) + fill(b"\x04\x03\x04\0"), 4
    ),
    "windows_events": lambda: behind_first(
        6, struct.pack("<II", 0x40010001, SIZE) + fill(struct.pack("<II", 0x10009, 0)), 13
    ),
    "canonical_records": lambda: fill(tlv(0, b"\0") + tlv(1, b"\1") + tlv(3, b"") + tlv(5, b"")),
    "canonical_cbor": lambda: b"\x9f" + fill(b"\xa3\0\0\1\1\3\x80"),
    "canonical_json": lambda: json.dumps([{"pcr": 1, "digests": []}] * (SIZE // 26)).encode(),
    "canonical_json_damaged": lambda: b'[{"pcr":1,"digests":[]}' + fill(b',{"a":{"a":'),
    "systemd_records": lambda: fill(b'\x1e{"pcr":1,"digests":[]}\n'),
    "systemd_damage": lambda: fill(b"\x1e{\n"),
    "ima_entries": lambda: fill(
        struct.pack("<I", 10) + b"\1" * 20 + struct.pack("<I", 3) + b"ima" + bytes(20) + b"\1\0\0\0x"
    ),
    "ima_lines": lambda: fill(b"10 " + b"ab" * 20 + b" ima-ng sha1:" + b"ab" * 20 + b" /x\n"),
    "base64_of_events": lambda: base64.b64encode(fill(event(5, b""))),
    "strings": lambda: json.dumps(["A" * 44] * (SIZE // 48)).encode(),
    "runs": lambda: fill(b"A" * 64 + b"!"),
    "escapes": lambda: fill(b'"' + b"\\x41" * 40 + b'" '),
    "dump": lambda: b"".join(b"%08x: %s\n" % (16 * n, b"0000 " * 8) for n in range(SIZE // 50)),
    "registry": lambda: b"Windows Registry Editor Version 5.00\r\n" + fill(b'"WBCL"=hex:00,\\\r\n'),
}


@pytest.mark.parametrize("name", CASES)
def test_time_stays_within_its_limit(name: str) -> None:
    data = CASES[name]()
    read_event_logs(data[:4096])
    limit = len(data) / (1 << 20)
    # a busy machine makes one reading slow, a reader that is too slow makes all of them so
    for _ in range(3):
        start = time.process_time()
        logs = read_event_logs(data)
        spent = time.process_time() - start
        assert logs
        del logs
        if spent < limit:
            return
    raise AssertionError(f"{name}: {spent:.2f} s, limit {limit:.2f} s")


GROWN = """
import resource, sys
from cvmlab.eventlog.reader import read_event_logs
import cvmlab.eventlog.formats.recognise, cvmlab.uefi.certificates
data = open(sys.argv[1], "rb").read()
read_event_logs(data[:4096])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(log,) = read_event_logs(data)
print(len(log.events), 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""

MANY = {
    "variables": lambda n: event(0x80000001, variable("db", struct.pack("<I", n))),
    "windows_trees": lambda n: event(
        6, struct.pack("<II", 0x40010001, 96) + struct.pack("<III", 0x50001, 4, n) * 8, 13
    ),
}


@pytest.mark.parametrize("name", MANY)
def test_log_of_as_many_events_as_are_read_stays_within_its_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(map(MANY[name], range(33_000))))
    done = subprocess.run(
        [sys.executable, "-c", GROWN, str(path)], capture_output=True, text=True, check=True
    )
    events, grown = map(int, done.stdout.split())
    assert events == 32_768
    assert grown < 4 * path.stat().st_size + (64 << 20)


def test_data_beyond_what_is_decoded_stay_bytes_and_are_checked() -> None:
    one = event(0x80000007, b"x" * 1000, 5)
    (log,) = read_event_logs(one * 1500)
    assert log.complete
    assert [problem.field for problem in log.problems] == ["eventData"]
    assert log.events[0].payload.kind != "unknown"
    assert log.events[-1].payload.kind == "unknown"
    assert log.events[-1].data == b"x" * 1000
