"""The TCG Canonical Event Log in JSON: in a document, one record a line, or in a document that is damaged.

Source: TCG Canonical Event Log Format, version 1.0, section 5.3.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeGuard

from cvmlab.eventlog.formats.cel import MAX_RECORDS, add_named, read_cel_records, too_many
from cvmlab.eventlog.formats.records import Gathered, log_of_records
from cvmlab.eventlog.formats.wrappers import json_cost
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from cvmlab.eventlog.model import EventLog

MAX_DEPTH: Final = 6
"""Objects around a log that are looked into."""
MAX_WIDTH: Final = 1000
MAX_LINE: Final = 1 << 16
MAX_BREAKS: Final = 16
"""Most places of damage that reading goes past."""

_INDEX: Final = frozenset({"pcr", "rtmr", "nv_index", "recnum"})
_START: Final = re.compile(r'\[\s*\{\s*"(?:recnum|pcr|rtmr|nv_index|digests|content|content_type)"')
_BETWEEN: Final = re.compile(r"[\s,]*")


def is_records(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value is a list that starts with a record: an index, and digests."""
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    return isinstance(first, dict) and "digests" in first and bool(first.keys() & _INDEX)


def read_cel_json(data: bytes, source: str) -> EventLog | None:
    """Read a log in JSON; None where the bytes are other JSON, or none."""
    if data.lstrip()[:1] not in (b"[", b"{") or b'"digests"' not in data or json_cost(data) is None:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _damaged(data.decode("utf-8", "replace"), source, len(data))
    level = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            if is_records(item):
                return read_cel_records(item, source, "cel-json", len(data))
        level = [inner for item in level if isinstance(item, dict) for inner in item.values()][:MAX_WIDTH]
    return None


def starts_with_record_line(data: bytes) -> bool:
    """Tell whether bytes are records in JSON, one a line."""
    first, end, rest = data.lstrip()[:MAX_LINE].partition(b"\n")
    if not end or first[:1] != b"{" or not rest.lstrip().startswith(b"{"):
        return False
    try:
        return is_records([json.loads(first)])
    except (ValueError, RecursionError):
        return False


def _damaged(text: str, source: str, size: int) -> EventLog | None:
    """Read the records of a list that is no whole JSON: each record that is whole counts."""
    found = _START.search(text)
    if found is None:
        return None
    gathered = Gathered(source)
    decoder = json.JSONDecoder()
    at, number, breaks = found.start() + 1, 0, 0
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
        if text[at : at + 1] == "]":
            break
        if number >= MAX_RECORDS:
            gathered.problems.append(too_many(source, at))
            break
        try:
            value, behind = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            breaks += 1
            again = _next_record(text, at + 1) if breaks <= MAX_BREAKS else -1
            place = len(text[:at].encode("utf-8", "surrogatepass"))
            message = f"record {number}: not JSON: {error}"
            gathered.problems.append(
                Problem(source, min(place, size), f"record {number}", message, again < 0)
            )
            if again < 0:
                break
            at = again
        else:
            add_named(gathered, value, number, 0)
            at = behind
        number += 1
    return log_of_records(gathered, "cel-json", size) if gathered.records else None


def _next_record(text: str, at: int) -> int:
    """Return where the next whole record starts; -1 where there is none near."""
    decoder = json.JSONDecoder()
    for _ in range(MAX_BREAKS):
        at = text.find('{"', at)
        if at < 0:
            return -1
        try:
            value, _ = decoder.raw_decode(text[at : at + MAX_LINE])
        except (ValueError, RecursionError):
            value = None
        if is_records([value]):
            return at
        at += 1
    return -1
