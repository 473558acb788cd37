"""Is a TD quote signed by a genuine quoting enclave, and is the platform up to date?

Sources: Intel, *TDX DCAP Quoting Library API*, appendix A; *SGX and TDX Provisioning Certification Service
API*, version 4 (order of the checks); *TDX Module ABI*, TDREPORT_STRUCT.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cvmlab.findings import Link
from cvmlab.tee.processor import role_of_certificate
from cvmlab.tee.tdx import INTEL_QE, TdQuote, TdReport
from cvmlab.trust.platform import check_platform
from cvmlab.trust.reports import Gathered, HardwareCheck, check_root

if TYPE_CHECKING:
    from cryptography import x509

    from cvmlab.evidence.model import HardwareClaim
    from cvmlab.trust.reports import HardwareContext

INVALID: Final = "hardware-report-signature-invalid"
_SGX_DEBUG: Final = 0x02
_COMPARED: Final = (
    ("tee_tcb_svn", "TDX module versions"), ("mr_seam", "MRSEAM"), ("mr_signer_seam", "MRSIGNERSEAM"),
    ("mr_td", "MRTD"), ("mr_config_id", "MRCONFIGID"), ("mr_owner", "MROWNER"),
    ("mr_owner_config", "MROWNERCONFIG"), ("rtmr", "RTMR 0 to 3"), ("xfam", "XFAM"),
    ("report_data", "report data"),
)  # fmt: skip


def check_td_quote(claim: HardwareClaim, quote: TdQuote, context: HardwareContext) -> HardwareCheck:
    """Check a quote: its signatures, the PCK certificate, TCB info and QE identity, the TD's attributes.

    Args:
        claim: Where the quote came from.
        quote: The quote.
        context: Certificates, roots, lists, collateral, time.

    Returns:
        Both links. Never raises for evidence.
    """
    root, work = Gathered("hardware-root"), Gathered("hardware-report")
    keys = [c for c in context.certificates if role_of_certificate(c) == "PCK"]
    leaf = next((c for c in keys if _verifies(c.public_key(), quote.qe.signature, quote.qe.report)), None)
    path = revocation = None
    signed = False
    tcb_status = ""
    if not keys:
        why = f"there is no certificate of the platform that signed {claim.source} (PCK)"
        root.leave("evidence-incomplete", why)
        work.leave("evidence-incomplete", f"its signature cannot be checked: {why}")
    else:
        found = leaf if leaf is not None else keys[0]
        path, revocation = check_root(root, found, "tdx", context, "PCK", signed=leaf is not None)
        signed = _judge(claim, quote, leaf, work)
        if signed and leaf is not None:
            tcb_status = check_platform(quote, leaf, context, work)
        leaf = found
    _attributes(quote, work)
    return HardwareCheck(
        claim=claim,
        root=root.link(),
        report=work.link(),
        findings=(*root.findings, *work.findings),
        signed=signed,
        path=path,
        certificate=leaf,
        tcb_status=tcb_status,
        revocation=revocation,
    )


def _verifies(key: object, signature: bytes, message: bytes) -> bool:
    """Verify an ECDSA P-256 signature over SHA-256, r and s big-endian."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _judge(claim: HardwareClaim, quote: TdQuote, leaf: x509.Certificate | None, work: Gathered) -> bool:
    """Check the three steps from the PCK to the quote; each can be wrong by itself."""
    if leaf is None:
        why = "no PCK certificate that is there signed the quoting enclave's report"
        work.fail(INVALID, f"{claim.source}: {why}")
    if not quote.key_bound:
        work.fail(INVALID, f"{claim.source}: the quoting enclave's report does not bind the attestation key")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError:
        work.fail(INVALID, f"{claim.source}: the attestation key is no point of P-256")
    else:
        if not _verifies(key, quote.signature, quote.signed):
            work.fail(INVALID, f"{claim.source}: the attestation key did not sign header and body")
    if quote.qe_vendor != INTEL_QE:
        why = f"{claim.source}: the quoting enclave is of another vendor than Intel ({quote.qe_vendor.hex()})"
        work.fail(INVALID, why)
    if quote.qe.attributes[0] & _SGX_DEBUG:
        work.fail(
            INVALID, f"{claim.source}: the quoting enclave is a debug enclave, whose key anyone may read"
        )
    if work.broken:
        return False
    work.holds.append(f"{claim.source} is signed by the quoting enclave that the PCK certifies")
    return True


