"""What the verifier knows, on its way to workers: certificates, revocation lists and keys go as their DER."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvmlab.evidence.context import VerifierContext


def make_sendable(context: VerifierContext) -> None:
    """Let a context be pickled for workers; the library of its certificates and keys leaves that to us."""
    from cryptography import x509

    copyreg.pickle(x509.Certificate, _certificate)
    copyreg.pickle(x509.CertificateRevocationList, _revocation_list)
    for signing in context.jwks or ():
        if signing.key is not None:
            copyreg.pickle(type(signing.key), _key)


def _certificate(value: Any) -> tuple[Any, tuple[bytes]]:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate_of, (value.public_bytes(Encoding.DER),)


def _revocation_list(value: Any) -> tuple[Any, tuple[bytes]]:
    from cryptography.hazmat.primitives.serialization import Encoding

    return revocation_list_of, (value.public_bytes(Encoding.DER),)


def _key(value: Any) -> tuple[Any, tuple[bytes]]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key_of, (value.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),)


def certificate_of(data: bytes) -> Any:
    """Return a certificate that was sent."""
    from cryptography import x509

    return x509.load_der_x509_certificate(data)


def revocation_list_of(data: bytes) -> Any:
    """Return a revocation list that was sent."""
    from cryptography import x509

    return x509.load_der_x509_crl(data)


def key_of(data: bytes) -> Any:
    """Return a public key that was sent."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(data)
