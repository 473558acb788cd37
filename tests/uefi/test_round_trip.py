"""Nothing is lost in reading: what was read writes back to the bytes it was read from.

The writers here follow UEFI 2.10 and PFP 1.06 and know nothing of the readers but the values they give.
"""

from __future__ import annotations

import collections
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.producers import DECODERS, cache_clear, decode
from cvmlab.eventlog.producers.linux import TaggedEvent, parse_tagged
from cvmlab.eventlog.sipa import SipaEvent, parse_sipa
from cvmlab.uefi.bootentry import LoadOption, parse_boot_order, parse_load_option
from cvmlab.uefi.devicepath import DevicePath, parse_device_path
from cvmlab.uefi.gpt import UefiGptData
from cvmlab.uefi.imageload import ImageLoadEvent, parse_image_load
from cvmlab.uefi.sbat import parse_sbat_level
from cvmlab.uefi.siglist import SignatureList, parse_signature_lists
from cvmlab.uefi.spdm import CertificateChain, parse_device_security
from cvmlab.uefi.variables import UefiVariable, parse_variable

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

END = b"\x7f\xff\x04\x00"
GUIDS = st.uuids(version=None)
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
BYTES = st.binary(max_size=40)
NAMES = st.text(st.characters(codec="utf-16-le", exclude_characters="\ufffd"), max_size=12)


# --- writers -----------------------------------------------------------------------------------------


def write_variable(value: UefiVariable, *, uintn: str = "Q") -> bytes:
    name = value.name.encode("utf-16-le")
    head = value.guid.bytes_le + struct.pack(f"<{uintn}{uintn}", len(name) // 2, len(value.data))
    return head + name + value.data + value.trailing


def write_lists(lists: tuple[SignatureList, ...], sizes: list[int] | None = None) -> bytes:
    out = b""
    for number, one in enumerate(lists):
        body = one.header + b"".join(s.owner.bytes_le + s.data for s in one.signatures)
        size = 16 + len(one.signatures[0].data) if one.signatures else (sizes or [])[number]
        out += one.type_guid.bytes_le + struct.pack("<III", 28 + len(body), len(one.header), size) + body
    return out


def write_path(value: DevicePath) -> bytes:
    return (
        b"".join(struct.pack("<BBH", n.type, n.subtype, 4 + len(n.data)) + n.data for n in value.nodes) + END
    )


def write_option(value: LoadOption) -> bytes:
    paths = [value.device_path, *value.other_paths] if value.device_path.nodes or value.other_paths else []
    body = b"".join(map(write_path, paths))
    text = value.description.encode("utf-16-le") + b"\0\0"
    return struct.pack("<IH", value.attributes, len(body)) + text + body + value.optional_data


def write_image(value: ImageLoadEvent, path: bytes) -> bytes:
    sizes = (value.location, value.length, value.link_time_address, len(path))
    return struct.pack("<QQQQ", *sizes) + path


def write_sipa(events: tuple[SipaEvent, ...]) -> bytes:
    out = b""
    for event in events:
        body = write_sipa(event.children) if event.container else event.payload
        out += struct.pack("<II", event.id, len(body)) + body
    return out


def write_gpt(value: UefiGptData, *, padded: bool) -> bytes:
    head = value.header
    out = b"EFI PART" + struct.pack("<IIII", head.revision, head.header_size, head.header_crc32, 0)
    out += struct.pack("<QQQQ", head.my_lba, head.alternate_lba, head.first_usable_lba, head.last_usable_lba)
    out += head.disk_guid.bytes_le
    out += struct.pack("<QIII", head.partition_entry_lba, head.number_of_partition_entries,
                       head.size_of_partition_entry, head.partition_entry_array_crc32)  # fmt: skip
    out += bytes(4) if padded else b""
    out += struct.pack("<Q", len(value.partitions))
    for part in value.partitions:
        entry = part.type_guid.bytes_le + part.unique_guid.bytes_le
        entry += struct.pack("<QQQ", part.first_lba, part.last_lba, part.attributes)
        entry += part.name.encode("utf-16-le")
        out += entry.ljust(head.size_of_partition_entry, b"\0")
    return out + value.trailing


# --- made values -------------------------------------------------------------------------------------


@given(GUIDS, NAMES, BYTES, BYTES)
def test_variable(guid: uuid.UUID, name: str, data: bytes, trailing: bytes) -> None:
    raw = write_variable(UefiVariable(guid, name, data, 0, 0, trailing))
    found = parse_variable(Cursor(raw))
    assert (found.guid, found.name, found.data, found.trailing) == (guid, name, data, trailing)
    assert raw[found.data_offset :].startswith(data)


@given(GUIDS, NAMES.filter(bool), st.binary(min_size=1, max_size=40))
def test_variable_of_32_bit_firmware(guid: uuid.UUID, name: str, data: bytes) -> None:
    raw = write_variable(UefiVariable(guid, name, data, 0, 0), uintn="I")
    found = parse_variable(Cursor(raw))
    if found.trailing:
        # as few as possible: where the bytes also make sense as 64-bit lengths, they are taken so
        assert write_variable(found) == raw
        return
    assert (found.guid, found.name, found.data) == (guid, name, data)
    assert found.data_offset == len(raw) - len(data)


ENTRIES = st.lists(st.tuples(GUIDS, st.binary(min_size=9, max_size=9)), min_size=1, max_size=3)


@given(st.lists(st.tuples(GUIDS, st.binary(max_size=8), ENTRIES), max_size=4))
def test_signature_lists(lists: list[tuple[uuid.UUID, bytes, list[tuple[uuid.UUID, bytes]]]]) -> None:
    raw = b"".join(
        kind.bytes_le
        + struct.pack("<III", 28 + len(header) + 25 * len(entries), len(header), 25)
        + header
        + b"".join(owner.bytes_le + data for owner, data in entries)
        for kind, header, entries in lists
    )
    found = parse_signature_lists(Cursor(raw))
    assert write_lists(found) == raw
    assert [one.type_guid for one in found] == [kind for kind, _, _ in lists]
    assert [[(s.owner, s.data) for s in one.signatures] for one in found] == [e for _, _, e in lists]


NODES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 255), st.binary(max_size=60)), max_size=6)


