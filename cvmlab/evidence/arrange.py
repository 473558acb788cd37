"""From files as found to files of the evidence directory: what is in them, where names do not say it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cvmlab.errors import ParseError
from cvmlab.evidence.formats import translate
from cvmlab.evidence.formats.tpm2_tools import free_stem, place
from cvmlab.evidence.model import EvidenceFile
from cvmlab.evidence.names import role_of, role_of_name
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cvmlab.evidence.formats import Translation
    from cvmlab.evidence.sources import RawFile

CONTAINER: str = "container"
"""Role of a file of another tool that was read as several files of the evidence directory."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """One file to read.

    Attributes:
        file: The file, or a part of one: then its name says of which file, and where in it.
        canonical: Name of the evidence directory that tells its role.
        note: Why it is taken for that, where its own name does not say so.
    """

    file: RawFile
    canonical: str
    note: str = ""


@dataclass(slots=True)
class Arrangement:
    """All files to read, the files that held them, and what is wrong with these."""

    files: list[Arranged] = field(default_factory=list)
    containers: list[EvidenceFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def arrange(files: Sequence[RawFile], aliases: Mapping[str, str]) -> Arrangement:
    """Say for each file what it is, looking into other tools' files.

    Files of the verifier and ``evidence.json`` are never looked into. Of two quotes of one name neither
    hides the other: the one that lay inside another file gets that file's name behind its own.

    Args:
        files: The files as found.
        aliases: File name to the name of the evidence directory that ``evidence.json`` gives it.
    """
    found = Arrangement()
    loose: list[RawFile] = []
    inside: list[Translation] = []
    for file in files:
        canonical = aliases.get(file.name, file.name)
        role = role_of_name(canonical)
        if file.data is None or role in ("verifier", "description"):
            found.files.append(Arranged(file, canonical))
            continue
        try:
            translation = translate(file.data, file.name)
        except ParseError as error:
            found.containers.append(_container(file, str(error), readable=False))
            found.problems.append(Problem.of(error))
            continue
        if translation is not None:
            found.containers.append(_container(file, translation.note(), readable=bool(translation.parts)))
            found.problems += translation.problems
            inside.append(translation)
        elif not role and role_of(canonical, file.data) == "other":
            loose.append(file)
        else:
            found.files.append(Arranged(file, canonical))
    _unpack(found, inside)
    _sort(found, loose)
    return found


def _container(file: RawFile, note: str, *, readable: bool) -> EvidenceFile:
    data = file.data or b""
    status = "read" if readable else "unreadable"
    return EvidenceFile(file.name, len(data), hashlib.sha256(data).hexdigest(), CONTAINER, status, note)  # type: ignore[arg-type]


def _unpack(found: Arrangement, translations: Sequence[Translation]) -> None:
    from cvmlab.evidence.sources import RawFile

    taken = {item.canonical.rsplit(".", 1)[0] for item in found.files if _is_quote(item.canonical)}
    for translation in translations:
        stems: dict[str, str] = {}
        for part in translation.parts:
            canonical = part.name
            if _is_quote(canonical):
                stem, suffix = canonical.rsplit(".", 1)
                if stem not in stems:
                    stems[stem] = _free(stem, taken, translation.source)
                    taken.add(stems[stem])
                canonical = f"{stems[stem]}.{suffix}"
            file = RawFile(f"{translation.source} ({part.where})", part.data, len(part.data))
            found.files.append(Arranged(file, canonical, translation.tool))


def _free(stem: str, taken: set[str], source: str) -> str:
    """Name a quote after its file where another quote has its name already."""
    if stem not in taken:
        return stem
    label = stem.removeprefix("quote").lstrip("-")
    return free_stem({*taken, "quote"}, f"{source.rsplit('.', 1)[0]}-{label}".rstrip("-") + ".")


def _is_quote(canonical: str) -> bool:
    return role_of_name(canonical) in ("quote", "signature")


def _sort(found: Arrangement, loose: Sequence[RawFile]) -> None:
    """Place the files whose name says nothing by what is in them."""
    known = [(item.canonical, item.file.data) for item in found.files if item.file.data]
    places = place([(file.name, file.data) for file in loose if file.data], known)
    for file in loose:
        placed = places.get(file.name)
        if placed is None:
            found.files.append(Arranged(file, file.name))
        else:
            found.files.append(Arranged(file, placed.name or file.name, placed.note))
