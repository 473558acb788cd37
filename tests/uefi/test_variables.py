from __future__ import annotations

import contextlib
import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.variables import parse_variable

GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


def variable(
    name: bytes = b"", data: bytes = b"", *, name_length: int | None = None, data_length: int | None = None
) -> bytes:
    lengths = struct.pack(
        "<QQ",
        len(name) // 2 if name_length is None else name_length,
        len(data) if data_length is None else data_length,
    )
    return GLOBAL + lengths + name + data


def test_secure_boot_variable() -> None:
    """TCG PFP 1.06 section 10.2.6, built by hand; placed at offset 100 of its source."""
    raw = variable("SecureBoot".encode("utf-16-le"), b"\x01")
    result = parse_variable(Cursor(raw, base=100))
    assert result.guid == uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
    assert (result.name, result.data, result.trailing) == ("SecureBoot", b"\x01", b"")
    assert (result.name_offset, result.data_offset) == (132, 152)


def test_empty_name_and_data() -> None:
    result = parse_variable(Cursor(variable()))
    assert (result.name, result.data) == ("", b"")


def test_trailing_bytes_are_reported() -> None:
    assert parse_variable(Cursor(variable(b"S\0", b"\x01") + b"\xaf")).trailing == b"\xaf"


def test_name_with_nul_is_not_the_plain_name() -> None:
    assert parse_variable(Cursor(variable(b"d\0b\0\0\0"))).name == "db\0"


def test_lone_surrogate_in_name_is_printable_text() -> None:
    name = parse_variable(Cursor(variable(b"\x00\xd8A\0"))).name
    assert name == "�A"
    name.encode()


@pytest.mark.parametrize("length", [1024, 1025, 2**31, 2**63, 2**64 - 1])
def test_name_length_past_end_or_limit(length: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_variable(Cursor(variable(name_length=length)))
    assert caught.value.offset == (32 if length == 1024 else 16)


@pytest.mark.parametrize("length", [1, 1 << 20, (1 << 20) + 1, 2**64 - 1])
def test_data_length_past_end_or_limit(length: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_variable(Cursor(variable(data_length=length)))
    assert caught.value.offset == (32 if length <= 1 << 20 else 24)


def test_longest_name_and_data_are_read() -> None:
    result = parse_variable(Cursor(variable(b"A\0" * 1024, bytes(1 << 20))))
    assert (len(result.name), len(result.data)) == (1024, 1 << 20)


@pytest.mark.parametrize("size", range(35))
def test_cut_short(size: int) -> None:
    raw = variable(b"S\0", b"\x01")
    with pytest.raises(ParseError):
        parse_variable(Cursor(raw[:size] if size < len(raw) else raw[:-1]))


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_never_crashes(data: bytes, with_guid: bool) -> None:
    with contextlib.suppress(CvmlabError):
        parse_variable(Cursor(GLOBAL + data if with_guid else data))