def path_bytes(nodes: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(struct.pack("<BBH", kind, sub, 4 + len(data)) + data for kind, sub, data in nodes) + END


@given(NODES)
def test_device_path(nodes: list[tuple[int, int, bytes]]) -> None:
    raw = path_bytes(nodes)
    found = parse_device_path(Cursor(raw))
    assert write_path(found) == raw
    assert [(n.type, n.subtype, n.data) for n in found.nodes] == nodes


@given(U32, NAMES.filter(lambda t: "\0" not in t), st.lists(NODES.filter(bool), max_size=3), BYTES)
def test_load_option(
    attributes: int, text: str, paths: list[list[tuple[int, int, bytes]]], optional: bytes
) -> None:
    body = b"".join(map(path_bytes, paths))
    raw = struct.pack("<IH", attributes, len(body)) + text.encode("utf-16-le") + b"\0\0" + body + optional
    found = parse_load_option(Cursor(raw))
    assert write_option(found) == raw
    assert (found.attributes, found.description, found.optional_data) == (attributes, text, optional)


@given(st.lists(st.integers(0, 0xFFFF), max_size=40))
def test_boot_order(order: list[int]) -> None:
    assert parse_boot_order(Cursor(struct.pack(f"<{len(order)}H", *order))) == tuple(order)


@given(U64, U64, U64, NODES.filter(bool))
def test_image(location: int, length: int, address: int, nodes: list[tuple[int, int, bytes]]) -> None:
    path = path_bytes(nodes)
    raw = struct.pack("<QQQQ", location, length, address, len(path)) + path
    found = parse_image_load(Cursor(raw))
    assert write_image(found, write_path(found.device_path)) == raw
    assert found.trailing == b""


@given(U64, st.integers(1, 2**24), NODES.filter(bool))
def test_image_of_32_bit_firmware(location: int, length: int, nodes: list[tuple[int, int, bytes]]) -> None:
    path = path_bytes(nodes)
    raw = struct.pack("<QIII", location, length, 0, len(path)) + path
    found = parse_image_load(Cursor(raw))
    assert (found.location, found.length) == (location, length)
    assert write_path(found.device_path) == path


SIPA = st.recursive(
    st.tuples(
        st.sampled_from([0x20001, 0x20002, 0x50001, 0x50009, 0x70004, 0x000FFFFF]), st.binary(max_size=12)
    ),
    lambda inner: st.tuples(st.sampled_from([0x40010001, 0x40010003]), st.lists(inner, max_size=3)),
    max_leaves=8,
)


def sipa_bytes(node: Any) -> bytes:
    number, body = node
    data = b"".join(map(sipa_bytes, body)) if isinstance(body, list) else body
    return struct.pack("<II", number, len(data)) + data


@given(st.lists(SIPA, max_size=4))
def test_sipa_tree(nodes: list[Any]) -> None:
    raw = b"".join(map(sipa_bytes, nodes))
    found, error = parse_sipa(Cursor(raw))
    assert error is None
    assert write_sipa(found) == raw


@given(U32, BYTES, BYTES)
def test_tagged_event(tag: int, data: bytes, trailing: bytes) -> None:
    raw = struct.pack("<II", tag, len(data)) + data + trailing
    assert parse_tagged(Cursor(raw)) == TaggedEvent(tag, data, trailing)


COMPONENTS = st.from_regex(r"[a-z.0-9]{1,12}", fullmatch=True)


@given(
    st.dictionaries(COMPONENTS, st.integers(0, 999_999_999), max_size=6), st.sampled_from(["", "2025021800"])
)
def test_sbat_level(components: dict[str, int], date: str) -> None:
    lines = [f"{name},{number}{',' + date if date else ''}" for name, number in components.items()]
    found = parse_sbat_level(Cursor("\n".join(lines).encode()))
    assert {e.component: e.generation for e in found} == components
    assert all(e.date == (date or None) for e in found)


@given(
    st.integers(0, 255),
    U64,
    NODES,
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 7), BYTES), max_size=4),
)
def test_device_security(
    state: int, uid: int, nodes: list[tuple[int, int, bytes]], blocks: list[tuple[int, int, bytes]]
) -> None:
    sub = struct.pack("<HBBI", 0x12, len(blocks), 0, 4) + b"".join(
        struct.pack("<BBHBH", index, 1, 3 + len(value), kind, len(value)) + value
        for index, kind, value in blocks
    )
    path = path_bytes(nodes)
    raw = (
        b"SPDM Device Sec2"
        + struct.pack("<HBBIIIIQQ", 2, state, 0, 0, 0, 0, len(sub), uid, len(path))
        + path
        + sub
    )
    found = parse_device_security(Cursor(raw))
    assert (found.uid, found.hash_name, found.rest) == (uid, "sha384", b"")
    assert [(m.index, m.value) for m in found.measurements] == [(index, value) for index, _, value in blocks]
    assert found.path is not None
    assert write_path(found.path) == path


