"""Intel TDX: TDREPORT and quotes of version 4 and 5.

Sources: Intel TDX Module ABI reference (TDREPORT_STRUCT); Intel TDX DCAP Quote Generation Library and Quote
Verification Library, appendix A (quote formats).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

REPORT_SIZE: Final = 1024
TEE_TDX: Final = 0x81
HEADER_SIZE: Final = 48
BODY_SIZES: Final = {2: 584, 3: 648}
ECDSA_P256: Final = 2
QE_REPORT_SIZE: Final = 384
CERTIFICATION_QE_REPORT: Final = 6
CERTIFICATION_PCK_CHAIN: Final = 5
INTEL_QE: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
MAX_SIGNATURE_DATA: Final = 64 << 10
_UNTRUSTED: Final = 0xFF
_MIGRATABLE: Final = 1 << 29


@dataclass(frozen=True, slots=True)
class TdReport:
    """A TDREPORT. Its MAC can be checked only on the processor that made it.

    Attributes:
        cpu_svn: Security versions of the processor.
        tee_tcb_info_hash: Hash of TEE_TCB_INFO, as stated.
        tee_info_hash: Hash of TDINFO, as stated.
        report_data: 64 bytes that the TD gave.
        mac: MAC, unchecked.
        tee_tcb_svn: Security versions of the TDX module.
        mr_seam: Measurement of the TDX module.
        mr_signer_seam: Signer of the TDX module; zeros: Intel.
        attributes: TD attributes.
        xfam: Extended features.
        mr_td: Measurement of the initial TD.
        mr_config_id: Configuration identity.
        mr_owner: Owner identity.
        mr_owner_config: Owner configuration.
        rtmr: The four run-time measurement registers.
        consistent: True where both hashes are those of the parts they name.
    """

    cpu_svn: bytes
    tee_tcb_info_hash: bytes
    tee_info_hash: bytes
    report_data: bytes
    mac: bytes
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr: tuple[bytes, bytes, bytes, bytes]
    consistent: bool

    @property
    def debug(self) -> bool:
        """True where the TD is off trust: debugged (attribute bit 0), or profiled (bits 1 to 7)."""
        return bool(self.attributes[0] & _UNTRUSTED)


def parse_td_report(data: bytes, *, source: str, base: int = 0) -> TdReport:
    """Read a TDREPORT of 1024 bytes.

    Raises:
        ParseError: Not that size, or not the report of a TD.
    """
    if len(data) != REPORT_SIZE:
        raise ParseError(source, base, "TDREPORT_STRUCT", REPORT_SIZE, len(data), "wrong size")
    if data[0] != TEE_TDX:
        raise ParseError(source, base, "REPORTTYPE.TYPE", reason=f"0x{data[0]:02x}: not the report of a TD")
    info = hashlib.sha384(data[512:1024]).digest()
    tcb = hashlib.sha384(data[256:495]).digest()
    return TdReport(
        cpu_svn=data[16:32],
        tee_tcb_info_hash=data[32:80],
        tee_info_hash=data[80:128],
        report_data=data[128:192],
        mac=data[224:256],
        tee_tcb_svn=data[264:280],
        mr_seam=data[280:328],
        mr_signer_seam=data[328:376],
        attributes=data[512:520],
        xfam=data[520:528],
        mr_td=data[528:576],
        mr_config_id=data[576:624],
        mr_owner=data[624:672],
        mr_owner_config=data[672:720],
        rtmr=(data[720:768], data[768:816], data[816:864], data[864:912]),
        consistent=hmac.compare_digest(data[80:128], info) and hmac.compare_digest(data[32:80], tcb),
    )


@dataclass(frozen=True, slots=True)
class QeReport:
    """The quoting enclave's report and what certifies it.

    Attributes:
        report: The SGX report, 384 bytes, signed with the PCK key.
        signature: r and s, big-endian, 64 bytes.
        auth_data: What the quoting enclave authenticated with the attestation key.
        certificates: PEM of the PCK chain, unparsed.
    """

    report: bytes
    signature: bytes
    auth_data: bytes
    certificates: bytes

    @property
    def report_data(self) -> bytes:
        """Report data of the enclave report (SGX REPORT_BODY, offset 320)."""
        return self.report[320:384]

    @property
    def misc_select(self) -> bytes:
        """MISCSELECT of the enclave (offset 16)."""
        return self.report[16:20]

    @property
    def attributes(self) -> bytes:
        """SGX attributes of the enclave (offset 48)."""
        return self.report[48:64]

    @property
    def mr_signer(self) -> bytes:
        """Signer of the quoting enclave (offset 128)."""
        return self.report[128:160]

    @property
    def isv_prod_id(self) -> int:
        """Product identity (offset 256)."""
        return int.from_bytes(self.report[256:258], "little")

    @property
    def isv_svn(self) -> int:
        """Security version (offset 258)."""
        return int.from_bytes(self.report[258:260], "little")


@dataclass(frozen=True, slots=True)
class TdQuote:
    """A TD quote. Nothing in it is proven before its signatures and its chain are.

    Attributes:
        version: 4 or 5.
        attestation_key_type: 2: ECDSA P-256.
        tee_type: 0x81.
        qe_vendor: Vendor of the quoting enclave.
        user_data: 20 bytes of the quoting enclave.
        body_type: 2 (TDX 1.0) or 3 (TDX 1.5).
        tee_tcb_svn: Security versions of the TDX module.
        mr_seam: Measurement of the TDX module.
        mr_signer_seam: Its signer.
        seam_attributes: Its attributes.
        td_attributes: TD attributes.
        xfam: Extended features.
        mr_td: Measurement of the initial TD.
        mr_config_id: Configuration identity.
        mr_owner: Owner identity.
        mr_owner_config: Owner configuration.
        rtmr: The four run-time measurement registers.
        report_data: 64 bytes that the TD gave.
        tee_tcb_svn2: Second security versions (TDX 1.5), else empty.
        mr_service_td: Measurement of service TDs (TDX 1.5), else empty.
        signed: Header and body: what the attestation key signs.
        signature: r and s, big-endian, 64 bytes.
        attestation_key: x and y, big-endian, 64 bytes.
        qe: The quoting enclave's report.
        trailing: Bytes behind the quote; some sources pad.
    """

    version: int
    attestation_key_type: int
    tee_type: int
    qe_vendor: bytes
    user_data: bytes
    body_type: int
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes
    mr_service_td: bytes
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe: QeReport
    trailing: int

    @property
    def debug(self) -> bool:
        """True where the TD is off trust: debugged (attribute bit 0), or profiled (bits 1 to 7)."""
        return bool(self.td_attributes[0] & _UNTRUSTED)

    @property
    def migratable(self) -> bool:
        """True where a service TD may migrate this one (attribute bit 29)."""
        return bool(int.from_bytes(self.td_attributes, "little") & _MIGRATABLE)

    @property
    def key_bound(self) -> bool:
        """True where the quoting enclave's report binds the attestation key."""
        expected = hashlib.sha256(self.attestation_key + self.qe.auth_data).digest().ljust(64, b"\0")
        return hmac.compare_digest(self.qe.report_data, expected)


