"""Windows' measured boot data: every event id of ``wbcl.h``, its payload form, and damage.

Structures are laid out by hand after the Windows SDK; values of real logs are those of the logs' own bytes.
"""

from __future__ import annotations

import collections
import struct
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.sipa import (
    MAX_DEPTH,
    SipaEvent,
    filetime,
    looks_like_sipa,
    modules,
    parse_sipa,
    settings,
    sipa_types,
    walk,
)
from cvmlab.eventlog.types import EV_EVENT_TAG

if TYPE_CHECKING:
    from pathlib import Path

FORMS = {
    "int": ([b"\x05", b"\x05\0", b"\x05\0\0\0", b"\x05" + bytes(7)], 5),
    "bool": ([b"\x01", b"\x01\0\0\0", b"\x01" + bytes(7)], True),
    "utf16": (["C:\\x".encode("utf-16-le"), "C:\\x\0".encode("utf-16-le")], "C:\\x"),
}
POLICY = struct.pack("<HHHHHHI", 4, 3, 2, 10, 4, 0x800C, 2) + "ab".encode("utf-16-le") + b"\xaa\xbb"
STRUCTURES = {
    "revocation-list": (
        struct.pack("<QIH", 131_575_741_910_000_000, 2, 0x800C) + b"\xaa\xbb",
        {"created": "2017-12-12T17:43:11+00:00", "algorithm": "sha256", "digest": "aabb"},
    ),
    "si-policy": (POLICY, {"version": "10.2.3.4", "name": "ab", "algorithm": "sha256", "digest": "aabb"}),
    "idk": (
        struct.pack("<IIII", 1, 2048, 3, 2) + b"\x01\0\x01" + b"\xaa\xbb",
        {"algorithm": 1, "bits": 2048, "exponent": 65537, "modulus": "aabb"},
    ),
    "sbcp": (
        struct.pack("<IIHHII", 1, 20, 0x800C, 2, 7, 3) + b"\xaa\xbb",
        {"version": 1, "options": 7, "signers": 3, "algorithm": "sha256", "digest": "aabb"},
    ),
    "ksr-signature": (struct.pack("<II", 3, 2) + b"\xaa\xbb", {"algorithm": 3, "signature": "aabb"}),
    "si-policy-signer": (
        struct.pack("<IIHHHH", 6, 10, 1, 4, 5, 2) + b"\xaa",
        {"root": 6, "certificates_size": 10, "certificates": 1, "policy_name_size": 4, "usages_size": 5,
         "usages": 2, "data": "aa"},
    ),
    "checksum": (b"\x02\0\xaa\xbb", {"type": 2, "checksum": "aabb"}),
}  # fmt: skip


def event(number: int, payload: bytes) -> bytes:
    return struct.pack("<II", number, len(payload)) + payload


def one(number: int, payload: bytes) -> SipaEvent:
    (found,), error = parse_sipa(Cursor(event(number, payload), base=100))
    assert error is None
    return found


@pytest.mark.parametrize("number", sorted(sipa_types()), ids=lambda n: f"{n:08x}")
def test_every_event_id_decodes_by_its_form(number: int) -> None:
    kind = sipa_types()[number]
    assert kind.name.startswith("SIPA")
    assert kind.meaning
    if kind.payload == "container":
        inner = one(number, event(0x50003, b"\x01"))
        assert inner.container
        assert [child.value for child in inner.children] == [True]
    elif kind.payload in FORMS:
        payloads, value = FORMS[kind.payload]
        for payload in payloads:
            found = one(number, payload)
            assert (found.value, found.error) == (value, "")
    elif kind.payload in STRUCTURES:
        payload, expected = STRUCTURES[kind.payload]
        assert one(number, payload).value == expected
        cut = one(number, payload[:1])
        assert cut.error
        assert cut.value == payload[:1]
    else:
        assert kind.payload in ("bytes", "digest")
        assert one(number, b"\x01\x02").value == b"\x01\x02"


def test_every_id_of_the_header_is_known() -> None:
    """wbcl.h numbers each class from 1; ids of the classes as azure's documents and the header list them."""
    classes = collections.Counter((number & 0x000F0000) >> 16 for number in sipa_types())
    assert len(sipa_types()) >= 104
    assert {1: 6, 2: 12, 3: 5, 4: 2, 6: 2, 9: 4, 10: 10, 11: 1}.items() <= classes.items()
    assert classes[5] >= 35
    assert classes[7] >= 15


@pytest.mark.parametrize(
    "payload", [b"", b"\1\2\3", bytes(16)], ids=["empty", "three_bytes", "sixteen_bytes"]
)
def test_integer_of_no_width_is_said_and_kept(payload: bytes) -> None:
    found = one(0x20002, payload)
    assert found.error == f"an integer of {len(payload)} bytes"
    assert found.value == payload


def test_text_of_odd_size_is_said_and_kept() -> None:
    found = one(0x50009, b"a\0b")
    assert "odd" in found.error
    assert found.value == b"a\0b"


