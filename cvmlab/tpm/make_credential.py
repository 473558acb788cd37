"""TPM2_MakeCredential in software: encrypt a secret so that only the TPM of an EK and an AK returns it.

Source: TPM 2.0 Library, Part 1, 24 (credential protection), 11.4.10 (KDFa, KDFe), annexes B.10 (RSA) and
C.6 (ECC); Part 3, 12.6 (TPM2_MakeCredential).
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from cvmlab.banks import DIGEST_SIZE
from cvmlab.binary import Cursor
from cvmlab.errors import VerificationError
from cvmlab.tpm.constants import COORDINATE_SIZE, MAX_RSA_BYTES

if TYPE_CHECKING:
    from cvmlab.tpm.public import TpmPublic

MAX_CREDENTIAL_BLOB: Final = 2 + 64 + 2 + 64
"""Largest TPM2B_ID_OBJECT: an HMAC and an encrypted TPM2B_DIGEST, in bytes."""

MAX_ENCRYPTED_SECRET: Final = MAX_RSA_BYTES
"""Largest TPM2B_ENCRYPTED_SECRET: an RSA ciphertext; ECC points are smaller. In bytes."""

_IDENTITY: Final = b"IDENTITY\0"
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_CIPHER_BITS: Final = {"aes128cfb": 128, "aes192cfb": 192, "aes256cfb": 256}
# tpm2-tools' file of a credential: a magic number and a version before the two structures
_TOOLS_HEADER: Final = bytes.fromhex("badcc0de00000001")


@dataclass(frozen=True, slots=True)
class Credential:
    """What goes to the machine; without its TPM nothing can be read from it.

    Attributes:
        blob: TPMS_ID_OBJECT: HMAC and encrypted secret, without the header of TPM2B_ID_OBJECT.
        encrypted_secret: RSA ciphertext or TPMS_ECC_POINT, without the header of TPM2B_ENCRYPTED_SECRET.
    """

    blob: bytes = field(repr=False)
    encrypted_secret: bytes = field(repr=False)

    def to_tools(self) -> bytes:
        """Return the file that ``tpm2_activatecredential -i`` reads."""
        return _TOOLS_HEADER + b"".join(
            len(part).to_bytes(2, "big") + part for part in (self.blob, self.encrypted_secret)
        )


def read_tools_credential(data: bytes, *, source: str) -> Credential:
    """Read the file that ``tpm2_makecredential -o`` writes.

    Raises:
        ParseError: Another header, a length past a limit or the end, or bytes left over.
    """
    cursor = Cursor(data, source=source, big_endian=True)
    if cursor.take(len(_TOOLS_HEADER), "header") != _TOOLS_HEADER:
        raise cursor.error("header", "not a credential of tpm2_makecredential", at=0)
    blob = cursor.counted(2, "credentialBlob", limit=MAX_CREDENTIAL_BLOB)
    encrypted = cursor.counted(2, "secret", limit=MAX_ENCRYPTED_SECRET)
    cursor.finish("credential")
    return Credential(blob, encrypted)


def make_credential(endorsement: TpmPublic, ak_name: bytes, secret: bytes) -> Credential:
    """Encrypt a secret to an EK for the name of an AK.

    Args:
        endorsement: The EK's public area.
        ak_name: Name of the AK, computed from its public area.
        secret: What the TPM shall return: at most the size of the EK's nameAlg, in bytes.

    Raises:
        VerificationError: ``attestation-key-not-bound``: the key is no endorsement key to which a
            credential could be made, so that a returned secret would prove nothing.
    """
    size = _check_endorsement(endorsement)
    if not 0 < len(secret) <= size:
        raise VerificationError(
            f"a secret for this endorsement key has 1 to {size} bytes, not {len(secret)}",
            code="attestation-key-not-bound",
        )
    hash_name = endorsement.name_alg
    seed, encrypted = _seed(endorsement, size)
    key = kdf_a(hash_name, seed, b"STORAGE", ak_name, _CIPHER_BITS[endorsement.symmetric])
    identity = _cfb(key, len(secret).to_bytes(2, "big") + secret)
    integrity_key = kdf_a(hash_name, seed, b"INTEGRITY", b"", 8 * size)
    integrity = hmac.digest(integrity_key, identity + ak_name, hash_name)
    return Credential(len(integrity).to_bytes(2, "big") + integrity + identity, encrypted)


def _check_endorsement(public: TpmPublic) -> int:
    wrong = [
        text
        for holds, text in (
            (
                public.decrypt and public.restricted and not public.signing,
                "it is no restricted decryption key",
            ),
            (public.fixed_tpm and public.fixed_parent, "it can leave its TPM"),
            (public.sensitive_data_origin, "it was not made inside a TPM"),
            (public.symmetric in _CIPHER_BITS, f"its cipher is {public.symmetric}, not AES in CFB mode"),
            (
                public.name_alg in _HASHES,
                f"its name is by {public.name_alg}, not by SHA-2",
            ),
        )
        if not holds
    ]
    if wrong:
        raise VerificationError(
            f"no credential can be made to this endorsement key: {'; '.join(wrong)}",
            code="attestation-key-not-bound",
        )
    return DIGEST_SIZE[public.name_alg]


def _seed(public: TpmPublic, size: int) -> tuple[bytes, bytes]:
    """Return a fresh seed of `size` bytes and its form that only the EK's TPM can read."""
    algorithm = _HASHES[public.name_alg]()
    if isinstance(public.key, rsa.RSAPublicKey):
        seed = secrets.token_bytes(size)
        oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, _IDENTITY)
        return seed, public.key.encrypt(seed, oaep)
    ephemeral = ec.generate_private_key(public.key.curve)
    width = COORDINATE_SIZE[public.curve]
    own, theirs = ephemeral.public_key().public_numbers(), public.key.public_numbers()
    x, y = own.x.to_bytes(width, "big"), own.y.to_bytes(width, "big")
    shared = ephemeral.exchange(ec.ECDH(), public.key)
    seed = kdf_e(public.name_alg, shared, _IDENTITY, x + theirs.x.to_bytes(width, "big"), 8 * size)
    return seed, b"".join(width.to_bytes(2, "big") + part for part in (x, y))


def kdf_a(hash_name: str, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Derive `bits` bits by KDFa: HMAC in counter mode, SP 800-108 (Part 1, 11.4.10.2).

    `label` stands without its final zero, `context` is contextU and contextV.
    """
    kdf = KBKDFHMAC(
        algorithm=_HASHES[hash_name](),
        mode=Mode.CounterMode,
        length=bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    return kdf.derive(key)


def kdf_e(hash_name: str, shared: bytes, use: bytes, parties: bytes, bits: int) -> bytes:
    """Derive `bits` bits by KDFe: concatenation KDF, SP 800-56A (Part 1, 11.4.10.3).

    `use` stands with its final zero; `parties` are both x coordinates at the full width of the curve.
    """
    return ConcatKDFHash(_HASHES[hash_name](), bits // 8, use + parties).derive(shared)


def _cfb(key: bytes, plain: bytes) -> bytes:
    """AES in full-block CFB with a zero vector (Part 1, 24.4).

    Built on single blocks: `cryptography` has moved its CFB to what it keeps only for old formats.
    """
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - blocks of CFB
    previous, out = bytes(16), b""
    for at in range(0, len(plain), 16):
        stream = block.update(previous)
        previous = bytes(a ^ b for a, b in zip(plain[at : at + 16], stream, strict=False))
        out += previous
    return out
