"""Roots that count: those the verifier gave, and those whose fingerprint is pinned (`roots.toml`)."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cvmlab.trust.paths import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

Use = Literal["snp", "tdx", "vtpm", "nitro"]


@dataclass(frozen=True, slots=True)
class Pin:
    """A root that counts without being given.

    Attributes:
        name: What it is.
        subject: Common name that it gives itself.
        use: What it may vouch for: ``snp``, ``tdx``, ``vtpm`` or ``nitro``.
        product: AMD's product line that it is of; empty elsewhere.
        sha256: Hex SHA-256 of the certificate.
        spki_sha256: Hex SHA-256 of its SubjectPublicKeyInfo.
        valid_until: Its end of validity, ISO 8601 date.
        source: Where its owner publishes it.
    """

    name: str
    subject: str
    use: Use
    product: str
    sha256: str
    spki_sha256: str
    valid_until: str
    source: str


@cache
def pins() -> tuple[Pin, ...]:
    """Return every pinned root, read once."""
    text = resources.files("cvmlab.trust").joinpath("roots.toml").read_text(encoding="utf-8")
    return tuple(Pin(**entry) for entry in tomllib.loads(text)["root"])


@lru_cache(maxsize=512)
def pin_of(certificate: x509.Certificate) -> Pin | None:
    """Return the pin that a certificate meets, or None.

    A certificate with a pinned key but another fingerprint counts only where that key signed it itself:
    then its owner made it.
    """
    own = fingerprint(certificate).hex()
    for pin in pins():
        if pin.sha256 == own:
            return pin
    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key = hashlib.sha256(spki).hexdigest()
        for pin in pins():
            if pin.spki_sha256 == key:
                certificate.verify_directly_issued_by(certificate)
                return pin
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        pass
    return None


def pinned(certificates: Iterable[x509.Certificate], use: Use) -> list[x509.Certificate]:
    """Return those certificates that are pinned roots for a use."""
    return [c for c in certificates if (pin := pin_of(c)) is not None and pin.use == use]