def test_unknown_id_is_its_number() -> None:
    found = one(0x0005FFFF, b"x")
    assert (found.name, found.value) == ("0x0005ffff", b"x")


@pytest.mark.parametrize(
    ("data", "field", "kept"),
    [
        pytest.param(event(0x50003, b"\1") + b"\1\0\5", "EventID", 1, id="id_cut"),
        pytest.param(event(0x50003, b"\1") + struct.pack("<I", 0x50003), "EventSize", 1, id="size_missing"),
        pytest.param(
            event(0x50003, b"\1") + struct.pack("<II", 0x50001, 9), "EventData", 1, id="size_past_end"
        ),
        pytest.param(struct.pack("<II", 0x50001, 0xFFFFFFFF), "EventData", 0, id="size_maximum"),
        pytest.param(event(0x40010001, event(0x50003, b"\1") + b"\1"), "EventID", 1, id="inner_cut"),
    ],
)
def test_damage_keeps_what_stands_before_it(data: bytes, field: str, kept: int) -> None:
    found, error = parse_sipa(Cursor(data, base=1000))
    assert error is not None
    assert error.field == field
    assert 1000 <= error.offset <= 1000 + len(data)
    assert sum(1 for item in walk(found) if item.id == 0x50003) == kept


def test_nesting_is_bounded() -> None:
    data = event(0x50003, b"\1")
    for _ in range(MAX_DEPTH + 2):
        data = event(0x40010001, data)
    found, error = parse_sipa(Cursor(data))
    assert error is not None
    assert "nest" in error.message
    assert found


def test_a_mebibyte_of_empty_events_and_of_containers_ends_in_a_second() -> None:
    for number in (0x50003, 0x40010001):
        data = event(number, b"") * (1 << 17)
        begin = time.process_time()
        _, error = parse_sipa(Cursor(data))
        assert time.process_time() - begin < 1.0
        assert error is not None
        assert "more than" in error.message


def test_module_is_put_together_from_its_events() -> None:
    inner = (
        event(0x70001, "\\Windows\\x.sys".encode("utf-16-le"))
        + event(0x70003, struct.pack("<I", 0x800C))
        + event(0x70004, b"\xaa" * 32)
        + event(0x70008, "Microsoft Windows".encode("utf-16-le"))
        + event(0x7000A, b"\0")
        + event(0x7000B, struct.pack("<Q", 7))
    )
    found, _ = parse_sipa(Cursor(event(0x40010003, inner)))
    (module,) = modules(found)
    assert (module.path, module.algorithm, module.authenticode) == ("\\Windows\\x.sys", "sha256", "aa" * 32)
    assert (module.validated, module.svn, module.publisher) == (False, 7, "Microsoft Windows")
    assert (module.size, module.thumbprint) == (-1, "")
    assert settings(found) == ()


@pytest.mark.parametrize(
    ("ticks", "text"),
    [
        (0, "1601-01-01T00:00:00+00:00"),
        (131_575_741_910_000_000, "2017-12-12T17:43:11+00:00"),
        (2**64 - 1, ""),
    ],
)
def test_time(ticks: int, text: str) -> None:
    assert filetime(ticks) == text


@given(st.binary(max_size=200))
def test_never_crashes(data: bytes) -> None:
    looks_like_sipa(data)
    found, _ = parse_sipa(Cursor(data))
    modules(found)
    settings(found)


def test_trees_of_real_windows_logs_have_no_undecoded_payload(corpus: Path) -> None:
    names = collections.Counter[str]()
    wrong = []
    for path in sorted((corpus / "eventlogs").rglob("*")):
        if not path.is_file():
            continue
        for entry in read_event_log(path).events:
            value = entry.payload.value
            if isinstance(value, tuple) and value and isinstance(value[0], SipaEvent):
                for item in walk(value):
                    names[item.name] += 1
                    if item.error:
                        wrong.append((path.name, entry.index, item.name, item.error))
    assert wrong == []
    assert names["FILEPATH"] > 400
    assert not [name for name in names if name.startswith("0x")]
    for name in ("BITLOCKER_UNLOCK", "CODEINTEGRITY", "SBCP_INFO", "VSM_IDK_INFO", "BOOT_REVOCATION_LIST"):
        assert names[name], name


@pytest.mark.parametrize(
    ("inner", "called"),
    [
        (event(0x70001, "\\Windows\\x.sys".encode("utf-16-le")), "2 modules (\\Windows\\x.sys, …)"),
        # Windows measures into register 12 modules that have a digest alone
        (event(0x70004, b"\xaa" * 32), "2 modules (known by their digests alone)"),
        (b"", "2 modules (known by their digests alone)"),
    ],
)
def test_summary_of_modules_leaves_no_name_blank(inner: bytes, called: str) -> None:
    tree = event(0x40010001, event(0x40010003, inner) * 2)
    payload = decode(EV_EVENT_TAG, 12, tree)
    assert payload.kind == "windows-boot"
    assert called in payload.summary
