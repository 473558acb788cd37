"""Which log is this? By content, never by name."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog import framing
from cvmlab.eventlog.formats import ccel, cel
from cvmlab.eventlog.formats.cel_cbor import read_cel_cbor
from cvmlab.eventlog.formats.cel_json import read_cel_json, starts_with_record_line
from cvmlab.eventlog.formats.containers import contained
from cvmlab.eventlog.formats.ima_events import read_ima_events
from cvmlab.eventlog.formats.userspace import SEPARATOR, read_userspace_log
from cvmlab.eventlog.formats.wrappers import MAX_FOUND, MAX_LAYERS, unwrapped
from cvmlab.eventlog.ima import byte_order
from cvmlab.eventlog.reader import log_of, read_plain
from cvmlab.eventlog.types import EVENT_TYPES
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from cvmlab.eventlog.model import EventLog

_IMA_TEXT: Final = re.compile(rb"\s{0,8}\d{1,2} +[0-9a-fA-F]{32,128} +\S+ ")
_SPEC_ID: Final = re.compile(rb"Spec ID Event0[0-3]\0")
_HEADER: Final = re.compile(rb"\x00{4}\x03\x00{23}.{4}Spec ID Event03\0", re.DOTALL)
MIN_EVENTS: Final = 2
"""Fewest events by which a TCG 1.2 log without a Spec ID is known inside another file."""


def read_any(data: bytes, source: str, set_: str | None) -> tuple[EventLog, ...]:
    """Read every log in some bytes.

    Args:
        data: The bytes.
        source: Name for messages.
        set_: Register set that the caller asks for, or None.

    Returns:
        At least one log; the boot log first. Where nothing is recognised it is what the plain reader says.
    """
    direct = _direct(data, source, set_)
    if direct:
        return direct
    found = _inside(data, source, set_, MAX_LAYERS)
    if found:
        rank = {"crypto-agile": 0, "tcg-1.2": 1}
        return tuple(sorted(found, key=lambda log: rank.get(log.format, 2)))
    plain = read_plain(data, source, set_)
    if not plain[0].events and (start := _HEADER.search(data)):
        return (_at(data, source, set_, start.start()),)
    return plain


def _direct(data: bytes, source: str, set_: str | None) -> tuple[EventLog, ...]:
    """Read bytes that are a log themselves; nothing where they are none."""
    if _SPEC_ID.match(data, 32):
        return read_plain(data, source, set_)
    if ccel.looks_like_ccel(data):
        return (_ccel(data, source),)
    if data.lstrip()[:1] == SEPARATOR:
        return (read_userspace_log(data, source),)
    if _IMA_TEXT.match(data) or _ima_binary(data):
        return (read_ima_events(data, source),)
    if cel.looks_like_tlv(data):
        return (cel.read_cel_tlv(data, source),)
    records = read_cel_json(data, source)
    if records is not None:
        return (records,)
    if starts_with_record_line(data):
        return (read_userspace_log(data, source, separator=b"\n"),)
    if _cel_cbor(data):
        return (read_cel_cbor(data, source),)
    held = contained(data)
    if held is None or not (held.frames.events[0] or held.field):
        return ()
    log = log_of(held.frames, data, f"{source} ({held.what})", set_, end=held.end)
    if held.message:
        text = f"{held.field}: the {held.what} {held.message}"
        said = Problem(source, 0, held.field, text, fatal=log.complete)
        log = replace(log, problems=(said, *log.problems))
    return (log,)


def _at(data: bytes, source: str, set_: str | None, start: int) -> EventLog:
    """Read a log that starts somewhere in a file of another kind."""
    log = log_of(framing.frame(data, [start], [len(data)]), data, source, set_, end=len(data))
    message = "this is another kind of file; a log starts here and is read"
    note = Problem(source, start, "TCG_PCR_EVENT", message, False, 0, start)
    return replace(log, problems=(note, *log.problems))


def _ima_binary(data: bytes) -> bool:
    """A register, 20 or more bytes of hash, and the length of a template name that starts a known one."""
    order = byte_order(data)
    if len(data) < 32 or int.from_bytes(data[:4], order) > 23:
        return False
    for size in (20, 32, 48, 64):
        length = int.from_bytes(data[4 + size : 8 + size], order)
        name = data[8 + size : 8 + size + min(length, 64)]
        if 3 <= length <= 64 and (
            name.startswith((b"ima", b"evm")) or re.fullmatch(rb"[a-z0-9-]+(\|[a-z0-9-]+)+", name)
        ):
            return True
    return False


def _cel_cbor(data: bytes) -> bool:
    """An array or map of CBOR whose first record starts with its number, as the specification orders them."""
    head = data[:1]
    if not head or head[0] >> 5 not in (4, 5):
        return False
    skip = 1 + {24: 1, 25: 2, 26: 4, 27: 8}.get(head[0] & 31, 0) if head[0] >> 5 == 4 else 0
    record = data[skip : skip + 12]
    if not record or record[0] >> 5 != 5:
        return False
    return record[1:2] == b"\x00" or b"recnum" in record or b"pcr" in record


def _ccel(data: bytes, source: str) -> EventLog:
    """The ACPI table, and the log area behind it where it is there."""
    table = ccel.parse_ccel(data, source=source)
    problems: list[Problem] = []
    if not table.checksum_holds:
        problems.append(
            Problem(source, 9, "Checksum", "the table's bytes do not add up to zero", fatal=False)
        )
    log = log_of(framing.frame(data, [ccel.SIZE], [len(data)]), data, source, "cc", end=len(data))
    if data[ccel.SIZE :].strip(b"\0\xff"):
        return replace(log, problems=(*problems, *log.problems))
    where = f"0x{table.log_area_start_address:x}"
    size = table.log_area_minimum_length
    message = f"only the ACPI table: the log of {size} bytes lies at {where} in the guest"
    problems.append(Problem(source, ccel.SIZE, "Log Area", message))
    return replace(log, problems=tuple(problems))


def _inside(data: bytes, source: str, set_: str | None, layers: int) -> list[EventLog]:
    found: list[EventLog] = []
    for where, body in unwrapped(data, layers=layers):
        if len(found) >= MAX_FOUND:
            break
        name = f"{source} ({where})"
        logs = _direct(body, name, set_)
        if not logs and _plausible(body):
            old = read_plain(body, name, set_)
            types = [event.type for event in old[0].events]
            logs = old if len(types) >= MIN_EVENTS and EVENT_TYPES.keys() >= set(types) else ()
        found += logs or _inside(body, name, set_, layers - 1)
    return found


def _plausible(data: bytes) -> bool:
    """A TCG 1.2 log has no mark of its own: a low register, a known event type, a size that fits."""
    if len(data) < 64:
        return False
    register, kind = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    size = int.from_bytes(data[28:32], "little")
    return register <= 23 and (kind <= 0x13 or kind >> 8 == 0x800000) and size <= len(data) - 32
