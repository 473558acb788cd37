"""Signatures of real TPM keys, against openssl; forms that could be two things; schemes refused."""

from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.signature import TpmSignature, parse_signature, verify_signature

MESSAGE = b"what is signed"


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def tpmt_rsa(signature: bytes, scheme: int = 0x14, algorithm: int = 0x0B) -> bytes:
    return u16(scheme) + u16(algorithm) + u16(len(signature)) + signature


def tpmt_ecdsa(r: int, s: int, size: int = 32, algorithm: int = 0x0B) -> bytes:
    both = u16(size) + r.to_bytes(size, "big") + u16(size) + s.to_bytes(size, "big")
    return u16(0x18) + u16(algorithm) + both


def test_verifies_what_each_tpm_key_signed(made):
    for item in made.values():
        for key in (parse_public(item.public, source="ak"), load_public_key(item.pem, source="ak")):
            parsed = parse_signature(item.signature, source=item.name, key=key)
            assert (parsed.scheme, parsed.hash, parsed.plain) == (item.scheme, item.hash, False)
            verify_signature(key, parsed, item.message)
            assert parse_signature(item.signature, source=item.name) == parsed
            with pytest.raises(VerificationError) as caught:
                verify_signature(key, parsed, item.message + b"\0")
            assert caught.value.code == "quote-signature-invalid"


def test_verifies_plain_signatures_as_openssl_does(made):
    for item in made.values():
        options = ["-sigopt", "rsa_padding_mode:pss"] if item.scheme == "rsapss" else []
        command = [
            "openssl",
            "dgst",
            f"-{item.hash}",
            "-verify",
            "ak.pem",
            *options,
            "-signature",
            "plain.sig",
            "plain.msg",
        ]
        assert subprocess.run(command, cwd=item.folder, capture_output=True, check=False).returncode == 0
        key = parse_public(item.public, source="ak")
        parsed = parse_signature(item.plain_signature, source=item.name, key=key)
        assert (parsed.scheme, parsed.hash, parsed.plain) == (item.scheme, item.hash, True)
        verify_signature(key, parsed, item.plain_message)


def test_plain_signature_of_a_bare_key_takes_the_given_hash(made):
    item = made["rsassa-sha384"]
    key = load_public_key(item.pem, source="ak")
    parsed = parse_signature(item.plain_signature, source="s", key=key, default_hash="sha384")
    verify_signature(key, parsed, item.plain_message)
    with pytest.raises(VerificationError):
        verify_signature(key, parse_signature(item.plain_signature, source="s", key=key), item.plain_message)


@pytest.mark.parametrize("salt", [padding.PSS.MAX_LENGTH, padding.PSS.DIGEST_LENGTH, 0])
def test_pss_salt_of_any_length(rsa_key, salt):
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt)
    data = tpmt_rsa(rsa_key.sign(MESSAGE, pss, hashes.SHA384()), 0x16, 0x0C)
    verify_signature(rsa_key.public_key(), parse_signature(data, source="s"), MESSAGE)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_ecdsa_in_each_of_three_forms(curve):
    key = ec.generate_private_key(curve)
    der = key.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    size = (curve.key_size + 7) // 8
    raw = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    for known in (key.public_key(), None):
        for data in (der, raw, tpmt_ecdsa(r, s, size)):
            parsed = parse_signature(data, source="s", key=known)
            assert parsed.signature == (r, s)
            verify_signature(key.public_key(), parsed, MESSAGE)


def test_rsa_plain_without_a_key(rsa_key):
    data = rsa_key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    verify_signature(rsa_key.public_key(), parse_signature(data, source="s"), MESSAGE)


def test_bytes_that_are_two_forms(ec_key):
    # 64 bytes that are r and s at full width, and a DER sequence of two integers as well.
    r = (0x7F << 8 * 28) - 1
    s = (0x7F << 8 * 28) - 3
    der = encode_dss_signature(r, s)
    s = (1 << 8 * (29 + 64 - len(der)) - 2) - 1
    der = encode_dss_signature(r, s)
    assert len(der) == 64
    for key in (ec_key.public_key(), None):
        with pytest.raises(ParseError, match="more than one form"):
            parse_signature(der, source="s", key=key)
    # … and a TPMT_SIGNATURE with a short s.
    data = u16(0x18) + u16(0x0B) + u16(32) + bytes([1]) * 32 + u16(24) + bytes([1]) * 24
    with pytest.raises(ParseError, match="more than one form"):
        parse_signature(data, source="s", key=ec_key.public_key())


def test_rsa_signature_that_looks_like_tpmt(rsa_key):
    # As long as the modulus: plain, whatever it starts with.
    data = tpmt_rsa(bytes([1]) * 250)
    assert len(data) == 256
    assert parse_signature(data, source="s", key=rsa_key.public_key()).plain
    with pytest.raises(ParseError, match="more than one form"):
        parse_signature(data, source="s")


@pytest.mark.parametrize(
    ("scheme", "name"), [(0x05, "hmac"), (0x10, "null"), (0x1A, "ecdaa"), (0x1B, "sm2"), (0x1C, "ecschnorr")]
)
def test_scheme_that_does_not_attest(rsa_key, ec_key, scheme, name):
    for key in (rsa_key.public_key(), ec_key.public_key(), None):
        with pytest.raises(VerificationError, match=f"scheme {name}") as caught:
            parse_signature(u16(scheme) + u16(0x0B) + bytes(32), source="s", key=key)
        assert caught.value.code == "quote-signature-invalid"


