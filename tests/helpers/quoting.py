"""Evidence made from nothing: a key, a quote by it, register values, a log and an IMA list.

Every byte is written out here from the specifications, and every register value by hashlib alone, so
that what the package reads and computes is held against another implementation. The key is outside any
TPM: whoever owns a machine can do the same.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

NONCE = bytes(range(0x40, 0x54))
ALGORITHM = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D, "sm3_256": 0x0012}
SIZE = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64, "sm3_256": 32}
# TPM 2.0 Part 2, 8.3 (TPMA_OBJECT): the bits of an attestation key
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN, USER_WITH_AUTH = 1 << 1, 1 << 4, 1 << 5, 1 << 6
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18
ATTESTATION = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | RESTRICTED | SIGN
Values = dict[str, dict[int, bytes]]


@cache
def software_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key outside any TPM; another one for each number."""
    return rsa.generate_private_key(65537, bits)


def public_area(key: rsa.RSAPrivateKey, attributes: int = ATTESTATION, *, scheme: str = "rsassa") -> bytes:
    """TPM2B_PUBLIC of an RSA key (Part 2, 12.2.4, 12.2.5); an endorsement key's with scheme ``null``."""
    modulus = key.public_key().public_numbers().n.to_bytes(key.key_size // 8, "big")
    signing = struct.pack(">HH", 0x0014, 0x000B) if scheme == "rsassa" else struct.pack(">H", 0x0010)
    cipher = struct.pack(">HHH", 0x0006, 128, 0x0043) if scheme == "null" else struct.pack(">H", 0x0010)
    area = struct.pack(">HHIH", 0x0001, 0x000B, attributes, 0) + cipher + signing
    area += struct.pack(">HIH", key.key_size, 0, len(modulus)) + modulus
    return struct.pack(">H", len(area)) + area


def key_name(public: bytes) -> bytes:
    """The TPM name of a TPM2B_PUBLIC (Part 1, 16)."""
    return b"\x00\x0b" + hashlib.sha256(public[2:]).digest()


def attest(
    selections: Sequence[tuple[str, Iterable[int]]],
    values: Mapping[str, Mapping[int, bytes]],
    *,
    nonce: bytes = NONCE,
    digest: bytes | None = None,
    clock: tuple[int, int, int, bool] = (123456, 7, 1, True),
) -> bytes:
    """TPMS_ATTEST of a quote by SHA-256 (Part 2, 10.12; Part 3, 18.4); `clock`: TPMS_CLOCK_INFO."""
    chosen = [(bank, sorted(registers)) for bank, registers in selections]
    joined = b"".join(values[bank][register] for bank, registers in chosen for register in registers)
    bits = b"".join(
        struct.pack(">HB", ALGORITHM[bank], 4)
        + sum(1 << register for register in registers).to_bytes(4, "little")
        for bank, registers in chosen
    )
    digest = hashlib.sha256(joined).digest() if digest is None else digest
    return (
        struct.pack(">IHH", 0xFF544347, 0x8018, 0)
        + struct.pack(">H", len(nonce)) + nonce
        + struct.pack(">QIIBQ", *clock, 1)
        + struct.pack(">I", len(chosen)) + bits
        + struct.pack(">H", len(digest)) + digest
    )  # fmt: skip


def sign(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """TPMT_SIGNATURE by RSASSA and SHA-256 (Part 2, 11.3.4)."""
    value = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return struct.pack(">HHH", 0x0014, 0x000B, len(value)) + value


def extended(bank: str, digests: Iterable[bytes], start: bytes | None = None) -> bytes:
    """The value of a register after these digests."""
    value = bytes(SIZE[bank]) if start is None else start
    for item in digests:
        value = hashlib.new(bank, value + item).digest()
    return value


def boot_log(events: Iterable[tuple[int, int, bytes]], banks: Sequence[str] = ("sha256",)) -> bytes:
    """A crypto-agile log (TCG PC Client PFP 1.06, section 10) of (register, type, data)."""
    sizes = b"".join(struct.pack("<HH", ALGORITHM[bank], SIZE[bank]) for bank in banks)
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 105, 2)
    spec += struct.pack("<I", len(banks)) + sizes + b"\0"
    log = struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", len(spec)) + spec
    for register, kind, data in events:
        digests = b"".join(
            struct.pack("<H", ALGORITHM[bank]) + hashlib.new(bank, data).digest() for bank in banks
        )
        log += struct.pack("<III", register, kind, len(banks)) + digests + struct.pack("<I", len(data)) + data
    return log


def template(path: str, content: bytes = b"", *, algorithm: str = "sha256") -> bytes:
    """Template data of ima-ng: a digest and a name, each behind its length (IMA-templates.rst)."""
    return template_of(hashlib.new(algorithm, content).digest(), path, algorithm=algorithm)


def template_of(digest: bytes, path: str, *, algorithm: str = "sha256") -> bytes:
    """Template data of ima-ng for a digest."""
    hashed, name = algorithm.encode() + b":\0" + digest, path.encode() + b"\0"
    return struct.pack("<I", len(hashed)) + hashed + struct.pack("<I", len(name)) + name


def ima_list(templates: Iterable[bytes], *, forged: Mapping[int, bytes] | None = None) -> bytes:
    """``binary_runtime_measurements`` of ima-ng entries; `forged` replaces the text, not the hash."""
    found = bytearray()
    for index, data in enumerate(templates):
        shown = (forged or {}).get(index, data)
        found += struct.pack("<I", 10) + hashlib.sha1(data).digest()
        found += struct.pack("<I", 6) + b"ima-ng" + struct.pack("<I", len(shown)) + shown
    return bytes(found)


# EV_SEPARATOR, EV_S_CRTM_VERSION, EV_IPL (TCG PC Client PFP 1.06, table 9)
SEPARATOR, CRTM_VERSION, IPL = 0x00000004, 0x00000008, 0x0000000D
EVENTS = (
    (0, CRTM_VERSION, "firmware 1.0\0".encode("utf-16-le")),
    (8, IPL, b"grub_cmd: linux /vmlinuz\0"),
    *((register, SEPARATOR, bytes(4)) for register in range(8)),
)


@dataclass
class Machine:
    """A made-up machine: registers that its log gives, a key, and a quote when asked."""

    events: tuple[tuple[int, int, bytes], ...] = EVENTS
    banks: tuple[str, ...] = ("sha256",)
    key: rsa.RSAPrivateKey = field(default_factory=software_key)
    attributes: int = ATTESTATION
    files: dict[str, bytes] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    clock: tuple[int, int, int, bool] = (123456, 7, 1, True)

    def __post_init__(self) -> None:
        self.files["eventlog.bin"] = boot_log(self.events, self.banks)
        for bank in self.banks:
            self.values[bank] = {
                register: bytes([0xFF if 17 <= register <= 22 else 0]) * SIZE[bank] for register in range(24)
            }
            for register, _, data in self.events:
                self.extend(register, data, bank)

    def extend(self, register: int, data: bytes, bank: str = "sha256") -> None:
        """Measure data into a register without logging them."""
        digest = hashlib.new(bank, data).digest()
        self.values[bank][register] = extended(bank, [digest], self.values[bank][register])

    def quote(
        self, *selections: tuple[str, Iterable[int]], nonce: bytes = NONCE, name: str = "quote"
    ) -> None:
        """Quote the registers as they are now."""
        message = attest(selections or (("sha256", range(24)),), self.values, nonce=nonce, clock=self.clock)
        self.files[f"{name}.msg"], self.files[f"{name}.sig"] = message, sign(self.key, message)

    def read_registers(self) -> None:
        """Write the registers down as they are now."""
        text = {bank: {i: value.hex() for i, value in found.items()} for bank, found in self.values.items()}
        self.files["pcrs.json"] = json.dumps(text).encode()

    def write(self, folder: Path) -> Path:
        """Write the evidence: with quote and registers of now, where none were taken before."""
        if "quote.msg" not in self.files:
            self.quote()
        if "pcrs.json" not in self.files:
            self.read_registers()
        self.files.setdefault("ak.pub", public_area(self.key, self.attributes))
        self.files.setdefault("nonce.hex", NONCE.hex().encode())
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            if data:
                (folder / name).write_bytes(data)
        return folder
