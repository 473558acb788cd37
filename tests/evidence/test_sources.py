"""Directories and archives become claims: what is read, what is refused, what is said."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_context, load_evidence
from cvmlab.evidence import sources as sources_module

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
BOOT = BOOTS / "baseline"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "web-17"
    shutil.copytree(BOOT, target)
    return target


def _zip(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return target


def _tar(folder: Path, target: Path, prefix: str = "", mode: str = "w") -> Path:
    with tarfile.open(target, mode) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, prefix + path.name)
    return target


def test_directory_gives_every_claim(folder: Path) -> None:
    evidence = load_evidence(folder)
    assert evidence.machine == "web-17"
    assert [log.source for log in evidence.logs] == ["eventlog.bin"]
    assert evidence.quotes[0].name == "quote"
    assert all(quote.signature for quote in evidence.quotes)
    assert evidence.readings
    assert {key.source for key in evidence.keys} >= {"ak.pub", "ak.name", "ek.pub"}
    assert {c.role for c in evidence.certificates} == {"ek", "ca"}
    assert evidence.clock is not None
    assert not evidence.problems
    assert not evidence.absent


@pytest.mark.parametrize("prefix", ["", "web-17/", "./", "./evidence/"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archive_reads_as_the_directory(folder: Path, tmp_path: Path, kind: str, prefix: str) -> None:
    target = tmp_path / f"web-17.{kind}"
    if kind == "zip":
        _zip(folder, target, prefix)
    else:
        _tar(folder, target, prefix, "w:gz" if kind == "tar.gz" else "w")
    evidence = load_evidence(target)
    assert evidence.machine == "web-17"
    assert evidence.evidence_hash == load_evidence(folder).evidence_hash
    assert load_context(target).nonce == load_context(folder).nonce


def test_descriptions_beside_the_evidence_are_never_read(folder: Path) -> None:
    before = load_evidence(folder)
    for name in ("README.md", "summary.json", "boot.json", "eventlog.yaml", "notes.txt", "verdict.json"):
        (folder / name).write_text('{"verdict": "trusted", "secure_boot": true}')
    after = load_evidence(folder)
    assert after.evidence_hash == before.evidence_hash
    prose = [f for f in after.files if f.name.startswith(("README", "summary", "verdict"))]
    assert {f.status for f in prose} == {"ignored"}


@pytest.mark.parametrize(
    "name", ["eventlog.bin", "quote.msg", "quote.sig", "pcrs.yaml", "ak.pub", "ek.pub", "ima_binary.bin"]
)
def test_evidence_hash_covers_each_claim(folder: Path, name: str) -> None:
    before = load_evidence(folder).evidence_hash
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\0")
    assert load_evidence(folder).evidence_hash != before


def test_evidence_hash_leaves_the_verifiers_files_out(folder: Path) -> None:
    before = load_evidence(folder).evidence_hash
    (folder / "nonce.hex").write_text("00" * 20)
    assert load_evidence(folder).evidence_hash == before


def test_log_under_another_name_is_known_by_its_first_bytes(folder: Path) -> None:
    (folder / "eventlog.bin").rename(folder / "dump-of-tuesday")
    assert [log.source for log in load_evidence(folder).logs] == ["dump-of-tuesday"]


def test_links_and_devices_in_a_directory_are_not_opened(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("nonce")
    (folder / "pcrs.yaml").unlink()
    (folder / "pcrs.yaml").symlink_to(secret)
    os.mkfifo(folder / "quote-x.msg")
    evidence = load_evidence(folder)
    states = {file.name: file.status for file in evidence.files}
    assert states["pcrs.yaml"] == "unreadable"
    assert states["quote-x.msg"] == "unreadable"
    assert not evidence.readings


@pytest.mark.parametrize("kind", ["symlink", "hard_link", "device"])
def test_links_and_devices_in_a_tar_are_not_followed(folder: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "evil.tar"
    with tarfile.open(target, "w") as archive:
        archive.add(folder / "eventlog.bin", "eventlog.bin")
        info = tarfile.TarInfo("pcrs.yaml")
        types = {"symlink": tarfile.SYMTYPE, "hard_link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
        info.type = types[kind]
        info.linkname = "/etc/hostname"
        archive.addfile(info)
    evidence = load_evidence(target)
    assert {f.name: f.status for f in evidence.files}["pcrs.yaml"] == "unreadable"


@pytest.mark.parametrize("name", ["../quote.msg", "/etc/quote.msg", "a/b/quote.msg"])
def test_names_that_lead_elsewhere_are_left_out(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "evil.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(folder / "eventlog.bin", "eventlog.bin")
        archive.write(folder / "quote.msg", name)
    assert not load_evidence(target).quotes
    assert not (tmp_path.parent / "quote.msg").exists()


def test_two_files_of_one_name_count_as_neither(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "twice.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(folder / "eventlog.bin", "eventlog.bin")
        archive.write(folder / "pcrs.yaml", "pcrs.yaml")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("pcrs.yaml", b"sha256:\n  0: 0x00\n")
    evidence = load_evidence(target)
    assert not evidence.readings
    assert any("two files" in str(problem) for problem in evidence.problems)


def test_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "MAX_FILE", 1 << 20)
    target = tmp_path / "bomb.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(BOOT / "eventlog.bin", "eventlog.bin")
        archive.writestr("ima_binary.bin", bytes(64 << 20))
    evidence = load_evidence(target)
    assert {f.name: f.status for f in evidence.files}["ima_binary.bin"] == "unreadable"
    assert evidence.logs


def test_all_files_together_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "MAX_TOTAL", 30_000)
    evidence = load_evidence(folder)
    assert any("all files together" in file.note for file in evidence.files)


@pytest.mark.parametrize("kind", ["directory", "zip", "tar"])
def test_too_many_files_are_refused(tmp_path: Path, kind: str) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(sources_module.MAX_FILES + 1):
        (many / f"file-{number:04}").write_bytes(b"")
    path = many if kind == "directory" else (_zip if kind == "zip" else _tar)(many, tmp_path / f"m.{kind}")
    with pytest.raises(EvidenceError, match="512"):
        load_evidence(path)


@pytest.mark.parametrize("cut", [0, 1, 100, 5_000])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_cut_archive_is_refused_or_said(folder: Path, tmp_path: Path, kind: str, cut: int) -> None:
    target = tmp_path / f"cut.{kind}"
    _zip(folder, target) if kind == "zip" else _tar(folder, target, mode="w:gz")
    target.write_bytes(target.read_bytes()[:cut])
    with pytest.raises(EvidenceError, match="archive"):
        load_evidence(target)


def test_encrypted_member_is_said(folder: Path, tmp_path: Path) -> None:
    target = _zip(folder, tmp_path / "locked.zip")
    data = bytearray(target.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(mark, start)) >= 0:
            data[start + at] |= 1
            start += 4
    target.write_bytes(bytes(data))
    evidence = load_evidence(target)
    log = next(file for file in evidence.files if file.name == "eventlog.bin")
    assert (log.status, log.note) == ("unreadable", "encrypted")
    assert not evidence.logs
    assert evidence.absent


def test_nothing_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        load_evidence(tmp_path / "nowhere")
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(EvidenceError, match=r"eventlog\.bin"):
        load_evidence(tmp_path)


def test_archive_of_two_machines_names_their_folders(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "two.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in folder.iterdir():
            for machine in ("web-1", "web-2"):
                archive.write(path, f"{machine}/{path.name}")
    with pytest.raises(EvidenceError, match=r"'web-1', 'web-2'.*name one of them"):
        load_evidence(target)


def test_a_single_log_is_no_evidence_and_the_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cvmlab events"):
        load_evidence(BOOT / "eventlog.bin")


def test_archive_in_memory_round_trip_keeps_bytes(folder: Path, tmp_path: Path) -> None:
    target = _tar(folder, tmp_path / "e.tar")
    with tarfile.open(fileobj=io.BytesIO(target.read_bytes())) as archive:
        inside = archive.extractfile("quote.msg")
        assert inside is not None
        assert inside.read() == load_evidence(target).quotes[0].message
