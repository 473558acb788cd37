"""Keys and quotes of every scheme, made once a session by a software TPM with tpm2-tools."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from needs import absent
from soft_tpm import SoftTpm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NONCE = bytes.fromhex("00112233445566778899aabbccddeeff0123456789abcdef")
ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
KEYS = {
    # name: (algorithm of tpm2_createprimary, scheme, hash, selection)
    "rsassa-sha256": ("rsa2048:rsassa-sha256:null", "rsassa", "sha256", "sha256:0,1,2,3,4,5,6,7,8,9,14,23"),
    "rsassa-sha384": ("rsa2048:rsassa-sha384:null", "rsassa", "sha384", "sha1:0,7+sha384:0,7,16"),
    "rsassa-sha512": ("rsa2048:rsassa-sha512:null", "rsassa", "sha512", "sha512:0,1,2,3,4,5,6,7,8"),
    "rsapss-sha256": ("rsa2048:rsapss-sha256:null", "rsapss", "sha256", "sha256:0+sha384:0+sha512:0"),
    "rsapss-sha384": ("rsa2048:rsapss-sha384:null", "rsapss", "sha384", "sha384:7"),
    "ecdsa-p256": ("ecc256:ecdsa-sha256:null", "ecdsa", "sha256", "sha384:1,2+sha256:0,7"),
    "ecdsa-p384": ("ecc384:ecdsa-sha384:null", "ecdsa", "sha384", "sha256:0,23"),
}


@dataclass(frozen=True)
class Made:
    """A key and a quote by it, as tpm2-tools wrote them; the plain quote is a second one."""

    name: str
    scheme: str
    hash: str
    selection: str
    public: bytes
    pem: bytes
    key_name: bytes
    message: bytes
    signature: bytes
    serialized: bytes
    plain_message: bytes
    plain_signature: bytes
    plain_values: bytes
    folder: Path


@pytest.fixture(scope="session")
def made(soft_tpm: SoftTpm) -> Mapping[str, Made]:
    """Keys of every scheme with two quotes each: one in the TPM's forms, one in plain forms."""
    found = {}
    for name, (algorithm, scheme, hash_name, selection) in KEYS.items():
        folder = soft_tpm.folder / name
        folder.mkdir()
        soft_tpm("createprimary", "-Q", "-C", "e", "-g", "sha256", "-G", algorithm, "-a", ATTRIBUTES,
                 "-c", f"{name}/ctx")  # fmt: skip
        soft_tpm("flushcontext", "-t")
        soft_tpm(
            "readpublic", "-Q", "-c", f"{name}/ctx", "-f", "tss", "-o", f"{name}/ak.pub", "-n", f"{name}/name"
        )
        soft_tpm("flushcontext", "-t")
        soft_tpm("readpublic", "-Q", "-c", f"{name}/ctx", "-f", "pem", "-o", f"{name}/ak.pem")
        soft_tpm("flushcontext", "-t")
        for prefix, form, values in (("quote", "tss", "serialized"), ("plain", "plain", "values")):
            soft_tpm("quote", "-Q", "-c", f"{name}/ctx", "-l", selection, "-q", NONCE.hex(),
                     "-g", hash_name, "--scheme", scheme, "-m", f"{name}/{prefix}.msg",
                     "-s", f"{name}/{prefix}.sig", "-f", form,
                     "-o", f"{name}/{prefix}.pcrs", "-F", values)  # fmt: skip
            soft_tpm("flushcontext", "-t")
        read = {item.name: item.read_bytes() for item in folder.iterdir()}
        found[name] = Made(
            name, scheme, hash_name, selection, read["ak.pub"], read["ak.pem"], read["name"],
            read["quote.msg"], read["quote.sig"], read["quote.pcrs"],
            read["plain.msg"], read["plain.sig"], read["plain.pcrs"], folder,
        )  # fmt: skip
    return found


