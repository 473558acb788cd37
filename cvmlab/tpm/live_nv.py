"""What lies in a TPM's NV storage: certificates of its keys, and a platform's report.

Source: TCG EK Credential Profile for TPM Family 2.0, 2.2.1.4 and 2.2.1.5 (indexes of certificates and
chains); TPM 2.0 Library, Part 3, 31.6 and 31.13; for Azure and Google the platforms' own documents.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from cvmlab.errors import CvmlabError, ParseError, TpmError
from cvmlab.tpm.response_codes import base_code
from cvmlab.uefi import der

if TYPE_CHECKING:
    from cvmlab.tpm.live import LiveTpm

NV_FIRST, NV_LAST = 0x01000000, 0x01FFFFFF
"""Range of NV indexes (Part 2, 7.2: TPM_HT_NV_INDEX)."""

EK_CERTIFICATE_NAMES: Final[dict[int, str]] = {
    0x01C00002: "rsa2048",
    0x01C0000A: "ecc256",
    0x01C00012: "rsa2048-high",
    0x01C00014: "ecc256-high",
    0x01C00016: "ecc384",
    0x01C00018: "ecc521",
    0x01C0001A: "sm2",
    0x01C0001C: "rsa3072",
    0x01C0001E: "rsa4096",
}
"""Indexes of EK certificates and what they are of (EK Credential Profile 2.5, table 2)."""

EK_CERTIFICATES: Final = (0x01C00002, 0x01C000FF)
EK_CHAIN: Final = (0x01C00100, 0x01C001FF)
"""Certificates of the EK's issuers, one behind the other across the indexes."""

HCL_REPORT: Final = 0x01400001
"""Azure: the paravisor's attestation report."""

MAX_CHAIN: Final = 16
"""Most certificates taken from the chain."""

_PADDING: Final = (b"\0", b"\xff")
# TPMA_NV (Part 2, 13.4)
_OWNERREAD, _AUTHREAD, _POLICYREAD = 1 << 17, 1 << 18, 1 << 19
_HANDLE_UNKNOWN: Final = 0x18B
_AUTHORIZATION: Final = frozenset({0x08E, 0x0A2, 0x149, 0x085, 0x12F})


@dataclass(frozen=True, slots=True)
class NvCertificate:
    """A certificate as it lies in an index.

    Attributes:
        index: NV index.
        certificate: The certificate.
        der: Its DER form, without the padding of the index.
    """

    index: int
    certificate: x509.Certificate
    der: bytes


def read_nv(tpm: LiveTpm, index: int) -> bytes | None:
    """Read an NV index; None where it does not exist.

    The owner's empty password is tried before the index' own: only the latter can count towards the
    TPM's lockout.

    Raises:
        TpmError: It cannot be read, with the code and what to do.
    """
    about = nv_name(index)
    try:
        handle = tpm.call("tr_from_tpmpublic", index, about=about)
    except TpmError as error:
        if error.code == _HANDLE_UNKNOWN:
            return None
        raise
    try:
        public = tpm.call("nv_read_public", handle, about=about)[0]
        attributes, size = int(public.nvPublic.attributes), int(public.nvPublic.dataSize)
        ways = [tpm.pytss.ESYS_TR.OWNER] if attributes & _OWNERREAD else []
        ways += [handle] if attributes & _AUTHREAD else []
        if not ways:
            who = "by its policy" if attributes & _POLICYREAD else "by the platform firmware"
            raise TpmError(f"{about}: it may only be read {who}")
        for number, way in enumerate(ways):
            try:
                return _read(tpm, handle, way, size, about)
            except TpmError as error:
                if number + 1 == len(ways) or base_code(error.code) not in _AUTHORIZATION:
                    raise
        raise AssertionError  # the last way returns or raises
    finally:
        tpm.esys.tr_close(handle)


def _read(tpm: LiveTpm, handle: object, way: object, size: int, about: str) -> bytes:
    data, step = b"", min(tpm.nv_buffer, max(size, 1))
    while len(data) < size:
        part = tpm.call(
            "nv_read", handle, min(step, size - len(data)), len(data), auth_handle=way, about=about
        )
        if not bytes(part):
            raise TpmError(f"{about}: the TPM gave {len(data)} of {size} bytes and then none")
        data += bytes(part)
    return data


def nv_name(index: int) -> str:
    """Return how an index is named in messages."""
    return f"NV index 0x{index:08X}"


def nv_certificate(data: bytes, index: int) -> NvCertificate:
    """Take the certificate out of an index, whose rest is padding.

    Raises:
        ParseError: There is no certificate, or something other than padding behind it.
    """
    source = nv_name(index)
    whole, end = der.read(data, source=source)
    if whole.tag != der.SEQUENCE:
        raise ParseError(source, 0, "certificate", reason="not DER")
    rest = data[end:]
    if not any(rest == filler * len(rest) for filler in _PADDING):
        raise ParseError(source, end, "padding", reason="bytes follow the certificate that are no padding")
    return NvCertificate(index, _certificate(whole.whole, source), whole.whole)


def nv_chain(parts: list[bytes]) -> tuple[list[bytes], str]:
    """Take the certificates out of the indexes of the chain: DER, one behind the other, padding between.

    Args:
        parts: Contents of the indexes, in their order.

    Returns:
        At most `MAX_CHAIN` certificates, and what ended the reading early; empty where nothing did.
    """
    data, found, at, source = b"".join(parts), list[bytes](), 0, nv_name(EK_CHAIN[0])
    while at < len(data):
        if data[at : at + 1] in _PADDING:
            at += 1
            continue
        if len(found) == MAX_CHAIN:
            return found, f"{source}: more than {MAX_CHAIN} certificates; the rest is left out"
        try:
            element, size = der.read(data[at:], source=source, base=at)
            _certificate(element.whole, source)
        except ParseError as error:
            return found, str(error)
        found.append(element.whole)
        at += size
    return found, ""


def _certificate(data: bytes, source: str) -> x509.Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TPM vendors' encodings that cryptography warns about
        try:
            return x509.load_der_x509_certificate(data)
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            raise ParseError(source, 0, "certificate", reason=f"not an X.509 certificate: {error}") from error


def ek_certificates(tpm: LiveTpm) -> tuple[list[NvCertificate], list[bytes], list[str]]:
    """Read the certificates of endorsement keys and of their issuers.

    Returns:
        The certificates, the issuers' certificates in DER, and what could not be read and why. Indexes
        beside the known ones (templates, nonces, a vendor's own) count only where they hold a certificate.
    """
    found: list[NvCertificate] = []
    problems: list[str] = []
    for index in tpm.handles(*EK_CERTIFICATES):
        try:
            data = read_nv(tpm, index)
            if data:
                found.append(nv_certificate(data, index))
        except CvmlabError as error:
            if index in EK_CERTIFICATE_NAMES:
                problems.append(str(error))
    parts: list[bytes] = []
    for index in tpm.handles(*EK_CHAIN):
        try:
            parts.append(read_nv(tpm, index) or b"")
        except TpmError as error:
            problems.append(str(error))
    chain, problem = nv_chain(parts)
    return found, chain, [*problems, *([problem] if problem else [])]
