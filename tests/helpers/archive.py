"""Packages of Debian's archive, as they were for a boot, or as they are today where that version is gone."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from needs import absent

if TYPE_CHECKING:
    from pathlib import Path

_PATIENT = ("-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30")


def download(folder: Path, name: str, version: str = "") -> tuple[Path, str]:
    """Download a package, of the version where the archive still has it.

    Args:
        folder: Where to put it.
        name: Name of the package. A kernel's carries its ABI, so a gone one gives way to the one of its kind
            that the archive has.
        version: Version wanted; any where empty.

    Returns:
        The package and its version.
    """
    if shutil.which("apt-get") is None:
        absent("apt-get is not installed: Debian's packages cannot be downloaded")
    for options in (tuple, lambda: _fresh_lists(folder)):
        lists = options()
        for wanted in (f"{name}={version}" if version else name, name, _successor(name, lists)):
            if wanted and (found := _download(folder, wanted, lists)) is not None:
                return found, _field(found, "Version")
    return absent(f"Debian's archive cannot be reached for {name}")


def _download(folder: Path, wanted: str, lists: tuple[str, ...]) -> Path | None:
    before = set(folder.glob("*.deb"))
    command = ["apt-get", *_PATIENT, *lists, "download", wanted]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300)
    new = sorted(set(folder.glob("*.deb")) - before)
    return new[0] if done.returncode == 0 and new else None


def _fresh_lists(folder: Path) -> tuple[str, ...]:
    """Options for package lists of our own, fetched now: those of the system may be missing or stale."""
    state = folder / "lists"
    (state / "partial").mkdir(parents=True, exist_ok=True)
    options = ("-o", f"Dir::State::lists={state}", "-o", f"Dir::Cache={folder / 'cache'}")
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", *_PATIENT, *options, "update"], capture_output=True, check=False, timeout=300)
    return options


def _successor(name: str, lists: tuple[str, ...]) -> str:
    """The kernel package of today: ``linux-image-6.1.0-56-cloud-amd64`` becomes what its kind depends on.

    So does ``linux-image-6.12.117+deb12-cloud-amd64``, as newer kernels are named.
    """
    kind = re.fullmatch(r"linux-image-[0-9.]+(?:-\d+|\+deb\d+)-(.+)", name)
    if kind is None:
        return ""
    command = ["apt-cache", *lists, "depends", f"linux-image-{kind[1]}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.search(r"Depends: (linux-image-[0-9]\S+)", said)
    return found[1] if found else ""


def signed_digest(image: Path, folder: Path) -> bytes:
    """The SHA-256 digest that an image's signer signed, as sbattach and openssl read it."""
    signature = folder / "signature"
    subprocess.run(
        ["sbattach", "--signum", "1", "--detach", signature, image],
        check=True,
        capture_output=True,
        timeout=60,
    )
    said = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER", "-in", signature],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    # the first digest of 32 bytes stands in SpcIndirectDataContent, before certificates and signer
    found = re.search(r"l= {2}32 prim: OCTET STRING +\[HEX DUMP\]:([0-9A-F]{64})", said)
    assert found is not None
    return bytes.fromhex(found[1])


def _field(package: Path, name: str) -> str:
    command = ["dpkg-deb", "-f", package, name]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
