"""Bounded reading of the small text files that lie beside a quote: JSON and the output of tpm2-tools."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

from cvmlab.errors import ParseError

MAX_TEXT: Final = 1 << 20
"""Cap for a text file, in bytes: all banks of all registers are some 20 KB."""


def decode_text(data: bytes, *, source: str, limit: int = MAX_TEXT) -> str:
    """Return the UTF-8 text of a small file, without a byte order mark.

    Raises:
        ParseError: It is not UTF-8, or larger than `limit`.
    """
    if len(data) > limit:
        raise ParseError(source, 0, "text", limit, len(data), "more than the limit")
    try:
        return bytes(data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParseError(source, error.start, "text", reason="not UTF-8") from error


def load_json(data: bytes, *, source: str, limit: int = MAX_TEXT) -> object:
    """Return the value of a small JSON file in which no object names a key twice.

    Raises:
        ParseError: It is not JSON (nor is ``NaN``), nests too deeply, repeats a key, or is larger than
            `limit`.
    """
    text = decode_text(data, source=source, limit=limit)

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            twice = Counter(key for key, _ in items).most_common(1)[0][0]
            raise ParseError(source, 0, "json", reason=f"the key {twice[:40]!r} occurs twice in one object")
        return found

    def constant(name: str) -> object:
        raise ParseError(source, 0, "json", reason=f"{name} is no JSON (RFC 8259, section 6)")

    try:
        value: object = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except ParseError:
        raise
    except json.JSONDecodeError as error:
        at = len(text[: error.pos].encode())
        raise ParseError(source, at, "json", reason=error.msg) from error
    except (ValueError, RecursionError) as error:
        raise ParseError(source, 0, "json", reason="a number or a nesting beyond any use") from error
    return value


def hex_bytes(value: object, *, source: str, field: str, offset: int = 0) -> bytes:
    """Return the bytes of a hex string: digits only, in pairs, ``0x`` before them or not.

    Raises:
        ParseError: It is not a string, or not hex.
    """
    if not isinstance(value, str):
        raise ParseError(source, offset, field, reason=f"need a hex string, have {type(value).__name__}")
    digits = value[2:] if value[:2] in ("0x", "0X") else value
    if len(digits) % 2 or not digits.isascii() or not digits.isalnum():
        raise ParseError(source, offset, field, reason="not an even number of hex digits")
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise ParseError(source, offset, field, reason="not hex digits") from error
