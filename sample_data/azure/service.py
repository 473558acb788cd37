"""A simulated attestation service: a signing key with its certificate, and tokens like Azure Attestation's.

Layout: JSON Web Signature (RFC 7515) with RS256; claims of the attestation types azurevm and sevsnpvm as
Microsoft publishes them. The key lives only while the simulation runs.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from processor import FROM, UNTIL, name

ISSUER = "https://simulated.eus.attest.azure.net"
ISSUED = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOURS = 8


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(runtime: bytes, nonce: str, **changes: object) -> dict[str, object]:
    """What the service says of a VM that is as it should be.

    Args:
        runtime: The runtime claims that the hardware report binds.
        nonce: The nonce that the guest gave, hex.
        **changes: Claims at the top that are otherwise, ``_`` for ``-``.
    """
    stated = json.loads(runtime)
    start = int(ISSUED.timestamp())
    off = ("bootdebug", "kerneldebug", "hypervisordebug", "testsigning", "flightsigning")
    on = (
        "dbvalidated", "dbxvalidated", "debuggersdisabled", "signingdisabled",
        "default-securebootkeysvalidated",
    )  # fmt: skip
    return {
        "iss": ISSUER,
        "iat": start,
        "nbf": start,
        "exp": start + HOURS * 3600,
        "x-ms-ver": "1.0",
        "x-ms-attestation-type": "azurevm",
        "secureboot": True,
        **{f"x-ms-azurevm-{word}-enabled": False for word in off},
        **{f"x-ms-azurevm-{word}": True for word in on},
        "x-ms-azurevm-vmid": stated["vm-configuration"]["vmUniqueId"].upper(),
        "x-ms-isolation-tee": {
            "x-ms-attestation-type": "sevsnpvm",
            "x-ms-compliance-status": "azure-compliant-cvm",
            "x-ms-runtime": stated,
            "x-ms-sevsnpvm-is-debuggable": False,
            "x-ms-sevsnpvm-migration-allowed": False,
            "x-ms-sevsnpvm-vmpl": 0,
        },
        "x-ms-runtime": {"client-payload": {"nonce": base64.b64encode(bytes.fromhex(nonce)).decode()}},
        **{word.replace("_", "-"): value for word, value in changes.items()},
    }


class Service:
    """One provider."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        own = name("SIMULATED attestation service")
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(own)
            .issuer_name(own)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(FROM)
            .not_valid_after(UNTIL)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def keys(self) -> bytes:
        """The set of keys that it would serve at /certs."""
        certificate = base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()
        return json.dumps(
            {"keys": [{"kty": "RSA", "kid": "SIMULATED", "x5c": [certificate]}]}, indent=1
        ).encode()

    def token(self, claims: dict[str, object]) -> bytes:
        """Sign claims."""
        header = {"alg": "RS256", "jku": f"{ISSUER}/certs", "kid": "SIMULATED", "typ": "JWT"}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64url(signature)}".encode()
