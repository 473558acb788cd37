"""The model refuses what no renderer could show honestly."""

from __future__ import annotations

import pytest

from cvmlab.view import Card, Cell, ChainLink, Diff, Figure, Heading, Note, Table, Verdict


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Verdict("fine", ""), "verdict is 'fine'"),
        (lambda: ChainLink("quote", "ok"), "link status is 'ok'"),
        (lambda: Cell("x", kind="trusted"), "cell kind is 'trusted'"),
        (lambda: Card("t", "", "critical", ()), "severity is 'critical'"),
        (lambda: Note("error", "x"), "note kind is 'error'"),
        (lambda: Diff("", (("*", "x"),)), r"diff sign is '\*'"),
        (lambda: Heading("x", 1), "heading level is 1"),
        (lambda: Figure("<svg/>", alt=" "), "needs alt text"),
        (lambda: Table(("a", "b"), ((1,),)), "row 0 has 1 values for 2 columns"),
        (lambda: Table(("a",), ((1,), (2,)), total=1), "total is 1, fewer than the 2 rows"),
        (lambda: Table(("a",), (), numeric=frozenset({"b"})), "columns that are not there: b"),
    ],
)
def test_refuses(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rows", "total", "words"),
    [(0, None, "0 rows"), (1, None, "1 row"), (24, 24, "24 rows"), (60, 2_000, "60 of 2,000 rows")],
)
def test_count_says_how_many(rows: int, total: int | None, words: str) -> None:
    assert Table(("a",), ((1,),) * rows, total=total).count == words
