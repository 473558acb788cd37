"""The TPM's clock as ``tpm2_readclock`` prints it: unsigned text, a claim."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cvmlab.errors import ParseError
from cvmlab.tpm.strict import decode_text

_LINE: Final = re.compile(r"[ ]*(time|clock_info|clock|reset_count|restart_count|safe)[ ]*:[ ]*(\S*)[ ]*\r?")
_LIMITS: Final = {"time": 1 << 64, "clock": 1 << 64, "reset_count": 1 << 32, "restart_count": 1 << 32}
_SAFE: Final = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class ClockReading:
    """TPMS_TIME_INFO (TPM 2.0 Part 2, 10.11.6), unsigned: the quote's own clock outranks it.

    Attributes:
        time: Milliseconds since the TPM's last power-on.
        clock: Milliseconds that the TPM has been powered, over its life.
        reset_count: Number of TPM resets; not obfuscated, unlike in most quotes.
        restart_count: Number of restarts or resumes since the last reset.
        safe: False where a value of `clock` at least as high may have been reported before.
    """

    time: int
    clock: int
    reset_count: int
    restart_count: int
    safe: bool


def parse_clock(data: bytes, *, source: str) -> ClockReading:
    """Read the output of ``tpm2_readclock``.

    Raises:
        ParseError: A line is none of its lines, occurs twice or is missing, or a number is out of range.
    """
    found: dict[str, str] = {}
    offset = 0
    for line in decode_text(data, source=source).split("\n"):
        if line.strip():
            match = _LINE.fullmatch(line)
            if match is None:
                raise ParseError(source, offset, "clock", reason="not a line of tpm2_readclock")
            if match[1] in found:
                raise ParseError(source, offset, match[1], reason="occurs twice")
            found[match[1]] = match[2]
        offset += len(line.encode()) + 1
    numbers: dict[str, int] = {}
    for name, limit in _LIMITS.items():
        text = found.get(name, "")
        if not (text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) < limit):
            raise ParseError(source, 0, name, reason="missing" if not text else "not a number in range")
        numbers[name] = int(text)
    if found.get("safe") not in _SAFE:
        raise ParseError(source, 0, "safe", reason="neither yes nor no")
    return ClockReading(safe=_SAFE[found["safe"]], **numbers)
