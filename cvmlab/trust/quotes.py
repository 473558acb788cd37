"""The links quote, nonce and register-values: what the TPM signed, for whom, over which values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cvmlab.banks import WEAK_BANKS
from cvmlab.findings import Finding, Link, LinkStatus
from cvmlab.tpm.attest import quoted_registers
from cvmlab.tpm.quote import check_quote
from cvmlab.trust.values import QuotedValues, quoted_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence, QuoteClaim
    from cvmlab.tpm.quote import QuoteReport
    from cvmlab.trust.binding import KeyBinding


@dataclass(frozen=True, slots=True)
class CheckedQuote:
    """One quote with its checks and the values it vouches for."""

    claim: QuoteClaim
    report: QuoteReport
    values: QuotedValues | None

    @property
    def signed(self) -> bool:
        """True where structure and signature hold."""
        return self.report["structure"].status == self.report["signature"].status == "holds"


@dataclass(frozen=True, slots=True)
class QuoteResult:
    """All quotes of an evidence.

    Attributes:
        quotes: Each quote with its checks.
        values: (register, bank) to the value that a quote vouches for, strong hashes only unless there
            is nothing else.
        links: The links ``quote``, ``nonce`` and ``register-values``.
        findings: What was found wrong or missing.
        set: Register set of `values`: ``tpm``, or ``cc`` where a TD quote vouches for them.
    """

    quotes: tuple[CheckedQuote, ...]
    values: Mapping[tuple[int, str], bytes]
    links: tuple[Link, Link, Link]
    findings: tuple[Finding, ...]
    set: str = "tpm"


def check_quotes(evidence: Evidence, context: VerifierContext, binding: KeyBinding) -> QuoteResult:
    """Check every quote of the evidence.

    One bad quote among good ones breaks the link: a machine does not send a forged quote by accident.
    A quote over SHA-1 alone is weak only where no other quote covers a stronger bank.

    Args:
        evidence: The claims.
        context: The verifier's nonce.
        binding: The key to verify with.

    Returns:
        Links, findings and values. Never raises for evidence.
    """
    checked = tuple(_check(claim, evidence, context, binding) for claim in evidence.quotes)
    findings: list[Finding] = []
    if not checked:
        why = "the evidence has no quote (quote.msg and quote.sig): nothing in it is signed"
        findings.append(Finding("evidence-incomplete", "quote", why))
        link = Link("quote", "not-checked", why)
        later = (
            Link("nonce", "not-checked", "there is no quote"),
            Link("register-values", "not-checked", "there is no quote: register values are unsigned text"),
        )
        return QuoteResult((), {}, (link, *later), tuple(findings))
    links = (_quote_link(checked, findings), _nonce_link(checked, findings), _value_link(checked, findings))
    values: dict[tuple[int, str], bytes] = {}
    for quote in checked:
        if quote.signed and quote.values is not None and quote.values.found:
            for bank, registers in quote.values.values.items():
                for register, value in registers.items():
                    values.setdefault((register, bank), value)
    strong = {pair: value for pair, value in values.items() if pair[1] not in WEAK_BANKS}
    return QuoteResult(checked, strong or values, links, tuple(findings))


def _check(
    claim: QuoteClaim, evidence: Evidence, context: VerifierContext, binding: KeyBinding
) -> CheckedQuote:
    report = check_quote(
        claim.message,
        claim.signature,
        binding.verifier_key,
        nonce=context.nonce,
        values=None,
        source=claim.source,
    )
    values = None
    signature = report.signature
    if report.attest is not None and signature is not None and report["signature"].status == "holds":
        values = quoted_values(report.attest, signature.hash, evidence)
    return CheckedQuote(claim, report, values)


def _quote_link(checked: Iterable[CheckedQuote], findings: list[Finding]) -> Link:
    quotes = list(checked)
    strong = any(quote.report["hash"].status == "holds" for quote in quotes)
    broken: list[str] = []
    open_: list[str] = []
    for quote in quotes:
        for name in ("structure", "signature", "hash"):
            check = quote.report[name]
            if name == "hash" and (strong or check.status == "not-checked"):
                continue
            if check.status == "holds":
                continue
            why = f"{quote.claim.name}: {check.why}"
            if check.status == "broken":
                broken.append(why)
            elif check.code:
                open_.append(why)
            if check.code:
                registers: tuple[int, ...] = ()
                if quote.report.attest is not None:
                    covered = {register for _, register in quoted_registers(quote.report.attest)}
                    registers = tuple(sorted(covered))
                findings.append(Finding(check.code, "quote", why, "tpm", registers))
    if broken:
        return Link("quote", "broken", "; ".join(broken))
    if open_:
        return Link("quote", "not-checked", "; ".join(open_))
    names = ", ".join(quote.claim.name for quote in quotes)
    return Link("quote", "holds", f"made by a TPM and signed by the attestation key: {names}")


def _nonce_link(checked: Iterable[CheckedQuote], findings: list[Finding]) -> Link:
    status: LinkStatus = "holds"
    why = "the quote answers the nonce that the verifier sent"
    for quote in checked:
        check = quote.report["nonce"]
        if check.status == "holds" or status == "broken":
            continue
        if check.status == "broken" or status == "holds":
            status, why = check.status, f"{quote.claim.name}: {check.why}"
    code = {"broken": "nonce-mismatch", "not-checked": "nonce-missing"}.get(status)
    if code and any(quote.report.attest is not None for quote in checked):
        findings.append(Finding(code, "nonce", why))
    return Link("nonce", status, why)


def _value_link(checked: Iterable[CheckedQuote], findings: list[Finding]) -> Link:
    origins: list[str] = []
    broken: list[str] = []
    open_: list[str] = []
    for quote in checked:
        values = quote.values
        if values is None:
            open_.append(f"{quote.claim.name} is not verified, so it vouches for no value")
            continue
        if values.contradicted:
            why = f"the register values in {values.contradicted} are not those that {quote.claim.name} signs"
            if values.found:
                why += f"; the quoted ones were found by {values.origin}"
            broken.append(why)
            findings.append(_mismatch(quote, why))
        elif values.found:
            origins.append(f"{quote.claim.name}: {values.origin}")
        else:
            open_.append(f"{quote.claim.name}: {values.why}")
            findings.append(Finding("evidence-incomplete", "register-values", values.why))
    if broken:
        return Link("register-values", "broken", "; ".join(dict.fromkeys(broken)))
    if open_:
        return Link("register-values", "not-checked", "; ".join(dict.fromkeys(open_)))
    return Link("register-values", "holds", f"the values hash to the signed digest ({'; '.join(origins)})")


def _mismatch(quote: CheckedQuote, why: str) -> Finding:
    attest = quote.report.attest
    covered = {register for _, register in quoted_registers(attest)} if attest is not None else set()
    return Finding("register-values-mismatch", "register-values", why, "tpm", tuple(sorted(covered)))
