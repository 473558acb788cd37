from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.bootentry import parse_boot_order, parse_load_option

END = bytes.fromhex("7fff0400")
PATH = bytes.fromhex("010106000001") + END


def option(
    description: str = "debian\0", paths: bytes = PATH, optional: bytes = b"", *, size: int | None = None
) -> bytes:
    length = len(paths) if size is None else size
    return struct.pack("<IH", 1, length) + description.encode("utf-16-le") + paths + optional


def test_entry_of_a_measured_boot() -> None:
    """Boot0001 of an OVMF boot. Origin of the path text: libefivar 37."""
    raw = bytes.fromhex(
        "010000001600550045004600490020004d006900730063002000440065007600690063006500000002010c00d041030a0000"
        "0000010106000001"
        "7fff04004eac0881119f594d850ee21a522c59b2"
    )
    entry = parse_load_option(Cursor(raw))
    assert (entry.attributes, entry.description) == (1, "UEFI Misc Device")
    assert entry.device_path.text == "PciRoot(0x0)/Pci(0x1,0x0)"
    assert entry.optional_data == bytes.fromhex("4eac0881119f594d850ee21a522c59b2")
    assert (entry.active, entry.hidden) == (True, False)


def test_several_paths() -> None:
    entry = parse_load_option(Cursor(option(paths=PATH + END + PATH)))
    assert entry.device_path.text == "Pci(0x1,0x0)"
    assert [path.text for path in entry.other_paths] == ["", "Pci(0x1,0x0)"]


def test_no_path_and_empty_description() -> None:
    entry = parse_load_option(Cursor(option("\0", b"", b"args")))
    assert (entry.description, entry.device_path.text, entry.optional_data) == ("", "", b"args")


def test_description_is_read_by_whole_characters() -> None:
    """U+0100 U+0041 holds two zero bytes side by side that are no end."""
    assert parse_load_option(Cursor(option("A\u4100\u0041\0"))).description == "A\u4100A"
    assert parse_load_option(Cursor(option("\u0041\u0100\0"))).description == "A\u0100"


def test_offsets_in_errors_are_absolute() -> None:
    with pytest.raises(ParseError) as caught:
        parse_load_option(Cursor(option(paths=bytes.fromhex("01010000")), base=1000))
    assert caught.value.offset == 1000 + 6 + 14 + 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(5),
        option("no end", b""),
        option("x" * 2049 + "\0"),
        option(size=len(PATH) + 1),
        option(size=0xFFFF),
        option(size=1),
        option(size=len(PATH) - 1),
        option(paths=END * 17),
        struct.pack("<IH", 1, 0) + b"\0",
    ],
    ids=[
        "empty", "header_cut_short", "description_without_end", "description_too_long", "paths_past_end",
        "paths_size_max", "paths_size_one", "paths_cut_short", "too_many_paths", "half_a_character",
    ],
)  # fmt: skip
def test_malformed(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_load_option(Cursor(raw))


def test_longest_description() -> None:
    assert len(parse_load_option(Cursor(option("x" * 2048 + "\0"))).description) == 2048


def test_boot_order() -> None:
    assert parse_boot_order(Cursor(bytes.fromhex("0300010000000200"))) == (3, 1, 0, 2)
    assert parse_boot_order(Cursor(b"")) == ()


@pytest.mark.parametrize("raw", [b"\0", bytes(3), bytes(131_074)], ids=["one_byte", "odd_size", "too_many"])
def test_boot_order_malformed(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_boot_order(Cursor(raw))


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(0, 20), st.binary(max_size=40))
def test_never_crashes(raw: bytes, size: int, tail: bytes) -> None:
    for data in (raw, struct.pack("<IH", 1, size) + b"a\0\0\0" + tail):
        with contextlib.suppress(CvmlabError):
            parse_load_option(Cursor(data))
        with contextlib.suppress(CvmlabError):
            parse_boot_order(Cursor(data))
