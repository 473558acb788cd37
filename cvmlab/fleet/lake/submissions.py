"""Where a fleet's evidence comes from: folders, archives and files of many machines, one submission each."""

from __future__ import annotations

import os
import tarfile
import zipfile
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from cvmlab.errors import CvmlabError
from cvmlab.evidence.names import role_of, role_of_name
from cvmlab.evidence.sources import RawFile, archive_members, directory_files, single_file, stem
from cvmlab.evidence.traces import holds_evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_DEPTH: Final = 8
"""Deepest folder below the one that was named."""
MAX_NAME: Final = 256
MAX_STORE_FILE: Final = 1 << 20
MAX_STORE_FILES: Final = 64


@dataclass(frozen=True, slots=True)
class Submission:
    """What one machine handed in.

    Attributes:
        machine: Folder's or file's name. What the evidence calls itself does not count here: with it a
            machine could take another's place.
        source: Where it lies.
        files: The files.
        reason: Why it cannot be used; empty where it may be.
        evidence: Where it cannot be used, whether it looks like evidence all the same: only then a machine
            failed to hand in evidence.
    """

    machine: str
    source: str
    files: tuple[RawFile, ...]
    reason: str = ""
    evidence: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """A place with submissions that was not read yet.

    Attributes:
        path: The folder, archive or file.
        folder: Whether it is one machine's folder.
        reason: Why it cannot be used; empty where it may be.
    """

    path: Path
    folder: bool = False
    reason: str = ""


def find_submissions(paths: Iterable[str | Path]) -> Iterator[Submission]:
    """Walk folders, archives and files and read what is found; see `find_sources`."""
    for source in find_sources(paths):
        yield from read_source(source)


def read_source(source: Source) -> Iterator[Submission]:
    """Read the submissions of one place: one, or of an archive one for each machine."""
    if source.reason:
        yield _unusable(source.path, source.reason)
    elif source.folder:
        yield _folder(source.path)
    else:
        yield from _file(source.path)


def find_sources(paths: Iterable[str | Path]) -> Iterator[Source]:
    """Walk folders, archives and files, in order of name; links are not followed.

    A folder with a file that is known as evidence is one machine's. Any other file is a submission by
    itself: an archive, with one machine or a folder for each, or a file of another tool. What is neither
    is a submission that cannot be used, with the reason.
    """
    for path in paths:
        yield from _walk(Path(path), 0)


def _walk(path: Path, depth: int) -> Iterator[Source]:
    if not path.is_dir():
        yield Source(path)
        return
    if depth > MAX_DEPTH:
        yield Source(path, reason=f"more than {MAX_DEPTH} folders deep")
        return
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        folders = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
        plain = [Path(e.path) for e in entries if not e.is_dir(follow_symlinks=False)]
    except OSError as error:
        yield Source(path, reason=f"cannot be read: {error.strerror or error}")
        return
    if any(_is_named_evidence(one) for one in plain):
        yield Source(path, folder=True)
    else:
        yield from map(Source, plain)
    for folder in folders:
        yield from _walk(folder, depth + 1)


def _is_named_evidence(path: Path) -> bool:
    """Whether a file tells that its folder is one machine's; the first bytes are enough for that."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            role = role_of(path.name, file.read(4096))
    except OSError:
        return False
    return role not in ("other", "verifier") and path.suffix not in (".zip", ".tar", ".tgz", ".gz")


def _folder(path: Path) -> Submission:
    try:
        return Submission(stem(path), str(path), tuple(directory_files(path)))
    except CvmlabError as error:
        return _unusable(path, str(error))


def _file(path: Path) -> Iterator[Submission]:
    if path.is_symlink() or not path.is_file():
        yield _unusable(path, "no plain file; links and devices are not followed")
        return
    try:
        files = single_file(path)
        if files:
            yield Submission(stem(path), str(path), tuple(files))
        elif zipfile.is_zipfile(path) or _is_tar(path):
            yield from _archive(path)
        else:
            yield _unusable(path, "neither an archive nor a file that is known as evidence")
    except (CvmlabError, OSError) as error:
        yield _unusable(path, str(error))


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, ValueError):
        return False


def _archive(path: Path) -> Iterator[Submission]:
    """One machine where all members lie in one folder; else one for each folder that has members."""
    members = sorted(archive_members(path), key=lambda member: member[0].parts)
    groups = [(folder, list(group)) for folder, group in groupby(members, key=lambda m: m[0].parent)]
    for folder, group in groups:
        machine = stem(path) if len(groups) == 1 else folder.name or stem(path)
        source = str(path) if len(groups) == 1 else f"{path}!{folder}"
        yield Submission(machine[:MAX_NAME], source, _once(group))


def _once(members: Sequence[tuple[PurePosixPath, RawFile]]) -> tuple[RawFile, ...]:
    seen: dict[str, RawFile] = {}
    for place, file in members:
        if place.name in seen:
            note = "the archive holds two files of this name: neither is used"
            seen[place.name] = RawFile(place.name, None, file.size, note)
        else:
            seen[place.name] = file
    return tuple(seen.values())


def _unusable(path: Path, reason: str) -> Submission:
    files: tuple[RawFile, ...] = ()
    evidence = True
    try:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            evidence = bool(role_of_name(path.name))
        elif path.is_file():
            with path.open("rb") as file:
                data = file.read(MAX_STORE_FILE + 1)
            evidence = holds_evidence([(path.name, data)])
            if len(data) <= MAX_STORE_FILE:
                files = (RawFile(path.name, data, len(data)),)
    except OSError as error:
        reason += f" ({error.strerror or error})"
    return Submission(stem(path), str(path), files, reason, evidence)


class VerifierStore:
    """What the verifier keeps of each machine: a folder for each, by the machine's name.

    In it count ``nonce.hex``, ``credential_activation.json`` and, in a folder ``enrolled``, keys.
    Nothing here comes from the machine.

    Args:
        root: The folder; None for none.
    """

    def __init__(self, root: str | Path | None) -> None:
        self._root = Path(root) if root is not None else None

    def files_of(self, machine: str) -> tuple[RawFile, ...]:
        """Return the verifier's files of a machine; a name that is no folder's name has none."""
        if (
            self._root is None
            or machine in ("", ".", "..")
            or "/" in machine
            or "\\" in machine
            or "\0" in machine
        ):
            return ()
        own = self._root / machine
        places = [own / "nonce.hex", own / "credential_activation.json"]
        if (own / "enrolled").is_dir():
            places += sorted((own / "enrolled").iterdir())[:MAX_STORE_FILES]
        found = []
        for place in places:
            if place.is_file():
                with place.open("rb") as file:
                    data = file.read(MAX_STORE_FILE)
                name = f"enrolled/{place.name}" if place.parent != own else place.name
                found.append(RawFile(name, data, len(data)))
        return tuple(found)
