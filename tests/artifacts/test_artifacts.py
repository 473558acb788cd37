"""Digests found again in files of every kind of source; hostile sources end."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import uuid
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pe_builder import pe, signed

from cvmlab.artifacts import identify, known_digests
from cvmlab.artifacts.sources import artifacts
from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.uefi.pe import parse_pe

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
IMAGE = pe({".text": b"\xc3" * 900, ".linux": b"kernel" * 100, ".cmdline": b"quiet"})


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of what lies on a boot partition."""
    root = tmp_path / "esp"
    (root / "EFI" / "debian").mkdir(parents=True)
    (root / "EFI" / "debian" / "a long name of an image.efi").write_bytes(IMAGE)
    (root / "initrd.img").write_bytes(b"initrd" * 5000)
    return root


def _deb(tmp_path: Path, folder: Path) -> Path:
    """A Debian package made by dpkg-deb."""
    root = tmp_path / "package"
    shutil.copytree(folder, root / "boot")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(
        "Package: shim-test\nVersion: 1.2-3\nArchitecture: all\n"
        "Maintainer: x <x@example.org>\nDescription: x\n"
    )
    target = tmp_path / "shim-test.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zxz", "-b", root, target], check=True, capture_output=True
    )
    return target


def _fat(tmp_path: Path, folder: Path, size: int, *, partitioned: bool) -> Path:
    """A disk image made by mkfs.vfat and mtools."""
    volume = tmp_path / "volume.img"
    volume.write_bytes(b"")
    os.truncate(volume, size)
    subprocess.run(["mkfs.vfat", volume], check=True, capture_output=True)
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(
        ["mcopy", "-s", "-i", volume, *sorted(folder.iterdir()), "::"],
        check=True, capture_output=True, env=environment,
    )  # fmt: skip
    if not partitioned:
        return volume
    start = 2048 * 512
    header = bytearray(512)
    header[0:8] = b"EFI PART"
    header[72:80], header[80:84], header[84:88] = (
        (2).to_bytes(8, "little"),
        (4).to_bytes(4, "little"),
        b"\x80\0\0\0",
    )
    entry = (
        uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le + bytes(16) + (2048).to_bytes(8, "little")
    )
    disk = tmp_path / "disk.img"
    head = bytes(512) + bytes(header) + entry.ljust(128, b"\0")
    disk.write_bytes(head.ljust(start, b"\0") + volume.read_bytes())
    return disk


@pytest.mark.parametrize(
    "kind", ["folder", "deb", "zip", "tar", "fat12", "fat16", "fat32", "partitioned", "deb_in_folder"]
)
def test_files_are_found_in_every_kind_of_source(tmp_path: Path, folder: Path, kind: str) -> None:
    if kind == "folder":
        source = folder
    elif kind.startswith("deb"):
        source = _deb(tmp_path, folder)
        if kind == "deb_in_folder":
            (tmp_path / "cache").mkdir()
            shutil.move(source, tmp_path / "cache" / source.name)
            source = tmp_path / "cache"
    elif kind == "zip":
        source = tmp_path / "x.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.rglob("*"):
                if path.is_file():
                    archive.write(path, path.relative_to(folder))
    elif kind == "tar":
        source = tmp_path / "x.tar"
        with tarfile.open(source, "w") as tar:
            tar.add(folder, "esp")
    else:
        size = {"fat12": 4 << 20, "fat16": 64 << 20, "fat32": 600 << 20, "partitioned": 64 << 20}[kind]
        source = _fat(tmp_path, folder, size, partitioned=kind == "partitioned")
    authenticode = parse_pe(IMAGE, source="x").authenticode("sha256")
    initrd = _sha256(b"initrd" * 5000)
    found = identify([authenticode, initrd, _sha256(b"kernel" * 100)], [source])
    assert found[authenticode][0].form == "authenticode"
    assert "not signed" in found[authenticode][0].meaning
    assert found[authenticode][0].path.endswith("a long name of an image.efi")
    assert found[initrd][0].form == "file"
    assert found[_sha256(b"kernel" * 100)][0].form == "section .linux"
    if kind.startswith("deb"):
        assert found[initrd][0].package == "shim-test 1.2-3"


