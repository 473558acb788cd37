"""A folder collected from a live TPM: what is in it, what never is, and what investigation makes of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from quoting import ima_list, template
from tpm_platform import (
    AK,
    AZURE_AK,
    AZURE_CERTIFICATE,
    HCL_REPORT,
    READ_WRITE,
    certified,
    make_persistent,
    nothing_left,
    put,
)

import cvmlab
from cvmlab.errors import CvmlabError, EvidenceError, TpmError
from cvmlab.evidence.enrolment import challenge_for
from cvmlab.tpm.challenge import RESPONSE_FILE, activation_json, complete, read_response
from cvmlab.tpm.collect import Collection, collect
from cvmlab.tpm.live_logs import SOURCES, read_log

if TYPE_CHECKING:
    from soft_tpm import SoftTpm

NONCE = bytes(range(32))
BOOT = Path(__file__).resolve().parents[2] / "sample_data" / "boots" / "baseline"
SECURITY = "sys/kernel/security"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The file system of a machine with every log, taken from a real boot."""
    top = tmp_path / "root"
    for name, source in {
        f"{SECURITY}/tpm0/binary_bios_measurements": "eventlog.bin",
        f"{SECURITY}/ima/binary_runtime_measurements": "ima_binary.bin",
        f"{SECURITY}/ima/ascii_runtime_measurements": "ima_ascii.log",
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((BOOT / source).read_bytes())
    log = top / "run/log/systemd/tpm2-measure.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"\x1e{}\n")
    (top / "etc").mkdir()
    (top / "etc/hostname").write_text("web-17\n")
    return top


def links(folder: Path, **options: Any) -> dict[str, str]:
    chain = json.loads(cvmlab.investigate(folder, **options).to_json())["chain"]
    return {link["link"]: link["status"] for link in chain}


def roots(authority: Path) -> list[Path]:
    return [authority / "swtpm-localca-rootca-cert.pem"]


def items(found: Collection) -> dict[str, str]:
    return {item.what: item.status for item in found.items}


def issuer(authority: Path, folder: Path) -> None:
    """swtpm's intermediate certificate, which no TPM carries in its storage."""
    (folder / "ca-issuer.pem").write_bytes((authority / "issuercert.pem").read_bytes())


def test_everything_of_a_machine_is_collected(certified_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    found = collect(tmp_path / "e", tcti=certified_tpm.tcti, nonce=NONCE, root=root)
    assert {name for name, _ in found.files} == {
        "quote.msg", "quote.sig", "quote-sha384.msg", "quote-sha384.sig", "quote-sha1.msg", "quote-sha1.sig",
        "pcrs.yaml", "ak.pub", "ak.name", "ek.pub", "ek-rsa2048.crt.der", "ek-ecc384.crt.der", "clock.yaml",
        "eventlog.bin", "ima_binary.bin", "ima_ascii.log", "userspace.log", "evidence.json",
    }  # fmt: skip
    assert {path.name: path.stat().st_size for path in found.folder.iterdir()} == dict(found.files)
    assert set(items(found).values()) == {"collected"}
    assert found.quoted
    assert not found.own_nonce
    assert nothing_left(certified_tpm)
    for name, source in (("eventlog.bin", "eventlog.bin"), ("ima_ascii.log", "ima_ascii.log")):
        assert (found.folder / name).read_bytes() == (BOOT / source).read_bytes()
    assert (found.folder / "pcrs.yaml").read_text() == certified_tpm("pcrread")


def test_the_description_is_the_evidence_directorys(
    certified_tpm: SoftTpm, root: Path, tmp_path: Path
) -> None:
    found = collect(tmp_path / "e", tcti=certified_tpm.tcti, root=root)
    value = json.loads((found.folder / "evidence.json").read_text())
    assert value["schema"] == "cvmlab.evidence/1"
    assert value["machine"] == "web-17"
    assert value["collected"].endswith("+00:00")
    assert value["nonce"] == found.nonce.hex()
    evidence = cvmlab.load_evidence(found.folder)
    assert evidence.machine == "web-17"
    assert not [file.name for file in evidence.files if file.status in ("unreadable", "empty")]
    assert evidence.absent == ()


def test_a_fresh_nonce_is_made_and_never_passes_for_the_verifiers(
    certified_tpm: SoftTpm, root: Path, tmp_path: Path
) -> None:
    one, two = (collect(tmp_path / name, tcti=certified_tpm.tcti, root=root) for name in "ab")
    assert one.own_nonce
    assert len(one.nonce) == 32
    assert one.nonce != two.nonce
    assert not (one.folder / "nonce.hex").exists()
    assert links(one.folder)["nonce"] == "not-checked"
    assert links(one.folder, nonce=one.nonce)["nonce"] == "holds"
    assert links(one.folder, nonce=two.nonce)["nonce"] == "broken"


@pytest.mark.parametrize("kind", ["rsa2048", "ecc256", "ecc384"])
def test_a_machine_that_answers_a_challenge_is_bound(
    certified_tpm: SoftTpm, authority: Path, root: Path, tmp_path: Path, kind: str
) -> None:
    options: dict[str, Any] = {"tcti": certified_tpm.tcti, "root": root, "ak_type": kind}
    first = collect(tmp_path / "first", **options)
    issuer(authority, first.folder)
    before = links(first.folder, trust_roots=roots(authority), nonce=first.nonce)
    assert before["key-binding"] == "not-checked"
    challenge, record = challenge_for(first.folder)
    second = collect(tmp_path / "second", nonce=NONCE, challenge=challenge, **options)
    assert second.answered
    assert second.ak_name == first.ak_name
    issuer(authority, second.folder)
    response = read_response((second.folder / RESPONSE_FILE).read_bytes(), source="response")
    activation = second.folder / "credential_activation.json"
    activation.write_text(activation_json(complete(record, response)))
    after = links(second.folder, trust_roots=roots(authority), nonce=NONCE)
    for link in ("key-binding", "key-certificate", "quote", "nonce", "register-values"):
        assert after[link] == "holds", link
    # no trust root, no certificate
    assert links(second.folder, nonce=NONCE)["key-certificate"] == "not-checked"
    value = json.loads(activation.read_text())
    activation.write_text(json.dumps({**value, "secret_returned": "00" * 32}))
    assert links(second.folder, trust_roots=roots(authority), nonce=NONCE)["key-binding"] == "broken"


def test_a_response_alone_binds_nothing(
    certified_tpm: SoftTpm, authority: Path, root: Path, tmp_path: Path
) -> None:
    first = collect(tmp_path / "first", tcti=certified_tpm.tcti, root=root)
    challenge, _ = challenge_for(first.folder)
    second = collect(tmp_path / "second", tcti=certified_tpm.tcti, root=root, challenge=challenge)
    issuer(authority, second.folder)
    assert links(second.folder, trust_roots=roots(authority))["key-binding"] == "not-checked"


def test_a_challenge_for_another_machine_is_not_answered(
    certified_tpm: SoftTpm, fresh_tpm: SoftTpm, root: Path, tmp_path: Path
) -> None:
    other = collect(tmp_path / "other", tcti=fresh_tpm.tcti, root=root)
    challenge, _ = challenge_for(other.folder)
    found = collect(tmp_path / "e", tcti=certified_tpm.tcti, root=root, challenge=challenge)
    assert not found.answered
    assert found.quoted
    assert items(found)["answer to the challenge"] == "failed"


def test_nothing_private_is_in_the_folder(certified_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    options: dict[str, Any] = {"tcti": certified_tpm.tcti, "root": root, "ak_context": keys}
    first = collect(tmp_path / "first", **options)
    challenge, record = challenge_for(first.folder)
    second = collect(tmp_path / "second", challenge=challenge, **options)
    assert first.ak_name == second.ak_name
    private = (keys / "ak.priv").read_bytes()
    for found in (first, second):
        for path in found.folder.iterdir():
            data = path.read_bytes()
            assert private[2:] not in data, path.name
            assert b"PRIVATE" not in data, path.name
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            if path.name != RESPONSE_FILE:
                assert record.secret not in data
                assert record.secret.hex().encode() not in data
        assert {path.name for path in found.folder.iterdir()} == {name for name, _ in found.files}
    assert record.secret.hex() not in challenge.to_json()
    assert sorted(path.name for path in keys.iterdir()) == ["ak.priv", "ak.pub"]
    assert nothing_left(certified_tpm)


def test_a_kept_key_may_not_lie_in_the_evidence(certified_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    for keys in (tmp_path / "e", tmp_path / "e" / "keys", tmp_path / "x" / ".." / "e" / "k"):
        with pytest.raises(EvidenceError, match="must not lie in the evidence"):
            collect(tmp_path / "e", tcti=certified_tpm.tcti, root=root, ak_context=keys)
    assert not (tmp_path / "e").exists()


def test_a_folder_with_something_in_it_is_left_alone(certified_tpm: SoftTpm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "quote.msg").write_text("mine")
    for name in ("file", "full"):
        with pytest.raises(EvidenceError, match="there is something already"):
            collect(tmp_path / name, tcti=certified_tpm.tcti)
    assert (tmp_path / "full" / "quote.msg").read_text() == "mine"


@pytest.mark.parametrize("size", [0, 65])
def test_a_nonce_of_a_wrong_size_is_refused(certified_tpm: SoftTpm, tmp_path: Path, size: int) -> None:
    with pytest.raises(EvidenceError, match="1 to 64 bytes"):
        collect(tmp_path / "e", tcti=certified_tpm.tcti, nonce=bytes(size))
    assert not (tmp_path / "e").exists()


def test_without_a_tpm_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TpmError, match="cannot connect"):
        collect(tmp_path / "e", tcti="swtpm:host=127.0.0.1,port=1")
    assert not (tmp_path / "e").exists()


def test_azures_platform_is_collected(fresh_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    public = make_persistent(fresh_tpm, AZURE_AK, "rsa2048:rsassa-sha256:null", AK)
    der, top = certified(public.key)
    put(fresh_tpm, AZURE_CERTIFICATE, der, size=2048)
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, nonce=NONCE, root=root)
    (tmp_path / "root.pem").write_bytes(top)
    assert found.ak_name == public.name
    assert (found.folder / "ak.crt").read_bytes() == der
    chain = links(found.folder, trust_roots=[tmp_path / "root.pem"], nonce=NONCE)
    assert chain["key-binding"] == chain["key-certificate"] == chain["quote"] == "holds"
    assert links(found.folder, nonce=NONCE)["key-binding"] == "not-checked"
    assert "0x81000003" in fresh_tpm("getcap", "handles-persistent").lower()


def test_azures_report_is_copied_as_it_lies_there(fresh_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    report = (b"HCLA" + bytes(range(256)) * 5).ljust(2000, b"\0")
    put(fresh_tpm, HCL_REPORT, report)
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, root=root)
    assert (found.folder / "hcl_report.bin").read_bytes() == report


def test_an_unfilled_report_is_said(fresh_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    fresh_tpm("nvdefine", "-Q", hex(HCL_REPORT), "-C", "o", "-s", 2000, "-a", READ_WRITE)
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, root=root)
    why = {item.what: item.why for item in found.items}["Azure's HCL report"]
    assert "0x14A" in why
    assert "the platform has not filled the index" in why
    said = json.loads((found.folder / "evidence.json").read_text())["not_collected"]
    assert "Azure's HCL report" in {entry["what"] for entry in said}
    assert found.quoted


def test_without_an_attestation_key_the_rest_is_collected(
    fresh_tpm: SoftTpm, root: Path, tmp_path: Path
) -> None:
    fresh_tpm("changeauth", "-c", "e", "password")
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, root=root)
    assert not found.quoted
    assert found.ak_name == b""
    assert items(found)["attestation key"] == items(found)["endorsement key"] == "failed"
    names = {name for name, _ in found.files}
    assert {"pcrs.yaml", "clock.yaml", "eventlog.bin"} <= names
    assert not {"quote.msg", "ak.pub", "ek.pub"} & names


def test_a_key_that_was_named_and_is_not_there_stops_it(fresh_tpm: SoftTpm, tmp_path: Path) -> None:
    with pytest.raises(TpmError, match="0x81000099"):
        collect(tmp_path / "e", tcti=fresh_tpm.tcti, ak_handle=0x81000099)
    assert not (tmp_path / "e").exists()


def test_registers_that_move_are_said_and_the_quote_holds(
    fresh_tpm: SoftTpm, root: Path, tmp_path: Path
) -> None:
    def extend() -> None:
        fresh_tpm("pcrextend", f"23:sha256={'ab' * 32}")

    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, nonce=NONCE, root=root, between=extend)
    why = {item.what: item.why for item in found.items if item.status == "failed"}
    assert "register 23 moved" in why["registers of sha256"]
    chain = links(found.folder, nonce=NONCE)
    assert chain["quote"] == chain["register-values"] == "holds"


def test_the_ima_list_tells_which_value_of_register_10_was_quoted(
    fresh_tpm: SoftTpm, root: Path, tmp_path: Path
) -> None:
    measured: list[bytes] = []
    path = root / SECURITY / "ima/binary_runtime_measurements"
    (root / SECURITY / "ima/ascii_runtime_measurements").unlink()

    def measure() -> None:
        measured.append(template(f"/usr/bin/program-{len(measured)}"))
        digests = ",".join(
            f"{bank}={hashlib.new(bank, measured[-1]).hexdigest()}"
            for bank in ("sha1", "sha256", "sha384", "sha512")
        )
        fresh_tpm("pcrextend", f"10:{digests}")
        path.write_bytes(ima_list(measured))

    measure()
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, nonce=NONCE, root=root, between=measure)
    why = {item.what: item.why for item in found.items if item.status == "failed"}
    assert "the IMA list may tell" in why["registers of sha256"]
    chain = links(found.folder, nonce=NONCE)
    assert chain["quote"] == chain["register-values"] == "holds"


