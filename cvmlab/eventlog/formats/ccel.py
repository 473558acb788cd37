"""The ACPI table CCEL, and the log area that it points to.

Source: ACPI 6.5, section 5.2.34 (CC Event Log ACPI table): header of 36 bytes, CC type and subtype, then
LAML and LASA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

SIGNATURE: Final = b"CCEL"
SIZE: Final = 56
CC_TYPES: Final = {1: "AMD SEV", 2: "Intel TDX"}


@dataclass(frozen=True, slots=True)
class CcelTable:
    """The table.

    Attributes:
        cc_type: 1: AMD SEV, 2: Intel TDX.
        cc_subtype: Subtype, vendor's own.
        log_area_minimum_length: LAML, bytes.
        log_area_start_address: LASA, physical address in the guest.
        checksum_holds: True where all bytes of the table add up to zero.
    """

    cc_type: int
    cc_subtype: int
    log_area_minimum_length: int
    log_area_start_address: int
    checksum_holds: bool


def looks_like_ccel(data: bytes) -> bool:
    """Tell whether bytes start with the table."""
    return len(data) >= SIZE and data[:4] == SIGNATURE and int.from_bytes(data[4:8], "little") == SIZE


def parse_ccel(data: bytes, *, source: str) -> CcelTable:
    """Read the table at the start of `data`.

    Raises:
        ParseError: Too few bytes, another signature or size.
    """
    cursor = Cursor(data[:SIZE], source=source)
    if cursor.take(4, "Signature") != SIGNATURE:
        raise ParseError(source, 0, "Signature", reason="not CCEL")
    length = cursor.u32("Length")
    if length != SIZE:
        raise ParseError(source, 4, "Length", SIZE, length, "wrong size of the table")
    cursor.take(28, "Header")
    cc_type, subtype = cursor.u8("CC Type"), cursor.u8("CC Subtype")
    cursor.take(2, "Reserved")
    laml, lasa = cursor.u64("LAML"), cursor.u64("LASA")
    return CcelTable(cc_type, subtype, laml, lasa, sum(data[:SIZE]) % 256 == 0)
