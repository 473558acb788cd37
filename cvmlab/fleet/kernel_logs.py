"""Compiled passes over framed logs: which events are alike, and which register states follow.

Every pass works on columns of `cvmlab.eventlog.framing`. Events are alike where their bytes are: a seeded
hash finds candidates, and the bytes themselves decide, so that hostile collisions cost time, never truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cvmlab.fleet.compiled import compiled
from cvmlab.fleet.kernel_survey import ONES
from cvmlab.fleet.lanes import load64

if TYPE_CHECKING:
    from cvmlab.fleet.compiled import Bytes, Ints, Small, Words

MAX_PROBES: Final = 64
"""Most places of a table looked at; what is not found there counts as new."""

STARTS: Final = 4
ROOTS: Final = 16 * STARTS
"""States that exist beforehand: for each set of banks (bits by place) each start."""


@compiled
def _hash_bytes(buffer: Bytes, at: int, size: int, seed: np.uint64) -> np.uint64:
    """Hash bytes for a table: four strands of multiply and fold, so that long events are not slow."""
    prime = np.uint64(0x9E3779B97F4A7C15)
    other = np.uint64(0xD6E8FEB86659FD93)
    fold = np.uint64(29)
    a = seed
    b = seed ^ prime
    c = seed ^ other
    d = ~seed
    done = 0
    while done + 32 <= size:
        a = (a ^ load64(buffer, at + done)) * prime
        b = (b ^ load64(buffer, at + done + 8)) * other
        c = (c ^ load64(buffer, at + done + 16)) * prime
        d = (d ^ load64(buffer, at + done + 24)) * other
        a ^= a >> fold
        b ^= b >> fold
        c ^= c >> fold
        d ^= d >> fold
        done += 32
    while done + 8 <= size:
        a = (a ^ load64(buffer, at + done)) * prime
        a ^= a >> fold
        done += 8
    rest = np.uint64(size)
    while done < size:
        rest = (rest << np.uint64(8)) | np.uint64(buffer[at + done])
        done += 1
    a = (a ^ rest) * prime
    a ^= (b ^ (b >> fold)) * other
    a = (a ^ (a >> fold)) * prime
    a ^= (c ^ (c >> fold)) * prime
    a = (a ^ (a >> fold)) * other
    a ^= (d ^ (d >> fold)) * other
    a = (a ^ (a >> fold)) * prime
    return a ^ (a >> np.uint64(32))


@compiled
def _same_bytes(buffer: Bytes, one: int, other: int, size: int) -> bool:
    done = 0
    while done + 32 <= size:
        a = load64(buffer, one + done) ^ load64(buffer, other + done)
        b = load64(buffer, one + done + 8) ^ load64(buffer, other + done + 8)
        c = load64(buffer, one + done + 16) ^ load64(buffer, other + done + 16)
        d = load64(buffer, one + done + 24) ^ load64(buffer, other + done + 24)
        if (a | b) | (c | d):
            return False
        done += 32
    while done + 8 <= size:
        if load64(buffer, one + done) != load64(buffer, other + done):
            return False
        done += 8
    while done < size:
        if buffer[one + done] != buffer[other + done]:
            return False
        done += 1
    return True


@compiled
def intern_events(
    buffer: Bytes,
    rows: Ints,
    kinds: Bytes,
    e_offset: Ints,
    e_data: Ints,
    e_size: Ints,
    seed: np.uint64,
    table: Small,
    hashes: Words,
    models: Ints,
    event_ids: Small,
) -> int:
    """Number events by their bytes.

    Args:
        buffer: The bytes of all logs.
        rows: Event rows to number.
        kinds: What else tells each of `rows` apart (format, set, first event of its log).
        e_offset: Event column.
        e_data: Event column.
        e_size: Event column.
        seed: Seed of the hash.
        table: Work space filled with -1, a power of two, at least twice as long as `rows`.
        hashes: Work space: hash of each number.
        models: Out: place in `rows` of the first event of each number.
        event_ids: Out: number of each of `rows`.

    Returns:
        How many numbers there are.
    """
    mask = len(table) - 1
    found = 0
    for place in range(len(rows)):
        row = rows[place]
        at = e_offset[row]
        size = e_data[row] + e_size[row] - at
        key = _hash_bytes(buffer, at, size, seed ^ np.uint64(kinds[place]))
        slot = np.int64(key & np.uint64(mask))
        number = -1
        for _ in range(MAX_PROBES):
            known = table[slot]
            if known < 0:
                break
            if hashes[known] == key:
                model = models[known]
                other = rows[model]
                if (
                    kinds[model] == kinds[place]
                    and e_data[other] + e_size[other] - e_offset[other] == size
                    and _same_bytes(buffer, at, e_offset[other], size)
                ):
                    number = known
                    break
            slot = (slot + 1) & mask
        if number < 0:
            number = found
            hashes[number] = key
            models[number] = place
            found += 1
            if table[slot] < 0:
                table[slot] = number
        event_ids[place] = number
    return found


@compiled
def intern_rows(
    data: Bytes,
    size: int,
    wanted: Bytes,
    seed: np.uint64,
    table: Small,
    hashes: Words,
    models: Ints,
    ids: Small,
) -> tuple[int, int]:
    """Number rows by their bytes.

    Args:
        data: Bytes of all rows, one behind the other.
        size: Bytes of a row.
        wanted: 1 for each row to number; others have -1.
        seed: Seed of the hash.
        table: Work space filled with -1, a power of two, at least twice as long as there are rows.
        hashes: Work space: hash of each number.
        models: Out: first row of each number.
        ids: Out: number of each row.

    Returns:
        How many numbers there are, and how many of them may repeat an earlier one because too many collided.
    """
    mask = len(table) - 1
    found = 0
    repeated = 0
    for row in range(len(wanted)):
        ids[row] = -1
        if wanted[row] == 0:
            continue
        key = _hash_bytes(data, row * size, size, seed)
        slot = np.int64(key & np.uint64(mask))
        number = -1
        for _ in range(MAX_PROBES):
            known = table[slot]
            if known < 0:
                break
            if hashes[known] == key and _same_bytes(data, row * size, models[known] * size, size):
                number = known
                break
            slot = (slot + 1) & mask
        if number < 0:
            number = found
            hashes[number] = key
            models[number] = row
            found += 1
            if table[slot] < 0:
                table[slot] = number
            else:
                repeated += 1
        ids[row] = number
    return found, repeated


@compiled
def link_states(
    firsts: Ints,
    registers: Ints,
    digest_ids: Small,
    cc: Bytes,
    banks: Bytes,
    starting: Bytes,
    launched: Bytes,
    table_keys: Words,
    table_states: Small,
    parents: Small,
    pushed: Small,
    levels: Small,
    out_log: Small,
    out_register: Small,
    out_state: Small,
) -> tuple[int, int, int]:
    """Follow the registers of each log from state to state: a state is a start, or another and a digest.

    No value is computed here. Logs that boot alike share their states.

    Args:
        firsts: First place in `registers` of each log, and one past the last of all.
        registers: Register of each event.
        digest_ids: Number of the digests of each event; -1 where it extends nothing.
        cc: 1 for each log of CC registers.
        banks: Banks of each log, bits by place.
        starting: Start of register 0 of each log.
        launched: 1 for each log with a dynamic launch.
        table_keys: Work space, a power of two, at least twice as long as `registers`.
        table_states: Work space filled with -1, of the same length.
        parents: Out: state before, of each state from `ROOTS` on.
        pushed: Out: number of the digests that lead to it.
        levels: Out: steps from the start, of every state; zeros at first.
        out_log: Out: a row for each register of each log that is extended, ascending: the log,
        out_register: the register,
        out_state: and its last state.

    Returns:
        How many states and how many rows there are, and how many states may repeat another.
    """
    mask = len(table_keys) - 1
    states = ROOTS
    rows = 0
    repeated = 0
    now = np.empty(24, np.int32)
    for log in range(len(firsts) - 1):
        now[:] = -1
        root = np.int32(banks[log]) * STARTS
        for place in range(firsts[log], firsts[log + 1]):
            pushes = digest_ids[place]
            if pushes < 0:
                continue
            register = registers[place]
            state = now[register]
            if state < 0:
                state = root
                if cc[log] == 0:
                    if register == 0:
                        state = root + np.int32(starting[log])
                    elif 17 <= register <= 22 and launched[log] == 0:
                        state = root + ONES
            key = (np.uint64(state) << np.uint64(32)) | np.uint64(pushes)
            mixed = key * np.uint64(0x9E3779B97F4A7C15)
            slot = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))
            following = -1
            for _ in range(MAX_PROBES):
                known = table_states[slot]
                if known < 0:
                    break
                if table_keys[slot] == key:
                    following = known
                    break
                slot = (slot + 1) & mask
            if following < 0:
                following = states
                parents[states] = state
                pushed[states] = pushes
                levels[states] = levels[state] + 1
                states += 1
                if table_states[slot] < 0:
                    table_keys[slot] = key
                    table_states[slot] = following
                else:
                    repeated += 1
            now[register] = following
        for register in range(24):
            if now[register] >= 0:
                out_log[rows] = log
                out_register[rows] = register
                out_state[rows] = now[register]
                rows += 1
    return states, rows, repeated


@compiled
def register_rows(
    firsts: Ints,
    registers: Small,
    states: Small,
    orders: Bytes,
    out_register: Small,
    out_bank: Small,
    out_state: Small,
    counts: Ints,
) -> int:
    """Lay out the registers of each log bank by bank, in the order of its banks.

    Args:
        firsts: First row of each log in `registers`, and one past the last of all.
        registers: Registers, as `link_states` gives them.
        states: Their last states.
        orders: Banks of each log in its order, by place; 255 from the end on.
        out_register: Out: a row for each register and bank of each log: the register,
        out_bank: the bank,
        out_state: and the state.
        counts: Out: rows of each log.

    Returns:
        How many rows there are.
    """
    rows = 0
    for log in range(len(firsts) - 1):
        begin = rows
        for place in range(orders.shape[1]):
            bank = orders[log, place]
            if bank == 255:
                break
            for row in range(firsts[log], firsts[log + 1]):
                out_register[rows] = registers[row]
                out_bank[rows] = bank
                out_state[rows] = states[row]
                rows += 1
        counts[log] = rows - begin
    return rows


@compiled
def by_level(levels: Small, bounds: Ints, order: Ints) -> None:
    """Sort states by level: those from `ROOTS` on, in their order within a level.

    Args:
        levels: Level of each state; 1 or more from `ROOTS` on.
        bounds: Out, zeros at first: place in `order` where each level begins, from 1 on; one more entry than
            there are levels, and one for the end.
        order: Out: the states.
    """
    for state in range(ROOTS, len(levels)):
        bounds[levels[state] + 1] += 1
    for level in range(1, len(bounds)):
        bounds[level] += bounds[level - 1]
    for state in range(ROOTS, len(levels)):
        level = levels[state]
        order[bounds[level]] = state
        bounds[level] += 1
    for level in range(len(bounds) - 1, 0, -1):
        bounds[level] = bounds[level - 1]
    bounds[0] = 0
