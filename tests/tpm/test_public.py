"""TPMT_PUBLIC, names and keys, against tpm2_readpublic and openssl."""

from __future__ import annotations

import datetime
import hashlib
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm.public import (
    check_key_attributes,
    check_key_strength,
    load_public_key,
    parse_public,
    spki_sha256,
)

GOOD = 0x00050072
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def tpm2b(data: bytes) -> bytes:
    return u16(len(data)) + data


def rsa_area(
    modulus: bytes,
    *,
    kind: int = 1,
    name_alg: int = 0x0B,
    attributes: int = GOOD,
    policy: bytes = b"",
    symmetric: bytes = b"\x00\x10",
    scheme: bytes = b"\x00\x14\x00\x0b",
    bits: int | None = None,
    exponent: int = 0,
) -> bytes:
    """TPMT_PUBLIC of an RSA key, written out by hand from Part 2, 12.2.4."""
    bits = 8 * len(modulus) if bits is None else bits
    head = u16(kind) + u16(name_alg) + attributes.to_bytes(4, "big") + tpm2b(policy)
    return head + symmetric + scheme + u16(bits) + exponent.to_bytes(4, "big") + tpm2b(modulus)


@pytest.fixture(scope="session")
def modulus(rsa_key: rsa.RSAPrivateKey) -> bytes:
    return rsa_key.public_key().public_numbers().n.to_bytes(256, "big")


def test_names_and_keys_as_the_tpm_says(made):
    for item in made.values():
        public = parse_public(item.public, source=item.name)
        assert public.name == item.key_name, item.name
        assert public.key == serialization.load_pem_public_key(item.pem), item.name
        der = subprocess.run(
            ["openssl", "pkey", "-pubin", "-outform", "der"], input=item.pem, capture_output=True, check=True
        ).stdout
        assert public.spki_sha256 == hashlib.sha256(der).hexdigest()
        assert (public.scheme, public.scheme_hash) == (item.scheme, item.hash)
        assert public.name_alg == "sha256"
        assert public.symmetric == "null"
        assert parse_public(item.public[2:], source=item.name) == public
        check_key_attributes(public)


def test_storage_keys_of_both_types(soft_tpm):
    for algorithm in ("rsa", "ecc"):
        soft_tpm("createek", "-Q", "-G", algorithm, "-c", "ek.ctx", "-u", "ek.pub")
        soft_tpm.flush()
        soft_tpm("readpublic", "-Q", "-c", "ek.ctx", "-n", "ek.name", "-f", "pem", "-o", "ek.pem")
        soft_tpm.flush()
        public = parse_public((soft_tpm.folder / "ek.pub").read_bytes(), source="ek.pub")
        assert public.name == (soft_tpm.folder / "ek.name").read_bytes()
        assert public.key == load_public_key((soft_tpm.folder / "ek.pem").read_bytes(), source="ek.pem")
        assert public.symmetric == "aes128cfb"
        assert public.scheme == "null"
        # TCG EK Credential Profile 2.5, B.3.3: PolicySecret of the endorsement hierarchy
        assert public.auth_policy.hex() == "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
        assert (public.restricted, public.decrypt, public.signing) == (True, True, False)
        with pytest.raises(VerificationError, match="not a signing key"):
            check_key_attributes(public)


def test_boots_have_the_recorded_names(boots):
    seen = 0
    for folder in sorted(boots.iterdir()):
        if (folder / "ak.pub").exists():
            public = parse_public((folder / "ak.pub").read_bytes(), source=folder.name)
            assert public.name == (folder / "ak.name").read_bytes()
            assert public.key == load_public_key((folder / "ak.pem").read_bytes(), source="ak.pem")
            check_key_attributes(public)
            seen += 1
    assert seen >= 16


def test_exponent_of_zero_means_the_default(modulus):
    assert parse_public(rsa_area(modulus), source="p").exponent == 65537
    assert parse_public(rsa_area(modulus, exponent=3), source="p").key.public_numbers().e == 3


@pytest.mark.parametrize(
    ("bit", "why"),
    [
        (1 << 16, "not restricted"),
        (1 << 18, "not a signing key"),
        (1 << 17, "may decrypt"),
        (1 << 1, "not fixedTPM"),
        (1 << 4, "not fixedParent"),
        (1 << 5, "sensitiveDataOrigin"),
    ],
)
def test_each_attribute_is_needed(modulus, bit, why):
    check_key_attributes(parse_public(rsa_area(modulus), source="p"))
    public = parse_public(rsa_area(modulus, attributes=GOOD ^ bit), source="p")
    with pytest.raises(VerificationError, match=why) as caught:
        check_key_attributes(public)
    assert caught.value.code == "attestation-key-unsuitable"


@pytest.mark.parametrize("scheme", [b"\x00\x10", b"\x00\x15", b"\x00\x17\x00\x0b"])
def test_scheme_that_does_not_sign(modulus, scheme):
    with pytest.raises(VerificationError, match="its scheme is"):
        check_key_attributes(parse_public(rsa_area(modulus, scheme=scheme), source="p"))


def test_name_by_sha1(modulus):
    public = parse_public(rsa_area(modulus, name_alg=4), source="p")
    assert public.name == b"\0\4" + hashlib.sha1(public.raw).digest()
    with pytest.raises(VerificationError, match="name is by sha1"):
        check_key_attributes(public)


