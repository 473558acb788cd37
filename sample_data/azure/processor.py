"""A simulated processor: its own ARK, ASK and VCEK, and SEV-SNP reports that it signs.

Layouts: AMD, SEV-SNP Firmware ABI Specification (56860), table 23; VCEK Certificate and KDS Interface
Specification (57230), tables 8 to 10. The keys live only while the simulation runs.
"""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

SIMULATED = "SIMULATED by cvmlab, not AMD"
FROM, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)
_AMD = "1.3.6.1.4.1.3704.1."
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)


@dataclass(frozen=True)
class Tcb:
    """Security versions in the layout of Milan and Genoa."""

    boot_loader: int = 4
    tee: int = 0
    snp: int = 24
    microcode: int = 219

    @property
    def raw(self) -> bytes:
        """The eight bytes of a TCB_VERSION."""
        return bytes([self.boot_loader, self.tee, 0, 0, 0, 0, self.snp, self.microcode])


def name(common: str) -> x509.Name:
    """A distinguished name that says that it is simulated."""
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, SIMULATED),
        ]
    )


def authority(
    common: str, issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None, below: int
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A certificate authority, self-signed where it has no issuer; RSASSA-PSS with SHA-384, as AMD signs."""
    key = rsa.generate_private_key(65537, 4096)
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (name(common), key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(issuer_key, hashes.SHA384(), rsa_padding=_PSS)
    )
    return certificate, key


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _der(tag: int, body: bytes) -> bytes:
    return bytes([tag, len(body)]) + body


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@dataclass
class Processor:
    """One chip with its chain."""

    product: str = "Milan"
    tcb: Tcb = field(default_factory=Tcb)
    chip: bytes = bytes(range(0x40, 0x80))

    def __post_init__(self) -> None:
        self.ark = authority(f"ARK-{self.product}", None, 1)
        self.ask = authority(f"SEV-{self.product}", self.ark, 0)
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.vcek = self.vcek_of(self.chip)

    def vcek_of(self, chip: bytes) -> x509.Certificate:
        """The certificate of this chip's key, for a chip identity."""
        levels = {1: self.tcb.boot_loader, 2: self.tcb.tee, 3: self.tcb.snp, 4: 0, 5: 0, 6: 0, 7: 0}
        extensions = {f"{_AMD}1": _integer(1), f"{_AMD}2": _der(0x16, f"{self.product}-B0".encode())}
        extensions |= {f"{_AMD}3.{number}": _integer(level) for number, level in levels.items()}
        extensions |= {f"{_AMD}3.8": _integer(self.tcb.microcode), f"{_AMD}4": chip}
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("SEV-VCEK"))
            .issuer_name(self.ask[0].subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(FROM)
            .not_valid_after(UNTIL)
        )
        for oid, value in extensions.items():
            builder = builder.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False
            )
        return builder.sign(self.ask[1], hashes.SHA384(), rsa_padding=_PSS)

    @property
    def chain(self) -> bytes:
        """VCEK, ASK and ARK as PEM, in the order in which clouds hand them out."""
        certificates = (self.vcek, self.ask[0], self.ark[0])
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)

    def sibling(self, *, tcb: Tcb | None = None, chip: bytes | None = None) -> Processor:
        """The same chip with other firmware, or another chip: another key, by the same authorities."""
        other = copy.copy(self)
        other.tcb, other.chip = tcb or self.tcb, chip or self.chip
        other.key = ec.generate_private_key(ec.SECP384R1())
        other.vcek = other.vcek_of(other.chip)
        return other

    def report(
        self, report_data: bytes, *, debug: bool = False, migration: bool = False, vmpl: int = 0
    ) -> bytes:
        """A signed attestation report, version 3."""
        policy = 0x3001F | (1 << 19 if debug else 0) | (1 << 18 if migration else 0)
        body = bytearray(0x2A0)
        struct.pack_into("<IIQ", body, 0, 3, 8, policy)
        body[0x10:0x20], body[0x20:0x30] = b"\x01" + bytes(15), b"\x02" + bytes(15)
        struct.pack_into("<II", body, 0x30, vmpl, 1)
        body[0x38:0x40] = self.tcb.raw
        struct.pack_into("<QI", body, 0x40, 3, 0)
        body[0x50:0x90] = report_data
        body[0x90:0xC0] = b"SIMULATED launch measurement".ljust(48, b"\0")
        body[0x140:0x160] = b"SIMULATED report id".ljust(32, b"\0")
        body[0x160:0x180] = b"\xff" * 32
        body[0x180:0x188] = self.tcb.raw
        body[0x188:0x18B] = bytes([0x19, 0x01, 0x01])
        body[0x1A0:0x1E0] = self.chip
        body[0x1E0:0x1E8] = self.tcb.raw
        body[0x1E8:0x1EB] = body[0x1EC:0x1EF] = bytes([29, 55, 1])
        body[0x1F0:0x1F8] = self.tcb.raw
        r, s = decode_dss_signature(self.key.sign(bytes(body), ec.ECDSA(hashes.SHA384())))
        signature = r.to_bytes(72, "little") + s.to_bytes(72, "little")
        return bytes(body) + signature.ljust(512, b"\0")
