"""Is an SNP report signed by a genuine processor, and what does its policy allow?

Sources: AMD, *SEV Secure Nested Paging Firmware ABI Specification* (56860), sections 4.3 and 7.3;
*VCEK Certificate and KDS Interface Specification* (57230), sections 3 and 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cvmlab.errors import ParseError
from cvmlab.tee.processor import amd_extensions, role_of_certificate
from cvmlab.tee.snp import ECDSA_P384_SHA384, SnpReport, tcb
from cvmlab.trust.paths import subject
from cvmlab.trust.reports import Gathered, HardwareCheck, check_root
from cvmlab.trust.roots import pin_of

if TYPE_CHECKING:
    from cryptography import x509

    from cvmlab.evidence.model import HardwareClaim
    from cvmlab.tee.processor import AmdExtensions
    from cvmlab.tee.snp import Tcb
    from cvmlab.trust.reports import HardwareContext

INVALID: Final = "hardware-report-signature-invalid"
_GENOA_FAMILY: Final = frozenset({"Genoa", "Bergamo", "Siena"})
_TURIN_CHIP_ID: Final = 8
_PARAVISOR_VMPL: Final = 0


def check_snp(
    claim: HardwareClaim, report: SnpReport, context: HardwareContext, *, paravisor: bool
) -> HardwareCheck:
    """Check a report against the certificate of the chip's key and that against AMD's root.

    Args:
        claim: Where the report came from.
        report: The report.
        context: Certificates, roots, lists, time.
        paravisor: True where the report is said to be of a paravisor, which runs at VMPL 0.

    Returns:
        Both links. Never raises for evidence.
    """
    root, work = Gathered("hardware-root"), Gathered("hardware-report")
    keys = [c for c in context.certificates if role_of_certificate(c) in ("VCEK", "VLEK")]
    leaf = next((certificate for certificate in keys if _signed(report, certificate)), None)
    signed = leaf is not None
    path = revocation = None
    if not keys:
        why = f"there is no certificate of the key that signed {claim.source} (VCEK or VLEK: vcek.pem)"
        if report.signing_key == "VCEK" and not any(report.chip_id):
            why += (
                "; the report's chip identity is blank (masked, or redacted afterwards), so none can be named"
            )
        root.leave("evidence-incomplete", why)
        work.leave("evidence-incomplete", f"its signature cannot be checked: {why}")
    else:
        leaf = leaf if leaf is not None else keys[0]
        role = role_of_certificate(leaf)
        path, revocation = check_root(root, leaf, "snp", context, role, signed=signed)
        if path is not None and not _right_authority(leaf, role):
            root.fail(
                "hardware-chain-untrusted", f"{subject(leaf)!r} is a {role}, issued as another kind of key"
            )
        _judge(claim, report, leaf, path.root if path is not None else None, work, signed=signed)
    _policy(report, work, paravisor=paravisor)
    return HardwareCheck(
        claim=claim,
        root=root.link(),
        report=work.link(),
        findings=(*root.findings, *work.findings),
        signed=signed,
        path=path if not root.broken else None,
        certificate=leaf,
        revocation=revocation,
    )


def _signed(report: SnpReport, certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False
    if report.signature_algorithm != ECDSA_P384_SHA384:
        return False
    try:
        signature = utils.encode_dss_signature(report.signature_r, report.signature_s)
        key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _right_authority(leaf: x509.Certificate, role: str) -> bool:
    """AMD issues VLEKs under SEV-VLEK-…, VCEKs under SEV-… (57230, section 3); others are free in this."""
    names = leaf.issuer.rfc4514_string()
    if "Advanced Micro Devices" not in names:
        return True
    return ("SEV-VLEK-" in names) == (role == "VLEK")


def _judge(
    claim: HardwareClaim,
    report: SnpReport,
    leaf: x509.Certificate,
    root: x509.Certificate | None,
    work: Gathered,
    *,
    signed: bool,
) -> None:
    """Compare report and certificate: signature, kind of key, chip, TCB, product."""
    role = role_of_certificate(leaf)
    try:
        extensions = amd_extensions(leaf, source=subject(leaf))
    except ParseError as error:
        work.fail(INVALID, f"the certificate of the {role} cannot be used: {error}")
        return
    differs = _differences(report, role, extensions, root, signed=signed)
    if not signed:
        if report.signing_key == "none" or not (report.signature_r or report.signature_s):
            why = f"{claim.source} is not signed: the host masks the chip's key"
        elif differs:
            why = f"the {role} did not sign {claim.source}: {'; '.join(differs)}"
        else:
            why = f"the signature of {claim.source} does not verify with the {role}: it was changed later"
        work.fail(INVALID, why, before=extensions.hardware_id.hex(), after=report.chip_id.hex())
        return
    for why in differs:
        work.fail(INVALID, why)
    if not differs:
        same = "chip, TCB and product" if role == "VCEK" and any(report.chip_id) else "TCB and product"
        work.holds.append(f"{claim.source} is signed by the {role}, whose certificate is of the same {same}")
        if role == "VCEK" and not any(report.chip_id):
            work.holds.append("the report names no chip (the host masks it): its certificate does")


def _differences(
    report: SnpReport, role: str, extensions: AmdExtensions, root: x509.Certificate | None, *, signed: bool
) -> list[str]:
    found = []
    if report.signing_key != role:
        found.append(f"the report says that a {report.signing_key} signed it, the certificate is of a {role}")
    if role == "VCEK":
        size = _TURIN_CHIP_ID if len(extensions.hardware_id) == _TURIN_CHIP_ID else len(report.chip_id)
        chip = report.chip_id
        if not any(chip):
            # a host may mask the identity; a signature that holds says then which chip it is
            if not signed:
                found.append("the report's chip identity is blank (masked, or redacted afterwards)")
        elif chip[:size] != extensions.hardware_id or any(chip[size:]):
            found.append(
                f"the certificate is of another chip ({extensions.hardware_id.hex()[:16]}… instead of "
                f"{chip.hex()[:16]}…)"
            )
    # the first mutable code has a version of its own since Turin, and its certificates say so
    reported = tcb(report.reported_tcb.raw, turin="fmc" in extensions.versions)
    found += [
        f"the certificate is for {name} version {wanted}, the report's TCB has {have}"
        for name, wanted, have in _versions(reported, extensions)
        if wanted != have
    ]
    product = "Genoa" if extensions.product in _GENOA_FAMILY else extensions.product
    if report.product and product != report.product:
        found.append(f"the report is of {report.product}, the certificate of {extensions.product}")
    pin = pin_of(root) if root is not None else None
    if pin is not None and pin.product != product:
        found.append(f"the certificate is of {extensions.product}, its root of {pin.product}")
    return found


def _versions(reported: Tcb, extensions: AmdExtensions) -> list[tuple[str, int, int]]:
    rows = [
        ("boot loader", extensions.versions["boot_loader"], reported.boot_loader),
        ("TEE", extensions.versions["tee"], reported.tee),
        ("SNP firmware", extensions.versions["snp"], reported.snp),
        ("microcode", extensions.versions["microcode"], reported.microcode),
    ]
    if reported.fmc is not None:
        rows.append(("FMC", extensions.versions["fmc"], reported.fmc))
    return rows


def _policy(report: SnpReport, work: Gathered, *, paravisor: bool) -> None:
    if report.debug:
        work.fail(
            "hardware-debug-enabled", "the guest policy allows debugging (bit 19): the host may read it"
        )
    if report.migration:
        why = "the guest policy allows a migration agent (bit 18), which this evidence does not show"
        work.fail("hardware-migration-allowed", why)
    if paravisor and report.vmpl != _PARAVISOR_VMPL:
        why = f"the report was asked for at VMPL {report.vmpl}; the paravisor that runs the vTPM is at VMPL 0"
        work.fail("hardware-privilege-level", why, before="0", after=str(report.vmpl))
    if not work.broken:
        work.holds.append(f"debugging and migration are forbidden, VMPL {report.vmpl}")
