"""What hardware reports say, field by field, with the meaning and the worth of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.tee.hcl import HclReport
from cvmlab.tee.nitro import NitroDocument
from cvmlab.tee.processor import amd_extensions, pck_extensions, role_of_certificate
from cvmlab.tee.snp import SnpReport, Tcb
from cvmlab.tee.tdx import TdQuote, TdReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.findings import Trust
    from cvmlab.trust.hardware import HardwareResult
    from cvmlab.trust.reports import HardwareCheck

MAX_CLAIM: Final = 200
_POLICY_BITS: Final = (
    (16, "SMT allowed"), (18, "migration agent allowed"), (19, "debugging allowed"), (20, "one socket only"),
    (21, "CXL allowed"), (22, "AES-256-XTS required"), (23, "RAPL must be off"),
    (24, "ciphertext hiding required"), (25, "page swapping off"),
)  # fmt: skip
_PLATFORM_BITS: Final = (
    (0, "SMT"), (1, "TSME"), (2, "ECC memory"), (3, "RAPL off"), (4, "ciphertext hiding"),
    (5, "alias check done"), (7, "trusted I/O"),
)  # fmt: skip
_TD_BITS: Final = (
    (0, "debug"), (28, "no #VE for private pages"), (29, "migratable"), (30, "protection keys"),
    (31, "key locker"), (63, "performance counters"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of one report.

    Attributes:
        report: File.
        kind: Kind of report, or ``runtime-claims``, ``certificate``, ``platform``.
        field: Field, as its specification spells it.
        value: What it says, as text; unescaped.
        meaning: What that means.
        worth: ``proven`` where a genuine processor signed it, else ``unproven``.
    """

    report: str
    kind: str
    field: str
    value: str
    meaning: str
    worth: Trust


def hardware_rows(result: HardwareResult) -> tuple[FieldRow, ...]:
    """Return every field of every report, in the order of the reports."""
    rows: list[FieldRow] = []
    for check in result.checks:
        worth: Trust = "proven" if check.authentic else "unproven"
        report = check.claim.report
        kind = check.claim.kind
        if isinstance(report, HclReport):
            bound: Trust = "proven" if check.authentic and report.bound else "unproven"
            rows += _rows(check.claim.source, "hcl-report", "unproven", _hcl(report))
            rows += _rows(check.claim.source, "runtime-claims", bound, _claims(report))
            hardware = report.hardware
            kind = "snp-report" if isinstance(hardware, SnpReport) else "td-report"
            kind = "td-quote" if isinstance(hardware, TdQuote) else kind
            if hardware is not None:
                rows += _rows(check.claim.source, kind, worth, _fields(hardware))
        else:
            rows += _rows(check.claim.source, kind, worth, _fields(report))
        if check.quote is not None and isinstance(check.quote.report, TdQuote):
            rows += _rows(check.quote.source, "td-quote", worth, _fields(check.quote.report))
        rows += _rows(check.claim.source, "certificate", _certificate_worth(check), _certificate(check))
    return tuple(rows)


def _rows(source: str, kind: str, worth: Trust, fields: Iterator[tuple[str, str, str]]) -> Iterator[FieldRow]:
    for name, value, meaning in fields:
        yield FieldRow(source, kind, name, value, meaning, worth)


def _certificate_worth(check: HardwareCheck) -> Trust:
    return "proven" if check.root.status == "holds" else "unproven"


def _fields(report: SnpReport | TdReport | TdQuote | NitroDocument) -> Iterator[tuple[str, str, str]]:
    if isinstance(report, NitroDocument):
        return _nitro(report)
    if isinstance(report, SnpReport):
        return _snp(report)
    return _td_report(report) if isinstance(report, TdReport) else _td_quote(report)


def _nitro(document: NitroDocument) -> Iterator[tuple[str, str, str]]:
    made = datetime.fromtimestamp(document.timestamp / 1000, UTC)
    yield "module_id", document.module_id, "instance and module of the hypervisor"
    yield "timestamp", str(document.timestamp), f"made at {made:%Y-%m-%dT%H:%M:%SZ}"
    yield "digest", document.digest, "hash of the registers"
    for name, value, meaning in (
        ("nonce", document.nonce, "what the verifier sent"),
        ("user_data", document.user_data, "what the guest gave"),
        ("public_key", document.public_key, "key that the guest gave, to encrypt for it"),
    ):
        yield name, value.hex()[:256] if value is not None else "absent", meaning
    for index, digest in document.registers.items():
        yield f"nitrotpm_pcrs[{index}]", digest.hex(), "register of the TPM"


