"""Intel's collateral against a TD quote: QE identity, TDX module and the level of the platform's TCB.

The order of the checks is that of the provisioning service's documentation (PCS API version 4, *Get TDX TCB
info* and *Get TDX QE identity*). Collateral counts by Intel's signature and by time; who brought it does not
matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cvmlab.errors import ParseError, VerificationError
from cvmlab.tee.processor import pck_extensions
from cvmlab.trust.paths import subject, verify_path
from cvmlab.trust.revocation import check_revocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from cvmlab.tee.collateral import Collateral, ModuleIdentity, TcbLevel
    from cvmlab.tee.processor import PckExtensions
    from cvmlab.tee.tdx import TdQuote
    from cvmlab.trust.reports import Gathered, HardwareContext

TOO_OLD: Final = "hardware-tcb-too-old"
INVALID: Final = "hardware-report-signature-invalid"
_SIGNER: Final = "Intel SGX TCB Signing"
# from fine to grave: the worst of platform, module and quoting enclave counts
STATUSES: Final = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)
_ACCEPTED: Final = frozenset(STATUSES[:4])


def check_platform(quote: TdQuote, pck: x509.Certificate, context: HardwareContext, work: Gathered) -> str:
    """Judge the TCB of the platform that made a quote.

    Args:
        quote: A quote whose signatures hold.
        pck: Certificate of the platform.
        context: Collateral, certificates, roots, lists, time.
        work: Gathers for the link ``hardware-report``.

    Returns:
        Intel's word for the TCB, the worst of its parts; empty where it could not be told.
    """
    try:
        extensions = pck_extensions(pck, source=subject(pck))
    except ParseError as error:
        work.fail("hardware-chain-untrusted", f"the PCK certificate cannot be used: {error}")
        return ""
    enclave = _enclave_status(quote, context, work)
    platform = _platform_status(quote, extensions, context, work)
    found = [status for status in (enclave, platform) if status]
    if len(found) < 2:
        return ""
    worst = max(found, key=_badness)
    _report(worst, work)
    return worst


def _badness(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _report(status: str, work: Gathered) -> None:
    if status == "UpToDate":
        work.holds.append("TCB and quoting enclave are up to date")
    elif status in _ACCEPTED:
        work.remark(
            TOO_OLD,
            f"Intel's word for the platform's TCB is {status}: up to date, with work left",
            status=status,
        )
    else:
        work.fail(
            TOO_OLD, f"Intel's word for the platform's TCB is {status}", before="UpToDate", after=status
        )


def _usable(
    kind: str, candidates: Iterable[Collateral], context: HardwareContext, work: Gathered
) -> Collateral | None:
    """The newest statement of a kind that Intel signed and that holds at the time."""
    reasons: list[str] = []
    for value in sorted(candidates, key=lambda v: (v.evaluation, v.issued), reverse=True):
        if problem := _signature_problem(value, context):
            reasons.append(problem)
        elif not value.issued <= context.at <= value.next_update:
            reasons.append(f"it holds from {value.issued:%Y-%m-%d} to {value.next_update:%Y-%m-%d} only")
        else:
            return value
    name = {"tcb-info": "TCB info", "qe-identity": "QE identity"}[kind]
    why = f"the {name} cannot be used: {reasons[0]}" if reasons else f"there is no {name} of Intel's for it"
    work.leave("evidence-incomplete", f"{why}, so nothing says whether the platform is up to date")
    return None


def _signature_problem(value: Collateral, context: HardwareContext) -> str:
    """Why a statement is not Intel's, or an empty text."""
    roots = context.roots("tdx")
    signers = [c for c in context.certificates if subject(c) == _SIGNER]
    if not signers:
        return f"there is no certificate {_SIGNER!r} to check its signature with"
    r, s = int.from_bytes(value.signature[:32], "big"), int.from_bytes(value.signature[32:], "big")
    problem = "its signature is wrong"
    for signer in signers:
        key = signer.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            continue
        try:
            key.verify(utils.encode_dss_signature(r, s), value.signed, ec.ECDSA(hashes.SHA256()))
            path = verify_path(
                signer, context.certificates, roots, at=context.at, untrusted_code="", expired_code=""
            )
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            continue
        except VerificationError as error:
            problem = f"its signer is not trusted: {error}"
            continue
        revocation = check_revocation(path, context.lists, at=context.at)
        if revocation.revoked:
            problem = revocation.revoked
            continue
        return ""
    return problem


