from __future__ import annotations

import json
import subprocess

import pytest
import token_maker as make
from hypothesis import given
from hypothesis import strategies as st

from cvmlab.errors import ParseError
from cvmlab.tokens.policy import Policy, matching_text, policy_hash, read_policy

TEXT = """version= 1.0;
authorizationrules
{
    [type=="secureboot", value==false] => deny();
    => permit();
};
issuancerules
{
};
"""


def by_openssl(text: str) -> str:
    """The rule of learn.microsoft.com/azure/attestation/claim-sets, step by step in a shell."""
    script = (
        "openssl base64 -A | tr '+/' '-_' | tr -d '=' | openssl dgst -sha256 -binary"
        " | openssl base64 -A | tr '+/' '-_' | tr -d '='"
    )
    done = subprocess.run(["sh", "-c", script], input=text.encode(), capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("text", [TEXT, "", "version= 1.2;", "é" * 7, TEXT.replace("\n", "\r\n")])
def test_openssl_gives_the_same_hash(text: str) -> None:
    assert policy_hash(text) == by_openssl(text)


def jws(claims: dict) -> bytes:
    return make.b64(b'{"alg":"none"}').encode() + b"." + make.b64(json.dumps(claims).encode()).encode() + b"."


INNER = jws({"AttestationPolicy": make.b64(TEXT.encode())})
FORMS = {
    "text": TEXT.encode(),
    "byte_order_mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "unsigned_upload": INNER,
    "signed_upload": make.token({"AttestationPolicy": make.b64(TEXT.encode())}),
    "padded": jws({"AttestationPolicy": make.b64(TEXT.encode()) + "=" * (-len(make.b64(TEXT.encode())) % 4)}),
    "policy_token": make.token({"x-ms-policy": INNER.decode()}),
    "answer": json.dumps({"token": make.token({"x-ms-policy": INNER.decode()}).decode()}).encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_policy_is_read_in_each_form(name: str) -> None:
    policy = read_policy(FORMS[name], source="policy")
    assert policy.text == TEXT
    assert policy.hash == by_openssl(TEXT)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        make.token(),
        jws({"AttestationPolicy": 7}),
        jws({"AttestationPolicy": "*"}),
        b"{}",
        b"eyJ",
    ],
    ids=["not_utf8", "token_without_policy", "number", "not_base64", "object", "start_of_a_token"],
)
def test_what_is_no_policy_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_policy(data, source="policy")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (TEXT, ""),
        (TEXT.rstrip("\n"), "without the line break at the end"),
        (TEXT.replace("\n", "\r\n"), "with line breaks of Windows"),
        (
            TEXT.rstrip("\n").replace("\n", "\r\n"),
            "with line breaks of Windows without the line break at the end",
        ),
    ],
)
def test_line_breaks_that_a_file_gained_or_lost_are_said(held: str, said: str) -> None:
    assert matching_text(Policy("p", TEXT), by_openssl(held)) == said


@given(st.text(max_size=60))
def test_another_text_has_another_hash(other: str) -> None:
    if other.replace("\r\n", "\n").rstrip("\r\n") != TEXT.rstrip("\n"):
        assert matching_text(Policy("p", TEXT), policy_hash(other)) is None
