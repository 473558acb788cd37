"""Render a document as HTML: a fragment for notebooks, or a complete page that needs nothing else.

Both come from the same templates. Every value that a template prints passes `cvmlab.view.escape.shown` and
then the engine's autoescape, by the engine's own hook, so that no template can forget to. There is no script,
nothing is fetched, no element has an id, and colours are mixed from the surrounding text's own, so that the
same fragment reads in light and dark themes.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from cvmlab.view import words
from cvmlab.view.escape import shown, shown_lines
from cvmlab.view.model import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2 import Environment

    from cvmlab.view.model import Diff, Document, Figure

_PNG = b"\x89PNG\r\n\x1a\n"


def render_html(document: Document) -> str:
    """Render a document as an HTML fragment for a notebook cell: one element with its own scoped style."""
    return _environment().get_template("fragment.html").render(document=document)


def render_page(document: Document) -> str:
    """Render a document as a complete HTML page: light and dark, printable, without script or network."""
    return _environment().get_template("page.html").render(document=document)


def image_source(figure: Figure) -> str:
    """Return a figure's picture as a ``data:`` address.

    Raises:
        ValueError: The picture is neither PNG nor SVG.
    """
    data = figure.image.encode("utf-8") if isinstance(figure.image, str) else figure.image
    if data.startswith(_PNG):
        kind = "image/png"
    elif data.lstrip()[:5] in (b"<svg ", b"<svg>", b"<?xml", b"<!DOC"):
        kind = "image/svg+xml"
    else:
        raise ValueError(f"the picture {figure.alt!r} is neither PNG nor SVG")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def diff_rows(diff: Diff) -> Iterator[tuple[str, str, str, str]]:
    """Yield (sign, start, middle, end) of each line; the middle is what a single changed line changes."""
    lines = diff.lines
    for index, (sign, text) in enumerate(lines):
        other = index + (1 if sign == "-" else -1)
        pair = sign != " " and 0 <= other < len(lines) and {sign, lines[other][0]} == {"-", "+"}
        alone = pair and not any(
            0 <= place < len(lines) and lines[place][0] == each
            for place, each in ((min(index, other) - 1, "-"), (max(index, other) + 1, "+"))
        )
        if alone:
            yield (sign, *_changed(shown(text), shown(lines[other][1])))
        else:
            yield (sign, text, "", "")


def _changed(text: str, other: str) -> tuple[str, str, str]:
    """Split ``text`` around the words in which it differs from ``other``; all in the start where most do."""
    mine, theirs = text.split(" "), other.split(" ")
    start = 0
    while start < min(len(mine), len(theirs)) and mine[start] == theirs[start]:
        start += 1
    end = 0
    while end < min(len(mine), len(theirs)) - start and mine[-1 - end] == theirs[-1 - end]:
        end += 1
    middle = mine[start : len(mine) - end]
    if not start and not end:
        return text, "", ""
    before = " ".join(mine[:start]) + (" " if start and (middle or end) else "")
    after = (" " if end and middle else "") + " ".join(mine[len(mine) - end :]) if end else ""
    return before, " ".join(middle), after


def _read(name: str) -> str:
    from importlib.resources import files

    return files("cvmlab.view").joinpath("templates", name).read_text("utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["show_cell"] = words.show_cell
    environment.filters["kind_of"] = lambda block: type(block).__name__
    environment.globals.update(
        words=words,
        image_source=lambda figure: Markup(image_source(figure)),  # noqa: S704 - base64 of our own making
        diff_rows=diff_rows,
        shown_lines=shown_lines,
        show_stat=lambda number, kind: words.show(Cell(number, kind=kind)),
        newline=Markup("\n"),
        style=Markup(_read("style.css")),  # noqa: S704 - a file of this package
        page_style=Markup(_read("page.css")),  # noqa: S704 - a file of this package
    )
    return environment
