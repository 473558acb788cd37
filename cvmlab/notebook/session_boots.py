"""The boots of a session: loaded from disk or taken from the browser, and why one is not learned from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import CvmlabError, EvidenceError
from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_BOOTS: Final = 5_000
"""Most boots in one session."""

MAX_UPLOAD: Final = 256 << 20
"""Largest archive taken from the browser, in bytes."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of the session.

    Attributes:
        chain: Its trust chain.
        held_back: True where it is only judged, not learned from.
        why: Why it was held back where it was meant to be learned; empty otherwise.
    """

    chain: Assessment
    held_back: bool
    why: str = ""


def read_boots(
    paths: Iterable[str | Path], known: Iterable[str], read: Callable[[Path], Boot]
) -> tuple[list[Boot], list[tuple[str, str]]]:
    """Read what is not known yet.

    Args:
        paths: Folders, archives, or folders of such.
        known: Sources that were read before.
        read: Reads one of them.

    Returns:
        The boots, and what could not be read: path and reason.

    Raises:
        EvidenceError: There are more than `MAX_BOOTS`.
    """
    seen = set(known)
    new: list[Boot] = []
    problems: list[tuple[str, str]] = []
    for path in _expanded(paths):
        if str(path) in seen:
            continue
        if len(seen) >= MAX_BOOTS:
            raise EvidenceError(f"more than {MAX_BOOTS} boots: learn them by `cvmlab baseline learn`")
        seen.add(str(path))
        try:
            new.append(read(path))
        except CvmlabError as error:
            problems.append((str(path), str(error)))
    return new, problems


def read_boot(
    path: Path,
    *,
    trust_roots: Iterable[str | Path],
    enrolled_keys: Iterable[str | Path],
    at: str,
    held_back: bool,
) -> Boot:
    """Read one boot; one that cannot be learned from is held back, with the reason.

    Args:
        path: Folder or archive.
        trust_roots: Certificate files that key certificates must lead to.
        enrolled_keys: Files of keys that are known to be the machines'.
        at: ISO 8601 time for which it is judged.
        held_back: True where it is only to be judged.

    Raises:
        CvmlabError: It cannot be read.
    """
    context = load_context(path, trust_roots=trust_roots, enrolled_keys=enrolled_keys, at=at)
    chain = assess(load_evidence(path), context)
    if held_back:
        return Boot(chain, True)
    broken = next((link for link in chain.links if link.status == "broken"), None)
    if broken is not None:
        return Boot(chain, True, f"the link {broken.name} is broken: {broken.why}")
    if chain.log is None or not chain.log.events:
        return Boot(chain, True, "there is no boot event log to learn from")
    return Boot(chain, False)


def keep_upload(folder: Path, name: str, content: bytes) -> Path:
    """Keep an archive that came from the browser, and return where.

    Args:
        folder: Folder of all uploads.
        name: Name as the browser states it.
        content: What is in it.

    Raises:
        EvidenceError: It is larger than 256 MiB.
    """
    if len(content) > MAX_UPLOAD:
        raise EvidenceError(f"{name}: more than {MAX_UPLOAD >> 20} MiB")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name.replace("\\", "/")).name).lstrip(".")[-80:]
    # the digest is a folder: the machine is named by the archive
    own = folder / hashlib.sha256(content).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    target = own / (plain or "evidence")
    target.write_bytes(content)
    return target


def _expanded(paths: Iterable[str | Path]) -> list[Path]:
    """Evidence paths; a folder that holds only folders stands for those."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.iterdir()) if path.is_dir() else []
        folders = [one for one in inside if one.is_dir()]
        nested = folders and not any(one.is_file() and one.stat().st_size for one in inside)
        found += folders if nested else [path]
    return found
