"""The hash of an attestation policy, as Azure puts it into tokens.

``x-ms-policy-hash`` is BASE64URL(SHA256(UTF8(BASE64URL(UTF8(policy text))))): of the text as the service
holds it, whether the policy was uploaded as text, unsigned or signed (Azure Attestation, claim sets;
recomputed for two real tokens). Each byte counts, a line break at the end too.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.tokens.jws import decode_loosely, read_token
from cvmlab.tpm.strict import decode_text

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIMS: Final = ("x-ms-policy-hash", "maa-policyHash", "policy_hash")
"""The claim, and its names in older tokens."""

KNOWN: Final = {
    "wm9mHlvTU82e8UqoOy1Yj1FBRSNkfe99-69IYDq9eWs": (
        "the policy of Azure's shared providers for guests, seen in 2022 and 2024; its text is not public"
    ),
}
"""Hashes seen in real tokens of providers that everyone shares."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of the attestation service.

    Attributes:
        source: File.
        text: The text, exactly.
    """

    source: str
    text: str

    @property
    def hash(self) -> str:
        """What ``x-ms-policy-hash`` is for this text."""
        return policy_hash(self.text)


def policy_hash(text: str) -> str:
    """Return what ``x-ms-policy-hash`` is for the text of a policy.

    >>> policy_hash("version= 1.0;authorizationrules{=> permit();};issuancerules{};")
    'NV1ac05uHVG8H7jncd14tq1VD6ijcYY6Xsnf6cZ8ijU'
    """
    inner = base64.urlsafe_b64encode(text.encode()).rstrip(b"=")
    return base64.urlsafe_b64encode(hashlib.sha256(inner).digest()).rstrip(b"=").decode()


def read_policy(data: bytes, *, source: str) -> Policy:
    """Read a policy: its text, the JWS in which it is uploaded, or the service's answer with it.

    Raises:
        ParseError: It is not UTF-8, too large, or a token without a policy.
    """
    stripped = data.strip()
    if not stripped.startswith((b"eyJ", b"{")):
        return Policy(source, decode_text(data, source=source))
    claims = read_token(stripped, source=source).claims
    inner = claims.get("x-ms-policy")
    if isinstance(inner, str):
        claims = read_token(inner.encode("utf-8", "replace"), source=f"{source}, x-ms-policy").claims
    encoded = claims.get("AttestationPolicy")
    if not isinstance(encoded, str):
        raise ParseError(source, 0, "AttestationPolicy", reason="the token holds no policy")
    text = decode_loosely(encoded.encode("utf-8", "replace"))
    if not text:
        raise ParseError(source, 0, "AttestationPolicy", reason="not base64url of a text")
    return Policy(source, decode_text(text, source=source))


def matching_text(policy: Policy, claimed: str) -> str | None:
    """Say how a policy's text must be taken to have the hash that a token claims.

    Files gain and lose line breaks on their way; a hash that fits proves the text, however it got there.

    Returns:
        Empty for the text as it is, the change in words, or None where no change of line breaks fits.
    """
    for change, text in _variants(policy.text):
        if policy_hash(text) == claimed:
            return change
    return None


def _variants(text: str) -> Iterator[tuple[str, str]]:
    unix = text.replace("\r\n", "\n")
    for change, base in (
        ("", text),
        ("with line breaks of Unix", unix),
        ("with line breaks of Windows", unix.replace("\n", "\r\n")),
    ):
        yield change, base
        cut = base.rstrip("\r\n")
        end = "\r\n" if "Windows" in change else "\n"
        yield f"{change} without the line break at the end".strip(), cut
        yield f"{change} with a line break at the end".strip(), cut + end
