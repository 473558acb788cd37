"""TPMS_ATTEST: what a TPM signs when it quotes registers.

Source: TPM 2.0 Library, Part 2, 10.12 (TPMS_ATTEST), 10.6.2 (TPMS_PCR_SELECTION), 10.11.1
(TPMS_CLOCK_INFO).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.binary import Cursor
from cvmlab.errors import ParseError, VerificationError
from cvmlab.tpm.constants import (
    ATTEST_TYPE_NAME,
    MAX_DATA,
    MAX_DIGEST,
    MAX_NAME,
    MAX_PCR_SELECT,
    MAX_SELECTIONS,
    TPM_GENERATED_VALUE,
    TPM_ST_ATTEST_QUOTE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAGIC = TPM_GENERATED_VALUE.to_bytes(4, "big")
_DIGEST_SIZES = frozenset(DIGEST_SIZE.values())
_HANDLE_SIZE = 4


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """Registers of one bank (Part 2, 10.6.2).

    Attributes:
        bank: Name of the bank, as in `cvmlab.banks`.
        registers: Selected register indices, ascending; may be empty.
    """

    bank: str
    registers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """The TPM's clock at the time of signing (Part 2, 10.11.1).

    Attributes:
        clock: Milliseconds that the TPM has been powered, over its life.
        reset_count: Number of TPM resets. Obfuscated by a value of the key's own outside the
            endorsement and platform hierarchies (Part 1, 36.7): compare within one key only.
        restart_count: Number of TPM restarts or resumes since the last reset; obfuscated likewise.
        safe: False where a value of `clock` at least as high may have been reported before.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class Attest:
    """A TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (Part 2, 10.12.8 and 10.12.1).

    Nothing in it is proven before its signature, nonce and digest are: see `cvmlab.tpm.quote`.

    Attributes:
        magic: Always TPM_GENERATED_VALUE.
        type: Always TPM_ST_ATTEST_QUOTE.
        qualified_signer: Qualified name of the signing key: nameAlg and digest, or empty.
        extra_data: What the caller of TPM2_Quote gave as qualifyingData: the nonce.
        clock_info: The TPM's clock.
        firmware_version: Vendor's number; obfuscated like `ClockInfo.reset_count`.
        selections: Banks and registers in the order in which they were hashed.
        pcr_digest: Hash of the selected registers' values, by the hash of the signing scheme.
        raw: Exactly the bytes that are signed, without a TPM2B_ATTEST header.
    """

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes
    raw: bytes = field(repr=False)


def signed_bytes(data: bytes) -> bytes:
    """Return the part of `data` that a TPM signs: without the size of a TPM2B_ATTEST, if it has one.

    A TPMS_ATTEST starts with TPM_GENERATED_VALUE, a TPM2B_ATTEST has it behind two bytes of size;
    no bytes are both. A size that does not fit the rest is left for `parse_attest` to refuse.
    """
    if data[:4] != _MAGIC and len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2:
        return bytes(data[2:])
    return bytes(data)


def parse_attest(data: bytes, *, source: str) -> Attest:
    """Read a quote from TPMS_ATTEST or TPM2B_ATTEST bytes.

    Args:
        data: The bytes.
        source: What they are, for error messages: a file name.

    Raises:
        VerificationError: ``quote-not-tpm-generated`` for a wrong magic, ``quote-wrong-type`` for
            another attestation than a quote, ``quote-trailing-data`` for bytes left over.
        ParseError: The bytes end early, or a field holds what no TPM writes there.
    """
    cursor = Cursor(data, source=source, big_endian=True)
    raw = signed_bytes(data)
    if data[:4] != _MAGIC and (data[2:6] == _MAGIC or len(raw) != len(data)):
        _check_size(cursor)
    attest = _read(cursor, raw)
    if cursor.remaining:
        raise _trailing(source, cursor.offset, cursor.remaining)
    return attest


def without_tail(data: bytes, *, source: str) -> bytes:
    """Return the part of `data` that a TPM signs, without what follows the quote.

    For quotes that `parse_attest` refuses as ``quote-trailing-data``: it tells bytes that were added to a
    TPM's quote from bytes that no TPM signed.

    Raises:
        VerificationError: As `parse_attest`, for anything but bytes left over.
        ParseError: As `parse_attest`.
    """
    start = 0 if data[:4] == _MAGIC else 2
    cursor = Cursor(data[start:], source=source, big_endian=True)
    _read(cursor, data)
    return data[start : start + cursor.offset]


