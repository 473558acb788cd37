"""Which file is this digest of? Every way in which a file becomes a digest, tried against those asked for."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.artifacts.known import EFI_GLOBAL_VARIABLE, known_digests, variable_data
from cvmlab.artifacts.sources import artifacts
from cvmlab.banks import digest
from cvmlab.errors import ParseError
from cvmlab.uefi.pe import looks_like_pe, parse_pe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cvmlab.artifacts.sources import Artifact
    from cvmlab.uefi.authenticode import Signer
    from cvmlab.uefi.pe import PeImage

BANK_BY_SIZE: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
EFI_IMAGE_SECURITY_DATABASE: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
_VARIABLE_FILE: Final = re.compile(
    r"([A-Za-z0-9]{1,64})-([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
)
_LIST_FILE: Final = re.compile(r"(PK|KEK|db|dbx)\.(esl|bin)", re.IGNORECASE)
_DATABASES: Final = {"db", "dbx", "dbt", "dbr"}


@dataclass(frozen=True, slots=True)
class Match:
    """What a digest is of.

    Attributes:
        digest: The digest.
        bank: Its hash.
        form: How it comes about: ``file``, ``authenticode``, ``section NAME``, ``variable NAME`` or
            ``well-known``.
        container: Directory, package or image that was searched; empty for well-known values.
        path: Path inside it.
        package: ``name version`` of the Debian package; empty elsewhere.
        meaning: One line for people; unescaped.
        signers: Verified signatures of a PE image, outermost first.
    """

    digest: bytes
    bank: str
    form: str
    container: str
    path: str
    package: str
    meaning: str
    signers: tuple[Signer, ...] = ()


def identify(wanted: Iterable[bytes], files: Iterable[str | Path] = ()) -> dict[bytes, tuple[Match, ...]]:
    """Look digests up among well-known values and the files of some sources.

    Args:
        wanted: Digests of 20, 32, 48 or 64 bytes; others are left out.
        files: Files, directories, Debian packages, archives or disk images.

    Returns:
        Digest to what it is of, only for those that were found; a digest may be of several files.

    Raises:
        EvidenceError: A source cannot be read.
    """
    asked = {value for value in wanted if len(value) in BANK_BY_SIZE}
    banks = tuple(sorted({BANK_BY_SIZE[len(value)] for value in asked}))
    found: dict[bytes, list[Match]] = {}
    known = known_digests()
    for value in asked:
        if value in known:
            match = Match(value, BANK_BY_SIZE[len(value)], "well-known", "", "", "", known[value])
            found.setdefault(value, []).append(match)
    for source in files:
        for artifact in artifacts(source):
            for match in _matches(artifact, banks, asked):
                found.setdefault(match.digest, []).append(match)
    return {value: tuple(matches) for value, matches in found.items()}


def _matches(artifact: Artifact, banks: Iterable[str], asked: set[bytes]) -> Iterator[Match]:
    image = _image(artifact)
    for bank in banks:
        value = digest(bank, artifact.data)
        if value in asked:
            yield _match(artifact, value, bank, "file", image)
        for form, data in _variables(artifact):
            value = digest(bank, data)
            if value in asked:
                yield _match(artifact, value, bank, form, None)
        if image is None:
            continue
        value = image.authenticode(bank)
        if value in asked:
            yield _match(artifact, value, bank, "authenticode", image)
        for section in image.sections:
            # systemd-stub measures sections by their contents; hardly anything else has such names
            if section.name.startswith("."):
                value = digest(bank, image.contents(section))
                if value in asked:
                    yield _match(artifact, value, bank, f"section {section.name}", image)


def _image(artifact: Artifact) -> PeImage | None:
    if not looks_like_pe(artifact.data):
        return None
    try:
        return parse_pe(artifact.data, source=artifact.path)
    except ParseError:
        return None


def _variables(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """What is measured of a variable, from a file of efivarfs or of a signature list."""
    name = artifact.path.rsplit("/", 1)[-1]
    if match := _VARIABLE_FILE.fullmatch(name):
        guid = uuid.UUID(match[2])
        # efivarfs puts four bytes of attributes before the data
        yield f"variable {match[1]}", variable_data(match[1], guid, artifact.data[4:])
        yield f"data of variable {match[1]}", artifact.data[4:]
    elif match := _LIST_FILE.fullmatch(name):
        short = match[1] if match[1] in ("PK", "KEK") else match[1].lower()
        guid = EFI_IMAGE_SECURITY_DATABASE if short in _DATABASES else EFI_GLOBAL_VARIABLE
        yield f"variable {short}", variable_data(short, guid, artifact.data)


def _match(artifact: Artifact, value: bytes, bank: str, form: str, image: PeImage | None) -> Match:
    from cvmlab.uefi.authenticode import signers

    signed = signers(image, source=artifact.path) if image is not None else ()
    meaning = f"{form} of {artifact.path}" if form != "file" else artifact.path
    if artifact.package:
        meaning += f" of {artifact.package}"
    names = [s.certificate.common_name for s in signed if s.holds and s.certificate is not None]
    if names:
        meaning += f", signed by {' and '.join(names)}"
    elif signed:
        meaning += f", with a signature that does not hold ({signed[0].problem})"
    elif image is not None:
        meaning += ", not signed"
    return Match(
        value, bank, form, artifact.container, artifact.path, artifact.package, meaning[:600], signed
    )
