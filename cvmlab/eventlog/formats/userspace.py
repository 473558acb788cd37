"""systemd's userspace measurements, ``/run/log/systemd/tpm2-measure.log``: a JSON text sequence.

Source: RFC 7464 (a record separator before each text, a line feed behind it); systemd, tpm2-util.c
(``tpm2_userspace_log``): records close to CEL-JSON.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog.formats.cel import MAX_RECORDS, named_record, too_many
from cvmlab.eventlog.formats.records import MAX_PROBLEMS, Gathered, Record, log_of_records
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from cvmlab.eventlog.model import EventLog

SEPARATOR: Final = b"\x1e"
MAX_TEXT: Final = 1 << 20


def read_userspace_log(data: bytes, source: str, *, separator: bytes = SEPARATOR) -> EventLog:
    """Read the log; a damaged record is left out with a problem, and reading goes on at the next one.

    Args:
        data: The log.
        source: Name for messages.
        separator: What starts a record; a line feed where a tool wrote one record a line.
    """
    gathered = Gathered(source)
    lines = separator == b"\n"
    at = -1 if lines else data.find(separator)
    if data[: max(at, 0)].strip():
        gathered.problems.append(
            Problem(source, 0, "JSON-SEQ", "text before the first record separator", False)
        )
    number = 0
    more = lines or at >= 0
    while more:
        if number >= MAX_RECORDS:
            gathered.problems.append(too_many(source, at + 1))
            break
        end = data.find(separator, at + 1)
        more = end >= 0
        text = data[at + 1 : end if more else len(data)]
        if lines and not text.strip():
            at = end
            continue
        try:
            gathered.records.append(_record(text, source, number, at + 1, last=not more))
        except ParseError as error:
            if len(gathered.problems) < MAX_PROBLEMS:
                gathered.problems.append(Problem.of(error, fatal=not more))
        number += 1
        at = end
    return log_of_records(gathered, "systemd-userspace", len(data))


def _record(text: bytes, source: str, number: int, offset: int, *, last: bool) -> Record:
    if len(text) > MAX_TEXT:
        raise ParseError(source, offset, f"record {number}", MAX_TEXT, len(text), "more than the limit")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        # RFC 7464, 2.4: a text without the line feed at its end may be cut
        cut = " (the log is cut here)" if last and not text.endswith(b"\n") else ""
        raise ParseError(source, offset, f"record {number}", reason=f"not JSON{cut}: {error}") from error
    if not isinstance(value, dict):
        raise ParseError(source, offset, f"record {number}", reason="not a record")
    return named_record(value, source, number, offset)
