"""Hardware evidence by its content: reports, certificates of processors, and collateral.

File names say nothing here: a file called ``snp_report.bin`` may hold an HCL report with a TDREPORT.
"""

from __future__ import annotations

import hashlib
import re
import uuid
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.evidence.certificates import is_certificate_text, read_certificates
from cvmlab.evidence.model import CertificateClaim, CollateralClaim, HardwareClaim, KeyClaim
from cvmlab.findings import Problem
from cvmlab.tee.collateral import looks_like_collateral, parse_collateral
from cvmlab.tee.hcl import HclReport, jwk_key, looks_like_hcl_report, parse_hcl_report, with_claims
from cvmlab.tee.nitro import looks_like_nitro_document, parse_nitro_document
from cvmlab.tee.processor import role_of_certificate
from cvmlab.tee.snp import SIZE as SNP_SIZE
from cvmlab.tee.snp import VERSIONS, SnpReport, parse_snp_report
from cvmlab.tee.tdx import REPORT_SIZE, TEE_TDX, TdQuote, parse_td_quote, parse_td_report
from cvmlab.tpm.strict import MAX_TEXT, load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal[
    "hcl-report",
    "snp-report",
    "td-report",
    "td-quote",
    "runtime-claims",
    "nitro-document",
    "collateral",
    "certificates",
    "crl",
    "bundle",
    "table",
]

