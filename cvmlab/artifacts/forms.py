"""What becomes a digest besides a file itself: variables, their entries, and command lines."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Final

from cvmlab.artifacts.known import EFI_GLOBAL_VARIABLE, variable_data
from cvmlab.artifacts.varstore import looks_like_store, stored_variables
from cvmlab.binary import Cursor
from cvmlab.uefi.guids import EFI_IMAGE_SECURITY_DATABASE
from cvmlab.uefi.siglist import parse_signature_lists_tolerant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.artifacts.sources import Artifact

MAX_TEXT: Final = 1 << 16
"""Longest file, in bytes, that is looked through for command lines."""
MAX_ENTRIES: Final = 256
"""Most entries of one signature database tried one by one."""
_VARIABLE_FILE: Final = re.compile(
    r"([A-Za-z0-9]{1,64})-([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
)
_LIST_FILE: Final = re.compile(r"(PK|KEK|db|dbx)\.(esl|bin)", re.IGNORECASE)
_DATABASES: Final = {"db", "dbx", "dbt", "dbr"}
_OPTIONS: Final = re.compile(r"^options[ \t]+(.+)$", re.MULTILINE)


def forms(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """Yield (form, bytes) for whatever a file says that is measured in another form than the file's own."""
    for name, guid, data in _variables(artifact):
        yield f"variable {name}", variable_data(name, guid, data)
        yield f"data of variable {name}", data
        if guid == EFI_IMAGE_SECURITY_DATABASE or name.startswith("MokList"):
            yield from _entries(name, guid, data)
    yield from command_lines(artifact.data)


def _variables(artifact: Artifact) -> Iterator[tuple[str, uuid.UUID, bytes]]:
    name = artifact.path.rsplit("/", 1)[-1]
    if match := _VARIABLE_FILE.fullmatch(name):
        # efivarfs puts four bytes of attributes before the data
        yield match[1], uuid.UUID(match[2]), artifact.data[4:]
    elif match := _LIST_FILE.fullmatch(name):
        short = match[1].upper() if match[1].lower() in ("pk", "kek") else match[1].lower()
        guid = EFI_IMAGE_SECURITY_DATABASE if short in _DATABASES else EFI_GLOBAL_VARIABLE
        yield short, guid, artifact.data
    elif looks_like_store(artifact.data):
        for variable in stored_variables(artifact.data, source=artifact.path):
            yield variable.name, variable.guid, variable.data


def _entries(name: str, guid: uuid.UUID, data: bytes) -> Iterator[tuple[str, bytes]]:
    """What is measured when one entry vouches for an image (PFP 1.06, section 3.3.4.8)."""
    lists, _ = parse_signature_lists_tolerant(Cursor(data))
    found = (entry for one in lists if one.type_name == "X509" for entry in one.signatures)
    for number, entry in zip(range(MAX_ENTRIES), found, strict=False):
        whole = entry.owner.bytes_le + entry.data
        yield f"entry {number} of variable {name}", variable_data(name, guid, whole)


def command_lines(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what is measured of a command line: the only line of a file, or the options of a boot entry.

    GRUB measures the bytes, systemd-stub and the kernel's EFI stub UTF-16 with a terminator.
    """
    if len(data) > MAX_TEXT or b"\0" in data.rstrip(b"\0\n"):
        return
    try:
        text = data.rstrip(b"\0\n").decode("utf-8")
    except UnicodeDecodeError:
        return
    lines = [text] if text and "\n" not in text else _OPTIONS.findall(text)[:MAX_ENTRIES]
    for line in lines:
        wide = line.encode("utf-16-le")
        yield "text", line.encode()
        yield "text with NUL", line.encode() + b"\0"
        yield "text in UTF-16", wide
        yield "text in UTF-16 with NUL", wide + b"\0\0"
