"""A TD without a vTPM: its TD quote takes the place of key, quote and register values.

The run-time measurement registers (RTMR 0 to 3) stand in the quote itself, and the report data carry the
nonce. Source: UEFI 2.10, section 38.4.1 (CC registers); Intel, *Guest-Host-Communication Interface*.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from cvmlab.findings import Finding, Link
from cvmlab.tee.tdx import TdQuote
from cvmlab.trust.binding import KeyBinding
from cvmlab.trust.quotes import QuoteResult

if TYPE_CHECKING:
    from cvmlab.eventlog.model import EventLog
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence
    from cvmlab.findings import LinkStatus
    from cvmlab.trust.hardware import HardwareResult

WAY = "td-quote"
"""How the key is bound: the quoting enclave's report binds the key that signed the TD quote."""


def rests_on_td_quote(evidence: Evidence, hardware: HardwareResult) -> bool:
    """Tell whether a TD quote is all that is signed: no vTPM quote and no key of one."""
    return hardware.quoting is not None and not evidence.quotes and not any(k.key for k in evidence.keys)


def by_td_quote(hardware: HardwareResult, context: VerifierContext) -> tuple[KeyBinding, QuoteResult]:
    """Return binding and quote of an evidence that `rests_on_td_quote`.

    Args:
        hardware: The hardware reports.
        context: The verifier's nonce.
    """
    check = hardware.quoting
    if check is None or not isinstance(check.claim.report, TdQuote):
        raise ValueError("there is no TD quote")
    source, quote = check.claim.source, check.claim.report
    good = bool(hardware.registers)
    status: LinkStatus = "holds" if good else "not-checked"
    doubt = "" if good else f"; {source} itself could not be verified"
    binding = KeyBinding(
        public=None,
        key=None,
        source=source,
        way=WAY if good else "",
        links=(
            Link("key-binding", status, f"the quoting enclave binds the key that signed {source}{doubt}"),
            Link(
                "key-certificate", "not-applicable", "that key is certified by the processor (hardware-root)"
            ),
        ),
        findings=(),
    )
    nonce, findings = _nonce(quote, context, source)
    links = (
        Link("quote", status, f"the TD quote {source} stands for it: no vTPM takes part{doubt}"),
        nonce,
        Link("register-values", status, f"RTMR 0 to 3 stand in {source} itself{doubt}"),
    )
    return binding, QuoteResult((), hardware.registers, links, findings, "cc")


def _nonce(quote: TdQuote, context: VerifierContext, source: str) -> tuple[Link, tuple[Finding, ...]]:
    """Compare the report data with the nonce, as it is or hashed, filled up with zeros."""
    sent = context.nonce
    if not sent:
        why = "no nonce is known, so the TD quote may be an old one"
        return Link("nonce", "not-checked", why), (
            Finding("nonce-missing", "nonce", why, trust="digest-only"),
        )
    forms = {
        "": sent,
        **{f"{name} of ": hashlib.new(name, sent).digest() for name in ("sha256", "sha384", "sha512")},
    }
    for form, value in forms.items():
        if len(value) <= 64 and hmac.compare_digest(value.ljust(64, b"\0"), quote.report_data):
            return Link(
                "nonce", "holds", f"the report data of {source} are the {form}nonce that was sent"
            ), ()
    why = f"the report data of {source} are not the nonce that was sent, nor a hash of it"
    finding = Finding("nonce-mismatch", "nonce", why, before=sent.hex(), after=quote.report_data.hex())
    return Link("nonce", "broken", why), (finding,)


def registers_of_log(log: EventLog | None, quotes: QuoteResult, hardware: HardwareResult) -> QuoteResult:
    """Let the TD quote vouch for CC registers where the boot log is of these, beside a vTPM's quote."""
    if log is not None and log.set == "cc" and quotes.set != "cc":
        return replace(quotes, values=hardware.registers, set="cc")
    return quotes
