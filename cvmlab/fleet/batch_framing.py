"""Framing of many logs: the one framing kernel, compiled, over one flat buffer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cvmlab.eventlog import framing
from cvmlab.fleet.compiled import compiled
from cvmlab.fleet.kernel_survey import padding_starts

if TYPE_CHECKING:
    from cvmlab.fleet.compiled import Bytes, Ints


@dataclass(frozen=True, slots=True)
class Framed:
    """Logs as framed.

    Attributes:
        formats: Format of each log.
        ends: Offset behind the last event of each log.
        events: The event columns of `cvmlab.eventlog.framing.Frames`.
        digests: The digest columns.
        noted: 1 for each log that any row of errors is about.
        firsts: First event row of each log, and one past the last of all.
    """

    formats: Ints
    ends: Ints
    events: list[Ints]
    digests: list[Ints]
    noted: Bytes
    firsts: Ints


@cache
def _kernel() -> Any:
    return compiled(framing.kernel)


def frame_logs(buffer: Bytes, starts: Ints, ends: Ints) -> Framed:
    """Frame the logs ``buffer[starts[i]:ends[i]]``."""
    count = len(starts)
    zero_from, ones_from = np.empty(count, np.int64), np.empty(count, np.int64)
    padding_starts(buffer, starts, ends, zero_from, ones_from)
    room = int((ends - starts).sum()) // 96 + 1024
    events = tuple(np.empty(room, np.int64) for _ in range(8))
    digests = tuple(np.empty(4 * room + framing.MAX_DIGESTS, np.int64) for _ in range(3))
    errors = tuple(np.empty(count + 64 + 3 * framing.MAX_DIGESTS, np.int64) for _ in range(5))
    state = np.zeros(6, np.int64)
    work = np.zeros((2, framing.MAX_DIGESTS), np.int64)
    formats, log_ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
    noted = np.zeros(count, np.uint8)
    pieces: list[list[tuple[Ints, ...]]] = [[], []]
    base = 0
    while state[0] < count:
        filled = _kernel()(
            buffer, starts, ends, zero_from, ones_from, state, work[0], work[1], formats, log_ends,
            events, digests, errors, base,
        )  # fmt: skip
        noted[errors[0][: filled[2]]] = 1
        last = state[0] >= count
        for rows, columns, kept in zip(filled, (events, digests), pieces, strict=False):
            kept.append(tuple(column[:rows] if last else column[:rows].copy() for column in columns))
        base += filled[1]
    event_columns, digest_columns = (_joined(kept, width) for kept, width in zip(pieces, (8, 3), strict=True))
    firsts = np.searchsorted(event_columns[0], np.arange(count + 1))
    return Framed(formats, log_ends, event_columns, digest_columns, noted, firsts)


def _joined(pieces: list[tuple[Ints, ...]], width: int) -> list[Ints]:
    if not pieces:
        return [np.empty(0, np.int64) for _ in range(width)]
    return [column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*pieces, strict=True)]
