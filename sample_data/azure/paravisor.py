"""A simulated paravisor: runtime claims of a VM, and the HCL report that binds them.

Layout: OpenVMM, ``underhill_attestation`` (HCL report) and its runtime claims.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric import rsa

AREA = 0x4A0
NV_SIZE = 2600


def jwk(kid: str, operation: str, key: rsa.RSAPublicKey) -> dict[str, object]:
    """A key as the paravisor writes it."""
    modulus = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
    text = base64.urlsafe_b64encode(modulus).rstrip(b"=").decode()
    return {"kid": kid, "key_ops": [operation], "kty": "RSA", "e": "AQAB", "n": text}


def runtime_claims(
    vm: str, attestation_key: rsa.RSAPublicKey, endorsement_key: rsa.RSAPublicKey, *, secure_boot: bool = True
) -> bytes:
    """The JSON that the report's data are the hash of."""
    claims = {
        "keys": [
            jwk("HCLAkPub", "sign", attestation_key),
            jwk("HCLEkPub", "encrypt", endorsement_key),
        ],
        "vm-configuration": {
            "root-cert-thumbprint": "",
            "console-enabled": True,
            "secure-boot": secure_boot,
            "tpm-enabled": True,
            "tpm-persisted": True,
            "filtered-vpci-devices-allowed": False,
            "vmUniqueId": vm,
        },
        "user-data": "0" * 128,
    }
    return json.dumps(claims, separators=(",", ":")).encode()


def hcl_report(claims: bytes, report: Callable[[bytes], bytes], *, stated: bytes | None = None) -> bytes:
    """The HCL report of an SNP guest.

    Args:
        claims: What the hardware report binds.
        report: Makes the hardware report of 64 bytes of report data.
        stated: Other claims to show instead, which the report then does not bind.
    """
    hardware = report(hashlib.sha256(claims).digest() + bytes(32))
    shown = claims if stated is None else stated
    header = b"HCLA" + struct.pack("<IIII", 2, 0x20 + AREA + 0x14 + len(shown), 2, 0) + bytes(12)
    request = struct.pack("<IIIII", 0x14 + len(shown), 1, 2, 1, len(shown))
    whole = header + hardware.ljust(AREA, b"\0") + request + shown
    return whole.ljust(NV_SIZE, b"\0")
