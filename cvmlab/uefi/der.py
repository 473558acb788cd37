"""DER, as far as PKCS#7 signatures need it (ITU-T X.690): strict, definite lengths only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvmlab.errors import ParseError

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
MAX_ITEMS: Final = 4096


@dataclass(frozen=True, slots=True)
class Der:
    """One element.

    Attributes:
        tag: Identifier octet; tags above 30 are refused.
        body: Contents.
        whole: The element with identifier and length.
        offset: Absolute offset in its source.
        head: Bytes of identifier and length.
    """

    tag: int
    body: bytes
    whole: bytes
    offset: int
    head: int


def read(data: bytes, *, source: str, base: int = 0) -> tuple[Der, int]:
    """Read one element; return it and the offset behind it in `data`.

    Raises:
        ParseError: Cut, an indefinite or not minimal length, or a long tag.
    """
    if len(data) < 2:
        raise ParseError(source, base, "DER", 2, len(data), "cut")
    if data[0] & 0x1F == 0x1F:
        raise ParseError(source, base, "DER", reason="a long tag")
    first = data[1]
    head, size = 2, first
    if first & 0x80:
        width = first & 0x7F
        if not 1 <= width <= 4 or len(data) < 2 + width:
            raise ParseError(source, base + 1, "DER.length", reason="indefinite, or too long")
        head = 2 + width
        size = int.from_bytes(data[2:head], "big")
        if size < 0x80 or data[2] == 0:
            raise ParseError(source, base + 1, "DER.length", reason="not minimal")
    end = head + size
    if end > len(data):
        raise ParseError(source, base, "DER", end, len(data), "cut")
    return Der(data[0], data[head:end], data[:end], base, head), end


def one(data: bytes, tag: int, field: str, *, source: str, base: int = 0) -> Der:
    """Read one element of a tag that fills `data`.

    Raises:
        ParseError: Another tag, or bytes behind it.
    """
    found, end = read(data, source=source, base=base)
    if found.tag != tag:
        raise ParseError(source, base, field, reason=f"tag 0x{found.tag:02x}, need 0x{tag:02x}")
    if end != len(data):
        raise ParseError(source, base + end, field, end, len(data), "bytes follow it")
    return found


def children(element: Der, *, source: str) -> list[Der]:
    """Read the elements inside a constructed one.

    Raises:
        ParseError: They do not fill it, or are more than `MAX_ITEMS`.
    """
    found: list[Der] = []
    at, data, base = 0, element.body, element.offset + element.head
    while at < len(data):
        item, size = read(data[at:], source=source, base=base + at)
        found.append(item)
        at += size
        if len(found) > MAX_ITEMS:
            raise ParseError(source, base, "DER", reason=f"more than {MAX_ITEMS} elements")
    return found


def oid(element: Der, field: str, *, source: str) -> str:
    """Return an object identifier as dotted text.

    Raises:
        ParseError: It is none.
    """
    body = element.body
    if element.tag != OBJECT_IDENTIFIER or not body or body[-1] & 0x80 or len(body) > 64:
        raise ParseError(source, element.offset, field, reason="not an object identifier")
    numbers: list[int] = []
    value = 0
    for byte in body:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
