"""X.509 certificates inside evidence: what they say, never whether they may be trusted.

The cryptography package is imported when the first certificate is read, so that the room stays light.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography import x509

_T = TypeVar("_T")

MAX_CERTIFICATE_SIZE: Final = 32 << 10
"""Longest certificate read, in bytes: with the cache of 1024 certificates this bounds the memory."""
UNREADABLE: Final = "unreadable"
"""Stands in a text field that the certificate has, but not in a form that can be read."""


# RFC 5280, section 4.1
@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a certificate says about itself. Reading it verifies no signature.

    Attributes:
        subject: Distinguished name in RFC 4514 form, or `UNREADABLE`.
        issuer: Distinguished name in RFC 4514 form, or `UNREADABLE`.
        serial_hex: Serial number in lower-case hex, with ``-`` before a negative one; or `UNREADABLE`.
        not_before: Start of validity (UTC), None if unreadable.
        not_after: End of validity (UTC), None if unreadable.
        sha256: SHA-256 of the DER encoding in lower-case hex: the fingerprint that openssl prints.
        common_name: The last CN of the subject, empty if there is none.
        public_key: Such as ``RSA-2048``, ``EC-secp256r1``, ``Ed25519``; or `UNREADABLE`.
    """

    subject: str
    issuer: str
    serial_hex: str
    not_before: datetime | None
    not_after: datetime | None
    sha256: str
    common_name: str
    public_key: str


def read_certificate(der: bytes) -> CertificateInfo | None:
    """Read the DER certificate at the start of `der`.

    Padding behind the certificate is not part of it: firmware ignores it, and so do the fields here.

    Returns:
        The certificate's statements, or None if this is no certificate or longer than
        `MAX_CERTIFICATE_SIZE` bytes. Never raises on any bytes. Results are kept in a bounded cache.
    """
    size = _der_size(der)
    if size is None or size > min(len(der), MAX_CERTIFICATE_SIZE):
        return None
    return _read(bytes(der[:size]))


def display_name(certificate: CertificateInfo) -> str:
    """Return the name that people know a certificate by: its CN, else its subject, else its hash."""
    return certificate.common_name or certificate.subject or f"certificate {certificate.sha256[:12]}"


def _der_size(data: bytes) -> int | None:
    """Return the size of the outer SEQUENCE with its header (X.690, section 8.1.3), None if it is none."""
    if len(data) < 2 or data[0] != 0x30:
        return None
    first = data[1]
    if first < 0x80:
        return 2 + first
    width = first & 0x7F
    if not 1 <= width <= 4 or len(data) < 2 + width:
        return None
    return 2 + width + int.from_bytes(data[2 : 2 + width], "big")


@functools.lru_cache(maxsize=1024)
def _read(der: bytes) -> CertificateInfo | None:
    # Hostile but parseable certificates (serial 0, negative serial) make the library warn; a caller who
    # turns warnings into errors must still get an answer.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cryptography import x509

        certificate = _attempt(lambda: x509.load_der_x509_certificate(der), None)
        return None if certificate is None else _describe(certificate, der)


def _describe(certificate: x509.Certificate, der: bytes) -> CertificateInfo:
    from cryptography.x509.oid import NameOID

    def common_name() -> str:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        value = names[-1].value if names else ""
        return value if isinstance(value, str) else value.decode("latin-1")

    return CertificateInfo(
        subject=_attempt(lambda: certificate.subject.rfc4514_string(), UNREADABLE),
        issuer=_attempt(lambda: certificate.issuer.rfc4514_string(), UNREADABLE),
        serial_hex=_attempt(lambda: f"{certificate.serial_number:x}", UNREADABLE),
        not_before=_attempt(lambda: certificate.not_valid_before_utc, None),
        not_after=_attempt(lambda: certificate.not_valid_after_utc, None),
        sha256=hashlib.sha256(der).hexdigest(),
        common_name=_attempt(common_name, ""),
        public_key=_attempt(lambda: _key_name(certificate), UNREADABLE),
    )


def _key_name(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC-{key.curve.name}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")


def _attempt(read: Callable[[], _T], otherwise: _T) -> _T:
    """Return what `read` gives, or `otherwise` where the library refuses, in whatever way it does."""
    try:
        return read()
    except Exception:
        return otherwise
    except BaseException as error:
        # A panic inside the library's Rust core is no Exception; everything else (Ctrl-C) must pass.
        if type(error).__name__ == "PanicException":
            return otherwise
        raise
