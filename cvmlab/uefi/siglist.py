"""EFI_SIGNATURE_LIST: the contents of PK, KEK, db, dbx, MokList, and single entries of them."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.uefi.certificates import CertificateInfo, read_certificate
from cvmlab.uefi.guids import guid_name

MAX_SIGNATURES: Final = 65_536
"""Most signatures (and lists) read from one variable."""
NO_OWNER: Final = uuid.UUID(int=0)
"""Owner of an entry that states none."""
_LIST_HEADER_SIZE: Final = 28
_OWNER_SIZE: Final = 16
_TIME_SIZE: Final = 16

# UEFI 2.10, section 32.4.1: size of SignatureData for the types where it is fixed
_DATA_SIZE: Final = {
    "SHA1": 20,
    "SHA224": 28,
    "SHA256": 32,
    "SHA384": 48,
    "SHA512": 64,
    "SM3": 32,
    "RSA2048": 256,
    "RSA2048_SHA1": 256,
    "RSA2048_SHA256": 256,
    "X509_SHA256": 32 + _TIME_SIZE,
    "X509_SHA384": 48 + _TIME_SIZE,
    "X509_SHA512": 64 + _TIME_SIZE,
    "X509_SM3": 32 + _TIME_SIZE,
}
_HASH_BY_SIZE: Final = {20: "SHA1", 28: "SHA224", 32: "SHA256", 48: "SHA384", 64: "SHA512"}


# UEFI 2.10, section 32.4.1 (EFI_SIGNATURE_DATA)
@dataclass(frozen=True, slots=True)
class Signature:
    """One entry of a signature database.

    Attributes:
        owner: SignatureOwner: who put the entry there.
        type_name: ``X509``, ``SHA256``, ``X509_SHA256``, ...; the GUID's text where it is unknown,
            ``unknown`` where a bare entry does not tell.
        data: SignatureData: a certificate, a hash, a key, or a hash with a time.
        offset: Absolute offset of the entry (of its owner) in the source.
    """

    owner: uuid.UUID
    type_name: str
    data: bytes
    offset: int

    @property
    def sha256(self) -> str:
        """SHA-256 of `data` in lower-case hex: one name for entries of every type."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def certificate(self) -> CertificateInfo | None:
        """The certificate, if the entry is one and can be read."""
        return read_certificate(self.data) if self.type_name == "X509" else None

    @property
    def revocation_time(self) -> str | None:
        """Time from which a revoked certificate's signatures are refused, for the ``X509_*`` hash types.

        ISO 8601 as the entry states it, ``always`` where all of it is zero, ``unreadable`` where it is no
        time, and None for types that carry no time (UEFI 2.10, sections 8.3 and 32.4.1).
        """
        if not self.type_name.startswith("X509_"):
            return None
        return _efi_time(self.data[-_TIME_SIZE:])


# UEFI 2.10, section 32.4.1 (EFI_SIGNATURE_LIST)
@dataclass(frozen=True, slots=True)
class SignatureList:
    """Signatures of one type.

    Attributes:
        type_guid: SignatureType.
        type_name: Its short name, or the GUID's text.
        signatures: The entries, in order; possibly none.
        header: SignatureHeader, empty for all types specified so far.
        offset: Absolute offset of the list in the source.
    """

    type_guid: uuid.UUID
    type_name: str
    signatures: tuple[Signature, ...]
    header: bytes
    offset: int = 0


def parse_signature_lists(cursor: Cursor, limit: int = MAX_SIGNATURES) -> tuple[SignatureList, ...]:
    """Read signature lists to the end of the cursor; no bytes give no lists.

    Args:
        cursor: Positioned at the first list; all of it is consumed.
        limit: Most signatures, and most lists, accepted.

    Raises:
        ParseError: A size is zero, too small, or past the end, a list does not hold a whole number of
            signatures, the size does not fit the type, or there are more than `limit` entries.
    """
    lists, error = parse_signature_lists_tolerant(cursor, limit)
    if error is not None:
        raise error
    return lists


def parse_signature_lists_tolerant(
    cursor: Cursor, limit: int = MAX_SIGNATURES
) -> tuple[tuple[SignatureList, ...], ParseError | None]:
    """Read signature lists up to the end or the first damage.

    Returns:
        The lists before the damage and the error, which is None if there is no damage.
    """
    lists: list[SignatureList] = []
    left = limit
    try:
        while cursor.remaining:
            if len(lists) == limit:
                raise cursor.error("SignatureLists", f"more than {limit} lists")
            lists.append(_parse_list(cursor, left))
            left -= len(lists[-1].signatures)
    except ParseError as error:
        return tuple(lists), error
    return tuple(lists), None


