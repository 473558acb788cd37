"""What the verifier brings along: trust roots, and collateral of processors, from files and folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError, ParseError
from cvmlab.evidence.certificates import read_certificates
from cvmlab.evidence.hardware import read_hardware, recognise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from cvmlab.evidence.model import CollateralClaim

VARIABLE: Final = "CVMLAB_TRUST"
"""Environment variable that names a trust folder used in every judgement."""

MAX_FILES: Final = 256
MAX_FILE: Final = 8 << 20


@dataclass(slots=True)
class TrustMaterial:
    """What was read.

    Attributes:
        roots: Certificates that the verifier names as roots.
        certificates: Certificates that help to build paths and are no roots.
        collateral: TCB info, QE identities, revocation lists.
    """

    roots: list[x509.Certificate] = field(default_factory=list)
    certificates: list[x509.Certificate] = field(default_factory=list)
    collateral: list[CollateralClaim] = field(default_factory=list)


def read_trust(
    roots: Iterable[str | Path], collateral: Iterable[str | Path] = (), *, environment: bool = True
) -> TrustMaterial:
    """Read trust roots and collateral.

    Args:
        roots: Certificate files, or folders of them. Every certificate there counts as a root; a
            revocation list, TCB info or QE identity there counts as collateral.
        collateral: Files or folders of collateral; certificates there are candidates, never roots.
        environment: Read the folder that `VARIABLE` names as well.

    Raises:
        EvidenceError: A named file is not there, too large, or none of these. In a folder, files that are
            none of these are passed over.
    """
    material = TrustMaterial()
    named = [Path(path) for path in roots]
    if environment and (folder := os.environ.get(VARIABLE)):
        named.append(Path(folder))
    for path in named:
        for file, alone in _files(path, "trust root"):
            _read(file, material, alone=alone, root=True)
    for path in (Path(path) for path in collateral):
        for file, alone in _files(path, "collateral"):
            _read(file, material, alone=alone, root=False)
    return material


def _files(path: Path, what: str) -> list[tuple[Path, bool]]:
    """A file, or the plain files of a folder; True where it was named itself."""
    try:
        if not path.is_dir():
            return [(path, True)]
        found = sorted(entry for entry in path.iterdir() if entry.is_file())
    except OSError as error:
        raise EvidenceError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error
    if len(found) > MAX_FILES:
        raise EvidenceError(f"{path}: {len(found)} files; a trust folder has at most {MAX_FILES}")
    return [(file, False) for file in found]


def _read(path: Path, material: TrustMaterial, *, alone: bool, root: bool) -> None:
    what = "trust root" if root else "collateral"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error
    if not 0 < len(data) <= MAX_FILE:
        if alone:
            raise EvidenceError(f"{path}: the {what} is empty or larger than {MAX_FILE >> 20} MiB")
        return
    try:
        if recognise(data) in ("collateral", "crl", "bundle", "table"):
            found = read_hardware(data, source=path.name)
            material.collateral += found.collateral
            material.certificates += [claim.certificate for claim in found.certificates]
        else:
            certificates = read_certificates(data, source=path.name)
            (material.roots if root else material.certificates).extend(certificates)
    except ParseError as error:
        if alone:
            raise EvidenceError(f"{path}: the {what} cannot be used: {error.message}") from error
