"""The verifier's record of a credential activation: this AK and this EK are in one TPM.

The verifier encrypted a secret to an EK for the name of an AK (TPM2_MakeCredential); only the TPM that
holds both returns it (TPM2_ActivateCredential). Source: TPM 2.0 Library, Part 1, 24.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.errors import ParseError, VerificationError
from cvmlab.tpm.constants import MAX_DIGEST
from cvmlab.tpm.public import load_public_key, parse_public, spki_sha256
from cvmlab.tpm.strict import hex_bytes, load_json

if TYPE_CHECKING:
    from cvmlab.tpm.public import TpmPublic

MIN_SECRET: Final = 16
"""Fewest bytes of a secret that cannot be guessed."""


@dataclass(frozen=True, slots=True)
class CredentialActivation:
    """The verifier's record (design, section 10). What it says of its own result is not read.

    Attributes:
        secret_sent: What the verifier encrypted, 16 to 64 bytes.
        secret_returned: What the machine answered; any bytes, possibly none.
        ak_name: TPM name of the AK for which it was encrypted.
        ek_public_sha256: SHA-256 of the EK's public part, to which it was encrypted, 32 bytes.
    """

    secret_sent: bytes = field(repr=False)
    secret_returned: bytes = field(repr=False)
    ak_name: bytes
    ek_public_sha256: bytes

    @property
    def returned(self) -> bool:
        """True where the machine returned the secret that was sent."""
        return hmac.compare_digest(self.secret_sent, self.secret_returned)


def parse_credential_activation(data: bytes, *, source: str) -> CredentialActivation:
    """Read the record from JSON: four hex strings. Other keys are ignored, an ``ok`` among them.

    Raises:
        ParseError: It is not JSON, a key is missing or occurs twice, or a value has a wrong form or size.
    """
    value = load_json(data, source=source)
    if not isinstance(value, dict):
        raise ParseError(source, 0, "json", reason="need an object")

    def read(name: str, low: int, high: int) -> bytes:
        if name not in value:
            raise ParseError(source, 0, name, reason="missing")
        found = hex_bytes(value[name], source=source, field=name) if value[name] != "" else b""
        if not low <= len(found) <= high:
            raise ParseError(source, 0, name, low if len(found) < low else high, len(found), "wrong size")
        return found

    name = read("ak_name", 2 + min(DIGEST_SIZE.values()), 2 + MAX_DIGEST)
    bank = BANK_BY_ALGORITHM.get(int.from_bytes(name[:2], "big"))
    if bank is None or len(name) != 2 + DIGEST_SIZE[bank]:
        raise ParseError(source, 0, "ak_name", reason="not a hash algorithm and its digest")
    return CredentialActivation(
        secret_sent=read("secret_sent", MIN_SECRET, MAX_DIGEST),
        secret_returned=read("secret_returned", 0, MAX_DIGEST),
        ak_name=name,
        ek_public_sha256=read("ek_public_sha256", 32, 32),
    )


def binds(activation: CredentialActivation, ak_name: bytes, ek_public: bytes) -> None:
    """Check that the record binds this AK to this EK.

    Args:
        activation: The verifier's record.
        ak_name: Name of the AK, recomputed from its public part (`TpmPublic.name`), never the claimed one.
        ek_public: The EK as it lies in evidence: TPM2B_PUBLIC (whose digest the record usually has),
            TPMT_PUBLIC, or a PEM or DER key or certificate, for which only the digest of its DER
            SubjectPublicKeyInfo can be recomputed.

    Raises:
        VerificationError: ``attestation-key-not-bound``: the machine did not return the secret, or the
            record is of another AK or another EK.
    """
    if not activation.returned:
        raise _not_bound("the machine did not return the secret that was sent")
    if not hmac.compare_digest(activation.ak_name, ak_name):
        raise _not_bound(f"it names the attestation key {activation.ak_name.hex()}, not {ak_name.hex()}")
    if activation.ek_public_sha256 not in _ek_digests(ek_public):
        raise _not_bound(f"it was made for another endorsement key ({activation.ek_public_sha256.hex()})")


def _ek_digests(ek_public: bytes) -> frozenset[bytes]:
    """SHA-256 of each form that is exactly this key: TPM2B_PUBLIC, TPMT_PUBLIC, DER SPKI."""
    try:
        public: TpmPublic = parse_public(ek_public, source="endorsement key")
    except ParseError:
        try:
            key = load_public_key(ek_public, source="endorsement key")
        except ParseError as error:
            raise _not_bound(f"the endorsement key cannot be read: {error}") from error
        return frozenset({bytes.fromhex(spki_sha256(key))})
    forms = (public.raw, len(public.raw).to_bytes(2, "big") + public.raw)
    return frozenset({bytes.fromhex(public.spki_sha256), *(hashlib.sha256(form).digest() for form in forms)})


def _not_bound(why: str) -> VerificationError:
    return VerificationError(
        f"the credential activation does not bind: {why}", code="attestation-key-not-bound"
    )
