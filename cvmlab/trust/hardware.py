"""The links hardware-root and hardware-report, and what the reports vouch for: a vTPM key, or registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from cvmlab.findings import Finding, Link
from cvmlab.tee.collateral import Collateral
from cvmlab.tee.hcl import HclReport
from cvmlab.tee.nitro import NitroDocument
from cvmlab.tee.snp import SnpReport
from cvmlab.tee.tdx import TdQuote, TdReport
from cvmlab.trust.nitro import check_nitro
from cvmlab.trust.reports import HardwareCheck, HardwareContext
from cvmlab.trust.snp import check_snp
from cvmlab.trust.tdx import check_td_quote, check_td_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence, HardwareClaim
    from cvmlab.findings import LinkStatus

_SUFFIX = ".ConfidentialVM.Azure.windows.net"


@dataclass(frozen=True, slots=True)
class HardwareResult:
    """All hardware reports of an evidence.

    Attributes:
        checks: Each report with what became of it.
        links: The links ``hardware-root`` and ``hardware-report``.
        findings: What was found wrong or missing.
        binding: The HCL report that a genuine processor vouches for, if any: it names the vTPM's keys.
        binding_problem: Why the runtime claims of an HCL report are not those that its hardware report
            binds; empty where they are, or where there is none.
        registers: (CC register, bank) to value, from a TD quote that a genuine processor signed; empty
            where there is none, and on Azure, where the guest's boot is in the vTPM only.
    """

    checks: tuple[HardwareCheck, ...]
    links: tuple[Link, Link]
    findings: tuple[Finding, ...]
    binding: HardwareClaim | None
    binding_problem: str
    registers: Mapping[tuple[int, str], bytes]

    @property
    def quoting(self) -> HardwareCheck | None:
        """The check of the TD quote that vouches for CC registers, if any."""
        return next((c for c in self.checks if isinstance(c.claim.report, TdQuote)), None)


def check_hardware(evidence: Evidence, context: VerifierContext, *, at: datetime) -> HardwareResult:
    """Check every hardware report of an evidence.

    Args:
        evidence: The claims.
        context: What the verifier knows: trust roots, certificates and collateral that it has itself.
        at: Time of the judgement.

    Returns:
        Links, findings and what is vouched for. Never raises for evidence.
    """
    with_what = _context(evidence, context, at)
    quotes = [claim for claim in evidence.hardware if claim.kind == "td-quote"]
    checks: list[HardwareCheck] = []
    absent: list[tuple[LinkStatus, str]] = []
    seen: set[bytes] = set()
    problem = ""
    for claim in sorted(evidence.hardware, key=lambda claim: claim.kind != "hcl-report"):
        report = claim.report
        if isinstance(report, HclReport):
            if report.hardware is None:
                absent.append(_no_report(claim, report))
                continue
            problem = problem or _unbound(claim, report)
            seen.add(report.hardware_raw)
            report = report.hardware
        elif claim.data in seen or (claim.kind == "td-quote" and _quotes_a_report(evidence)):
            continue
        check = _check(claim, report, quotes, with_what)
        checks.append(check)
    links = _links(checks, absent, evidence)
    binding = next(
        (
            check.claim
            for check in checks
            if isinstance(check.claim.report, HclReport)
            and check.authentic
            and check.report.status != "broken"
            and check.claim.report.bound
        ),
        None,
    )
    findings = [finding for check in checks for finding in check.findings]
    findings += _missing(links, checks)
    return HardwareResult(tuple(checks), links, tuple(findings), binding, problem, _registers(checks))


def _context(evidence: Evidence, context: VerifierContext, at: datetime) -> HardwareContext:
    claims = [c.certificate for c in evidence.certificates if c.role in ("processor", "ca")]
    collateral = [*evidence.collateral, *context.collateral]
    return HardwareContext(
        certificates=tuple(dict.fromkeys([*claims, *context.certificates])),
        given=context.trust_roots,
        lists=tuple(c.value for c in collateral if isinstance(c.value, x509.CertificateRevocationList)),
        collateral=tuple((c, c.value) for c in collateral if isinstance(c.value, Collateral)),
        at=at,
    )


def _check(
    claim: HardwareClaim, report: object, quotes: list[HardwareClaim], context: HardwareContext
) -> HardwareCheck:
    if isinstance(report, SnpReport):
        return check_snp(claim, report, context, paravisor=claim.kind == "hcl-report")
    if isinstance(report, TdReport):
        return check_td_report(claim, report, quotes, context)
    if isinstance(report, TdQuote):
        return check_td_quote(claim, report, context)
    if isinstance(report, NitroDocument):
        return check_nitro(claim, report, context)
    raise TypeError(f"{claim.kind} has no hardware report")


def _quotes_a_report(evidence: Evidence) -> bool:
    """True where a TDREPORT is there, with which every TD quote is judged."""
    return any(
        isinstance(c.report, TdReport)
        or (isinstance(c.report, HclReport) and isinstance(c.report.hardware, TdReport))
        for c in evidence.hardware
    )


def _unbound(claim: HardwareClaim, report: HclReport) -> str:
    if report.bound:
        return ""
    return (
        f"the hardware report in {claim.source} binds other runtime claims than the ones with it: its report "
        f"data are {report.report_data.hex()[:16]}…, the {report.hash_name} of the claims is "
        f"{report.expected_report_data.hex()[:16]}…"
    )


def _no_report(claim: HardwareClaim, report: HclReport) -> tuple[LinkStatus, str]:
    if report.report_type == "TVM":
        why = "is of a trusted launch VM, which has no hardware report: it rests on the vTPM's key"
        return "not-applicable", f"{claim.source} {why}"
    why = f"{claim.source} holds a report of type {report.report_type}, which this version cannot verify"
    return "not-checked", why


def _links(
    checks: Sequence[HardwareCheck], absent: Sequence[tuple[LinkStatus, str]], evidence: Evidence
) -> tuple[Link, Link]:
    def joined(name: str, links: list[Link]) -> Link:
        for status in ("broken", "not-checked"):
            if some := [link for link in links if link.status == status]:
                return Link(name, some[0].status, "; ".join(dict.fromkeys(link.why for link in some)))
        if links:
            return Link(name, "holds", "; ".join(dict.fromkeys(link.why for link in links)))
        if unread := _unread(evidence):
            return Link(name, "not-checked", unread)
        why = "the evidence has no hardware report; it rests on the TPM's own keys"
        if confidential := _says_confidential(evidence):
            why = f"{confidential} is of a confidential VM, and the evidence has no hardware report of it"
            return Link(name, "not-checked", why)
        return Link(name, "not-applicable", why)

    extra = [(status, why) for status, why in absent if status != "not-applicable"]
    roots = [*(check.root for check in checks), *(Link("", status, why) for status, why in extra)]
    reports = [*(check.report for check in checks), *(Link("", status, why) for status, why in extra)]
    if not roots and absent and not _says_confidential(evidence):
        status, why = absent[0]
        return Link("hardware-root", status, why), Link("hardware-report", status, why)
    return joined("hardware-root", roots), joined("hardware-report", reports)


def _unread(evidence: Evidence) -> str:
    """Hardware files of which nothing can be used: a machine that sends them has a report to show."""
    lost = [f for f in evidence.files if f.role == "hardware" and f.status in ("empty", "unreadable")]
    state = "; ".join(f"{f.name} is {'empty' if f.status == 'empty' else 'damaged'}" for f in lost)
    return f"no hardware report can be used: {state}" if lost else ""


def _says_confidential(evidence: Evidence) -> str:
    """The certificate of an attestation key whose subject says that its VM is a confidential one (Azure)."""
    for claim in evidence.certificates:
        if claim.role == "ak" and _SUFFIX in claim.certificate.subject.rfc4514_string():
            return claim.source
    return ""


def _missing(links: tuple[Link, Link], checks: Sequence[HardwareCheck]) -> list[Finding]:
    """A finding for links that no check speaks of."""
    if checks:
        return []
    return [
        Finding("evidence-incomplete", link.name, link.why, trust="digest-only")
        for link in links
        if link.status == "not-checked"
    ]


def _registers(checks: Sequence[HardwareCheck]) -> Mapping[tuple[int, str], bytes]:
    """RTMR 0 to 3 as CC registers 1 to 4 (UEFI 2.10, section 38.4.1)."""
    for check in checks:
        quote = check.claim.report
        if isinstance(quote, TdQuote) and check.authentic and check.report.status != "broken":
            return {(index, "sha384"): value for index, value in enumerate(quote.rtmr, 1)}
    return {}
