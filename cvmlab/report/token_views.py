"""What is shown of attestation tokens: in the report of an investigation, and by ``cvmlab token``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError, ParseError
from cvmlab.evidence import load_context
from cvmlab.tokens.claims import ClaimRow, Known
from cvmlab.tokens.jws import MAX_TOKEN, read_token
from cvmlab.tokens.policy import CLAIMS as POLICY_CLAIMS
from cvmlab.tokens.policy import read_policy
from cvmlab.tokens.report import TokenReport, judge_token
from cvmlab.view import Cell, Details, Document, Heading, Note, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cvmlab.view import Block

SCHEMA: Final = "cvmlab.token/1"
_ORDER: Final = {"failed": 0, "absent": 1, "ok": 2, "stated": 3}
_HEADER: Final = ("alg", "kid", "typ", "jku")


def judge_token_file(
    path: Path,
    *,
    jwks: Iterable[str | Path] = (),
    policy: Path | None = None,
    issuers: Iterable[str] = (),
    nonce: str | None = None,
    at: str | None = None,
) -> TokenReport:
    """Read a token, the service's keys and its policy, and judge the token.

    Args:
        path: The token, or the service's answer with it.
        jwks: Files with the keys of the attestation service; none leaves the signature unchecked.
        policy: The policy by which the service should have judged: text, JWS or the service's answer.
        issuers: Issuers that count; none for any provider of Azure.
        nonce: The nonce that was sent, hex.
        at: Time to judge for, ISO 8601; now by default.

    Raises:
        EvidenceError: A file cannot be read or used.
        MissingExtraError: PyJWT is not installed and there are keys to verify with.
    """
    context = load_context(nonce=nonce, jwks=jwks, token_issuers=issuers, at=at)
    try:
        token = read_token(_bytes(path), source=path.name)
        known = Known(
            nonce=context.nonce,
            policy=read_policy(_bytes(policy), source=policy.name) if policy is not None else None,
        )
    except ParseError as error:
        raise EvidenceError(str(error)) from error
    at_time = context.at or datetime.now(UTC)
    return judge_token(token, context.jwks, at=at_time, issuers=context.token_issuers, known=known)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKEN + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise EvidenceError(f"{path}: the file is empty")
    return data


def token_good(report: TokenReport, *, policy: bool) -> bool:
    """Tell whether a service vouches for a token, nothing in it fails, and it was judged by `policy`."""
    asked = [row for row in report.claims if policy and row.path in POLICY_CLAIMS]
    return report.vouched and not report.failed and all(row.status == "ok" for row in asked)


def token_object(report: TokenReport) -> dict[str, object]:
    """Return the object of ``cvmlab token --json`` (schema ``cvmlab.token/1``)."""
    rows = [
        {
            "claim": row.path,
            "value": json.loads(row.value) if row.value else None,
            "meaning": row.meaning or None,
            "expected": row.expected or None,
            "status": row.status,
        }
        for row in report.claims
    ]
    return {
        "schema": SCHEMA,
        "vouched": report.vouched,
        "checks": [
            {"check": check.name, "status": check.status, "code": check.code or None, "why": check.why}
            for check in report.checks
        ],
        "header": {name: report.token.header[name] for name in _HEADER if name in report.token.header},
        "claims" if report.vouched else "claimed": rows,
    }


def token_document(report: TokenReport) -> Document:
    """Return the checks of a token and its claims."""
    return Document(f"Attestation token {report.token.source}", tuple(_blocks(report)))


def token_section(reports: Sequence[TokenReport]) -> list[Block]:
    """Return the part of an investigation's report that shows tokens; empty where there are none."""
    if not reports:
        return []
    blocks: list[Block] = [Heading("Attestation tokens")]
    for report in reports:
        blocks += _blocks(report, folded=True)
    return blocks


def _blocks(report: TokenReport, *, folded: bool = False) -> list[Block]:
    name = report.token.source
    checks = tuple((check.name, Cell(check.status, kind="status"), check.why) for check in report.checks)
    shown = sorted(report.claims, key=lambda row: _ORDER[row.status])
    claims = Table(
        columns=("claim", "status", "says", "should say", "meaning"),
        rows=tuple(_row(row, vouched=report.vouched) for row in shown),
        caption=f"Claims of {name}",
    )
    blocks: list[Block] = []
    if not report.vouched:
        blocks.append(Note("warning", f"No service vouches for {name}: its claims are only claimed."))
    blocks.append(Table(("check", "status", "why"), checks, caption=f"Checks of {name}"))
    if not folded:
        blocks.append(Paragraph(_header(report)))
    blocks.append(Details(f"{len(shown)} claims of {name}", (claims,)) if folded else claims)
    return blocks


def _header(report: TokenReport) -> str:
    header = report.token.header
    said = ", ".join(f"{name} {header[name]}" for name in _HEADER if name in header)
    ignored = [name for name in ("jku", "jwk", "x5u", "x5c") if name in header]
    return f"Header: {said}." + (
        f" Keys come from you alone: {', '.join(ignored)} of the header is not used as a key."
        if ignored
        else ""
    )


def _row(row: ClaimRow, *, vouched: bool) -> tuple[Cell | str | None, ...]:
    value = Cell(row.value) if vouched else Cell(row.value, kind="claimed")
    return (
        Cell(row.path),
        Cell(row.status, kind="status"),
        value if row.value else None,
        Cell(row.expected) if row.expected else None,
        row.meaning or None,
    )
