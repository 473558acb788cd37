"""Text in event data: recognise it, bound it, put it on one line. Nothing is escaped: views do that."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from cvmlab.uefi.text import decode_utf16, short_hex

MAX_NAME: Final = 512
"""Longest `Payload.name`, in characters."""
MAX_SUMMARY: Final = 300
"""Longest `Payload.summary`, in characters."""
MAX_TEXT: Final = 32 << 10
"""Longest text in `Payload.fields`, in characters."""
MAX_ITEMS: Final = 64
"""Most members of a list in `Payload.fields`; a count beside it tells how many there are."""
MAX_WORDS: Final = 512
"""Most words of a command line in `Payload.fields`."""

_CONTROLS: Final = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) - frozenset("\t\n\r\x1b")
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*(?:"|\Z))+')
_LINE_BREAKS: Final = str.maketrans(dict.fromkeys("\n\r\t\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))


def bounded_name(text: str) -> str:
    """Return `text` cut to `MAX_NAME` characters."""
    return text[:MAX_NAME]


def one_line(text: str) -> str:
    """Return `text` on one line of at most `MAX_SUMMARY` characters; line breaks become spaces."""
    line = text[: MAX_SUMMARY + 1].translate(_LINE_BREAKS)
    return line if len(line) <= MAX_SUMMARY else line[: MAX_SUMMARY - 1] + "…"


def summary_hex(data: bytes) -> str:
    """Return a line for bytes that nothing is known of."""
    return f"{len(data)} bytes: {short_hex(data, 32)}" if data else "no data"


def byte_text(data: bytes) -> str | None:
    """Return the text before the first NUL if the data are UTF-8 text, else None.

    Bytes behind the NUL are ignored as the programs that write such events ignore them: some log the
    terminator, some a byte of whatever follows it.
    """
    head = data.partition(b"\0")[0]
    if not head:
        return None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.intersection(text) else text


def wide_text(data: bytes) -> str | None:
    """Return the text before the first NUL if the data are UTF-16LE text, else None.

    Almost any bytes are some UTF-16 text, so at least three of four characters must be ASCII. An odd
    last byte is taken for a character whose second byte was cut off, as some boot loaders log it.
    """
    if len(data) < 2 or not 0x09 <= data[0] < 0x7F or data[1]:
        return None
    text = decode_utf16(data + b"\0" if len(data) % 2 else data).partition("\0")[0]
    if not text or _CONTROLS.intersection(text) or "\ufffd" in text:
        return None
    ascii_count = len(text.encode("ascii", errors="ignore"))
    return text if 4 * ascii_count >= 3 * len(text) else None


def any_text(data: bytes) -> str | None:
    """Return the text of data that are UTF-16LE or UTF-8 text, else None."""
    wide = wide_text(data)
    return byte_text(data) if wide is None else wide


def plural(count: int, noun: str) -> str:
    """Return such as ``1 entry`` or ``2 entries``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def split_words(text: str) -> list[str]:
    """Return the words of a command line, at most `MAX_WORDS`."""
    return text[:MAX_TEXT].split(maxsplit=MAX_WORDS)[:MAX_WORDS]


def kernel_words(text: str) -> list[str]:
    """Return the words of a kernel's command line, at most `MAX_WORDS`, with their quotes.

    White space between double quotes does not end a word, and a quote left open holds the rest
    (Linux, lib/cmdline.c, next_arg).
    """
    return [found.group() for found in islice(_WORD.finditer(text[:MAX_TEXT]), MAX_WORDS)]
