"""AWS NitroTPM: the attestation document takes the place of key, quote and register values.

The hypervisor signs the registers with a key whose certificate leads to AWS's root. Source: Amazon EC2 User
Guide, *Validate a NitroTPM Attestation Document*; RFC 9053, section 2.1 (ES384).
"""

from __future__ import annotations

import hmac
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cvmlab.errors import VerificationError
from cvmlab.findings import Finding, Link
from cvmlab.tee.nitro import NitroDocument
from cvmlab.trust.binding import KeyBinding
from cvmlab.trust.paths import verify_path
from cvmlab.trust.quotes import QuoteResult
from cvmlab.trust.reports import Gathered, HardwareCheck, check_root

if TYPE_CHECKING:
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.evidence.model import Evidence, HardwareClaim
    from cvmlab.findings import LinkStatus
    from cvmlab.trust.hardware import HardwareResult
    from cvmlab.trust.reports import HardwareContext

WAY = "nitro-document"
"""How the key is bound: AWS certifies the key that signs documents."""
INVALID = "hardware-report-signature-invalid"


def check_nitro(claim: HardwareClaim, document: NitroDocument, context: HardwareContext) -> HardwareCheck:
    """Check a document against the certificate in it and that against AWS's root.

    Args:
        claim: Where the document came from.
        document: The document.
        context: Certificates, roots, time.

    Returns:
        Both links. Never raises for evidence.
    """
    root, work = Gathered("hardware-root"), Gathered("hardware-report")
    made = datetime.fromtimestamp(document.timestamp / 1000, UTC)
    leaf, signed, path = _leaf(document), False, None
    if leaf is None:
        root.fail("hardware-chain-untrusted", f"the certificate in {claim.source} cannot be read")
        work.fail(INVALID, f"the signature of {claim.source} cannot be checked without its certificate")
    else:
        signed = _signed(document, leaf)
        path, _ = check_root(root, leaf, "nitro", context, "key that signed the document", signed=signed)
        if root.broken and _held(leaf, context, made):
            when = f"{made:%Y-%m-%dT%H:%M:%SZ}, when the document says that it was made"
            root.broken[-1] += f"; it held at {when}: judge for then with --at"
        if signed:
            work.holds.append(f"{claim.source} is signed by the key that its certificate names")
        else:
            work.fail(INVALID, f"the signature of {claim.source} does not verify with the key in it")
        if made > context.at:
            why = f"{claim.source} says that it was made at {made:%Y-%m-%d %H:%M}, after the time judged for"
            work.fail(INVALID, why)
    return HardwareCheck(
        claim=claim,
        root=root.link(),
        report=work.link(),
        findings=(*root.findings, *work.findings),
        signed=signed,
        path=path if not root.broken else None,
        certificate=leaf,
    )


def _leaf(document: NitroDocument) -> x509.Certificate | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return x509.load_der_x509_certificate(document.certificate)
        except (ValueError, TypeError):
            return None


def _signed(document: NitroDocument, leaf: x509.Certificate) -> bool:
    try:
        key = leaf.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            return False
        r, s = (int.from_bytes(document.signature[at : at + 48], "big") for at in (0, 48))
        key.verify(utils.encode_dss_signature(r, s), document.signed, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _held(leaf: x509.Certificate, context: HardwareContext, then: datetime) -> bool:
    """Tell whether the path held when the document was made: its certificate is valid for hours."""
    try:
        verify_path(
            leaf, context.certificates, context.roots("nitro"), at=then, untrusted_code="", expired_code=""
        )
    except VerificationError:
        return False
    return True


def rests_on_nitro_document(evidence: Evidence, hardware: HardwareResult) -> bool:
    """Tell whether a document is all that is signed: there is no quote by the TPM itself."""
    return _check(hardware) is not None and not evidence.quotes


def _check(hardware: HardwareResult) -> HardwareCheck | None:
    return next((c for c in hardware.checks if isinstance(c.claim.report, NitroDocument)), None)


def by_nitro_document(hardware: HardwareResult, context: VerifierContext) -> tuple[KeyBinding, QuoteResult]:
    """Return binding and quote of an evidence that `rests_on_nitro_document`.

    Args:
        hardware: The hardware reports.
        context: The verifier's nonce.
    """
    check = _check(hardware)
    if check is None or not isinstance(check.claim.report, NitroDocument):
        raise ValueError("there is no attestation document")
    source, document = check.claim.source, check.claim.report
    good = check.authentic and check.report.status != "broken"
    status: LinkStatus = "holds" if good else "not-checked"
    doubt = "" if good else f"; {source} itself could not be verified"
    binding = KeyBinding(
        public=None,
        key=None,
        source=source,
        way=WAY if good else "",
        links=(
            Link("key-binding", status, f"AWS certifies the key that signed {source}{doubt}"),
            Link("key-certificate", "not-applicable", "that certificate is judged as hardware-root"),
        ),
        findings=(),
    )
    nonce, findings = _nonce(document, context, source)
    links = (
        Link("quote", status, f"{source} stands for it: the hypervisor signs the registers{doubt}"),
        nonce,
        Link("register-values", status, f"the values stand in {source} itself{doubt}"),
    )
    values = {(index, document.bank): value for index, value in document.registers.items()} if good else {}
    return binding, QuoteResult((), values, links, findings)


def _nonce(
    document: NitroDocument, context: VerifierContext, source: str
) -> tuple[Link, tuple[Finding, ...]]:
    sent, have = context.nonce, document.nonce or b""
    if not sent:
        why = "the nonce that the verifier sent is not known, so the document may be of any time"
        return Link("nonce", "not-checked", why), (Finding("nonce-missing", "nonce", why),)
    if hmac.compare_digest(sent, have):
        return Link("nonce", "holds", f"{source} has the nonce that the verifier sent"), ()
    why = f"{source} has {have.hex()[:128] or 'no nonce'}, not the nonce {sent.hex()} that the verifier sent"
    finding = Finding("nonce-mismatch", "nonce", why, before=sent.hex(), after=have.hex())
    return Link("nonce", "broken", why), (finding,)
