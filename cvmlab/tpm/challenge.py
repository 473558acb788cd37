"""The verifier's side of credential activation: a challenge for the machine, a record to keep.

Three files go with one challenge. The *challenge* is sent to the machine and holds nothing that could be
read without its TPM. The *record* stays with the verifier: it holds the secret. The *response* comes back
with what the TPM returned. `complete` makes of record and response the ``credential_activation.json`` that
binds an attestation key to an endorsement key (design, section 10).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError, VerificationError
from cvmlab.tpm.constants import MAX_DIGEST, MAX_NAME
from cvmlab.tpm.credential import MIN_SECRET, CredentialActivation
from cvmlab.tpm.make_credential import (
    MAX_CREDENTIAL_BLOB,
    MAX_ENCRYPTED_SECRET,
    Credential,
    make_credential,
)
from cvmlab.tpm.public import check_key_attributes
from cvmlab.tpm.strict import hex_bytes, load_json

if TYPE_CHECKING:
    from cvmlab.tpm.public import TpmPublic

CHALLENGE_SCHEMA: Final = "cvmlab.challenge/1"
RECORD_SCHEMA: Final = "cvmlab.challenge-record/1"
RESPONSE_SCHEMA: Final = "cvmlab.challenge-response/1"
RESPONSE_FILE: Final = "challenge_response.json"
"""Name of the response beside the evidence. Investigation does not read it: the verifier's record binds."""

_ID_SIZE: Final = 16
_SECRET_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Challenge:
    """What is sent to the machine.

    Attributes:
        id: Random number of the challenge, 16 bytes.
        ak_name: Name of the attestation key that it is for.
        ek_public_sha256: SHA-256 of the endorsement key's TPM2B_PUBLIC.
        credential: What only the TPM of both keys can read.
    """

    id: bytes
    ak_name: bytes
    ek_public_sha256: bytes
    credential: Credential

    def to_json(self) -> str:
        """Return the challenge file."""
        return _json(
            CHALLENGE_SCHEMA,
            id=self.id,
            ak_name=self.ak_name,
            ek_public_sha256=self.ek_public_sha256,
            credential_blob=self.credential.blob,
            encrypted_secret=self.credential.encrypted_secret,
        )


@dataclass(frozen=True, slots=True)
class ChallengeRecord:
    """What the verifier keeps, and shows to no machine.

    Attributes:
        id: Random number of the challenge, 16 bytes.
        ak_name: Name of the attestation key that it is for.
        ek_public_sha256: SHA-256 of the endorsement key's TPM2B_PUBLIC.
        secret: What the machine has to return.
        made: When the challenge was made, ISO 8601 in UTC.
    """

    id: bytes
    ak_name: bytes
    ek_public_sha256: bytes
    secret: bytes = field(repr=False)
    made: str

    def to_json(self) -> str:
        """Return the record file."""
        return _json(
            RECORD_SCHEMA,
            made=self.made,
            id=self.id,
            ak_name=self.ak_name,
            ek_public_sha256=self.ek_public_sha256,
            secret_sent=self.secret,
        )


@dataclass(frozen=True, slots=True)
class ChallengeResponse:
    """What the machine returns.

    Attributes:
        id: Random number of the challenge.
        ak_name: Name of the attestation key that was activated.
        ek_public_sha256: SHA-256 of the endorsement key's TPM2B_PUBLIC.
        secret: What TPM2_ActivateCredential returned.
    """

    id: bytes
    ak_name: bytes
    ek_public_sha256: bytes
    secret: bytes = field(repr=False)

    def to_json(self) -> str:
        """Return the response file."""
        return _json(
            RESPONSE_SCHEMA,
            id=self.id,
            ak_name=self.ak_name,
            ek_public_sha256=self.ek_public_sha256,
            secret_returned=self.secret,
        )


def make_challenge(endorsement: TpmPublic, attestation: TpmPublic) -> tuple[Challenge, ChallengeRecord]:
    """Make a challenge for an AK said to be in the TPM of an EK.

    Whether the EK is that of a genuine TPM is for its certificate, or an enrolment, to say.

    Args:
        endorsement: The EK's public area.
        attestation: The AK's public area; its name is computed, never taken from a claim.

    Raises:
        VerificationError: ``attestation-key-unsuitable``, the AK is not fit to attest; or
            ``attestation-key-not-bound``, no credential can be made to the EK.
    """
    check_key_attributes(attestation)
    secret, identity = secrets.token_bytes(_SECRET_SIZE), secrets.token_bytes(_ID_SIZE)
    credential = make_credential(endorsement, attestation.name, secret)
    ek_sha256 = public_sha256(endorsement)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        Challenge(identity, attestation.name, ek_sha256, credential),
        ChallengeRecord(identity, attestation.name, ek_sha256, secret, made),
    )


