"""AMD SEV-SNP attestation reports (SEV Secure Nested Paging Firmware ABI Specification, table 23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

SIZE: Final = 0x4A0
"""Bytes of a report."""

SIGNED: Final = 0x2A0
"""Bytes that the signature covers: those before it."""

VERSIONS: Final = (2, 3, 4, 5)
ECDSA_P384_SHA384: Final = 1
SIGNING_KEYS: Final = {0: "VCEK", 1: "VLEK", 7: "none"}
_COORDINATE: Final = 72
_ALWAYS_ONE: Final = 1 << 17
# CPUID family from which on a TCB has Turin's layout, and the last model of Turin's own
_ZEN_5: Final = 0x1A
_TURIN_MODELS: Final = 0x1F


@dataclass(frozen=True, slots=True)
class Tcb:
    """Security versions of one TCB (ABI specification, section 2.2).

    Attributes:
        raw: The eight bytes, lowest address first.
        boot_loader: Version of the boot loader of the secure processor.
        tee: Version of its operating system.
        snp: Version of the SNP firmware.
        microcode: Lowest microcode patch level of all cores.
        fmc: Version of the first mutable code; None before Turin.
    """

    raw: bytes
    boot_loader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None


@dataclass(frozen=True, slots=True)
class SnpReport:
    """An attestation report. Nothing in it is proven before its signature is.

    Attributes:
        version: Report version: 2, 3, 4 or 5.
        guest_svn: Security version of the guest.
        policy: Guest policy bits.
        family_id: Family of the guest image.
        image_id: Image.
        vmpl: Privilege level that asked for the report; 0 on Azure.
        signature_algorithm: 1: ECDSA P-384 with SHA-384.
        current_tcb: TCB now.
        platform_info: Platform bits: SMT, TSME, ECC and others.
        key_info: Bits of author key, chip key mask and signing key.
        report_data: 64 bytes that the guest gave.
        measurement: Launch measurement, 48 bytes.
        host_data: 32 bytes that the hypervisor gave at launch.
        id_key_digest: Digest of the identity key.
        author_key_digest: Digest of the author key.
        report_id: Report identity of this guest.
        report_id_ma: Report identity of its migration agent.
        reported_tcb: TCB from which the signing key is derived.
        cpuid: Family, model and stepping (version 3 and newer), else None.
        chip_id: Identity of the chip; zeros where masked.
        committed_tcb: TCB below which the platform may not go back.
        current_version: Firmware version as (major, minor, build).
        committed_version: Committed firmware version.
        launch_tcb: TCB when the guest was started.
        launch_mit_vector: Mitigations at launch (version 5), else None.
        current_mit_vector: Mitigations now (version 5), else None.
        signature_r: R, big-endian integer.
        signature_s: S.
        signed: The bytes that the signature covers.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algorithm: int
    current_tcb: Tcb
    platform_info: int
    key_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: Tcb
    cpuid: tuple[int, int, int] | None
    chip_id: bytes
    committed_tcb: Tcb
    current_version: tuple[int, int, int]
    committed_version: tuple[int, int, int]
    launch_tcb: Tcb
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: int
    signature_s: int
    signed: bytes

    @property
    def debug(self) -> bool:
        """True where the policy lets the hypervisor debug the guest (bit 19)."""
        return bool(self.policy >> 19 & 1)

    @property
    def migration(self) -> bool:
        """True where the policy allows a migration agent (bit 18)."""
        return bool(self.policy >> 18 & 1)

    @property
    def smt(self) -> bool:
        """True where the policy allows simultaneous multithreading (bit 16)."""
        return bool(self.policy >> 16 & 1)

    @property
    def single_socket(self) -> bool:
        """True where the policy binds the guest to one socket (bit 20)."""
        return bool(self.policy >> 20 & 1)

    @property
    def signing_key(self) -> str:
        """``VCEK``, ``VLEK``, ``none``, or ``reserved``."""
        return SIGNING_KEYS.get(self.key_info >> 2 & 7, "reserved")

    @property
    def masked_chip(self) -> bool:
        """True where the chip identity is masked (MASK_CHIP_KEY)."""
        return bool(self.key_info >> 1 & 1)

    @property
    def product(self) -> str:
        """``Milan``, ``Genoa`` or ``Turin`` by CPUID; empty where the report does not say (version 2)."""
        return product_of(self.cpuid)


def product_of(cpuid: tuple[int, int, int] | None) -> str:
    """Return the product line of a CPUID (family, model, stepping); empty where unknown."""
    if cpuid is None:
        return ""
    family, model, _ = cpuid
    if family == 0x19 and model <= 0x0F:
        return "Milan"
    if family == 0x19 and (0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF):
        return "Genoa"
    return "Turin" if family == _ZEN_5 and model <= _TURIN_MODELS else ""


