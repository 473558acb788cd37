from __future__ import annotations

import base64
import json

import jwt
import pytest
import token_maker as make
from hypothesis import given
from hypothesis import strategies as st

from cvmlab.errors import ParseError
from cvmlab.tokens.jws import MAX_DEPTH, MAX_TOKEN, decode_segment, looks_like_token, parse_token, read_token

GOOD = make.token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")


def encoded(value: object) -> bytes:
    return make.b64(value if isinstance(value, bytes) else json.dumps(value).encode()).encode()


def with_payload(payload: bytes) -> bytes:
    return b".".join([HEADER, encoded(payload), SIGNATURE])


def with_header(**members: object) -> bytes:
    return b".".join([encoded({"alg": "RS256", "kid": "k1", **members}), PAYLOAD, SIGNATURE])


def test_what_pyjwt_reads_is_what_is_read() -> None:
    found = read_token(GOOD, source="token.jwt")
    theirs = jwt.decode_complete(GOOD, options={"verify_signature": False})
    assert found.claims == theirs["payload"]
    assert found.header == theirs["header"]
    assert found.signature == theirs["signature"]
    assert found.kid == "k1"
    assert found.algorithm == "RS256"
    assert found.issuer == make.ISSUER
    assert found.signing_input + b"." + SIGNATURE == GOOD


@pytest.mark.parametrize(
    "data",
    [
        GOOD + b"\n",
        b"  " + GOOD + b"\r\n",
        json.dumps({"token": GOOD.decode()}).encode(),
        json.dumps({"AttestationToken": GOOD.decode(), "HealthStatus": "Healthy"}, indent=2).encode(),
    ],
    ids=["line_break", "spaces", "answer", "health_report"],
)
def test_a_file_holds_the_token_or_the_services_answer(data: bytes) -> None:
    assert looks_like_token(data)
    assert read_token(data, source="token.jwt").claims == read_token(GOOD, source="token.jwt").claims


PARTS = {
    "empty": b"",
    "one_part": b"eyJhbGciOiJSUzI1NiJ9",
    "two_parts": HEADER + b"." + PAYLOAD,
    "four_parts": GOOD + b"." + SIGNATURE,
    "encrypted_five_parts": b".".join([HEADER] * 5),
    "padding": b".".join([HEADER, PAYLOAD, SIGNATURE + b"=="]),
    "standard_alphabet": b".".join([HEADER, PAYLOAD, b"+/" + SIGNATURE[2:]]),
    "space_inside": b".".join([HEADER, b" " + PAYLOAD, SIGNATURE]),
    "line_break_inside": b".".join([HEADER, PAYLOAD[:8] + b"\n" + PAYLOAD[8:], SIGNATURE]),
    "length_that_cannot_be": b".".join([HEADER, PAYLOAD, b"A"]),
    "bits_left_over": b".".join([HEADER, PAYLOAD, b"AB"]),
    "not_ascii": b".".join([HEADER, PAYLOAD, "é".encode()]),
    "too_large": b".".join([HEADER, b"A" * MAX_TOKEN, SIGNATURE]),
    "signature_too_large": b".".join([HEADER, PAYLOAD, b"AAAA" * 1000]),
    "header_too_large": b".".join([encoded({"alg": "RS256", "x": "x" * 70_000}), PAYLOAD, SIGNATURE]),
    "two_signatures": json.dumps(
        {
            "payload": PAYLOAD.decode(),
            "signatures": [{"protected": HEADER.decode(), "signature": SIGNATURE.decode()}] * 2,
        }
    ).encode(),
    "flattened": json.dumps(
        {"payload": PAYLOAD.decode(), "protected": HEADER.decode(), "signature": SIGNATURE.decode()}
    ).encode(),
    "answer_with_two_tokens": json.dumps(
        {"token": GOOD.decode(), "AttestationToken": GOOD.decode()}
    ).encode(),
    "answer_names_token_twice": b'{"token":"%s","token":"%s"}' % (GOOD, GOOD),
    "answer_with_a_number": b'{"token": 1}',
    "answer_is_an_error": b'{"error": {"code": "PolicyEvaluationError"}}',
    "answer_is_a_list": b'{"token": []}',
}
HEADERS = {
    "crit": {"crit": ["exp"]},
    "crit_empty": {"crit": []},
    "b64_false": {"b64": False},
    "b64_true": {"b64": True},
    "zip": {"zip": "DEF"},
    "enc": {"enc": "A256GCM"},
    "alg_missing": {"alg": None},
    "alg_number": {"alg": 256},
    "alg_list": {"alg": ["RS256"]},
    "alg_empty": {"alg": ""},
    "kid_number": {"kid": 1},
    "kid_huge": {"kid": "k" * 4000},
    "jku_list": {"jku": [make.ISSUER]},
}
PAYLOADS = {
    "list": b"[]",
    "text": b'"a"',
    "not_json": b"{",
    "trailing": b'{"a": 1} x',
    "byte_order_mark": b'\xef\xbb\xbf{"a": 1}',
    "not_utf8": b'{"a": "\xff"}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "key_twice": b'{"secureboot": true, "secureboot": false}',
    "nested_key_twice": b'{"x-ms-isolation-tee": {"vmpl": 0, "vmpl": 1}}',
    "key_twice_by_escape": b'{"exp": 1, "\\u0065xp": 2}',
    "nan": b'{"exp": NaN}',
    "infinity": b'{"exp": Infinity}',
    "number_beyond_floats": b'{"exp": 1e999}',
    "number_of_5000_digits": b'{"exp": ' + b"9" * 5000 + b"}",
    "half_a_character": b'{"a": "\\ud800"}',
    "half_a_character_in_a_name": b'{"\\udfff": 1}',
    "deep": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "deeper_than_the_stack": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many_values": b'{"a": [' + b"1," * 20_000 + b"1]}",
}


