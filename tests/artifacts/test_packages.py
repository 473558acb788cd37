"""Files of Debian's packages found again in real boots, and what a person then reads.

The digests come from the boots' logs, and from the signatures that Microsoft and Debian made, as openssl
reads them: so these tests hold also where the archive no longer has the versions of a boot.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archive import download, signed_digest

import cvmlab
from cvmlab.artifacts import identify
from cvmlab.eventlog import read_event_log

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
PARTS = json.loads((BOOTS / "baseline" / "origin.json").read_text())["components"]
IMAGES = {"shim": "shimx64.efi.signed", "grub": "grubx64.efi.signed", "kernel": "vmlinuz-"}
SIGNERS = {
    "shim": "Microsoft Windows UEFI Driver Publisher (of Microsoft Corporation UEFI CA 2011)",
    "grub": "Debian Secure Boot Signer",
    "kernel": "Debian Secure Boot Signer",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Package and version of each part of the baseline boot."""
    folder = tmp_path_factory.mktemp("packages")
    return {
        part: download(folder, PARTS[part]["package"], PARTS[part]["version"])
        for part in ("shim", "grub", "kernel", "firmware")
    }


@pytest.fixture(scope="module")
def images(
    packages: dict[str, tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The signed image of each part, unpacked by dpkg-deb."""
    found = {}
    for part, name in IMAGES.items():
        folder = tmp_path_factory.mktemp(part)
        subprocess.run(["dpkg-deb", "-x", packages[part][0], folder], check=True, timeout=120)
        found[part] = next(path for path in sorted(folder.rglob("*")) if path.name.startswith(name))
    return found


def test_signed_images_are_found_by_the_digest_that_their_signer_signed(
    packages: dict[str, tuple[Path, str]], images: dict[str, Path], tmp_path: Path
) -> None:
    for part, image in images.items():
        digest = signed_digest(image, tmp_path)
        package, version = packages[part]
        match = identify([digest], [package])[digest][0]
        assert match.form == "authenticode"
        assert match.package.endswith(version)
        assert SIGNERS[part] in match.meaning
        assert match.signers[0].holds
        assert subprocess.run(["sbverify", "--list", image], capture_output=True, check=False).returncode == 0


def _asked(boot: str, packages: dict[str, tuple[Path, str]]) -> dict[str, Any]:
    command = ["whatis", "--json", "--log", str(BOOTS / boot / "eventlog.bin")]
    for package, _ in packages.values():
        command += ["--files", str(package)]
    done = subprocess.run([sys.executable, "-m", "cvmlab", *command], capture_output=True, check=False)
    return {item["asked"]: item["matches"] for item in json.loads(done.stdout)["digests"]}


def _of_this_boot(packages: dict[str, tuple[Path, str]], *parts: str) -> bool:
    return all(packages[part][1] == PARTS[part]["version"] for part in parts)


def test_shim_grub_and_kernel_of_a_real_boot_are_found_in_debians_packages(
    packages: dict[str, tuple[Path, str]],
) -> None:
    """Each part that the archive still has is found; one that it replaced is not taken for the old one."""
    asked = _asked("baseline", packages)
    for part in IMAGES:
        name = f"{PARTS[part]['package']} {PARTS[part]['version']}"
        lines = [m["meaning"] for matches in asked.values() for m in matches if m["package"] == name]
        if _of_this_boot(packages, part):
            assert any(SIGNERS[part] in line for line in lines), part
        else:
            assert not lines


def test_kernel_inside_a_unified_image_is_the_packaged_one(packages: dict[str, tuple[Path, str]]) -> None:
    """The stub measures the section's contents, which are the kernel's file."""
    asked = _asked("uki_signed", packages)
    forms = {m["form"] for matches in asked.values() for m in matches if "vmlinuz" in (m["path"] or "")}
    if _of_this_boot(packages, "kernel"):
        assert forms == {"file"}
    else:
        assert not forms


def test_variables_of_the_packaged_store_are_those_of_a_real_boot(
    packages: dict[str, tuple[Path, str]],
) -> None:
    package, _ = packages["firmware"]
    log = read_event_log(BOOTS / "baseline" / "eventlog.bin")
    events = {e.payload.name: e for e in log.events if e.type_name == "EV_EFI_VARIABLE_DRIVER_CONFIG"}
    wanted = {name: events[name].digests["sha256"] for name in ("PK", "KEK", "db", "dbx")}
    found = identify(wanted.values(), [package])
    for name, digest in wanted.items():
        matches = found.get(digest, ())
        if _of_this_boot(packages, "firmware"):
            assert any(m.form == f"variable {name}" and "VARS" in m.path for m in matches), name
        assert all(m.form.endswith(name) for m in matches)


def test_person_reads_from_which_program_to_which(packages: dict[str, tuple[Path, str]]) -> None:
    """The boot loader was replaced by another that the same package has."""
    result = cvmlab.investigate(
        BOOTS / "boot_loader_changed",
        baseline=cvmlab.sample_baseline(),
        trust_roots=cvmlab.sample_trust_root(),
        files=[packages["grub"][0]],
    )
    if not _of_this_boot(packages, "grub"):
        # another version is not taken for the one that ran; the wording is held to images made in test_forms
        assert result.summary.endswith("a boot loader changed.")
        return
    version = PARTS["grub"]["version"].removeprefix("1+").replace("+", "-", 1)
    assert "a boot loader changed, from grub2" in result.summary
    assert f"to grub2 {version} of Debian (gcdx64.efi.signed), signed by Debian Secure Boot" in result.summary
    text = result.document()
    assert "gcdx64.efi.signed of grub-efi-amd64-signed" in cvmlab_text(text)


def cvmlab_text(document: object) -> str:
    from cvmlab.view import Document, render_text

    assert isinstance(document, Document)
    return " ".join(render_text(document, width=400).split())
