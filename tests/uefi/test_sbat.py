from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.sbat import SbatEntry, parse_sbat_level


@pytest.mark.parametrize("end", ["", "\n", "\n\0", "\r\n"])
def test_level_of_shim(end: str) -> None:
    """Origin: SbatLevel_Variable.txt of rhboot/shim, level 2025021800."""
    raw = ("sbat,1,2025021800\nshim,4\ngrub,5" + end).encode()
    assert parse_sbat_level(Cursor(raw)) == (
        SbatEntry("sbat", 1, "2025021800"),
        SbatEntry("shim", 4),
        SbatEntry("grub", 5),
    )


def test_no_bytes_give_no_entries() -> None:
    assert parse_sbat_level(Cursor(b"")) == ()


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (b"sbat,1,2025021800\nshim", 18),
        (b"shim,", 0),
        (b",1", 0),
        (b"shim,-1", 0),
        (b"shim,1.5", 0),
        (b"shim, 1", 0),
        (b"shim,0x4", 0),
        ("shim,²".encode(), 0),
        ("shim,\u0664".encode(), 0),
        (b"shim,1234567890", 0),
        (b"shim,4\nshim,1", 7),
        (b"shim,\xff", 0),
    ],
    ids=[
        "generation_missing", "generation_empty", "component_empty", "generation_negative",
        "generation_fraction",
        "generation_spaced", "generation_hex", "generation_superscript", "generation_arabic_digit",
        "generation_too_long", "component_twice", "not_utf8",
    ],
)  # fmt: skip
def test_malformed(raw: bytes, offset: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_sbat_level(Cursor(raw, base=40))
    assert caught.value.offset == 40 + offset


def test_more_bytes_or_components_than_the_limit() -> None:
    with pytest.raises(ParseError):
        parse_sbat_level(Cursor(b"\n" * ((1 << 16) + 1)))
    lines = [f"c{number},1" for number in range(1025)]
    assert len(parse_sbat_level(Cursor("\n".join(lines[:1024]).encode()))) == 1024
    with pytest.raises(ParseError):
        parse_sbat_level(Cursor("\n".join(lines).encode()))


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=100), st.text("sbat,0123456789\n", max_size=60).map(str.encode)))
def test_never_crashes(raw: bytes) -> None:
    with contextlib.suppress(CvmlabError):
        parse_sbat_level(Cursor(raw))
