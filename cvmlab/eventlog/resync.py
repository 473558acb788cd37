"""Reading on behind damage, where it is certain that what follows are the events of the log.

Nothing marks where an event starts. It is taken for certain only where, from one offset on, event follows
event without a gap up to the exact end of the log (or its padding), each with the digests that the Spec ID
event lists. What is found is as much a claim as every other event: replay of the digests decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog import framing
from cvmlab.eventlog import framing_codes as codes
from cvmlab.eventlog.types import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cvmlab.eventlog.framing import Frames

MAX_TRIED: Final = 65_536
"""Most offsets tried as the start of an event."""

LEAST_OLD: Final = 2
"""Fewest events in a row that are believed in a TCG 1.2 log, whose events have no mark but their type."""

MAX_LOGS: Final = 16
"""Most further logs taken from one file."""

_SPEC_ID: Final = b"Spec ID Event03\0"
_SPEC_ID_HEADER: Final = b"\0\0\0\0\3\0\0\0" + bytes(20)
_BREAKS: Final = frozenset(
    {
        codes.DATA_SIZE_LIMIT,
        codes.DATA_PAST_END,
        codes.DIGEST_COUNT,
        codes.ALGORITHM_UNKNOWN,
        codes.DIGEST_PAST_END,
        codes.AFTER_PADDING,
    }
)
_LAST_REGISTER: Final = 23
_NONE: Final = 0xFFFFFFFF
_HIDDEN: Final = 64
"""Bytes by which the data of the last event may end in what looks like padding."""


def padding_start(data: bytes, start: int, stop: int) -> int:
    """Return the offset from which ``data[start:stop]`` holds nothing but zeros, or nothing but ones."""
    return min(framing.tail(data, start, stop, b"\0"), framing.tail(data, start, stop, b"\xff"))


def read_on(data: bytes, frames: Frames, end: int) -> tuple[Frames, int | None]:
    """Add to the columns of one log the events behind the damage that ended its reading.

    Args:
        data: The buffer.
        frames: Columns of this one log.
        end: One past the last byte of the log.

    Returns:
        The columns, and the index of the first event behind damage; None where nothing was added.
    """
    more = resume(data, frames, end)
    if more is None:
        return frames, None
    first, rows = len(frames.events[0]), len(frames.digests[0])
    more.events[4] = [row + rows for row in more.events[4]]
    at = more.events[1][0]
    for ours, theirs in ((frames.events, more.events), (frames.digests, more.digests)):
        for column, added in zip(ours, theirs, strict=True):
            column.extend(added)
    note = (0, at, codes.RESUMED, 0, at - frames.ends[0])
    for column, added, value in zip(frames.errors, more.errors, note, strict=True):
        column.extend([value, *added])
    frames.ends[0] = more.ends[0]
    return frames, first


def log_starts(data: bytes, frames: Frames) -> list[int]:
    """Return the offsets at which further crypto-agile logs start behind the first log of a file.

    Only the start of an event counts, or bytes behind the end of what could be read: a Spec ID event inside
    the data of another event is data.
    """
    found: list[int] = []
    at = data.find(_SPEC_ID, len(_SPEC_ID) + 32)
    offsets = set(frames.events[1]) if at >= 0 else set()
    while at >= 0 and len(found) < MAX_LOGS:
        start = at - 32
        framed = start in offsets or start >= frames.ends[0]
        if framed and data[start : at - 4] == _SPEC_ID_HEADER and start:
            found.append(start)
        at = data.find(_SPEC_ID, at + 1)
    return found


def resume(data: bytes, frames: Frames, end: int) -> Frames | None:
    """Frame the events behind the damage that ended the reading of one log.

    Args:
        data: The buffer.
        frames: Columns of this one log, whose last error ended the reading.
        end: One past the last byte of the log.

    Returns:
        Columns of the events from where the log could be read again; None where that is not certain.
    """
    if not frames.errors[0] or frames.errors[2][-1] not in _BREAKS or not frames.events[0]:
        return None
    form = frames.formats[0]
    algorithms = spec_algorithms(data, frames) if form == codes.FORMAT_AGILE else []
    if form == codes.FORMAT_AGILE and not algorithms:
        return None
    at = _proven_start(data, frames.ends[0] + 1, end, dict(algorithms))
    if at is None:
        return None
    found = frame_from(data, at, end, form, algorithms, count=len(frames.events[0]))
    return None if found.errors[0] and min(found.errors[2]) < codes.NOTE else found


def spec_algorithms(data: bytes, frames: Frames) -> list[tuple[int, int]]:
    """Return (TPM_ALG_ID, digest size) of each algorithm of a Spec ID event that was framed without fault."""
    at, size = frames.events[6][0] + 24, frames.events[7][0]
    listed = int.from_bytes(data[at : at + 4], "little")
    if size < 28 or listed > framing.MAX_DIGESTS or 28 + 4 * listed > size:
        return []
    pairs: dict[int, int] = {}
    for offset in range(at + 4, at + 4 + 4 * listed, 4):
        algorithm = int.from_bytes(data[offset : offset + 2], "little")
        pairs.setdefault(algorithm, int.from_bytes(data[offset + 2 : offset + 4], "little"))
    return list(pairs.items())


def frame_from(
    data: bytes, at: int, end: int, form: int, algorithms: Sequence[tuple[int, int]], *, count: int
) -> Frames:
    """Frame ``data[at:end]`` as the rest of a log whose Spec ID event is known.

    Args:
        data: The buffer.
        at: Offset of an event; not 0.
        end: One past the last byte.
        form: `FORMAT_AGILE` or `FORMAT_TCG12`.
        algorithms: (TPM_ALG_ID, digest size) as the Spec ID event lists them.
        count: Events that came before.
    """
    state = [0, at, len(algorithms), form, count, 0]
    return framing.frame(data, [0], [end], state=state, algorithms=algorithms)


def _proven_start(data: bytes, start: int, end: int, sizes: dict[int, int]) -> int | None:
    """Return the first offset from which event follows event exactly up to the end or its padding."""
    padding = padding_start(data, start, end)
    failed: set[int] = set()
    tried = 0
    for at in _candidates(data, start, padding, sizes):
        here, chain = at, []
        while here < padding and here not in failed and tried < MAX_TRIED:
            tried += 1
            chain.append(here)
            behind = _behind(data, here, end, sizes)
            if behind < 0:
                break
            here = behind
        exact = here == end or padding <= here <= padding + _HIDDEN
        if exact and len(chain) >= (1 if sizes else LEAST_OLD):
            return at
        if tried >= MAX_TRIED:
            return None
        failed.update(chain)
    return None


def _candidates(data: bytes, start: int, stop: int, sizes: dict[int, int]) -> Iterator[int]:
    """Offsets where the head of an event may be, ascending."""
    if sizes:
        known = b"|".join(re.escape(number.to_bytes(2, "little")) for number in sizes)
        mark = re.compile(rb"(?=[\x01-\x10]\0\0\0(?:%b))" % known, re.DOTALL)
        lead = 8
    else:
        mark = re.compile(
            rb"(?=[\0-\x17]\0\0\0(?:[\0-\x13]\0\0\0|[\0-\xff][\x04\x05]\0\0|[\x01-\xe4]\0\0\x80))"
        )
        lead = 0
    for match in mark.finditer(data, start + lead, stop):
        yield match.start() - lead


def _behind(data: bytes, at: int, end: int, sizes: dict[int, int]) -> int:
    """Return the offset behind the event at `at`; -1 where there is none."""
    register, kind = _u32(data, at), _u32(data, at + 4)
    if register > _LAST_REGISTER and register != _NONE:
        return -1
    if sizes:
        at = _behind_digests(data, at + 8, sizes)
    elif kind in EVENT_TYPES and any(data[at + 4 : at + 28]):
        at += 28
    else:
        return -1
    size = _u32(data, at)
    return at + 4 + size if at > 0 and at + 4 + size <= end else -1


def _behind_digests(data: bytes, at: int, sizes: dict[int, int]) -> int:
    """Return the offset behind a list of digests, each of a listed algorithm; -1 where there is none."""
    declared, at = _u32(data, at), at + 4
    if not 0 < declared <= len(sizes):
        return -1
    seen = set()
    for _ in range(declared):
        algorithm = int.from_bytes(data[at : at + 2], "little")
        if algorithm not in sizes or algorithm in seen:
            return -1
        seen.add(algorithm)
        at += 2 + sizes[algorithm]
    return at


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
