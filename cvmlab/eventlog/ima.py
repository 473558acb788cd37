"""IMA runtime measurement lists: what Linux measured after the boot, extended into register 10.

The list is read here, in its text form (``ascii_runtime_measurements``) or its binary form
(``binary_runtime_measurements``); `cvmlab.eventlog.ima_replay` turns it into register values.

Source: Linux, security/integrity/ima/ima_fs.c (``ima_measurements_show``,
``ima_ascii_measurements_show``); Documentation/security/IMA-templates.rst.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import DIGEST_SIZE
from cvmlab.binary import Cursor
from cvmlab.errors import EvidenceError, ParseError
from cvmlab.eventlog.ima_fields import (
    LEGACY,
    LEGACY_SIZE,
    MAX_FIELD,
    MAX_PATH,
    Fields,
    decode_binary,
    decode_legacy,
    decode_text,
)
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

MAX_ENTRIES: Final = 5_000_000
MAX_NAME: Final = 255
MAX_LINE: Final = 2 * MAX_FIELD + 2 * MAX_PATH
MAX_PROBLEMS: Final = 1000
"""Oddities kept of one list; reading goes on past them, counting no further."""
MAX_REGISTER: Final = 23
_LOOKED_AT: Final = 8
"""Lines from which the byte order of a text list is told."""

_TEXT_START: Final = re.compile(rb"\s{0,8}\d{1,2} [0-9a-fA-F]{32,128} \S")
_NAME: Final = re.compile(rb"[\x21-\x7e]+")
_BANK_BY_SIZE: Final[dict[int, str]] = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


@dataclass(frozen=True, slots=True)
class ImaEntry:
    r"""One entry of a list: text of the machine until a register value confirms it.

    Attributes:
        index: Position in the list from 0.
        offset: Absolute offset of the entry in the list, in bytes.
        register: PCR index, 10 unless the kernel was built or told otherwise.
        template_hash: Hash of the template data as listed; zeros for a violation.
        template: Name of the template.
        packed_data: The bytes of `template_data`, without the zeros that pad the legacy template's.
        hash_algorithm: Algorithm of `file_digest`, in the kernel's spelling; empty where unknown.
        file_digest: Digest of the file; empty where unknown.
        path: Path or event name, not escaped; bytes that are not UTF-8 show as ``\xNN``.
        signature: File signature, null where there is none.
        violation: True where the kernel could not vouch for the file (it was open for writing while
            measured): zeros are listed and ``FF``… is extended.
    """

    index: int
    offset: int
    register: int
    template_hash: bytes
    template: str
    packed_data: bytes | None
    hash_algorithm: str
    file_digest: bytes
    path: str
    signature: bytes | None
    violation: bool

    @property
    def template_data(self) -> bytes | None:
        """The exact bytes that the template hash covers; null where the text form does not hold them."""
        if self.packed_data is not None and self.template == LEGACY:
            return self.packed_data.ljust(LEGACY_SIZE, b"\0")
        return self.packed_data


@dataclass(frozen=True, slots=True)
class ImaList:
    """One IMA list as read.

    Attributes:
        source: File name or description.
        format: ``ascii``, ``binary``, or ``unknown`` where neither was recognised.
        bank: Bank whose hash the listed template hashes are: ``sha1`` but in the per-bank lists of
            newer kernels.
        entries: All entries up to the damage, if any.
        problems: Damage and oddities. A `fatal` one ended the reading.
        size: Bytes of the input.
    """

    source: str
    format: str
    bank: str
    entries: tuple[ImaEntry, ...]
    problems: tuple[Problem, ...]
    size: int

    @property
    def complete(self) -> bool:
        """True where nothing ended the reading early."""
        return not any(problem.fatal for problem in self.problems)

    def digests_by_path(self) -> dict[str, frozenset[str]]:
        """Return ``algorithm:hex`` digests by path, without boot_aggregate and violations."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            if entry.violation or not entry.file_digest or is_boot_aggregate(entry):
                continue
            text = f"{entry.hash_algorithm}:{entry.file_digest.hex()}"
            found.setdefault(entry.path, set()).add(text)
        return {path: frozenset(digests) for path, digests in found.items()}

    def to_frame(self) -> pd.DataFrame:
        """Return the table `cvmlab.tables.IMA`, one row an entry, indexed by `index`."""
        from cvmlab.eventlog.ima_frame import to_frame

        return to_frame(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.eventlog.ima_frame import ima_view
        from cvmlab.view import mimebundle

        return mimebundle(ima_view(self))


def is_boot_aggregate(entry: ImaEntry) -> bool:
    """Tell whether an entry is the aggregate over PCR 0–9 with which every list starts."""
    return entry.path == "boot_aggregate"


def boot_aggregate_entry(ima: ImaList) -> ImaEntry | None:
    """Return the ``boot_aggregate`` entry: the first of the list, and nowhere else."""
    if ima.entries and is_boot_aggregate(ima.entries[0]):
        return ima.entries[0]
    return None


def read_ima(source: str | Path | bytes, *, name: str | None = None) -> ImaList:
    """Read an IMA list in text or binary form.

    Damage never raises: the entries before it are kept and `ImaList.problems` says where and why.

    Args:
        source: A path, or the bytes.
        name: Name for messages; the file name by default.

    Raises:
        EvidenceError: The path cannot be read.
    """
    if isinstance(source, bytes):
        data, label = source, name or "<bytes>"
    else:
        path = Path(source)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EvidenceError(f"{path}: cannot read the IMA list: {error.strerror or error}") from None
        label = name or path.name
    entries: Iterator[ImaEntry | Problem]
    if not data.strip(b"\n\r\t "):
        form, bank, entries = "unknown", "sha1", iter(())
    elif _TEXT_START.match(data):
        form = "ascii"
        words = data[:256].split()
        bank = _BANK_BY_SIZE.get(len(words[1]) // 2, "sha1")
        entries = _text_entries(data, label, bank, big_endian=_hashed_big_endian(data, label, bank))
    else:
        form, order = "binary", byte_order(data)
        bank = _binary_bank(data, order)
        entries = _binary_entries(data, label, bank, big_endian=order == "big")
    kept: list[ImaEntry] = []
    problems: list[Problem] = []
    for item in entries:
        if isinstance(item, ImaEntry):
            kept.append(item)
        elif item.fatal or len(problems) < MAX_PROBLEMS:
            problems.append(item)
    return ImaList(label, form, bank, tuple(kept), tuple(problems), len(data))


def _entry(index: int, offset: int, register: int, value: bytes, template: str, fields: Fields) -> ImaEntry:
    return ImaEntry(
        index=index,
        offset=offset,
        register=register,
        template_hash=value,
        template=sys.intern(template),
        packed_data=fields.data,
        hash_algorithm=sys.intern(fields.hash_algorithm),
        file_digest=fields.file_digest,
        path=fields.path,
        signature=fields.signature,
        violation=not any(value),
    )


def _check_register(register: int, source: str, offset: int) -> None:
    if register > MAX_REGISTER:
        raise ParseError(
            source,
            offset,
            "pcr",
            reason=f"{register} is no PCR index",
        )


def _template_name(raw: bytes, source: str, offset: int) -> str:
    if not raw or len(raw) > MAX_NAME or not all(0x21 <= byte < 0x7F for byte in raw):
        raise ParseError(source, offset, "template_name", reason="not a template name")
    return raw.decode("ascii")


def byte_order(data: bytes) -> Literal["little", "big"]:
    """Tell by its first PCR index how a binary list writes numbers.

    A big-endian kernel writes its own order unless it was told ``ima_canonical_fmt``.
    """
    little, big = int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")
    named = big <= MAX_REGISTER < little and any(_name_behind(data, size, "big") for size in _BANK_BY_SIZE)
    return "big" if named else "little"


def _name_behind(data: bytes, size: int, order: Literal["little", "big"]) -> bytes:
    """Return the template name behind a first digest of `size` bytes; empty where there is none."""
    length = int.from_bytes(data[4 + size : 8 + size], order)
    name = data[8 + size : 8 + size + length] if 0 < length <= MAX_NAME else b""
    known = name.startswith((b"ima", b"evm", b"d", b"n"))
    return name if len(name) == length and known and _NAME.fullmatch(name) else b""


def _binary_bank(data: bytes, order: Literal["little", "big"]) -> str:
    """Find the digest size at which a template name follows the first digest."""
    found = (bank for size, bank in _BANK_BY_SIZE.items() if _name_behind(data, size, order))
    return next(found, "sha1")


def _binary_entries(data: bytes, source: str, bank: str, *, big_endian: bool) -> Iterator[ImaEntry | Problem]:
    cursor = Cursor(data, source=source, big_endian=big_endian)
    size = DIGEST_SIZE[bank]
    index = 0
    while cursor.remaining:
        offset = cursor.offset
        if index >= MAX_ENTRIES:
            yield Problem(source, offset, "entries", f"more than the limit of {MAX_ENTRIES}")
            return
        try:
            register = cursor.u32("pcr")
            _check_register(register, source, offset)
            value = cursor.take(size, "template_hash")
            at = cursor.offset
            template = _template_name(cursor.counted(4, "template_name", limit=MAX_NAME), source, at)
            fields, problem = _binary_fields(cursor, template, big_endian=big_endian)
        except ParseError as error:
            yield Problem.of(error)
            return
        if problem is not None:
            yield problem
        yield _entry(index, offset, register, value, template, fields)
        index += 1


def _binary_fields(cursor: Cursor, template: str, *, big_endian: bool) -> tuple[Fields, Problem | None]:
    """Read the template data; wrong fields inside a sound frame leave the entry opaque."""
    if template == LEGACY:
        digest = cursor.take(20, "d")
        name = cursor.counted(4, "n", limit=MAX_PATH)
        at = cursor.offset - len(name)
        try:
            return decode_legacy(digest, name, source=cursor.source, offset=at), None
        except ParseError as error:
            return Fields("sha1", digest), Problem.of(error, fatal=False)
    data = cursor.counted(4, "template_data", limit=MAX_FIELD)
    at = cursor.offset - len(data)
    try:
        fields = decode_binary(template, data, source=cursor.source, offset=at, big_endian=big_endian)
        return fields, None
    except ParseError as error:
        return Fields(data=data), Problem.of(error, fatal=False)


def _hashed_big_endian(data: bytes, source: str, bank: str) -> bool:
    """Tell whether the lengths in the hashed bytes are big-endian: the text form does not show them."""
    from cvmlab.banks import digest

    for line in data[: _LOOKED_AT * MAX_PATH].split(b"\n")[:_LOOKED_AT]:
        for big_endian in (False, True):
            try:
                entry = _text_entry(line, source, 0, 0, bank, big_endian=big_endian)
            except ParseError:
                break
            if entry.template_data is not None and digest(bank, entry.template_data) == entry.template_hash:
                return big_endian
    return False


def _text_entries(data: bytes, source: str, bank: str, *, big_endian: bool) -> Iterator[ImaEntry | Problem]:
    position, index = 0, 0
    while position < len(data):
        end = data.find(b"\n", position)
        cut = end < 0
        end = len(data) if cut else end
        offset, position = position, end + 1
        if index >= MAX_ENTRIES:
            yield Problem(source, offset, "entries", f"more than the limit of {MAX_ENTRIES}")
            return
        if end - offset > MAX_LINE:
            yield Problem(
                source, offset, "line", f"more than the limit: need {MAX_LINE}, have {end - offset}"
            )
            return
        line = data[offset:end].removesuffix(b"\r")
        if not line.strip():
            continue
        try:
            entry = _text_entry(line, source, offset, index, bank, big_endian=big_endian)
        except ParseError as error:
            yield Problem.of(error)
            return
        if cut and not _is_whole(entry, bank):
            yield Problem(source, offset, "line", "the last line has no line end: the list is cut short")
            return
        yield entry
        index += 1


def _is_whole(entry: ImaEntry, bank: str) -> bool:
    """Tell by its hash whether a line without a line end is all there."""
    from cvmlab.banks import digest

    return entry.template_data is not None and digest(bank, entry.template_data) == entry.template_hash


def _text_entry(
    line: bytes, source: str, offset: int, index: int, bank: str, *, big_endian: bool
) -> ImaEntry:
    text = line.lstrip(b" ")
    start = offset + len(line) - len(text)
    words = text.split(b" ")
    if len(words) < 4:
        raise ParseError(source, offset, "line", 4, len(words), "words of an entry")
    if not words[0].isdigit() or len(words[0]) > 3:
        raise ParseError(source, start, "pcr", reason="not a PCR index")
    register = int(words[0])
    _check_register(register, source, start)
    at = start + len(words[0]) + 1
    try:
        value = bytes.fromhex(words[1].decode("ascii"))
    except ValueError:
        raise ParseError(source, at, "template_hash", reason="not hexadecimal") from None
    if len(value) != DIGEST_SIZE[bank]:
        raise ParseError(source, at, "template_hash", DIGEST_SIZE[bank], len(value), "size of the digest")
    at += len(words[1]) + 1
    template = _template_name(words[2], source, at)
    at += len(words[2]) + 1
    fields = decode_text(template, words[3:], source=source, offset=at, big_endian=big_endian)
    return _entry(index, offset, register, value, template, fields)


__all__ = [
    "ImaEntry",
    "ImaList",
    "boot_aggregate_entry",
    "is_boot_aggregate",
    "read_ima",
]