def test_signature_by_sha1(rsa_key, ec_key):
    data = tpmt_rsa(rsa_key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA1()), algorithm=4)
    ecdsa = tpmt_ecdsa(*decode_dss_signature(ec_key.sign(MESSAGE, ec.ECDSA(hashes.SHA1()))), algorithm=4)
    for key, signature in ((rsa_key.public_key(), data), (ec_key.public_key(), ecdsa)):
        with pytest.raises(VerificationError, match="SHA-1") as caught:
            verify_signature(key, parse_signature(signature, source="s", key=key), MESSAGE)
        assert caught.value.code == "weak-hash-only"


@pytest.mark.parametrize("algorithm", [0x12, 0x27, 0x28, 0x29])
def test_hash_that_is_not_taken(rsa_key, algorithm):
    parsed = parse_signature(tpmt_rsa(bytes(255) + b"\1", algorithm=algorithm), source="s")
    with pytest.raises(VerificationError, match="need sha256") as caught:
        verify_signature(rsa_key.public_key(), parsed, MESSAGE)
    assert caught.value.code == "quote-signature-invalid"


def test_key_of_another_machine(made):
    first, other = made["rsassa-sha256"], made["rsassa-sha384"]
    parsed = parse_signature(first.signature, source="s")
    with pytest.raises(VerificationError, match="does not verify") as caught:
        verify_signature(load_public_key(other.pem, source="ak"), parsed, first.message)
    assert caught.value.code == "quote-signature-invalid"


def test_key_of_another_type(made, rsa_key, ec_key):
    for name, key in (("rsassa-sha256", ec_key), ("ecdsa-p256", rsa_key)):
        parsed = parse_signature(made[name].signature, source="s")
        with pytest.raises(VerificationError, match="but the key is"):
            verify_signature(key.public_key(), parsed, made[name].message)


def test_scheme_that_the_tpm_key_does_not_sign_with(made, rsa_key):
    # The same key without its public area would accept this; with it, no TPM made the signature.
    public = parse_public(made["rsassa-sha256"].public, source="ak")
    parsed = TpmSignature("rsapss", "sha256", bytes(256), False, b"")
    with pytest.raises(VerificationError, match="signs only rsassa by sha256"):
        verify_signature(public, parsed, MESSAGE)


def test_rsa_1024(ec_key):
    key = rsa.generate_private_key(65537, 1024)
    data = tpmt_rsa(key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256()))
    with pytest.raises(VerificationError) as caught:
        verify_signature(key.public_key(), parse_signature(data, source="s", key=key.public_key()), MESSAGE)
    assert caught.value.code == "attestation-key-unsuitable"


def test_signature_shorter_than_the_modulus(rsa_key):
    with pytest.raises(VerificationError, match="255 bytes"):
        verify_signature(
            rsa_key.public_key(), parse_signature(tpmt_rsa(bytes([1]) * 255), source="s"), MESSAGE
        )


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (0, 0)])
def test_r_or_s_zero(ec_key, r, s):
    with pytest.raises(ParseError, match="above zero"):
        parse_signature(tpmt_ecdsa(r, s), source="s", key=ec_key.public_key())
    raw = parse_signature(r.to_bytes(32, "big") + s.to_bytes(32, "big"), source="s", key=ec_key.public_key())
    with pytest.raises(VerificationError):
        verify_signature(ec_key.public_key(), raw, MESSAGE)


@pytest.mark.parametrize("size", [0, 1, 255, 257, 1024, 1025, 0xFFFF])
def test_size_field_at_its_edges(made, size):
    data = made["rsassa-sha256"].signature
    with pytest.raises(ParseError):
        parse_signature(data[:4] + u16(size) + data[6:], source="s")


def test_every_truncation_point_and_trailing(made):
    for name in ("rsassa-sha256", "ecdsa-p256"):
        item = made[name]
        key = parse_public(item.public, source="ak")
        for end in range(len(item.signature)):
            with pytest.raises(CvmlabError):
                verify_signature(
                    key, parse_signature(item.signature[:end], source="s", key=key), item.message
                )
        with pytest.raises(CvmlabError):
            verify_signature(key, parse_signature(item.signature + b"\0", source="s", key=key), item.message)


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(["rsassa-sha256", "rsapss-sha256", "ecdsa-p256", "ecdsa-p384"]),
    where=st.integers(0, 10_000),
    flip=st.integers(1, 255),
)
def test_any_change_breaks_the_signature(made, name, where, flip):
    item = made[name]
    data = bytearray(item.signature)
    data[where % len(data)] ^= flip
    key = load_public_key(item.pem, source="ak")
    with pytest.raises(CvmlabError):
        verify_signature(key, parse_signature(bytes(data), source="s", key=key), item.message)


@settings(deadline=None, max_examples=300)
@given(
    data=st.binary(max_size=280),
    prefix=st.sampled_from([b"", b"\0\x14\0\x0b", b"\0\x18\0\x0b\0\x20", b"\x30\x44\x02\x20"]),
)
def test_hostile_bytes_only_raise_our_errors(rsa_key, ec_key, data, prefix):
    for key in (rsa_key.public_key(), ec_key.public_key(), None):
        try:
            parsed = parse_signature(prefix + data, source="s", key=key)
            verify_signature(key or ec_key.public_key(), parsed, MESSAGE)
        except CvmlabError:
            continue
        raise AssertionError("random bytes verified")
