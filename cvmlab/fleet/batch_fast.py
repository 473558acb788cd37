"""The fast way: regular logs of a batch all together, by compiled code (design, section 6).

Events are told apart by their bytes, and what is made of one (digest check, hash of the data) is made once
for all that are alike. Register values are computed once for all logs that share them, many at a time.
Whatever is not regular, or not certain, is left to the reader of single logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cvmlab.eventlog.framing_codes import FORMAT_NAMES
from cvmlab.fleet import kernel_hash as hashing
from cvmlab.fleet import kernel_logs as passes
from cvmlab.fleet import kernel_survey as looks
from cvmlab.fleet.batch_columns import ABSENT, COLUMNS, Part
from cvmlab.fleet.batch_distinct import SEED, Distinct, fixed_rows, new_table, number_rows
from cvmlab.fleet.batch_framing import frame_logs
from cvmlab.fleet.compiled import compiled

if TYPE_CHECKING:
    from cvmlab.fleet.batch_columns import Numbers
    from cvmlab.fleet.batch_framing import Framed
    from cvmlab.fleet.compiled import Bytes, Ints, Small, Words


@dataclass(frozen=True, slots=True)
class _Looked:
    """What decides the registers of each log; see `kernel_survey.survey`."""

    regular: Bytes
    sets: Bytes
    banks: Bytes
    localities: Ints
    starting: Bytes
    launched: Bytes
    phases: Bytes


@dataclass(frozen=True, slots=True)
class _States:
    """Last states of registers.

    Attributes:
        firsts: First row of each log, and one past the last of all.
        registers: Register of each row.
        states: State of each row.
        places: Place in `pool` of the value of each state, a row a bank; -1 where it is no last state.
        pool: Values.
    """

    firsts: Ints
    registers: Small
    states: Small
    places: Small
    pool: pa.Array


def read_fast(buffer: Bytes, starts: Ints, ends: Ints) -> tuple[Part, Ints]:
    """Read the regular ones among the logs ``buffer[starts[i]:ends[i]]``.

    Returns:
        The regular logs as columns, and which they are.
    """
    buffer = buffer.view()
    buffer.setflags(write=False)  # one kind of array, so that everything is compiled once
    framed = frame_logs(buffer, starts, ends)
    looked = _survey(buffer, starts, ends, framed)
    e_log, e_offset, e_register, e_type, _, _, e_data, e_size = framed.events
    chosen = np.flatnonzero(looked.regular)
    everything = len(chosen) == len(starts)
    rows = np.arange(len(e_log)) if everything else np.flatnonzero(looked.regular[e_log])

    def picked(column: Numbers) -> Numbers:
        return column if everything else column[rows]

    own = picked(e_log)
    lengths = np.diff(framed.firsts)[chosen]
    firsts = np.concatenate(([0], np.cumsum(lengths)))
    kinds = (looked.sets | (framed.formats << 1).astype(np.uint8))[own]
    kinds[firsts[:-1]] |= 8  # the first event has the form of the older format
    ids, models = _intern(buffer, rows, kinds, e_offset, e_data, e_size)
    distinct = Distinct(buffer, framed, rows[models], kinds[models])
    registers = picked(e_register)
    states = _replay(firsts, registers, distinct, ids, looked, chosen)
    orders, bank_places, bank_texts = _bank_orders(distinct, ids[firsts[:-1]])
    register_columns, register_counts = _register_columns(states, orders)
    localities = looked.localities[chosen]
    columns: dict[str, dict[str, Numbers]] = {
        "logs": {
            "format": framed.formats[chosen],
            "set": looked.sets[chosen].astype(np.int64),
            "banks": bank_places,
            "size": (ends - starts)[chosen],
            "end": framed.ends[chosen] - starts[chosen],
            "startup_locality": np.where(localities < 0, ABSENT, localities),
            "resumed": np.full(len(chosen), ABSENT),
            "complete": np.ones(len(chosen), bool),
        },
        "events": {
            "offset": picked(e_offset) - starts[own],
            "register": registers,
            "type_number": picked(e_type),
            "data_size": picked(e_size),
            "phase": picked(looked.phases).astype(np.int32),
            **{name: pool.places[ids] for name, pool in distinct.pools.items()},
        },
        "registers": register_columns,
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
        **{name: pool.values for name, pool in distinct.pools.items()},
    }
    counts = {
        "events": lengths,
        "registers": register_counts,
        "problems": np.zeros(len(chosen), np.int64),
    }
    return Part(columns, counts, pools), chosen


def _survey(buffer: Bytes, starts: Ints, ends: Ints, framed: Framed) -> _Looked:
    count = len(starts)
    looked = _Looked(
        regular=(1 - framed.noted).astype(np.uint8),
        sets=np.zeros(count, np.uint8),
        banks=np.zeros(count, np.uint8),
        localities=np.full(count, -1, np.int64),
        starting=np.zeros(count, np.uint8),
        launched=np.zeros(count, np.uint8),
        phases=np.zeros(len(framed.events[0]), np.uint8),
    )
    _, offset, register, kind, first, listed, data, size = framed.events
    looks.survey(
        buffer, starts, ends, framed.formats, framed.firsts, looked.regular, offset, register, kind, first,
        listed, data, size, framed.digests[0], looked.sets, looked.banks, looked.localities, looked.starting,
        looked.launched, looked.phases,
    )  # fmt: skip
    return looked


def _intern(
    buffer: Bytes, rows: Ints, kinds: Bytes, e_offset: Ints, e_data: Ints, e_size: Ints
) -> tuple[Small, Ints]:
    hashes, models = np.empty(len(rows), np.uint64), np.empty(len(rows), np.int64)
    ids = np.empty(len(rows), np.int32)
    table = new_table(len(rows))
    found = passes.intern_events(
        buffer, rows, kinds, e_offset, e_data, e_size, SEED, table, hashes, models, ids
    )
    return ids, models[:found].copy()


def _replay(
    firsts: Ints, registers: Ints, distinct: Distinct, ids: Small, looked: _Looked, chosen: Ints
) -> _States:
    """Link the states of all logs, compute the values of those that exist, and collect the last ones."""
    count, logs = len(registers), len(chosen)
    table = new_table(count)
    room = passes.ROOTS + count
    parents, pushed = np.zeros(room, np.int32), np.zeros(room, np.int32)
    levels = np.zeros(room, np.int32)
    log, register, state = (np.empty(24 * logs, np.int32) for _ in range(3))
    states, rows, repeated = passes.link_states(
        firsts, registers, distinct.digest_ids[ids], looked.sets[chosen], looked.banks[chosen],
        looked.starting[chosen], looked.launched[chosen], np.empty(len(table), np.uint64), table, parents,
        pushed, levels, log, register, state,
    )  # fmt: skip
    log, register, state = log[:rows], register[:rows], state[:rows]
    parents, pushed, levels = parents[:states], pushed[:states], levels[:states]
    masks = np.zeros(states, np.uint8)
    masks[: passes.ROOTS] = np.arange(passes.ROOTS) // passes.STARTS
    _inherit(parents, masks)
    last = np.zeros(states, bool)
    last[state] = True
    level_bounds = np.zeros(int(levels.max()) + 2, np.int64)
    order = np.empty(states - passes.ROOTS, np.int64)
    passes.by_level(levels, level_bounds, order)
    level_bounds = level_bounds[1:]
    shared = int(np.bitwise_and.reduce(masks[passes.ROOTS :], initial=0xFF))
    ends = np.flatnonzero(last)
    places = np.full((len(hashing.BANKS), states), -1, np.int32)
    pieces, total = [], 0
    for bank, size in enumerate(hashing.SIZES):
        own, bounds, finals = order, level_bounds, ends
        if not shared >> bank & 1:
            own = order[masks[order] >> bank & 1 == 1]
            bounds = np.concatenate(([0], np.cumsum(np.bincount(levels[own])[1:])))
            finals = ends[masks[ends] >> bank & 1 == 1]
        if not len(own):
            continue
        values = _roots(bank, states)
        digests = distinct.digests(bank).reshape(-1)
        hashing.extend_values(bank, digests, parents, pushed * np.int64(size), bounds, own, values)
        found = hashing.digest_bytes(bank, values[finals])
        places[bank, finals] = total + np.arange(len(finals))
        if repeated:
            ids, models = number_rows(found, np.ones(len(found), np.uint8))
            found = found[models]
            places[bank, finals] = total + ids
        total += len(found)
        pieces.append(fixed_rows(found))
    pool = pa.concat_arrays(pieces) if pieces else pa.array([], pa.binary())
    return _States(np.searchsorted(log, np.arange(logs + 1)), register, state, places, pool)


@compiled
def _inherit(parents: Small, masks: Bytes) -> None:
    """Give each state the banks of the start that it comes from."""
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


def _bank_orders(distinct: Distinct, first_events: Small) -> tuple[Bytes, Ints, list[str]]:
    """Return the banks of each log: by place, as a place in texts, and the texts."""
    known, inverse = np.unique(first_events, return_inverse=True)
    orders = np.full((len(known), 4), 255, np.uint8)
    texts: list[str] = []
    places = np.empty(len(known), np.int64)
    for row, event in enumerate(known.tolist()):
        names = distinct.banks(event)
        orders[row, : len(names)] = [hashing.BANKS.index(name) for name in names]
        text = ",".join(names)
        if text not in texts:
            texts.append(text)
        places[row] = texts.index(text)
    return orders[inverse], places[inverse], texts


def _register_columns(states: _States, orders: Bytes) -> tuple[dict[str, Numbers], Ints]:
    room = 4 * len(states.registers)
    register, bank, state = (np.empty(room, np.int32) for _ in range(3))
    counts = np.zeros(len(orders), np.int64)
    rows = passes.register_rows(
        states.firsts, states.registers, states.states, orders, register, bank, state, counts
    )
    places = states.places[bank[:rows], state[:rows]]
    return {
        "register": register[:rows],
        "bank": bank[:rows],
        "value": places,
    }, counts
