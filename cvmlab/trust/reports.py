"""What checking one hardware report gives, and how its two links are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cvmlab.errors import VerificationError
from cvmlab.findings import Finding, Link
from cvmlab.trust.paths import not_now, subject, verify_path
from cvmlab.trust.revocation import Revocation, check_revocation
from cvmlab.trust.roots import pin_of, pinned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509

    from cvmlab.evidence.model import CollateralClaim, HardwareClaim
    from cvmlab.findings import LinkStatus
    from cvmlab.tee.collateral import Collateral
    from cvmlab.trust.paths import CertificatePath
    from cvmlab.trust.roots import Use


_EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class HardwareContext:
    """What reports are checked with.

    Attributes:
        certificates: Certificates that came with the evidence or its collateral; candidates, never roots.
        given: Trust roots that the verifier gave.
        lists: Revocation lists.
        collateral: TCB info and QE identities.
        at: Time of the judgement.
    """

    certificates: tuple[x509.Certificate, ...]
    given: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]
    collateral: tuple[tuple[CollateralClaim, Collateral], ...]
    at: datetime

    def roots(self, use: Use) -> list[x509.Certificate]:
        """Return the roots for a use: given ones, and pinned ones whose bytes are there."""
        return [*self.given, *pinned(self.certificates, use)]


@dataclass(slots=True)
class Gathered:
    """What the steps of one link find.

    Attributes:
        name: Name of the link.
        holds: What was checked and is right.
        open: What could not be checked.
        broken: What is wrong.
        noted: What is wrong or to be known, as findings.
        left: What could not be checked, as findings.
    """

    name: str
    holds: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    noted: list[Finding] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """All findings; where something is wrong, what was left open does not explain it."""
        return self.noted if self.broken else [*self.noted, *self.left]

    def fail(self, code: str, why: str, *, before: str = "", after: str = "", **detail: object) -> None:
        """Note that something is wrong."""
        self.broken.append(why)
        self.noted.append(Finding(code, self.name, why, before=before, after=after, detail=detail))

    def leave(self, code: str, why: str, **detail: object) -> None:
        """Note that something could not be checked."""
        self.open.append(why)
        self.left.append(Finding(code, self.name, why, trust="digest-only", detail=detail))

    def remark(self, code: str, why: str, **detail: object) -> None:
        """Note something to know that breaks nothing."""
        self.holds.append(why)
        self.noted.append(Finding(code, self.name, why, detail={"severity": "info", **detail}))

    def link(self) -> Link:
        """Return the link: broken, not checked, or holding, in this order."""
        status: LinkStatus = "broken" if self.broken else "not-checked" if self.open else "holds"
        said = self.broken or [*self.open, *self.holds] if status != "holds" else self.holds
        return Link(self.name, status, "; ".join(dict.fromkeys(said)))


@dataclass(frozen=True, slots=True)
class HardwareCheck:
    """One report with what became of it.

    Attributes:
        claim: The report.
        quote: The TD quote that vouches for it, where that is another claim.
        root: Link ``hardware-root``: whether the signing key's certificate leads to its maker's root.
        report: Link ``hardware-report``: signature, certificate, policy and TCB.
        findings: What was found wrong or missing.
        signed: True where every signature on the report itself holds.
        path: Path of the signing key's certificate, where it holds.
        certificate: That certificate, if there is one.
        tcb_status: Intel's word for the platform's TCB; empty where unknown or not Intel's.
        revocation: What revocation lists say.
    """

    claim: HardwareClaim
    root: Link
    report: Link
    findings: tuple[Finding, ...]
    signed: bool
    quote: HardwareClaim | None = None
    path: CertificatePath | None = None
    certificate: x509.Certificate | None = None
    tcb_status: str = ""
    revocation: Revocation | None = None

    @property
    def authentic(self) -> bool:
        """True where a genuine processor signed it: what it says is then what that processor saw."""
        return self.signed and self.root.status == "holds"


def check_root(
    work: Gathered, leaf: x509.Certificate, use: Use, context: HardwareContext, what: str, *, signed: bool
) -> tuple[CertificatePath | None, Revocation | None]:
    """Check the path of a signing key's certificate to its maker's root.

    Args:
        work: Gathers for the link ``hardware-root``.
        leaf: Certificate of the key.
        use: What the root must be pinned for.
        context: Certificates, roots, lists, time.
        what: Name of the key for people.
        signed: True where that key signed the report. Else the signer is unknown, and a certificate that
            leads nowhere says nothing of its root.

    Returns:
        The path where one leads to a root that counts and is valid at the time; what lists say of it.
    """
    roots = context.roots(use)
    code = "hardware-chain-untrusted"
    try:
        path = verify_path(
            leaf, context.certificates, roots, at=context.at, untrusted_code=code, expired_code=_EXPIRED
        )
    except VerificationError as error:
        if error.code == _EXPIRED and signed:
            work.fail(code, f"the certificate of the {what} leads to its root, but not at this time: {error}")
            return None, None
        authorities = [c for c in context.certificates if c != leaf and _is_authority(c)]
        why = f"the certificate of the {what} leads to no pinned or given root: {error}"
        if not signed:
            work.leave(code, f"{why}; it is of no key that signed the report")
        elif authorities:
            work.fail(code, why, issuer=leaf.issuer.rfc4514_string()[:200])
        else:
            work.leave(code, why, issuer=leaf.issuer.rfc4514_string()[:200])
        return None, None
    revocation = check_revocation(path, context.lists, at=context.at)
    if revocation.revoked:
        work.fail(code, revocation.revoked)
        return None, revocation
    pin = pin_of(path.root)
    root = f"the pinned root {pin.name}" if pin is not None else f"the given root {subject(path.root)!r}"
    time = not_now(path, context.at)
    work.holds.append(f"the certificate of the {what} leads to {root}{time}; {revocation.describe()}")
    return path, revocation


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509 as library

    try:
        return certificate.extensions.get_extension_for_class(library.BasicConstraints).value.ca
    except (library.ExtensionNotFound, ValueError):
        return False


def issuers_named(certificates: Sequence[x509.Certificate]) -> str:
    """Return the subjects of certificates, bounded, for messages."""
    return ", ".join(repr(subject(certificate)) for certificate in certificates[:4])
