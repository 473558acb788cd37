"""Whose key signed? The ways by which an attestation key is bound to a machine (design, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cvmlab.errors import ParseError, VerificationError
from cvmlab.findings import Finding, Link
from cvmlab.tee.hcl import HclReport, jwk_key
from cvmlab.tpm.credential import binds
from cvmlab.tpm.public import check_key_attributes, check_key_strength, spki_sha256
from cvmlab.trust.keycert import check_certificates

if TYPE_CHECKING:
    from datetime import datetime

    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence, KeyClaim
    from cvmlab.tpm.public import PublicKey, TpmPublic
    from cvmlab.trust.hardware import HardwareResult
    from cvmlab.trust.paths import CertificatePath


@dataclass(frozen=True, slots=True)
class KeyBinding:
    """The attestation key and what ties it to the machine.

    Attributes:
        public: TPM public area of the key; None where only a bare key was given.
        key: The key to verify quotes with; None where there is none.
        source: File that the key came from.
        way: ``enrolment``, ``credential-activation``, ``hardware-report``, ``certificate``, or empty where
            not bound.
        links: The links ``key-binding`` and ``key-certificate``.
        findings: What was found wrong or missing.
        path: Verified certificate path of the key (AK, or the EK that vouches for it), if any.
        endorsement_spki_sha256: Hex SHA-256 of the EK's SubjectPublicKeyInfo where a record ties the
            key to it; empty otherwise.
    """

    public: TpmPublic | None
    key: PublicKey | None
    source: str
    way: str
    links: tuple[Link, Link]
    findings: tuple[Finding, ...]
    path: CertificatePath | None = None
    endorsement_spki_sha256: str = ""

    @property
    def bound(self) -> bool:
        """True where the key is known to be this machine's."""
        return self.links[0].status == "holds" and self.links[1].status in ("holds", "not-applicable")

    @property
    def verifier_key(self) -> TpmPublic | PublicKey | None:
        """What to verify quotes with: the public area if known (its scheme is then enforced)."""
        return self.public if self.public is not None else self.key


@dataclass(slots=True)
class _Work:
    """What the steps below gather."""

    findings: list[Finding] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def fail(self, code: str, link: str, why: str) -> None:
        self.broken.append(why)
        self.findings.append(Finding(code, link, why))


def bind_key(
    evidence: Evidence, context: VerifierContext, *, at: datetime, hardware: HardwareResult | None = None
) -> KeyBinding:
    """Find the attestation key among the claims and check what binds it to this machine.

    Args:
        evidence: The claims: keys and certificates.
        context: What the verifier knows: enrolled keys, credential activation record, trust roots.
        at: Time at which certificates must be valid (timezone-aware).
        hardware: What became of the hardware reports; None where they were not looked at.

    Returns:
        The key with the links ``key-binding`` and ``key-certificate``. Never raises for evidence.
    """
    claim, work = _choose(evidence)
    public, key = (claim.public, claim.key) if claim else (None, None)
    way = ""
    if key is not None:
        _check_fitness(public, key, work)
        way = _enrolled(public, key, context, work)
        endorsement = _activated(public, evidence, context, work)
        if endorsement is not None:
            way = _endorsed(way, endorsement, context, work)
        elif context.enrolled and not way:
            work.fail(
                "attestation-key-differs",
                "key-binding",
                f"the key of {claim.source if claim else 'evidence'} is none of the enrolled keys",
            )
        if hardware is not None:
            way = _vouched(way, key, hardware, work)
    else:
        endorsement = None
    certified = check_certificates(
        evidence,
        context,
        key,
        endorsement,
        at=at,
        way=way,
    )
    for code, link, why in certified.failures:
        if link == "key-binding":
            work.fail(code, link, why)
        else:
            work.findings.append(Finding(code, link, why))
    path, certificate_link, by_certificate = certified.path, certified.link, certified.names_key
    if by_certificate and not way:
        way = "certificate"
        work.holds.append(by_certificate)
    return KeyBinding(
        public=public,
        key=key,
        source=claim.source if claim else "",
        way=way,
        links=(_binding_link(key, way, work), certificate_link),
        findings=tuple(work.findings),
        path=path,
        endorsement_spki_sha256=_spki(endorsement) if endorsement is not None else "",
    )


def _spki(claim: KeyClaim) -> str:
    return spki_sha256(claim.key) if claim.key is not None else ""


def _choose(evidence: Evidence) -> tuple[KeyClaim | None, _Work]:
    """Take the key with a TPM public area if there is one; claims that contradict it are findings."""
    work = _Work()
    claims = [claim for claim in evidence.keys if claim.role == "ak" and claim.key is not None]
    chosen = next((claim for claim in claims if claim.public is not None), claims[0] if claims else None)
    if chosen is None:
        return None, work
    for claim in claims:
        if _spki(claim) != _spki(chosen):
            why = f"{claim.source} is another key than {chosen.source}"
            work.fail("attestation-key-differs", "key-binding", why)
    for claim in evidence.keys:
        if claim.role == "ak" and claim.name and chosen.public and claim.name != chosen.public.name:
            why = f"the name in {claim.source} is not the name of the key in {chosen.source}"
            work.fail("attestation-key-differs", "key-binding", why)
    return chosen, work


