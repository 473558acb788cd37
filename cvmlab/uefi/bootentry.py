"""Boot#### and BootOrder: what the firmware was told to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor
from cvmlab.uefi.devicepath import DevicePath, parse_device_path
from cvmlab.uefi.text import decode_utf16

if TYPE_CHECKING:
    from cvmlab.errors import ParseError

MAX_DESCRIPTION: Final = 4096
"""Longest description of a boot entry, in bytes."""
MAX_PATHS: Final = 16
"""Most device paths in one boot entry."""
MAX_BOOT_ORDER: Final = 65_536
"""Most entries of BootOrder: there are no more Boot#### names."""


# UEFI 2.10, section 3.1.3 (EFI_LOAD_OPTION)
@dataclass(frozen=True, slots=True)
class LoadOption:
    r"""A boot entry.

    Attributes:
        attributes: Attributes, bit 0 is LOAD_OPTION_ACTIVE, bit 3 is LOAD_OPTION_HIDDEN.
        description: What a menu shows.
        device_path: FilePathList[0]: what is started. Empty if the list is.
        optional_data: Bytes given to what is started, such as a command line.
        other_paths: FilePathList[1:], for the loader's own use.
    """

    attributes: int
    description: str
    device_path: DevicePath
    optional_data: bytes
    other_paths: tuple[DevicePath, ...] = ()

    @property
    def active(self) -> bool:
        """Whether the boot manager starts the entry by itself."""
        return bool(self.attributes & 0x1)

    @property
    def hidden(self) -> bool:
        """Whether menus leave the entry out."""
        return bool(self.attributes & 0x8)


def parse_load_option(cursor: Cursor) -> LoadOption:
    """Read the data of a Boot#### variable.

    Args:
        cursor: Positioned at the data; all of it is consumed.

    Raises:
        ParseError: The description does not end within `MAX_DESCRIPTION` bytes, the file path list is
            past the end, or a device path in it is malformed.
    """
    attributes = cursor.u32("Attributes")
    paths_size = cursor.u16("FilePathListLength")
    tail_at = cursor.offset
    tail = cursor.rest()
    description = _description(tail, cursor, tail_at)
    body = Cursor(tail, source=cursor.source, start=len(description) + 2, base=tail_at)
    paths = _parse_paths(body.sub(paths_size, "FilePathList"))
    return LoadOption(
        attributes,
        decode_utf16(description),
        paths[0] if paths else DevicePath((), ""),
        body.rest(),
        paths[1:],
    )


def parse_boot_order(cursor: Cursor) -> tuple[int, ...]:
    """Read the data of BootOrder: the numbers of the Boot#### entries, first to be tried first.

    Raises:
        ParseError: The size is odd, or there are more than `MAX_BOOT_ORDER` entries.
    """
    if cursor.remaining % 2:
        raise cursor.error("BootOrder", f"{cursor.remaining} bytes are no whole number of entries")
    if cursor.remaining // 2 > MAX_BOOT_ORDER:
        raise cursor.error("BootOrder", f"more than {MAX_BOOT_ORDER} entries")
    return tuple(cursor.u16("BootOrder") for _ in range(cursor.remaining // 2))


def _description(tail: bytes, cursor: Cursor, at: int) -> bytes:
    for index in range(0, min(len(tail) - 1, MAX_DESCRIPTION + 2), 2):
        if tail[index] == tail[index + 1] == 0:
            return tail[:index]
    raise _unterminated(cursor, at)


def _unterminated(cursor: Cursor, at: int) -> ParseError:
    return cursor.error("Description", f"no end within {MAX_DESCRIPTION} bytes", at=at)


def _parse_paths(cursor: Cursor) -> tuple[DevicePath, ...]:
    paths: list[DevicePath] = []
    while cursor.remaining:
        if len(paths) == MAX_PATHS:
            raise cursor.error("FilePathList", f"more than {MAX_PATHS} device paths")
        paths.append(parse_device_path(cursor))
    return tuple(paths)
