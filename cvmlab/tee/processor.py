"""What processor makers write into the certificates of their keys: AMD's VCEK and VLEK, Intel's PCK.

Sources: AMD, *VCEK Certificate and KDS Interface Specification* (57230), tables 8 to 10; Intel, *SGX PCK
Certificate and Certificate Revocation List Profile Specification*, section 1.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509

from cvmlab.errors import ParseError
from cvmlab.uefi import der

if TYPE_CHECKING:
    from collections.abc import Mapping

_AMD: Final = "1.3.6.1.4.1.3704.1."
_SPL: Final = {
    "3.1": "boot_loader", "3.2": "tee", "3.3": "snp", "3.4": "spl_4", "3.5": "spl_5", "3.6": "spl_6",
    "3.7": "spl_7", "3.8": "microcode", "3.9": "fmc",
}  # fmt: skip
_PRODUCT, _HARDWARE_ID, _PROVIDER = f"{_AMD}2", f"{_AMD}4", f"{_AMD}5"
_SGX: Final = "1.2.840.113741.1.13.1"
_IA5_STRING: Final = 0x16
_UTF8_STRING: Final = 0x0C
_PCE_SVN: Final = 17
_COMPONENTS: Final = 16

ProcessorRole = Literal["VCEK", "VLEK", "PCK", ""]


@dataclass(frozen=True, slots=True)
class AmdExtensions:
    """Extensions of a VCEK or VLEK certificate.

    Attributes:
        product: Product line, without the stepping: ``Milan``, ``Genoa``, ``Turin``; as the name says it.
        versions: Security patch levels by name: ``boot_loader``, ``tee``, ``snp``, ``microcode``, and
            ``fmc`` from Turin on.
        hardware_id: Chip identity (VCEK); empty for a VLEK.
        provider: Cloud provider that a VLEK was made for; empty for a VCEK.
    """

    product: str
    versions: Mapping[str, int]
    hardware_id: bytes
    provider: str


@dataclass(frozen=True, slots=True)
class PckExtensions:
    """SGX extensions of a PCK certificate.

    Attributes:
        fmspc: Family, model, stepping, platform type and custom SKU, 6 bytes.
        pce_id: Identity of the provisioning certification enclave, 2 bytes.
        components: Security versions of the 16 TCB components.
        pce_svn: Security version of the provisioning certification enclave.
        cpu_svn: Security version of the processor, 16 bytes.
    """

    fmspc: bytes
    pce_id: bytes
    components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes


def _extensions(certificate: x509.Certificate) -> dict[str, bytes]:
    """Extensions that `cryptography` does not know, by dotted OID."""
    found = {}
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.UnrecognizedExtension):
            found[extension.oid.dotted_string] = value.value
    return found


@lru_cache(maxsize=512)
def role_of_certificate(certificate: x509.Certificate) -> ProcessorRole:
    """Tell a certificate of a reporting key from others by its extensions; empty for others."""
    try:
        found = _extensions(certificate)
    except ValueError:
        return ""
    if _SGX in found:
        return "PCK"
    if f"{_AMD}3.1" in found:
        return "VLEK" if _PROVIDER in found else "VCEK"
    return ""


def amd_extensions(certificate: x509.Certificate, *, source: str) -> AmdExtensions:
    """Read the extensions of a VCEK or VLEK certificate.

    Raises:
        ParseError: Product or a security patch level is missing or damaged.
    """
    try:
        found = _extensions(certificate)
    except ValueError as error:
        raise ParseError(source, 0, "extensions", reason=str(error)) from error
    name = _text(found.get(_PRODUCT), "productName", source)
    versions = {
        label: _integer(found[_AMD + number], label, source)
        for number, label in _SPL.items()
        if _AMD + number in found
    }
    for label in ("boot_loader", "tee", "snp", "microcode"):
        if label not in versions:
            raise ParseError(source, 0, label, reason="the certificate has no such security patch level")
    provider = _text(found[_PROVIDER], "cspID", source) if _PROVIDER in found else ""
    # the only extension whose value is not wrapped in DER (57230, table 9)
    return AmdExtensions(name.split("-", 1)[0], versions, found.get(_HARDWARE_ID, b""), provider)


def _text(value: bytes | None, field: str, source: str) -> str:
    if value is None:
        raise ParseError(source, 0, field, reason="the certificate has no such extension")
    element, end = der.read(value, source=source)
    if element.tag not in (_IA5_STRING, _UTF8_STRING) or end != len(value) or len(value) > 256:
        raise ParseError(source, 0, field, reason="not a short text")
    return element.body.decode("ascii", "replace")


def _integer(value: bytes, field: str, source: str) -> int:
    element = der.one(value, der.INTEGER, field, source=source)
    if not 1 <= len(element.body) <= 4 or element.body[0] & 0x80:
        raise ParseError(source, 0, field, reason="not a small non-negative number")
    return int.from_bytes(element.body, "big")


def pck_extensions(certificate: x509.Certificate, *, source: str) -> PckExtensions:
    """Read the SGX extensions of a PCK certificate.

    Raises:
        ParseError: There are none, or FMSPC, PCE-ID or TCB is missing or damaged.
    """
    try:
        raw = _extensions(certificate).get(_SGX)
    except ValueError as error:
        raise ParseError(source, 0, "extensions", reason=str(error)) from error
    if raw is None:
        raise ParseError(source, 0, "sgxExtensions", reason="the certificate has no SGX extensions")
    items = _pairs(der.one(raw, der.SEQUENCE, "sgxExtensions", source=source), source)
    tcb = _pairs(_need(items, f"{_SGX}.2", "tcb", source), source)
    prefix = f"{_SGX}.2."
    components = tuple(
        _number(_need(tcb, f"{prefix}{index}", f"sgxTcbComp{index:02}", source), source)
        for index in range(1, _COMPONENTS + 1)
    )
    return PckExtensions(
        fmspc=_octets(_need(items, f"{_SGX}.4", "fmspc", source), 6, source),
        pce_id=_octets(_need(items, f"{_SGX}.3", "pceid", source), 2, source),
        components=components,
        pce_svn=_number(_need(tcb, f"{prefix}{_PCE_SVN}", "pcesvn", source), source),
        cpu_svn=_octets(_need(tcb, f"{prefix}18", "cpusvn", source), 16, source),
    )


def _pairs(element: der.Der, source: str) -> dict[str, der.Der]:
    """The items of a SEQUENCE OF SEQUENCE { OID, value }."""
    found: dict[str, der.Der] = {}
    for item in der.children(element, source=source):
        parts = der.children(item, source=source)
        if item.tag != der.SEQUENCE or len(parts) != 2:
            raise ParseError(source, item.offset, "sgxExtensions", reason="need pairs of OID and value")
        name = der.oid(parts[0], "sgxExtensions", source=source)
        if name in found:
            raise ParseError(source, item.offset, "sgxExtensions", reason=f"{name} occurs twice")
        found[name] = parts[1]
    return found


def _need(items: Mapping[str, der.Der], name: str, field: str, source: str) -> der.Der:
    if name not in items:
        raise ParseError(source, 0, field, reason="missing in the SGX extensions")
    return items[name]


def _octets(element: der.Der, size: int, source: str) -> bytes:
    if element.tag != der.OCTET_STRING or len(element.body) != size:
        raise ParseError(source, element.offset, "sgxExtensions", size, len(element.body), "wrong size")
    return element.body


def _number(element: der.Der, source: str) -> int:
    if element.tag != der.INTEGER:
        raise ParseError(source, element.offset, "sgxExtensions", reason="need an INTEGER")
    return _integer(element.whole, "sgxExtensions", source)
