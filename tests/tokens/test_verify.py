from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import token_maker as make
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cvmlab.errors import MissingExtraError, VerificationError
from cvmlab.tokens.jwks import parse_jwks
from cvmlab.tokens.jws import read_token
from cvmlab.tokens.report import judge_token
from cvmlab.tokens.verify import ALGORITHMS, check_issuer, check_time, verify_signature

if TYPE_CHECKING:
    from pathlib import Path

KIND = {"RS": "rsa", "PS": "rsa", "ES256": "p256", "ES384": "p384"}


def key_for(algorithm: str):
    return make.private_key(KIND.get(algorithm) or KIND[algorithm[:2]])


def read(data: bytes):
    return read_token(data, source="token.jwt")


def keys(*entries: dict):
    return parse_jwks(make.jwks(*entries), source="certs.json")


def refuse(data: bytes, *entries: dict) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_signature(read(data), keys(*entries))
    assert caught.value.code == "token-signature-invalid"
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("bare", [True, False], ids=["numbers", "certificate"])
def test_each_pinned_algorithm_verifies(algorithm: str, bare: bool) -> None:
    private = key_for(algorithm)
    signed = read(make.token(key=private, alg=algorithm))
    assert verify_signature(signed, keys(make.jwk(private, bare=bare))).kid == "k1"


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS384", "ES256", "ES384"])
@pytest.mark.parametrize("changed", [False, True], ids=["as_signed", "claims_changed"])
def test_openssl_agrees(algorithm: str, changed: bool, tmp_path: Path) -> None:
    private = key_for(algorithm)
    data = make.token(key=private, alg=algorithm)
    if changed:
        header, payload, signature = data.split(b".")
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=="))
        payload = make.b64(json.dumps({**claims, "secureboot": False}).encode()).encode()
        data = b".".join([header, payload, signature])
    found = read(data)
    for name, content in (
        ("key.pem", private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        ("signature", found.signature if algorithm[0] != "E" else _der(found.signature)),
        ("text", found.signing_input),
    ):
        (tmp_path / name).write_bytes(content)
    command = ["openssl", "dgst", f"-sha{algorithm[2:]}", "-verify", "key.pem", "-signature", "signature"]
    if algorithm[0] == "P":
        command += ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]
    theirs = (
        subprocess.run([*command, "text"], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    )
    assert theirs is not changed
    if theirs:
        verify_signature(found, keys(make.jwk(private)))
    else:
        refuse(data, make.jwk(private))


def _der(raw: bytes) -> bytes:
    """r and s as the DER that openssl wants (RFC 3279, section 2.2.3)."""
    body = b""
    for part in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
        part = part.lstrip(b"\0") or b"\0"
        part = b"\0" + part if part[0] & 0x80 else part
        body += b"\x02" + bytes([len(part)]) + part
    return b"\x30" + bytes([len(body)]) + body


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
def test_each_bit_of_the_signature_counts(algorithm: str) -> None:
    private = key_for(algorithm)
    text, signature = make.token(key=private, alg=algorithm).rsplit(b".", 1)
    raw = base64.urlsafe_b64decode(signature + b"==")
    given = keys(make.jwk(private))
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError):
            verify_signature(read(text + b"." + make.b64(bytes(flipped)).encode()), given)


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "zeros", "other_key", "der"])
def test_a_wrong_signature_is_refused(change: str) -> None:
    private = key_for("ES256")
    text, signature = make.token(key=private, alg="ES256").rsplit(b".", 1)
    raw = base64.urlsafe_b64decode(signature + b"==")
    wrong = {
        "cut": raw[:-1],
        "longer": raw + b"\0",
        "empty": b"",
        "zeros": bytes(64),
        "other_key": make.signature(make.private_key("p256-other"[:4]), "ES256", b"another text"),
        "der": _der(raw),
    }[change]
    refuse(text + b"." + make.b64(wrong).encode(), make.jwk(private))