_TD_QUOTE: Final = (b"\x04\0\x02\0\x81\0\0\0", b"\x05\0\x02\0\x81\0\0\0")
_MAKERS: Final = (b"Advanced Micro Devices", b"Intel SGX")
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----[A-Za-z0-9+/=\s]{1,8388608}?-----END X509 CRL-----")
# GHCB specification 2.0, section 4.1.8.1: table of certificates behind an extended guest request
_TABLE: Final = {
    uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd"),  # VCEK
    uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"),  # VLEK
    uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),  # ASK
    uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),  # ARK
}
_VTPM_KEYS: Final[tuple[tuple[str, Literal["ak", "ek"]], ...]] = (("HCLAkPub", "ak"), ("HCLEkPub", "ek"))
_MAX_TABLE: Final = 16
_THIM: Final = ("vcekCert", "certificateChain")
_BUNDLE: Final = (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity"))


@dataclass(slots=True)
class HardwareFile:
    """What one file holds.

    Attributes:
        reports: Hardware reports.
        certificates: Certificates of processors and their authorities, role ``processor``.
        collateral: Signed statements about processors, and revocation lists.
        claims: Source and bytes of a paravisor's runtime claims that came apart from their report.
    """

    reports: list[HardwareClaim] = field(default_factory=list)
    certificates: list[CertificateClaim] = field(default_factory=list)
    collateral: list[CollateralClaim] = field(default_factory=list)
    claims: list[tuple[str, bytes]] = field(default_factory=list)


def recognise(data: bytes) -> Kind | None:
    """Tell what a file holds by its content; None where it is nothing of a processor's."""
    if looks_like_hcl_report(data):
        return "hcl-report"
    if looks_like_nitro_document(data):
        return "nitro-document"
    if data[:8] in _TD_QUOTE:
        return "td-quote"
    if len(data) >= SNP_SIZE and _snp_report(_without_response(data)):
        return "snp-report"
    if _is_table(data):
        return "table"
    if len(data) == REPORT_SIZE and data[0] == TEE_TDX and data[1] == 0 and data[4:16] == bytes(12):
        return "td-report"
    if looks_like_collateral(data):
        return "collateral"
    if data[:16].lstrip().startswith(b"{") and len(data) <= MAX_TEXT:
        if b'"HCLAkPub"' in data and b'"vm-configuration"' in data:
            return "runtime-claims"
        keys = ('"vcekCert"', '"tcb_info"')
        return "bundle" if any(key.encode() in data for key in keys) else None
    if _CRL.search(data, 0, 65536 * 128) or _der_list(data):
        return "crl"
    if (is_certificate_text(data) or data[:2] == b"\x30\x82") and _of_a_processor(data):
        return "certificates"
    return None


def _without_response(data: bytes) -> bytes:
    """Drop the header of MSG_REPORT_RSP (56860, table 25): status, size of the report, 24 reserved bytes."""
    head = (0).to_bytes(4, "little") + SNP_SIZE.to_bytes(4, "little") + bytes(24)
    return data[len(head) :] if data.startswith(head) else data


def _snp_report(data: bytes) -> bool:
    """A report alone, or followed by the table of certificates of an extended guest request."""
    version = int.from_bytes(data[:4], "little")
    if version not in VERSIONS or not data[10] & 2 or int.from_bytes(data[0x34:0x38], "little") != 1:
        return False
    return len(data) == SNP_SIZE or not data[SNP_SIZE:].strip(b"\0") or _is_table(data[SNP_SIZE:])


def _is_table(data: bytes) -> bool:
    return len(data) >= 24 and uuid.UUID(bytes=data[:16]) in _TABLE


def _der_list(data: bytes) -> bool:
    """Tell a DER certificate list by its start: a sequence, in it one with version 1 and an algorithm."""
    return data[:2] in (b"\x30\x81", b"\x30\x82") and b"\x02\x01\x01\x30" in data[4:12]


def _of_a_processor(data: bytes) -> bool:
    try:
        found = read_certificates(data, source="")
    except ParseError:
        return False
    return any(
        role_of_certificate(c) or any(maker in c.public_bytes(Encoding.DER) for maker in _MAKERS)
        for c in found
    )


def read_hardware(data: bytes, *, source: str) -> HardwareFile:
    """Read a file of a processor's by its content.

    Args:
        data: The file.
        source: Its name, for messages.

    Raises:
        ParseError: It is nothing of a processor's, or damaged.
    """
    found = HardwareFile()
    kind = recognise(data)
    if kind == "hcl-report":
        found.reports.append(HardwareClaim(kind, source, parse_hcl_report(data, source=source), data))
    elif kind == "snp-report":
        data = _without_response(data)
        report = parse_snp_report(data[:SNP_SIZE], source=source)
        found.reports.append(HardwareClaim(kind, source, report, data[:SNP_SIZE]))
        if data[SNP_SIZE:].strip(b"\0"):
            found.certificates += _table(data[SNP_SIZE:], source, base=SNP_SIZE)
    elif kind == "table":
        found.certificates += _table(data, source)
    elif kind == "td-report":
        found.reports.append(HardwareClaim(kind, source, parse_td_report(data, source=source), data))
    elif kind == "td-quote":
        quote = parse_td_quote(data, source=source)
        found.reports.append(HardwareClaim(kind, source, quote, data))
        if quote.qe.certificates.strip(b"\0"):
            found.certificates += _certificates(quote.qe.certificates, source)
    elif kind == "nitro-document":
        document = parse_nitro_document(data, source=source)
        found.reports.append(HardwareClaim(kind, source, document, data))
        for authority in document.authorities:
            found.certificates += _certificates(authority, source)
    elif kind == "runtime-claims":
        found.claims.append((source, data))
    elif kind == "collateral":
        parsed = parse_collateral(data, source=source)
        found.collateral.append(CollateralClaim(parsed.kind, source, parsed))
    elif kind == "crl":
        found.collateral += _lists(data, source)
    elif kind == "bundle":
        _bundle(data, source, found)
    elif kind == "certificates" or is_certificate_text(data) or data[:1] == b"\x30":
        found.certificates += _certificates(data, source)
    else:
        reason = "neither an HCL report, an SNP report, a TDREPORT, a TD quote, certificates nor collateral"
        raise ParseError(source, 0, "file", reason=reason)
    return found


def _certificates(data: bytes, source: str) -> list[CertificateClaim]:
    return [
        CertificateClaim("processor", source, certificate, certificate.public_bytes(Encoding.DER))
        for certificate in read_certificates(data.rstrip(b"\0"), source=source)
    ]


def _table(data: bytes, source: str, base: int = 0) -> list[CertificateClaim]:
    """The certificates behind a report (GHCB 2.0, 4.1.8.1): GUID, offset and length each, then zeros."""
    cursor = Cursor(data, source=source, base=base)
    found: list[CertificateClaim] = []
    for _ in range(_MAX_TABLE):
        raw = cursor.take(16, "cert_table.guid")
        offset, length = cursor.u32("cert_table.offset"), cursor.u32("cert_table.length")
        if raw == bytes(16):
            return found
        if offset + length > len(data):
            raise ParseError(
                source, cursor.offset - 8, "cert_table", len(data), offset + length, "past the end"
            )
        if uuid.UUID(bytes=raw) in _TABLE and length:
            found += _certificates(data[offset : offset + length], source)
    raise ParseError(source, base, "cert_table", reason=f"more than {_MAX_TABLE} entries")


def _lists(data: bytes, source: str) -> list[CollateralClaim]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            blocks = [match.group() for match in _CRL.finditer(data)]
            read = [x509.load_pem_x509_crl(block) for block in blocks] or [x509.load_der_x509_crl(data)]
        except (ValueError, TypeError) as error:
            raise ParseError(source, 0, "crl", reason=f"not a revocation list: {error}") from error
    return [CollateralClaim("crl", source, crl) for crl in read]


def _bundle(data: bytes, source: str, found: HardwareFile) -> None:
    """JSON of Azure's THIM, or of a cache of Intel's service that carries all collateral in one object."""
    value = load_json(data, source=source)
    if not isinstance(value, dict):
        raise ParseError(source, 0, "json", reason="need an object")
    for name in _THIM:
        if isinstance(text := value.get(name), str) and text.strip():
            found.certificates += _certificates(text.encode(), source)
    for ours, theirs in _BUNDLE:
        text, signature = value.get(ours), value.get(f"{ours}_signature")
        if isinstance(text, str) and isinstance(signature, str):
            whole = f'{{"{theirs}":{text},"signature":"{signature}"}}'.encode()
            parsed = parse_collateral(whole, source=source)
            found.collateral.append(CollateralClaim(parsed.kind, source, parsed))
    for name, text in value.items():
        if isinstance(text, str) and name.endswith("_chain") and "BEGIN CERTIFICATE" in text:
            found.certificates += _certificates(text.encode(), source)
    for name in ("root_ca_crl", "pck_crl"):
        if isinstance(text := value.get(name), str) and text:
            found.collateral += _lists(_list_bytes(text, name, source), source)
    if not found.certificates and not found.collateral:
        raise ParseError(source, 0, "json", reason="no certificate and no collateral in it")


def _list_bytes(text: str, name: str, source: str) -> bytes:
    if "BEGIN X509 CRL" in text:
        return text.encode()
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ParseError(source, 0, name, reason="neither PEM nor hex") from error


def with_runtime_claims(found: HardwareFile, problems: list[Problem]) -> list[HardwareClaim]:
    """Put runtime claims to the hardware report that binds them.

    A report that binds no claims here gets them where it is the only one: that they do not belong together is
    then judged, and not overlooked.

    Args:
        found: Reports and claims of one evidence.
        problems: Gains what could not be put together.

    Returns:
        The reports, those with claims as ``hcl-report``.
    """
    reports = list(found.reports)
    whole = {c.report.claims_raw for c in reports if isinstance(c.report, HclReport)}
    for source, raw in found.claims:
        digest = hashlib.sha256(raw).digest().ljust(64, b"\0")
        bare = [(c, c.report) for c in reports if isinstance(c.report, SnpReport | TdQuote)]
        binding = [pair for pair in bare if pair[1].report_data == digest]
        binding = binding or (bare if len(bare) == 1 else [])
        if raw in whole:
            continue
        if not binding:
            message = "runtime claims, and no hardware report here that could bind them"
            problems.append(Problem(source, 0, "runtime_claims", message))
            continue
        claim, bound = binding[0]
        try:
            report = with_claims(bound, claim.data, raw, source=source)
        except ParseError as error:
            problems.append(Problem.of(error))
            continue
        where = f"{claim.source} with {source}"
        reports[reports.index(claim)] = HardwareClaim("hcl-report", where, report, claim.data)
    return reports


def paravisor_keys(claim: HardwareClaim, problems: list[Problem]) -> list[KeyClaim]:
    """The keys that an HCL report says the vTPM has; keys of no use are problems."""
    if not isinstance(claim.report, HclReport):
        return []
    found = []
    for kid, role in _VTPM_KEYS:
        jwk = claim.report.key(kid)
        if jwk is None:
            continue
        try:
            key = jwk_key(jwk, source=claim.source)
        except ParseError as error:
            problems.append(Problem.of(error, fatal=False))
            continue
        found.append(KeyClaim(role, f"{claim.source} ({kid})", None, key))
    return found


def collapse(claims: list[CertificateClaim]) -> list[CertificateClaim]:
    """Drop certificates that occur again: a PCK chain and its cache carry the same root."""
    seen: Mapping[bytes, CertificateClaim] = {
        hashlib.sha256(claim.der).digest(): claim for claim in reversed(claims)
    }
    return [claim for claim in claims if seen[hashlib.sha256(claim.der).digest()] is claim]
