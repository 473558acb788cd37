"""Hashing of many messages and of many register values, on the vector functions of `cvmlab.fleet.lanes`.

Arrays of digests hold words of the hash, not bytes: one row a digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cvmlab.fleet.compiled import compiled
from cvmlab.fleet.lanes import (
    LANES,
    START_SHA1,
    START_SHA256,
    START_SHA384,
    START_SHA512,
    big32,
    big64,
    blocks32,
    blocks64,
    compress_sha1,
    compress_sha256,
    compress_sha512,
)

if TYPE_CHECKING:
    from cvmlab.fleet.compiled import Bytes, Ints, Small, Words

BANKS: Final = ("sha1", "sha256", "sha384", "sha512")
"""Banks that are hashed here; their places in this tuple number them below."""
SIZES: Final = (20, 32, 48, 64)
_STRETCH: Final = 512
"""Messages that are sorted together, so that what they are read from fits a cache."""
_STARTS: Final = (
    np.array(START_SHA1, np.uint32),
    np.array(START_SHA256, np.uint32),
    np.array(START_SHA384, np.uint64),
    np.array(START_SHA512, np.uint64),
)


def hash_messages(bank: int, buffer: Bytes, offsets: Ints, sizes: Ints) -> Bytes:
    """Hash parts of a buffer.

    Args:
        bank: Place in `BANKS`.
        buffer: Bytes; parts lie inside it.
        offsets: First byte of each part.
        sizes: Bytes of each part.

    Returns:
        Digests, one row a part.
    """
    start = _STARTS[bank]
    # lanes that work together end together, and are near each other in memory
    blocks = np.minimum((sizes + 2 * start.itemsize) // (16 * start.itemsize), 255)
    stretch = np.arange(len(sizes)) // max(_STRETCH, len(sizes) // 256 + 1) * 256
    order = np.argsort((stretch + blocks).astype(np.uint16), kind="stable")
    found = np.empty((len(offsets), len(start)), start.dtype)
    _hash_many(bank, buffer, offsets, sizes, order, start, found)
    return digest_bytes(bank, found)


def extend_values(
    bank: int, buffer: Bytes, parents: Small, digests: Ints, levels: Ints, order: Ints, values: Words
) -> None:
    """Compute register values from their predecessors: H(value || digest).

    Args:
        bank: Place in `BANKS`.
        buffer: Bytes that hold the events' digests.
        parents: Value before, of each value, a row of `values`.
        digests: Offset of the digest extended, of each value.
        levels: Bounds of the levels in `order`: no value of a level comes from another of it.
        order: Rows of `values` to compute, level by level.
        values: In and out: words of all values.
    """
    start, words = _STARTS[bank], values.shape[1]
    padding = np.zeros((16, LANES), start.dtype)
    padding[2 * words % 16, :] = 1 << (8 * start.itemsize - 1)
    padding[15, :] = 16 * SIZES[bank]
    _extend_all(bank, buffer, parents, digests, levels, order, start, padding, values)


def new_values(bank: int, count: int) -> Words:
    """Return room for register values."""
    words = SIZES[bank] // _STARTS[bank].dtype.itemsize
    return np.zeros((count, words), _STARTS[bank].dtype)


def digest_bytes(bank: int, words: Words) -> Bytes:
    """Return digests as bytes."""
    rows = np.ascontiguousarray(words).byteswap().view(np.uint8)
    return np.ascontiguousarray(rows.reshape(len(words), words.shape[1] * words.itemsize)[:, : SIZES[bank]])


@compiled
def _fill32(buffer: Bytes, offset: int, size: int, number: int, block: Words, lane: int) -> None:
    """Lay one block of a message with its padding into a lane (FIPS 180-4, 5.1.1)."""
    done = number * 64
    if done + 64 <= size:
        for word in range(16):
            block[word, lane] = big32(buffer, offset + done + 4 * word)
        return
    for word in range(16):
        at = done + 4 * word
        value = np.uint32(0)
        if at + 4 <= size:
            value = big32(buffer, offset + at)
        elif at <= size:
            value = np.uint32(0x80) << np.uint32(24 - 8 * (size - at))
            for byte in range(size - at):
                value |= np.uint32(buffer[offset + at + byte]) << np.uint32(24 - 8 * byte)
        block[word, lane] = value
    if done + 64 >= size + 9:
        block[14, lane] = np.uint32(size >> 29)
        block[15, lane] = np.uint32((size << 3) & 0xFFFFFFFF)


@compiled
def _fill64(buffer: Bytes, offset: int, size: int, number: int, block: Words, lane: int) -> None:
    """The same in words of 64 bits (5.1.2)."""
    done = number * 128
    if done + 128 <= size:
        for word in range(16):
            block[word, lane] = big64(buffer, offset + done + 8 * word)
        return
    for word in range(16):
        at = done + 8 * word
        value = np.uint64(0)
        if at + 8 <= size:
            value = big64(buffer, offset + at)
        elif at <= size:
            value = np.uint64(0x80) << np.uint64(56 - 8 * (size - at))
            for byte in range(size - at):
                value |= np.uint64(buffer[offset + at + byte]) << np.uint64(56 - 8 * byte)
        block[word, lane] = value
    if done + 128 >= size + 17:
        block[15, lane] = np.uint64(size << 3)


@compiled
def _compress(bank: int, state: Words, block: Words) -> None:
    if bank == 0:
        compress_sha1(state, block)
    elif bank == 1:
        compress_sha256(state, block)
    else:
        compress_sha512(state, block)


@compiled
def _hash_many(
    bank: int, buffer: Bytes, offsets: Ints, sizes: Ints, order: Ints, start: Words, found: Words
) -> None:
    words = len(start)
    size = 16 * start.itemsize
    least = size // 8 + 1  # the bit 1 and the length behind the message (FIPS 180-4, 5.1)
    state = np.empty((8, LANES), start.dtype)
    block = np.zeros((16, LANES), start.dtype)
    begin = np.empty(LANES, np.int64)
    length = np.empty(LANES, np.int64)
    places = np.empty(LANES, np.int64)
    for first in range(0, len(order), LANES):
        lanes = min(LANES, len(order) - first)
        for word in range(words):
            state[word, :] = start[word]
        most = 0
        least_length = sizes[order[first]]
        for lane in range(LANES):
            message = order[first + min(lane, lanes - 1)]
            begin[lane] = offsets[message]
            length[lane] = sizes[message]
            most = max(most, length[lane])
            least_length = min(least_length, length[lane])
        for number in range((most + least + size - 1) // size):
            if (number + 1) * size <= least_length:
                for lane in range(LANES):
                    places[lane] = begin[lane] + number * size
                if bank < 2:
                    blocks32(buffer, places, block)
                else:
                    blocks64(buffer, places, block)
            else:
                for lane in range(lanes):
                    if number * size < length[lane] + least:
                        if bank < 2:
                            _fill32(buffer, begin[lane], length[lane], number, block, lane)
                        else:
                            _fill64(buffer, begin[lane], length[lane], number, block, lane)
            _compress(bank, state, block)
            for lane in range(lanes):
                if number == (length[lane] + least + size - 1) // size - 1:
                    message = order[first + lane]
                    for word in range(words):
                        found[message, word] = state[word, lane]


@compiled
def _extend_all(
    bank: int,
    buffer: Bytes,
    parents: Small,
    digests: Ints,
    levels: Ints,
    order: Ints,
    start: Words,
    padding: Words,
    values: Words,
) -> None:
    words = values.shape[1]
    state = np.empty((8, LANES), start.dtype)
    block = padding.copy()
    for level in range(len(levels) - 1):
        for first in range(levels[level], levels[level + 1], LANES):
            lanes = min(LANES, levels[level + 1] - first)
            for word in range(len(start)):
                state[word, :] = start[word]
            for lane in range(lanes):
                row = order[first + lane]
                parent = parents[row]
                digest = digests[row]
                for word in range(words):
                    block[word, lane] = values[parent, word]
                    at = digest + start.itemsize * word
                    if bank < 2:
                        block[words + word, lane] = big32(buffer, at)
                    else:
                        block[words + word, lane] = big64(buffer, at)
            _compress(bank, state, block)
            if 2 * words == 16:
                _compress(bank, state, padding)
            for lane in range(lanes):
                row = order[first + lane]
                for word in range(words):
                    values[row, word] = state[word, lane]