def hmac_token(secret: bytes, algorithm: str = "HS256") -> bytes:
    header = make.b64(json.dumps({"alg": algorithm, "kid": "k1"}).encode())
    text = f"{header}.{make.b64(json.dumps(make.guest()).encode())}".encode()
    return text + b"." + make.b64(hmac.digest(secret, text, hashlib.sha256)).encode()


@pytest.mark.parametrize("form", ["pem", "der", "certificate"])
def test_the_public_key_is_no_shared_secret(form: str) -> None:
    private = make.private_key()
    public = private.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "certificate": make.certificate(private),
    }[form]
    assert "'HS256' is not accepted" in refuse(hmac_token(secret), make.jwk(private))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", [b"", b"AAAA"], ids=["unsigned", "signed"])
def test_none_is_refused_with_and_without_keys(algorithm: str, signature: bytes) -> None:
    header = make.b64(json.dumps({"alg": algorithm}).encode()).encode()
    data = header + b"." + make.token().split(b".")[1] + b"." + signature
    assert "is not signed" in refuse(data, make.jwk(make.private_key()))
    report = judge_token(read(data), None, at=make.AT)
    assert report["signature"].status == "broken"
    assert not report.vouched


@pytest.mark.parametrize(
    "algorithm", ["rs256", "RS1", "ES512", "ES256K", "EdDSA", "HS512", "RSA-OAEP", " RS256"]
)
def test_an_algorithm_that_is_not_pinned_is_refused(algorithm: str) -> None:
    refuse(make.token(header={"alg": algorithm}), make.jwk(make.private_key()))


CONFUSED = {
    "rsa_key_for_es256": ("ES256", "p256", "rsa"),
    "ec_key_for_rs256": ("RS256", "rsa", "p256"),
    "p384_key_for_es256": ("ES256", "p256", "p384"),
    "p256_key_for_es384": ("ES384", "p384", "p256"),
}


@pytest.mark.parametrize("name", CONFUSED)
def test_a_key_of_another_kind_is_refused(name: str) -> None:
    algorithm, signer, given = CONFUSED[name]
    data = make.token(key=make.private_key(signer), alg=algorithm)
    assert f"is not for {algorithm}" in refuse(data, make.jwk(make.private_key(given)))


def test_a_key_pinned_to_another_algorithm_is_refused() -> None:
    private = make.private_key()
    refuse(make.token(key=private, alg="PS256"), make.jwk(private, alg="RS256"))
    verify_signature(read(make.token(key=private)), keys(make.jwk(private, alg="RS256")))


RSA, OTHER = make.private_key(), make.private_key("rsa-ak")


def test_the_key_that_the_token_brings_along_is_not_used() -> None:
    x5c = [base64.b64encode(make.certificate(OTHER)).decode()]
    header = {"x5c": x5c, "jwk": {"kty": "RSA", **make.numbers(OTHER)}, "x5u": "https://evil.example/c.pem"}
    refuse(make.token(key=OTHER, header=header), make.jwk(RSA))


def test_keys_that_differ_under_one_name_leave_open_who_signed() -> None:
    assert "2 different keys" in refuse(make.token(), make.jwk(RSA), make.jwk(OTHER))


def test_one_key_twice_under_one_name_is_one_key() -> None:
    verify_signature(read(make.token()), keys(make.jwk(RSA), make.jwk(RSA, bare=True)))


def test_keys_of_one_name_are_told_apart_by_kind() -> None:
    verify_signature(read(make.token()), keys(make.jwk(make.private_key("p256")), make.jwk(RSA)))


def test_a_name_that_no_key_has_is_refused() -> None:
    assert "none of the 1 keys" in refuse(make.token(header={"kid": "k2"}), make.jwk(RSA))
    assert "none of the 1 keys" in refuse(make.token(), make.jwk(RSA, None))
    refuse(make.token(), {"kty": "oct", "kid": "k1", "k": "AAAA"})


