"""PCR banks: their names, TPM_ALG_ID values, digest sizes and hash functions."""

from __future__ import annotations

import hashlib
from typing import Final

BANK_BY_ALGORITHM: Final[dict[int, str]] = {
    # TCG Algorithm Registry 1.34, table 3 (TPM_ALG_ID)
    0x0004: "sha1",
    0x000B: "sha256",
    0x000C: "sha384",
    0x000D: "sha512",
    0x0012: "sm3_256",
    0x0027: "sha3_256",
    0x0028: "sha3_384",
    0x0029: "sha3_512",
}
ALGORITHM_BY_BANK: Final[dict[str, int]] = {name: number for number, name in BANK_BY_ALGORITHM.items()}
DIGEST_SIZE: Final[dict[str, int]] = {
    "sha1": 20,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "sm3_256": 32,
    "sha3_256": 32,
    "sha3_384": 48,
    "sha3_512": 64,
}
_HASHLIB_NAME: Final[dict[str, str]] = {"sm3_256": "sm3"}

WEAK_BANKS: Final = frozenset({"sha1"})
"""Banks whose hash no longer resists collisions: a quote over these alone proves little."""

STRONGEST_FIRST: Final = ("sha512", "sha384", "sha256", "sm3_256", "sha1")
"""Order in which one bank is chosen to show where several say the same."""


def digest(bank: str, data: bytes) -> bytes:
    """Return the digest of `data` in `bank`.

    Raises:
        ValueError: The bank is unknown, or this Python's OpenSSL lacks it (SM3 on some builds).
    """
    return hashlib.new(_HASHLIB_NAME.get(bank, bank), data).digest()


def available(bank: str) -> bool:
    """Tell whether digests of `bank` can be computed here."""
    return _HASHLIB_NAME.get(bank, bank) in hashlib.algorithms_available


def extend(bank: str, value: bytes, event_digest: bytes) -> bytes:
    """Return the register value after TPM2_PCR_Extend: H(value || digest) (TPM 2.0 Part 1, 17.2)."""
    return digest(bank, value + event_digest)
