"""The keys of an attestation service, from a JWK set that the verifier got by himself (RFC 7517).

Azure's sets have neither ``n`` and ``e`` nor ``alg``: the key is in the first certificate of ``x5c``. A key
that cannot be used is kept with the reason, so that a token which names it says why.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cvmlab.errors import ParseError
from cvmlab.tokens.jws import decode_segment
from cvmlab.tpm.public import spki_sha256
from cvmlab.tpm.strict import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEYS: Final = 256
MAX_CHAIN: Final = 10
RSA_BITS: Final = (2048, 16384)
CURVES: Final[Mapping[str, type[ec.EllipticCurve]]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1}

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the set.

    Attributes:
        kid: Its name; None where it has none.
        key: The public key; None where it cannot be used.
        algorithm: The only algorithm it is for; empty where any that fits.
        certificates: Certificates of the key, its own first.
        source: File.
        problem: Why it cannot be used; empty where it can.
    """

    kid: str | None
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None
    algorithm: str
    certificates: tuple[x509.Certificate, ...]
    source: str
    problem: str = ""

    @property
    def spki_sha256(self) -> str:
        """Hex SHA-256 of the key's SubjectPublicKeyInfo; empty where it cannot be used."""
        return spki_sha256(self.key) if self.key is not None else ""

    def thumbprint(self, name: str) -> bytes:
        """Return the hash of the key's own certificate (RFC 7515, section 4.1.7); empty without one.

        Args:
            name: ``sha1`` or ``sha256``.
        """
        if not self.certificates:
            return b""
        return hashlib.new(
            name, self.certificates[0].public_bytes(Encoding.DER), usedforsecurity=False
        ).digest()


def parse_jwks(data: bytes, *, source: str) -> tuple[SigningKey, ...]:
    """Read a JWK set, or a single JWK.

    Raises:
        ParseError: It is neither, or has more than `MAX_KEYS` keys.
    """
    value = load_json(data, source=source)
    if isinstance(value, dict) and "keys" not in value and "kty" in value:
        value = {"keys": [value]}
    entries = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        reason = 'need a JWK set, {"keys": […]}'
        if isinstance(value, dict) and "jwks_uri" in value:
            reason = "the service's OpenID document; need what its jwks_uri serves"
        raise ParseError(source, 0, "keys", reason=reason)
    if len(entries) > MAX_KEYS:
        raise ParseError(source, 0, "keys", MAX_KEYS, len(entries), "more than the limit")
    return tuple(_entry(entry, number, source) for number, entry in enumerate(entries))


def _entry(entry: object, number: int, source: str) -> SigningKey:
    where = f"keys[{number}]"
    if not isinstance(entry, dict):
        return SigningKey(None, None, "", (), source, f"{where} is no JSON object")
    kid = entry.get("kid")
    name = kid if isinstance(kid, str) else None
    algorithm = entry.get("alg")
    certificates: tuple[x509.Certificate, ...] = ()
    try:
        _check_use(entry, source)
        certificates = _certificates(entry.get("x5c"), source)
        key = _key(entry, certificates, source)
    except ParseError as error:
        return SigningKey(name, None, "", certificates, source, f"{where}: {error.message}")
    return SigningKey(name, key, algorithm if isinstance(algorithm, str) else "", certificates, source)


def _check_use(entry: Mapping[str, object], source: str) -> None:
    if entry.get("kty") == "oct":
        raise ParseError(source, 0, "kty", reason="a shared secret proves nothing to a third party")
    if private := sorted(_PRIVATE.intersection(entry)):
        raise ParseError(source, 0, private[0], reason="a private key; whoever reads the file can sign")
    if entry.get("use", "sig") != "sig":
        raise ParseError(source, 0, "use", reason="the key is not for signatures")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ParseError(source, 0, "key_ops", reason="the key is not for verifying")


def _certificates(value: object, source: str) -> tuple[x509.Certificate, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CHAIN:
        raise ParseError(source, 0, "x5c", reason=f"need a list of 1 to {MAX_CHAIN} certificates")
    found = []
    for item in value:
        try:
            der = base64.b64decode(item if isinstance(item, str) else "!", validate=True)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # encodings of other authorities that cryptography warns about
                found.append(x509.load_der_x509_certificate(der))
        except (binascii.Error, ValueError, TypeError, x509.InvalidVersion) as error:
            raise ParseError(source, 0, "x5c", reason=f"not a certificate: {error}") from error
    return tuple(found)


def _key(
    entry: Mapping[str, object], certificates: tuple[x509.Certificate, ...], source: str
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    stated = _stated_key(entry, source)
    certified: object = None
    if certificates:
        try:
            certified = certificates[0].public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ParseError(
                source, 0, "x5c", reason=f"the certificate's key cannot be read: {error}"
            ) from error
    kty = entry.get("kty")
    key = stated if stated is not None else certified
    if key is None:
        raise ParseError(source, 0, "kty", reason="neither a key nor a certificate")
    if stated is not None and certified is not None and stated != certified:
        raise ParseError(source, 0, "x5c", reason="the certificate is of another key than the one stated")
    if isinstance(key, rsa.RSAPublicKey) and kty == "RSA":
        low, high = RSA_BITS
        if not low <= key.key_size <= high:
            raise ParseError(source, 0, "n", reason=f"RSA of {key.key_size} bits; {low} to {high} are used")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and kty == "EC":
        if not isinstance(key.curve, tuple(CURVES.values())):
            raise ParseError(source, 0, "crv", reason=f"curve {key.curve.name} is not used")
        return key
    raise ParseError(source, 0, "kty", reason=f"key type {kty!r} does not fit the key, or is not used")


def _stated_key(
    entry: Mapping[str, object], source: str
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    try:
        if "n" in entry or "e" in entry:
            return rsa_key(entry, source=source)
        if "x" in entry or "y" in entry:
            curve = CURVES.get(str(entry.get("crv")))
            if curve is None:
                raise ParseError(source, 0, "crv", reason=f"curve {entry.get('crv')!r} is not used")
            x, y = (_integer(entry.get(name), name, source) for name in ("x", "y"))
            return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ParseError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParseError(source, 0, "key", reason=f"not a key: {error}") from error
    return None


def rsa_key(entry: Mapping[str, object], *, source: str) -> rsa.RSAPublicKey:
    """Return the key of an RSA JWK from ``n`` and ``e`` (RFC 7518, section 6.3.1).

    Raises:
        ParseError: They are missing or no key.
    """
    n, e = (_integer(entry.get(name), name, source) for name in ("n", "e"))
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParseError(source, 0, "n", reason=f"not an RSA key: {error}") from error


def _integer(value: object, field: str, source: str) -> int:
    if not isinstance(value, str) or not value or len(value) > 4096 or not value.isascii():
        raise ParseError(source, 0, field, reason="need a base64url number")
    return int.from_bytes(decode_segment(value.encode(), field, 0, source), "big")