@given(BYTES)
def test_certificate_chain_that_holds_none(data: bytes) -> None:
    sub = struct.pack("<HBBIHH", 0x12, 0, 0, 1, 0, 0) + bytes(32) + data
    raw = b"SPDM Device Sec2" + struct.pack("<HBBIIIIQQ", 2, 0, 0, 0, 0, 1, len(sub), 0, 4) + END + sub
    chain = parse_device_security(Cursor(raw)).chain
    assert isinstance(chain, CertificateChain)
    assert chain.rest == data


# --- real events -------------------------------------------------------------------------------------


def _written(event: Any) -> tuple[str, bytes, bytes] | None:
    """Name of the structure, the bytes that its value writes back to, and those it was read from."""
    value, data = event.payload.value, event.data
    if isinstance(value, ImageLoadEvent):
        stated = data[24:32] != bytes(8)
        path = write_path(value.device_path) if value.device_path.nodes or stated else b""
        # bytes behind the path may stand inside its length or behind it: the value does not say which
        head = write_image(value, path)[:24] + data[24:32]
        return "image", head + path + value.trailing, data
    if isinstance(value, UefiGptData):
        padded = (len(data) - 92 - 8) % value.header.size_of_partition_entry != 0
        return "partition table", write_gpt(value, padded=padded), _without_rest_of_names(data, value, padded)
    if isinstance(value, TaggedEvent):
        return "tagged", struct.pack("<II", value.tag, len(value.data)) + value.data + value.trailing, data
    if not isinstance(value, tuple) or not value:
        if isinstance(value, UefiVariable):
            return "variable", write_variable(value), data
        if isinstance(value, LoadOption):
            inner = parse_variable(Cursor(data)).data
            # a list of one path that ends at once reads like an empty list
            only_end = inner[4:6] == b"\4\0" and not value.device_path.nodes
            if only_end:
                inner = inner.replace(b"\4\0", b"\0\0", 1).replace(END, b"", 1)
            return "boot entry", write_option(value), inner
        return None
    if all(isinstance(one, SipaEvent) for one in value):
        return "sipa", write_sipa(value), data
    if all(isinstance(one, SignatureList) for one in value):
        inner = parse_variable(Cursor(data)).data
        return "signature lists", write_lists(value, [16] * len(value)), inner
    return None


