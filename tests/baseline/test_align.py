"""Alignment: pairs agree, ascend, and are as many as the longest common subsequence."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.baseline import align as align_module
from cvmlab.baseline.align import align, pair_leftovers

keys = st.lists(st.sampled_from("abcdef"), max_size=14)


def longest(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Length of the longest common subsequence, by its definition."""

    @cache
    def run(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + run(i + 1, j + 1)
        return max(run(i + 1, j), run(i, j + 1))

    return run(0, 0)


@settings(max_examples=300, deadline=None)
@given(keys, keys)
def test_pairs_agree_ascend_and_are_as_many_as_can_be(a: list[str], b: list[str]) -> None:
    pairs = align([frozenset(x) for x in a], b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert [i for i, _ in pairs] == sorted({i for i, _ in pairs})
    assert [j for _, j in pairs] == sorted({j for _, j in pairs})
    assert len(pairs) == longest(tuple(a), tuple(b))


@given(keys)
def test_equal_sequences_pair_one_to_one(a: list[str]) -> None:
    assert align([frozenset(x) for x in a], a) == [(i, i) for i in range(len(a))]


def test_slot_of_several_keys_takes_any_of_them() -> None:
    assert align([frozenset("a"), frozenset("bc"), frozenset("d")], "acd") == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("size", [3_000, 20_000])
def test_long_stretches_use_anchors_and_stay_quick(size: int) -> None:
    a = [frozenset({number}) for number in range(size)]
    b = [number for number in range(size) if number % 7]
    b.insert(size // 2, -1)
    b[0], b[-1] = -2, -3
    pairs = align(a, b)
    assert len(pairs) == len([x for x in b if x >= 0])


def test_hostile_repetition_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align_module, "MAX_CELLS", 10_000)
    a = [frozenset({number % 2}) for number in range(5_000)]
    b = [*((number + 1) % 2 for number in reversed(range(5_001))), 7]
    pairs = align(a, b)
    assert all(b[j] in a[i] for i, j in pairs)


def test_leftovers_pair_by_label_and_never_cross_a_pair() -> None:
    pairs = [(1, 1)]
    found = pair_leftovers({0: "x", 2: "y"}, {0: "y", 2: "y"}, pairs)
    assert found == [(2, 2)]
