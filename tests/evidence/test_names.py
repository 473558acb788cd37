"""Every name of the evidence directory is read as what it is; damage to one leaves the others."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from quoting import Machine, ima_list, public_area, software_key, template

from cvmlab.errors import EvidenceError
from cvmlab.evidence import Evidence, load_context, load_evidence

if TYPE_CHECKING:
    from soft_tpm import SoftTpm

BOOT = Path(__file__).resolve().parents[2] / "sample_data" / "boots" / "baseline"
LOG, MESSAGE = (BOOT / "eventlog.bin").read_bytes(), (BOOT / "quote.msg").read_bytes()
CERTIFICATE = (BOOT / "ek_rsa.crt.der").read_bytes()
ROOT = (BOOT.parent / "trust-root.pem").read_bytes()
AUTHORITY = (BOOT / "ca-issuercert.pem").read_bytes()


def alone(tmp_path: Path, name: str, data: bytes) -> Evidence:
    """Evidence of this file and a key, so that there always is some evidence."""
    (tmp_path / "ak.pub").write_bytes((BOOT / "ak.pub").read_bytes())
    (tmp_path / name).write_bytes(data)
    return load_evidence(tmp_path)


# design, section 10: name, a file of that kind, what reading it fills
NAMES = [
    ("eventlog.bin", LOG, "logs"),
    ("binary_bios_measurements", LOG, "logs"),
    ("quote.msg", MESSAGE, "quotes"),
    ("quote-later.msg", MESSAGE, "quotes"),
    ("quote-sha256_2.msg", struct.pack(">H", len(MESSAGE)) + MESSAGE, "quotes"),
    ("pcrs.yaml", (BOOT / "pcrs.yaml").read_bytes(), "readings"),
    ("pcrs.json", json.dumps({"sha256": {"0": "00" * 32}}).encode(), "readings"),
    ("pcrs-tpm12.txt", b"PCR-00: " + b"AB " * 20 + b"\n", "readings"),
    ("ak.pem", (BOOT / "ak.pem").read_bytes(), "keys"),
    ("ak.name", (BOOT / "ak.name").read_bytes(), "keys"),
    ("ek.pub", (BOOT / "ek.pub").read_bytes(), "keys"),
    ("ek.pem", (BOOT / "ek.pem").read_bytes(), "keys"),
    ("ak.crt", AUTHORITY, "certificates"),
    ("ek_rsa.crt.der", CERTIFICATE, "certificates"),
    ("ek.crt.der", CERTIFICATE, "certificates"),
    ("ek-0x01c00002.crt.der", CERTIFICATE, "certificates"),
    ("ca-issuer.pem", AUTHORITY, "certificates"),
    ("ima_binary.bin", (BOOT / "ima_binary.bin").read_bytes(), "ima"),
    ("ima_ascii.log", (BOOT / "ima_ascii.log").read_bytes(), "ima"),
]


@pytest.mark.parametrize(("name", "data", "field"), NAMES, ids=[name for name, *_ in NAMES])
def test_name_is_read_as_what_it_is(tmp_path: Path, name: str, data: bytes, field: str) -> None:
    before = alone(tmp_path, "unrelated", b"x")
    evidence = alone(tmp_path, name, data)
    assert len(getattr(evidence, field)) > len(getattr(before, field))
    assert {f.name: f.status for f in evidence.files}[name] == "read"
    assert not evidence.problems
    assert evidence.evidence_hash != before.evidence_hash


def test_clock_is_read(tmp_path: Path) -> None:
    assert alone(tmp_path, "clock.yaml", (BOOT / "clock.yaml").read_bytes()).clock is not None


@pytest.mark.parametrize(
    "name",
    [
        "eventlog.bin.bak", "EVENTLOG.BIN", "quote.msg.txt", "quote-.msg", "quote-a b.msg", "xquote.msg",
        "pcrs.txt", "ak.pub.old", "myak.pub", "ca.pem", "xca-1.pem", "root.pem", "trust-root.pem",
        "README.md", "summary.json", "boot.json", "origin.json", "eventlog.yaml",
    ],
)  # fmt: skip
def test_name_that_is_none_of_them_is_never_read(tmp_path: Path, name: str) -> None:
    before = alone(tmp_path, "unrelated", b"x")
    (tmp_path / "quote.msg").write_bytes(MESSAGE)
    named = load_evidence(tmp_path)
    for data in (b"a quote and its key\n", ROOT if name.endswith(".pem") else MESSAGE):
        evidence = alone(tmp_path, name, data)
        entry = next(f for f in evidence.files if f.name == name)
        assert (entry.role, entry.status) == ("other", "ignored")
        assert evidence.evidence_hash == named.evidence_hash != before.evidence_hash


@pytest.mark.parametrize(
    "name", [name for name, *_ in NAMES] + ["clock.yaml", "userspace.log", "hcl_report.bin", "token.jwt"]
)
@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\t"], ids=["nothing", "newline", "blanks"])
def test_empty_file_counts_as_absent(tmp_path: Path, name: str, data: bytes) -> None:
    evidence = alone(tmp_path, name, data)
    entry = next(f for f in evidence.files if f.name == name)
    assert entry.status == "empty"
    assert not evidence.problems
    assert not evidence.logs
    assert not evidence.quotes
    assert not evidence.readings


@pytest.mark.parametrize(
    ("name", "word"),
    [("eventlog.bin", "log"), ("quote.msg", "quote"), ("quote.sig", "signature"), ("pcrs.yaml", "register")],
)
def test_empty_file_is_said_among_what_is_absent(tmp_path: Path, name: str, word: str) -> None:
    for path in BOOT.iterdir():
        if not path.name.startswith("quote-"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(b"")
    absent = load_evidence(tmp_path).absent
    assert any(word in text and name in text and "empty" in text for text in absent), absent


DAMAGED = [
    pytest.param("eventlog.bin", LOG[:-10], len(LOG) - 2_000, id="event_log_cut_short"),
    pytest.param("ima_binary.bin", ima_list([template("/x")])[:-1], 0, id="ima_list_cut_short"),
    pytest.param("pcrs.yaml", b"\xff\xfe\x00", 0, id="registers_no_text"),
    pytest.param("pcrs.json", b'{"sha256": {"0": "00"', 21, id="registers_json_cut_short"),
    pytest.param("ek.pub", (BOOT / "ek.pub").read_bytes()[:-1], 0, id="public_area_cut_short"),
    pytest.param("ak.name", b"not a name", 0, id="name_no_hex"),
    pytest.param("ak.pem", b"-----BEGIN PUBLIC KEY-----\nAAAA\n", 0, id="pem_without_end"),
    pytest.param("ek_rsa.crt.der", CERTIFICATE[:-1], 0, id="certificate_cut_short"),
    pytest.param("ca-1.pem", AUTHORITY * 17, 0, id="seventeen_certificates"),
    pytest.param("clock.yaml", b"time: 1\n", 0, id="clock_without_values"),
]


@pytest.mark.parametrize(("name", "data", "at_least"), DAMAGED)
def test_unreadable_file_is_a_problem_with_its_place_and_the_rest_is_read(
    tmp_path: Path, name: str, data: bytes, at_least: int
) -> None:
    machine = Machine()
    machine.files["ima_ascii.log"] = (BOOT / "ima_ascii.log").read_bytes()
    folder = machine.write(tmp_path)
    sound = load_evidence(folder)
    (folder / name).write_bytes(data)
    evidence = load_evidence(folder)
    problem = next(p for p in evidence.problems if p.source == name)
    assert at_least <= problem.offset <= len(data)
    assert problem.field
    untouched = [f for f in sound.files if f.name != name]
    assert [f for f in evidence.files if f.name != name] == untouched
    assert evidence.quotes == sound.quotes


def test_bare_register_values_are_read_by_the_quotes_selection(tmp_path: Path) -> None:
    machine = Machine()
    machine.quote(("sha256", (0, 8, 7)))
    values = machine.values["sha256"]
    machine.files["pcrs.json"] = b""
    machine.files["pcrs.bin"] = values[0] + values[7] + values[8]
    machine.write(tmp_path)
    (tmp_path / "pcrs.json").unlink(missing_ok=True)
    assert load_evidence(tmp_path).readings[0].values == {"sha256": {i: values[i] for i in (0, 7, 8)}}


@pytest.mark.parametrize("values", ["serialized", "values"])
def test_register_values_as_tpm2_quote_writes_them(soft_tpm: SoftTpm, tmp_path: Path, values: str) -> None:
    soft_tpm("createprimary", "-Q", "-C", "e", "-G", "rsa2048:rsassa-sha256:null",
        "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign",
        "-c", f"{tmp_path}/ctx")  # fmt: skip
    soft_tpm("flushcontext", "-t")
    soft_tpm("quote", "-Q", "-c", f"{tmp_path}/ctx", "-l", "sha256:0,7", "-m", f"{tmp_path}/quote.msg",
        "-s", f"{tmp_path}/quote.sig", "-o", f"{tmp_path}/pcrs.bin", "-F", values)  # fmt: skip
    soft_tpm("flushcontext", "-t")
    printed = soft_tpm("pcrread", "sha256:0,7")
    found = load_evidence(tmp_path).readings[0].values["sha256"]
    assert sorted(found) == [0, 7]
    for value in found.values():
        assert value.hex().upper() in printed


def test_each_certificate_is_matched_to_its_own_key_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "ek.pub").write_bytes((BOOT / "ek.pub").read_bytes())
    ecc = (BOOT / "ek_ecc.crt.der").read_bytes()
    (tmp_path / "ek_rsa.crt.der").write_bytes(ecc)
    (tmp_path / "ek_ecc.crt.der").write_bytes(CERTIFICATE)
    evidence = load_evidence(tmp_path)
    public = next(k.public for k in evidence.keys if k.role == "ek")
    assert public is not None
    matched = [c.source for c in evidence.certificates if c.spki_sha256 == public.spki_sha256]
    assert matched == ["ek_ecc.crt.der"]


def test_a_file_for_a_name_that_is_there_itself_is_said_and_not_used(tmp_path: Path) -> None:
    machine = Machine()
    machine.files["zz.out"] = public_area(software_key(1))
    machine.files["evidence.json"] = json.dumps(
        {"schema": "cvmlab.evidence/1", "files": {"ak.pub": "zz.out"}}
    ).encode()
    evidence = load_evidence(machine.write(tmp_path))
    assert [key.source for key in evidence.keys] == ["ak.pub"]
    assert any("zz.out" in problem.message for problem in evidence.problems)


def test_the_verifiers_files_are_no_claims_and_alone_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "nonce.hex").write_text("00" * 20)
    (tmp_path / "credential_activation.json").write_bytes((BOOT / "credential_activation.json").read_bytes())
    with pytest.raises(EvidenceError, match="known as evidence"):
        load_evidence(tmp_path)


def test_verifiers_file_that_cannot_be_opened_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nonce.hex").write_text("00" * 20)
    real = Path.open

    def refused(path: Path, *rest: str) -> object:
        if path.name == "nonce.hex":
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(Path, "open", refused)
    context = load_context(tmp_path)
    assert context.nonce is None
    assert [problem.source for problem in context.problems] == ["nonce.hex"]


def test_verifiers_file_behind_a_link_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("00" * 20)
    (tmp_path / "nonce.hex").symlink_to(tmp_path / "elsewhere")
    assert load_context(tmp_path).nonce is None


@pytest.mark.parametrize("data", [b"", b"\0" * 40, b"-----BEGIN PRIVATE KEY-----\n", b"000b" + b"0" * 63])
def test_enrolled_key_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(EvidenceError, match="key"):
        load_context(None, enrolled_keys=[tmp_path / "key"])


def test_enrolled_key_has_the_digest_that_openssl_gives(tmp_path: Path) -> None:
    command = ["openssl", "pkey", "-pubin", "-in", str(BOOT / "ak.pem"), "-outform", "DER"]
    der = subprocess.run(command, capture_output=True, check=True).stdout
    printed = subprocess.run(
        ["openssl", "dgst", "-sha256"], input=der, capture_output=True, check=True
    ).stdout
    (tmp_path / "key.der").write_bytes(der)
    for path in (BOOT / "ak.pub", BOOT / "ak.pem", tmp_path / "key.der"):
        spki = load_context(None, enrolled_keys=[path]).enrolled[0].spki_sha256
        assert spki is not None
        assert spki.hex() == printed.decode().split()[-1]