def _without_rest_of_names(data: bytes, value: UefiGptData, padded: bool) -> bytes:
    """Firmware leaves what was in memory behind the end of a partition's name; it is no part of the name."""
    out, size = bytearray(data), value.header.size_of_partition_entry
    for number, part in enumerate(value.partitions):
        start = 92 + 4 * padded + 8 + number * size
        name = start + 56 + len(part.name.encode("utf-16-le"))
        out[name : start + 128] = bytes(start + 128 - name)
    return bytes(out)


def test_every_real_event_writes_back_to_its_bytes(corpus: Path, boots: Path) -> None:
    seen, lost = collections.Counter[str](), []
    paths = [*sorted((corpus / "eventlogs").rglob("*")), *sorted(boots.glob("*/eventlog.bin"))]
    for path in paths:
        if not path.is_file():
            continue
        for event in read_event_log(path).events:
            found = _written(event)
            if found is None:
                continue
            seen[found[0]] += 1
            if found[1] != found[2]:
                lost.append((path.name, event.index, found[0]))
    assert lost == []
    assert min(seen[name] for name in ("image", "variable", "boot entry", "signature lists")) > 100
    assert seen["sipa"] > 40
    assert seen["partition table"] > 50


# --- any bytes ---------------------------------------------------------------------------------------

TYPES = sorted({number for number, _ in DECODERS})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TYPES), st.integers(0, 24), st.sampled_from(["tpm", "cc"]), st.binary(max_size=400))
def test_any_bytes_of_any_type_decode_within_limits(kind: int, register: int, set_: str, data: bytes) -> None:
    payload = decode(kind, register, data, set=set_)
    assert len(payload.name) <= 512
    assert len(payload.summary) <= 300
    assert "\n" not in payload.summary


STARTS = (
    b"SPDM Device Sec2" + bytes(16), b"SPDM Device Sec\0" + bytes(12), b"SP800-155 Event3" + bytes(20),
    b"NvIndexDynamic \0" + bytes(16), b"H-CRTM CompMeas\0\1x", b"IntelCSxEEvent01" + bytes(8),
    b"td_payload_info\0", b"\x01\x00\x01\xc0" + b"\xff\xff\xff\x7f", b"EFI PART" + bytes(76) + b"\x80\0\0\0",
)  # fmt: skip


@pytest.mark.parametrize("start", STARTS, ids=range(len(STARTS)))
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x01", b"\x30\x82"], ids=["zeros", "ones", "one", "der"])
def test_a_mebibyte_of_one_thing_decodes_in_a_second(start: bytes, fill: bytes) -> None:
    data = (start + fill * (1 << 20))[: 1 << 20]
    for kind in (3, 6, 0xA, 0x10, 0x414, 0x80000001, 0x80000006, 0x800000E0, 0x800000E1, 0x800000E3):
        cache_clear()
        begin = time.process_time()
        decode(kind, 7, data)
        assert time.process_time() - begin < 1.0, hex(kind)
