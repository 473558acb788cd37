"""Archives made to cost memory, to reach other files, or to end the reader."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_evidence, sources

if TYPE_CHECKING:
    from collections.abc import Callable

BOOT = Path(__file__).resolve().parents[2] / "sample_data" / "boots" / "baseline"
FILES = {name: (BOOT / name).read_bytes() for name in ("eventlog.bin", "quote.msg", "nonce.hex", "ak.pub")}


def _tar(form: int = tarfile.PAX_FORMAT, files: dict[str, bytes] = FILES) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def _zip(method: int, files: dict[str, bytes] = FILES) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_tar_is_read_in_every_compression(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    target = tmp_path / "evidence.tar"
    target.write_bytes(pack(_tar()))
    assert {f.name for f in load_evidence(target).files} == set(FILES)


@pytest.mark.parametrize("method", [0, 8, 12, 14], ids=["stored", "deflate", "bzip2", "lzma"])
def test_zip_is_read_in_every_compression(tmp_path: Path, method: int) -> None:
    target = tmp_path / "evidence.zip"
    target.write_bytes(_zip(method))
    assert {f.name for f in load_evidence(target).files} == set(FILES)


@pytest.mark.parametrize("kind", [b"x", b"L", b"g", b"0"], ids=["pax", "gnu_long_name", "pax_global", "file"])
def test_compressed_tar_unpacks_no_further_than_evidence_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes
) -> None:
    """A header of the archive's own may claim any size, and is read whole by whoever trusts it."""
    monkeypatch.setattr(sources, "MAX_TOTAL", 1 << 20)
    info = tarfile.TarInfo("@" if kind != b"0" else "unrelated")
    info.type, info.size = kind, 200 << 20
    target = tmp_path / "bomb.tar.gz"
    with gzip.open(target, "wb", 1) as file:
        file.write(info.tobuf())
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(EvidenceError, match="MiB"):
        load_evidence(target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_member_above_the_limit_is_said_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_FILE", 1 << 20)
    target = tmp_path / "large.tar.gz"
    target.write_bytes(gzip.compress(_tar(files={**FILES, "ima_binary.bin": bytes(2 << 20)})))
    evidence = load_evidence(target)
    assert {f.name: f.status for f in evidence.files}["ima_binary.bin"] == "unreadable"
    assert evidence.logs
    assert evidence.quotes


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR], ids=["link", "fifo", "device"])
def test_links_and_devices_in_a_zip_are_no_files(tmp_path: Path, kind: int) -> None:
    target = tmp_path / "evil.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("eventlog.bin", FILES["eventlog.bin"])
        info = zipfile.ZipInfo("pcrs.json")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, b'{"sha256": {"0": "' + b"00" * 32 + b'"}}')
    evidence = load_evidence(target)
    assert not evidence.readings
    assert "not a plain file" in next(f.note for f in evidence.files if f.name == "pcrs.json")


@pytest.mark.parametrize("method", [8, 12, 14], ids=["deflate", "bzip2", "lzma"])
def test_damaged_member_of_a_zip_leaves_the_others(tmp_path: Path, method: int) -> None:
    data = bytearray(_zip(method))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("eventlog.bin")
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    data[at : at + 64] = bytes(byte ^ 0xFF for byte in data[at : at + 64])
    target = tmp_path / "damaged.zip"
    target.write_bytes(bytes(data))
    evidence = load_evidence(target)
    entry = next(f for f in evidence.files if f.name == "eventlog.bin")
    assert (entry.status, entry.note[:8]) == ("unreadable", "damaged:")
    assert evidence.quotes


def test_member_without_a_name_is_harmless(tmp_path: Path) -> None:
    target = tmp_path / "nameless.zip"
    target.write_bytes(_zip(0).replace(b"nonce.hex", b"\0once.hex"))
    assert load_evidence(target).logs


def test_size_beyond_every_file_is_refused(tmp_path: Path) -> None:
    """GNU's base-256 form of a size holds more than any offset."""
    target = tmp_path / "huge.tar"
    header = bytearray(tarfile.TarInfo("unrelated").tobuf())
    header[124:136] = b"\x80" + b"\x7f" * 11
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    target.write_bytes(bytes(header) + _tar())
    with pytest.raises(EvidenceError):
        load_evidence(target)


SEEDS = [_zip(method) for method in (0, 8, 12, 14)]
SEEDS += [_tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), max_size=8),
    near_the_end=st.booleans(),
)
def test_edited_archive_is_read_or_refused(
    tmp_path: Path, seed: bytes, edits: list[tuple[int, int]], near_the_end: bool
) -> None:
    data = bytearray(seed)
    for at, value in edits:
        data[len(data) - 1 - at % 600 if near_the_end else at % len(data)] = value
    target = tmp_path / "edited"
    target.write_bytes(bytes(data))
    with suppress(EvidenceError):
        load_evidence(target)