def parse_signature_data(cursor: Cursor) -> Signature:
    """Read a bare EFI_SIGNATURE_DATA, as in the data of EV_EFI_VARIABLE_AUTHORITY.

    Nothing states its type, so it is inferred: a hash by its size, ``X509`` if it reads as a certificate,
    else ``unknown``. Old shim versions log the certificate without an owner; then `NO_OWNER` stands for it.

    Args:
        cursor: Positioned at the owner; all of it is consumed.

    Raises:
        ParseError: There is no whole owner, or nothing follows it.
    """
    offset = cursor.offset
    owner = cursor.guid("SignatureOwner")
    if not cursor.remaining:
        raise ParseError(cursor.source, cursor.offset, "SignatureData", 1, 0)
    data = cursor.rest()
    whole = owner.bytes_le + data
    if read_certificate(whole) is not None:
        return Signature(NO_OWNER, "X509", whole, offset)
    name = _HASH_BY_SIZE.get(len(data)) or ("X509" if read_certificate(data) else "unknown")
    return Signature(owner, name, data, offset)


def _parse_list(cursor: Cursor, limit: int) -> SignatureList:
    start = cursor.offset
    type_guid = cursor.guid("SignatureType")
    at = cursor.offset
    list_size = cursor.u32("SignatureListSize")
    header_size = cursor.u32("SignatureHeaderSize")
    size = cursor.u32("SignatureSize")
    room = list_size - _LIST_HEADER_SIZE
    if room < 0:
        raise ParseError(cursor.source, at, "SignatureListSize", _LIST_HEADER_SIZE, list_size, "too small")
    if room > cursor.remaining:
        have = _LIST_HEADER_SIZE + cursor.remaining
        raise ParseError(cursor.source, at, "SignatureListSize", list_size, have, "list past the end")
    if header_size > room:
        raise ParseError(cursor.source, at + 4, "SignatureHeaderSize", header_size, room, "past the list")
    if size < _OWNER_SIZE:
        raise ParseError(cursor.source, at + 8, "SignatureSize", _OWNER_SIZE, size, "too small")
    type_name = _short_name(type_guid)
    fixed = _DATA_SIZE.get(type_name)
    body = cursor.sub(room, "SignatureList")
    header = body.take(header_size, "SignatureHeader")
    count, leftover = divmod(body.remaining, size)
    if count and fixed is not None and size != _OWNER_SIZE + fixed:
        reason = f"not the size of a {type_name} entry"
        raise ParseError(cursor.source, at + 8, "SignatureSize", _OWNER_SIZE + fixed, size, reason)
    if leftover:
        at_rest = body.offset + count * size
        raise ParseError(cursor.source, at_rest, "Signatures", 0, leftover, "bytes left over in the list")
    if count > limit:
        raise ParseError(cursor.source, start, "Signatures", limit, count, "more than the limit")
    signatures = tuple(_parse_entry(body, type_name, size) for _ in range(count))
    return SignatureList(type_guid, type_name, signatures, header, start)


def _parse_entry(cursor: Cursor, type_name: str, size: int) -> Signature:
    offset = cursor.offset
    owner = cursor.guid("SignatureOwner")
    return Signature(owner, type_name, cursor.take(size - _OWNER_SIZE, "SignatureData"), offset)


def _short_name(type_guid: uuid.UUID) -> str:
    name = guid_name(type_guid)
    if name.startswith("EFI_CERT_"):
        return name.removeprefix("EFI_CERT_").removesuffix("_GUID")
    return str(type_guid)


def _efi_time(data: bytes) -> str:
    """Return an EFI_TIME as ISO 8601 text (UEFI 2.10, section 8.3)."""
    if not any(data):
        return "always"
    cursor = Cursor(data)
    try:
        year = cursor.u16("Year")
        month, day, hour, minute, second = (cursor.u8("Time") for _ in range(5))
        return datetime(year, month, day, hour, minute, second).isoformat()  # noqa: DTZ001 - zone is the entry's
    except ValueError:
        return "unreadable"
