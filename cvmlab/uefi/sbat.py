"""SBAT levels: which generation of each boot component is still allowed (shim's SbatLevel)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.uefi.text import decode_utf8

if TYPE_CHECKING:
    from cvmlab.binary import Cursor

MAX_LEVEL_SIZE: Final = 1 << 16
"""Longest SBAT level, in bytes."""
MAX_ENTRIES: Final = 1024
"""Most components in one SBAT level."""
_MAX_GENERATION_DIGITS: Final = 9


# rhboot/shim, SBAT.md, "Version-Based Revocation"
@dataclass(frozen=True, slots=True)
class SbatEntry:
    """Lowest generation of one component that may run.

    Attributes:
        component: Name of the component, such as ``shim`` or ``grub``.
        generation: The lowest generation allowed.
        date: Third column: on the ``sbat`` line the date of the level (``2025021800``), else None.
    """

    component: str
    generation: int
    date: str | None = None


def parse_sbat_level(cursor: Cursor) -> tuple[SbatEntry, ...]:
    """Read an SBAT level: CSV lines of component, generation and, on the first, a date.

    Args:
        cursor: Positioned at the text; all of it is consumed. NULs at the end are padding.

    Raises:
        ParseError: A line has no generation that is a decimal number, a component twice, or there is
            more text or there are more entries than the limits allow.
    """
    at = cursor.offset
    if cursor.remaining > MAX_LEVEL_SIZE:
        raise cursor.error("SbatLevel", f"{cursor.remaining} bytes, more than the limit of {MAX_LEVEL_SIZE}")
    entries: dict[str, SbatEntry] = {}
    for raw in cursor.rest().rstrip(b"\0").split(b"\n"):
        line = decode_utf8(raw).strip()
        if line:
            component, generation, *rest = (*line.split(","), "")
            if not (generation.isascii() and generation.isdigit() and component):
                raise cursor.error("SbatLevel", "a line is not component,generation", at=at)
            if len(generation) > _MAX_GENERATION_DIGITS:
                raise cursor.error("SbatLevel", "a generation is out of range", at=at)
            if component in entries:
                raise cursor.error("SbatLevel", "a component is listed twice", at=at)
            if len(entries) == MAX_ENTRIES:
                raise cursor.error("SbatLevel", f"more than {MAX_ENTRIES} components", at=at)
            entries[component] = SbatEntry(component, int(generation), rest[0] or None if rest else None)
        at += len(raw) + 1
    return tuple(entries.values())
