"""A neutral document: what a report says, before anyone decides how it looks.

A `Document` is a title and a tuple of blocks. Blocks are plain frozen values; the renderers of this room
turn one document into text, HTML and Markdown, so every face of a result says the same thing. Nothing here
escapes: texts are kept as they came, and each renderer makes them safe for its own medium.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

VerdictWord = Literal["trusted", "not-trusted", "inconclusive"]
LinkStatus = Literal["holds", "broken", "not-checked", "not-applicable"]
Severity = Literal["info", "low", "medium", "high"]
NoteKind = Literal["info", "warning", "bad", "good"]
CellKind = Literal[
    "", "digest", "code", "claimed", "good", "bad", "warn", "muted", "added", "removed", "status"
]
Sign = Literal["+", "-", " "]


def _one_of(what: str, value: str, allowed: object) -> None:
    words = get_args(allowed)
    if value not in words:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(repr(word) for word in words)}")


@dataclass(frozen=True, slots=True)
class Cell:
    """One value and what it is, so that each renderer can show it as such.

    Attributes:
        text: The value. For ``digest`` the whole value: renderers show the first 12 characters of it.
        title: What a tooltip says; the whole digest where left empty and ``kind`` is ``digest``.
        kind: ``claimed`` marks what no verified digest covers; ``status`` is a word of the product's
            vocabulary (``holds``, ``differs``, …) that gets its glyph; ``added`` and ``removed`` get a sign.
    """

    text: str
    title: str = ""
    kind: CellKind = ""

    def __post_init__(self) -> None:
        _one_of("cell kind", self.kind, CellKind)


Value = Cell | str | int | None
"""A value in a table or list of facts. ``None`` is shown as a dash, never as an empty place."""

Inline = str | Cell | tuple[str | Cell, ...]
"""Running text: a string, a cell, or both in a row (``("Event ", Cell("12"), " loaded …")``)."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A section heading; level 2 is a section of the document, 3 a part of it."""

    text: str
    level: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.level <= 5:
            raise ValueError(f"heading level is {self.level}; it must be 2 to 5 (1 is the document's title)")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text. Line breaks inside it are shown as escapes: use one paragraph for each."""

    text: Inline


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of the whole document, in one word and one sentence."""

    word: VerdictWord
    sentence: str

    def __post_init__(self) -> None:
        _one_of("verdict", self.word, VerdictWord)


@dataclass(frozen=True, slots=True)
class Note:
    """A remark that must not be missed."""

    kind: NoteKind
    text: Inline

    def __post_init__(self) -> None:
        _one_of("note kind", self.kind, NoteKind)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns.

    Attributes:
        columns: Column headings.
        rows: Shape (rows, columns); every row has one value for each column.
        total: Rows there are in all, where the table shows only some; shown as "60 of 2,000 rows".
        caption: What the table shows.
        numeric: Names of the columns that hold numbers; they are aligned right.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    total: int | None = None
    caption: str = ""
    numeric: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} values for {len(self.columns)} columns")
        if self.total is not None and self.total < len(self.rows):
            raise ValueError(f"total is {self.total}, fewer than the {len(self.rows)} rows shown")
        unknown = self.numeric.difference(self.columns)
        if unknown:
            raise ValueError(f"numeric names columns that are not there: {', '.join(sorted(unknown))}")

    @property
    def count(self) -> str:
        """How many rows there are, in words: ``24 rows`` or ``60 of 2,000 rows``."""
        shown = len(self.rows)
        if self.total is not None and self.total != shown:
            return f"{shown:,} of {self.total:,} rows"
        return "1 row" if shown == 1 else f"{shown:,} rows"


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One link of a trust chain."""

    name: str
    status: LinkStatus
    why: str = ""

    def __post_init__(self) -> None:
        _one_of("link status", self.status, LinkStatus)


@dataclass(frozen=True, slots=True)
class Chain:
    """A trust chain, drawn as steps on a line that breaks at the first broken link."""

    links: tuple[ChainLink, ...]

    @property
    def first_broken(self) -> int | None:
        """Index of the first broken link, or ``None``."""
        return next((i for i, link in enumerate(self.links) if link.status == "broken"), None)


@dataclass(frozen=True, slots=True)
class Diff:
    """A decoded before and after: lines signed ``-`` (before), ``+`` (after) or space (both)."""

    title: str
    lines: tuple[tuple[Sign, str], ...]

    def __post_init__(self) -> None:
        for sign, _ in self.lines:
            _one_of("diff sign", sign, Sign)


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Named facts, in order."""

    items: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class List:
    """Points, numbered where they are steps (``ordered``)."""

    items: tuple[Inline, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Preformatted text; the only block in which a line break of the text breaks the line."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        image: A PNG's bytes, or an SVG's text or bytes. It is embedded as an image: scripts in it do not run.
        alt: What the picture shows, for those who do not see it.
        caption: The line under it.
    """

    image: bytes | str = field(repr=False)
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("a figure needs alt text: say what it shows")


@dataclass(frozen=True, slots=True)
class Stats:
    """A few headline numbers: (value, what it counts, kind of cell that colours it)."""

    items: tuple[tuple[str, str, CellKind], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """Blocks that belong together under a title, such as one cause.

    Attributes:
        title: What it is about.
        kicker: The small line above the title, such as ``Primary cause · boot-loader-changed``.
        severity: Shown as a word and a colour.
        blocks: What the card says.
        primary: Whether this is the card to read first; it is drawn heavier.
    """

    title: str
    kicker: str
    severity: Severity
    blocks: tuple[Block, ...]
    primary: bool = False

    def __post_init__(self) -> None:
        _one_of("severity", self.severity, Severity)


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks folded behind a summary line; unfolded in print."""

    summary: str
    blocks: tuple[Block, ...]


Block = (
    Heading
    | Paragraph
    | Verdict
    | Note
    | Table
    | Chain
    | Diff
    | KeyValues
    | List
    | Code
    | Figure
    | Stats
    | Card
    | Details
)
"""Everything a document can hold."""


@dataclass(frozen=True, slots=True)
class Document:
    """A titled sequence of blocks: the one view model behind text, HTML and Markdown."""

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.view import mimebundle

        return mimebundle(self)
