"""Records against the distribution's packages, and predictions from the files in these packages."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from archive import download, signed_digest

import cvmlab
from cvmlab.explain.predict import predict
from cvmlab.explain.predict.given import read_given

SAMPLES = Path(__file__).resolve().parents[3] / "sample_data"
BOOTS = SAMPLES / "boots"
GRUB_CFG = "(hd0,gpt1)/boot/grub/grub.cfg"


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    document = json.loads((BOOTS / "artifacts.json").read_text())
    assert document["schema"] == "cvmlab.artifacts/1"
    return dict(document["artifacts"])


def unpacked(folder: Path, entry: dict[str, Any]) -> tuple[Path, bool]:
    """The file of a record from its package, and whether the archive still has the record's version of it."""
    package, version = download(folder, entry["package"], entry["version"])
    subprocess.run(["dpkg-deb", "-x", package, folder / "tree"], check=True, timeout=300)
    start = "vmlinuz-" if entry["file"].startswith("vmlinuz-") else entry["file"]
    found = (path for path in sorted((folder / "tree").rglob("*")) if path.name.startswith(start))
    return next(path for path in found if path.is_file()), version == entry["version"]


@pytest.mark.parametrize("role", ["shim/shimx64.efi.signed", "grub/grubx64.efi.signed"])
def test_a_package_holds_the_file_of_its_record(role: str, records: dict[str, Any], tmp_path: Path) -> None:
    """What is given is read as other programs read it, and is the record's where the version is the same."""
    entry = records[role]
    path, same = unpacked(tmp_path, entry)
    file = read_given(path)
    assert file.digests["sha256"] == hashlib.sha256(path.read_bytes()).digest()
    assert file.image["sha256"] == signed_digest(path, tmp_path)
    assert file.certificates
    if not same:
        return
    record = read_given(f"{BOOTS / 'artifacts.json'}#{role}")
    assert path.stat().st_size == entry["size"]
    assert file.digests.items() >= record.digests.items()
    assert file.image == record.image
    for name, section in record.sections.items():
        assert file.sections[name].digests.items() >= section.digests.items()
        assert file.sections[name].text == section.text
    assert {hashlib.sha256(der).hexdigest() for der in file.certificates} <= set(record.signed_by)


def test_a_kernel_from_its_package_gives_the_registers_of_the_real_boot(
    records: dict[str, Any], tmp_path: Path
) -> None:
    """Of another version than the boot's, which no boot shows, the events are what other programs digest."""
    (name,) = [one for one in records if one.startswith("kernel_updated/")]
    kernel, same = unpacked(tmp_path, records[name])
    before = cvmlab.learn([BOOTS / "baseline"], trust_roots=[BOOTS / "trust-root.pem"])
    (old,) = [one for one in records if one.startswith("kernel/")]
    found = predict(
        before,
        kernel=kernel,
        rename={records[old]["release"]: kernel.name.removeprefix("vmlinuz-")},
        file={GRUB_CFG: SAMPLES / "updates" / "grub-kernel_changed.cfg"},
    )
    assert found.complete
    after = {event.digests_after["sha256"] for event in found.events if event.register in (4, 9)}
    assert {hashlib.sha256(kernel.read_bytes()).digest(), signed_digest(kernel, tmp_path)} <= after
    if not same:
        return
    result = cvmlab.investigate(
        BOOTS / "kernel_changed", baseline=found.baseline, trust_roots=[BOOTS / "trust-root.pem"]
    )
    assert result.verdict == "trusted", result.summary


def test_small_files_of_updates_are_those_of_their_records(records: dict[str, Any]) -> None:
    listed = {
        name.removeprefix("updates/"): one for name, one in records.items() if name.startswith("updates/")
    }
    assert {path.name for path in (SAMPLES / "updates").iterdir()} == set(listed)
    for name, entry in listed.items():
        data = (SAMPLES / "updates" / name).read_bytes()
        assert len(data) == entry["size"]
        assert hashlib.sha384(data).hexdigest() == entry["digests"]["sha384"]