def test_signer_is_named_only_where_the_signature_holds(tmp_path: Path) -> None:
    data, _ = signed(tmp_path, IMAGE, name="Example Signer")
    good, bad = tmp_path / "good.efi", tmp_path / "bad.efi"
    good.write_bytes(data)
    changed = bytearray(data)
    changed[data.index(b"kernelkernel")] ^= 1
    bad.write_bytes(bytes(changed))
    for path, says in ((good, "signed by Example Signer"), (bad, "does not hold")):
        digest = parse_pe(path.read_bytes(), source="x").authenticode("sha256")
        assert says in identify([digest], [path])[digest][0].meaning


def test_variables_of_efivarfs_are_found_in_real_logs(tmp_path: Path) -> None:
    log = read_event_log(BOOTS / "baseline" / "eventlog.bin")
    event = next(e for e in log.events if e.payload.kind == "revocation-list")
    value = event.payload.fields
    size = value["size"]
    assert isinstance(size, int)
    path = tmp_path / f"dbx-{value['guid']}"
    path.write_bytes(b"\x27\0\0\0" + event.data[-size:])
    digest = event.digests["sha256"]
    assert identify([digest], [tmp_path])[digest][0].form == "variable dbx"
    (tmp_path / "dbx.esl").write_bytes(event.data[-size:])
    assert len(identify([digest], [tmp_path])[digest]) == 2


def test_well_known_digests_are_those_of_real_logs() -> None:
    log = read_event_log(BOOTS / "uki_signed" / "eventlog.bin")
    known = known_digests()
    for event in log.events:
        if event.payload.kind in ("separator", "efi-action", "secure-boot"):
            assert event.digests["sha256"] in known, event.payload.summary
    assert known[_sha256(bytes(4))].startswith("separator")


def test_unknown_digests_are_left_out() -> None:
    assert identify([b"\x01" * 32, b"short"]) == {}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.deb", b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n"),
        ("size.deb", b"!<arch>\ndata.tar.xz     0           0     0     100644  9999999999`\n"),
        ("letters.deb", b"!<arch>\ndata.tar.xz     0           0     0     100644  zz        `\n"),
        ("head.deb", b"!<arch>\n" + b"x" * 60),
    ],
)
def test_damaged_package_is_said(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(EvidenceError, match=name):
        list(artifacts(tmp_path / name))


def test_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        list(artifacts(tmp_path / "nothing"))


def test_links_are_not_followed(tmp_path: Path, folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "passwd").symlink_to("/etc/hostname")
    assert {item.path for item in artifacts(folder)} == {
        "EFI/debian/a long name of an image.efi",
        "initrd.img",
    }


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=12))
def test_hostile_volume_ends(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(_volume(tmp_path_factory))
    for at, value in changes:
        data[at] = value
    path = tmp_path_factory.mktemp("hostile") / "x.img"
    path.write_bytes(bytes(data))
    try:
        for count, _ in enumerate(artifacts(path)):
            assert count < 200_000
    except EvidenceError:
        return


_VOLUMES: dict[str, bytes] = {}


def _volume(factory: pytest.TempPathFactory) -> bytes:
    if "one" not in _VOLUMES:
        where = factory.mktemp("volume")
        root = where / "esp"
        (root / "EFI").mkdir(parents=True)
        (root / "EFI" / "a.efi").write_bytes(b"x" * 3000)
        _VOLUMES["one"] = _fat(where, root, 2 << 20, partitioned=False).read_bytes()
    return _VOLUMES["one"]


def test_command_line_of_whatis(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(IMAGE)
    digest = hashlib.sha384(IMAGE).hexdigest()
    done = subprocess.run(
        [sys.executable, "-m", "cvmlab", "whatis", digest, "--files", path], capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"vmlinuz" in done.stdout
    for arguments, code in (
        (["00" * 32], 1),
        (["zz"], 2),
        (["00"], 2),
        ([], 2),
        ([digest, "--files", "/none"], 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cvmlab", "whatis", *arguments], capture_output=True, check=False
        )
        assert done.returncode == code, arguments


def test_archive_of_archives_is_not_unpacked_again(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x", b"secret")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert identify([_sha256(b"secret")], [tmp_path / "outer.zip"]) == {}
