"""Evidence: a directory or archive becomes claims; what the verifier knows stays apart."""

from __future__ import annotations

from cvmlab.evidence.context import EnrolledKey, VerifierContext, load_context
from cvmlab.evidence.model import CertificateClaim, Evidence, EvidenceFile, KeyClaim, QuoteClaim
from cvmlab.evidence.sources import load_evidence

__all__ = [
    "CertificateClaim",
    "EnrolledKey",
    "Evidence",
    "EvidenceFile",
    "KeyClaim",
    "QuoteClaim",
    "VerifierContext",
    "load_context",
    "load_evidence",
]
