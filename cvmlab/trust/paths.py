"""Certificate paths from a leaf to a root that the verifier named.

Built on `cryptography`'s certificates and per-link signature check. Its own path validator is made for
web servers: it refuses endorsement certificates (no server name) and processor vendors' chains, so the
path rules of RFC 5280, section 6 that apply here are checked in this module, with the time passed in.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cvmlab.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PATH: Final = 8
"""Most certificates in a path, leaf and root included."""

MAX_CANDIDATES: Final = 64
"""Most issuer signatures tried for one leaf, so that a folder full of look-alikes costs little."""

_KNOWN_CRITICAL: Final = frozenset(
    {
        "2.5.29.14",  # subjectKeyIdentifier
        "2.5.29.15",  # keyUsage
        "2.5.29.17",  # subjectAltName: endorsement certificates name the TPM here
        "2.5.29.19",  # basicConstraints
        "2.5.29.32",  # certificatePolicies: informative here, no policy is asked for
        "2.5.29.35",  # authorityKeyIdentifier
        "2.5.29.37",  # extendedKeyUsage
        "2.5.29.9",  # subjectDirectoryAttributes (TCG EK credential profile 2.5, section 3.2.11)
    }
)
_WEAK_SIGNATURE_HASHES: Final = frozenset({"md5", "sha1"})


@dataclass(frozen=True, slots=True)
class CertificatePath:
    """A verified path.

    Attributes:
        certificates: Leaf first, trust root last.
        valid_from: Latest start of validity on the path.
        valid_until: Earliest end of validity on the path.
    """

    certificates: tuple[x509.Certificate, ...]
    valid_from: datetime
    valid_until: datetime

    @property
    def root(self) -> x509.Certificate:
        """The trust root the path ends in."""
        return self.certificates[-1]

    def describe(self) -> str:
        """The subjects from leaf to root, unescaped."""
        return " ← ".join(subject(certificate) for certificate in self.certificates)


def not_now(path: CertificatePath, at: datetime) -> str:
    """Return what to add where a path is valid at the time judged for and not now; empty elsewhere."""
    if path.valid_from <= datetime.now(UTC) <= path.valid_until:
        return ""
    until = f"valid from {path.valid_from:%Y-%m-%d} to {path.valid_until:%Y-%m-%d}"
    return f"; valid at {at:%Y-%m-%d}, the time judged for, but not now ({until})"


def subject(certificate: x509.Certificate) -> str:
    """Return the common name, or the whole subject, of a certificate; unescaped and bounded."""
    try:
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        text = str(names[0].value) if names else certificate.subject.rfc4514_string()
    except ValueError:
        text = "(unreadable subject)"
    return text[:200] or "(empty subject)"


def verify_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    at: datetime,
    untrusted_code: str,
    expired_code: str,
) -> CertificatePath:
    """Find and verify a path from `leaf` over `intermediates` to one of `roots`.

    Args:
        leaf: The certificate to prove.
        intermediates: Certificates that came with the evidence. They are candidates, never roots.
        roots: Trust roots, as the verifier gave them.
        at: The time at which every certificate of the path must be valid (timezone-aware).
        untrusted_code: Cause code of the error where there is no path.
        expired_code: Cause code where the only paths are outside their validity at `at`.

    Returns:
        The verified path, leaf first.

    Raises:
        VerificationError: No path, or none that is valid at `at`; the message names the certificate
            whose issuer is missing or which rule failed. Source: RFC 5280, section 6.1.
    """
    reasons: list[str] = []
    expired: list[str] = []
    budget = MAX_CANDIDATES
    anchors = {fingerprint(root) for root in roots}

    def extend(path: tuple[x509.Certificate, ...]) -> CertificatePath | None:
        nonlocal budget
        last = path[-1]
        if fingerprint(last) in anchors:
            return _in_time(path, at, expired)
        if len(path) >= MAX_PATH:
            reasons.append(f"the path is longer than {MAX_PATH} certificates")
            return None
        seen = {fingerprint(certificate) for certificate in path}
        found = False
        for issuer in (*roots, *intermediates):
            if issuer.subject != last.issuer or fingerprint(issuer) in seen:
                continue
            if budget <= 0:
                reasons.append("too many candidate issuers")
                return None
            budget -= 1
            found = True
            problem = _link_problem(last, issuer, below=len(path) - 1)
            if problem:
                reasons.append(problem)
                continue
            result = extend((*path, issuer))
            if result is not None:
                return result
        if not found:
            reasons.append(f"no certificate of the issuer of {subject(last)!r} ({_issuer(last)}) was given")
        return None

    with warnings.catch_warnings():
        # serial number 0 and other oddities of TPM and processor vendors' certificates
        warnings.simplefilter("ignore")
        try:
            result = extend((leaf,))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise VerificationError(f"a certificate cannot be read: {error}", code=untrusted_code) from error
    if result is not None:
        return result
    if expired:
        raise VerificationError(expired[0], code=expired_code)
    raise VerificationError(
        "no path to a given trust root: " + "; ".join(dict.fromkeys(reasons)), code=untrusted_code
    )


@lru_cache(maxsize=512)
def fingerprint(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's DER form."""
    return certificate.fingerprint(hashes.SHA256())


def _issuer(certificate: x509.Certificate) -> str:
    return certificate.issuer.rfc4514_string()[:200]


@lru_cache(maxsize=512)
def _link_problem(child: x509.Certificate, issuer: x509.Certificate, *, below: int) -> str | None:
    """Return why `issuer` may not have issued `child`, or None. `below`: CA certificates under the issuer.

    Remembered, since the machines of a fleet share the upper links of their chains: time is not judged here.
    """
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return f"{subject(issuer)!r} has no basicConstraints, so it is no certificate authority"
    if not constraints.ca:
        return f"{subject(issuer)!r} is no certificate authority"
    if constraints.path_length is not None and below > constraints.path_length:
        return f"{subject(issuer)!r} allows only {constraints.path_length} authorities below it"
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.key_cert_sign:
            return f"{subject(issuer)!r} may not sign certificates (keyUsage)"
    except x509.ExtensionNotFound:
        pass
    for certificate in (child, issuer):
        for extension in certificate.extensions:
            if extension.critical and extension.oid.dotted_string not in _KNOWN_CRITICAL:
                return (
                    f"{subject(certificate)!r} has a critical extension "
                    f"{extension.oid.dotted_string} that is not understood"
                )
    algorithm = child.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK_SIGNATURE_HASHES:
        return f"{subject(child)!r} is signed with {algorithm.name}, which no longer proves anything"
    key = issuer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            return f"{subject(issuer)!r} has an RSA key of only {key.key_size} bits"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < 256:
            return f"{subject(issuer)!r} has a key on the small curve {key.curve.name}"
    else:
        return f"{subject(issuer)!r} has a key of a kind that is not supported"
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return f"the signature of {subject(issuer)!r} on {subject(child)!r} is wrong"
    return None


def _in_time(path: tuple[x509.Certificate, ...], at: datetime, expired: list[str]) -> CertificatePath | None:
    for certificate in path:
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            expired.append(
                f"{subject(certificate)!r} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d}, not at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            )
            return None
    return CertificatePath(
        path,
        max(certificate.not_valid_before_utc for certificate in path),
        min(certificate.not_valid_after_utc for certificate in path),
    )
