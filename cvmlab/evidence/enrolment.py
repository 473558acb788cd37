"""Challenges for the keys of evidence: the verifier's first step to bind an AK to an EK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.errors import EvidenceError
from cvmlab.evidence.sources import load_evidence
from cvmlab.tpm.challenge import make_challenge

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.tpm.challenge import Challenge, ChallengeRecord
    from cvmlab.tpm.public import TpmPublic


def challenge_for(path: str | Path) -> tuple[Challenge, ChallengeRecord]:
    """Make a challenge for the attestation key of evidence and the endorsement key beside it.

    Args:
        path: Evidence directory, or a zip or tar of one, with ``ak.pub`` and ``ek.pub``.

    Returns:
        The challenge, to be sent to the machine, and the record, which holds the secret and stays here.

    Raises:
        EvidenceError: The evidence cannot be used, or lacks one of the keys.
        VerificationError: One of the keys is not fit for its purpose.
    """
    evidence = load_evidence(path)

    def key(role: str, name: str) -> TpmPublic:
        for claim in evidence.keys:
            if claim.role == role and claim.public is not None:
                return claim.public
        raise EvidenceError(f"{path}: there is no {name} with a TPM public area; `cvmlab collect` writes it")

    return make_challenge(key("ek", "ek.pub"), key("ak", "ak.pub"))
