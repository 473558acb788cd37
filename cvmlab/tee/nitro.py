"""AWS NitroTPM attestation documents: the hypervisor signs the TPM's registers and a nonce.

A COSE_Sign1 (RFC 9052, section 4.2) by ES384 whose payload is a CBOR map. Source: Amazon EC2 User Guide, *Get
the NitroTPM Attestation Document* and *Validate a NitroTPM Attestation Document*.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.errors import MissingExtraError, ParseError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DOCUMENT: Final = 64 << 10
"""Largest document; real ones have some 5 KB."""
MAX_AUTHORITIES: Final = 8
MAX_REGISTER: Final = 31
SIGN1_TAG: Final = 18
ES384: Final = -35
SIGNATURE_SIZE: Final = 96
DIGEST_SIZE: Final = {"SHA256": 32, "SHA384": 48, "SHA512": 64}
_MAX_CERTIFICATE: Final = 4096
_MAX_FREE: Final = 1024
_HEADER: Final = (b"\xa1\x01\x38\x22", b"\xa1\x01\x26", b"\xa1\x01\x38\x23")
_STARTS: Final = (b"\x84", b"\xd2\x84")


@dataclass(frozen=True, slots=True)
class NitroDocument:
    """An attestation document. Nothing in it is proven before its signature and chain are.

    Attributes:
        module_id: Instance and module that asked for it.
        timestamp: When it was made, milliseconds since 1970-01-01 UTC.
        digest: Hash of the registers, ``SHA384``.
        registers: Register index to value at that time.
        certificate: DER certificate of the key that signed.
        authorities: DER certificates above it, the root first.
        public_key: Key that the guest gave, DER; None where absent.
        user_data: Data that the guest gave; None where absent.
        nonce: Nonce that the guest was given; None where absent.
        signed: Exactly the bytes that are signed (Sig_structure).
        signature: r and s, 48 bytes each, big-endian.
    """

    module_id: str
    timestamp: int
    digest: str
    registers: Mapping[int, bytes]
    certificate: bytes
    authorities: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def bank(self) -> str:
        """Name of the bank of the registers."""
        return self.digest.lower()


def looks_like_nitro_document(data: bytes) -> bool:
    """Tell by content: four items, the first of them a header with an algorithm of ECDSA."""
    start = next((start for start in _STARTS if data[: len(start)] == start), None)
    if start is None or len(data) > MAX_DOCUMENT:
        return False
    rest = data[len(start) :]
    return any(rest[1:].startswith(header) for header in _HEADER) and rest[0] >> 5 == 2


def parse_nitro_document(data: bytes, *, source: str) -> NitroDocument:
    """Read a document.

    Raises:
        ParseError: No COSE_Sign1 by ES384, bytes behind it, or a payload that is not as the guide says. A
            document of a Nitro *enclave* is none: it has no TPM.
        MissingExtraError: cbor2 is not installed.
    """
    if len(data) > MAX_DOCUMENT:
        raise ParseError(source, 0, "COSE_Sign1", MAX_DOCUMENT, len(data), "more than the limit")
    value = _decode(data, source, "COSE_Sign1")
    if getattr(value, "tag", None) == SIGN1_TAG:
        value = value.value  # type: ignore[attr-defined]
    if not isinstance(value, list | tuple) or len(value) != 4:
        reason = "need four items: header, header, payload, signature"
        raise ParseError(source, 0, "COSE_Sign1", reason=reason)
    protected, unprotected, payload, signature = value
    if not (isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise ParseError(source, 0, "COSE_Sign1", reason="header, payload and signature must be bytes")
    if unprotected:
        raise ParseError(source, 0, "unprotected", reason="something that nothing signs")
    header = _decode(protected, source, "protected")
    if header != {1: ES384}:
        raise ParseError(source, 0, "protected", reason=f"the algorithm must be ES384 ({ES384}) alone")
    if len(signature) != SIGNATURE_SIZE:
        raise ParseError(source, 0, "signature", SIGNATURE_SIZE, len(signature))
    fields = _decode(payload, source, "payload")
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise ParseError(source, 0, "payload", reason="need a map with texts as keys")
    if "pcrs" in fields and "nitrotpm_pcrs" not in fields:
        raise ParseError(source, 0, "payload.pcrs", reason="the document of an enclave, which has no TPM")
    return NitroDocument(
        module_id=_text(fields, "module_id", source),
        timestamp=_timestamp(fields.get("timestamp"), source),
        digest=(digest := _digest(fields, source)),
        registers=_registers(fields.get("nitrotpm_pcrs"), DIGEST_SIZE[digest], source),
        certificate=_certificate(fields.get("certificate"), source, "certificate"),
        authorities=_authorities(fields.get("cabundle"), source),
        public_key=_free(fields, "public_key", source),
        user_data=_free(fields, "user_data", source),
        nonce=_free(fields, "nonce", source),
        signed=b"\x84\x6aSignature1" + _bstr(protected) + _bstr(b"") + _bstr(payload),
        signature=signature,
    )


def _bstr(data: bytes) -> bytes:
    """A CBOR byte string with the shortest length (RFC 8949, section 4.2.1)."""
    size = len(data)
    if size < 24:
        return bytes([0x40 | size]) + data
    if size < 1 << 8:
        return b"\x58" + bytes([size]) + data
    if size < 1 << 16:
        return b"\x59" + size.to_bytes(2, "big") + data
    return b"\x5a" + size.to_bytes(4, "big") + data


def _decode(data: bytes, source: str, name: str) -> object:
    try:
        import cbor2
    except ImportError as error:
        raise MissingExtraError("An attestation document of AWS NitroTPM", "cbor") from error
    stream = io.BytesIO(data)
    try:
        value: object = cbor2.load(stream)
    except (
        cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, RecursionError, MemoryError
    ) as error:  # fmt: skip
        raise ParseError(source, 0, name, reason=f"not CBOR: {str(error)[:80]}") from error
    if stream.read(1):
        raise ParseError(source, stream.tell() - 1, name, reason="bytes left over")
    return value


def _text(fields: Mapping[str, object], name: str, source: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise ParseError(source, 0, f"payload.{name}", reason="need a short text")
    return value


def _timestamp(value: object, source: str) -> int:
    # 1 << 44 ms is the year 2527
    if type(value) is not int or not 0 < value < 1 << 44:
        raise ParseError(source, 0, "payload.timestamp", reason="need milliseconds since 1970")
    return value


def _digest(fields: Mapping[str, object], source: str) -> str:
    value = fields.get("digest")
    if not isinstance(value, str) or value not in DIGEST_SIZE:
        raise ParseError(source, 0, "payload.digest", reason=f"need one of {', '.join(DIGEST_SIZE)}")
    return value


def _registers(value: object, size: int, source: str) -> dict[int, bytes]:
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_REGISTER + 1:
        raise ParseError(source, 0, "payload.nitrotpm_pcrs", reason="need a map of register values")
    for index, digest in value.items():
        where = f"payload.nitrotpm_pcrs[{str(index)[:8]}]"
        if type(index) is not int or not 0 <= index <= MAX_REGISTER:
            raise ParseError(source, 0, where, reason="no such register")
        if not isinstance(digest, bytes) or len(digest) != size:
            have = len(digest) if isinstance(digest, bytes) else 0
            raise ParseError(source, 0, where, size, have)
    return dict(sorted(value.items()))


def _certificate(value: object, source: str, name: str) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= _MAX_CERTIFICATE:
        raise ParseError(source, 0, f"payload.{name}", reason="need a DER certificate")
    return value


def _authorities(value: object, source: str) -> tuple[bytes, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_AUTHORITIES:
        raise ParseError(source, 0, "payload.cabundle", reason=f"need at most {MAX_AUTHORITIES} certificates")
    return tuple(_certificate(item, source, f"cabundle[{index}]") for index, item in enumerate(value))


def _free(fields: Mapping[str, object], name: str, source: str) -> bytes | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) > _MAX_FREE:
        raise ParseError(source, 0, f"payload.{name}", reason=f"need at most {_MAX_FREE} bytes")
    return value
