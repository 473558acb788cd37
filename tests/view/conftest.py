"""A document with every kind of block, and one whose every text is hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cvmlab.view import (
    Card,
    Cell,
    Chain,
    ChainLink,
    Code,
    Details,
    Diff,
    Document,
    Figure,
    Heading,
    KeyValues,
    List,
    Note,
    Paragraph,
    Stats,
    Table,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(1)</script></svg>"
KINDS = ("", "digest", "code", "claimed", "good", "bad", "warn", "muted", "added", "removed", "status")


def every_block(text: Callable[[str], str]) -> Document:
    """Return a document with every kind of block, each of its texts made by ``text`` from a name."""
    cells = tuple(Cell(text(f"cell{kind}"), title=text("title"), kind=kind) for kind in KINDS)
    blocks = (
        Verdict("not-trusted", text("sentence")),
        Heading(text("section")),
        Chain(
            (
                ChainLink(text("link1"), "holds", text("why1")),
                ChainLink(text("link2"), "broken", text("why2")),
                ChainLink(text("link3"), "not-checked", text("why3")),
                ChainLink(text("link4"), "not-applicable"),
            )
        ),
        Card(
            text("card"),
            text("kicker"),
            "high",
            (
                Paragraph((text("before"), " ", Cell(text("inlinecode"), kind="code"), " ", text("after"))),
                Diff(text("difftitle"), ((" ", text("same")), ("-", text("old")), ("+", text("new")))),
                Heading(text("part"), 3),
                List((text("step1"), (text("step2"), Cell(text("step3"), kind="claimed"))), ordered=True),
            ),
            primary=True,
        ),
        Note("warning", text("note")),
        Stats(((text("number"), text("counted"), "bad"),)),
        KeyValues(((text("key"), text("value")), (text("key2"), Cell(text("value2"), kind="claimed")))),
        Table(
            (text("column1"), text("column2"), *(text(f"head{i}") for i in range(len(KINDS)))),
            ((1, None, *cells),),
            total=2_000,
            caption=text("caption"),
            numeric=frozenset({text("column1")}),
        ),
        Details(text("summary"), (Paragraph(text("folded")), List((text("point"),)))),
        Code(text("code1") + "\n" + text("code2"), language="sh"),
        Figure(SVG, alt=text("alt") + "!", caption=text("figcaption")),
    )
    return Document(text("documenttitle"), blocks, subtitle=text("subtitle"))


@pytest.fixture(scope="session")
def make_document() -> Callable[[Callable[[str], str]], Document]:
    """Makes a document with every kind of block from a function of a text's name."""
    return every_block


@pytest.fixture(scope="session")
def sample() -> Document:
    """Every kind of block; each text is its own name."""
    return every_block(lambda name: name)
