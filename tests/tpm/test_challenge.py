"""The three files of a challenge: what goes to the machine, what stays, what comes back."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quoting import ATTESTATION, key_name, public_area, software_key

from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm.challenge import (
    Challenge,
    ChallengeRecord,
    ChallengeResponse,
    activation_json,
    complete,
    make_challenge,
    read_challenge,
    read_record,
    read_response,
)
from cvmlab.tpm.credential import binds, parse_credential_activation
from cvmlab.tpm.public import parse_public

if TYPE_CHECKING:
    from collections.abc import Callable

# fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt (TCG EK profile, L-1)
ENDORSEMENT = 0x000300B2
EK_BYTES = public_area(software_key(1), ENDORSEMENT, scheme="null")
AK_BYTES = public_area(software_key(2), ATTESTATION)
EK = parse_public(EK_BYTES, source="ek.pub")
AK = parse_public(AK_BYTES, source="ak.pub")


@pytest.fixture(scope="module")
def made() -> tuple[Challenge, ChallengeRecord]:
    return make_challenge(EK, AK)


def _response(record: ChallengeRecord, secret: bytes | None = None) -> ChallengeResponse:
    return ChallengeResponse(
        record.id, record.ak_name, record.ek_public_sha256, record.secret if secret is None else secret
    )


def test_what_the_machine_gets_holds_no_secret(made: tuple[Challenge, ChallengeRecord]) -> None:
    challenge, record = made
    text = challenge.to_json()
    assert set(json.loads(text)) == {
        "schema", "id", "ak_name", "ek_public_sha256", "credential_blob", "encrypted_secret",
    }  # fmt: skip
    assert record.secret.hex() not in text
    assert record.secret not in challenge.credential.to_tools()
    assert len(record.secret) == 32
    for shown in (repr(record), repr(challenge), str(_response(record))):
        assert record.secret.hex() not in shown
        assert repr(record.secret) not in shown


def test_files_name_the_keys_as_the_specification_does(made: tuple[Challenge, ChallengeRecord]) -> None:
    challenge, record = made
    assert challenge.ak_name == record.ak_name == key_name(AK_BYTES)
    assert challenge.ek_public_sha256 == record.ek_public_sha256 == hashlib.sha256(EK_BYTES).digest()


def test_files_are_read_as_written(made: tuple[Challenge, ChallengeRecord]) -> None:
    challenge, record = made
    response = _response(record)
    assert read_challenge(challenge.to_json().encode(), source="c") == challenge
    assert read_record(record.to_json().encode(), source="r") == record
    assert read_response(response.to_json().encode(), source="a") == response


def test_the_secret_returned_binds(made: tuple[Challenge, ChallengeRecord]) -> None:
    record = made[1]
    text = activation_json(complete(record, _response(record)))
    assert set(json.loads(text)) == {"secret_sent", "secret_returned", "ak_name", "ek_public_sha256"}
    binds(parse_credential_activation(text.encode(), source="a"), AK.name, EK_BYTES)


@pytest.mark.parametrize("secret", [bytes(32), b"x", bytes(64)], ids=["zeros", "short", "long"])
def test_another_secret_binds_nothing(made: tuple[Challenge, ChallengeRecord], secret: bytes) -> None:
    record = made[1]
    text = activation_json(complete(record, _response(record, secret)))
    with pytest.raises(VerificationError, match="did not return the secret"):
        binds(parse_credential_activation(text.encode(), source="a"), AK.name, EK_BYTES)


def test_what_the_response_says_of_the_keys_does_not_count(made: tuple[Challenge, ChallengeRecord]) -> None:
    record = made[1]
    lying = ChallengeResponse(record.id, b"\x00\x0b" + bytes(32), bytes(32), record.secret)
    activation = complete(record, lying)
    assert activation.ak_name == key_name(AK_BYTES)
    assert activation.ek_public_sha256 == hashlib.sha256(EK_BYTES).digest()


def test_a_response_to_another_challenge_is_refused(made: tuple[Challenge, ChallengeRecord]) -> None:
    other = make_challenge(EK, AK)[1]
    with pytest.raises(VerificationError, match="is to the challenge"):
        complete(made[1], _response(other))


@pytest.mark.parametrize(
    "bit", [1, 4, 5, 16, 18], ids=["fixedTPM", "fixedParent", "origin", "restricted", "sign"]
)
def test_a_key_that_is_not_fit_to_attest_is_not_challenged(bit: int) -> None:
    public = parse_public(public_area(software_key(2), ATTESTATION & ~(1 << bit)), source="ak.pub")
    with pytest.raises(VerificationError) as caught:
        make_challenge(EK, public)
    assert caught.value.code == "attestation-key-unsuitable"


def test_no_challenge_is_made_to_a_signing_key() -> None:
    with pytest.raises(VerificationError, match="no credential can be made"):
        make_challenge(AK, AK)


READERS: dict[str, Callable[..., object]] = {
    "challenge": read_challenge, "record": read_record, "response": read_response,
}  # fmt: skip


def _texts(made: tuple[Challenge, ChallengeRecord]) -> dict[str, str]:
    return {
        "challenge": made[0].to_json(), "record": made[1].to_json(), "response": _response(made[1]).to_json(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
def test_each_value_is_needed_and_has_a_size(made: tuple[Challenge, ChallengeRecord], kind: str) -> None:
    value = json.loads(_texts(made)[kind])
    for name in value:
        for wrong in (None, "", "zz", "0", "00" * 2000, 7, [], {}):
            changed = {**value, name: wrong}
            if wrong is None:
                del changed[name]
            if name == "made" and wrong in ("", "zz", "0"):
                continue
            with pytest.raises(ParseError):
                READERS[kind](json.dumps(changed).encode(), source=kind)


@pytest.mark.parametrize("kind", READERS)
def test_one_file_does_not_pass_for_another(made: tuple[Challenge, ChallengeRecord], kind: str) -> None:
    for other, text in _texts(made).items():
        if other != kind:
            with pytest.raises(ParseError, match="schema"):
                READERS[kind](text.encode(), source=kind)


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for reader in READERS.values():
        with pytest.raises(CvmlabError):
            reader(data, source="x")