def parse_td_quote(data: bytes, *, source: str) -> TdQuote:
    """Read a quote of version 4 or 5; bytes behind it are counted, not refused.

    Raises:
        ParseError: Another version, key type or TEE, sizes that do not fit, or certification data of
            another kind than a quoting enclave's report with a PCK chain.
    """
    cursor = Cursor(data, source=source)
    version, key_type, tee = cursor.u16("version"), cursor.u16("att_key_type"), cursor.u32("tee_type")
    if version not in (4, 5):
        raise ParseError(source, 0, "version", reason=f"{version}: no TD quote version known here")
    if key_type != ECDSA_P256:
        raise ParseError(source, 2, "att_key_type", reason=f"{key_type}: need ECDSA P-256 (2)")
    if tee != TEE_TDX:
        raise ParseError(source, 4, "tee_type", reason=f"0x{tee:x}: not a TD")
    cursor.take(4, "qe_svn")
    vendor, user_data = cursor.take(16, "qe_vendor_id"), cursor.take(20, "user_data")
    body_type = 2
    if version == 5:
        body_type, size = cursor.u16("body_type"), cursor.u32("body_size")
        if BODY_SIZES.get(body_type) != size:
            reason = f"type {body_type} with {size} bytes: no body known here"
            raise ParseError(source, HEADER_SIZE, "body_type", reason=reason)
    body = cursor.take(BODY_SIZES[body_type], "body")
    signed = bytes(data[: cursor.offset])
    area = cursor.counted(4, "signature_data", limit=MAX_SIGNATURE_DATA)
    trailing = cursor.remaining
    signature, key, qe = _signature(area, source, len(signed) + 4)
    return TdQuote(
        version=version,
        attestation_key_type=key_type,
        tee_type=tee,
        qe_vendor=vendor,
        user_data=user_data,
        body_type=body_type,
        tee_tcb_svn=body[0x00:0x10],
        mr_seam=body[0x10:0x40],
        mr_signer_seam=body[0x40:0x70],
        seam_attributes=body[0x70:0x78],
        td_attributes=body[0x78:0x80],
        xfam=body[0x80:0x88],
        mr_td=body[0x88:0xB8],
        mr_config_id=body[0xB8:0xE8],
        mr_owner=body[0xE8:0x118],
        mr_owner_config=body[0x118:0x148],
        rtmr=(body[0x148:0x178], body[0x178:0x1A8], body[0x1A8:0x1D8], body[0x1D8:0x208]),
        report_data=body[0x208:0x248],
        tee_tcb_svn2=body[584:600],
        mr_service_td=body[600:648],
        signed=signed,
        signature=signature,
        attestation_key=key,
        qe=qe,
        trailing=trailing,
    )


def _signature(area: bytes, source: str, base: int) -> tuple[bytes, bytes, QeReport]:
    cursor = Cursor(area, source=source, base=base)
    signature, key = cursor.take(64, "signature"), cursor.take(64, "attestation_key")
    at = cursor.offset
    kind = cursor.u16("certification_data.type")
    if kind != CERTIFICATION_QE_REPORT:
        raise ParseError(source, at, "certification_data.type", reason=f"{kind}: need a QE report (6)")
    inner = cursor.sub(cursor.u32("certification_data.size"), "certification_data")
    cursor.finish("signature_data")
    report, qe_signature = inner.take(QE_REPORT_SIZE, "qe_report"), inner.take(64, "qe_signature")
    auth = inner.counted(2, "qe_auth_data", limit=1 << 16)
    at = inner.offset
    kind = inner.u16("certification_data.type")
    if kind != CERTIFICATION_PCK_CHAIN:
        raise ParseError(source, at, "certification_data.type", reason=f"{kind}: need a PCK chain (5)")
    chain = inner.counted(4, "pck_chain", limit=MAX_SIGNATURE_DATA)
    inner.finish("certification_data")
    return signature, key, QeReport(report, qe_signature, auth, chain)