def test_a_token_without_name_takes_the_only_key_that_fits() -> None:
    unnamed = make.token(header={"kid": None})
    assert (
        verify_signature(read(unnamed), keys(make.jwk(make.private_key("p256"), "k2"), make.jwk(RSA))).kid
        == "k1"
    )
    assert "different keys" in refuse(unnamed, make.jwk(RSA), make.jwk(OTHER, "k2"))
    refuse(make.token(key=OTHER, header={"kid": None}), make.jwk(RSA))


@pytest.mark.parametrize(("name", "algorithm"), [("x5t", "sha1"), ("x5t#S256", "sha256")])
def test_a_thumbprint_names_the_certificate(name: str, algorithm: str) -> None:
    der = make.certificate(RSA)
    print_ = make.b64(hashlib.new(algorithm, der).digest())
    given = [make.jwk(RSA, "a", certified=der), make.jwk(OTHER, "b")]
    assert verify_signature(read(make.token(header={"kid": None, name: print_})), keys(*given)).kid == "a"
    refuse(make.token(header={"kid": None, name: make.b64(b"x" * 32)}), *given)


def test_a_key_whose_numbers_and_certificate_differ_is_not_used() -> None:
    assert "another key" in refuse(make.token(), make.jwk(RSA) | make.numbers(OTHER))


def check(name: str, data: bytes, *entries: dict, at=make.AT):
    return judge_token(read(data), keys(*entries) if entries else None, at=at)[name]


def test_without_keys_nothing_is_verified() -> None:
    report = judge_token(read(make.token()), None, at=make.AT)
    assert report["signature"].status == "not-checked"
    assert not report.vouched
    empty = judge_token(read(make.token()), (), at=make.AT)
    assert empty["signature"].status == "broken"


def test_a_signing_certificate_that_was_out_of_date_at_issue() -> None:
    for span in (
        {"start": make.ISSUED - timedelta(days=9), "end": make.ISSUED - timedelta(days=1)},
        {"start": make.ISSUED + timedelta(days=1), "end": make.ISSUED + timedelta(days=9)},
    ):
        found = check("certificate", make.token(), make.jwk(RSA, certified=make.certificate(RSA, **span)))
        assert (found.status, found.code) == ("broken", "token-expired")


def test_a_signing_certificate_that_is_out_of_date_now_is_said() -> None:
    end = make.ISSUED + timedelta(minutes=30)
    found = check("certificate", make.token(), make.jwk(RSA, certified=make.certificate(RSA, end=end)))
    assert found.status == "holds"
    assert "it is not" in found.why


def test_a_key_without_certificate_has_no_validity() -> None:
    assert check("certificate", make.token(), make.jwk(RSA, bare=True)).status == "not-applicable"


ISSUED = int(make.ISSUED.timestamp())
TIMES = {
    "expired": ({"exp": ISSUED}, "token-expired"),
    "not_yet": ({"nbf": ISSUED + 7200}, "token-expired"),
    "issued_in_the_future": ({"iat": ISSUED + 7200}, "token-expired"),
    "exp_text": ({"exp": str(ISSUED + 7200)}, "token-claim-failed"),
    "exp_float": ({"exp": ISSUED + 7200.5}, "token-claim-failed"),
    "exp_true": ({"exp": True}, "token-claim-failed"),
    "exp_null": ({"exp": None}, "token-claim-failed"),
    "exp_negative": ({"exp": -1}, "token-claim-failed"),
    "exp_beyond_the_calendar": ({"exp": 10**15}, "token-claim-failed"),
    "exp_list": ({"exp": [ISSUED + 7200]}, "token-claim-failed"),
    "nbf_text": ({"nbf": "0"}, "token-claim-failed"),
    "iat_null": ({"iat": None}, "token-claim-failed"),
}


@pytest.mark.parametrize("name", TIMES)
def test_a_token_out_of_its_time_is_refused(name: str) -> None:
    changes, code = TIMES[name]
    found = check_time(read(make.token(make.guest(**changes))), make.AT)
    assert (found.status, found.code) == ("broken", code)