def _hcl(report: HclReport) -> Iterator[tuple[str, str, str]]:
    said = "version of the header" if report.version else "report and claims came without the header"
    yield "version", str(report.version), said
    yield "report_type", report.report_type, "kind of hardware report inside"
    requests = {1: "key release", 2: "AK certificate", 3: "wrapped key"}
    yield "request_type", str(report.request_type), requests.get(report.request_type, "not known")
    yield "hash_type", report.hash_name, "hash of the runtime claims in the report data"
    said = "the report data are this hash" if report.bound else "the report data are another value"
    yield "runtime_claims hash", report.expected_report_data.rstrip(b"\0").hex(), said


def _claims(report: HclReport) -> Iterator[tuple[str, str, str]]:
    for kid in ("HCLAkPub", "HCLEkPub", "HCLTransferKey"):
        if (key := report.key(kid)) is not None:
            use = {"HCLAkPub": "the vTPM's attestation key", "HCLEkPub": "the vTPM's endorsement key"}
            yield kid, _short(key.get("n")), use.get(kid, "key for releasing secrets to")
    for name, value in report.configuration().items():
        yield name[:64], _short(value), _CONFIGURATION.get(name, "not known here")
    user = report.claims.get("user-data")
    if isinstance(user, str):
        unset = "not set by the guest" if not user.strip("0") else "64 bytes that the guest set"
        yield "user-data", _short(user), unset


_CONFIGURATION: Final = {
    "current-time": "time of the host when the VM was started, Unix seconds",
    "root-cert-thumbprint": "SHA-256 of the root of older key certificates, base64url",
    "console-enabled": "a serial console is attached",
    "interactive-console-enabled": "the console takes input",
    "secure-boot": "Secure Boot as the host configured it; the boot log says what happened",
    "tpm-enabled": "a vTPM is there",
    "tpm-persisted": "the vTPM's state outlives the VM's stop",
    "filtered-vpci-devices-allowed": "the host may add some devices",
    "vmUniqueId": "identity of the VM; register 6 is extended with it",
    "hardware-sealing-policy": "how the vTPM's state is sealed to the processor",
    "secure-boot-template-id": "which set of Secure Boot keys the firmware started with",
    "vmgs-provisioner": "who made the vTPM's state",
}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_CLAIM else text[:MAX_CLAIM] + "…"


def _tcb(tcb: Tcb) -> str:
    parts = [
        f"boot loader {tcb.boot_loader}",
        f"TEE {tcb.tee}",
        f"SNP {tcb.snp}",
        f"microcode {tcb.microcode}",
    ]
    if tcb.fmc is not None:
        parts.insert(0, f"FMC {tcb.fmc}")
    return ", ".join(parts)


def _bits(value: int, names: tuple[tuple[int, str], ...]) -> str:
    return ", ".join(name for bit, name in names if value >> bit & 1) or "none of the known bits"


def _snp(report: SnpReport) -> Iterator[tuple[str, str, str]]:
    product = report.product or "not stated; the certificate tells the product"
    yield "VERSION", str(report.version), "version of the report"
    yield "CPUID", "/".join(f"0x{n:x}" for n in report.cpuid) if report.cpuid else "not stated", product
    yield "GUEST_SVN", str(report.guest_svn), "security version that the guest's owner gave it"
    yield "POLICY", f"0x{report.policy:x}", _bits(report.policy, _POLICY_BITS)
    vmpl = (
        "the paravisor, or the guest where there is none" if report.vmpl == 0 else "less than the paravisor"
    )
    yield "VMPL", str(report.vmpl), f"asked for by {vmpl}"
    yield "PLATFORM_INFO", f"0x{report.platform_info:x}", _bits(report.platform_info, _PLATFORM_BITS)
    yield "SIGNING_KEY", report.signing_key, "key that is said to have signed"
    yield "MEASUREMENT", report.measurement.hex(), "launch measurement: on Azure, of the paravisor only"
    yield "REPORT_DATA", report.report_data.hex(), "64 bytes that were handed in"
    yield "HOST_DATA", report.host_data.hex(), "32 bytes that the host gave at launch"
    yield "FAMILY_ID", report.family_id.hex(), "family of the image"
    yield "IMAGE_ID", report.image_id.hex(), "image"
    yield "ID_KEY_DIGEST", report.id_key_digest.hex(), "key that signed the identity block"
    yield "AUTHOR_KEY_DIGEST", report.author_key_digest.hex(), "key that certified that key"
    yield "REPORT_ID", report.report_id.hex(), "identity of this run of the guest"
    agent = "no migration agent" if not report.report_id_ma.strip(b"\xff") else "of its migration agent"
    yield "REPORT_ID_MA", report.report_id_ma.hex(), agent
    yield "CHIP_ID", report.chip_id.hex(), "the chip" if any(report.chip_id) else "blank: masked or redacted"
    yield "REPORTED_TCB", _tcb(report.reported_tcb), "from which the signing key is derived"
    yield "CURRENT_TCB", _tcb(report.current_tcb), "now running"
    yield "COMMITTED_TCB", _tcb(report.committed_tcb), "below which the platform cannot go back"
    yield "LAUNCH_TCB", _tcb(report.launch_tcb), "when the guest was started"
    yield "CURRENT_VERSION", ".".join(map(str, report.current_version)), "SNP firmware now"
    yield "COMMITTED_VERSION", ".".join(map(str, report.committed_version)), "SNP firmware committed"
    for name, value in (
        ("LAUNCH_MIT_VECTOR", report.launch_mit_vector),
        ("CURRENT_MIT_VECTOR", report.current_mit_vector),
    ):
        if value is not None:
            yield name, f"0x{value:x}", "mitigations that the firmware reports"


