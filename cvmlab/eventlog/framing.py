"""Framing: find the events of one or many logs in one flat byte buffer.

The kernel fills columns of offsets and small integers, never bytes. It is the one place that reads
binary fields without `cvmlab.binary.Cursor`: it is written in the subset that numba can compile (flat
buffers, integers, preallocated columns, no Python objects in the loop), and plain Python runs the same
text. Formats: TCG PC Client Platform Firmware Profile 1.06, section 10.2 (TCG_PCR_EVENT2) and 10.4.5.1
(TCG_EfiSpecIDEvent); TCG PC Client Implementation for BIOS 1.21, section 11.1 (TCG_PCR_EVENT).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.eventlog.framing_codes import (
    AFTER_PADDING,
    ALGORITHM_COUNT,
    ALGORITHM_REPEATED,
    ALGORITHM_SIZE,
    ALGORITHM_UNKNOWN,
    ALGORITHMS_PAST_END,
    DATA_PAST_END,
    DATA_SIZE_LIMIT,
    DIGEST_COUNT,
    DIGEST_MISSING,
    DIGEST_PAST_END,
    DIGEST_REPEATED,
    DIGEST_SIZE_ZERO,
    DIGEST_UNLISTED,
    EMPTY,
    EVENT_LIMIT,
    FORMAT_AGILE,
    FORMAT_TCG12,
    FORMAT_UNKNOWN,
    HEADER_SHORT,
    LEFT_OVER,
    NOT_A_LOG,
    VENDOR_INFO,
)

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

MAX_EVENTS: Final = 32_768
"""Events read from one log; the largest real ones have a few hundred."""
MAX_EVENT_DATA: Final = 16 << 20
"""Bytes of data of one event."""
MAX_DIGESTS: Final = 16
"""Digests of one event, and algorithms of one Spec ID event."""
MAX_NOTES: Final = 256
"""Rows about oddities (not about the end of reading) kept for one log."""

_SIGNATURE: Final = (83, 112, 101, 99, 32, 73, 68, 32, 69, 118, 101, 110, 116, 48, 51, 0)  # "Spec ID Event03"
_KNOWN_ALGORITHMS: Final = tuple(BANK_BY_ALGORITHM)
_KNOWN_SIZES: Final = tuple(DIGEST_SIZE[bank] for bank in BANK_BY_ALGORITHM.values())

# Columns of the kernel's outputs.
_EVENT_COLUMNS: Final = 8  # log, offset, register, type, first digest row, digests, data offset, data size
_DIGEST_COLUMNS: Final = 3  # algorithm, offset, size
_ERROR_COLUMNS: Final = 5  # log, offset, code, need, have
# State of the kernel between calls.
_LOG, _POS, _ALGORITHMS, _FORMAT, _EVENTS, _NOTES = range(6)


def kernel(
    buf: Sequence[int],
    starts: Sequence[int],
    ends: Sequence[int],
    zero_from: Sequence[int],
    ones_from: Sequence[int],
    state: MutableSequence[int],
    algorithms: MutableSequence[int],
    sizes: MutableSequence[int],
    formats: MutableSequence[int],
    log_ends: MutableSequence[int],
    events: Sequence[MutableSequence[int]],
    digests: Sequence[MutableSequence[int]],
    errors: Sequence[MutableSequence[int]],
    digest_base: int,
) -> tuple[int, int, int]:
    """Frame events until all logs are read or a column is full; call again to go on.

    Args:
        buf: The bytes of all logs.
        starts: First byte of each log.
        ends: One past the last byte of each log.
        zero_from: Offset in each log from which all bytes are 00.
        ones_from: Offset in each log from which all bytes are FF.
        state: Six integers, zero at first: next log, position in it (0: at its start), algorithms,
            format, events and notes so far of that log.
        algorithms: Work space: TPM_ALG_ID of the current log's algorithm table, `MAX_DIGESTS` entries.
        sizes: Work space: their digest sizes.
        formats: Out: format of each log.
        log_ends: Out: offset behind the last event of each log.
        events: Out: the eight event columns, of one length.
        digests: Out: the three digest columns, of one length.
        errors: Out: the five error columns, of one length.
        digest_base: Digest rows that earlier calls filled.

    Returns:
        Rows filled in `events`, `digests` and `errors`. All logs are done when ``state[0]`` equals their
        number.
    """
    e_log, e_offset, e_register, e_type, e_first, e_count, e_data, e_size = events
    d_algorithm, d_offset, d_size = digests
    r_log, r_offset, r_code, r_need, r_have = errors
    n_events = 0
    n_digests = 0
    n_errors = 0
    room_events = len(e_log)
    room_digests = len(d_algorithm) - MAX_DIGESTS
    room_errors = len(r_log) - 3 * MAX_DIGESTS
    log = state[0]
    pos = state[1]
    n_algorithms = state[2]
    fmt = state[3]
    count = state[4]
    notes = state[5]
    n_logs = len(starts)
    fresh = pos == 0
    while log < n_logs:
        end = ends[log]
        zero = zero_from[log]
        ones = ones_from[log]
        if fresh:
            pos = starts[log]
            n_algorithms = 0
            fmt = FORMAT_UNKNOWN
            count = 0
            notes = 0
            fresh = False
        code = 0
        need = 0
        have = 0
        at = pos
        while True:
            if n_events >= room_events or n_digests >= room_digests or n_errors >= room_errors:
                state[0] = log
                state[1] = pos
                state[2] = n_algorithms
                state[3] = fmt
                state[4] = count
                state[5] = notes
                formats[log] = fmt
                log_ends[log] = pos
                return n_events, n_digests, n_errors
            at = pos
            left = end - pos
            if pos >= zero or pos >= ones:
                if count == 0:
                    code = EMPTY
                    need = 32
                    have = left
                elif 0 < left < 8:
                    code = LEFT_OVER
                    need = 0
                    have = left
                break
            if count >= MAX_EVENTS:
                code = EVENT_LIMIT
                need = MAX_EVENTS
                have = count + 1
                break
            if fmt == FORMAT_AGILE:
                if left < 12:
                    code = HEADER_SHORT
                    need = 12
                    have = left
                    break
            elif left < 32:
                code = HEADER_SHORT
                need = 32
                have = left
                break
            register = buf[pos] | buf[pos + 1] << 8 | buf[pos + 2] << 16 | buf[pos + 3] << 24
            kind = buf[pos + 4] | buf[pos + 5] << 8 | buf[pos + 6] << 16 | buf[pos + 7] << 24
            first = n_digests
            if fmt == FORMAT_AGILE:
                declared = buf[pos + 8] | buf[pos + 9] << 8 | buf[pos + 10] << 16 | buf[pos + 11] << 24
                if kind == 0xFFFFFFFF and register == 0xFFFFFFFF:
                    code = AFTER_PADDING
                    break
                if declared > MAX_DIGESTS:
                    at = pos + 8
                    code = DIGEST_COUNT
                    need = MAX_DIGESTS
                    have = declared
                    break
                p = pos + 12
                listed = 0
                for _ in range(declared):
                    if end - p < 2:
                        at = p
                        code = DIGEST_PAST_END
                        need = 2
                        have = end - p
                        break
                    algorithm = buf[p] | buf[p + 1] << 8
                    size = 0
                    unlisted = 1
                    for k in range(n_algorithms):
                        if algorithms[k] == algorithm:
                            size = sizes[k]
                            unlisted = 0
                            break
                    if unlisted:
                        for k in range(len(_KNOWN_ALGORITHMS)):
                            if _KNOWN_ALGORITHMS[k] == algorithm:
                                size = _KNOWN_SIZES[k]
                        if size == 0:
                            at = p
                            code = ALGORITHM_UNKNOWN
                            have = algorithm
                            break
                    if size > end - p - 2:
                        at = p + 2
                        code = DIGEST_PAST_END
                        need = size
                        have = end - p - 2
                        break
                    repeated = 0
                    for k in range(first, n_digests):
                        if d_algorithm[k] == algorithm:
                            repeated = 1
                    if repeated == 0:
                        d_algorithm[n_digests] = algorithm
                        d_offset[n_digests] = p + 2
                        d_size[n_digests] = size
                        n_digests += 1
                        listed += 1 - unlisted
                    if (repeated or unlisted) and notes < MAX_NOTES:
                        r_log[n_errors] = log
                        r_offset[n_errors] = p
                        r_code[n_errors] = DIGEST_REPEATED if repeated else DIGEST_UNLISTED
                        r_need[n_errors] = 0
                        r_have[n_errors] = algorithm
                        n_errors += 1
                        notes += 1
                    p += 2 + size
                if code != 0:
                    n_digests = first
                    break
                if end - p < 4:
                    at = p
                    code = HEADER_SHORT
                    need = 4
                    have = end - p
                    n_digests = first
                    break
                data_size = buf[p] | buf[p + 1] << 8 | buf[p + 2] << 16 | buf[p + 3] << 24
                if kind == 0 and register == 0 and declared == 0 and data_size == 0:
                    code = AFTER_PADDING
                    break
                if listed < n_algorithms and kind != 3 and notes < MAX_NOTES:
                    r_log[n_errors] = log
                    r_offset[n_errors] = pos + 8
                    r_code[n_errors] = DIGEST_MISSING
                    r_need[n_errors] = n_algorithms
                    r_have[n_errors] = listed
                    n_errors += 1
                    notes += 1
            else:
                if count == 0 and register > 23:
                    code = NOT_A_LOG
                    need = 23
                    have = register
                    break
                if kind == 0xFFFFFFFF and register == 0xFFFFFFFF:
                    code = AFTER_PADDING
                    break
                p = pos + 28
                data_size = buf[p] | buf[p + 1] << 8 | buf[p + 2] << 16 | buf[p + 3] << 24
                if kind == 0 and register == 0 and data_size == 0:
                    zeros = 1
                    for k in range(pos + 8, pos + 28):
                        if buf[k] != 0:
                            zeros = 0
                            break
                    if zeros:
                        code = AFTER_PADDING
                        break
                d_algorithm[n_digests] = 4
                d_offset[n_digests] = pos + 8
                d_size[n_digests] = 20
                n_digests += 1
            data = p + 4
            if data_size > end - data:
                at = p
                code = DATA_PAST_END
                need = data_size
                have = end - data
                n_digests = first
                break
            if data_size > MAX_EVENT_DATA:
                at = p
                code = DATA_SIZE_LIMIT
                need = MAX_EVENT_DATA
                have = data_size
                n_digests = first
                break
            if count == 0:
                fmt = FORMAT_TCG12
                if kind == 3 and data_size >= 16:
                    fmt = FORMAT_AGILE
                    for k in range(16):
                        if buf[data + k] != _SIGNATURE[k]:
                            fmt = FORMAT_TCG12
                            break
            e_log[n_events] = log
            e_offset[n_events] = pos
            e_register[n_events] = register
            e_type[n_events] = kind
            e_first[n_events] = digest_base + first
            e_count[n_events] = n_digests - first
            e_data[n_events] = data
            e_size[n_events] = data_size
            n_events += 1
            count += 1
            pos = data + data_size
            if count == 1 and fmt == FORMAT_AGILE:
                # TCG_EfiSpecIDEvent: signature[16], platformClass u32, specVersionMinor u8,
                # specVersionMajor u8, specErrata u8, uintnSize u8, numberOfAlgorithms u32, table,
                # vendorInfoSize u8, vendorInfo.
                at = data + 24
                if data_size < 28:
                    code = ALGORITHMS_PAST_END
                    need = 28
                    have = data_size
                    break
                listed = buf[at] | buf[at + 1] << 8 | buf[at + 2] << 16 | buf[at + 3] << 24
                if listed > MAX_DIGESTS:
                    code = ALGORITHM_COUNT
                    need = MAX_DIGESTS
                    have = listed
                    break
                p = data + 28
                if 4 * listed > pos - p:
                    at = p
                    code = ALGORITHMS_PAST_END
                    need = 4 * listed
                    have = pos - p
                    break
                for _ in range(listed):
                    algorithm = buf[p] | buf[p + 1] << 8
                    size = buf[p + 2] | buf[p + 3] << 8
                    if size == 0 or size > 128:
                        at = p + 2
                        code = DIGEST_SIZE_ZERO
                        need = 1 if size == 0 else 128
                        have = size
                        break
                    for k in range(len(_KNOWN_ALGORITHMS)):
                        if _KNOWN_ALGORITHMS[k] == algorithm and _KNOWN_SIZES[k] != size:
                            at = p + 2
                            code = ALGORITHM_SIZE
                            need = _KNOWN_SIZES[k]
                            have = size
                    if code != 0:
                        break
                    repeated = 0
                    for k in range(n_algorithms):
                        if algorithms[k] == algorithm:
                            repeated = 1
                    if repeated:
                        r_log[n_errors] = log
                        r_offset[n_errors] = p
                        r_code[n_errors] = ALGORITHM_REPEATED
                        r_need[n_errors] = 0
                        r_have[n_errors] = algorithm
                        n_errors += 1
                        notes += 1
                    else:
                        algorithms[n_algorithms] = algorithm
                        sizes[n_algorithms] = size
                        n_algorithms += 1
                    p += 4
                if code != 0:
                    break
                declared = 0
                have = pos - p - 1
                if have >= 0:
                    declared = buf[p]
                if have < 0 or declared > have:
                    r_log[n_errors] = log
                    r_offset[n_errors] = p
                    r_code[n_errors] = VENDOR_INFO
                    r_need[n_errors] = declared + 1
                    r_have[n_errors] = have + 1
                    n_errors += 1
                    notes += 1
        if code != 0:
            r_log[n_errors] = log
            r_offset[n_errors] = at
            r_code[n_errors] = code
            r_need[n_errors] = need
            r_have[n_errors] = have
            n_errors += 1
        formats[log] = fmt
        log_ends[log] = pos
        log += 1
        fresh = True
    state[0] = log
    state[1] = 0
    return n_events, n_digests, n_errors


@dataclass(slots=True)
class Frames:
    """The columns of one or many framed logs. All offsets are absolute in the buffer.

    Attributes:
        formats: Format of each log, an index into `FORMAT_NAMES`.
        ends: Offset behind the last event of each log.
        events: Columns log, offset, register, type, first digest row, digests, data offset, data size.
        digests: Columns TPM_ALG_ID, offset, size in bytes.
        errors: Columns log, offset, code (`ERRORS`), need, have, ascending by log.
    """

    formats: list[int]
    ends: list[int]
    events: list[list[int]] = field(default_factory=lambda: [[] for _ in range(_EVENT_COLUMNS)])
    digests: list[list[int]] = field(default_factory=lambda: [[] for _ in range(_DIGEST_COLUMNS)])
    errors: list[list[int]] = field(default_factory=lambda: [[] for _ in range(_ERROR_COLUMNS)])


def frame(
    data: bytes,
    starts: Sequence[int] = (0,),
    ends: Sequence[int] | None = None,
    *,
    state: Sequence[int] = (0, 0, 0, 0, 0, 0),
    algorithms: Sequence[tuple[int, int]] = (),
) -> Frames:
    """Frame the logs ``data[starts[i]:ends[i]]`` and return their columns.

    Args:
        data: One flat buffer; it is not copied.
        starts: First byte of each log.
        ends: One past the last byte of each log; the end of the buffer by default.
        state: Where to begin, as the kernel keeps it: inside a log whose start is known.
        algorithms: (TPM_ALG_ID, digest size) of that log.
    """
    stops = [len(data)] if ends is None else list(ends)
    zero_from, ones_from = [], []
    for start, stop in zip(starts, stops, strict=True):
        if not 0 <= start <= stop <= len(data):
            raise ValueError(f"slice {start}:{stop} is not inside a buffer of {len(data)} bytes")
        zero_from.append(tail(data, start, stop, b"\0"))
        ones_from.append(tail(data, start, stop, b"\xff"))
    frames = Frames([0] * len(stops), [0] * len(stops))
    room = min(max(128, sum(stops) // 96 - sum(starts) // 96), 8192)
    events = [[0] * room for _ in range(_EVENT_COLUMNS)]
    digests = [[0] * (4 * room + MAX_DIGESTS) for _ in range(_DIGEST_COLUMNS)]
    errors = [[0] * (64 + 3 * MAX_DIGESTS) for _ in range(_ERROR_COLUMNS)]
    now = list(state)
    numbers, sizes = [0] * MAX_DIGESTS, [0] * MAX_DIGESTS
    for row, (number, size) in enumerate(algorithms[:MAX_DIGESTS]):
        numbers[row], sizes[row] = number, size
    while now[_LOG] < len(stops):
        filled = kernel(
            data,
            starts,
            stops,
            zero_from,
            ones_from,
            now,
            numbers,
            sizes,
            frames.formats,
            frames.ends,
            events,
            digests,
            errors,
            len(frames.digests[0]),
        )
        for rows, columns, outs in zip(
            filled, (events, digests, errors), (frames.events, frames.digests, frames.errors), strict=True
        ):
            for column, out in zip(columns, outs, strict=True):
                out.extend(column[:rows])
    return frames


def tail(data: bytes, start: int, stop: int, byte: bytes) -> int:
    """Return the offset from which ``data[start:stop]`` holds nothing but `byte`."""
    at = stop
    step = 4096
    while at > start:
        low = max(start, at - step)
        kept = len(data[low:at].rstrip(byte))
        if kept:
            return low + kept
        at = low
        step *= 2
    return start
