"""Revocation lists that came with the evidence or its collateral; nothing is fetched here."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from cvmlab.trust.paths import subject

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography import x509

    from cvmlab.trust.paths import CertificatePath


@dataclass(frozen=True, slots=True)
class Revocation:
    """What revocation lists say of a path.

    Attributes:
        revoked: Why the path is revoked; empty where no valid list says so.
        checked: Common names of the issuers whose list was valid and names none of the path.
        notes: Lists that could not be used, each with the reason.
    """

    revoked: str
    checked: tuple[str, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """One clause for the reason of a link."""
        if self.checked:
            text = f"not revoked by the list of {', '.join(self.checked)}"
        else:
            text = "revocation was not checked: there is no usable revocation list"
        return "; ".join((text, *self.notes))


def check_revocation(
    path: CertificatePath, lists: Iterable[x509.CertificateRevocationList], *, at: datetime
) -> Revocation:
    """Look up each certificate of a verified path in the list of its issuer (RFC 5280, section 6.3).

    A list that is past its next update still revokes what it names, and vouches for nothing.

    Args:
        path: Leaf first, root last.
        lists: The lists there are.
        at: Time of the judgement.
    """
    checked: list[str] = []
    notes: list[str] = []
    for certificate, issuer in zip(path.certificates, path.certificates[1:], strict=False):
        for crl in lists:
            if crl.issuer != issuer.subject:
                continue
            name = subject(issuer)
            if not _signed(crl, issuer):
                notes.append(f"the revocation list of {name} is not signed by it")
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None and entry.revocation_date_utc <= at:
                why = f"{name} revoked {subject(certificate)!r} on {entry.revocation_date_utc:%Y-%m-%d}"
                return Revocation(why, (), ())
            until = crl.next_update_utc
            if crl.last_update_utc > at or until is None or until < at:
                ended = f"{until:%Y-%m-%d}" if until is not None else "an unknown date"
                notes.append(
                    f"the revocation list of {name} is for {crl.last_update_utc:%Y-%m-%d} to {ended} only"
                )
                continue
            checked.append(name)
    return Revocation("", tuple(dict.fromkeys(checked)), tuple(dict.fromkeys(notes)))


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
