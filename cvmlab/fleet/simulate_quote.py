"""Quotes by keys outside any TPM, for simulation: right in form, by whom everybody can make them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cvmlab.evidence.context import EnrolledKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHA256 = 0x000B
_RSASSA = 0x0014
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign (TPM 2.0 Part 2, 8.3)
_ATTESTATION = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 16 | 1 << 18
_REGISTERS = range(24)


def _be(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


@dataclass(frozen=True, slots=True)
class SimulatedKey:
    """An attestation key in software.

    Attributes:
        private: The key.
        public: TPM2B_PUBLIC of an attestation key (TPM 2.0 Part 2, 12.2.5).
    """

    private: rsa.RSAPrivateKey
    public: bytes

    @classmethod
    def make(cls) -> SimulatedKey:
        """Make a key of RSA 2048. It differs in every run: no private key is kept."""
        private = rsa.generate_private_key(65537, 2048)
        modulus = _be(private.public_key().public_numbers().n, 256)
        area = _be(1, 2) + _be(_SHA256, 2) + _be(_ATTESTATION, 4) + _be(0, 2) + _be(0x0010, 2)
        area += _be(_RSASSA, 2) + _be(_SHA256, 2) + _be(2048, 2) + _be(0, 4) + _be(256, 2) + modulus
        return cls(private, _be(len(area), 2) + area)

    @property
    def enrolled(self) -> EnrolledKey:
        """The key as a verifier enrols it, by its TPM name."""
        name = _be(_SHA256, 2) + hashlib.sha256(self.public[2:]).digest()
        return EnrolledKey("SIMULATED vTPM", name, None)

    def quote(
        self,
        values: Mapping[int, bytes],
        nonce: bytes,
        *,
        clock: int,
        reset_count: int,
    ) -> tuple[bytes, bytes]:
        """Quote every register of the SHA-256 bank.

        Args:
            values: Register to value.
            nonce: extraData.
            clock: Milliseconds that the TPM had been powered.
            reset_count: Number of its resets.

        Returns:
            TPMS_ATTEST (TPM 2.0 Part 2, 10.12) and TPMT_SIGNATURE (11.3.4).
        """
        digest = hashlib.sha256(b"".join(values[register] for register in _REGISTERS)).digest()
        message = _be(0xFF544347, 4) + _be(0x8018, 2) + _be(0, 2) + _be(len(nonce), 2) + nonce
        message += _be(clock, 8) + _be(reset_count, 4) + _be(0, 4) + b"\x01" + _be(1, 8)
        message += _be(1, 4) + _be(_SHA256, 2) + b"\x03\xff\xff\xff" + _be(len(digest), 2) + digest
        signature = self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return message, _be(_RSASSA, 2) + _be(_SHA256, 2) + _be(len(signature), 2) + signature


def register_values(replayed: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return all registers of a SHA-256 bank: those replayed, and the rest as they start (PFP 1.06, 2.3)."""
    return {r: replayed.get(r, b"\xff" * 32 if 17 <= r <= 22 else bytes(32)) for r in _REGISTERS}


def registers_file(values: Mapping[int, bytes]) -> bytes:
    """Return ``pcrs.yaml``."""
    lines = ["sha256:", *(f"  {register:<2}: 0x{value.hex().upper()}" for register, value in values.items())]
    return ("\n".join(lines) + "\n").encode()