def parse_snp_report(data: bytes, *, source: str, base: int = 0) -> SnpReport:
    """Read a report.

    Args:
        data: Exactly the report, `SIZE` bytes.
        source: Name for messages.
        base: Offset of the report in its source.

    Raises:
        ParseError: Not the size of a report, an unknown version, or a signature that is no pair of numbers
            below 2^384.
    """
    if len(data) != SIZE:
        raise ParseError(source, base, "ATTESTATION_REPORT", SIZE, len(data), "wrong size")
    cursor = Cursor(data, source=source, base=base)
    version = cursor.u32("VERSION")
    if version not in VERSIONS:
        raise ParseError(source, base, "VERSION", reason=f"{version}: no report version known here")
    guest_svn, policy = cursor.u32("GUEST_SVN"), cursor.u64("POLICY")
    if not policy & _ALWAYS_ONE:
        raise ParseError(source, base + 8, "POLICY", reason="bit 17 must be one")
    family_id, image_id = cursor.take(16, "FAMILY_ID"), cursor.take(16, "IMAGE_ID")
    vmpl, algorithm = cursor.u32("VMPL"), cursor.u32("SIGNATURE_ALGO")
    current, platform = cursor.take(8, "CURRENT_TCB"), cursor.u64("PLATFORM_INFO")
    key_info, _ = cursor.u32("KEY_INFO"), cursor.take(4, "RESERVED")
    report_data, measurement = cursor.take(64, "REPORT_DATA"), cursor.take(48, "MEASUREMENT")
    host_data = cursor.take(32, "HOST_DATA")
    id_key, author_key = cursor.take(48, "ID_KEY_DIGEST"), cursor.take(48, "AUTHOR_KEY_DIGEST")
    report_id, report_id_ma = cursor.take(32, "REPORT_ID"), cursor.take(32, "REPORT_ID_MA")
    reported = cursor.take(8, "REPORTED_TCB")
    family, model, stepping = (cursor.u8(name) for name in ("FAM_ID", "MOD_ID", "STEP"))
    cpuid = (family, model, stepping) if version >= 3 else None
    cursor.take(21, "RESERVED")
    chip_id, committed = cursor.take(64, "CHIP_ID"), cursor.take(8, "COMMITTED_TCB")
    build, minor, major = (cursor.u8(f"CURRENT_{name}") for name in ("BUILD", "MINOR", "MAJOR"))
    cursor.take(1, "RESERVED")
    c_build, c_minor, c_major = (cursor.u8(f"COMMITTED_{name}") for name in ("BUILD", "MINOR", "MAJOR"))
    cursor.take(1, "RESERVED")
    launch = cursor.take(8, "LAUNCH_TCB")
    vectors = (cursor.u64("LAUNCH_MIT_VECTOR"), cursor.u64("CURRENT_MIT_VECTOR")) if version >= 5 else None
    turin = cpuid is not None and cpuid[0] >= _ZEN_5
    return SnpReport(
        version=version,
        guest_svn=guest_svn,
        policy=policy,
        family_id=family_id,
        image_id=image_id,
        vmpl=vmpl,
        signature_algorithm=algorithm,
        current_tcb=tcb(current, turin=turin),
        platform_info=platform,
        key_info=key_info,
        report_data=report_data,
        measurement=measurement,
        host_data=host_data,
        id_key_digest=id_key,
        author_key_digest=author_key,
        report_id=report_id,
        report_id_ma=report_id_ma,
        reported_tcb=tcb(reported, turin=turin),
        cpuid=cpuid,
        chip_id=chip_id,
        committed_tcb=tcb(committed, turin=turin),
        current_version=(major, minor, build),
        committed_version=(c_major, c_minor, c_build),
        launch_tcb=tcb(launch, turin=turin),
        launch_mit_vector=vectors[0] if vectors else None,
        current_mit_vector=vectors[1] if vectors else None,
        signature_r=_coordinate(data, SIGNED, source, base),
        signature_s=_coordinate(data, SIGNED + _COORDINATE, source, base),
        signed=bytes(data[:SIGNED]),
    )


def tcb(raw: bytes, *, turin: bool) -> Tcb:
    """Read the eight bytes of a TCB; their places differ between products."""
    if turin:
        return Tcb(raw, raw[1], raw[2], raw[3], raw[7], raw[0])
    return Tcb(raw, raw[0], raw[1], raw[6], raw[7])


def _coordinate(data: bytes, offset: int, source: str, base: int) -> int:
    value = int.from_bytes(data[offset : offset + _COORDINATE], "little")
    if value >> 384:
        raise ParseError(source, base + offset, "SIGNATURE", reason="a coordinate of more than 384 bits")
    return value
