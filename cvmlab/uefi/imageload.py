"""UEFI_IMAGE_LOAD_EVENT: which image the firmware or a boot loader started, as the log claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.uefi.devicepath import DevicePath, parse_device_path

MAX_PATH_SIZE: Final = 1 << 16
"""Longest device path of an image, in bytes."""


# TCG PC Client Platform Firmware Profile 1.06, section 10.2.3 (UEFI_IMAGE_LOAD_EVENT)
@dataclass(frozen=True, slots=True)
class ImageLoadEvent:
    """One loaded PE image. The event's digest is of the image, so all of this is a claim.

    Attributes:
        location: ImageLocationInMemory.
        length: ImageLengthInMemory, in bytes.
        link_time_address: ImageLinkTimeAddress.
        device_path: Where the image came from; empty for an image loaded from memory.
        trailing: Bytes after the structure, or after the end of the device path.
    """

    location: int
    length: int
    link_time_address: int
    device_path: DevicePath
    trailing: bytes = b""


def parse_image_load(cursor: Cursor) -> ImageLoadEvent:
    """Read one UEFI_IMAGE_LOAD_EVENT and everything behind it.

    Raises:
        ParseError: It is cut short, LengthOfDevicePath is past the end or more than `MAX_PATH_SIZE`, or
            the device path is malformed.
    """
    location = cursor.u64("ImageLocationInMemory")
    body_at, body = cursor.offset, cursor.rest()
    cursor = Cursor(body, source=cursor.source, base=body_at)
    uintn = cursor.u32 if _is_narrow(body) else cursor.u64
    length = uintn("ImageLengthInMemory")
    address = uintn("ImageLinkTimeAddress")
    at = cursor.offset
    size = uintn("LengthOfDevicePath")
    if size > MAX_PATH_SIZE:
        raise ParseError(cursor.source, at, "LengthOfDevicePath", MAX_PATH_SIZE, size, "more than the limit")
    path_cursor = cursor.sub(size, "DevicePath")
    path = parse_device_path(path_cursor)
    return ImageLoadEvent(location, length, address, path, path_cursor.rest() + cursor.rest())


def _is_narrow(body: bytes) -> bool:
    """Tell by size: EFI_IMAGE_LOAD_EVENT of 32-bit firmware (TCG EFI Platform Specification 1.22)."""
    wide = len(body) >= 24 and int.from_bytes(body[16:24], "little") <= len(body) - 24
    return not wide and len(body) >= 12 and int.from_bytes(body[8:12], "little") == len(body) - 12
