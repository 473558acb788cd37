"""Signatures of files that IMA measured (``security.ima``), checked against keys that the verifier names.

The key id in a signature is text of the machine like the rest of it; only a signature that verifies with a
named key over the measured digest says who signed the file.

Source: Linux, security/integrity/integrity.h (``struct signature_v2_hdr``, ``struct ima_file_id``),
security/integrity/digsig_asymmetric.c; ima-evm-utils, src/libimaevm.c.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

DIGSIG: Final = 3
"""EVM_IMA_XATTR_DIGSIG"""
VERITY_DIGSIG: Final = 6
"""IMA_VERITY_DIGSIG"""

# include/uapi/linux/hash_info.h (enum hash_algo)
HASH_ALGO: Final = {2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512", 7: "sha224"}
MAX_SIGNATURE: Final = 2048


# struct signature_v2_hdr, with the type that stands before it
@dataclass(frozen=True, slots=True)
class FileSignature:
    """One signature of a file.

    Attributes:
        type: `DIGSIG` over the file's digest, or `VERITY_DIGSIG` over its fs-verity digest.
        version: 2, or 3 where a structure that holds the digest is hashed and signed.
        hash_algorithm: Hash of the digest, in the kernel's spelling.
        key_id: Last four bytes of the SHA-1 of the key, or of a certificate's subject key identifier.
        value: The signature.
    """

    type: int
    version: int
    hash_algorithm: str
    key_id: int
    value: bytes


def parse_signature(data: bytes, *, source: str = "security.ima") -> FileSignature:
    """Read one signature.

    Raises:
        ParseError: It is of another type, version or hash, or its length is wrong.
    """
    cursor = Cursor(data, source=source)
    at = cursor.offset
    kind = cursor.u8("type")
    version = cursor.u8("version")
    if (kind, version) not in ((DIGSIG, 2), (VERITY_DIGSIG, 3)):
        raise cursor.error("type", f"type {kind} version {version} is no signature of a file", at=at)
    algorithm = cursor.u8("hash_algo")
    if algorithm not in HASH_ALGO:
        raise cursor.error("hash_algo", f"{algorithm} is not known here", at=at)
    # the header is big-endian, unlike the list around it
    key_id = int.from_bytes(cursor.take(4, "keyid"), "big")
    size = int.from_bytes(cursor.take(2, "sig_size"), "big")
    if size > MAX_SIGNATURE:
        raise cursor.error("sig_size", f"more than {MAX_SIGNATURE} bytes", at=at)
    value = cursor.take(size, "sig")
    cursor.finish("sig")
    return FileSignature(kind, version, HASH_ALGO[algorithm], key_id, value)


def key_id(spki: bytes) -> int:
    """Return the id that ima-evm-utils gives a public key: of the SHA-1 of its key bits the last four bytes.

    Raises:
        ValueError: Not a DER SubjectPublicKeyInfo.
    """
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from cryptography.x509 import SubjectKeyIdentifier

    return int.from_bytes(SubjectKeyIdentifier.from_public_key(load_der_public_key(spki)).digest[-4:], "big")  # type: ignore[arg-type]


def verifies(data: bytes, algorithm: str, digest: bytes, spki: bytes) -> bool:
    """Tell whether a file's signature is of a measured digest and by a key.

    The key id is not asked: the signature decides, with the key that the verifier named.

    Args:
        data: The signature as measured.
        algorithm: Hash of the measured digest, in the kernel's spelling.
        digest: The measured digest.
        spki: The key, DER SubjectPublicKeyInfo.

    Returns:
        False as well for what cannot be read, and for keys that are neither RSA nor elliptic curve.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        signature = parse_signature(data)
        key = load_der_public_key(spki)
    except (ParseError, ValueError, UnsupportedAlgorithm):
        return False
    if signature.hash_algorithm != algorithm or len(digest) != hashlib.new(algorithm).digest_size:
        return False
    signed = digest
    if signature.version == 3:
        number = next(number for number, name in HASH_ALGO.items() if name == algorithm)
        signed = hashlib.new(algorithm, bytes([signature.type, number]) + digest).digest()
    return _check(key, signature.value, algorithm, signed)


def _check(key: PublicKeyTypes, value: bytes, algorithm: str, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    known: dict[str, hashes.HashAlgorithm] = {
        "sha224": hashes.SHA224(),
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
    }
    # SHA-1 no longer says who signed
    if algorithm not in known:
        return False
    prehashed = Prehashed(known[algorithm])
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(value, signed, padding.PKCS1v15(), prehashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(value, signed, ec.ECDSA(prehashed))
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True
