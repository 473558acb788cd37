"""Signatures of baselines: over the document itself, with pinned algorithms, inside the document.

What is signed is the document without its signatures, in one canonical form: JSON with keys sorted, no spaces
and all but ASCII escaped, behind a line that says what it is. Reading the text with another program and
writing it again keeps a signature; changing any value breaks it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import SCHEMA_2, Signature
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from cvmlab.baseline.document import Baseline

_PREFIX: Final = b"cvmlab.baseline signature\n"
_CURVES: Final = {"secp256r1": "ecdsa-p256-sha256", "secp384r1": "ecdsa-p384-sha384"}
ALGORITHMS: Final = ("ed25519", "ecdsa-p256-sha256", "ecdsa-p384-sha384")
"""The algorithms; which one a key uses is fixed by the key."""

MAX_KEY: Final = 64 << 10


def sign(baseline: Baseline, key: str | Path | bytes, *, when: str | None = None) -> Baseline:
    """Return a baseline with one more signature.

    Args:
        baseline: The baseline; signatures that it has stay, for they are over the same bytes.
        key: Private key, Ed25519 or ECDSA on P-256 or P-384, PEM: a file, or its bytes.
        when: ISO 8601 time to state; now by default.

    Raises:
        BaselineError: The key cannot be read, is encrypted, or is of another algorithm.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    from cvmlab.baseline.document_json import document

    private = _private_key(key)
    algorithm = _algorithm(private.public_key())
    stated = when if when is not None else datetime.now(UTC).isoformat(timespec="seconds")
    unsigned = Signature(algorithm, _spki(private.public_key()), b"", stated)
    # a signed document is of version 2, whatever else it holds
    value = {**document(replace(baseline, signatures=())), "schema": SCHEMA_2}
    message = signed_bytes(value, unsigned)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        made = private.sign(message)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA256() if algorithm.endswith("sha256") else hashes.SHA384()
        made = private.sign(message, ec.ECDSA(digest))
    else:  # _algorithm refused every other kind
        raise BaselineError("the key cannot sign")
    return replace(baseline, signatures=(*baseline.signatures, replace(unsigned, value=made)))


def verify(baseline: Baseline, keys: Iterable[str | Path | bytes]) -> Signature:
    """Return the signature by one of these keys.

    Args:
        baseline: The baseline.
        keys: Public keys or certificates, PEM or DER: files, or their bytes.

    Raises:
        BaselineError: None of them signed it, or a signature does not verify.
    """
    from cvmlab.baseline.document_json import document

    value = {**document(baseline), "schema": SCHEMA_2}
    found = check_signatures(value, baseline.signatures, source=baseline.name, require_signed=[*keys])
    if found is None:
        raise BaselineError(f"{baseline.name}: no key was given to verify the signature with")
    return found


def check_signatures(
    document: Mapping[str, object],
    signatures: Sequence[Signature],
    *,
    source: str,
    require_signed: Iterable[str | Path | bytes] = (),
) -> Signature | None:
    """Check every signature of a document, and that a required one is there.

    A signature that does not verify is refused even where none is required: the document was changed after
    it was signed. One that verifies says nothing of who signed, unless its key is among those required.

    Args:
        document: The document as JSON values.
        signatures: Those that it carries.
        source: Name for messages.
        require_signed: Keys of which one must have signed; none for no such rule.

    Returns:
        The signature that meets the requirement; None where nothing is required.

    Raises:
        BaselineError: A signature is wrong, or none is by a required key.
    """
    wanted = {_spki(load_public_key(key)) for key in require_signed}
    for signature in signatures:
        _check(document, signature, source)
    if not wanted:
        return None
    for signature in signatures:
        if signature.key in wanted:
            return signature
    if not signatures:
        raise BaselineError(f"{source}: the baseline is not signed, and a signature is required")
    named = ", ".join(key_id(signature.key) for signature in signatures)
    raise BaselineError(f"{source}: the baseline is signed by {named}, by none of the keys that are required")


def key_id(spki: bytes) -> str:
    """Return how a key is named for people: the start of the SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(spki).hexdigest()[:16]


def signed_bytes(document: Mapping[str, object], signature: Signature) -> bytes:
    """Return the bytes that a signature is over: algorithm, key and time with the document."""
    body = {key: value for key, value in document.items() if key != "signatures"}
    value = {
        "algorithm": signature.algorithm,
        "document": body,
        "key": signature.key.hex(),
        "when": signature.when,
    }
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _PREFIX + text.encode("ascii")


def _check(document: Mapping[str, object], signature: Signature, source: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    key = load_public_key(signature.key)
    algorithm = _algorithm(key)
    if signature.algorithm != algorithm:
        raise BaselineError(
            f"{source}: a signature says {signature.algorithm!r}, and its key is for {algorithm}"
        )
    if _spki(key) != signature.key:
        raise BaselineError(f"{source}: the key of a signature is not in its one DER form")
    message = signed_bytes(document, signature)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature.value, message)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            digest = hashes.SHA256() if algorithm.endswith("sha256") else hashes.SHA384()
            key.verify(signature.value, message, ec.ECDSA(digest))
    except InvalidSignature:
        raise BaselineError(
            f"{source}: the signature by {key_id(signature.key)} does not verify: the baseline was changed "
            "after it was signed. Take the signed version, or review the change and sign again"
        ) from None


def _algorithm(key: PublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    raise BaselineError(
        "baselines are signed with Ed25519, or with ECDSA on P-256 or P-384, and no other key"
    )


def _spki(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _bytes_of(key: str | Path | bytes) -> tuple[bytes, str]:
    if isinstance(key, bytes):
        return key, "the key"
    path = Path(key)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise BaselineError(f"{path}: the key cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_KEY:
        raise BaselineError(f"{path}: more than {MAX_KEY} bytes is no key")
    return data, str(path)


def load_public_key(key: str | Path | bytes) -> PublicKeyTypes:
    """Return a public key from PEM or DER, of a key or of a certificate.

    Raises:
        BaselineError: It cannot be read, or holds a private key.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

    data, where = _bytes_of(key)
    if b"PRIVATE KEY-----" in data:
        raise BaselineError(f"{where}: this is a private key; give the public one")
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            return x509.load_pem_x509_certificate(data).public_key()
        if b"-----BEGIN" in data:
            return load_pem_public_key(data)
        return load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        pass
    try:
        return x509.load_der_x509_certificate(data).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise BaselineError(f"{where}: not a public key or certificate, in PEM or DER") from None


def _private_key(key: str | Path | bytes) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data, where = _bytes_of(key)
    try:
        private = load_pem_private_key(data, password=None)
    except TypeError:
        raise BaselineError(
            f"{where}: the key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BaselineError(f"{where}: not a private key in PEM") from None
    _algorithm(private.public_key())
    return private
