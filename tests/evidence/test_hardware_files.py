"""Hardware evidence is known by its content, read whole, and refused with its place where it is damaged."""

from __future__ import annotations

import contextlib
import json
import struct
import urllib.parse
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from processors import amd, bound, hcl, intel, pem, revocation_list, runtime_claims
from quoting import public_area, software_key

from cvmlab.errors import ParseError
from cvmlab.evidence import load_evidence
from cvmlab.evidence.hardware import read_hardware, recognise
from cvmlab.tee.collateral import parse_collateral
from cvmlab.tpm.public import spki_sha256

CLAIMS = runtime_claims(software_key(0).public_key().public_numbers().n)
DER = Encoding.DER
# GHCB 2.0, section 4.1.8.1
VCEK, ASK, ARK = (
    uuid.UUID(text)
    for text in ("63da758d-e664-4564-adc5-f4b93be8accd", "4ab7b379-bbac-4fe4-a02f-05aef327c782",
                 "c0b406a4-a803-4952-9743-3fb6014cd0ae")
)  # fmt: skip


def table(*entries: tuple[uuid.UUID, bytes]) -> bytes:
    """Table of certificates of an extended guest request."""
    head, body = b"", b""
    start = 24 * (len(entries) + 1)
    for guid, data in entries:
        head += guid.bytes + struct.pack("<II", start + len(body), len(data))
        body += data
    return head + bytes(24) + body


def _kinds() -> list[tuple[str, bytes]]:
    chip, platform = amd(), intel()
    parts = platform.collateral()
    thim = {"vcekCert": pem(chip.leaf).decode(), "tcbm": "00", "certificateChain": pem(chip.ask[0]).decode()}
    return [
        ("hcl-report", hcl(chip.report(bound(CLAIMS)), CLAIMS, 2)), ("hcl-report", hcl(b"", CLAIMS, 3)),
        ("snp-report", chip.report()), ("snp-report", chip.report() + bytes(100)),
        ("snp-report", struct.pack("<II", 0, 1184) + bytes(24) + chip.report()),
        ("snp-report", chip.report() + table((VCEK, chip.leaf.public_bytes(DER)))),
        ("table", table((VCEK, chip.leaf.public_bytes(DER)))), ("td-report", platform.td_report()),
        ("td-quote", platform.quote()), ("td-quote", platform.quote(version=5)),
        ("collateral", parts["tcb_info.json"]), ("collateral", parts["qe_identity.json"]),
        ("collateral", b"\xef\xbb\xbf \n" + parts["tcb_info.json"]), ("crl", parts["pck_crl.der"]),
        ("crl", revocation_list(chip.ark)), ("certificates", chip.chain),
        ("certificates", chip.leaf.public_bytes(DER)), ("certificates", parts["tcb_signing_chain.pem"]),
        ("certificates", urllib.parse.quote(parts["tcb_signing_chain.pem"].decode()).encode()),
        ("bundle", json.dumps(thim).encode()),
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "data"), _kinds())
def test_content_tells_what_a_file_is(kind: str, data: bytes) -> None:
    assert recognise(data) == kind
    found = read_hardware(data, source="x")
    assert found.reports or found.certificates or found.collateral


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"a": 1}', b"HCL", bytes(1184), bytes(1024), b"\x81" + b"\x01" * 1023, b"\x30\x82\x00\x01",
     b"text of a README about vcekCert", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"],
)  # fmt: skip
def test_other_files_are_no_hardware_evidence(data: bytes) -> None:
    assert recognise(data) is None
    with pytest.raises(ParseError):
        read_hardware(data, source="x")


def test_certificates_of_others_are_not_taken_for_a_processor_s() -> None:
    boot = Path(__file__).resolve().parents[2] / "sample_data" / "boots" / "baseline"
    assert recognise((boot / "ek_rsa.crt.der").read_bytes()) is None
    assert recognise((boot / "ca-issuercert.pem").read_bytes()) is None


