"""DEVICE_SECURITY_EVENT_DATA: what a device said of itself by SPDM, as firmware logs it.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10.2.7; DMTF DSP0274 (SPDM) 1.2, sections 10.6.1
(certificate chain) and 10.11.1 (measurement block).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.uefi.certificates import CertificateInfo, read_certificate
from cvmlab.uefi.devicepath import DevicePath, parse_device_path

if TYPE_CHECKING:
    from cvmlab.binary import Cursor

SIGNATURE: Final = b"SPDM Device Sec\0"
SIGNATURE2: Final = b"SPDM Device Sec2"
MAX_CERTIFICATES: Final = 16
MAX_BLOCKS: Final = 255
_MAX_PATH: Final = 1 << 16
_MAX_SUBHEADER: Final = 1 << 20
_PCI, _USB = 1, 2
_MEASUREMENT, _CERTIFICATES = 0, 1
_DMTF: Final = 1
_RAW: Final = 0x80
# DSP0274 1.2, table 55: DMTFSpecMeasurementValueType
VALUE_TYPES: Final = {
    0: "immutable-rom",
    1: "mutable-firmware",
    2: "hardware-configuration",
    3: "firmware-configuration",
    4: "manifest",
    5: "device-mode",
    6: "firmware-version",
    7: "security-version",
}
# PFP 1.06, section 10.2.7.2: DeviceSecurityEventData2.AuthState
AUTH_STATES: Final = {
    0: "authenticated",
    1: "not-authenticated",
    2: "no-binding",
    3: "signature-missing",
    4: "signature-invalid",
    0xFF: "no-spdm",
}
# DSP0274 1.2, table 21: BaseHashAlgo, with the size of the digest in bytes
_BASE_HASHES: Final = {
    1: ("sha256", 32),
    2: ("sha384", 48),
    4: ("sha512", 64),
    8: ("sha3_256", 32),
    16: ("sha3_384", 48),
    32: ("sha3_512", 64),
    64: ("sm3_256", 32),
}
# DSP0274 1.2, table 22: MeasurementHashAlgo
_MEASUREMENT_HASHES: Final = {
    1: "raw",
    2: "sha256",
    4: "sha384",
    8: "sha512",
    16: "sha3_256",
    32: "sha3_384",
    64: "sha3_512",
    128: "sm3_256",
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One SPDM measurement block.

    Attributes:
        index: Index of the measurement.
        type: What is measured, of `VALUE_TYPES`, or the number; ``other`` where it is not DMTF's form.
        raw: True where `value` is the thing itself, False where it is a digest of it.
        value: The value.
    """

    index: int
    type: str
    raw: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class PciDevice:
    """DEVICE_SECURITY_EVENT_DATA_PCI_CONTEXT: a device as its configuration space names it."""

    vendor: int
    device: int
    revision: int
    class_code: int
    subsystem_vendor: int
    subsystem: int

    @property
    def name(self) -> str:
        """Such as ``PCI 8086:1592``."""
        return f"PCI {self.vendor:04x}:{self.device:04x}"


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """DEVICE_SECURITY_EVENT_DATA_USB_CONTEXT: a device as its first descriptor names it.

    Attributes:
        vendor: idVendor; -1 where the descriptor is cut.
        product: idProduct; -1 where the descriptor is cut.
        descriptors: All descriptors, as they stand.
    """

    vendor: int
    product: int
    descriptors: bytes

    @property
    def name(self) -> str:
        """Such as ``USB 046d:c52b``."""
        return f"USB {self.vendor:04x}:{self.product:04x}" if self.vendor >= 0 else "USB device"


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """The certificates that a device showed, root first as SPDM orders them."""

    slot: int
    hash_name: str
    root_hash: bytes
    certificates: tuple[CertificateInfo, ...]
    rest: bytes


@dataclass(frozen=True, slots=True)
class DeviceSecurityEvent:
    """DEVICE_SECURITY_EVENT_DATA or ..._DATA2.

    Attributes:
        version: 1 or 2 (the number that the structure states).
        auth_state: Of `AUTH_STATES`, or the number; empty in version 1, which has none.
        uid: SubHeaderUID, which binds events of one device together; 0 in version 1.
        path: Where the device is; None in version 1.
        hash_name: Hash of the measurements.
        measurements: What was measured; empty where the event holds certificates.
        chain: Certificates; None where the event holds measurements.
        device: What the device is; None where its kind has no context or it is left out.
        rest: Bytes not taken apart: an OEM's form, or a context of a kind not known here.
    """

    version: int
    auth_state: str
    uid: int
    path: DevicePath | None
    hash_name: str
    measurements: tuple[Measurement, ...]
    chain: CertificateChain | None
    device: PciDevice | UsbDevice | None
    rest: bytes


def parse_device_security(cursor: Cursor) -> DeviceSecurityEvent:
    """Read one structure and everything behind it.

    Raises:
        ParseError: Neither signature stands there, or it is cut short, or a length is more than its limit.
    """
    at = cursor.offset
    signature = cursor.take(16, "Signature")
    if signature == SIGNATURE:
        return _version1(cursor)
    if signature == SIGNATURE2:
        return _version2(cursor)
    raise ParseError(
        cursor.source, at, "Signature", reason="neither 'SPDM Device Sec' nor 'SPDM Device Sec2'"
    )


def _version1(cursor: Cursor) -> DeviceSecurityEvent:
    version = cursor.u16("Version")
    cursor.u16("Length")
    hash_name = _measurement_hash(cursor.u32("SpdmHashAlgo"))
    kind = cursor.u32("DeviceType")
    measurement = _block(cursor)
    device, rest = _context(cursor, kind)
    return DeviceSecurityEvent(version, "", 0, None, hash_name, (measurement,), None, device, rest)


