"""One token, judged: its checks and its claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cvmlab.tokens.claims import judge_claims
from cvmlab.tokens.verify import check_certificate, check_issuer, check_signature, check_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from cvmlab.tokens.claims import ClaimRow, Known
    from cvmlab.tokens.jwks import SigningKey
    from cvmlab.tokens.jws import Token
    from cvmlab.tokens.verify import Check


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What became of a token.

    Attributes:
        token: The token.
        at: Time that it is judged for.
        checks: ``signature``, ``certificate``, ``time`` and ``issuer``, in this order.
        claims: Every claim.
        key: The key that signed; None where the signature does not hold.
    """

    token: Token
    at: datetime
    checks: tuple[Check, ...]
    claims: tuple[ClaimRow, ...]
    key: SigningKey | None

    @property
    def vouched(self) -> bool:
        """True where an accepted service signed the token and it is in force."""
        return all(check.status in ("holds", "not-applicable") for check in self.checks)

    @property
    def failed(self) -> tuple[ClaimRow, ...]:
        """The claims that are not as they should be."""
        return tuple(row for row in self.claims if row.status == "failed")

    def __getitem__(self, name: str) -> Check:
        """Return a check by name.

        Raises:
            KeyError: There is none of this name.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def to_frame(self) -> pd.DataFrame:
        """Return the claims as a table (`cvmlab.tables.CLAIMS`), one row a claim."""
        return claims_frame((self,))


def judge_token(
    token: Token,
    keys: Sequence[SigningKey] | None,
    *,
    at: datetime,
    issuers: Sequence[str] = (),
    known: Known | None = None,
) -> TokenReport:
    """Check a token and judge its claims.

    Args:
        token: The token.
        keys: Keys of the attestation service, as the verifier got them; None where he gave none.
        at: Time to judge for, with a zone.
        issuers: Issuers that the verifier accepts; empty for any of Azure's.
        known: What the claims are held against besides the rules.

    Raises:
        MissingExtraError: PyJWT is not installed and there are keys to verify with.
    """
    signature, key = check_signature(token, keys)
    checks = (
        signature,
        check_certificate(key, token, at),
        check_time(token, at),
        check_issuer(token, issuers),
    )
    return TokenReport(token, at, checks, judge_claims(token, known), key)


def claims_frame(reports: Sequence[TokenReport]) -> pd.DataFrame:
    """Return the claims of tokens as a table (`cvmlab.tables.CLAIMS`), one row a claim."""
    from cvmlab.tables import CLAIMS, make_frame

    rows = [(report, row) for report in reports for row in report.claims]
    return make_frame(
        CLAIMS,
        {
            "token": [report.token.source for report, _ in rows],
            "claim": [row.path for _, row in rows],
            "value": [row.value or None for _, row in rows],
            "meaning": [row.meaning or None for _, row in rows],
            "expected": [row.expected or None for _, row in rows],
            "status": [row.status for _, row in rows],
            "trust": ["vouched" if report.vouched else "claimed" for report, _ in rows],
        },
    )