def _td_report(report: TdReport) -> Iterator[tuple[str, str, str]]:
    yield "ATTRIBUTES", report.attributes.hex(), _bits(int.from_bytes(report.attributes, "little"), _TD_BITS)
    yield "XFAM", report.xfam.hex(), "extended processor features"
    yield "MRTD", report.mr_td.hex(), "initial contents of the TD: on Azure, the paravisor only"
    for index, value in enumerate(report.rtmr):
        yield f"RTMR{index}", value.hex(), _rtmr(value)
    yield "REPORTDATA", report.report_data.hex(), "64 bytes that were handed in"
    yield "TEE_TCB_SVN", report.tee_tcb_svn.hex(), "security versions of the TDX module"
    yield "MRSEAM", report.mr_seam.hex(), "measurement of the TDX module"
    yield "CPUSVN", report.cpu_svn.hex(), "security versions of the processor"
    said = "both hashes are those of the report's parts" if report.consistent else "a hash is of other data"
    yield "TEE_INFO_HASH", report.tee_info_hash.hex(), said
    yield "MAC", report.mac.hex(), "only the same processor can check it"


def _td_quote(quote: TdQuote) -> Iterator[tuple[str, str, str]]:
    yield "version", str(quote.version), "version of the quote"
    attributes = int.from_bytes(quote.td_attributes, "little")
    yield "TDATTRIBUTES", quote.td_attributes.hex(), _bits(attributes, _TD_BITS)
    yield "XFAM", quote.xfam.hex(), "extended processor features"
    yield "MRTD", quote.mr_td.hex(), "initial contents of the TD: on Azure, the paravisor only"
    for index, value in enumerate(quote.rtmr):
        yield f"RTMR{index}", value.hex(), _rtmr(value)
    yield "MRCONFIGID", quote.mr_config_id.hex(), "configuration that the TD's owner gave"
    yield "MROWNER", quote.mr_owner.hex(), "owner"
    yield "MROWNERCONFIG", quote.mr_owner_config.hex(), "configuration of the owner"
    yield "REPORTDATA", quote.report_data.hex(), "64 bytes that were handed in"
    yield "TEE_TCB_SVN", quote.tee_tcb_svn.hex(), "security versions of the TDX module and its microcode"
    yield "MRSEAM", quote.mr_seam.hex(), "measurement of the TDX module"
    if quote.body_type == 3:
        yield "TEE_TCB_SVN2", quote.tee_tcb_svn2.hex(), "security versions now, after an update at run time"
        yield "MRSERVICETD", quote.mr_service_td.hex(), "service TDs, such as one for migration"


def _rtmr(value: bytes) -> str:
    return "run-time measurements" if any(value) else "never extended"


def _certificate(check: HardwareCheck) -> Iterator[tuple[str, str, str]]:
    if check.certificate is None:
        return
    role = role_of_certificate(check.certificate)
    end = f"{check.certificate.not_valid_after_utc:%Y-%m-%d}"
    yield "key", role, f"key that signs; its certificate is valid until {end}"
    try:
        if role == "PCK":
            pck = pck_extensions(check.certificate, source=check.claim.source)
            yield "FMSPC", pck.fmspc.hex(), "model of the platform, to which Intel's TCB info belongs"
            yield "PCESVN", str(pck.pce_svn), "version of the provisioning enclave"
            yield "TCB", check.tcb_status or "not known", "Intel's word for the platform's TCB"
        else:
            amd = amd_extensions(check.certificate, source=check.claim.source)
            yield "productName", amd.product, "product line"
            versions = ", ".join(f"{name} {value}" for name, value in amd.versions.items() if value)
            yield "SPL", versions, "security patch levels that the key is derived from"
            if amd.provider:
                yield "cspID", amd.provider, "cloud provider that the VLEK was made for"
    except ParseError as error:
        yield "extensions", "damaged", str(error)
