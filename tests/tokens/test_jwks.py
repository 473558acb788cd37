from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import token_maker as make
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cvmlab.errors import ParseError
from cvmlab.tokens.jwks import MAX_KEYS, parse_jwks

if TYPE_CHECKING:
    from pathlib import Path

RSA, EC = make.private_key(), make.private_key("p256")


def only(entry: dict) -> object:
    (key,) = parse_jwks(make.jwks(entry), source="certs.json")
    return key


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])
@pytest.mark.parametrize("bare", [True, False], ids=["numbers", "certificate"])
def test_a_key_is_the_one_that_openssl_reads(kind: str, bare: bool, tmp_path: Path) -> None:
    private = make.private_key(kind)
    key = only(make.jwk(private, bare=bare))
    assert key.problem == ""
    file = tmp_path / "c.der"
    file.write_bytes(make.certificate(private))
    done = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-in", str(file), "-noout", "-pubkey"],
        capture_output=True,
        check=True,
    )
    theirs = base64.b64decode(b"".join(done.stdout.splitlines()[1:-1]))
    assert key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == theirs
    assert key.spki_sha256 == hashlib.sha256(theirs).hexdigest()


def test_numbers_and_certificate_of_one_key_agree() -> None:
    assert only(make.jwk(RSA) | make.numbers(RSA)).problem == ""


def test_a_single_key_is_read_too() -> None:
    (key,) = parse_jwks(json.dumps(make.jwk(RSA)).encode(), source="key.json")
    assert key.kid == "k1"


UNUSABLE = {
    "certificate_of_another_key": make.jwk(RSA) | make.numbers(make.private_key("rsa-ak")),
    "curve_differs_from_certificate": make.jwk(EC) | make.numbers(make.private_key("p384")),
    "shared_secret": {"kty": "oct", "kid": "k1", "k": "c2VjcmV0"},
    "private_key": make.jwk(RSA, bare=True) | {"d": "AQAB"},
    "for_encryption": make.jwk(RSA, use="enc"),
    "for_wrapping": make.jwk(RSA, key_ops=["wrapKey"]),
    "type_differs": make.jwk(RSA) | {"kty": "EC"},
    "type_missing": {k: v for k, v in make.jwk(RSA).items() if k != "kty"},
    "type_unknown": {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "k1"},
    "curve_not_used": make.jwk(make.private_key("p521"), bare=True),
    "curve_not_used_in_certificate": make.jwk(make.private_key("p521")),
    "rsa_too_short": make.jwk(make.private_key("rsa-short"), bare=True),
    "no_key": {"kty": "RSA", "kid": "k1"},
    "exponent_missing": {"kty": "RSA", "kid": "k1", "n": make.numbers(RSA)["n"]},
    "exponent_one": {"kty": "RSA", "n": make.numbers(RSA)["n"], "e": "AQ"},
    "exponent_even": {"kty": "RSA", "n": make.numbers(RSA)["n"], "e": "BA"},
    "modulus_zero": {"kty": "RSA", "n": "AA", "e": "AQAB"},
    "modulus_padded": {"kty": "RSA", "n": make.numbers(RSA)["n"] + "==", "e": "AQAB"},
    "modulus_number": {"kty": "RSA", "n": 3, "e": "AQAB"},
    "point_off_curve": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"},
    "x5c_text": {"kty": "RSA", "x5c": "AAAA"},
    "x5c_empty": {"kty": "RSA", "x5c": []},
    "x5c_too_long": {"kty": "RSA", "x5c": ["AAAA"] * 11},
    "x5c_not_base64": {"kty": "RSA", "x5c": ["*"]},
    "x5c_base64url": {"kty": "RSA", "x5c": [make.b64(make.certificate(RSA)) + "-_"]},
    "x5c_not_a_certificate": {"kty": "RSA", "x5c": ["AAAA"]},
    "x5c_number": {"kty": "RSA", "x5c": [1]},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_cannot_be_used_says_why_and_the_others_stay(name: str) -> None:
    bad, good = parse_jwks(make.jwks(UNUSABLE[name], make.jwk(EC, "k2")), source="certs.json")
    assert bad.key is None
    assert bad.problem.startswith("keys[0]: ")
    assert good.key is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        make.jwks(*[{}] * (MAX_KEYS + 1)),
        b'{"jwks_uri": "https://sharedeus.eus.attest.azure.net/certs"}',
    ],
    ids=["empty", "list", "no_keys", "keys_an_object", "keys_twice", "too_many", "openid_document"],
)
def test_a_file_that_is_no_set_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_jwks(data, source="certs.json")


@given(
    st.dictionaries(
        st.sampled_from(["kty", "n", "e", "x5c", "kid", "crv", "x", "y", "use"]), st.text(max_size=9)
    )
)
def test_no_entry_crashes(entry: dict[str, str]) -> None:
    only(entry)
