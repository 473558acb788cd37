"""Files to look through: a file, a directory, a Debian package, a tar or zip, a disk image.

Nothing is unpacked to disk, no link is followed, and every count and size is bounded.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.artifacts.fat import read_image
from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE: Final = 512 << 20
MAX_FILES: Final = 200_000
MAX_DEPTH: Final = 32
_AR: Final = b"!<arch>\n"
_AR_HEADER: Final = 60


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file.

    Attributes:
        container: What it is in: the directory, package or image, as named by the user.
        path: Path inside; the name of the file where it stands alone.
        data: Contents.
        package: ``name version`` of the Debian package; empty elsewhere.
    """

    container: str
    path: str
    data: bytes
    package: str = ""


def artifacts(path: str | Path) -> Iterator[Artifact]:
    """Yield the files of a source, told by content.

    Raises:
        EvidenceError: It cannot be read.
    """
    source = Path(path)
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise EvidenceError(f"{source}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        yield from _directory(source)
        return
    if not stat.S_ISREG(mode):
        raise EvidenceError(f"{source}: neither a file nor a directory")
    try:
        yield from _file(source)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        raise EvidenceError(f"{source}: damaged: {error}") from error


def _directory(root: Path) -> Iterator[Artifact]:
    count = 0
    for folder, folders, names in os.walk(root, followlinks=False):
        if len(Path(folder).relative_to(root).parts) >= MAX_DEPTH:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            count += 1
            if count > MAX_FILES:
                raise EvidenceError(f"{root}: more than {MAX_FILES} files")
            try:
                state = path.lstat()
                if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_FILE:
                    continue
                if path.suffix == ".deb":
                    yield from artifacts(path)
                    continue
                yield Artifact(str(root), str(path.relative_to(root)), path.read_bytes())
            except OSError:
                continue


def _file(source: Path) -> Iterator[Artifact]:
    with source.open("rb") as file:
        head = file.read(1 << 16)
    name = str(source)
    if head.startswith(_AR):
        yield from _package(source)
    elif (  # before tar, which takes an image that begins with zeros for an empty archive
        len(head) > 1024
        and (head[512:520] == b"EFI PART" or head[510:512] == b"\x55\xaa")
        and head[:2] != b"MZ"
    ):
        for path, data in read_image(source):
            yield Artifact(name, path, data)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist()[:MAX_FILES]:
                if not info.is_dir() and info.file_size <= MAX_FILE and not info.flag_bits & 1:
                    yield Artifact(name, info.filename, archive.read(info))
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as tar:
            yield from _tar(tar, name, "")
    else:
        size = source.stat().st_size
        if size > MAX_FILE:
            raise EvidenceError(
                f"{source}: more than {MAX_FILE >> 20} MiB, and no image or archive known here"
            )
        yield Artifact(name, source.name, source.read_bytes())


def _tar(tar: tarfile.TarFile, container: str, package: str) -> Iterator[Artifact]:
    for count, info in enumerate(tar):
        if count > MAX_FILES:
            raise EvidenceError(f"{container}: more than {MAX_FILES} files")
        if info.isreg() and info.size <= MAX_FILE:
            file = tar.extractfile(info)
            if file is not None:
                yield Artifact(container, info.name.removeprefix("./"), file.read(), package)


def _package(source: Path) -> Iterator[Artifact]:
    """A Debian package (deb(5)): an ar archive of control.tar.* and data.tar.*."""
    members = dict(_ar(source.read_bytes(), str(source)))
    control = next((name for name in members if name.startswith("control.tar")), None)
    data = next((name for name in members if name.startswith("data.tar")), None)
    if control is None or data is None:
        raise EvidenceError(f"{source}: an ar archive, but no Debian package")
    package = ""
    with _open_tar(members[control], control) as tar:
        for item in _tar(tar, str(source), ""):
            if item.path == "control":
                package = _name_and_version(item.data)
    with _open_tar(members[data], data) as tar:
        yield from _tar(tar, str(source), package)


def _open_tar(data: bytes, name: str) -> tarfile.TarFile:
    if name.endswith(".zst"):
        import pyarrow as pa

        # read as a stream: what it unpacks to is never in memory as a whole
        stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
        return tarfile.open(fileobj=stream, mode="r|")
    return tarfile.open(fileobj=io.BytesIO(data), mode="r:*")


def _ar(data: bytes, source: str) -> Iterator[tuple[str, bytes]]:
    at = len(_AR)
    while at + _AR_HEADER <= len(data):
        header = data[at : at + _AR_HEADER]
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size = header[48:58].strip()
        if header[58:60] != b"`\n" or not size.isdigit():
            raise EvidenceError(f"{source}: offset {at}: no ar member header")
        at += _AR_HEADER
        length = int(size)
        if at + length > len(data):
            raise EvidenceError(f"{source}: offset {at}: {name} is cut")
        yield name, data[at : at + length]
        at += length + length % 2


def _name_and_version(control: bytes) -> str:
    fields = dict(
        line.split(": ", 1) for line in control.decode("utf-8", "replace").splitlines() if ": " in line
    )
    return f"{fields.get('Package', '?')} {fields.get('Version', '?')}"[:200]