def _enclave_status(quote: TdQuote, context: HardwareContext, work: Gathered) -> str:
    identities = [v for _, v in context.collateral if v.kind == "qe-identity" and v.id == "TD_QE"]
    identity = _usable("qe-identity", identities, context, work)
    if identity is None:
        return ""
    qe = quote.qe
    wrong = []
    for name, have, (wanted, mask) in (
        ("MISCSELECT", qe.misc_select, identity.misc_select),
        ("attributes", qe.attributes, identity.attributes),
    ):
        if _masked(have, mask) != _masked(wanted, mask):
            wrong.append(name)
    if qe.mr_signer != identity.mr_signer:
        wrong.append("MRSIGNER")
    if qe.isv_prod_id != identity.product:
        wrong.append("ISVPRODID")
    if wrong:
        why = f"the quoting enclave is not the one that Intel identifies: {', '.join(wrong)} differ"
        work.fail(INVALID, why)
        return ""
    level = _isv_level(identity.levels, qe.isv_svn)
    return level.status if level is not None else "OutOfDate"


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(value, mask, strict=True))


def _isv_level(levels: Iterable[TcbLevel], svn: int) -> TcbLevel | None:
    return next((level for level in levels if level.isv_svn <= svn), None)


def _platform_status(
    quote: TdQuote, extensions: PckExtensions, context: HardwareContext, work: Gathered
) -> str:
    infos = [
        value
        for _, value in context.collateral
        if value.kind == "tcb-info"
        and value.id == "TDX"
        and (value.fmspc, value.pce_id) == (extensions.fmspc, extensions.pce_id)
    ]
    info = _usable("tcb-info", infos, context, work)
    if info is None:
        return ""
    module = _module_status(quote, info, work)
    if module is None:
        return ""
    level = _level(quote, extensions, info)
    if level is None:
        why = "the platform's TCB is below every level that Intel lists"
        work.fail(TOO_OLD, why)
        return ""
    if level.advisories:
        work.holds.append(f"open at this level: {', '.join(level.advisories[:12])}")
    return max((status for status in (module, level.status) if status), key=_badness)


def _module_status(quote: TdQuote, info: Collateral, work: Gathered) -> str | None:
    """Status of the TDX module; empty where only the platform's level tells it; None where it is wrong."""
    major, minor = quote.tee_tcb_svn[1], quote.tee_tcb_svn[0]
    wanted = f"TDX_{major:02X}" if major and _by_version(info) else ""
    module = next((m for m in info.modules if m.id.upper() == wanted), None)
    if module is None:
        work.fail(INVALID, f"the TCB info of Intel knows no TDX module of major version {major}")
        return None
    if problem := _module_problem(quote, module):
        work.fail(INVALID, f"the TDX module is not the one that Intel identifies: {problem} differs")
        return None
    if not module.levels:
        return ""
    level = _isv_level(module.levels, minor)
    return level.status if level is not None else "OutOfDate"


def _by_version(info: Collateral) -> bool:
    """True where the TCB info has an identity for each major version of the module (since TDX 1.5)."""
    return any(module.id for module in info.modules)


def _module_problem(quote: TdQuote, module: ModuleIdentity) -> str:
    if quote.mr_signer_seam != module.mr_signer:
        return "MRSIGNERSEAM"
    masked = _masked(quote.seam_attributes, module.attributes_mask)
    return "SEAMATTRIBUTES" if masked != module.attributes else ""


def _level(quote: TdQuote, extensions: PckExtensions, info: Collateral) -> TcbLevel | None:
    """The first level that the platform reaches in SGX components, PCE and TDX components."""
    svn = quote.tee_tcb_svn
    # where the module has an identity of its own, its two numbers are judged by that
    first = 2 if svn[1] and _by_version(info) else 0
    for level in info.levels:
        if len(level.tdx) != len(svn) or (not first and level.tdx[1] != svn[1]):
            continue
        if (
            all(have >= need for have, need in zip(extensions.components, level.sgx, strict=True))
            and extensions.pce_svn >= level.pce_svn
            and all(have >= need for have, need in zip(svn[first:], level.tdx[first:], strict=True))
        ):
            return level
    return None
