"""Hex dumps, as xxd, hexdump -C and acpidump print them: an offset, sixteen bytes, and the bytes as text."""

from __future__ import annotations

import re
from typing import Final

LINE: Final = 16
"""Bytes that a full line shows."""

_LINE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{4,16})[: ] {0,2}([0-9A-Fa-f]{2}.*)")
_BYTES: Final = re.compile(rb"(?:[0-9A-Fa-f]{2})+\Z")


def read_hexdump(text: bytes) -> bytes | None:
    """Return the bytes that a dump shows; None where the text is none.

    Lines before the first line of the dump, such as acpidump's name of the table, are passed over; ``*``
    stands for lines that repeat the one before. Reading ends at the first line that does not follow.
    """
    out = bytearray()
    repeated = False
    for number, line in enumerate(text.splitlines()):
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            if out and line.strip() == b"*":
                repeated = True
            elif out and not re.fullmatch(rb"[ \t]*[0-9A-Fa-f]{4,16}", line.rstrip()):
                break
            elif not out and number > _TITLES:
                return None
            continue
        offset, shown = int(match[1], 16), _shown(match[2])
        if not out and offset:
            return None
        if repeated and len(out) < offset <= len(out) + _MAX_REPEATED:
            out += out[-LINE:] * ((offset - len(out)) // LINE)
        repeated = False
        if offset != len(out) or not shown:
            break
        out += shown
        if len(shown) < LINE:
            break
    return bytes(out) if len(out) >= 2 * LINE else None


_TITLES: Final = 8
_MAX_REPEATED: Final = 1 << 20


def _shown(rest: bytes) -> bytes:
    """Bytes of one line; what stands behind them as text is left out."""
    rest = rest.partition(b"|")[0]
    out = b""
    for gap, word in re.findall(rb"( *)([^ ]+)", rest):
        # two blanks part the text from the bytes, but hexdump -C also has two in the middle
        if (
            not _BYTES.match(word)
            or len(out) + len(word) // 2 > LINE
            or (len(gap) > 1 and len(out) != LINE // 2)
        ):
            break
        out += bytes.fromhex(word.decode("ascii"))
    return out
