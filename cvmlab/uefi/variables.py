"""UEFI_VARIABLE_DATA: the data of the EV_EFI_VARIABLE_* events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.uefi.text import decode_utf16

if TYPE_CHECKING:
    import uuid

MAX_NAME_SIZE: Final = 2 << 10
"""Longest variable name accepted, in bytes."""
MAX_DATA_SIZE: Final = 1 << 20
"""Longest variable data accepted, in bytes."""


# TCG PC Client Platform Firmware Profile 1.06, section 10.2.6 (UEFI_VARIABLE_DATA)
@dataclass(frozen=True, slots=True)
class UefiVariable:
    """A UEFI variable as an event states it.

    Attributes:
        guid: VariableName: the vendor GUID of the variable.
        name: UnicodeName, decoded but otherwise as it stands (NULs included, so that a padded name
            never equals the plain one).
        data: VariableData.
        name_offset: Absolute offset of the name in the source.
        data_offset: Absolute offset of the data in the source.
        trailing: Bytes after the structure: some shim versions log one too many.
    """

    guid: uuid.UUID
    name: str
    data: bytes
    name_offset: int
    data_offset: int
    trailing: bytes = b""


def parse_variable(cursor: Cursor) -> UefiVariable:
    """Read one UEFI_VARIABLE_DATA and everything behind it.

    Args:
        cursor: Positioned at the structure; all of it is consumed.

    Raises:
        ParseError: A length is past the end, or the name is longer than `MAX_NAME_SIZE` bytes, or the
            data are longer than `MAX_DATA_SIZE` bytes.
    """
    guid = cursor.guid("VariableName")
    body_at, body = cursor.offset, cursor.rest()
    cursor = Cursor(body, source=cursor.source, base=body_at)
    if _is_narrow(body):
        name_size, data_size = 2 * cursor.u32("UnicodeNameLength"), cursor.u32("VariableDataLength")
    else:
        name_size = 2 * _length(cursor, "UnicodeNameLength", MAX_NAME_SIZE // 2)
        data_size = _length(cursor, "VariableDataLength", MAX_DATA_SIZE)
    name_offset = cursor.offset
    name = decode_utf16(cursor.take(name_size, "UnicodeName"))
    data_offset = cursor.offset
    data = cursor.take(data_size, "VariableData")
    return UefiVariable(guid, name, data, name_offset, data_offset, cursor.rest())


def _is_narrow(body: bytes) -> bool:
    """Tell by size: EFI_VARIABLE_DATA of 32-bit firmware, whose lengths are UINTN (TCG EFI Platform 1.22).

    Only where the lengths make no sense as 64-bit numbers and fit exactly as 32-bit numbers.
    """
    name, data = int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little")
    if len(body) >= 16 and name <= MAX_NAME_SIZE // 2 and 16 + 2 * name + data <= len(body):
        return False
    name, data = int.from_bytes(body[:4], "little"), int.from_bytes(body[4:8], "little")
    # the upper half of a 64-bit name length is zero, so a cut event is never taken for a narrow one
    fits = 8 + 2 * name + data == len(body)
    return len(body) >= 8 and 0 < name <= MAX_NAME_SIZE // 2 and data > 0 and fits


def _length(cursor: Cursor, field: str, limit: int) -> int:
    at = cursor.offset
    value = cursor.u64(field)
    if value > limit:
        raise ParseError(cursor.source, at, field, limit, value, "more than the limit")
    return value