def test_missing_logs_are_named(fresh_tpm: SoftTpm, tmp_path: Path) -> None:
    empty = tmp_path / "root"
    (empty / SECURITY).mkdir(parents=True)
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, root=empty)
    why = {item.what: item.why for item in found.items}
    assert "mount -t securityfs" in why["boot event log"]
    assert items(found)["IMA list, text"] == "absent"
    assert "tpm2-measure.log" in why["systemd's log of what userspace measured"]
    (empty / SECURITY / "tpm0").mkdir()
    (empty / SECURITY / "tpm0" / "binary_bios_measurements").write_bytes(b"")
    assert read_log(SOURCES[0], empty)[1].endswith("is empty")
    assert "there is no" in read_log(SOURCES[1], empty)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_files_that_state_no_size_are_read_to_their_end(tmp_path: Path) -> None:
    folder = tmp_path / SECURITY / "tpm1"
    folder.mkdir(parents=True)
    (folder / "binary_bios_measurements").symlink_to("/proc/self/status")
    assert (folder / "binary_bios_measurements").stat().st_size == 0
    data, why = read_log(SOURCES[0], tmp_path)
    assert data is not None
    assert data.startswith(b"Name:")
    assert "tpm1" in why


def test_a_log_that_is_being_written_is_waited_for(root: Path) -> None:
    path = root / "run/log/systemd/tpm2-measure.log"
    held = threading.Event()

    def write() -> None:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b'\x1e{"half')
            file.flush()
            held.set()
            time.sleep(0.3)
            file.write(b'":1}\n')

    writer = threading.Thread(target=write)
    writer.start()
    held.wait(5)
    data, _ = read_log(SOURCES[3], root)
    writer.join()
    assert data == path.read_bytes() == b'\x1e{"half":1}\n'


