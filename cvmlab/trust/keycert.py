"""The link key-certificate: the certificate of the attestation key, or of the TPM's own key behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError, VerificationError
from cvmlab.findings import Link
from cvmlab.tpm.public import spki_sha256
from cvmlab.trust.gce import gce_instance
from cvmlab.trust.paths import not_now, subject, verify_path
from cvmlab.trust.roots import pin_of, pinned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509

    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import CertificateClaim, Evidence, KeyClaim
    from cvmlab.findings import LinkStatus
    from cvmlab.tpm.public import PublicKey
    from cvmlab.trust.paths import CertificatePath

_NEEDS_NONE: Final = {
    "enrolment": "the key is enrolled",
    "hardware-report": "the hardware report names the key",
}
MAX_PATHS: Final = 16
"""Most certificates of one key that are tried."""


@dataclass(frozen=True, slots=True)
class Certified:
    """What the certificates say.

    Attributes:
        path: The path that holds, if any.
        link: The link ``key-certificate``.
        names_key: How a certificate of the key itself binds it; empty where none does.
        failures: Cause code, link and reason of everything that is wrong.
    """

    path: CertificatePath | None
    link: Link
    names_key: str
    failures: tuple[tuple[str, str, str], ...]


def check_certificates(
    evidence: Evidence,
    context: VerifierContext,
    key: PublicKey | None,
    endorsement: KeyClaim | None,
    *,
    at: datetime,
    way: str,
) -> Certified:
    """Check the certificate of the key, or of the endorsement key that vouches for it.

    Several may be there, with several chains: one that holds is enough, and each that does not is named
    where none does.

    Args:
        evidence: The claims: certificates of keys, intermediates, and roots that count only if pinned.
        context: Trust roots that the verifier gave.
        key: The attestation key.
        endorsement: The endorsement key that a record ties it to, if any.
        at: Time at which certificates must be valid.
        way: What binds the key already: an enrolled key, or one that a hardware report names, needs none.
    """
    failures: list[tuple[str, str, str]] = []
    own = list(_of_key(evidence.certificates, "ak", spki_sha256(key) if key is not None else ""))
    foreign = [c for c in evidence.certificates if c.role == "ak" and c not in own]
    for claim in foreign if key is not None else []:
        why = f"the certificate {claim.source} is of another key than the one that is said to sign quotes"
        failures.append(("attestation-key-differs", "key-binding", why))
    claims = [claim for claim in evidence.keys if claim.role == "ek" and claim.key is not None]
    wanted = {_spki(endorsement)} if endorsement is not None else {_spki(claim) for claim in claims}
    vouching = [c for spki in sorted(wanted) if spki for c in _of_key(evidence.certificates, "ek", spki)]
    candidates = [*own, *vouching][:MAX_PATHS]
    free = _NEEDS_NONE.get(way, "")

    def done(status: LinkStatus, why: str, path: CertificatePath | None = None, names: str = "") -> Certified:
        return Certified(path, Link("key-certificate", status, why), names, tuple(failures))

    if not candidates:
        if free:
            return done("not-applicable", f"{free}; no certificate is needed")
        return done("not-checked", "the evidence has no certificate of the key or of its TPM")
    authorities = [c.certificate for c in evidence.certificates if c.role in ("ca", "processor")]
    authorities += [certificate for certificate in context.certificates if certificate not in authorities]
    roots = [*context.trust_roots, *pinned(authorities, "vtpm")]
    if not roots:
        if free:
            return done("not-applicable", f"{free}; no trust root was given")
        why = f"no trust root was given to check {candidates[0].source} against"
        missing = _missing(candidates[0].certificate, authorities)
        return done("not-checked", f"{why}, and none of its chain is pinned; {missing}")
    errors: list[tuple[str, str]] = []
    for claim in candidates:
        is_own = claim in own
        untrusted = "attestation-key-certificate-untrusted" if is_own else "endorsement-certificate-untrusted"
        expired = "attestation-key-certificate-expired" if is_own else untrusted
        try:
            path = verify_path(
                claim.certificate,
                authorities,
                roots,
                at=at,
                untrusted_code=untrusted,
                expired_code=expired,
            )
        except VerificationError as error:
            then = _valid_then(claim.certificate, authorities, roots, evidence.collected)
            errors.append((error.code, f"{claim.source}: {error}{then}"))
            continue
        what = "attestation key" if is_own else "endorsement key"
        names = f"its certificate {claim.source} names it" if is_own else ""
        return done("holds", _holds(claim, path, what, at), path, names)
    failures += [(code, "key-certificate", why) for code, why in errors]
    return done("broken", "; ".join(why for _, why in errors))


def _holds(claim: CertificateClaim, path: CertificatePath, what: str, at: datetime) -> str:
    pin = pin_of(path.root)
    root = f"the pinned root {pin.name!r}" if pin is not None else f"the trust root {subject(path.root)!r}"
    why = f"the certificate of the {what} ({claim.source}) leads to {root}"
    why += not_now(path, at)
    try:
        instance = gce_instance(claim.certificate, source=claim.source)
    except ParseError as error:
        return f"{why}; what it says of the instance cannot be read: {error.message}"
    return f"{why}; it is of the {instance.describe()}" if instance is not None else why


def _valid_then(
    leaf: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    collected: str,
) -> str:
    """What to add where a path is out of date: whether it held when the evidence says it was made."""
    try:
        then = datetime.fromisoformat(collected)
    except ValueError:
        return ""
    then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    try:
        verify_path(leaf, authorities, roots, at=then, untrusted_code="", expired_code="")
    except VerificationError:
        return ""
    made = f"{then:%Y-%m-%d}, when the evidence says that it was collected"
    return f"; it held at {made}: judge for then with --at"


def _missing(leaf: x509.Certificate, authorities: Sequence[x509.Certificate]) -> str:
    """Name the first issuer on the way up that is not there."""
    current = leaf
    for _ in range(MAX_PATHS):
        issuer = next((c for c in authorities if c.subject == current.issuer and c != current), None)
        if issuer is None:
            break
        current = issuer
    if current.subject == current.issuer:
        return f"its chain ends in {subject(current)!r}"
    return f"missing is the certificate of {current.issuer.rfc4514_string()[:200]}"


def _spki(claim: KeyClaim) -> str:
    return spki_sha256(claim.key) if claim.key is not None else ""


def _of_key(claims: Iterable[CertificateClaim], role: str, spki: str) -> Iterable[CertificateClaim]:
    """The certificates of a role whose key is `spki` (hex SHA-256); each belongs to its own key only."""
    for claim in claims:
        if claim.role == role and spki and claim.spki_sha256 == spki:
            yield claim
