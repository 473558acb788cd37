"""Hardware reports back from the messages that tools take them apart into: the bytes that were signed.

Each field goes back where it came from, reserved bytes are zero. A report that had other bytes there gets
another content, so its signature fails: nothing is believed that the processor did not sign. Source: AMD,
*SEV-SNP Firmware ABI*, table 23; Intel, *TDX DCAP Quoting Library API*, appendix 3; google/go-sev-guest and
go-tdx-guest, ``abi.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError

if TYPE_CHECKING:
    from cvmlab.evidence.formats.attest_decode import Tree

SNP_SIZE: Final = 0x4A0
_SNP_BYTES: Final = {
    "family_id": (0x10, 16),
    "image_id": (0x20, 16),
    "report_data": (0x50, 64),
    "measurement": (0x90, 48),
    "host_data": (0xC0, 32),
    "id_key_digest": (0xE0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "chip_id": (0x1A0, 64),
    "signature": (0x2A0, 512),
}
_SNP_NUMBERS: Final = {
    "version": (0x00, 4),
    "guest_svn": (0x04, 4),
    "policy": (0x08, 8),
    "vmpl": (0x30, 4),
    "signature_algo": (0x34, 4),
    "current_tcb": (0x38, 8),
    "platform_info": (0x40, 8),
    "signer_info": (0x48, 4),
    "reported_tcb": (0x180, 8),
    "committed_tcb": (0x1E0, 8),
    "current_build": (0x1E8, 1),
    "current_minor": (0x1E9, 1),
    "current_major": (0x1EA, 1),
    "committed_build": (0x1EC, 1),
    "committed_minor": (0x1ED, 1),
    "committed_major": (0x1EE, 1),
    "launch_tcb": (0x1F0, 8),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}
_CPUID_AT: Final = 0x188
_TD_BODY: Final = (
    ("tee_tcb_svn", 16), ("mr_seam", 48), ("mr_signer_seam", 48), ("seam_attributes", 8),
    ("td_attributes", 8), ("xfam", 8), ("mr_td", 48), ("mr_config_id", 48), ("mr_owner", 48),
    ("mr_owner_config", 48), ("rtmrs", 192), ("report_data", 64),
)  # fmt: skip
_ENCLAVE: Final = (
    ("cpu_svn", 16), ("misc_select", 4), ("reserved1", 28), ("attributes", 16), ("mr_enclave", 32),
    ("reserved2", 32), ("mr_signer", 32), ("reserved3", 96), ("isv_prod_id", 2), ("isv_svn", 2),
    ("reserved4", 60), ("report_data", 64),
)  # fmt: skip
_HEADER: Final = (
    ("version", 2), ("attestation_key_type", 2), ("tee_type", 4), ("pce_svn", 2), ("qe_svn", 2),
    ("qe_vendor_id", 16), ("user_data", 20),
)  # fmt: skip


def snp_report(tree: Tree, *, source: str, path: str) -> bytes:
    """Return the bytes of a ``sevsnp.Report``.

    Raises:
        ParseError: A field has another size than in the report.
    """
    report = bytearray(SNP_SIZE)
    for name, (at, size) in _SNP_BYTES.items():
        report[at : at + size] = _octets(tree, name, size, source, path)
    for name, (at, size) in _SNP_NUMBERS.items():
        report[at : at + size] = _octets(tree, name, size, source, path)
    # CPUID(1).EAX: family above 15 is extended (AMD64 manual, volume 3, appendix E)
    eax = tree.get("cpuid1eax_fms", 0)
    if isinstance(eax, int) and eax:
        family, model = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF), (eax >> 4 & 0xF) | (eax >> 12 & 0xF0)
        report[_CPUID_AT : _CPUID_AT + 3] = bytes([family & 0xFF, model, eax & 0xF])
    return bytes(report)


def td_quote(tree: Tree, *, source: str, path: str) -> bytes:
    """Return the bytes of a ``tdx.QuoteV4``.

    Raises:
        ParseError: A part is absent, or a field has another size than in the quote.
    """
    header = _joined(_tree(tree, "header", source, path), _HEADER, source, f"{path}.header")
    body = _joined(_tree(tree, "td_quote_body", source, path), _TD_BODY, source, f"{path}.td_quote_body")
    path = f"{path}.signed_data"
    signed = _tree(tree, "signed_data", source, path)
    data = _tree(signed, "certification_data", source, path)
    qe = _tree(data, "qe_report_certification_data", source, path)
    authentication = _bytes(_tree(qe, "qe_auth_data", source, path), "data")
    chain = _tree(qe, "pck_certificate_chain_data", source, path)
    certificates = _bytes(chain, "pck_cert_chain")
    inner = (
        _joined(_tree(qe, "qe_report", source, path), _ENCLAVE, source, f"{path}.qe_report")
        + _octets(qe, "qe_report_signature", 64, source, path)
        + len(authentication).to_bytes(2, "little")
        + authentication
        + _octets(chain, "certificate_data_type", 2, source, path)
        + len(certificates).to_bytes(4, "little")
        + certificates
    )
    area = (
        _octets(signed, "signature", 64, source, path)
        + _octets(signed, "ecdsa_attestation_key", 64, source, path)
        + _octets(data, "certificate_data_type", 2, source, path)
        + len(inner).to_bytes(4, "little")
        + inner
    )
    return header + body + len(area).to_bytes(4, "little") + area + _bytes(tree, "extra_bytes")


def _joined(tree: Tree, fields: tuple[tuple[str, int], ...], source: str, path: str) -> bytes:
    return b"".join(_octets(tree, name, size, source, path) for name, size in fields)


def _octets(tree: Tree, name: str, size: int, source: str, path: str) -> bytes:
    """A field at its size: integers are little-endian, an absent field is zero (proto3)."""
    value = tree.get(name, b"")
    if isinstance(value, list):
        value = b"".join(item for item in value if isinstance(item, bytes))
    if isinstance(value, int):
        if value >> 8 * size:
            raise ParseError(source, 0, f"{path}.{name}", reason=f"{value} needs more than {size} bytes")
        return value.to_bytes(size, "little")
    if not isinstance(value, bytes) or len(value) not in (0, size):
        have = len(value) if isinstance(value, bytes) else 0
        raise ParseError(source, 0, f"{path}.{name}", size, have)
    return value or bytes(size)


def _bytes(tree: Tree, name: str) -> bytes:
    value = tree.get(name, b"")
    return value if isinstance(value, bytes) and len(value) <= 1 << 16 else b""


def _tree(tree: Tree, name: str, source: str, path: str) -> Tree:
    value = tree.get(name)
    if not isinstance(value, dict):
        raise ParseError(source, 0, f"{path}.{name}", reason="absent: without it there is no TD quote")
    return value
