"""Whether files are a machine's evidence, damaged as it may be, or something that strayed into an inbox.

This decides nothing about a machine: it keeps a README from being taken for one, and a broken upload from
being taken for a README. When unsure it is evidence.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Final

from cvmlab.evidence.formats import is_known
from cvmlab.evidence.names import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

SCANNED: Final = 1 << 20
"""Bytes at the start of a file that are searched."""
_ARCHIVES: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2")
_MAGIC: Final = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
_MARKS: Final = (
    b"Spec ID Event0",  # TCG PC Client Platform Firmware Profile, 10.4.5.1: the first event of a log
    b"\xffTCG\x80\x18",  # TPM 2.0 Library Part 2, 10.12.12: TPM_GENERATED_VALUE and TPM_ST_ATTEST_QUOTE
)


def holds_evidence(files: Iterable[tuple[str, bytes | None]]) -> bool:
    """Tell whether files look like evidence of a machine, whole or damaged.

    They do where one has a name of the evidence directory or the content of such a file, is of a tool that is
    known, has the marks of a quote or a boot log in it (as bytes, hex or base64), or is packed.

    Args:
        files: Name and content of each, or the first `SCANNED` bytes; None where they could not be read.
    """
    return any(_is_evidence(name, data) for name, data in files)


def _is_evidence(name: str, data: bytes | None) -> bool:
    role = role_of(name, data or b"")
    # certificates of authorities lie about in many places, and are nobody's evidence alone
    if role not in ("other", "verifier") and not (role == "certificate" and name.startswith("ca-")):
        return True
    if name.lower().endswith(_ARCHIVES):
        return True
    start = (data or b"")[:SCANNED]
    if start.startswith(_MAGIC) or (start and is_known(start)):
        return True
    return any(mark in start for mark in _marks())


@cache
def _marks() -> tuple[bytes, ...]:
    """Return the marks as they are, in hex of either case, and in base64 at each of its three alignments."""
    found: list[bytes] = []
    for mark in _MARKS:
        found += [mark, mark.hex().encode(), mark.hex().upper().encode()]
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + mark)
            # of the first and last groups of four letters only what is of the mark alone
            first = (0, 2, 3)[shift]
            last = len(text) - (0, 3, 2)[(shift + len(mark)) % 3]
            found += [text[first:last], text[first:last].replace(b"+", b"-").replace(b"/", b"_")]
    return tuple(dict.fromkeys(found))
