"""Attestation tokens: read, verified with the verifier's keys, each claim explained (Azure Attestation)."""

from __future__ import annotations

from cvmlab.tokens.claims import ClaimRow, Known, judge_claims
from cvmlab.tokens.jwks import SigningKey, parse_jwks
from cvmlab.tokens.jws import Token, read_token
from cvmlab.tokens.policy import Policy, policy_hash, read_policy
from cvmlab.tokens.report import TokenReport, judge_token
from cvmlab.tokens.verify import Check, verify_signature

__all__ = [
    "Check",
    "ClaimRow",
    "Known",
    "Policy",
    "SigningKey",
    "Token",
    "TokenReport",
    "judge_claims",
    "judge_token",
    "parse_jwks",
    "policy_hash",
    "read_policy",
    "read_token",
    "verify_signature",
]
