"""Lay a table out in text: columns that share the width, or one record after another where none would fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.view import words
from cvmlab.view.escape import shown
from cvmlab.view.layout import Line, Span, cut, line_width, pad, share, text_width, wrap

if TYPE_CHECKING:
    from cvmlab.view.model import Table
    from cvmlab.view.words import Shown

GAP = "  "
CELL_LINES = 6
_LONGEST_WORD = 14


def table_lines(table: Table, width: int) -> list[Line]:
    """Lay a table out in lines of at most ``width`` cells; the last one says how many rows there are."""
    head: list[Line] = [*wrap(((shown(table.caption), "strong"),), width)] if table.caption else []
    rows = [[shown_spans(words.show_cell(value)) for value in row] for row in table.rows]
    names = [shown(name) for name in table.columns]
    natural = [text_width(name) for name in names]
    minimum = [_longest_word(name) for name in names]
    for row in rows:
        for index, spans in enumerate(row):
            natural[index] = max(natural[index], line_width(spans))
            minimum[index] = max(minimum[index], _smallest(spans, table.columns[index] in table.numeric))
    widths = share(natural, minimum, width - len(GAP) * (len(names) - 1)) if names else None
    body = _records(names, rows, width) if widths is None else _columns(table, names, rows, widths)
    return [*head, *body, ((table.count, "muted"),)]


def shown_spans(part: Shown) -> Line:
    """Return a shown value as spans: glyph, text, and the word ``claimed`` where it is only that."""
    style = part.tone or part.kind
    spans: list[Span] = [(f"{part.glyph} ", style)] if part.glyph else []
    spans.append((shown(part.text), style))
    if part.kind == "claimed":
        spans.append((" (claimed)", "muted"))
    return tuple(spans)


def _longest_word(text: str) -> int:
    return min(_LONGEST_WORD, max((text_width(word) for word in text.split(" ")), default=1))


def _smallest(spans: Line, numeric: bool) -> int:
    if numeric or spans[-1][1] == "digest":
        return min(_LONGEST_WORD + 4, line_width(spans))
    if len(spans) > 1 and spans[-1][1] != "muted":
        return min(_LONGEST_WORD + 2, line_width(spans))
    return max(_longest_word(text) for text, _ in spans)


def _columns(table: Table, names: list[str], rows: list[list[Line]], widths: list[int]) -> list[Line]:
    right = [name in table.numeric for name in table.columns]
    titles: list[Line] = [((name, "column"),) for name in names]
    out = _row(titles, widths, right)
    out.append(_joined([(("─" * size, "rule"),) for size in widths]))
    for row in rows:
        out += _row(row, widths, right)
    return out


def _row(cells: list[Line], widths: list[int], right: list[bool]) -> list[Line]:
    columns = [_cell(cell, size) for cell, size in zip(cells, widths, strict=True)]
    height = max(len(lines) for lines in columns)
    out = []
    for index in range(height):
        parts = [
            pad(lines[index] if index < len(lines) else (), size, right=align)
            for lines, size, align in zip(columns, widths, right, strict=True)
        ]
        out.append(_joined(parts))
    return out


def _cell(cell: Line, size: int) -> list[Line]:
    lines = wrap(cell, size)
    if len(lines) <= CELL_LINES:
        return lines
    last = (*lines[CELL_LINES - 1], (" ", ""), *lines[CELL_LINES])
    return [*lines[: CELL_LINES - 1], cut(last, size)]


def _joined(parts: list[Line]) -> Line:
    out: list[Span] = []
    for index, part in enumerate(parts):
        if index:
            out.append((GAP, ""))
        out.extend(part)
    return tuple(out)


def _records(names: list[str], rows: list[list[Line]], width: int) -> list[Line]:
    size = min(max((text_width(name) for name in names), default=1), max(6, width // 3))
    out: list[Line] = []
    for row in rows:
        out.append((("─" * min(width, 40), "rule"),))
        for name, cell in zip(names, row, strict=True):
            lines = _cell(cell, max(1, width - size - len(GAP)))
            label = cut(((name, "muted"),), size)
            for index, line in enumerate(lines):
                out.append((*pad(label if not index else (), size), (GAP, ""), *line))
    return out
