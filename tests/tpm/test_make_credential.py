"""MakeCredential in software, held against the TPM that has to undo it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given
from hypothesis import strategies as st
from tpm2_pytss.internal.crypto import _kdfa
from tpm2_pytss.types import TPM2B_PUBLIC
from tpm2_pytss.utils import make_credential as pytss_make_credential
from tpm2_pytss.utils import tools_to_credential

from cvmlab.errors import ParseError, VerificationError
from cvmlab.tpm.make_credential import (
    Credential,
    _cfb,
    kdf_a,
    kdf_e,
    make_credential,
    read_tools_credential,
)
from cvmlab.tpm.public import TpmPublic, parse_public

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soft_tpm import SoftTpm

EK = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt"
AK = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
ENDORSEMENT = {
    # name: (name algorithm, key of tpm2_createprimary)
    "rsa2048-sha256": ("sha256", "rsa2048:aes128cfb"),
    "rsa3072-sha384": ("sha384", "rsa3072:aes256cfb"),
    "ecc256-sha256": ("sha256", "ecc256:aes128cfb"),
    "ecc384-sha384": ("sha384", "ecc384:aes256cfb"),
    "ecc521-sha512": ("sha512", "ecc521:aes256cfb"),
}
ATTESTATION = {
    "ak-sha256": ("sha256", "ecc256:ecdsa-sha256:null"),
    "ak-sha384": ("sha384", "ecc384:ecdsa-sha384:null"),
}
SECRET = bytes(range(1, 33))


@dataclass(frozen=True)
class Key:
    """A key of the software TPM: its context there and its public area here."""

    context: str
    public: TpmPublic


@pytest.fixture(scope="module")
def keys(soft_tpm: SoftTpm) -> Mapping[str, Key]:
    """Endorsement and attestation keys of every kind, made by tpm2-tools."""
    folder = soft_tpm.folder / "credential"
    folder.mkdir(exist_ok=True)
    found = {}
    for attributes, kinds in ((EK, ENDORSEMENT), (AK, ATTESTATION)):
        for name, (name_alg, algorithm) in kinds.items():
            context = f"credential/{name}.ctx"
            soft_tpm("createprimary", "-Q", "-C", "e", "-g", name_alg, "-G", algorithm, "-a", attributes,
                     "-c", context)  # fmt: skip
            soft_tpm.flush()
            soft_tpm("readpublic", "-Q", "-c", context, "-f", "tss", "-o", f"credential/{name}.pub")
            soft_tpm.flush()
            found[name] = Key(context, parse_public((folder / f"{name}.pub").read_bytes(), source=name))
    return found


def _activate(soft_tpm: SoftTpm, attestation: Key, endorsement: Key, credential: Credential) -> bytes:
    (soft_tpm.folder / "credential.in").write_bytes(credential.to_tools())
    out = soft_tpm.folder / "credential.out"
    out.unlink(missing_ok=True)
    try:
        soft_tpm("activatecredential", "-Q", "-c", attestation.context, "-C", endorsement.context,
                 "-i", "credential.in", "-o", "credential.out")  # fmt: skip
    finally:
        soft_tpm.flush()
    return out.read_bytes()


@pytest.mark.parametrize("attestation", ATTESTATION)
@pytest.mark.parametrize("endorsement", ENDORSEMENT)
def test_the_tpm_returns_the_secret(
    soft_tpm: SoftTpm, keys: Mapping[str, Key], endorsement: str, attestation: str
) -> None:
    ek, ak = keys[endorsement], keys[attestation]
    credential = make_credential(ek.public, ak.public.name, SECRET)
    assert _activate(soft_tpm, ak, ek, credential) == SECRET


def test_points_with_leading_zeros_are_padded(soft_tpm: SoftTpm, keys: Mapping[str, Key]) -> None:
    # P-521 coordinates fill 66 bytes only by padding, in every single key
    ek, ak = keys["ecc521-sha512"], keys["ak-sha256"]
    for _ in range(3):
        credential = make_credential(ek.public, ak.public.name, SECRET)
        assert _activate(soft_tpm, ak, ek, credential) == SECRET


def test_the_tpm_refuses_a_credential_for_another_name(soft_tpm: SoftTpm, keys: Mapping[str, Key]) -> None:
    ek = keys["rsa2048-sha256"]
    credential = make_credential(ek.public, keys["ak-sha384"].public.name, SECRET)
    with pytest.raises(AssertionError, match="integrity"):
        _activate(soft_tpm, keys["ak-sha256"], ek, credential)


def test_the_tpm_refuses_a_credential_for_another_endorsement_key(
    soft_tpm: SoftTpm, keys: Mapping[str, Key]
) -> None:
    credential = make_credential(keys["ecc256-sha256"].public, keys["ak-sha256"].public.name, SECRET)
    with pytest.raises(AssertionError):
        _activate(soft_tpm, keys["ak-sha256"], keys["rsa2048-sha256"], credential)


@pytest.mark.parametrize("byte", [0, 5, 40, -1])
def test_the_tpm_refuses_a_changed_credential(soft_tpm: SoftTpm, keys: Mapping[str, Key], byte: int) -> None:
    ek, ak = keys["rsa2048-sha256"], keys["ak-sha256"]
    good = make_credential(ek.public, ak.public.name, SECRET)
    blob = bytearray(good.blob)
    blob[byte] ^= 1
    with pytest.raises(AssertionError):
        _activate(soft_tpm, ak, ek, replace(good, blob=bytes(blob)))


def test_no_two_credentials_are_alike_and_none_shows_the_secret(keys: Mapping[str, Key]) -> None:
    for ek in (keys[name].public for name in ENDORSEMENT):
        one, two = (make_credential(ek, keys["ak-sha256"].public.name, SECRET) for _ in range(2))
        assert one.blob != two.blob
        assert one.encrypted_secret != two.encrypted_secret
        assert SECRET not in one.to_tools()
        assert SECRET.hex() not in repr(one)


def test_tools_file_is_what_pytss_reads(keys: Mapping[str, Key]) -> None:
    made = make_credential(keys["ecc256-sha256"].public, keys["ak-sha256"].public.name, SECRET)
    blob, encrypted = tools_to_credential(made.to_tools())
    assert bytes(blob.credential) == made.blob
    assert bytes(encrypted.secret) == made.encrypted_secret
    assert read_tools_credential(made.to_tools(), source="made") == made


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: b"\xba\xdc\xc0\xdf" + data[4:], "header"),
        (lambda data: data[:7] + b"\x02" + data[8:], "header"),
        (lambda data: data + b"\0", "credential"),
        (lambda data: data[:-1], "secret"),
        (lambda data: data[:8] + b"\xff\xff" + data[10:], "credentialBlob.size"),
        (lambda data: data[:5], "header"),
    ],
    ids=["magic", "version", "left_over", "cut", "size_past_limit", "header_cut"],
)
def test_damaged_tools_file_is_refused(keys: Mapping[str, Key], change: object, field: str) -> None:
    made = make_credential(keys["rsa2048-sha256"].public, keys["ak-sha256"].public.name, SECRET)
    with pytest.raises(ParseError) as caught:
        read_tools_credential(change(made.to_tools()), source="credential")  # type: ignore[operator]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"attributes": 0x000300B2 & ~(1 << 16)}, "restricted decryption"),
        ({"attributes": 0x000300B2 & ~(1 << 17)}, "restricted decryption"),
        ({"attributes": 0x000300B2 & ~(1 << 1)}, "leave its TPM"),
        ({"attributes": 0x000300B2 & ~(1 << 4)}, "leave its TPM"),
        ({"attributes": 0x000300B2 & ~(1 << 5)}, "not made inside"),
        ({"symmetric": "null"}, "cipher is null"),
        ({"symmetric": "sm4128cfb"}, "cipher is sm4128cfb"),
        ({"name_alg": "sha1"}, "name is by sha1"),
        ({"name_alg": "sm3_256"}, "name is by sm3_256"),
    ],
    ids=["unrestricted", "signing", "not_fixed_tpm", "not_fixed_parent", "imported", "no_cipher", "sm4",
         "sha1", "sm3"],
)  # fmt: skip
def test_key_that_proves_nothing_gets_no_credential(
    keys: Mapping[str, Key], change: dict[str, object], why: str
) -> None:
    public = replace(keys["rsa2048-sha256"].public, **change)  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match=why) as caught:
        make_credential(public, keys["ak-sha256"].public.name, SECRET)
    assert caught.value.code == "attestation-key-not-bound"


@pytest.mark.parametrize("size", [0, 33, 64])
def test_secret_of_a_wrong_size_is_refused(keys: Mapping[str, Key], size: int) -> None:
    with pytest.raises(VerificationError, match="1 to 32 bytes"):
        make_credential(keys["rsa2048-sha256"].public, keys["ak-sha256"].public.name, bytes(size))


def test_pytss_makes_credentials_of_the_same_form(keys: Mapping[str, Key]) -> None:
    for name in ENDORSEMENT:
        public = keys[name].public
        theirs, _ = TPM2B_PUBLIC.unmarshal(len(public.raw).to_bytes(2, "big") + public.raw)
        blob, encrypted = pytss_make_credential(theirs, SECRET, keys["ak-sha256"].public.name)
        made = make_credential(public, keys["ak-sha256"].public.name, SECRET)
        assert len(bytes(blob.credential)) == len(made.blob)
        assert len(bytes(encrypted.secret)) == len(made.encrypted_secret)


@given(
    key=st.binary(min_size=1, max_size=64),
    context=st.binary(max_size=66),
    bits=st.sampled_from([128, 192, 256, 384, 512, 1024]),
    algorithm=st.sampled_from([("sha256", 0x0B), ("sha384", 0x0C), ("sha512", 0x0D)]),
)
def test_key_derivation_equals_pytss_and_the_specification(
    key: bytes, context: bytes, bits: int, algorithm: tuple[str, int]
) -> None:
    name, number = algorithm
    assert kdf_a(name, key, b"STORAGE", context, bits) == _kdfa(number, key, b"STORAGE", context, b"", bits)
    blocks = (
        hashlib.new(name, counter.to_bytes(4, "big") + key + b"IDENTITY\0" + context).digest()
        for counter in range(1, 5)
    )
    assert kdf_e(name, key, b"IDENTITY\0", context, bits) == b"".join(blocks)[: bits // 8]


@given(key=st.sampled_from([bytes(16), bytes(range(24)), bytes(range(32))]), plain=st.binary(max_size=70))
def test_cipher_equals_openssl(key: bytes, plain: bytes) -> None:
    encryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).encryptor()
    assert hmac.compare_digest(_cfb(key, plain), encryptor.update(plain) + encryptor.finalize())
