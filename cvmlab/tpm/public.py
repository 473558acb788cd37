"""TPMT_PUBLIC: the public part of a TPM key, its name, and whether it may attest.

Source: TPM 2.0 Library, Part 2, 12.2.4 (TPMT_PUBLIC), 8.3 (TPMA_OBJECT), 11.1.7, 11.2.4.5 and 12.2.3
(parameters); Part 1, 16 (names).
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cvmlab.banks import BANK_BY_ALGORITHM, WEAK_BANKS, available, digest
from cvmlab.binary import Cursor
from cvmlab.errors import ParseError, VerificationError
from cvmlab.tpm import constants as c

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""The kinds of key that sign quotes."""

_CURVES: Final[dict[int, ec.EllipticCurve]] = {
    c.TPM_ECC_NIST_P256: ec.SECP256R1(),
    c.TPM_ECC_NIST_P384: ec.SECP384R1(),
    c.TPM_ECC_NIST_P521: ec.SECP521R1(),
}
_HASHED_SCHEMES: Final = {
    c.TPM_ALG_RSA: frozenset({c.TPM_ALG_RSASSA, c.TPM_ALG_RSAPSS, c.TPM_ALG_OAEP}),
    c.TPM_ALG_ECC: frozenset(
        {
            c.TPM_ALG_ECDSA,
            c.TPM_ALG_ECDAA,
            c.TPM_ALG_SM2,
            c.TPM_ALG_ECSCHNORR,
            c.TPM_ALG_ECDH,
            c.TPM_ALG_ECMQV,
        }
    ),
}
_PLAIN_SCHEMES: Final = {
    c.TPM_ALG_RSA: frozenset({c.TPM_ALG_NULL, c.TPM_ALG_RSAES}),
    c.TPM_ALG_ECC: frozenset({c.TPM_ALG_NULL}),
}
_SIGNING_SCHEMES: Final = frozenset({"rsassa", "rsapss", "ecdsa"})
_MAX_KEY_FILE: Final = 64 << 10
_MAX_EXPONENT_BITS: Final = 64
_DEFAULT_EXPONENT: Final = 65537


