from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.imageload import parse_image_load

PATH = bytes.fromhex("0101060000017fff0400")


def image(path: bytes = PATH, *, size: int | None = None) -> bytes:
    return struct.pack("<QQQQ", 0x1000, 0x200, 0x40, len(path) if size is None else size) + path


def test_fields() -> None:
    """TCG PFP 1.06, section 10.2.3, by hand."""
    result = parse_image_load(Cursor(image()))
    assert (result.location, result.length, result.link_time_address) == (0x1000, 0x200, 0x40)
    assert (result.device_path.text, result.trailing) == ("Pci(0x1,0x0)", b"")


def test_image_loaded_from_memory_has_no_path() -> None:
    assert parse_image_load(Cursor(image(b""))).device_path.text == ""


def test_trailing_bytes_are_reported_wherever_they_are() -> None:
    assert parse_image_load(Cursor(image(PATH + b"in", size=len(PATH) + 2) + b"out")).trailing == b"inout"


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (b"", 0),
        (image()[:31], 24),
        (image(size=len(PATH) + 1), 32),
        (image(size=1 << 16), 32),
        (image(size=(1 << 16) + 1), 24),
        (image(size=2**64 - 1), 24),
        (image(size=1), 33),
        (image(PATH[:6]), 38),
    ],
    ids=[
        "empty", "header_cut_short", "path_size_past_end", "path_size_at_limit_past_end",
        "path_size_over_limit",
        "path_size_max", "path_size_one", "path_without_end",
    ],
)  # fmt: skip
def test_malformed(raw: bytes, offset: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_image_load(Cursor(raw))
    assert caught.value.offset == offset


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 90))
def test_never_crashes(tail: bytes, size: int) -> None:
    for raw in (tail, image(tail, size=size)):
        with contextlib.suppress(CvmlabError):
            parse_image_load(Cursor(raw))
