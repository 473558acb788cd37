"""Variables in a firmware's store, such as ``OVMF_VARS.fd``, read only.

Source: edk2, ``MdeModulePkg/Include/Guid/VariableFormat.h``; UEFI Platform Initialization 1.8, volume 3,
section 3.2.1 (firmware volume header).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.uefi.text import decode_utf16

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VARIABLES: Final = 4096
_VOLUME: Final = b"_FVH"
_VOLUME_AT: Final = 40
_AUTHENTICATED: Final = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_PLAIN: Final = uuid.UUID("ddcf3616-3275-4164-98b6-fe85707ffe7d").bytes_le
_STORE_HEADER: Final = 28
_START: Final = 0x55AA
# VAR_ADDED without any of the bits that deletion clears
_VALID: Final = 0x3F
_MAX_NAME: Final = 2 << 10
_MAX_DATA: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class StoredVariable:
    """A variable that is in force: not deleted, and not being replaced."""

    guid: uuid.UUID
    name: str
    attributes: int
    data: bytes


def looks_like_store(data: bytes) -> bool:
    """Tell by content: a firmware volume that begins with a variable store."""
    if data[_VOLUME_AT : _VOLUME_AT + 4] != _VOLUME:
        return False
    at = int.from_bytes(data[48:50], "little")
    return data[at : at + 16] in (_AUTHENTICATED, _PLAIN)


def stored_variables(data: bytes, *, source: str) -> Iterator[StoredVariable]:
    """Yield the variables of a store, up to its end or the first damage.

    Args:
        data: The volume; `looks_like_store` says True of it.
        source: What it is, for error messages.
    """
    start = int.from_bytes(data[48:50], "little")
    authenticated = data[start : start + 16] == _AUTHENTICATED
    size = int.from_bytes(data[start + 16 : start + 20], "little")
    cursor = Cursor(data, source=source, start=start, end=max(start, min(len(data), start + size)))
    try:
        cursor.take(_STORE_HEADER, "VARIABLE_STORE_HEADER")
        for _ in range(MAX_VARIABLES):
            # edk2 aligns to four bytes from the start of the store
            cursor.take(-(cursor.offset - start) % 4, "padding")
            if cursor.remaining < 2 or cursor.u16("StartId") != _START:
                return
            variable = _variable(cursor, authenticated=authenticated)
            if variable is not None:
                yield variable
    except ParseError:
        return


def _variable(cursor: Cursor, *, authenticated: bool) -> StoredVariable | None:
    state = cursor.u8("State")
    cursor.u8("Reserved")
    attributes = cursor.u32("Attributes")
    if authenticated:
        cursor.take(28, "MonotonicCount, TimeStamp, PubKeyIndex")
    name_size, data_size = cursor.u32("NameSize"), cursor.u32("DataSize")
    if name_size > _MAX_NAME or data_size > _MAX_DATA:
        raise cursor.error("NameSize", "name or data longer than the limit")
    guid = cursor.guid("VendorGuid")
    name = decode_utf16(cursor.take(name_size, "Name")).partition("\0")[0]
    data = cursor.take(data_size, "Data")
    return StoredVariable(guid, name, attributes, data) if state == _VALID else None