def _version2(cursor: Cursor) -> DeviceSecurityEvent:
    version = cursor.u16("Version")
    number = cursor.u8("AuthState")
    state = AUTH_STATES.get(number, str(number))
    cursor.u8("Reserved")
    # the specification counts the structures behind, the reference firmware all: neither is needed
    cursor.u32("Length")
    kind = cursor.u32("DeviceType")
    form = cursor.u32("SubHeaderType")
    at = cursor.offset
    size = cursor.u32("SubHeaderLength")
    if size > _MAX_SUBHEADER:
        raise ParseError(cursor.source, at, "SubHeaderLength", _MAX_SUBHEADER, size, "more than the limit")
    uid = cursor.u64("SubHeaderUID")
    path = parse_device_path(_counted64(cursor, "DevicePath"))
    # where a device did not prove itself there is no sub-header, whatever its length says
    body = cursor.sub(size, "SubHeader") if cursor.remaining and size else None
    hash_name, rest = "", b""
    measurements: tuple[Measurement, ...] = ()
    chain: CertificateChain | None = None
    if body is not None and form == _MEASUREMENT:
        hash_name, measurements = _measurements(body)
        rest = body.rest()
    elif body is not None and form == _CERTIFICATES:
        chain = _chain(body)
        hash_name = chain.hash_name
    elif body is not None:
        rest = body.rest()
    device, behind = _context(cursor, kind)
    return DeviceSecurityEvent(
        version, state, uid, path, hash_name, measurements, chain, device, rest + behind
    )


def _counted64(cursor: Cursor, field: str) -> Cursor:
    at = cursor.offset
    size = cursor.u64(f"{field}Length")
    if size > _MAX_PATH:
        raise ParseError(cursor.source, at, f"{field}Length", _MAX_PATH, size, "more than the limit")
    return cursor.sub(size, field)


def _measurement_hash(number: int) -> str:
    return _MEASUREMENT_HASHES.get(number, f"0x{number:x}")


def _measurements(cursor: Cursor) -> tuple[str, tuple[Measurement, ...]]:
    cursor.u16("SpdmVersion")
    count = cursor.u8("SpdmMeasurementBlockCount")
    cursor.u8("Reserved")
    hash_name = _measurement_hash(cursor.u32("SpdmMeasurementHashAlgo"))
    return hash_name, tuple(_block(cursor) for _ in range(count))


def _block(cursor: Cursor) -> Measurement:
    index = cursor.u8("Index")
    specification = cursor.u8("MeasurementSpecification")
    body = cursor.sub(cursor.u16("MeasurementSize"), "Measurement")
    if specification != _DMTF:
        return Measurement(index, "other", True, body.rest())
    number = body.u8("DMTFSpecMeasurementValueType")
    value = body.counted(2, "DMTFSpecMeasurementValue")
    body.finish("Measurement")
    name = VALUE_TYPES.get(number & ~_RAW, str(number & ~_RAW))
    return Measurement(index, name, bool(number & _RAW), value)


def _chain(cursor: Cursor) -> CertificateChain:
    cursor.u16("SpdmVersion")
    slot = cursor.u8("SpdmSlotId")
    cursor.u8("Reserved")
    number = cursor.u32("SpdmHashAlgo")
    hash_name, size = _BASE_HASHES.get(number, (f"0x{number:x}", 0))
    cursor.u16("Length")
    cursor.u16("Reserved")
    root_hash = cursor.take(size, "RootHash")
    data = cursor.rest()
    found: list[CertificateInfo] = []
    while data and len(found) < MAX_CERTIFICATES:
        certificate = read_certificate(data)
        if certificate is None:
            break
        found.append(certificate)
        data = data[_der_size(data) :]
    return CertificateChain(slot, hash_name, root_hash, tuple(found), data)


def _der_size(data: bytes) -> int:
    """Size of a certificate that was read, with its header (X.690, section 8.1.3)."""
    width = data[1] & 0x7F if data[1] & 0x80 else 0
    return 2 + width + (int.from_bytes(data[2 : 2 + width], "big") if width else data[1])


def _context(cursor: Cursor, kind: int) -> tuple[PciDevice | UsbDevice | None, bytes]:
    if kind not in (_PCI, _USB) or not cursor.remaining:
        return None, cursor.rest()
    at = cursor.offset
    cursor.u16("Version")
    length = cursor.u16("Length")
    if length < 4:
        raise ParseError(cursor.source, at + 2, "Length", 4, length, "too small")
    body = cursor.sub(length - 4, "DeviceContext")
    if kind == _USB:
        descriptors = body.rest()
        # USB 3.2, section 9.6.1: idVendor and idProduct of a device descriptor of 18 bytes
        whole = len(descriptors) >= 18 and descriptors[1] == 1
        vendor, product = (
            (int.from_bytes(descriptors[8:10], "little"), int.from_bytes(descriptors[10:12], "little"))
            if whole
            else (-1, -1)
        )
        return UsbDevice(vendor, product, descriptors), cursor.rest()
    vendor, number = body.u16("VendorId"), body.u16("DeviceId")
    revision = body.u8("RevisionID")
    class_code = int.from_bytes(body.take(3, "ClassCode"), "little")
    device = PciDevice(
        vendor, number, revision, class_code, body.u16("SubsystemVendorID"), body.u16("SubsystemID")
    )
    return device, body.rest() + cursor.rest()