def test_certificates_behind_a_report_are_read() -> None:
    chip = amd()
    entries = [(VCEK, chip.leaf), (ASK, chip.ask[0]), (ARK, chip.ark[0])]
    data = chip.report() + table(*((guid, c.public_bytes(DER)) for guid, c in entries))
    found = read_hardware(data, source="x")
    assert [claim.certificate for claim in found.certificates] == [c for _, c in entries]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(ASK.bytes + bytes(12), "cert_table.guid", id="no_end"),
        pytest.param(
            VCEK.bytes + struct.pack("<II", 48, 1 << 30) + bytes(24), "cert_table", id="past_the_end"
        ),
        pytest.param((VCEK.bytes + bytes(8)) * 40, "cert_table", id="entries_without_end"),
        pytest.param(table((VCEK, b"\x30\x03abc")), "certificate", id="no_certificate"),
    ],
)
def test_damaged_table_is_refused(data: bytes, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_hardware(data, source="x")
    assert caught.value.field == field


def _changed(**fields: object) -> bytes:
    return intel().signed("tcbInfo", intel().tcb_info(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(_changed(version=2), "version", id="old_version"),
        pytest.param(_changed(fmspc="00"), "tcbInfo.fmspc", id="fmspc_too_short"),
        pytest.param(_changed(issueDate="yesterday"), "tcbInfo.issueDate", id="no_time"),
        pytest.param(_changed(tcbLevels=[1]), "tcbInfo.tcbLevels", id="level_no_object"),
        pytest.param(_changed(tcbLevels=[{}] * 1000), "tcbInfo.tcbLevels", id="too_many_levels"),
        pytest.param(
            _changed(tcbLevels=[{"tcb": {}}]), "tcbInfo.tcbLevels[0].tcb.sgxtcbcomponents", id="no_components"
        ),
        pytest.param(
            _changed(tcbEvaluationDataNumber=True), "tcbInfo.tcbEvaluationDataNumber", id="bool_for_number"
        ),
        pytest.param(b'{"tcbInfo": {}, "signature": "00"}', "signature", id="signature_too_short"),
        pytest.param(b'{"tcbInfo": {}, "enclaveIdentity": {}, "signature": "00"}', "json", id="two_members"),
        pytest.param(b'{"tcbInfo": {}, "tcbInfo": {}}', "json", id="member_twice"),
        pytest.param(b'{"tcbInfo": ', "json", id="cut"),
    ],
)  # fmt: skip
def test_damaged_collateral_is_refused(data: bytes, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_collateral(data, source="x")
    assert caught.value.field == field


def test_signed_bytes_are_those_of_the_outer_member() -> None:
    """A member of the same name deeper inside, or in another order, is not taken for the signed one."""
    inner = json.dumps(intel().qe_identity(), indent=1)
    text = (
        '{"note": {"enclaveIdentity": {"x": 1}}, "signature" : "'
        + "00" * 64
        + '",\n "enclaveIdentity" : '
        + inner
        + "}"
    )
    assert parse_collateral(text.encode(), source="x").signed == inner.encode()


def test_key_of_the_claims_is_a_key_of_the_evidence(tmp_path: Path) -> None:
    (tmp_path / "anything").write_bytes(hcl(amd().report(bound(CLAIMS)), CLAIMS, 2))
    evidence = load_evidence(tmp_path)
    key = next(claim for claim in evidence.keys if claim.role == "ak")
    assert key.key is not None
    assert spki_sha256(key.key) == spki_sha256(software_key(0).public_key())
    assert key.source == "anything (HCLAkPub)"


@pytest.mark.parametrize(
    "key",
    [{"kty": "EC"}, {"n": "!!"}, {"n": ""}, {"n": "AA", "e": "AQAB"}, {"e": "A" * 2000}, {"n": 5}],
    ids=["other_kind", "no_base64", "empty", "tiny_modulus", "exponent_too_long", "number"],
)
def test_key_of_the_claims_that_is_none_is_said(tmp_path: Path, key: dict[str, object]) -> None:
    claims = json.loads(CLAIMS)
    claims["keys"][0] |= key
    data = json.dumps(claims).encode()
    (tmp_path / "hcl_report.bin").write_bytes(hcl(amd().report(bound(data)), data, 2))
    evidence = load_evidence(tmp_path)
    assert not [claim for claim in evidence.keys if claim.role == "ak"]
    assert any("jwk" in str(problem) for problem in evidence.problems)


def test_too_many_reports_are_refused(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"r{number:02}").write_bytes(amd().report())
    evidence = load_evidence(tmp_path)
    assert len(evidence.hardware) == 8
    assert any("more of its kind than are read" in str(problem) for problem in evidence.problems)


def test_same_certificate_in_two_files_is_one(tmp_path: Path) -> None:
    (tmp_path / "ak.pub").write_bytes(public_area(software_key(0)))
    for name in ("vcek.pem", "again.pem"):
        (tmp_path / name).write_bytes(amd().chain)
    assert len(load_evidence(tmp_path).certificates) == 3


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2048))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        read_hardware(data, source="x")