def _attributes(quote: TdQuote, work: Gathered) -> None:
    if quote.debug:
        off = f"TUD byte 0x{quote.td_attributes[0]:02x}"
        why = f"the TD's attributes put it off trust ({off}): the host may read it"
        work.fail("hardware-debug-enabled", why)
    if any(quote.seam_attributes):
        why = f"the TDX module has attributes that a production one has not ({quote.seam_attributes.hex()})"
        work.fail("hardware-debug-enabled", why)
    if quote.migratable:
        why = "a service TD may migrate the TD (attribute bit 29), and this evidence does not show which"
        work.fail("hardware-migration-allowed", why)
    if not (quote.debug or quote.migratable):
        work.holds.append("debugging and migration are forbidden")


def check_td_report(
    claim: HardwareClaim, report: TdReport, quotes: list[HardwareClaim], context: HardwareContext
) -> HardwareCheck:
    """Check a TDREPORT by the quote that was made of it.

    Only the processor that made a TDREPORT can check its MAC, so without a quote it stays unchecked.

    Args:
        claim: Where the report came from.
        report: The report.
        quotes: Every TD quote of the evidence.
        context: Certificates, roots, lists, collateral, time.
    """
    work = Gathered("hardware-report")
    if not report.consistent:
        work.fail(INVALID, f"{claim.source}: the hashes inside the TDREPORT are not of its own parts")
    if report.debug:
        why = f"the TD's attributes put it off trust (TUD byte 0x{report.attributes[0]:02x})"
        work.fail("hardware-debug-enabled", why)
    if not quotes:
        why = (
            f"{claim.source} holds a TDREPORT, whose MAC only its own processor can check; "
            "a TD quote of it (td_quote.bin) is needed"
        )
        work.leave("evidence-incomplete", why)
        return HardwareCheck(
            claim, Link("hardware-root", "not-checked", why), work.link(), tuple(work.findings), signed=False
        )
    best = min(quotes, key=lambda q: len(_differing(report, q)))
    if differing := _differing(report, best):
        names = ", ".join(differing)
        why = f"{best.source} is not a quote of the TDREPORT in {claim.source}: {names} differ"
        work.fail(INVALID, why)
    quoted = best.report
    if not isinstance(quoted, TdQuote):
        raise TypeError("not a TD quote")
    check = check_td_quote(best, quoted, context)
    if work.broken:
        broken = check.report.status == "broken"
        kept = [finding for finding in check.findings if broken or finding.link == "hardware-root"]
        return replace(
            check,
            claim=claim,
            quote=best,
            report=check.report if broken else work.link(),
            findings=(*kept, *work.findings),
            signed=False,
        )
    why = f"every field of {best.source} is that of the TDREPORT in {claim.source}; {check.report.why}"
    return replace(check, claim=claim, quote=best, report=Link("hardware-report", check.report.status, why))


def _differing(report: TdReport, claim: HardwareClaim) -> list[str]:
    """Names of the fields in which a quote's body is not the TDREPORT."""
    quote = claim.report
    if not isinstance(quote, TdQuote):
        return [name for _, name in _COMPARED]
    found = []
    for attribute, name in _COMPARED:
        ours, theirs = getattr(report, attribute), getattr(quote, attribute)
        if isinstance(ours, tuple):
            ours, theirs = b"".join(ours), b"".join(theirs)
        if not hmac.compare_digest(ours, theirs):
            found.append(name)
    if report.attributes != quote.td_attributes:
        found.append("TD attributes")
    return found
