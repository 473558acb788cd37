"""Names, roles, aliases and keys of an evidence directory; what the verifier knows stays apart."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_context, load_evidence
from cvmlab.tpm.public import parse_public

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
BOOT = BOOTS / "baseline"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "web-17"
    shutil.copytree(BOOT, target)
    return target


def _describe(folder: Path, **fields: object) -> None:
    (folder / "evidence.json").write_text(json.dumps({"schema": "cvmlab.evidence/1", **fields}))


def test_evidence_json_names_files_and_the_machine(folder: Path) -> None:
    (folder / "quote.msg").rename(folder / "a.out")
    _describe(folder, machine="db-3", collected="2026-01-31T12:00:00Z", files={"quote.msg": "a.out"})
    evidence = load_evidence(folder)
    assert evidence.machine == "db-3"
    assert evidence.collected == "2026-01-31T12:00:00Z"
    assert evidence.quotes[0].source == "a.out"
    assert evidence.quotes[0].signature_source == "quote.sig"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"no-such-role.bin": "a.out"}, id="unknown_role"),
        pytest.param({"evidence.json": "a.out"}, id="itself"),
        pytest.param({"nonce.hex": "a.out"}, id="verifiers_own"),
        pytest.param({"quote.msg": 7}, id="name_is_a_number"),
        pytest.param({"quote.msg": "../../etc/passwd"}, id="path_outside"),
        pytest.param({"quote.msg": "missing.bin"}, id="file_missing"),
        pytest.param({"quote.msg": "a.out", "quote.sig": "a.out"}, id="named_twice"),
        pytest.param(["quote.msg"], id="list"),
    ],
)
def test_hostile_evidence_json_is_said_and_harmless(folder: Path, files: object) -> None:
    _describe(folder, files=files)
    evidence = load_evidence(folder)
    assert evidence.quotes[0].source == "quote.msg"
    assert evidence.problems or files == ["quote.msg"]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "other/1", "machine": "x"}', '{"a":1,"a":2}'])
def test_unusable_evidence_json_is_a_problem(folder: Path, text: str) -> None:
    (folder / "evidence.json").write_text(text)
    evidence = load_evidence(folder)
    assert evidence.machine == "web-17"
    assert any(problem.source == "evidence.json" for problem in evidence.problems)


def test_machine_name_of_evidence_is_bounded(folder: Path) -> None:
    _describe(folder, machine="x" * 100_000)
    assert load_evidence(folder).machine == "web-17"


def test_each_endorsement_certificate_belongs_to_its_own_key(folder: Path) -> None:
    evidence = load_evidence(folder)
    rsa = next(c for c in evidence.certificates if c.source == "ek_rsa.crt.der")
    ecc = next(c for c in evidence.certificates if c.source == "ek_ecc.crt.der")
    key = next(k for k in evidence.keys if k.source == "ek.pub")
    assert key.public is not None
    assert rsa.spki_sha256 == key.public.spki_sha256
    assert ecc.spki_sha256 != rsa.spki_sha256


def test_certificates_are_those_that_openssl_reads(folder: Path) -> None:
    for claim in load_evidence(folder).certificates:
        spki = subprocess.run(
            ["openssl", "x509", "-inform", "DER", "-noout", "-pubkey"],
            input=claim.der,
            capture_output=True,
            check=True,
        ).stdout
        der = subprocess.run(
            ["openssl", "pkey", "-pubin", "-outform", "DER"], input=spki, capture_output=True, check=True
        ).stdout
        digest = subprocess.run(["openssl", "dgst", "-sha256"], input=der, capture_output=True, check=True)
        assert claim.spki_sha256 == digest.stdout.decode().split()[-1]


def test_bundle_of_intermediates_is_read_whole(folder: Path) -> None:
    bundle = b"".join(path.read_bytes() for path in sorted(BOOT.glob("ca-*.pem"))) * 2
    (folder / "ca-bundle.pem").write_bytes(bundle)
    found = [c for c in load_evidence(folder).certificates if c.source == "ca-bundle.pem"]
    assert len(found) == bundle.count(b"BEGIN CERTIFICATE")
    assert {c.role for c in found} == {"ca"}


@pytest.mark.parametrize("form", ["raw", "hex"])
def test_key_name_is_read_raw_and_as_hex(folder: Path, form: str) -> None:
    name = parse_public((BOOT / "ak.pub").read_bytes(), source="ak.pub").name
    (folder / "ak.name").write_bytes(name if form == "raw" else name.hex().encode() + b"\n")
    claim = next(key for key in load_evidence(folder).keys if key.source == "ak.name")
    assert claim.name == name


def test_a_token_that_is_none_is_said(folder: Path) -> None:
    (folder / "token.jwt").write_bytes(b"HCLA" * 10)
    evidence = load_evidence(folder)
    assert {f.name: f.status for f in evidence.files}["token.jwt"] == "unreadable"
    assert any(problem.source == "token.jwt" for problem in evidence.problems)


def test_signature_without_message_is_said(folder: Path) -> None:
    (folder / "quote-x.sig").write_bytes(b"\0")
    assert any("quote-x.msg" in str(problem) for problem in load_evidence(folder).problems)


def test_context_comes_only_from_what_the_analyst_names(folder: Path) -> None:
    context = load_context(folder)
    assert context.nonce == bytes.fromhex((BOOT / "nonce.hex").read_text().strip())
    assert context.activation is not None
    assert load_context(None).nonce is None
    assert load_context(None).activation is None


def test_option_outranks_the_file(folder: Path) -> None:
    assert load_context(folder, nonce="00ff").nonce == b"\x00\xff"
    assert load_context(folder, nonce=b"\x01\x02").nonce == b"\x01\x02"


@pytest.mark.parametrize("nonce", ["xyz", "0", "", "00" * 65])
def test_bad_nonce_option_is_refused(nonce: str) -> None:
    with pytest.raises(EvidenceError, match="nonce"):
        load_context(None, nonce=nonce)


@pytest.mark.parametrize("text", ["zz", "00" * 65, "0"])
def test_bad_nonce_file_is_a_problem_and_no_nonce(folder: Path, text: str) -> None:
    (folder / "nonce.hex").write_text(text)
    context = load_context(folder)
    assert context.nonce is None
    assert context.problems


@pytest.mark.parametrize("name", ["ak.pub", "ak.pem", "ak.name", "ek_rsa.crt.der"])
def test_enrolled_key_in_every_form(name: str) -> None:
    entry = load_context(None, enrolled_keys=[BOOT / name]).enrolled[0]
    assert entry.name is not None or entry.spki_sha256 is not None


def test_enrolled_key_of_no_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"hello world, this is no key of any kind")
    with pytest.raises(EvidenceError, match="not a key"):
        load_context(None, enrolled_keys=[tmp_path / "key"])


def test_trust_roots_in_pem_bundle_and_der(tmp_path: Path) -> None:
    root = BOOTS / "trust-root.pem"
    der = subprocess.run(
        ["openssl", "x509", "-in", str(root), "-outform", "DER"], capture_output=True, check=True
    ).stdout
    (tmp_path / "root.der").write_bytes(der)
    one = subprocess.run(["openssl", "x509", "-in", str(root)], capture_output=True, check=True).stdout
    (tmp_path / "two.pem").write_bytes(one * 2)
    assert len(load_context(None, trust_roots=[tmp_path / "root.der"]).trust_roots) == 1
    assert len(load_context(None, trust_roots=[tmp_path / "two.pem"]).trust_roots) == 2


@pytest.mark.parametrize("data", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_bad_trust_root_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "root.pem").write_bytes(data)
    with pytest.raises(EvidenceError, match=r"root\.pem"):
        load_context(None, trust_roots=[tmp_path / "root.pem"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T13:00:00+01:00", "2026-01-31T13:00:00+01:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_time_of_judgement(text: str, expected: str) -> None:
    at = load_context(None, at=text).at
    assert at is not None
    assert at.isoformat() == expected


def test_bad_time_is_refused() -> None:
    with pytest.raises(EvidenceError, match="not a time"):
        load_context(None, at="yesterday")
