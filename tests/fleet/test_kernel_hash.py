"""Compiled hashing gives what hashlib gives."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.fleet.kernel_hash import BANKS, SIZES, digest_bytes, extend_values, hash_messages, new_values
from cvmlab.fleet.lanes import START_SHA1, START_SHA256, START_SHA384, START_SHA512


def test_constants_are_those_of_the_standard() -> None:
    # FIPS 180-4, 5.3.1, 5.3.3, 5.3.4 and 5.3.5
    assert START_SHA1[0] == 0x67452301
    assert START_SHA256[:2] == (0x6A09E667, 0xBB67AE85)
    assert START_SHA384[:2] == (0xCBBB9D5DC1059ED8, 0x629A292A367CD507)
    assert START_SHA512[-1] == 0x5BE0CD19137E2179


def hashed(bank: str, messages: list[bytes]) -> list[bytes]:
    buffer = np.frombuffer(b"".join(messages) + bytes(8), np.uint8)
    sizes = np.array([len(message) for message in messages], np.int64)
    offsets = np.cumsum(sizes) - sizes
    return [row.tobytes() for row in hash_messages(BANKS.index(bank), buffer, offsets, sizes)]


@pytest.mark.parametrize("bank", BANKS)
@settings(max_examples=60, deadline=None)
@given(messages=st.lists(st.binary(max_size=700), max_size=40))
def test_messages_hash_as_by_hashlib(bank: str, messages: list[bytes]) -> None:
    assert hashed(bank, messages) == [hashlib.new(bank, message).digest() for message in messages]


@pytest.mark.parametrize("bank", BANKS)
def test_every_length_around_the_padding(bank: str) -> None:
    messages = [bytes(range(256))[:size] for size in range(256)]
    assert hashed(bank, messages) == [hashlib.new(bank, message).digest() for message in messages]


@pytest.mark.parametrize("bank", BANKS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_register_values_extend_as_by_hashlib(bank: str, data: st.DataObject) -> None:
    number = BANKS.index(bank)
    size = SIZES[number]
    digests = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=30))
    # a tree: the first value is all zeros, every other comes from any before it
    parents = [data.draw(st.integers(0, index)) for index in range(len(digests))]
    level, wanted = [0], [bytes(size)]
    for parent, item in zip(parents, digests, strict=True):
        level.append(level[parent] + 1)
        wanted.append(hashlib.new(bank, wanted[parent] + item).digest())
    buffer = np.frombuffer(b"".join(digests), np.uint8)
    values = new_values(number, len(wanted))
    order = np.argsort(np.array(level), kind="stable")[1:]
    bounds = np.cumsum(np.bincount(np.array(level))[1:])
    extend_values(
        number,
        buffer,
        np.array([0, *parents], np.int32),
        np.array([0, *(size * i for i in range(len(digests)))], np.int64),
        np.concatenate(([0], bounds)).astype(np.int64),
        order.astype(np.int64),
        values,
    )
    assert [row.tobytes() for row in digest_bytes(number, values)] == wanted