@pytest.fixture(scope="session")
def nonce() -> bytes:
    """The nonce of every quote made here."""
    return NONCE


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of swtpm's local certificate authority, whose root certifies the software TPMs."""
    missing = [tool for tool in ("swtpm_setup", "swtpm_localca") if shutil.which(tool) is None]
    if missing:
        absent(f"these tests need {', '.join(missing)} (Debian: swtpm-tools)")
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="session")
def certified_tpm(
    authority: Path, tmp_path_factory: pytest.TempPathFactory, soft_tpm: SoftTpm
) -> Iterator[SoftTpm]:
    """A TPM with certified endorsement keys (RSA-2048 and P-384) and three banks. Tests leave it as it is."""
    tpm = SoftTpm(tmp_path_factory.mktemp("certified"), authority=authority, banks="sha1,sha256,sha384")
    try:
        (tpm.folder / "event").write_bytes(b"event")
        tpm("pcrevent", 7, "event")
        yield tpm
    finally:
        tpm.close()


@pytest.fixture
def fresh_tpm(tmp_path: Path, soft_tpm: SoftTpm) -> Iterator[SoftTpm]:
    """A TPM of the test's own: no certificates, no persistent keys, all banks."""
    folder = tmp_path / "tpm"
    folder.mkdir()
    tpm = SoftTpm(folder)
    try:
        yield tpm
    finally:
        tpm.close()


REGISTERS = {"sha256": {0: bytes([1]) * 32, 7: bytes([2]) * 32}, "sha1": {0: bytes([3]) * 20}}


@dataclass(frozen=True)
class Built:
    """A TPMS_ATTEST written out by hand from TPM 2.0 Part 2, 10.12, with where each field is."""

    data: bytes
    at: Mapping[str, tuple[int, int]]

    def patched(self, field: str, value: int) -> bytes:
        """The same bytes with one integer field set to another value."""
        start, width = self.at[field]
        return self.data[:start] + value.to_bytes(width, "big") + self.data[start + width :]


def build(
    *,
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    signer: bytes = b"\x00\x0b" + bytes(range(32)),
    extra: bytes = NONCE,
    selections: tuple[tuple[int, bytes], ...] = ((0x0B, b"\x81\x00\x00"), (0x04, b"\x01\x00\x00")),
    digest: bytes | None = None,
) -> Built:
    values = REGISTERS["sha256"][0] + REGISTERS["sha256"][7] + REGISTERS["sha1"][0]
    digest = hashlib.sha256(values).digest() if digest is None else digest
    parts: list[tuple[str, bytes]] = [
        ("magic", magic.to_bytes(4, "big")),
        ("type", kind.to_bytes(2, "big")),
        ("qualifiedSigner.size", len(signer).to_bytes(2, "big")),
        ("qualifiedSigner", signer),
        ("extraData.size", len(extra).to_bytes(2, "big")),
        ("extraData", extra),
        ("clock", (123456789).to_bytes(8, "big")),
        ("resetCount", (17).to_bytes(4, "big")),
        ("restartCount", (3).to_bytes(4, "big")),
        ("safe", b"\x01"),
        ("firmwareVersion", (0x2020031200120003).to_bytes(8, "big")),
        ("pcrSelect.count", len(selections).to_bytes(4, "big")),
    ]
    for index, (algorithm, bits) in enumerate(selections):
        parts += [
            (f"hash[{index}]", algorithm.to_bytes(2, "big")),
            (f"sizeofSelect[{index}]", bytes([len(bits)])),
            (f"pcrSelect[{index}]", bits),
        ]
    parts += [("pcrDigest.size", len(digest).to_bytes(2, "big")), ("pcrDigest", digest)]
    at, offset = {}, 0
    for name, part in parts:
        at[name] = (offset, len(part))
        offset += len(part)
    return Built(b"".join(part for _, part in parts), at)


@pytest.fixture(scope="session")
def build_attest() -> Callable[..., Built]:
    """The builder of hand-written quotes."""
    return build


@pytest.fixture(scope="session")
def register_values() -> Mapping[str, Mapping[int, bytes]]:
    """The values that a built quote covers."""
    return REGISTERS


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    """An RSA key outside any TPM."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key outside any TPM."""
    return ec.generate_private_key(ec.SECP256R1())