def test_a_log_that_stays_locked_is_read_all_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvmlab.tpm import live_logs

    monkeypatch.setattr(live_logs, "_LOCK_PAUSE", 0.0)
    with (root / "run/log/systemd/tpm2-measure.log").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read_log(SOURCES[3], root)[0] == b"\x1e{}\n"


def test_a_log_beyond_the_limit_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvmlab.tpm import live_logs

    monkeypatch.setattr(live_logs, "MAX_LOG", 100)
    data, why = read_log(SOURCES[0], root)
    assert data is None
    assert "larger than" in why


def test_evidence_without_the_keys_gets_no_challenge(fresh_tpm: SoftTpm, root: Path, tmp_path: Path) -> None:
    found = collect(tmp_path / "e", tcti=fresh_tpm.tcti, root=root)
    for name in ("ek.pub", "ak.pub"):
        data = (found.folder / name).read_bytes()
        (found.folder / name).unlink()
        with pytest.raises(CvmlabError, match=name):
            challenge_for(found.folder)
        (found.folder / name).write_bytes(data)


def run(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "cvmlab", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_commands_bind_a_machine_from_end_to_end(
    certified_tpm: SoftTpm, authority: Path, root: Path, tmp_path: Path
) -> None:
    tcti = ("--tcti", certified_tpm.tcti, "--root", root)
    first, second = tmp_path / "first", tmp_path / "second"
    challenge, record = tmp_path / "challenge.json", tmp_path / "record.json"
    code, out, err = run("collect", "-o", first, *tcti)
    assert (code, err) == (0, "")
    assert "The nonce was made here" in out
    code, out, _ = run("enroll", "challenge", first, "-o", challenge, "--record", record)
    assert code == 0
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    secret = json.loads(record.read_text())["secret_sent"]
    assert secret not in challenge.read_text() + out
    code, out, _ = run(
        "collect", "-o", second, *tcti, "--nonce", NONCE.hex(), "--challenge", challenge, "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == "cvmlab.collection/1"
    assert found["quoted"]
    assert found["challenge_answered"]
    assert not found["nonce_made_here"]
    code, out, _ = run("enroll", "complete", second, "--record", record, "--json")
    assert code == 0
    assert json.loads(out)["returned"]
    issuer(authority, second)
    code, out, _ = run(
        "investigate", second, "--nonce", NONCE.hex(), "--trust-root", roots(authority)[0], "--json"
    )
    chain = {link["link"]: link["status"] for link in json.loads(out)["chain"]}
    assert chain["key-binding"] == chain["key-certificate"] == chain["nonce"] == "holds"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("collect", "-o", "{new}", "--tcti", "swtpm:host=127.0.0.1,port=1"), "check --tcti"),
        (("collect", "-o", "{new}", "--tcti", "device:/nowhere"), "switch on the vTPM"),
        (("collect", "-o", "{new}", "--nonce", "xyz"), "hex digits"),
        (("collect", "-o", "{new}", "--ak-handle", "zz"), "write it like 0x81010002"),
        (("collect", "-o", "{new}", "--challenge", "/nowhere"), "cannot be read"),
        (("collect", "-o", "/dev/null"), "there is something already"),
        (("collect",), "Missing option"),
        (("enroll", "challenge", "/nowhere", "-o", "{new}", "--record", "{new}2"), "cannot be read"),
        (("enroll", "complete", "/nowhere", "--record", "/nowhere"), "cannot be read"),
    ],
)
def test_what_cannot_be_done_exits_with_2(arguments: tuple[str, ...], why: str, tmp_path: Path) -> None:
    code, _, err = run(*(text.format(new=tmp_path / "new") for text in arguments))
    assert code == 2
    assert why in err
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [("collect",), ("enroll", "challenge"), ("enroll", "complete")])
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Example: cvmlab" in out
    assert "--root" not in out


def test_a_wrong_secret_is_written_down_and_exits_with_1(tmp_path: Path) -> None:
    names = {"id": "00" * 16, "ak_name": "000b" + "11" * 32, "ek_public_sha256": "22" * 32}
    record, response = tmp_path / "record.json", tmp_path / RESPONSE_FILE
    record.write_text(json.dumps(
        {"schema": "cvmlab.challenge-record/1", "made": "now", "secret_sent": "33" * 32, **names}
    ))  # fmt: skip
    response.write_text(json.dumps(
        {"schema": "cvmlab.challenge-response/1", "secret_returned": "44" * 32, **names}
    ))  # fmt: skip
    code, out, _ = run("enroll", "complete", response, "--record", record)
    assert code == 1
    assert "another secret" in out
    assert json.loads((tmp_path / "credential_activation.json").read_text())["secret_returned"] == "44" * 32
    # a second answer does not overwrite the first
    code, _, err = run("enroll", "complete", response, "--record", record)
    assert code == 2
    assert "cannot be written" in err


def test_import_of_the_commands_needs_no_tpm_library() -> None:
    code = "import sys; import cvmlab.cli, cvmlab.tpm.collect; print('tpm2_pytss' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
