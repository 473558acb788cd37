"""TPMT_SIGNATURE and plain signatures, and their verification.

Source: TPM 2.0 Library, Part 2, 11.3.4 (TPMT_SIGNATURE), 11.3.1 and 11.3.2; Part 1, B.5 to B.7 and
C.4.2 (schemes); SEC 1, 4.1 (ECDSA).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm import constants as c
from cvmlab.tpm.public import PublicKey, TpmPublic, check_key_strength

if TYPE_CHECKING:
    from collections.abc import Callable

AttestationKey = TpmPublic | PublicKey
"""A key in the TPM's form, which says its scheme, or a bare one, which does not."""

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_SCHEMES: Final = {c.TPM_ALG_RSASSA: "rsassa", c.TPM_ALG_RSAPSS: "rsapss", c.TPM_ALG_ECDSA: "ecdsa"}
_MAX_COORDINATE: Final = 66
_RSA_SIZES: Final = frozenset({256, 384, 512, 1024})
_MAX_SIGNATURE: Final = 6 + c.MAX_RSA_BYTES


@dataclass(frozen=True, slots=True)
class TpmSignature:
    """A signature with the scheme that it claims (Part 2, 11.3.4).

    Attributes:
        scheme: ``rsassa``, ``rsapss`` or ``ecdsa``.
        hash: Hash of the scheme, a name of `cvmlab.banks`.
        signature: RSA: the signature, big-endian, as long as the modulus. ECDSA: (r, s).
        plain: True where the bytes name neither scheme nor hash: these come from the key or a default.
        raw: The bytes that were read.
    """

    scheme: str
    hash: str
    signature: bytes | tuple[int, int]
    plain: bool
    raw: bytes = field(repr=False)


def parse_signature(
    data: bytes, *, source: str, key: AttestationKey | None = None, default_hash: str = "sha256"
) -> TpmSignature:
    """Read a TPMT_SIGNATURE, or a plain signature: RSA bytes, DER ECDSA, or r and s at full width.

    The bytes must fit exactly one form: for an RSA key, as many bytes as the modulus are plain and
    anything else is a TPMT_SIGNATURE; for an ECC key the three forms are tried and two that fit are
    an error.

    Args:
        data: The bytes.
        source: What they are, for error messages.
        key: The key that is said to have signed. Without it, forms are told apart by size.
        default_hash: Hash of a plain signature where the key does not say one.

    Raises:
        VerificationError: ``quote-signature-invalid`` for a scheme with which no attestation key
            signs (HMAC, no signature at all) or one that is not verified here (ECDAA, SM2, Schnorr).
        ParseError: No form fits, or more than one.
    """
    if not 8 <= len(data) <= _MAX_SIGNATURE:
        raise ParseError(
            source, 0, "signature", 8, len(data), f"not of a signature's size (8 to {_MAX_SIGNATURE})"
        )
    raw = bytes(data)
    bare = key.key if isinstance(key, TpmPublic) else key
    if isinstance(bare, rsa.RSAPublicKey):
        if len(raw) == (bare.key_size + 7) // 8:
            return _plain(raw, raw, key, default_hash, "rsassa")
        return _parse_tpmt(raw, source)
    plain = _plain_ecdsa(
        raw, _MAX_COORDINATE if bare is None else c.COORDINATE_SIZE.get(bare.curve.name, 0), bare is None
    )
    forms: list[TpmSignature] = [_plain(raw, numbers, key, default_hash, "ecdsa") for numbers in plain]
    if bare is None and len(raw) in _RSA_SIZES:
        forms.append(_plain(raw, raw, key, default_hash, "rsassa"))
    try:
        forms.append(_parse_tpmt(raw, source))
    except CvmlabError:
        if not forms:
            raise
    if len(forms) > 1:
        raise ParseError(source, 0, "signature", reason="the bytes fit more than one form of signature")
    return forms[0]


def verify_signature(key: AttestationKey, signature: TpmSignature, message: bytes) -> None:
    """Verify a signature over a message.

    Args:
        key: The key. One in the TPM's form also fixes scheme and hash.
        signature: What `parse_signature` gave.
        message: The signed bytes, `Attest.raw` for a quote.

    Raises:
        VerificationError: ``quote-signature-invalid``; ``weak-hash-only`` for SHA-1;
            ``attestation-key-unsuitable`` for RSA below 2048 bits or an unusual curve.
    """
    bare = key.key if isinstance(key, TpmPublic) else key
    check_key_strength(bare)
    _check_scheme(key, signature)
    if signature.hash == "sha1":
        raise VerificationError(
            "the signature is by SHA-1, which does not resist collisions", code="weak-hash-only"
        )
    algorithm = _HASHES.get(signature.hash)
    if algorithm is None:
        raise _invalid(f"the signature is by {signature.hash}: need sha256, sha384 or sha512")
    try:
        _verify(bare, signature, message, algorithm)
    except InvalidSignature as error:
        raise _invalid("the signature does not verify with this key") from error
    except (ValueError, OverflowError, UnsupportedAlgorithm) as error:
        raise _invalid(f"the signature cannot be verified with this key: {error}") from error


