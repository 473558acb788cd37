"""Where evidence comes from: a directory, a zip or a tar of one. Files are read, never unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.evidence.directory import evidence_of
from cvmlab.evidence.formats import is_known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cvmlab.evidence.model import Evidence

MAX_FILES: Final = 512
"""Most files taken from one directory or archive."""

MAX_FILE: Final = 64 << 20
"""Largest file read, in bytes."""

MAX_SINGLE: Final = 32 << 20
"""Largest file of another tool that is evidence by itself, in bytes."""

MAX_TOTAL: Final = 256 << 20
"""Most bytes read from one directory or archive."""

_OPENERS: Final[dict[bytes, Callable[[IO[bytes]], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
_DAMAGE: Final = (
    # what zipfile, tarfile and the decompressors raise for bytes that were tampered with
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file as found.

    Attributes:
        name: Name without folders.
        data: The content; None where it could not or must not be read.
        size: Bytes, as the directory or archive states them.
        note: Why `data` is None.
    """

    name: str
    data: bytes | None
    size: int
    note: str = ""


def load_evidence(path: str | Path) -> Evidence:
    """Read evidence from a directory, from a zip or tar of one, or from one file of another tool.

    Args:
        path: What the analyst names. Only files directly in the directory count; an archive may hold
            one folder around them. A single file counts where it is another tool's evidence
            (`cvmlab.evidence.formats`), told by content.

    Returns:
        The claims, with what could not be read as problems and what is missing as `Evidence.absent`.

    Raises:
        EvidenceError: There is nothing at `path`, it is neither directory nor archive nor evidence of a
            tool, or holds no file that is known as evidence.
    """
    source = Path(path)
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise EvidenceError(f"{source}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        files = list(directory_files(source))
        if not files:
            raise EvidenceError(f"{source}: {_no_file(source)}")
    elif stat.S_ISREG(mode):
        files = single_file(source) or read_archive(source)
    else:
        raise EvidenceError(f"{source}: neither a directory nor an archive")
    return evidence_of(files, source=str(source), default_name=stem(source))


def _no_file(root: Path) -> str:
    """Why a directory without files is no evidence, and what was perhaps meant."""
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    if not folders:
        return "the folder is empty"
    listed = ", ".join(map(repr, folders[:4])) + (", …" if len(folders) > 4 else "")
    return f"no file here, only folders: name the one that holds the evidence ({listed})"


def single_file(source: Path) -> list[RawFile]:
    """Return a file that is another tool's evidence; nothing where it is none, an archive for example."""
    try:
        if source.stat().st_size > MAX_SINGLE:
            return []
        with source.open("rb") as file:
            data = file.read(MAX_SINGLE + 1)
    except OSError as error:
        raise EvidenceError(f"{source}: cannot be read: {error.strerror or error}") from error
    return [RawFile(source.name, data, len(data))] if len(data) <= MAX_SINGLE and is_known(data) else []


def stem(source: Path) -> str:
    """Return the name of a folder or file without what says that it is an archive."""
    name = Path(os.path.abspath(source)).name  # noqa: PTH100 - resolve() would follow symbolic links
    for suffix in (".tar.gz", ".tar.xz", ".tar.bz2", ".tgz", ".zip", ".tar"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def directory_files(root: Path) -> Iterator[RawFile]:
    """Read the files directly in a directory, within the limits of one evidence.

    Raises:
        EvidenceError: It cannot be listed, or has more than `MAX_FILES` files.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root))
    except OSError as error:
        raise EvidenceError(f"{root}: cannot be listed: {error.strerror or error}") from error
    if len(names) > MAX_FILES:
        raise EvidenceError(f"{root}: {len(names)} files; an evidence directory has at most {MAX_FILES}")
    left = MAX_TOTAL
    for name in names:
        path = root / name
        try:
            state = path.lstat()
            if stat.S_ISDIR(state.st_mode):
                continue
            if not stat.S_ISREG(state.st_mode):
                note = "not a plain file: links and devices are not followed; copy the file itself here"
                yield RawFile(name, None, 0, note)
                continue
            limit = min(MAX_FILE, left)
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            yield RawFile(name, None, 0, f"cannot be read: {error.strerror or error}")
            continue
        if len(data) > limit:
            yield RawFile(name, None, state.st_size, _too_large(limit))
            continue
        left -= len(data)
        yield RawFile(name, data, len(data))


def _too_large(limit: int) -> str:
    if limit < MAX_FILE:
        return f"all files together are more than {MAX_TOTAL >> 20} MiB"
    return f"more than {MAX_FILE >> 20} MiB"


def read_archive(source: Path) -> list[RawFile]:
    """Read the files of a zip or tar archive, told by content.

    Raises:
        EvidenceError: It is neither, it is damaged as a whole, or has more than `MAX_FILES` members.
    """
    return _flat(_members(source), source)


def archive_members(source: Path) -> Iterator[tuple[PurePosixPath, RawFile]]:
    """Read every file of a zip or tar archive, with its place; several machines' may be in one.

    All together may be `MAX_TOTAL` bytes; what is beyond has no data and says so.

    Raises:
        EvidenceError: It is neither, or it is damaged as a whole.
    """
    for name, data, size, note in _members(source):
        place = _place(name)
        yield place, RawFile(place.name, data, size, note)


def _members(source: Path) -> Iterator[tuple[str, bytes | None, int, str]]:
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                yield from _zip(archive)
        else:
            with tarfile.open(fileobj=io.BytesIO(_unpacked(source)), mode="r:") as tar:
                yield from _tar(tar)
    except EvidenceError:
        raise
    except _DAMAGE as error:
        raise EvidenceError(
            f"{source}: neither a directory, nor a zip or tar archive that can be read ({error}), nor a file "
            "of a tool that is known. "
            "Name the folder that holds eventlog.bin and quote.msg; `cvmlab events` reads a single log"
        ) from error


def _place(name: str) -> PurePosixPath:
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".")]
    return PurePosixPath(*parts)


def _unpacked(source: Path) -> bytes:
    """Return the bytes of a tar, decompressed as far as evidence may go.

    `tarfile` reads headers of any size whole and unpacks whatever it skips, so the size is settled first.
    """
    limit = MAX_TOTAL + MAX_FILES * tarfile.RECORDSIZE
    with source.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
        data = file.read(limit + 1) if opener is None else opener(file).read(limit + 1)
    if len(data) > limit:
        raise EvidenceError(f"{source}: {_too_large(0)}; name a folder with the evidence alone")
    return data


def _zip(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes | None, int, str]]:
    left = MAX_TOTAL
    for info in archive.infolist():
        if info.filename.endswith("/"):
            continue
        limit = min(MAX_FILE, left)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            yield info.filename, None, 0, "not a plain file: links and devices are not followed"
            continue
        if info.flag_bits & 1:
            yield info.filename, None, info.file_size, "encrypted"
            continue
        try:
            with archive.open(info) as file:
                data = file.read(limit + 1)
        except _DAMAGE as error:
            yield info.filename, None, info.file_size, f"damaged: {error}"
            continue
        if len(data) > limit:
            yield info.filename, None, info.file_size, _too_large(limit)
            continue
        left -= len(data)
        yield info.filename, data, len(data), ""


def _tar(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | None, int, str]]:
    left = MAX_TOTAL
    for info in archive:
        if info.isdir():
            continue
        if not info.isreg():
            yield info.name, None, 0, "not a plain file: links and devices are not followed"
            continue
        limit = min(MAX_FILE, left)
        if info.size > limit:
            yield info.name, None, info.size, _too_large(limit)
            continue
        file = archive.extractfile(info)
        data = file.read(limit) if file is not None else b""
        left -= len(data)
        if len(data) != info.size:
            yield info.name, None, info.size, "the archive ends inside it"
            continue
        yield info.name, data, len(data), ""


def _flat(members: Iterable[tuple[str, bytes | None, int, str]], source: Path) -> list[RawFile]:
    """Take the members at the top, or in the one folder that holds everything."""
    found: list[tuple[PurePosixPath, bytes | None, int, str]] = []
    for name, data, size, note in members:
        if len(found) >= MAX_FILES:
            raise EvidenceError(f"{source}: more than {MAX_FILES} files; evidence of one machine has fewer")
        found.append((_place(name), data, size, note))
    folders = {path.parts[0] if len(path.parts) > 1 else "" for path, *_ in found}
    strip = 1 if len(folders) == 1 and "" not in folders else 0
    if len(folders) > 1 and "" not in folders:
        names = ", ".join(repr(name) for name in sorted(folders)[:8])
        raise EvidenceError(
            f"{source}: {len(folders)} folders and no file beside them ({names}): evidence of one machine "
            "lies in one folder. Unpack the archive and name one of them"
        )
    seen: dict[str, RawFile] = {}
    for path, data, size, note in found:
        if len(path.parts) != strip + 1:
            continue
        name = path.name
        if name in seen:
            seen[name] = RawFile(
                name, None, size, "the archive holds two files of this name: neither is used"
            )
        else:
            seen[name] = RawFile(name, data, size, note)
    return sorted(seen.values(), key=lambda file: file.name)