def test_rsa_1024_is_read_and_refused():
    key = rsa.generate_private_key(65537, 1024).public_key()
    public = parse_public(rsa_area(key.public_numbers().n.to_bytes(128, "big")), source="p")
    with pytest.raises(VerificationError, match="1024 bits") as caught:
        check_key_attributes(public)
    assert caught.value.code == "attestation-key-unsuitable"


def test_curve_that_no_quote_is_by():
    with pytest.raises(VerificationError, match="secp256k1"):
        check_key_strength(ec.generate_private_key(ec.SECP256K1()).public_key())


@pytest.mark.parametrize(("kind", "word"), [(8, "keyedhash"), (0x25, "symcipher"), (0x99, "TPM2B_PUBLIC")])
def test_object_without_a_public_key(modulus, kind, word):
    with pytest.raises(ParseError, match=word):
        parse_public(rsa_area(modulus, kind=kind), source="p")
    with pytest.raises(ParseError, match="type"):
        parse_public(tpm2b(rsa_area(modulus, kind=kind)), source="p")


@pytest.mark.parametrize(
    "change",
    [
        {"name_alg": 0x10},
        {"name_alg": 0},
        {"attributes": GOOD | 1},
        {"attributes": GOOD | 1 << 31},
        {"policy": bytes(65)},
        {"symmetric": b"\x00\x0a"},
        {"scheme": b"\x00\x18\x00\x0b"},
        {"scheme": b"\x00\x05\x00\x0b"},
        {"scheme": b"\x00\x14\x00\x10"},
        {"bits": 2047},
        {"bits": 1024},
        {"bits": 0},
        {"exponent": 1},
        {"exponent": 65536},
    ],
    ids=str,
)
def test_field_that_no_tpm_writes(modulus, change):
    with pytest.raises(ParseError):
        parse_public(rsa_area(modulus, **change), source="p")


@pytest.mark.parametrize("bad", ["zero", "even", "short", "empty", "huge"])
def test_modulus_wrong(modulus, bad):
    value = {
        "zero": bytes(256),
        "even": modulus[:-1] + bytes([modulus[-1] & 0xFE]),
        "short": b"\0" + modulus[1:],
        "empty": b"",
        "huge": b"\xff" * 1025,
    }[bad]
    with pytest.raises(ParseError, match=r"unique\.rsa"):
        parse_public(rsa_area(value, bits=min(8 * len(value), 65535)), source="p")


def test_point_off_the_curve(made):
    data = bytearray(made["ecdsa-p256"].public)
    data[-1] ^= 1
    with pytest.raises(ParseError, match="not a point"):
        parse_public(bytes(data), source="p")


def test_curve_unknown(made):
    data = made["ecdsa-p256"].public
    at = data.index(u16(3) + u16(0x10) + u16(32))
    for curve in (0, 1, 0x10, 0x20):
        with pytest.raises(ParseError, match="curveID"):
            parse_public(data[:at] + u16(curve) + data[at + 2 :], source="p")


def test_every_truncation_point_and_trailing(made):
    for name in ("rsassa-sha256", "ecdsa-p384"):
        for data in (made[name].public, made[name].public[2:]):
            for end in range(len(data)):
                with pytest.raises(ParseError):
                    parse_public(data[:end], source="p")
            with pytest.raises(ParseError):
                parse_public(data + b"\0", source="p")


@settings(deadline=None, max_examples=200)
@given(
    data=st.binary(max_size=200),
    prefix=st.sampled_from([b"", b"\0\1\0\x0b\0\5\0\x72\0\0", b"\0\x23\0\x0b\0\5\0\x72\0\0"]),
)
def test_hostile_bytes_only_raise_our_errors(data, prefix):
    for read in (parse_public, load_public_key):
        try:
            read(prefix + data, source="p")
        except CvmlabError:
            continue


@settings(deadline=None, max_examples=150)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_change_changes_the_name(modulus, position, flip):
    data = bytearray(rsa_area(modulus))
    data[position % len(data)] ^= flip
    try:
        changed = parse_public(bytes(data), source="p")
    except CvmlabError:
        return
    assert changed.name != parse_public(rsa_area(modulus), source="p").name


def certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ak")])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(9))
    return builder.sign(key, hashes.SHA256())


def test_loads_every_form_of_a_key(ec_key):
    public, cert = ec_key.public_key(), certificate(ec_key)
    chain = cert.public_bytes(PEM) + certificate(ec.generate_private_key(ec.SECP256R1())).public_bytes(PEM)
    forms = (
        public.public_bytes(PEM, SPKI),
        public.public_bytes(DER, SPKI),
        cert.public_bytes(DER),
        chain,
        b"\n" + chain,
    )
    for form in forms:
        assert load_public_key(form, source="k") == public
    assert spki_sha256(public) == hashlib.sha256(public.public_bytes(DER, SPKI)).hexdigest()


def test_private_key_is_refused(ec_key):
    data = ec_key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(ParseError, match="PRIVATE KEY"):
        load_public_key(data, source="k")


def test_key_of_a_type_that_no_tpm_quotes_with():
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(ParseError, match="neither an RSA nor an ECC key"):
        load_public_key(key.public_bytes(PEM, SPKI), source="k")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN ",
        b"-----BEGIN CERTIFICATE-----\nAA",
        b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        b"\x30\x00",
        bytes(70_000),
    ],
    ids=["empty", "label_cut", "block_cut", "block_empty", "sequence_empty", "too_large"],
)
def test_not_a_key(data):
    with pytest.raises(ParseError):
        load_public_key(data, source="k")
