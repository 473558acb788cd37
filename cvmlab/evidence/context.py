"""What the verifier knew beforehand. It never shares a type with what a machine says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError, ParseError
from cvmlab.evidence.directory import tpm_name
from cvmlab.evidence.trustfolder import read_trust
from cvmlab.findings import Problem
from cvmlab.tokens.jwks import parse_jwks
from cvmlab.tpm.credential import parse_credential_activation
from cvmlab.tpm.public import load_public_key, parse_public, spki_sha256
from cvmlab.tpm.strict import decode_text, hex_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from cvmlab.evidence.model import CollateralClaim
    from cvmlab.evidence.sources import RawFile
    from cvmlab.tokens.jwks import SigningKey
    from cvmlab.tpm.credential import CredentialActivation

MAX_NONCE: Final = 64
"""TPM2B_DATA holds at most a TPMT_HA: 2 + 64 bytes; nonces beyond 64 are not sent."""

_MAX_OPTION_FILE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EnrolledKey:
    """A key that the verifier knew before: an AK, or the EK of the machine.

    Attributes:
        source: Where it came from, for messages.
        name: TPM name; None where only the bare key is known.
        spki_sha256: SHA-256 of the SubjectPublicKeyInfo; None where only the name is known.
    """

    source: str
    name: bytes | None
    spki_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """What an earlier, verified quote of the same machine said; see `cvmlab.trust.history.record_of`.

    Attributes:
        source: The earlier evidence, for messages.
        key_spki_sha256: Hex SHA-256 of the SubjectPublicKeyInfo of the key that signed.
        endorsement_spki_sha256: The same of the endorsement key that a record tied it to; empty where none.
        nonce: extraData of the quote.
        message_sha256: SHA-256 of the bytes that were signed.
        clock: Milliseconds that the TPM had been powered.
        reset_count: Number of TPM resets, obfuscated per key (Part 1, 36.7).
        restart_count: Number of restarts and resumes since, obfuscated per key.
    """

    source: str
    key_spki_sha256: str
    endorsement_spki_sha256: str
    nonce: bytes
    message_sha256: bytes
    clock: int
    reset_count: int
    restart_count: int


@dataclass(frozen=True, slots=True)
class VerifierContext:
    """The verifier's knowledge for one judgement.

    Attributes:
        nonce: The nonce that was sent; None where unknown.
        nonce_source: Where it came from.
        enrolled: Keys known beforehand.
        activation: Credential activation record, or None.
        activation_source: Where it came from.
        trust_roots: Certificates that paths must end in.
        certificates: Other certificates that the verifier brings along: candidates, never roots.
        collateral: Statements of processors' makers that the verifier brings along.
        jwks: Keys of attestation services; None where the verifier gave none. Never from evidence.
        token_issuers: Issuers whose tokens count; empty for any provider of Azure.
        at: Time of the judgement; None for now.
        history: Earlier quotes of the same machine, in any order.
        problems: Verifier files that could not be read.
    """

    nonce: bytes | None = None
    nonce_source: str = ""
    enrolled: tuple[EnrolledKey, ...] = ()
    activation: CredentialActivation | None = None
    activation_source: str = ""
    trust_roots: tuple[x509.Certificate, ...] = ()
    certificates: tuple[x509.Certificate, ...] = ()
    collateral: tuple[CollateralClaim, ...] = ()
    jwks: tuple[SigningKey, ...] | None = None
    token_issuers: tuple[str, ...] = ()
    at: datetime | None = None
    history: tuple[MachineRecord, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def context_hash(self) -> str:
        """Hex SHA-256 over what was known, for records of a judgement."""
        total = hashlib.sha256()
        total.update(b"nonce:" + (self.nonce or b"-"))
        for entry in self.enrolled:
            total.update(b"|key:" + (entry.name or b"-") + (entry.spki_sha256 or b"-"))
        if self.activation is not None:
            total.update(b"|activation:" + self.activation.ak_name + self.activation.ek_public_sha256)
        for root in self.trust_roots:
            total.update(b"|root:" + root.tbs_certificate_bytes)
        for certificate in self.certificates:
            total.update(b"|certificate:" + certificate.tbs_certificate_bytes)
        for claim in self.collateral:
            total.update(b"|collateral:" + claim.signed)
        for key in self.jwks or ():
            total.update(f"|token-key:{key.kid}:{key.spki_sha256}".encode())
        for issuer in self.token_issuers:
            total.update(b"|token-issuer:" + issuer.encode())
        for record in self.history:
            total.update(b"|history:" + record.message_sha256)
        return total.hexdigest()


def load_context(
    path: str | Path | None = None,
    *,
    nonce: str | bytes | None = None,
    enrolled_keys: Iterable[str | Path] = (),
    trust_roots: Iterable[str | Path] = (),
    collateral: Iterable[str | Path] = (),
    jwks: Iterable[str | Path] = (),
    token_issuers: Iterable[str] = (),
    at: datetime | str | None = None,
    history: Iterable[MachineRecord] = (),
) -> VerifierContext:
    """Gather what the verifier knows: files of a folder that the analyst named, and options.

    Args:
        path: Evidence folder or archive; ``nonce.hex`` and ``credential_activation.json`` in it count
            because the analyst named it. None for none.
        nonce: The nonce, as hex or bytes; it outranks ``nonce.hex``.
        enrolled_keys: Files of enrolled keys: TPM2B_PUBLIC, PEM or DER public key, certificate, TPM name.
        trust_roots: PEM or DER files of trust roots, or folders of them. The folder that the environment
            variable ``CVMLAB_TRUST`` names counts too.
        collateral: Files or folders with TCB info, QE identity, revocation lists and certificates of
            processors; none of it is a root.
        jwks: Files with the keys of attestation services: JWK sets, as the service serves them.
        token_issuers: Issuers whose tokens count; none for any provider of Azure.
        at: Time of the judgement, with a zone or in UTC, or ISO 8601 text.
        history: What earlier quotes of the machine said.

    Raises:
        EvidenceError: An option cannot be used.
    """
    problems: list[Problem] = []
    found: dict[str, RawFile] = {}
    if path is not None:
        found = _verifier_files(Path(path), problems)
    nonce_value, nonce_source = _nonce(nonce, found.get("nonce.hex"), problems)
    activation = None
    record = found.get("credential_activation.json")
    if record is not None and record.data:
        try:
            activation = parse_credential_activation(record.data, source=record.name)
        except ParseError as error:
            problems.append(Problem.of(error))
    material = read_trust(trust_roots, collateral)
    return VerifierContext(
        nonce=nonce_value,
        nonce_source=nonce_source,
        enrolled=tuple(read_enrolled_key(key) for key in enrolled_keys),
        activation=activation,
        activation_source=record.name if record is not None and activation is not None else "",
        trust_roots=tuple(material.roots),
        certificates=tuple(material.certificates),
        collateral=tuple(material.collateral),
        jwks=_jwks(jwks),
        token_issuers=tuple(token_issuers),
        at=_time(at),
        history=tuple(history),
        problems=tuple(problems),
    )


def _jwks(files: Iterable[str | Path]) -> tuple[SigningKey, ...] | None:
    """Keys of attestation services; None where no file was given, which is not the same as no key."""
    found: list[SigningKey] | None = None
    for name in files:
        path = Path(name)
        try:
            keys = parse_jwks(_option_file(path, "set of keys"), source=path.name)
        except ParseError as error:
            raise EvidenceError(
                f"{path}: no set of keys of an attestation service: {error.message}"
            ) from error
        found = [*(found or ()), *keys]
    return tuple(found) if found is not None else None


def _verifier_files(path: Path, problems: list[Problem]) -> dict[str, RawFile]:
    from cvmlab.evidence.sources import RawFile, read_archive, single_file

    names = ("nonce.hex", "credential_activation.json")
    if not path.is_dir():
        if single_file(path):
            return {}
        return {file.name: file for file in read_archive(path) if file.name in names}
    found = {}
    for name in names:
        file = path / name
        if file.is_file() and not file.is_symlink():
            try:
                with file.open("rb") as stream:
                    data = stream.read(_MAX_OPTION_FILE + 1)
            except OSError as error:
                problems.append(Problem(name, 0, "file", f"cannot be read: {error.strerror or error}"))
                continue
            found[name] = RawFile(name, data, len(data))
    return found


def _nonce(
    option: str | bytes | None, file: RawFile | None, problems: list[Problem]
) -> tuple[bytes | None, str]:
    if isinstance(option, bytes):
        value, source = option, "the nonce given"
    elif option is not None:
        source = "--nonce"
        try:
            value = hex_bytes(option.strip(), source=source, field="nonce")
        except ParseError as error:
            raise EvidenceError(f"the nonce is not hex: {error.message}") from error
    elif file is not None and file.data and file.data.strip():
        source = file.name
        try:
            value = hex_bytes(decode_text(file.data, source=source).strip(), source=source, field="nonce")
        except ParseError as error:
            problems.append(Problem.of(error))
            return None, ""
    else:
        return None, ""
    if not 0 < len(value) <= MAX_NONCE:
        message = f"a nonce has 1 to {MAX_NONCE} bytes, this one {len(value)}"
        if option is not None:
            raise EvidenceError(message)
        problems.append(Problem(source, 0, "nonce", message))
        return None, ""
    return value, source


def _option_file(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_OPTION_FILE + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error
    if not 0 < len(data) <= _MAX_OPTION_FILE:
        raise EvidenceError(f"{path}: the {what} is empty or larger than 1 MiB")
    return data


def read_enrolled_key(path: str | Path) -> EnrolledKey:
    """Read an enrolled key: TPM2B_PUBLIC or TPMT_PUBLIC, public key or certificate, or a TPM name.

    Raises:
        EvidenceError: The file is none of these.
    """
    return enrolled_key(_option_file(Path(path), "enrolled key"), source=str(path))


def enrolled_key(data: bytes, *, source: str) -> EnrolledKey:
    """Read the bytes of an enrolled key; see `read_enrolled_key`.

    Raises:
        EvidenceError: They are none.
    """
    name_of = Path(source).name
    reasons = []
    try:
        public = parse_public(data, source=name_of)
        return EnrolledKey(source, public.name, bytes.fromhex(public.spki_sha256))
    except (ParseError, ValueError) as error:
        reasons.append(str(error))
    try:
        return EnrolledKey(source, None, bytes.fromhex(spki_sha256(load_public_key(data, source=name_of))))
    except ParseError as error:
        reasons.append(str(error))
    try:
        name = tpm_name(data, name_of)
        if 22 <= len(name) <= 66:
            return EnrolledKey(source, name, None)
    except ParseError as error:
        reasons.append(str(error))
    raise EvidenceError(f"{source}: not a key that can be enrolled ({'; '.join(reasons)})")


def _time(at: datetime | str | None) -> datetime | None:
    if at is None:
        return None
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError as error:
            raise EvidenceError(f"{at!r} is not a time: write it like 2026-01-31T12:00:00Z") from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