def _verify(key: PublicKey, signature: TpmSignature, message: bytes, algorithm: hashes.HashAlgorithm) -> None:
    value = signature.signature
    if isinstance(key, rsa.RSAPublicKey) and isinstance(value, bytes):
        if len(value) != (key.key_size + 7) // 8:
            raise _invalid(f"the signature has {len(value)} bytes, the key {(key.key_size + 7) // 8}")
        if signature.scheme == "rsapss":
            # TPMs differ in salt length: the largest that fits, or that of the digest (Part 1, B.7).
            pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.AUTO)
            key.verify(value, message, pss, algorithm)
        else:
            key.verify(value, message, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(value, tuple):
        key.verify(encode_dss_signature(*value), message, ec.ECDSA(algorithm))
    else:
        kind = "an RSA" if isinstance(key, rsa.RSAPublicKey) else "an ECC"
        raise _invalid(f"the signature's scheme is {signature.scheme}, but the key is {kind} key")


def _check_scheme(key: AttestationKey, signature: TpmSignature) -> None:
    if not isinstance(key, TpmPublic) or key.scheme == "null":
        return
    if (key.scheme, key.scheme_hash) != (signature.scheme, signature.hash):
        raise _invalid(
            f"the signature is {signature.scheme} by {signature.hash}, "
            f"but the key signs only {key.scheme} by {key.scheme_hash or 'no hash'}"
        )


def _invalid(message: str) -> VerificationError:
    return VerificationError(message, code="quote-signature-invalid")


def _plain(
    raw: bytes, value: bytes | tuple[int, int], key: AttestationKey | None, default_hash: str, scheme: str
) -> TpmSignature:
    if isinstance(key, TpmPublic) and key.scheme in _SCHEMES.values():
        return TpmSignature(key.scheme, key.scheme_hash, value, True, raw)
    return TpmSignature(scheme, default_hash, value, True, raw)


def _plain_ecdsa(raw: bytes, size: int, any_size: bool) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    if len(raw) == 2 * size or (any_size and len(raw) in {2 * item for item in c.COORDINATE_SIZE.values()}):
        half = len(raw) // 2
        found.append((int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")))
    try:
        r, s = decode_dss_signature(raw)
    except ValueError:
        return found
    if r > 0 and s > 0 and max(r.bit_length(), s.bit_length()) <= 8 * size:
        found.append((r, s))
    return found


def _parse_tpmt(raw: bytes, source: str) -> TpmSignature:
    cursor = Cursor(raw, source=source, big_endian=True)
    number = cursor.u16("sigAlg")
    scheme = _SCHEMES.get(number)
    if scheme is None:
        name = c.SCHEME_NAME.get(number)
        if name is None:
            raise cursor.error("sigAlg", f"0x{number:04x} is not a scheme, and no plain signature fits", at=0)
        raise _invalid(f"{source}: the scheme {name} is not one that attests: need rsassa, rsapss or ecdsa")
    algorithm = cursor.u16("hash")
    bank = BANK_BY_ALGORITHM.get(algorithm)
    if bank is None:
        raise cursor.error("hash", f"0x{algorithm:04x} is not a hash algorithm known here", at=2)
    read: Callable[[Cursor], bytes | tuple[int, int]] = _read_ecdsa if scheme == "ecdsa" else _read_rsa
    value = read(cursor)
    cursor.finish("TPMT_SIGNATURE")
    return TpmSignature(scheme, bank, value, False, raw)


def _read_rsa(cursor: Cursor) -> bytes:
    at = cursor.offset
    value = cursor.counted(2, "sig", limit=c.MAX_RSA_BYTES)
    if not value:
        raise cursor.error("sig.size", "the signature is empty", at=at)
    return value


def _read_ecdsa(cursor: Cursor) -> tuple[int, int]:
    at = cursor.offset
    r = int.from_bytes(cursor.counted(2, "signatureR", limit=_MAX_COORDINATE), "big")
    s = int.from_bytes(cursor.counted(2, "signatureS", limit=_MAX_COORDINATE), "big")
    if not r or not s:
        raise cursor.error("signatureR", "r and s are not both above zero", at=at)
    return r, s
