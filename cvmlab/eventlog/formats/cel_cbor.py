"""The TCG Canonical Event Log in CBOR.

Source: TCG Canonical Event Log Format, version 1.0, section 5; RFC 8949, section 3 (heads of items). Records
are read one by one, through the array that holds them, so that a log is never all in memory.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from cvmlab.errors import MissingExtraError
from cvmlab.eventlog.formats.cel import MAX_RECORDS, add_named, too_many
from cvmlab.eventlog.formats.records import Gathered, log_of_records
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from cvmlab.eventlog.model import EventLog

LEAST_RECORD: Final = 24
"""Fewest bytes of a record that has a digest: a log of smaller ones is none."""

_ARRAY: Final = 4
_BREAK: Final = 0xFF
_INDEFINITE: Final = 31
_WIDTH: Final = {24: 1, 25: 2, 26: 4, 27: 8}
"""Bytes of a count by the low five bits of the head; in the head itself where they are not here."""


def read_cel_cbor(data: bytes, source: str) -> EventLog:
    """Read a log in CBOR: an array of maps, or maps one after the other.

    Raises:
        MissingExtraError: cbor2 is not installed.
    """
    try:
        import cbor2
    except ImportError as error:
        raise MissingExtraError("A canonical event log in CBOR", "cbor") from error
    gathered = Gathered(source)
    stated, start = _array(data)
    limit = min(MAX_RECORDS, 64 + len(data) // LEAST_RECORD)
    stream = io.BytesIO(data)
    stream.seek(start)
    number = 0
    closed = stated != _INDEFINITE_ARRAY
    while (at := stream.tell()) < len(data):
        if number >= limit:
            gathered.problems.append(too_many(source, at, limit))
            break
        if not closed and data[at] == _BREAK:
            closed = True
            stream.seek(at + 1)
            continue
        try:
            value = cbor2.load(stream)
        except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            gathered.problems.append(Problem(source, at, "CBOR", f"CBOR: cannot be read: {error}"))
            break
        add_named(gathered, value, number, at)
        number += 1
    if not any(problem.fatal for problem in gathered.problems) and (not closed or number < (stated or 0)):
        need = number + 1 if stated == _INDEFINITE_ARRAY else stated
        message = "CBOR: the log ends before its array does" + (
            f": need {need}, have {number}" if closed else ""
        )
        gathered.problems.append(Problem(source, len(data), "CBOR", message, need=need, have=number))
    return log_of_records(gathered, "cel-cbor", len(data))


_INDEFINITE_ARRAY: Final = -1


def _array(data: bytes) -> tuple[int | None, int]:
    """Return how many items an array at the start states, and where they start; None without an array."""
    if not data or data[0] >> 5 != _ARRAY:
        return None, 0
    low = data[0] & 31
    if low == _INDEFINITE:
        return _INDEFINITE_ARRAY, 1
    width = _WIDTH.get(low, 0)
    return (int.from_bytes(data[1 : 1 + width], "big") if width else low), 1 + width