@pytest.mark.parametrize("name", PARTS)
def test_text_that_is_no_compact_token_is_refused(name: str) -> None:
    with pytest.raises(ParseError):
        read_token(PARTS[name], source="token.jwt")


@pytest.mark.parametrize("name", HEADERS)
def test_header_that_asks_for_more_is_refused(name: str) -> None:
    with pytest.raises(ParseError):
        read_token(with_header(**HEADERS[name]), source="token.jwt")


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_that_is_no_plain_object_is_refused(name: str) -> None:
    with pytest.raises(ParseError):
        read_token(with_payload(PAYLOADS[name]), source="token.jwt")


def test_the_encrypted_answer_to_a_guest_says_what_it_is() -> None:
    answer = base64.b64encode(json.dumps({"EncryptedInnerKey": "AA", "Jwt": "AA"}).encode())
    with pytest.raises(ParseError, match="TPM decrypts"):
        read_token(answer, source="token.jwt")


def test_an_error_names_the_place() -> None:
    with pytest.raises(ParseError) as caught:
        parse_token(HEADER + b".A*." + SIGNATURE, source="token.jwt")
    assert (caught.value.offset, caught.value.field) == (len(HEADER) + 2, "payload")


@given(st.binary(max_size=400))
def test_every_value_has_one_spelling(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).rstrip(b"=")
    assert decode_segment(text, "payload", 0, "t") == data
    if len(text) % 4:
        last = text[-1:]
        for other in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            spelled = text[:-1] + bytes([other])
            if bytes([other]) != last and base64.urlsafe_b64decode(spelled + b"=" * (-len(text) % 4)) == data:
                with pytest.raises(ParseError):
                    decode_segment(spelled, "payload", 0, "t")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=10), JSON, max_size=6))
def test_any_claims_come_back_and_are_judged(claims: dict[str, object]) -> None:
    from cvmlab.tokens.claims import judge_claims

    try:
        found = parse_token(with_payload(json.dumps(claims).encode()), source="t")
    except ParseError:
        return  # half a character in a nested text
    assert found.claims == claims
    rows = judge_claims(found)
    assert all(json.loads(row.value) is not ... for row in rows if row.status != "absent")


@given(st.binary(max_size=200) | st.text('eyJ.{}"A=-_\\:,', max_size=120).map(str.encode))
def test_bytes_that_are_no_token_never_crash(data: bytes) -> None:
    looks_like_token(data)
    with pytest.raises(ParseError):
        read_token(data, source="t")