def _check_fitness(public: TpmPublic | None, key: PublicKey, work: _Work) -> None:
    try:
        if public is not None:
            check_key_attributes(public)
        else:
            check_key_strength(key)
    except VerificationError as error:
        work.fail(error.code, "key-binding", str(error))


def _enrolled(public: TpmPublic | None, key: PublicKey, context: VerifierContext, work: _Work) -> str:
    spki = bytes.fromhex(spki_sha256(key))
    for entry in context.enrolled:
        same_name = public is not None and entry.name is not None and entry.name == public.name
        if same_name or entry.spki_sha256 == spki:
            work.holds.append(f"it is the key enrolled in {entry.source}")
            return "enrolment"
    return ""


def _activated(
    public: TpmPublic | None, evidence: Evidence, context: VerifierContext, work: _Work
) -> KeyClaim | None:
    """Return the EK that the credential activation record ties the key to, or None."""
    if context.activation is None:
        work.open.append("no credential activation record ties it to an endorsement key")
        return None
    if public is None:
        work.open.append(
            "the credential activation record names a TPM object, and the evidence has only a bare key"
        )
        return None
    endorsements = [claim for claim in evidence.keys if claim.role == "ek" and claim.public is not None]
    if not endorsements:
        work.open.append("the evidence has no public part of the endorsement key (ek.pub)")
        return None
    reasons: list[str] = []
    for claim in endorsements:
        if claim.public is None:
            continue
        try:
            binds(context.activation, public.name, claim.public.raw)
        except VerificationError as error:
            reasons.append(str(error))
            continue
        work.holds.append(
            f"a credential activation proves it to be in the same TPM as the endorsement key {claim.source}"
        )
        return claim
    work.fail("attestation-key-not-bound", "key-binding", "; ".join(dict.fromkeys(reasons)))
    return None


def _endorsed(way: str, endorsement: KeyClaim, context: VerifierContext, work: _Work) -> str:
    """Decide between enrolment of the AK, enrolment of its EK and the EK's certificate."""
    if way or not context.enrolled:
        return way or "credential-activation"
    spki = _spki(endorsement)
    names = {entry.name for entry in context.enrolled if entry.name}
    keys = {entry.spki_sha256.hex() for entry in context.enrolled if entry.spki_sha256}
    if spki in keys or (endorsement.public is not None and endorsement.public.name in names):
        work.holds.append("that endorsement key is enrolled")
        return "enrolment"
    work.fail(
        "attestation-key-differs",
        "key-binding",
        "neither the attestation key nor the endorsement key that vouches for it is an enrolled key",
    )
    return ""


def _vouched(way: str, key: PublicKey, hardware: HardwareResult, work: _Work) -> str:
    """Bind the key by the runtime claims of an HCL report that a genuine processor signed."""
    if hardware.binding_problem:
        work.fail("attestation-key-not-bound", "key-binding", hardware.binding_problem)
        return way
    claim = hardware.binding
    if claim is None or not isinstance(claim.report, HclReport):
        if any(isinstance(check.claim.report, HclReport) for check in hardware.checks):
            work.open.append("the hardware report that names it could not be verified")
        return way
    jwk = claim.report.key("HCLAkPub")
    try:
        named = jwk_key(jwk, source=claim.source) if jwk is not None else None
    except ParseError:
        named = None
    if named is None or spki_sha256(named) != spki_sha256(key):
        # another key than the one named is a finding of `_choose`
        work.open.append(f"the hardware report {claim.source} names no such key")
        return way
    work.holds.append(f"the hardware report {claim.source} names it (HCLAkPub)")
    return way or "hardware-report"


def _binding_link(key: PublicKey | None, way: str, work: _Work) -> Link:
    if work.broken:
        return Link("key-binding", "broken", "; ".join(work.broken))
    if key is None:
        why = "the evidence has no attestation key (ak.pub, ak.pem or ak.crt)"
        work.findings.append(Finding("evidence-incomplete", "key-binding", why))
        return Link("key-binding", "not-checked", why)
    if way:
        return Link("key-binding", "holds", "; ".join(work.holds))
    why = "nothing ties the attestation key to this machine: " + (
        "; ".join(work.open)
        or "no enrolled key, no credential activation, no hardware report, no certificate"
    )
    work.findings.append(Finding("attestation-key-not-bound", "key-binding", why))
    return Link("key-binding", "not-checked", why)
