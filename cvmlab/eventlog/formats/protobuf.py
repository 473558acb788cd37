"""The wire form of Protocol Buffers: which fields a message has, without knowing its schema.

Source: Protocol Buffers documentation, *Encoding*.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cvmlab.errors import ParseError

MAX_FIELDS: Final = 4096
"""Most fields of one message."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field: its number, its value (an integer, or bytes), and the offset of the value."""

    number: int
    value: int | bytes
    offset: int


def read_message(data: bytes, *, source: str, base: int = 0) -> list[Field]:
    """Return the fields of a message in the order in which they lie there.

    Args:
        data: The message.
        source: What it is, for error messages.
        base: Offset of its first byte in the source.

    Raises:
        ParseError: The bytes are no message to their end, or have more than `MAX_FIELDS` fields.
    """
    at = 0
    found: list[Field] = []
    while at < len(data):
        start = at
        tag, at = _varint(data, at, source, base)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise ParseError(source, base + start, "tag", reason=f"0x{tag:x} starts no field")
        if len(found) >= MAX_FIELDS:
            raise ParseError(
                source, base + start, "message", MAX_FIELDS, len(found) + 1, "more than the limit"
            )
        if kind == _VARINT:
            value, end = _varint(data, at, source, base)
            found.append(Field(number, value, base + at))
            at = end
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind == _BYTES:
            size, at = _varint(data, at, source, base)
        if size > len(data) - at:
            raise ParseError(source, base + at, f"field {number}", size, len(data) - at)
        body = data[at : at + size]
        found.append(Field(number, body if kind == _BYTES else int.from_bytes(body, "little"), base + at))
        at += size
    return found


def _varint(data: bytes, at: int, source: str, base: int) -> tuple[int, int]:
    """Return a varint and the offset behind it: at most ten bytes of seven bits, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ParseError(source, base + at, "varint", 1, 0)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ParseError(source, base + at, "varint", reason="it does not end within ten bytes")