@dataclass(frozen=True, slots=True)
class TpmPublic:
    """A TPMT_PUBLIC of an RSA or ECC key (Part 2, 12.2.4).

    Attributes:
        type: ``rsa`` or ``ecc``.
        name_alg: Hash of the name, a name of `cvmlab.banks`.
        attributes: TPMA_OBJECT bits.
        auth_policy: Policy digest, possibly empty.
        scheme: Name of the scheme (``rsassa``, ``ecdsa``…) or ``null``.
        scheme_hash: Hash of the scheme, a name of `cvmlab.banks`; empty where the scheme has none.
        symmetric: Cipher of a storage key, ``aes128cfb`` for example, or ``null``.
        key_bits: RSA modulus or ECC field, in bits.
        exponent: RSA public exponent, the default of 65537 filled in; 0 for ECC.
        curve: ECC curve as `cryptography` names it; empty for RSA.
        unique: RSA modulus, or the ECC coordinates x and y at full width, one after the other.
        key: The same key for `cryptography`.
        raw: Exactly the TPMT_PUBLIC bytes, without a TPM2B_PUBLIC header.
    """

    type: str
    name_alg: str
    attributes: int
    auth_policy: bytes
    scheme: str
    scheme_hash: str
    symmetric: str
    key_bits: int
    exponent: int
    curve: str
    unique: bytes
    key: PublicKey = field(repr=False, compare=False)
    raw: bytes = field(repr=False)

    @property
    def restricted(self) -> bool:
        """True where the TPM signs only what it made itself."""
        return bool(self.attributes & c.TPMA_OBJECT_RESTRICTED)

    @property
    def signing(self) -> bool:
        """True where the key may sign (``sign``, formerly ``sign/encrypt``)."""
        return bool(self.attributes & c.TPMA_OBJECT_SIGN)

    @property
    def decrypt(self) -> bool:
        """True where the key may decrypt."""
        return bool(self.attributes & c.TPMA_OBJECT_DECRYPT)

    @property
    def fixed_tpm(self) -> bool:
        """True where the key cannot leave its TPM."""
        return bool(self.attributes & c.TPMA_OBJECT_FIXEDTPM)

    @property
    def fixed_parent(self) -> bool:
        """True where the key cannot be moved below another parent."""
        return bool(self.attributes & c.TPMA_OBJECT_FIXEDPARENT)

    @property
    def sensitive_data_origin(self) -> bool:
        """True where the TPM generated the private part itself."""
        return bool(self.attributes & c.TPMA_OBJECT_SENSITIVEDATAORIGIN)

    @property
    def name(self) -> bytes:
        """The name: nameAlg, then the digest of TPMT_PUBLIC by it (Part 1, 16)."""
        return self.raw[2:4] + digest(self.name_alg, self.raw)

    @property
    def spki_sha256(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo, lower-case hex: the same for all forms of a key."""
        return spki_sha256(self.key)


def spki_sha256(key: PublicKey) -> str:
    """Return the SHA-256 of the key's DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), lower-case hex."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def parse_public(data: bytes, *, source: str) -> TpmPublic:
    """Read an RSA or ECC key from TPM2B_PUBLIC or TPMT_PUBLIC bytes.

    Raises:
        ParseError: The bytes end early or are left over, a field holds what no TPM writes there, the
            object is no asymmetric key, or its numbers are no key.
    """
    cursor = Cursor(data, source=source, big_endian=True)
    first = int.from_bytes(data[:2], "big")
    if first == len(data) - 2 or first not in c.OBJECT_TYPE_NAME:
        size = cursor.u16("TPM2B_PUBLIC.size")
        if size != cursor.remaining:
            raise ParseError(
                source,
                0,
                "TPM2B_PUBLIC.size",
                size,
                cursor.remaining,
                "neither a TPM2B_PUBLIC nor a TPMT_PUBLIC",
            )
    raw = bytes(data[cursor.offset :])
    at = cursor.offset
    kind = cursor.u16("type")
    if kind not in _HASHED_SCHEMES:
        name = c.OBJECT_TYPE_NAME.get(kind, "unknown")
        raise cursor.error(
            "type", f"0x{kind:04x} ({name}) has no public key that could sign a quote: need rsa or ecc", at=at
        )
    name_alg = _hash(cursor, "nameAlg")
    attributes = _attributes(cursor)
    policy = cursor.counted(2, "authPolicy", limit=c.MAX_DIGEST)
    symmetric = _symmetric(cursor)
    scheme, scheme_hash = _scheme(cursor, kind)
    key_bits, exponent, curve, unique, key = _rsa(cursor) if kind == c.TPM_ALG_RSA else _ecc(cursor)
    cursor.finish("TPMT_PUBLIC")
    return TpmPublic(
        c.OBJECT_TYPE_NAME[kind],
        name_alg,
        attributes,
        policy,
        scheme,
        scheme_hash,
        symmetric,
        key_bits,
        exponent,
        curve,
        unique,
        key,
        raw,
    )


def check_key_attributes(public: TpmPublic) -> None:
    """Check that a key is fit to attest: what it signs with TPM_GENERATED_VALUE, a TPM made.

    Raises:
        VerificationError: ``attestation-key-unsuitable``, with every attribute that is wrong.
    """
    wrong = [
        text
        for holds, text in (
            (public.restricted, "it is not restricted, so it signs anything, a forged quote too"),
            (public.signing, "it is not a signing key"),
            (not public.decrypt, "it may decrypt"),
            (public.fixed_tpm, "it is not fixedTPM, so it can be copied to another machine"),
            (public.fixed_parent, "it is not fixedParent, so it can be moved"),
            (public.sensitive_data_origin, "it was not made inside the TPM (sensitiveDataOrigin)"),
            (
                public.scheme in _SIGNING_SCHEMES,
                f"its scheme is {public.scheme}, not rsassa, rsapss or ecdsa",
            ),
            (public.name_alg not in WEAK_BANKS, f"its name is by {public.name_alg}, which is weak"),
        )
        if not holds
    ]
    if wrong:
        raise VerificationError(
            f"the attestation key cannot be relied on: {'; '.join(wrong)}", code="attestation-key-unsuitable"
        )
    check_key_strength(public.key)


def check_key_strength(key: PublicKey) -> None:
    """Check that signatures of a key are worth verifying: RSA of 2048 bits or more, or a NIST curve.

    Raises:
        VerificationError: ``attestation-key-unsuitable``.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < c.MIN_RSA_BITS:
            raise VerificationError(
                f"the key is RSA of {key.key_size} bits: need {c.MIN_RSA_BITS}",
                code="attestation-key-unsuitable",
            )
    elif key.curve.name not in c.COORDINATE_SIZE:
        raise VerificationError(
            f"the key is on the curve {key.curve.name}: need P-256, P-384 or P-521",
            code="attestation-key-unsuitable",
        )


def load_public_key(data: bytes, *, source: str) -> PublicKey:
    """Read a key from PEM or DER: a SubjectPublicKeyInfo, or an X.509 certificate.

    A certificate is not verified here; of several PEM blocks the first counts.

    Raises:
        ParseError: It is neither, or no RSA or ECC key, or larger than any TPM's.
    """
    if len(data) > _MAX_KEY_FILE:
        raise ParseError(source, 0, "key", _MAX_KEY_FILE, len(data), "more than the limit")
    text = bytes(data).lstrip()
    try:
        with warnings.catch_warnings():
            # Real certificates have serial numbers and encodings that cryptography warns about.
            warnings.simplefilter("ignore")
            key = _load_pem(text, source) if text.startswith(b"-----BEGIN ") else _load_der(bytes(data))
            if isinstance(key, ec.EllipticCurvePublicKey):
                return key
            if isinstance(key, rsa.RSAPublicKey):
                return _checked_rsa(key, source)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        if isinstance(error, ParseError):
            raise
        raise ParseError(source, 0, "key", reason=f"not a public key or certificate: {error}") from error
    raise ParseError(source, 0, "key", reason="neither an RSA nor an ECC key: no TPM attests with it")


def _load_pem(text: bytes, source: str) -> object:
    label = text[len(b"-----BEGIN ") : 64].split(b"-----")[0]
    if label == b"CERTIFICATE":
        end = text.find(b"-----END CERTIFICATE-----")
        if end < 0:
            raise ParseError(source, len(text), "certificate", reason="the PEM block has no end")
        return x509.load_pem_x509_certificate(text[: end + len(b"-----END CERTIFICATE-----\n")]).public_key()
    if label in (b"PUBLIC KEY", b"RSA PUBLIC KEY"):
        return serialization.load_pem_public_key(text)
    shown = label.decode("ascii", "backslashreplace")
    raise ParseError(source, 0, "key", reason=f"a PEM block of {shown!r}: need PUBLIC KEY or CERTIFICATE")


def _load_der(data: bytes) -> object:
    try:
        return serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return x509.load_der_x509_certificate(data).public_key()


def _checked_rsa(key: rsa.RSAPublicKey, source: str) -> rsa.RSAPublicKey:
    exponent = key.public_numbers().e
    if key.key_size > 8 * c.MAX_RSA_BYTES or exponent.bit_length() > _MAX_EXPONENT_BITS:
        raise ParseError(
            source,
            0,
            "key",
            reason=f"RSA of {key.key_size} bits, exponent of {exponent.bit_length()}: too large",
        )
    return key


def _hash(cursor: Cursor, name: str) -> str:
    at = cursor.offset
    algorithm = cursor.u16(name)
    bank = BANK_BY_ALGORITHM.get(algorithm)
    if bank is None or not available(bank):
        raise cursor.error(name, f"0x{algorithm:04x} is not a hash algorithm usable here", at=at)
    return bank


def _attributes(cursor: Cursor) -> int:
    at = cursor.offset
    bits = cursor.u32("objectAttributes")
    if bits & c.TPMA_OBJECT_RESERVED:
        raise cursor.error("objectAttributes", f"0x{bits:08x} has reserved bits set", at=at)
    return bits


def _symmetric(cursor: Cursor) -> str:
    # TPMT_SYM_DEF_OBJECT, Part 2, 11.1.7
    at = cursor.offset
    algorithm = cursor.u16("symmetric.algorithm")
    if algorithm == c.TPM_ALG_NULL:
        return "null"
    name = c.SYMMETRIC_NAME.get(algorithm)
    if name is None:
        raise cursor.error("symmetric.algorithm", f"0x{algorithm:04x} is not a cipher", at=at)
    bits, mode = cursor.u16("symmetric.keyBits"), cursor.u16("symmetric.mode")
    return f"{name}{bits}{'cfb' if mode == c.TPM_ALG_CFB else f'-mode-0x{mode:04x}'}"


def _scheme(cursor: Cursor, kind: int) -> tuple[str, str]:
    # TPMT_RSA_SCHEME and TPMT_ECC_SCHEME, Part 2, 11.2.4.2 and 11.2.5.6
    at = cursor.offset
    scheme = cursor.u16("scheme.scheme")
    if scheme in _PLAIN_SCHEMES[kind]:
        return c.SCHEME_NAME[scheme], ""
    if scheme not in _HASHED_SCHEMES[kind]:
        raise cursor.error("scheme.scheme", f"0x{scheme:04x} is not a scheme of this type of key", at=at)
    bank = _hash(cursor, "scheme.details.hashAlg")
    if scheme == c.TPM_ALG_ECDAA:
        cursor.u16("scheme.details.count")
    return c.SCHEME_NAME[scheme], bank


def _rsa(cursor: Cursor) -> tuple[int, int, str, bytes, PublicKey]:
    at = cursor.offset
    bits = cursor.u16("keyBits")
    exponent = cursor.u32("exponent") or _DEFAULT_EXPONENT
    unique_at = cursor.offset
    modulus = cursor.counted(2, "unique.rsa", limit=c.MAX_RSA_BYTES)
    number = int.from_bytes(modulus, "big")
    if bits % 8 or len(modulus) != bits // 8:
        raise ParseError(
            cursor.source, unique_at, "unique.rsa.size", bits // 8, len(modulus), "not of keyBits"
        )
    if number.bit_length() != bits or not number & 1:
        raise cursor.error(
            "unique.rsa", "not a modulus of keyBits: a key template, perhaps", at=unique_at + 2
        )
    if exponent < 3 or not exponent & 1:
        raise cursor.error("exponent", f"{exponent} is not an RSA exponent", at=at + 2)
    try:
        key = rsa.RSAPublicNumbers(exponent, number).public_key()
    except ValueError as error:
        raise cursor.error("unique.rsa", str(error), at=unique_at + 2) from error
    return bits, exponent, "", modulus, key


def _ecc(cursor: Cursor) -> tuple[int, int, str, bytes, PublicKey]:
    at = cursor.offset
    curve = _CURVES.get(number := cursor.u16("curveID"))
    if curve is None:
        raise cursor.error("curveID", f"0x{number:04x} is not P-256, P-384 or P-521", at=at)
    size = c.COORDINATE_SIZE[curve.name]
    if cursor.u16("kdf.scheme") != c.TPM_ALG_NULL:
        _hash(cursor, "kdf.details.hashAlg")
    at = cursor.offset
    x = cursor.counted(2, "unique.ecc.x", limit=size).rjust(size, b"\0")
    y = cursor.counted(2, "unique.ecc.y", limit=size).rjust(size, b"\0")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
    try:
        key = numbers.public_key()
    except ValueError as error:
        raise cursor.error(
            "unique.ecc", "not a point of the curve: a key template, perhaps", at=at
        ) from error
    return curve.key_size, 0, curve.name, x + y, key
