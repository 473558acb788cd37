"""The fast way: regular logs of a batch all together, by compiled code (design, section 6).

Events are told apart by their bytes, and what is made of one (digest check, hash of the data) is made once
for all that are alike. Register values are computed once for all logs that share them, many at a time.
Whatever is not regular, or not certain, is left to the reader of single logs.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.eventlog import framing
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.framing_codes import FORMAT_NAMES, FORMAT_TCG12
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EV_NO_ACTION, event_type_name
from cvmlab.fleet import kernel_checks as checks
from cvmlab.fleet import kernel_hash as hashing
from cvmlab.fleet import kernel_logs as passes
from cvmlab.fleet import kernel_survey as looks
from cvmlab.fleet.batch_columns import ABSENT, BANKS, COLUMNS, Part
from cvmlab.fleet.compiled import compiled

if TYPE_CHECKING:
    from cvmlab.fleet.compiled import Bytes, Ints, Small, Words

_SEED: Final = np.uint64(secrets.randbits(64))
"""Of the tables of this process: what collides is not known beforehand."""
_CHECKS: Final = ("covers-data", "describes", "mismatch", "unknown", "not-extended")
_BY_RULE: Final = np.array([3, 4, 1, 0, 0, 0], np.int64)


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
    """Frame the logs ``buffer[starts[i]:ends[i]]`` with the one framing kernel, compiled."""
    count = len(starts)
    zero_from, ones_from = np.empty(count, np.int64), np.empty(count, np.int64)
    looks.padding_starts(buffer, starts, ends, zero_from, ones_from)
    total = int((ends - starts).sum())
    room = total // 96 + 1024
    events = tuple(np.empty(room, np.int64) for _ in range(8))
    digests = tuple(np.empty(4 * room + framing.MAX_DIGESTS, np.int64) for _ in range(3))
    errors = tuple(np.empty(count + 64 + 3 * framing.MAX_DIGESTS, np.int64) for _ in range(5))
    state = np.zeros(6, np.int64)
    work = np.zeros((2, framing.MAX_DIGESTS), np.int64)
    formats, log_ends = np.zeros(count, np.int64), np.zeros(count, np.int64)
    noted = np.zeros(count, np.uint8)
    pieces: list[list[list[Ints]]] = [[], []]
    base = 0
    while state[0] < count:
        filled = _kernel()(
            buffer, starts, ends, zero_from, ones_from, state, work[0], work[1], formats, log_ends,
            events, digests, errors, base,
        )  # fmt: skip
        noted[errors[0][: filled[2]]] = 1
        last = state[0] >= count
        for rows, columns, kept in zip(filled, (events, digests), pieces, strict=False):
            kept.append([column[:rows] if last else column[:rows].copy() for column in columns])
        base += filled[1]
    joined = [
        [np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*kept, strict=True)]
        if kept
        else [np.empty(0, np.int64) for _ in range(width)]
        for kept, width in zip(pieces, (8, 3), strict=True)
    ]
    firsts = np.searchsorted(joined[0][0], np.arange(count + 1))
    return Framed(formats, log_ends, joined[0], joined[1], noted, firsts)


def read_fast(buffer: Bytes, starts: Ints, ends: Ints) -> tuple[Part, Ints]:
    """Read the regular ones among the logs ``buffer[starts[i]:ends[i]]``.

    Returns:
        The regular logs as columns, and which they are.
    """
    buffer = buffer.view()
    buffer.setflags(write=False)  # one kind of array, so that everything is compiled once
    framed = frame_logs(buffer, starts, ends)
    e_log, e_offset, e_register, e_type, e_first, e_count, e_data, e_size = framed.events
    count = len(starts)
    regular = (1 - framed.noted).astype(np.uint8)
    sets, banks, starting, launched = (np.zeros(count, np.uint8) for _ in range(4))
    localities = np.full(count, -1, np.int64)
    phases = np.zeros(len(e_log), np.uint8)
    looks.survey(
        buffer, starts, ends, framed.formats, framed.firsts, regular, e_offset, e_register, e_type, e_first,
        e_count, e_data, e_size, framed.digests[0], sets, banks, localities, starting, launched, phases,
    )  # fmt: skip
    chosen = np.flatnonzero(regular)
    rows = np.flatnonzero(regular[e_log]) if len(chosen) < count else np.arange(len(e_log))
    lengths = np.diff(framed.firsts)[chosen]
    firsts = _starts_of(lengths)
    kinds = sets[e_log[rows]] | (framed.formats[e_log[rows]] << 1).astype(np.uint8)
    kinds[firsts[:-1]] |= 8
    ids, models = _intern(buffer, rows, kinds, e_offset, e_data, e_size)
    distinct = _Distinct(buffer, framed, rows[models], kinds[models])
    states = _replay(
        buffer, firsts, e_register[rows], distinct.digest_ids[ids], distinct, sets[chosen], banks[chosen],
        starting[chosen], launched[chosen],
    )  # fmt: skip
    orders, names, bank_texts = _bank_orders(distinct, ids[firsts[:-1]])
    registers = _register_columns(states, orders)
    columns = {
        "logs": {
            "format": framed.formats[chosen],
            "set": sets[chosen].astype(np.int64),
            "banks": names,
            "size": (ends - starts)[chosen],
            "end": framed.ends[chosen] - starts[chosen],
            "startup_locality": np.where(localities[chosen] < 0, ABSENT, localities[chosen]),
            "resumed": np.full(len(chosen), ABSENT),
            "complete": np.ones(len(chosen), bool),
        },
        "events": {
            "offset": e_offset[rows] - starts[e_log[rows]],
            "register": e_register[rows],
            "type_number": e_type[rows],
            "data_size": e_size[rows],
            "phase": phases[rows],
            **dict.fromkeys(("type", "digest_check", "covered", "data_sha256", *BANKS), ids),
        },
        "registers": {name: registers[name] for name in COLUMNS["registers"]},
        "problems": {name: np.empty(0, np.int64) for name in COLUMNS["problems"]},
    }
    pools = {
        "format": pa.array(FORMAT_NAMES),
        "set": pa.array(["tpm", "cc"]),
        "banks": pa.array(bank_texts, pa.string()),
        "phase": pa.array(["before", "after"]),
        "bank": pa.array(hashing.BANKS),
        "value": states.pool,
        "field": pa.array([], pa.string()),
        "message": pa.array([], pa.string()),
        **distinct.pools,
    }
    counts = {
        "events": lengths,
        "registers": registers["counts"],
        "problems": np.zeros(len(chosen), np.int64),
    }
    return Part(columns, counts, pools), chosen


def _starts_of(lengths: Ints) -> Ints:
    firsts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=firsts[1:])
    return firsts


def _table(count: int) -> Small:
    return np.full(1 << (2 * count + 1).bit_length(), -1, np.int32)


def _intern(
    buffer: Bytes, rows: Ints, kinds: Bytes, e_offset: Ints, e_data: Ints, e_size: Ints
) -> tuple[Small, Ints]:
    hashes, models = np.empty(len(rows), np.uint64), np.empty(len(rows), np.int64)
    ids = np.empty(len(rows), np.int32)
    found = passes.intern_events(
        buffer, rows, kinds, e_offset, e_data, e_size, _SEED, _table(len(rows)), hashes, models, ids
    )
    return ids, models[:found].copy()


class _Distinct:
    """What is made of each distinct event, once."""

    def __init__(self, buffer: Bytes, framed: Framed, models: Ints, kinds: Bytes) -> None:
        _, _, e_register, e_type, e_first, e_count, e_data, e_size = framed.events
        self._buffer = buffer
        self._cc: Bytes = kinds & np.uint8(1)
        self.formats = kinds >> 1 & 3
        self.registers, self.types = e_register[models], e_type[models]
        self._data, self._sizes = e_data[models], e_size[models]
        count = len(models)
        self.places = np.empty((count, 4), np.int64)
        numbers = np.array(looks.BANK_NUMBERS)
        checks.digest_places(
            models, e_first, e_count, framed.digests[0], framed.digests[1], numbers, self.places
        )
        ids, digest_models = np.empty(count, np.int32), np.empty(count, np.int64)
        found = passes.intern_digests(
            buffer, self.places, _SEED, _table(count), np.empty(count, np.uint64), digest_models, ids
        )
        self.digest_ids: Small = np.where(self.types == EV_NO_ACTION, -1, ids).astype(np.int32)
        self.digest_places: Ints = self.places[digest_models[:found]]
        hashes = self._hash_data(1, np.arange(count), self._data, self._sizes)
        self._covered: list[str] = list(checks.COVERED)
        check_codes, covered_codes = self._check(hashes)
        self.pools = {
            "type": _names(self.types),
            "digest_check": pa.array(_CHECKS).take(pa.array(check_codes)),
            "covered": pa.array(self._covered).take(pa.array(covered_codes)),
            "data_sha256": _fixed(hashes, None),
            **{bank: pa.nulls(count, pa.binary()) for bank in BANKS if bank not in hashing.BANKS},
            **{bank: self._digests(place) for place, bank in enumerate(hashing.BANKS)},
        }

    def _digests(self, bank: int) -> pa.Array:
        places = self.places[:, bank]
        found = np.zeros((len(places), hashing.SIZES[bank]), np.uint8)
        checks.copy_rows(self._buffer, places, hashing.SIZES[bank], found)
        return _fixed(found, places < 0)

    def _hash_data(self, bank: int, events: Ints, offsets: Ints, sizes: Ints) -> Bytes:
        return hashing.hash_messages(bank, self._buffer, offsets[events], sizes[events])

    def _check(self, hashes: Bytes) -> tuple[Ints, Ints]:
        """Check each distinct event: by its rule where that is certain, else as a single one is."""
        count = len(self.types)
        rules = np.empty(count, np.uint8)
        offsets, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
        checks.guess_covered(
            self._buffer, self.types, self.registers, self._cc, self._data, self._sizes, rules, offsets, sizes
        )
        fits = (rules >= checks.DATA).astype(np.uint8)
        self._confirm(np.flatnonzero(fits), offsets, sizes, hashes, fits)
        # some firmware hashes all of a boot variable: the second thing that its digest may be of
        whole = np.flatnonzero((rules == checks.VARIABLE) & (fits == 0))
        rules[whole], fits[whole] = checks.DATA, 1
        self._confirm(whole, self._data, self._sizes, hashes, fits)
        rules[(rules >= checks.DATA) & (fits == 0)] = checks.DECODE
        check_codes, covered_codes = _BY_RULE[rules], rules.astype(np.int64)
        for event in np.flatnonzero(rules == checks.DECODE):
            check_codes[event], covered_codes[event] = self._decoded(int(event))
        return check_codes, covered_codes

    def _confirm(self, events: Ints, offsets: Ints, sizes: Ints, hashes: Bytes, fits: Bytes) -> None:
        for bank in (1, 0, 2, 3):
            events = events[fits[events] == 1]
            events = events[self.places[events, bank] >= 0]
            if not len(events):
                continue
            whole = bank == 1 and offsets is self._data
            found = hashes[events] if whole else self._hash_data(bank, events, offsets, sizes)
            digests = self.places[events, bank]
            checks.confirm(self._buffer, hashing.SIZES[bank], events, digests, found, fits)

    def _decoded(self, event: int) -> tuple[int, int]:
        """Decode an event and check it as the reader of single logs does."""
        start, size = int(self._data[event]), int(self._sizes[event])
        data = self._buffer[start : start + size].tobytes()
        kind, register = int(self.types[event]), int(self.registers[event])
        digests = {
            bank: self._buffer[place : place + width].tobytes()
            for bank, place, width in zip(
                hashing.BANKS, self.places[event].tolist(), hashing.SIZES, strict=True
            )
            if place >= 0
        }
        payload = decode(kind, register, data, set="cc" if self._cc[event] else "tpm", base=start)
        check, covered = check_digest(kind, register, digests, payload)
        if covered not in self._covered:
            self._covered.append(covered)
        return _CHECKS.index(check), self._covered.index(covered)

    def banks(self, event: int) -> tuple[str, ...]:
        """Return the banks that a log of this first event has, in its order."""
        if self.formats[event] == FORMAT_TCG12:
            return ("sha1",)
        at = int(self._data[event]) + 24
        listed = self._buffer[at : at + 4].tobytes()[0]
        pairs = self._buffer[at + 4 : at + 4 + 4 * listed].tobytes()
        numbers = [int.from_bytes(pairs[k : k + 2], "little") for k in range(0, len(pairs), 4)]
        return tuple(BANK_BY_ALGORITHM[number] for number in numbers)


def _names(types: Ints) -> pa.Array:
    numbers, places = np.unique(types, return_inverse=True)
    names = pa.array([event_type_name(int(number)) for number in numbers], pa.string())
    return names.take(pa.array(places))


def _fixed(rows: Bytes, absent: Any) -> pa.Array:
    """Return rows of bytes as an Arrow array, without a Python object for each."""
    count, size = rows.shape
    data = pa.py_buffer(np.ascontiguousarray(rows))
    array = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), count, [None, data])
    array = array.cast(pa.binary())
    if absent is None or not absent.any():
        return array
    import pyarrow.compute as pc

    return pc.if_else(pa.array(absent), pa.scalar(None, pa.binary()), array)


@dataclass(frozen=True, slots=True)
class _States:
    """Last states of registers.

    Attributes:
        firsts: First row of each log, and one past the last of all.
        registers: Register of each row.
        states: State of each row.
        bases: Place in `pool` of the value of each state, by bank; -1 where it is no last state.
        pool: Values.
    """

    firsts: Ints
    registers: Small
    states: Small
    bases: list[Ints]
    pool: pa.Array


def _replay(
    buffer: Bytes,
    firsts: Ints,
    registers: Ints,
    digest_ids: Small,
    distinct: _Distinct,
    cc: Bytes,
    banks: Bytes,
    starting: Bytes,
    launched: Bytes,
) -> _States:
    """Link the states of all logs, compute the values of those that exist, and collect the last ones."""
    count, logs = len(registers), len(cc)
    table = _table(count)
    room = passes.ROOTS + count
    parents, pushed = np.zeros(room, np.int32), np.zeros(room, np.int32)
    levels = np.zeros(room, np.int32)
    out = [np.empty(24 * logs, np.int32) for _ in range(3)]
    states, rows = passes.link_states(
        firsts, registers, digest_ids, cc, banks, starting, launched, np.empty(len(table), np.uint64), table,
        parents, pushed, levels, *out,
    )  # fmt: skip
    log, register, state = (column[:rows] for column in out)
    parents, pushed, levels = parents[:states], pushed[:states], levels[:states]
    masks = _masks(parents, levels)
    last = np.zeros(states, bool)
    last[state] = True
    order = np.argsort(levels, kind="stable")[passes.ROOTS :]
    bases, pieces, total = [], [], 0
    for bank in range(len(hashing.BANKS)):
        own = order[(masks[order] >> bank & 1) == 1]
        if not len(own):
            bases.append(np.empty(0, np.int64))
            continue
        bounds = np.concatenate(([0], np.cumsum(np.bincount(levels[own])[1:])))
        values = _roots(bank, states)
        places = np.where(pushed >= 0, distinct.digest_places[pushed, bank], 0)
        hashing.extend_values(bank, buffer, parents, places, bounds, own, values)
        finals = np.flatnonzero(last & ((masks >> bank & 1) == 1))
        base = np.full(states, -1, np.int64)
        base[finals] = total + np.arange(len(finals))
        total += len(finals)
        bases.append(base)
        pieces.append(_fixed(hashing.digest_bytes(bank, values[finals]), None))
    pool = pa.concat_arrays(pieces) if pieces else pa.array([], pa.binary())
    return _States(np.searchsorted(log, np.arange(logs + 1)), register, state, bases, pool)


def _masks(parents: Small, levels: Small) -> Ints:
    """Return the banks of each state: those of the start that it comes from."""
    masks = np.zeros(len(parents), np.int64)
    masks[: passes.ROOTS] = np.arange(passes.ROOTS) // passes.STARTS
    _inherit(parents, masks)
    return masks


@compiled
def _inherit(parents: Small, masks: Ints) -> None:
    for state in range(passes.ROOTS, len(parents)):
        masks[state] = masks[parents[state]]


def _roots(bank: int, states: int) -> Words:
    """Return room for the values of states, those of the starts filled in."""
    values = hashing.new_values(bank, states)
    starts = values[: passes.ROOTS].reshape(-1, passes.STARTS, values.shape[1])
    starts[:, looks.ONES] = np.iinfo(values.dtype).max
    starts[:, looks.LOCALITY_3, -1] = 3
    starts[:, looks.LOCALITY_4, -1] = 4
    return values


def _bank_orders(distinct: _Distinct, first_events: Small) -> tuple[Bytes, Ints, list[str]]:
    """Return the banks of each log: by place, as a place in texts, and the texts."""
    known, inverse = np.unique(first_events, return_inverse=True)
    orders = np.full((len(known), 4), 255, np.uint8)
    texts: list[str] = []
    places = np.empty(len(known), np.int64)
    for row, event in enumerate(known):
        names = distinct.banks(int(event))
        orders[row, : len(names)] = [hashing.BANKS.index(name) for name in names]
        text = ",".join(names)
        if text not in texts:
            texts.append(text)
        places[row] = texts.index(text)
    return orders[inverse], places[inverse], texts


def _register_columns(states: _States, orders: Bytes) -> dict[str, Ints]:
    room = 4 * len(states.registers)
    register, bank, state = (np.empty(room, np.int32) for _ in range(3))
    counts = np.zeros(len(orders), np.int64)
    rows = passes.register_rows(
        states.firsts, states.registers, states.states, orders, register, bank, state, counts
    )
    register, bank, state = register[:rows], bank[:rows], state[:rows]
    value = np.empty(rows, np.int64)
    for number, base in enumerate(states.bases):
        own = bank == number
        if len(base):
            value[own] = base[state[own]]
    return {
        "register": register.astype(np.int64),
        "bank": bank.astype(np.int64),
        "value": value,
        "counts": counts,
    }
