"""Other forms that digests are of: variable stores, command lines, images inside images, what images say."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from archive import download
from hypothesis import given, settings
from hypothesis import strategies as st
from pe_builder import pe, signed

import cvmlab
from cvmlab.artifacts import identify
from cvmlab.artifacts.product import product
from cvmlab.artifacts.sources import artifacts
from cvmlab.artifacts.varstore import looks_like_store, stored_variables
from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.uefi.pe import parse_pe

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
OPTIONS = "ro console=tty0 console=ttyS0,115200n8 audit=1 quiet"
SBAT = (
    b"sbat,1,SBAT Version,sbat,1,https://example.org\n"
    b"grub,3,Free Software Foundation,grub,2.06,https://example.org\n"
    b"grub.debian,4,Debian,grub2,2.06-13,https://example.org\n"
)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- variable stores ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Variable stores of Debian's firmware, and one that virt-fw-vars changed."""
    folder = tmp_path_factory.mktemp("stores")
    package, _ = download(folder, "ovmf")
    subprocess.run(["dpkg-deb", "-x", package, folder / "x"], check=True, timeout=120)
    found = sorted((folder / "x").rglob("OVMF_VARS*.fd"))
    changed = folder / "changed.fd"
    subprocess.run(
        [sys.executable, "-m", "virt.firmware.vars", "-i", found[0], "-o", changed, "--secure-boot",
         "--set-true", "CustomMode", "--append-boot-filepath", "\\EFI\\debian\\shimx64.efi"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return [*found, changed]


def test_store_has_the_variables_that_virt_fw_vars_reads(stores: list[Path], tmp_path: Path) -> None:
    compared = 0
    for store in stores:
        out = tmp_path / "vars.json"
        subprocess.run(
            [sys.executable, "-m", "virt.firmware.vars", "-i", store, "--output-json", out],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        theirs = {
            (v["name"], v["guid"]): (v["attr"], v["data"]) for v in json.loads(out.read_text())["variables"]
        }
        data = store.read_bytes()
        assert looks_like_store(data)
        ours = {
            (v.name, str(v.guid)): (v.attributes, v.data.hex())
            for v in stored_variables(data, source=store.name)
        }
        assert ours == theirs, store.name
        compared += len(ours)
    assert compared > 20


def test_cut_store_gives_what_stands_before_the_cut(stores: list[Path]) -> None:
    data = stores[-1].read_bytes()
    whole = list(stored_variables(data, source="x"))
    assert whole
    for size in (0, 50, 73, 100, 200, 5000):
        part = data[:size]
        if looks_like_store(part):
            found = list(stored_variables(part, source="x"))
            assert found == whole[: len(found)]


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_store_never_crashes(changes: list[tuple[int, int]]) -> None:
    guid = bytes.fromhex("782cf3aa7b949a43a1802e144ec37792")
    head = (
        bytes(16) + bytes(16) + (4096).to_bytes(8, "little") + b"_FVH" + bytes(4) + (56).to_bytes(2, "little")
    )
    store = guid + (4000).to_bytes(4, "little") + b"\x5a\xfe" + bytes(6)
    variable = (
        b"\xaa\x55\x3f\0" + bytes(32) + (6).to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(16)
    )
    data = bytearray(head.ljust(56, b"\0") + store + (variable + b"d\0b\0\0\0" + b"data") * 20).ljust(
        4096, b"\xff"
    )
    for at, value in changes:
        data[at] = value
    if looks_like_store(bytes(data)):
        assert len(list(stored_variables(bytes(data), source="x"))) <= 4096


# --- command lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("boot", ["uki_signed", "sdboot_uki"])
@pytest.mark.parametrize("kind", ["cmdline", "entry", "image"])
def test_load_options_of_real_boots_are_found(tmp_path: Path, boot: str, kind: str) -> None:
    """The kernel's stub logs no more than that it measured its options."""
    log = read_event_log(BOOTS / boot / "eventlog.bin")
    event = next(e for e in log.events if "load options" in e.payload.summary)
    if kind == "cmdline":
        (tmp_path / "cmdline").write_text(OPTIONS + "\n")
    elif kind == "entry":
        (tmp_path / "debian.conf").write_text(f"title Debian\nlinux /vmlinuz\noptions  {OPTIONS}\n")
    else:
        (tmp_path / "uki.efi").write_bytes(pe({".linux": b"k" * 600, ".cmdline": OPTIONS.encode()}))
    digest = event.digests["sha256"]
    match = identify([digest], [tmp_path])[digest][0]
    assert match.form.endswith("text in UTF-16 with NUL")


def test_command_line_that_differs_is_not_found(tmp_path: Path) -> None:
    log = read_event_log(BOOTS / "uki_cmdline_changed" / "eventlog.bin")
    event = next(e for e in log.events if "load options" in e.payload.summary)
    (tmp_path / "cmdline").write_text(OPTIONS)
    assert identify([event.digests["sha256"]], [tmp_path]) == {}


# --- images ------------------------------------------------------------------------------------------


def test_kernel_inside_an_image_is_found_as_an_image(tmp_path: Path) -> None:
    inner = pe({".text": b"\x90" * 700})
    (tmp_path / "uki.efi").write_bytes(pe({".linux": inner, ".osrel": b"ID=debian\n"}))
    digest = parse_pe(inner, source="x").authenticode("sha384")
    match = identify([digest], [tmp_path])[digest][0]
    assert (match.form, match.bank) == ("authenticode of section .linux", "sha384")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({".text": b"x", ".sbat": SBAT}, "grub2 2.06-13 of Debian"),
        (
            {".text": b"x", ".sbat": b"sbat,1,SBAT,sbat,1,u\nshim,1,UEFI shim,shim,1,u\n"},
            "shim 1 of UEFI shim",
        ),
        ({".text": b"x", ".sbat": b"sbat,1,SBAT,sbat,1,u\nshort,row\n"}, ""),
        ({".text": b"x", ".sbat": b"\xff" * 90}, ""),
        (
            {".linux": b"x", ".osrel": b'ID=debian\nPRETTY_NAME="Debian 12"\n', ".uname": b"6.1.0\n"},
            "unified kernel image of Debian 12 with Linux 6.1.0",
        ),
        ({".linux": b"x", ".osrel": b"nothing"}, ""),
        ({".text": b"x"}, ""),
    ],
    ids=["vendor", "upstream", "short_row", "no_text", "unified", "unified_without_name", "nothing"],
)
def test_program_and_version_as_the_image_states_them(sections: dict[str, bytes], says: str) -> None:
    assert product(parse_pe(pe(sections), source="x")) == says


def test_issuer_that_no_certificate_proves_is_said_as_a_statement(tmp_path: Path) -> None:
    """Anyone can write a well-known issuer into a certificate of their own."""
    run = [
        "openssl",
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=Evil",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.csr",
    ]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
         "/CN=Microsoft Corporation UEFI CA 2011", "-keyout", "ca.key", "-out", "ca.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-out", "leaf.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "plain.efi").write_bytes(pe({".text": b"x" * 600}))
    subprocess.run(
        ["sbsign", "--key", "leaf.key", "--cert", "leaf.pem", "--output", "signed.efi", "plain.efi"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    data = (tmp_path / "signed.efi").read_bytes()
    digest = parse_pe(data, source="x").authenticode("sha256")
    meaning = identify([digest], [tmp_path / "signed.efi"])[digest][0].meaning
    assert "signed by Evil (issuer stated: Microsoft Corporation UEFI CA 2011)" in meaning


# --- packages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["zstd", "xz", "gzip", "none"])
def test_package_of_every_compression(tmp_path: Path, compression: str) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (root / "file").write_bytes(b"contents" * 999)
    command = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", root, tmp_path / "x.deb"]
    subprocess.run(command, check=True, capture_output=True)
    found = {item.path: item for item in artifacts(tmp_path / "x.deb")}
    assert found["file"].data == b"contents" * 999
    assert found["file"].package == "x 1"


def test_damaged_zstd_is_said(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (root / "file").write_bytes(bytes(range(256)) * 999)
    path = tmp_path / "x.deb"
    subprocess.run(["dpkg-deb", "-Zzstd", "-b", root, path], check=True, capture_output=True)
    data = bytearray(path.read_bytes())
    at = data.index(b"data.tar.zst") + 60
    for place in (at + 1, at + 20):
        changed = data.copy()
        changed[place] ^= 0x55
        path.write_bytes(bytes(changed))
        with pytest.raises(EvidenceError, match=r"x\.deb"):
            list(artifacts(path))


# --- what a person reads -----------------------------------------------------------------------------


def test_sentence_names_what_was_and_what_is(tmp_path: Path) -> None:
    """From images made here: the digests of the events are put into the matches by hand."""
    from dataclasses import replace

    result = cvmlab.investigate(
        BOOTS / "boot_loader_changed",
        baseline=cvmlab.sample_baseline(),
        trust_roots=cvmlab.sample_trust_root(),
    )
    assert result.matches == {}
    assert result.summary.endswith("a boot loader changed.")
    assert result.comparison is not None
    row = next(r for r in result.comparison.rows if r.register == 4)
    data, _ = signed(tmp_path, pe({".text": b"x" * 600, ".sbat": SBAT}), name="Example")
    path = tmp_path / "grubx64.efi"
    path.write_bytes(data)
    digest = parse_pe(data, source="x").authenticode("sha256")
    match = identify([digest], [path])[digest]
    after = dict.fromkeys(row.digests_after.values(), match)
    told = replace(result, matches=after)
    assert told.summary.endswith(
        "a boot loader changed, to grub2 2.06-13 of Debian (grubx64.efi), signed by Example."
    )
    both = replace(result, matches=after | dict.fromkeys(row.digests_before.values(), match))
    assert "changed, from grub2 2.06-13 of Debian (grubx64.efi), signed by Example, to grub2" in both.summary
    shutil.rmtree(tmp_path)
