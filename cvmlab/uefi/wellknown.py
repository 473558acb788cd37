"""Names of keys and revocation lists that many machines share.

``known_keys.csv`` names certificates by the SHA-256 of their DER encoding; each row says where the bytes are
that it was computed from. ``revocations.csv`` has, for each published revision of Microsoft's revocation
lists and each architecture, a hash that it added, with the place that dates it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.uefi.certificates import CertificateInfo
    from cvmlab.uefi.siglist import SignatureList


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A certificate that is known by its fingerprint.

    Attributes:
        sha256: SHA-256 of the DER encoding, lower-case hex.
        vendor: Who holds the key.
        name: Common name of the certificate.
        purpose: What the key is for.
        source: Where the certificate's bytes are to be found.
    """

    sha256: str
    vendor: str
    name: str
    purpose: str
    source: str

    @property
    def text(self) -> str:
        """Such as ``Microsoft: signs Windows' boot loaders``."""
        return f"{self.vendor}: {self.purpose}"


@cache
def known_keys() -> Mapping[str, KnownKey]:
    """Return the known certificates by fingerprint, read once."""
    return MappingProxyType({row["sha256"]: KnownKey(**row) for row in _rows("known_keys.csv")})


@cache
def revocation_markers() -> Mapping[bytes, str]:
    """Return a hash that each revision of a revocation list added, and the revision's date."""
    return MappingProxyType(
        {bytes.fromhex(row["sha256"]): row["revision"] for row in _rows("revocations.csv")}
    )


def known_key(certificate: CertificateInfo | None) -> KnownKey | None:
    """Return the known key that a certificate is, by its fingerprint; None for any other."""
    return known_keys().get(certificate.sha256) if certificate is not None else None


def impersonates(certificate: CertificateInfo) -> KnownKey | None:
    """Return the known key whose name a certificate bears without being it; None where it does not.

    Anyone can make a certificate of any name, so this alone proves nothing: a vendor may have issued
    another of the same name.
    """
    if certificate.sha256 in known_keys():
        return None
    return _by_name().get(certificate.common_name) if certificate.common_name else None


def revision(lists: Iterable[SignatureList]) -> str | None:
    """Return the newest published revision of which a revocation list has a hash, as an ISO date.

    Entries of other origin do not hide it. Whether every earlier hash is there too is not said: a list
    may have been thinned out.
    """
    markers = revocation_markers()
    found = [
        markers[signature.data]
        for one in lists
        if one.type_name == "SHA256"
        for signature in one.signatures
        if signature.data in markers
    ]
    return max(found, default=None)


@cache
def _by_name() -> Mapping[str, KnownKey]:
    return MappingProxyType({key.name: key for key in known_keys().values()})


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("cvmlab.uefi").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