def test_a_token_without_end_is_refused() -> None:
    claims = make.guest()
    del claims["exp"]
    assert check_time(read(make.token(claims)), make.AT).code == "token-claim-failed"


def test_clocks_may_be_five_minutes_apart() -> None:
    token, end = read(make.token()), make.ISSUED + timedelta(hours=8)
    for at, status in (
        (make.ISSUED - timedelta(seconds=300), "holds"),
        (make.ISSUED - timedelta(seconds=301), "broken"),
        (end + timedelta(seconds=299), "holds"),
        (end + timedelta(seconds=300), "broken"),
    ):
        assert check_time(token, at).status == status


BAD_ISSUERS = [
    "http://sharedeus.eus.attest.azure.net",
    "https://attest.azure.net.evil.example",
    "https://evil.example/attest.azure.net",
    "https://evilattest.azure.net",
    "https://evil.example#.attest.azure.net",
    "https://evil.example?.attest.azure.net",
    "https://user@x.attest.azure.net",
    "https://x.attest.azure.net:8443",
    "https://x.attest.azure.net/path",
    "https://x.attest.azure.net\n",
    "https://x.attest.azure.net\\@evil.example",
    "https://аttest.x.attest.azure.net",
    "https://attest.azure.net",
    "https://-x-.attest.azure.net",
    "x.attest.azure.net",
    "",
    None,
    7,
    ["https://sharedeus.eus.attest.azure.net"],
]


@pytest.mark.parametrize("issuer", BAD_ISSUERS, ids=repr)
def test_an_issuer_that_is_no_provider_is_refused(issuer: object) -> None:
    token = read(make.token(make.guest(iss=issuer), header={"jku": None}))
    found = check_issuer(token)
    assert (found.status, found.code) == ("broken", "token-claim-failed")


@pytest.mark.parametrize(
    "issuer",
    [
        "https://sharedeus.eus.attest.azure.net",
        "https://sharedeus.eus.test.attest.azure.net/",
        "https://SharedEus.Eus.Attest.Azure.Net",
        "https://sharedugv.ugv.attest.azure.us",
    ],
)
def test_providers_of_azure_are_accepted(issuer: str) -> None:
    token = read(make.token(make.guest(iss=issuer), header={"jku": f"{issuer.rstrip('/')}/certs"}))
    assert check_issuer(token).status == "holds"


def test_the_issuer_that_is_named_alone_counts() -> None:
    token = read(make.token())
    assert check_issuer(token, [make.ISSUER + "/"]).status == "holds"
    assert check_issuer(token, ["https://other.eus.attest.azure.net"]).status == "broken"
    theirs = make.guest(iss="https://portal.trustauthority.intel.com")
    elsewhere = read(make.token(theirs, header={"jku": "https://portal.trustauthority.intel.com/certs"}))
    assert check_issuer(elsewhere).status == "broken"
    assert check_issuer(elsewhere, ["https://portal.trustauthority.intel.com"]).status == "holds"


@pytest.mark.parametrize(
    "jku",
    [
        "https://evil.example/certs",
        "http://sharedeus.eus.attest.azure.net/certs",
        "https://other.eus.attest.azure.net/certs",
        "https://sharedeus.eus.attest.azure.net@evil.example/certs",
        "https://sharedeus.eus.attest.azure.net:8443/certs",
        "https://sharedeus.eus.attest.azure.net.evil.example/certs",
        "",
    ],
)
def test_a_header_that_points_elsewhere_for_keys_is_refused(jku: str) -> None:
    found = check_issuer(read(make.token(header={"jku": jku})))
    assert (found.status, found.code) == ("broken", "token-claim-failed")


def test_without_pyjwt_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "jwt" or name.startswith("jwt.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"cvmlab\[tokens\]"):
        verify_signature(read(make.token()), keys(make.jwk(RSA)))
