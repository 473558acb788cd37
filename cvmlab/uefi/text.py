"""Decode text inside evidence: total functions, never an exception, nothing escaped."""

from __future__ import annotations


def decode_utf16(data: bytes) -> str:
    """Return UTF-16LE text; lone surrogates and an odd last byte become U+FFFD. NULs are kept."""
    return data.decode("utf-16-le", errors="replace")


def decode_utf8(data: bytes) -> str:
    """Return UTF-8 text; bytes that are not UTF-8 become U+FFFD. NULs are kept."""
    return data.decode("utf-8", errors="replace")


def until_nul(text: str) -> str:
    """Return the text before the first NUL, which is all that firmware reads of a C string."""
    return text.partition("\0")[0]


def short_hex(data: bytes, limit: int = 128) -> str:
    """Return lower-case hex of at most `limit` bytes, with ``...`` where bytes were left out."""
    return data.hex() if len(data) <= limit else data[:limit].hex() + "..."