def public_sha256(public: TpmPublic) -> bytes:
    """Return the SHA-256 of a key's TPM2B_PUBLIC, by which challenges and records name an EK."""
    return hashlib.sha256(len(public.raw).to_bytes(2, "big") + public.raw).digest()


def complete(record: ChallengeRecord, response: ChallengeResponse) -> CredentialActivation:
    """Make the verifier's record of an activation from what was sent and what came back.

    A wrong secret is kept as it is: the activation then binds nothing, and investigation says so.

    Raises:
        VerificationError: ``attestation-key-not-bound``: the response is to another challenge.
    """
    if not hmac.compare_digest(record.id, response.id):
        raise VerificationError(
            f"the response is to the challenge {response.id.hex()}, the record of {record.id.hex()}",
            code="attestation-key-not-bound",
        )
    return CredentialActivation(record.secret, response.secret, record.ak_name, record.ek_public_sha256)


def activation_json(activation: CredentialActivation) -> str:
    """Return the file ``credential_activation.json`` of the evidence directory (design, section 10)."""
    return _json(
        None,
        secret_sent=activation.secret_sent,
        secret_returned=activation.secret_returned,
        ak_name=activation.ak_name,
        ek_public_sha256=activation.ek_public_sha256,
    )


def read_challenge(data: bytes, *, source: str) -> Challenge:
    """Read a challenge file.

    Raises:
        ParseError: Not JSON, another schema, or a value is missing or has a wrong form or size.
    """
    fields = _Fields(data, source, CHALLENGE_SCHEMA)
    credential = Credential(
        fields.get("credential_blob", 4, MAX_CREDENTIAL_BLOB),
        fields.get("encrypted_secret", 4, MAX_ENCRYPTED_SECRET),
    )
    return Challenge(*fields.names(), credential)


def read_record(data: bytes, *, source: str) -> ChallengeRecord:
    """Read a verifier's record.

    Raises:
        ParseError: Not JSON, another schema, or a value is missing or has a wrong form or size.
    """
    fields = _Fields(data, source, RECORD_SCHEMA)
    made = fields.value.get("made")
    if not isinstance(made, str) or len(made) > 64:
        raise ParseError(source, 0, "made", reason="need a time")
    return ChallengeRecord(*fields.names(), fields.get("secret_sent", MIN_SECRET, MAX_DIGEST), made)


def read_response(data: bytes, *, source: str) -> ChallengeResponse:
    """Read a machine's response.

    Raises:
        ParseError: Not JSON, another schema, or a value is missing or has a wrong form or size.
    """
    fields = _Fields(data, source, RESPONSE_SCHEMA)
    return ChallengeResponse(*fields.names(), fields.get("secret_returned", 1, MAX_DIGEST))


class _Fields:
    """The hex strings of one of the files."""

    def __init__(self, data: bytes, source: str, schema: str) -> None:
        value = load_json(data, source=source)
        if not isinstance(value, dict) or value.get("schema") != schema:
            found = value.get("schema") if isinstance(value, dict) else None
            hint = f", this is {found[:40]!r}" if isinstance(found, str) else ""
            raise ParseError(source, 0, "schema", reason=f"need {schema}{hint}")
        self.value: dict[str, object] = value
        self._source = source

    def get(self, name: str, low: int, high: int) -> bytes:
        """Return the bytes of one value of `low` to `high` bytes."""
        if name not in self.value:
            raise ParseError(self._source, 0, name, reason="missing")
        found = hex_bytes(self.value[name], source=self._source, field=name)
        if not low <= len(found) <= high:
            raise ParseError(
                self._source, 0, name, low if len(found) < low else high, len(found), "wrong size"
            )
        return found

    def names(self) -> tuple[bytes, bytes, bytes]:
        """Return id, AK name and digest of the EK."""
        return (
            self.get("id", _ID_SIZE, _ID_SIZE),
            self.get("ak_name", 2 + 32, MAX_NAME),
            self.get("ek_public_sha256", 32, 32),
        )


def _json(schema: str | None, made: str | None = None, **values: bytes) -> str:
    head = {key: text for key, text in (("schema", schema), ("made", made)) if text is not None}
    return json.dumps(head | {name: value.hex() for name, value in values.items()}, indent=2) + "\n"
