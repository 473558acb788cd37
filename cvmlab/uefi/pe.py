"""PE images as firmware sees them: sections, Authenticode digests, and who signed them.

Sources: Microsoft PE/COFF specification; Windows Authenticode Portable Executable Signature Format (2008);
UEFI 2.10, section 32.4. Signatures are read here and verified by `cvmlab.uefi.authenticode`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

MAX_SECTIONS: Final = 96
"""Most sections of an image (PE/COFF, section table)."""

MAX_CERTIFICATES: Final = 16
PE32: Final = 0x10B
PE32_PLUS: Final = 0x20B
WIN_CERT_TYPE_PKCS_SIGNED_DATA: Final = 2
_SECURITY: Final = 4
_SYMBOL_SIZE: Final = 18
_MAX_NAME: Final = 64
_DOS_SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class Section:
    """A section.

    Attributes:
        name: Name without padding, a long one from the string table; bytes that are not ASCII as escapes.
        virtual_size: Bytes in memory.
        offset: Offset of its data in the file.
        size: Bytes in the file.
    """

    name: str
    virtual_size: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PeImage:
    """A PE image.

    Attributes:
        machine: Machine number, 0x8664 for x86-64.
        sections: In the order of the table.
        signatures: PKCS#7 blobs of the certificate table.
        checksum_at: Offset of the checksum field.
        security_at: Offset of the security directory entry; 0 where there is none.
        headers_size: SizeOfHeaders.
        table_at: Offset of the certificate table; the size of the file where there is none.
        table_size: Its size.
        data: The whole file.
    """

    machine: int
    sections: tuple[Section, ...]
    signatures: tuple[bytes, ...]
    checksum_at: int
    security_at: int
    headers_size: int
    table_at: int
    table_size: int
    data: bytes

    def authenticode(self, bank: str) -> bytes:
        """Return the Authenticode digest (the 2008 paper, "Calculating the PE Image Hash").

        Raises:
            ValueError: The bank is no hash known here.
        """
        total = hashlib.new(bank)
        at = 0
        for skip, size in ((self.checksum_at, 4), (self.security_at, 8)):
            if skip:
                total.update(self.data[at:skip])
                at = skip + size
        total.update(self.data[at : self.headers_size])
        hashed = self.headers_size
        for section in sorted((s for s in self.sections if s.size), key=lambda s: s.offset):
            total.update(self.data[section.offset : section.offset + section.size])
            hashed += section.size
        if len(self.data) > hashed + self.table_size:
            total.update(self.data[hashed : len(self.data) - self.table_size])
        return total.digest()

    def section(self, name: str) -> bytes | None:
        """Return the contents of the first section of a name; padding of the file is left out."""
        for section in self.sections:
            if section.name == name:
                return self.contents(section)
        return None

    def contents(self, section: Section) -> bytes:
        """Return the contents of a section as systemd-stub measures them: as many bytes as in memory."""
        size = min(section.size, section.virtual_size) if section.virtual_size else section.size
        return self.data[section.offset : section.offset + size]


def looks_like_pe(data: bytes) -> bool:
    """Tell by content."""
    if len(data) < _DOS_SIZE or data[:2] != b"MZ":
        return False
    at = int.from_bytes(data[60:64], "little")
    return data[at : at + 4] == b"PE\0\0"


def parse_pe(data: bytes, *, source: str) -> PeImage:
    """Read an image.

    Raises:
        ParseError: No PE image, a size or offset past the end of the file, sections that overlap, or a
            certificate table that does not fit.
    """
    if not looks_like_pe(data):
        raise ParseError(source, 0, "e_magic", reason="not a PE image")
    start = int.from_bytes(data[60:64], "little")
    cursor = Cursor(data[start:], source=source, base=start)
    cursor.take(4, "Signature")
    machine, count = cursor.u16("Machine"), cursor.u16("NumberOfSections")
    cursor.take(4, "TimeDateStamp")
    symbols_at, symbols = cursor.u32("PointerToSymbolTable"), cursor.u32("NumberOfSymbols")
    strings_at = symbols_at + _SYMBOL_SIZE * symbols if symbols_at else 0
    optional_size = cursor.u16("SizeOfOptionalHeader")
    cursor.u16("Characteristics")
    if count > MAX_SECTIONS:
        raise ParseError(source, start + 6, "NumberOfSections", MAX_SECTIONS, count, "more than the limit")
    at = cursor.offset
    optional = cursor.sub(optional_size, "OptionalHeader")
    magic = optional.u16("Magic")
    if magic not in (PE32, PE32_PLUS):
        raise ParseError(source, at, "Magic", reason=f"0x{magic:x}: neither PE32 nor PE32+")
    wide = magic == PE32_PLUS
    optional.take(58, "OptionalHeader")
    headers_size = optional.u32("SizeOfHeaders")
    checksum_at = optional.offset
    optional.take(8 + (32 if wide else 16) + 4, "OptionalHeader")
    directories = optional.u32("NumberOfRvaAndSizes")
    security_at, table_at, table_size = 0, len(data), 0
    if directories > _SECURITY:
        optional.take(8 * _SECURITY, "DataDirectory")
        security_at = optional.offset
        table_at, table_size = optional.u32("Security.VirtualAddress"), optional.u32("Security.Size")
        if not table_at or not table_size:
            table_at, table_size = len(data), 0
    sections = tuple(
        replace(one, name=_long_name(data, one.name, strings_at))
        for one in _sections(cursor, count, len(data), source)
    )
    if headers_size > len(data) or headers_size < cursor.offset:
        raise ParseError(
            source, checksum_at - 4, "SizeOfHeaders", reason=f"{headers_size} does not fit the file"
        )
    _no_overlap(sections, headers_size, table_at, source)
    if table_at + table_size > len(data):
        raise ParseError(
            source,
            security_at,
            "Security.Size",
            table_at + table_size,
            len(data),
            "the certificate table is cut",
        )
    return PeImage(
        machine=machine,
        sections=sections,
        signatures=_signatures(data, table_at, table_size, source),
        checksum_at=checksum_at,
        security_at=security_at,
        headers_size=headers_size,
        table_at=table_at,
        table_size=table_size,
        data=data,
    )


def _sections(cursor: Cursor, count: int, size: int, source: str) -> tuple[Section, ...]:
    found = []
    for _ in range(count):
        at = cursor.offset
        name = cursor.take(8, "Name").rstrip(b"\0").decode("ascii", "backslashreplace")
        virtual = cursor.u32("VirtualSize")
        cursor.u32("VirtualAddress")
        raw, offset = cursor.u32("SizeOfRawData"), cursor.u32("PointerToRawData")
        cursor.take(16, "Section")
        if raw and offset + raw > size:
            raise ParseError(source, at + 16, "SizeOfRawData", offset + raw, size, f"section {name!r} is cut")
        found.append(Section(name, virtual, offset, raw))
    return tuple(found)


def _long_name(data: bytes, name: str, strings_at: int) -> str:
    """A name of more than 8 bytes: ``/`` and its offset in the string table behind the symbols.

    Linkers for EFI write such names (as ``.vendor_cert`` of shim) although images should have none. One that
    leads nowhere stays as it is.
    """
    if not strings_at or not name.startswith("/") or not name[1:].isdecimal():
        return name
    at = strings_at + int(name[1:])
    text, end, _ = data[at : at + _MAX_NAME].partition(b"\0")
    return text.decode("ascii", "backslashreplace") if text and end else name


def _no_overlap(sections: tuple[Section, ...], headers: int, table_at: int, source: str) -> None:
    """Overlapping sections would be hashed twice and read once: no linker makes them, attackers do."""
    end = 0
    for section in sorted((s for s in sections if s.size), key=lambda s: s.offset):
        if section.offset < end:
            raise ParseError(source, section.offset, "PointerToRawData", reason=f"{section.name!r} overlaps")
        end = section.offset + section.size
    if end > table_at and table_at >= headers:
        raise ParseError(source, table_at, "Security.VirtualAddress", reason="lies inside a section")


def _signatures(data: bytes, at: int, size: int, source: str) -> tuple[bytes, ...]:
    """WIN_CERTIFICATE entries of type PKCS#7, each padded to eight bytes."""
    cursor = Cursor(data[at : at + size], source=source, base=at)
    found: list[bytes] = []
    while cursor.remaining >= 8:
        here = cursor.offset
        length = cursor.u32("dwLength")
        cursor.u16("wRevision")
        kind = cursor.u16("wCertificateType")
        if length < 8:
            raise ParseError(source, here, "dwLength", 8, length, "too small")
        body = cursor.take(length - 8, "bCertificate")
        cursor.take(min(-length % 8, cursor.remaining), "padding")
        if kind == WIN_CERT_TYPE_PKCS_SIGNED_DATA:
            found.append(body)
        if len(found) > MAX_CERTIFICATES:
            raise ParseError(source, here, "dwLength", reason=f"more than {MAX_CERTIFICATES} signatures")
    return tuple(found)
