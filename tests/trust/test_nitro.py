"""AWS NitroTPM documents: only what a root that counts stands behind is believed."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from nitro_maker import MADE, Authority, document, payload
from quoting import Machine

from cvmlab import investigate
from cvmlab.errors import ParseError
from cvmlab.tee.nitro import looks_like_nitro_document, parse_nitro_document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cvmlab.report.investigation import Investigation

NONCE = b"n" * 20
AT = MADE + dt.timedelta(hours=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(banks=("sha384",))


def judge(tmp_path: Path, authority: Authority, data: bytes, **options: Any) -> Investigation:
    root = tmp_path / "aws-root.pem"
    root.write_bytes(authority.root_pem())
    folder = tmp_path / "evidence"
    folder.mkdir(exist_ok=True)
    (folder / "what-nitro-tpm-attest-wrote").write_bytes(data)
    machine = Machine(banks=("sha384",))
    (folder / "eventlog.bin").write_bytes(machine.files["eventlog.bin"])
    return investigate(folder, **{"nonce": NONCE, "at": AT, "trust_roots": [root], **options})


def status(result: Investigation) -> dict[str, str]:
    return {link.name: link.status for link in result.chain}


def codes(result: Investigation) -> set[str]:
    return {cause.code for cause in result.causes}


@pytest.mark.parametrize("tag", [False, True], ids=["untagged", "tagged"])
def test_document_vouches_for_registers_nonce_and_log(
    tmp_path: Path, authority: Authority, machine: Machine, tag: bool
) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]), tag=tag)
    result = judge(tmp_path, authority, data)
    found = status(result)
    links = (
        "hardware-root",
        "hardware-report",
        "key-binding",
        "quote",
        "nonce",
        "register-values",
        "log-replay",
    )
    assert {name: found[name] for name in links} == dict.fromkeys(links, "holds")
    assert result.assessment.believed
    quoted = {row["register"]: row["quoted"] for row in json.loads(result.to_json())["registers"]}
    assert quoted == {index: value.hex() for index, value in machine.values["sha384"].items()}
    rows = result.hardware()
    assert set(rows.loc[rows["field"] == "nonce", "value"]) == {NONCE.hex()}
    assert set(rows["worth"]) == {"proven"}


def test_document_alone_and_in_base64(tmp_path: Path, authority: Authority, machine: Machine) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]))
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem())
    for name, content in (("plain", data), ("text", base64.encodebytes(data))):
        (tmp_path / name).write_bytes(content)
        found = status(investigate(tmp_path / name, nonce=NONCE, at=AT, trust_roots=[root]))
        assert found["register-values"] == found["nonce"] == "holds"
        assert found["log-replay"] == "not-checked"


def test_root_that_is_neither_pinned_nor_given_does_not_count(
    tmp_path: Path, authority: Authority, machine: Machine
) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]))
    result = judge(tmp_path, authority, data, trust_roots=[])
    assert status(result)["hardware-root"] == "broken"
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == "hardware-chain-untrusted"
    assert not result.assessment.quotes.values


def test_expired_certificate_says_when_it_held(
    tmp_path: Path, authority: Authority, machine: Machine
) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]))
    result = judge(tmp_path, authority, data, at=MADE + dt.timedelta(days=30))
    link = result.assessment.link("hardware-root")
    assert link.status == "broken"
    assert "--at" in link.why
    assert "2026-03-01T12:00:00Z" in link.why


def test_document_of_the_future_is_broken(tmp_path: Path, authority: Authority, machine: Machine) -> None:
    fields = payload(authority, machine.values["sha384"])
    fields["timestamp"] += 2 * 3600 * 1000
    result = judge(tmp_path, authority, document(authority, fields))
    assert status(result)["hardware-report"] == "broken"


@pytest.mark.parametrize(("nonce", "want"), [(b"x" * 20, "broken"), (None, "not-checked")])
def test_nonce_is_the_verifiers(
    tmp_path: Path, authority: Authority, machine: Machine, nonce: bytes | None, want: str
) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]))
    result = judge(tmp_path, authority, data, nonce=nonce)
    assert status(result)["nonce"] == want
    code = {"broken": "nonce-mismatch", "not-checked": "nonce-missing"}[want]
    assert code in {finding.code for finding in result.assessment.findings}


def test_document_without_nonce_answers_none(tmp_path: Path, authority: Authority, machine: Machine) -> None:
    data = document(authority, payload(authority, machine.values["sha384"], nonce=None))
    assert status(judge(tmp_path, authority, data))["nonce"] == "broken"


def test_signature_by_another_key(tmp_path: Path, authority: Authority, machine: Machine) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    data = document(authority, payload(authority, machine.values["sha384"]), key=other)
    result = judge(tmp_path, authority, data)
    assert "hardware-report-signature-invalid" in codes(result)
    assert status(result)["register-values"] != "holds"


def test_each_byte_of_payload_and_signature_counts(
    tmp_path: Path, authority: Authority, machine: Machine
) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]))
    value = machine.values["sha384"][8]
    at = data.index(value)
    for position in (at, at + 20, len(data) - 1, len(data) - 96, len(data) - 48):
        edited = bytearray(data)
        edited[position] ^= 1
        result = judge(tmp_path, authority, bytes(edited))
        assert status(result)["hardware-report"] == "broken", position
        assert not result.assessment.quotes.values, position


def test_log_that_does_not_give_the_signed_values(
    tmp_path: Path, authority: Authority, machine: Machine
) -> None:
    values = {**machine.values["sha384"], 8: b"\x11" * 48}
    result = judge(tmp_path, authority, document(authority, payload(authority, values)))
    assert status(result)["log-replay"] == "broken"
    assert result.verdict == "not-trusted"


BAD: dict[str, tuple[Callable[[Authority], bytes], str]] = {
    "enclave_without_tpm": (
        lambda a: document(a, {**payload(a, {}, nitrotpm_pcrs=None), "pcrs": {0: bytes(48)}}), "enclave",
    ),
    "no_registers": (lambda a: document(a, payload(a, {})), "nitrotpm_pcrs"),
    "register_too_short": (lambda a: document(a, payload(a, {0: bytes(47)})), "nitrotpm_pcrs"),
    "register_32": (lambda a: document(a, payload(a, {32: bytes(48)})), "no such register"),
    "register_index_text": (lambda a: document(a, payload(a, {"0": bytes(48)})), "no such register"),  # type: ignore[dict-item]
    "digest_unknown": (lambda a: document(a, payload(a, {0: bytes(48)}, digest="MD5")), "digest"),
    "timestamp_text": (lambda a: document(a, payload(a, {0: bytes(48)}, timestamp="now")), "timestamp"),
    "certificate_absent": (
        lambda a: document(a, payload(a, {0: bytes(48)}, certificate=None)), "certificate",
    ),
    "bundle_of_nine": (
        lambda a: document(a, payload(a, {0: bytes(48)}, cabundle=[b"x"] * 9)), "cabundle",
    ),
    "nonce_too_long": (lambda a: document(a, payload(a, {0: bytes(48)}, nonce=bytes(1025))), "nonce"),
    "es256": (lambda a: document(a, payload(a, {0: bytes(48)}), header={1: -7}), "ES384"),
    "header_with_more": (
        lambda a: document(a, payload(a, {0: bytes(48)}), header={1: -35, 4: b"kid"}), "ES384",
    ),
    "unsigned_header": (
        lambda a: document(a, payload(a, {0: bytes(48)}), unprotected={4: b"kid"}), "unprotected",
    ),
    "cut_short": (lambda a: document(a, payload(a, {0: bytes(48)}))[:-1], "CBOR"),
    "trailing": (lambda a: document(a, payload(a, {0: bytes(48)})) + b"\0", "left over"),
    "three_items": (lambda a: bytes(cbor2.dumps([b"\xa1\x018\"", {}, b""])), "four"),
    "signature_of_95": (
        lambda a: bytes(
            cbor2.dumps([*cbor2.loads(document(a, payload(a, {0: bytes(48)})))[:3], bytes(95)])
        ), "96",
    ),
    "payload_no_map": (
        lambda a: bytes(cbor2.dumps([cbor2.dumps({1: -35}), {}, cbor2.dumps([1]), bytes(96)])), "map",
    ),
    "too_large": (lambda a: document(a, payload(a, {0: bytes(48)})) + bytes(1 << 16), "limit"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_malformed_document_says_what_is_wrong(authority: Authority, case: str) -> None:
    make, word = BAD[case]
    with pytest.raises(ParseError, match=word):
        parse_nitro_document(make(authority), source="x")


@pytest.mark.parametrize(
    "data", [b"", b"\x84", b"\x84\x44", b"\xd2\x84\x44\xa1", b"\x84\x01\x02\x03\x04", b"{}"]
)
def test_other_bytes_are_no_document(data: bytes) -> None:
    assert not looks_like_nitro_document(data)


def test_damaged_document_in_a_folder_is_said_and_the_rest_is_read(
    tmp_path: Path, authority: Authority, machine: Machine
) -> None:
    data = document(authority, payload(authority, machine.values["sha384"]))
    result = judge(tmp_path, authority, data[:-5])
    assert result.evidence.problems
    assert result.evidence.logs[0].events
    assert result.verdict != "trusted"
