from __future__ import annotations

import contextlib
import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.gpt import parse_gpt_event

DISK = uuid.UUID("11111111-2222-4333-8444-5555aaaa0001")
PART = uuid.UUID("11111111-2222-4333-8444-5555aaaa0002")
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


def entry(name: str = "EFI", size: int = 128) -> bytes:
    fields = ESP.bytes_le + PART.bytes_le + struct.pack("<QQQ", 0x800, 0x3C7FF, 1)
    return (fields + name.encode("utf-16-le").ljust(72, b"\0")).ljust(size, b"\xee")


def event(
    entries: bytes = b"", *, count: int = 0, size: int = 128, magic: bytes = b"EFI PART", pad: bytes = b""
) -> bytes:
    header = magic + struct.pack("<IIIIQQQQ", 0x10000, 92, 0xC0FFEE, 0, 1, 0x3FFFF, 0x22, 0x3FFDE)
    header += DISK.bytes_le + struct.pack("<QIII", 2, 128, size, 0xBBA53E99)
    assert len(header) == 92
    return header + pad + struct.pack("<Q", count) + entries


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("pad", [b"", bytes(4)], ids=["packed", "header_padded_to_96"])
def test_partitions(size: int, pad: bytes) -> None:
    """UEFI 2.10, section 5.3, by hand; some firmware pads the header from 92 to 96 bytes."""
    result = parse_gpt_event(
        Cursor(event(entry(size=size) + entry("second", size), count=2, size=size, pad=pad))
    )
    assert result.disk_guid == DISK
    assert (result.header.revision, result.header.header_size, result.header.header_crc32) == (
        0x10000,
        92,
        0xC0FFEE,
    )
    assert (result.header.first_usable_lba, result.header.last_usable_lba) == (0x22, 0x3FFDE)
    assert result.header.partition_entry_array_crc32 == 0xBBA53E99
    first, second = result.partitions
    assert (first.type_name, first.unique_guid, first.name) == ("EFI system partition", PART, "EFI")
    assert (first.first_lba, first.last_lba, first.attributes) == (0x800, 0x3C7FF, 1)
    assert second.name == "second"
    assert result.trailing == b""


def test_no_partitions_and_trailing_bytes() -> None:
    result = parse_gpt_event(Cursor(event() + b"\0"))
    assert (result.partitions, result.trailing) == ((), b"\0")


def test_most_partitions() -> None:
    assert len(parse_gpt_event(Cursor(event(entry() * 1024, count=1024))).partitions) == 1024


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (b"", 0),
        (event()[:91], 88),
        (event()[:92], 92),
        (event(magic=b"EFI_PART"), 0),
        (event(count=1), 100),
        (event(entry()[:-1], count=1), 100),
        (event(entry() * 1025, count=1025), 92),
        (event(count=2**64 - 1), 92),
        (event(entry(), count=1, size=0), 84),
        (event(entry(), count=1, size=1), 84),
        (event(entry(), count=1, size=120), 84),
        (event(entry(), count=1, size=132), 84),
        (event(entry(), count=1, size=4104), 84),
        (event(entry(), count=1, size=2**32 - 1), 84),
    ],
    ids=[
        "empty", "header_cut_short", "count_missing", "magic_wrong", "entry_missing", "entry_cut_short",
        "too_many",
        "count_max", "entry_size_zero", "entry_size_one", "entry_size_too_small", "entry_size_uneven",
        "entry_size_too_large", "entry_size_max",
    ],
)  # fmt: skip
def test_malformed(raw: bytes, offset: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_gpt_event(Cursor(raw))
    assert caught.value.offset == offset


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 5), st.integers(0, 400))
def test_never_crashes(tail: bytes, count: int, size: int) -> None:
    for raw in (tail, event(tail, count=count, size=size)):
        with contextlib.suppress(CvmlabError):
            parse_gpt_event(Cursor(raw))
