"""The registry, the cache, and what no bytes may do to `decode`."""

from __future__ import annotations

import json
import struct
import uuid

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cvmlab.eventlog.kinds import KINDS
from cvmlab.eventlog.model import Invalid, Opaque
from cvmlab.eventlog.producers import (
    DECODERS,
    MAX_CACHED_DATA,
    PRODUCERS,
    cache_clear,
    cache_size,
    decode,
)
from cvmlab.eventlog.producers.registry import decoder
from cvmlab.eventlog.types import EVENT_TYPES

_HINTS = (
    b"grub_cmd: ", b"kernel_cmdline: ", b"MokList\0", b"Spec ID Event03\0", b"StartupLocality\0",
    b"SP800-155 Event\0", b"EFI PART", b"(hd0)/vmlinuz", b"grub_cmd \n\r\xe2\x80\xa8", b"sbat,1,2\n",
    bytes.fromhex("ec223b8f"), bytes.fromhex("2a58bcf5"), b"\x01\0\1@", b".\0l\0i\0", b"UUID: ",
    uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23").bytes_le,
    uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le,
    uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le,
    uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le,
)  # fmt: skip
_NAMES = (
    "SecureBoot",
    "PK",
    "db",
    "dbx",
    "BootOrder",
    "Boot0001",
    "SbatLevel",
    "MokListRT",
    "MokSBState",
    "Shim",
)


def _variables() -> st.SearchStrategy[bytes]:
    def build(guid: bytes, name: str, data: bytes, extra: int) -> bytes:
        text = name.encode("utf-16-le")
        return guid + struct.pack("<QQ", len(text) // 2, max(0, len(data) + extra)) + text + data

    lists = st.builds(
        lambda guid, sizes, rest: guid + struct.pack("<III", *sizes) + rest,
        st.sampled_from(_HINTS[-1:]),
        st.tuples(*[st.sampled_from([0, 1, 15, 16, 28, 44, 0xFFFFFFFF])] * 3),
        st.binary(max_size=80),
    )
    return st.builds(
        build,
        st.sampled_from(_HINTS[-4:]),
        st.sampled_from(_NAMES),
        st.one_of(st.binary(max_size=200), lists),
        st.sampled_from([0, 0, 0, 1, -1, 2**40]),
    )


_DATA = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda parts: b"".join(parts), st.lists(st.one_of(st.sampled_from(_HINTS), st.binary(max_size=40)))
    ),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(max_size=200).map(lambda text: text.encode("utf-16-le", "surrogatepass")),
    _variables(),
)


@pytest.mark.parametrize("event_type", [*sorted(EVENT_TYPES), 0x501, 0xFFFFFFFF])
@settings(max_examples=40, deadline=None)
@example(data=b"grub_cmd ", register=8, registers="tpm")
@given(data=_DATA, register=st.integers(0, 24), registers=st.sampled_from(["tpm", "cc"]))
def test_no_bytes_make_any_type_fail(event_type: int, data: bytes, register: int, registers: str) -> None:
    payload = decode(event_type, register, data, set=registers, source="hostile", base=32)
    assert payload.producer in (*PRODUCERS, "unknown")
    assert payload.kind in KINDS
    assert payload.relation in ("data", "outside", "unknown")
    assert len(payload.name) <= 512
    assert len(payload.summary) <= 300
    assert len(payload.summary.splitlines()) <= 1
    assert payload.summary
    json.dumps(payload.fields).encode()
    (payload.name + payload.summary).encode()
    assert all(isinstance(value, bytes) for _, value in payload.candidates)
    if payload.relation == "data":
        assert payload.candidates
    if event_type == 3:
        assert payload.candidates == ()


@pytest.mark.parametrize(
    "unit", [b"A", b"a ", b"\n", b"a\0", b"\xc3\xa9", b"sbat,1\n", b"(", b"\x04\x04\x04\x00"]
)
@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_long_data_give_bounded_texts(event_type: int, unit: bytes) -> None:
    for prefix in (b"", b"grub_cmd: ", b"kernel_cmdline: "):
        payload = decode(event_type, 8, prefix + unit * (300_000 // len(unit)))
        assert len(payload.name) <= 512
        assert len(payload.summary) <= 300
        assert len(json.dumps(payload.fields)) <= 400_000


def test_registry_is_complete_and_read_only() -> None:
    assert len(DECODERS) >= 30
    assert all(producer in PRODUCERS for _, producer in DECODERS)
    assert all(entry.kind in KINDS for entry in DECODERS.values())
    with pytest.raises(TypeError):
        DECODERS[(0, "grub")] = None  # type: ignore[index]
    with pytest.raises(RuntimeError):
        decoder("grub", 0x99, kind="unknown")(lambda event: None)


def test_unknown_type_is_opaque() -> None:
    payload = decode(0x12345678, 3, b"\x01\x02")
    assert payload.value == Opaque(b"\x01\x02")
    assert (payload.producer, payload.kind, payload.relation) == ("unknown", "unknown", "unknown")
    assert decode(0x402, 17, b"").kind == "drtm"


def test_equal_events_are_decoded_once() -> None:
    cache_clear()
    first = decode(0xD, 8, b"grub_cmd: ls\0", source="a", base=100)
    assert decode(0xD, 8, b"grub_cmd: ls\0", source="b", base=900) is first
    assert decode(0xD, 9, b"grub_cmd: ls\0") is not first
    assert decode(0xD, 8, b"grub_cmd: ls\0", set="cc") is not first


def test_offsets_inside_values_are_those_of_the_log_at_hand() -> None:
    data = _HINTS[-3] + struct.pack("<QQ", 1, 1) + b"X\0" + b"\1"
    for base in (100, 5000):
        assert decode(0x80000001, 1, data, base=base).value.data_offset == base + 34


def test_error_names_the_log_at_hand() -> None:
    for source in ("a.bin", "b.bin"):
        payload = decode(0x80000008, 0, b"\1\2\3\4", source=source, base=64)
        assert isinstance(payload.value, Invalid)
        assert payload.value.error.source == source


def test_cache_is_bounded_in_entries_and_bytes() -> None:
    cache_clear()
    for index in range(9000):
        decode(0xD, 8, b"grub_cmd: set a=%d\0" % index)
    assert cache_size()[0] <= 8192
    for index in range(200):
        decode(0xD, 8, b"grub_cmd: %d " % index + b"x" * 50_000)
    assert cache_size()[1] <= 4 << 20
    cache_clear()
    decode(0xD, 8, b"x" * (MAX_CACHED_DATA + 1))
    assert cache_size() == (0, 0)