def _read(cursor: Cursor, raw: bytes) -> Attest:
    source = cursor.source
    magic = cursor.u32("magic")
    if magic != TPM_GENERATED_VALUE:
        raise VerificationError(
            f"{source}: the quote starts with 0x{magic:08x}, not with TPM_GENERATED_VALUE (0xff544347): "
            "a TPM did not make these bytes",
            code="quote-not-tpm-generated",
        )
    kind = cursor.u16("type")
    if kind != TPM_ST_ATTEST_QUOTE:
        name = ATTEST_TYPE_NAME.get(kind, "an unknown type")
        raise VerificationError(
            f"{source}: the attestation has type 0x{kind:04x} ({name}), not TPM_ST_ATTEST_QUOTE",
            code="quote-wrong-type",
        )
    return Attest(
        magic=magic,
        type=kind,
        qualified_signer=_name(cursor),
        extra_data=cursor.counted(2, "extraData", limit=MAX_DATA),
        clock_info=_clock_info(cursor),
        firmware_version=cursor.u64("firmwareVersion"),
        selections=_selections(cursor),
        pcr_digest=_pcr_digest(cursor),
        raw=raw,
    )


def quoted_registers(attest: Attest) -> frozenset[tuple[str, int]]:
    """Return the (bank, register) pairs that the quote covers."""
    return frozenset((item.bank, register) for item in attest.selections for register in item.registers)


def describe_selections(selections: Iterable[PcrSelection]) -> str:
    """Return selections in the spelling of tpm2-tools: ``sha256:0,1,7+sha384:0``."""
    return "+".join(f"{item.bank}:{','.join(map(str, item.registers))}" for item in selections)


def _check_size(cursor: Cursor) -> None:
    size = cursor.u16("TPM2B_ATTEST.size")
    if size > cursor.remaining:
        raise ParseError(cursor.source, 0, "TPM2B_ATTEST.size", size, cursor.remaining)
    if size < cursor.remaining:
        raise _trailing(cursor.source, 2 + size, cursor.remaining - size)


def _trailing(source: str, offset: int, size: int) -> VerificationError:
    return VerificationError(
        f"{source}: offset {offset} (0x{offset:x}): {size} bytes follow the quote", code="quote-trailing-data"
    )


def _name(cursor: Cursor) -> bytes:
    # Part 2, 10.5.3: empty, a handle, or nameAlg and a digest of its size.
    at = cursor.offset
    name = cursor.counted(2, "qualifiedSigner", limit=MAX_NAME)
    if len(name) in (0, _HANDLE_SIZE):
        return name
    bank = BANK_BY_ALGORITHM.get(int.from_bytes(name[:2], "big")) if len(name) > 2 else None
    if bank is None:
        raise cursor.error(
            "qualifiedSigner", "neither a handle nor a hash algorithm and its digest", at=at + 2
        )
    if len(name) != 2 + DIGEST_SIZE[bank]:
        raise ParseError(cursor.source, at, "qualifiedSigner.size", 2 + DIGEST_SIZE[bank], len(name))
    return name


def _clock_info(cursor: Cursor) -> ClockInfo:
    clock, resets, restarts = cursor.u64("clock"), cursor.u32("resetCount"), cursor.u32("restartCount")
    at = cursor.offset
    safe = cursor.u8("safe")
    if safe > 1:
        raise cursor.error("safe", f"{safe} is neither YES (1) nor NO (0)", at=at)
    return ClockInfo(clock, resets, restarts, safe == 1)


def _selections(cursor: Cursor) -> tuple[PcrSelection, ...]:
    at = cursor.offset
    count = cursor.u32("pcrSelect.count")
    if count > MAX_SELECTIONS:
        raise ParseError(
            cursor.source, at, "pcrSelect.count", MAX_SELECTIONS, count, "more than a TPM can select"
        )
    return tuple(_selection(cursor, index) for index in range(count))


def _selection(cursor: Cursor, index: int) -> PcrSelection:
    name, at = f"pcrSelections[{index}]", cursor.offset
    algorithm = cursor.u16(f"{name}.hash")
    bank = BANK_BY_ALGORITHM.get(algorithm)
    if bank is None:
        raise cursor.error(f"{name}.hash", f"0x{algorithm:04x} is not a hash algorithm known here", at=at)
    at = cursor.offset
    size = cursor.u8(f"{name}.sizeofSelect")
    if not 1 <= size <= MAX_PCR_SELECT:
        raise cursor.error(f"{name}.sizeofSelect", f"{size} is not from 1 to {MAX_PCR_SELECT}", at=at)
    bits = int.from_bytes(cursor.take(size, f"{name}.pcrSelect"), "little")
    return PcrSelection(bank, tuple(register for register in range(8 * size) if bits >> register & 1))


def _pcr_digest(cursor: Cursor) -> bytes:
    at = cursor.offset
    value = cursor.counted(2, "pcrDigest", limit=MAX_DIGEST)
    if len(value) not in _DIGEST_SIZES:
        raise cursor.error("pcrDigest.size", f"{len(value)} is not the size of a digest", at=at)
    return value
