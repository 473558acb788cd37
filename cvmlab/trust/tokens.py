"""What attestation tokens add to the trust chain.

A token is a service's word for the machine, in place of the processor's own. It can never make a link hold:
it rests on keys that the verifier chose to believe, not on the hardware. It can break ``hardware-report``
(nobody signed it), leave it open (nobody said whose keys count, or its time is over), and break ``policy``
(the service says what must not be).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import MissingExtraError
from cvmlab.findings import Finding, Link
from cvmlab.tokens.claims import Known, attestation_type
from cvmlab.tokens.report import TokenReport, judge_token
from cvmlab.tokens.rules import TYPES
from cvmlab.tpm.public import spki_sha256
from cvmlab.trust.identity import vm_unique_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence
    from cvmlab.tokens.jws import Token
    from cvmlab.trust.binding import KeyBinding

_LINK: Final = "hardware-report"
_LEAVES_OPEN: Final = "token-expired"
"""A check that fails so leaves the link open: nothing is forged, and nobody vouches for it now."""


@dataclass(frozen=True, slots=True)
class TokenResult:
    """The tokens of an evidence.

    Attributes:
        reports: Each token with its checks and claims.
        unavailable: Why signatures could not be verified at all; empty where they could.
    """

    reports: tuple[TokenReport, ...] = ()
    unavailable: str = ""

    def hardware_link(self, link: Link) -> tuple[Link, list[Finding]]:
        """Return the link ``hardware-report`` with what the tokens say, and what was found.

        A link that the hardware's own report holds stays so where a token is only unverified or out of date;
        that is then said as a remark.
        """
        broken: list[str] = []
        open_: list[str] = []
        said: list[str] = []
        findings: list[Finding] = []
        severity = {"severity": "info"} if link.status == "holds" else {}
        for report in self.reports:
            name = report.token.source
            for check in report.checks:
                if check.status == "broken":
                    leaves_open = check.code == _LEAVES_OPEN
                    why = _prefixed(name, check.why)
                    (open_ if leaves_open else broken).append(why)
                    detail = {"token": name, "check": check.name, **(severity if leaves_open else {})}
                    findings.append(Finding(check.code, _LINK, why, detail=detail))
            signature = report["signature"]
            if signature.status == "not-checked":
                why = f"{name}: {self.unavailable or signature.why}"
                open_.append(why)
                detail = {"token": name, "severity": "info"}
                findings.append(Finding("evidence-incomplete", _LINK, why, trust="unproven", detail=detail))
            if report.vouched:
                said.append(f"{report.token.issuer} vouches for the claims of {name}")
        return _changed(link, broken, open_, said), findings

    def policy_link(self, link: Link) -> Link:
        """Return the link ``policy`` with what the tokens say.

        Only claims that a service vouches for break it; others leave it open.
        """
        broken: list[str] = []
        open_: list[str] = []
        said: list[str] = []
        for report in self.reports:
            reasons = [finding.summary for finding in claim_findings(report)]
            (broken if report.vouched else open_).extend(reasons)
            if report.vouched and not reasons:
                said.append(f"no claim of {report.token.source} is other than it should be")
        if open_ and link.status == "holds":
            link = Link(link.name, "not-checked", link.why)
        return _changed(link, broken, open_, said)

    def findings(self) -> list[Finding]:
        """Return what the claims contradict, one finding a claim, at the link ``policy``."""
        return [finding for report in self.reports for finding in claim_findings(report)]


def check_tokens(
    evidence: Evidence, context: VerifierContext, binding: KeyBinding, *, at: datetime
) -> TokenResult:
    """Judge every token of an evidence.

    Args:
        evidence: The claims.
        context: What the verifier knows: keys of services, issuers, nonce.
        binding: The attestation key, which a token must name too if it names one.
        at: Time of the judgement.

    Returns:
        The tokens. Never raises for evidence.
    """
    known = Known(
        nonce=context.nonce,
        vm_unique_id=vm_unique_id(evidence),
        attestation_key=spki_sha256(binding.key) if binding.key is not None else "",
    )

    def judge(token: Token, *, verified: bool) -> TokenReport:
        keys = context.jwks if verified else None
        return judge_token(token, keys, at=at, issuers=context.token_issuers, known=known)

    try:
        return TokenResult(tuple(judge(token, verified=True) for token in evidence.tokens))
    except MissingExtraError as error:
        return TokenResult(tuple(judge(token, verified=False) for token in evidence.tokens), str(error))


def claim_findings(report: TokenReport) -> list[Finding]:
    """Return the claims of one token that are not as they should be, one finding a claim."""
    name = report.token.source
    trust = "proven" if report.vouched else "unproven"
    found = []
    for row in report.failed:
        what = f" ({row.meaning})" if row.meaning else ""
        summary = f"{name}: {row.path}{what} is {_short(row.value)}; it should be {row.expected}"
        detail = {"token": name, "claim": row.path, "expected": row.expected, "found": row.value}
        found.append(
            Finding(
                "token-claim-failed",
                "policy",
                summary,
                before=row.expected,
                after=row.value,
                trust=trust,  # type: ignore[arg-type]
                detail=detail,
            )
        )
    kind = attestation_type(report.token)
    if kind not in TYPES:
        summary = f"{name}: it attests {kind or 'nothing that it names'!r} and says nothing of the machine"
        detail = {
            "token": name,
            "claim": "x-ms-attestation-type",
            "expected": " or ".join(TYPES),
            "found": kind,
        }
        found.append(
            Finding("token-claim-failed", "policy", summary, trust=trust, detail=detail)  # type: ignore[arg-type]
        )
    return found


def _changed(link: Link, broken: Sequence[str], open_: Sequence[str], said: Sequence[str]) -> Link:
    """Weaken a link; never strengthen it."""
    before = [link.why] if link.why else []
    if broken:
        return Link(link.name, "broken", "; ".join([*(before if link.status == "broken" else []), *broken]))
    if open_ and link.status == "not-applicable":
        return Link(link.name, "not-checked", "; ".join(open_))
    return Link(link.name, link.status, "; ".join([*before, *open_, *said]))


def _prefixed(name: str, why: str) -> str:
    return why if why.startswith(f"{name}:") else f"{name}: {why}"


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:40]}…"
