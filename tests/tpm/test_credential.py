"""Credential activation: a real one made with tpm2-tools, and records that do not bind."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm.credential import binds, parse_credential_activation
from cvmlab.tpm.public import parse_public

NAME = "000b" + "ab" * 32


def record(**change: object) -> bytes:
    value = {
        "secret_sent": "5a" * 32,
        "secret_returned": "5a" * 32,
        "ak_name": NAME,
        "ek_public_sha256": "cd" * 32,
    }
    return json.dumps({**value, **change}).encode()


@pytest.fixture(scope="module")
def activated(soft_tpm):
    """The record of an activation that a TPM really made, the AK's name and the EK's public part."""
    tpm, folder = soft_tpm, soft_tpm.folder
    tpm("createek", "-Q", "-G", "rsa", "-c", "ca-ek.ctx", "-u", "ca-ek.pub")
    tpm.flush()
    tpm("createak", "-Q", "-C", "ca-ek.ctx", "-c", "ca-ak.ctx", "-u", "ca-ak.pub", "-n", "ca-ak.name")
    tpm.flush()
    (folder / "secret").write_bytes(bytes(range(32)))
    name = (folder / "ca-ak.name").read_bytes()
    tpm(
        "makecredential",
        "-Q",
        "-T",
        "none",
        "-u",
        "ca-ek.pub",
        "-s",
        "secret",
        "-n",
        name.hex(),
        "-o",
        "cred",
    )
    tpm("startauthsession", "-Q", "--policy-session", "-S", "session")
    tpm("policysecret", "-Q", "-S", "session", "-c", "e")
    tpm(
        "activatecredential",
        "-Q",
        "-c",
        "ca-ak.ctx",
        "-C",
        "ca-ek.ctx",
        "-i",
        "cred",
        "-o",
        "answer",
        "-P",
        "session:session",
    )
    tpm("flushcontext", "session")
    tpm.flush()
    ek = (folder / "ca-ek.pub").read_bytes()
    data = record(
        secret_sent=(folder / "secret").read_bytes().hex(),
        secret_returned=(folder / "answer").read_bytes().hex(),
        ak_name=parse_public((folder / "ca-ak.pub").read_bytes(), source="ak").name.hex(),
        ek_public_sha256=hashlib.sha256(ek).hexdigest(),
    )
    return data, name, ek


def test_real_activation_binds(activated):
    data, name, ek = activated
    activation = parse_credential_activation(data, source="c")
    binds(activation, name, ek)
    binds(activation, name, ek[2:])


def test_record_by_the_key_alone_binds(activated):
    data, name, ek = activated
    spki = parse_public(ek, source="ek").key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    value = {**json.loads(data), "ek_public_sha256": hashlib.sha256(spki).hexdigest()}
    activation = parse_credential_activation(json.dumps(value).encode(), source="c")
    binds(activation, name, ek)
    binds(activation, name, spki)


def test_boots_bind_their_own_keys_only(boots):
    folders = [item for item in sorted(boots.iterdir()) if (item / "credential_activation.json").exists()]
    read = [
        (
            parse_credential_activation((item / "credential_activation.json").read_bytes(), source=item.name),
            (item / "ak.name").read_bytes(),
            (item / "ek.pub").read_bytes(),
        )
        for item in folders
    ]
    for activation, name, ek in read:
        binds(activation, name, ek)
        for _, other_name, other_ek in read:
            if (other_name, other_ek) != (name, ek):
                with pytest.raises(VerificationError):
                    binds(activation, other_name, other_ek)
    assert len(read) >= 15


@pytest.mark.parametrize("wrong", ["secret", "secret_prefix", "secret_missing", "ak", "ek", "ek_unreadable"])
def test_does_not_bind(activated, wrong):
    data, name, ek = activated
    value = json.loads(data)
    if wrong == "secret":
        value.update(secret_returned="00" * 32, ok=True)
    elif wrong == "secret_prefix":
        value["secret_returned"] = value["secret_sent"][:-2]
    elif wrong == "secret_missing":
        value["secret_returned"] = ""
    elif wrong == "ak":
        name = name[:-1] + bytes([name[-1] ^ 1])
    elif wrong == "ek":
        value["ek_public_sha256"] = hashlib.sha256(ek + b"\0").hexdigest()
    else:
        ek = b"not a key"
    activation = parse_credential_activation(json.dumps(value).encode(), source="c")
    with pytest.raises(VerificationError) as caught:
        binds(activation, name, ek)
    assert caught.value.code == "attestation-key-not-bound"


def test_digest_of_bytes_that_are_no_key_does_not_bind():
    data = record(ek_public_sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(VerificationError, match="cannot be read"):
        binds(parse_credential_activation(data, source="c"), bytes.fromhex(NAME), b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b'{"a": 1, "a": 1}',
        record(secret_sent="5a" * 15),
        record(secret_sent=""),
        record(secret_sent="5a" * 65),
        record(secret_sent="5a" * 31 + "5"),
        record(secret_sent="zz" * 32),
        record(secret_sent=5),
        record(secret_returned=None),
        record(secret_returned="5a" * 65),
        record(ak_name="000b" + "ab" * 31),
        record(ak_name="0010" + "ab" * 32),
        record(ak_name=""),
        record(ek_public_sha256="cd" * 31),
        record(ek_public_sha256=" cd" * 32),
        b" " * ((1 << 20) + 1),
    ],
    ids=lambda data: repr(data[-40:]),
)
def test_record_of_a_wrong_form(data):
    with pytest.raises(ParseError):
        parse_credential_activation(data, source="c")


@pytest.mark.parametrize("missing", ["secret_sent", "secret_returned", "ak_name", "ek_public_sha256"])
def test_key_missing(missing):
    value = json.loads(record())
    del value[missing]
    with pytest.raises(ParseError, match=missing):
        parse_credential_activation(json.dumps(value).encode(), source="c")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_hostile_bytes_only_raise_our_errors(data):
    with pytest.raises(CvmlabError):
        parse_credential_activation(data, source="c")
