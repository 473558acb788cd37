"""Lay styled text out in lines of a fixed width: measure, wrap, cut, and share a width among columns."""

from __future__ import annotations

import unicodedata

Span = tuple[str, str]
"""A run of text and the name of its style (empty: none)."""

Line = tuple[Span, ...]
"""One line of output."""

MORE = "…"
_MARKS = "-/\\"


def text_width(text: str) -> int:
    """Return the number of terminal cells a text takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if char < "\u0300":
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def line_width(line: Line) -> int:
    """Return the number of terminal cells of a line."""
    return sum(text_width(text) for text, _ in line)


def line_text(line: Line) -> str:
    """Return the text of a line without its styles or trailing spaces."""
    return "".join(text for text, _ in line).rstrip(" ")


def take(text: str, width: int) -> tuple[str, str]:
    """Split a text into what fits ``width`` cells, which may be nothing, and the rest."""
    if text.isascii():
        return text[:width], text[width:]
    used = 0
    for index, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return text[:index], text[index:]
    return text, ""


def cut(line: Line, width: int) -> Line:
    """Cut a line to ``width`` cells; a cut line ends in an ellipsis."""
    if line_width(line) <= width:
        return line
    out: list[Span] = []
    room = max(1, width - 1)
    for text, style in line:
        if text_width(text) <= room:
            out.append((text, style))
            room -= text_width(text)
            continue
        if room > 0:
            out.append((take(text, room)[0], style))
        break
    return (*out, (MORE, "muted"))


def pad(line: Line, width: int, *, right: bool = False) -> Line:
    """Fill a line with spaces up to ``width``, on its left where it is aligned right."""
    missing = width - line_width(line)
    if missing <= 0:
        return line
    space = (" " * missing, "")
    return (space, *line) if right else (*line, space)


def wrap(spans: Line, width: int) -> list[Line]:
    """Break styled text at spaces into lines of at most ``width`` cells (at least 2); longer words are split.

    A word is split behind a mark such as a hyphen where it has one in the second half of the line.

    Spaces at line ends are dropped, others are kept, so that aligned text stays so.
    """
    width = max(2, width)
    lines: list[Line] = []
    line: list[Span] = []
    used = 0
    gap: list[Span] = []
    for word in _words(spans):
        if word[0][0].isspace():
            gap.extend(word)
            continue
        size, space = line_width(tuple(word)), line_width(tuple(gap))
        if line and used + space + size > width:
            lines.append(tuple(line))
            line, used = [], 0
        elif gap and (line or not lines) and space < width:
            line.extend(gap)
            used += space
        gap = []
        for text, style in word:
            while used + text_width(text) > width:
                if used < width:
                    head, text = _at_mark(*take(text, width - used))
                    line += [(head, style)] if head else []
                lines.append(tuple(line))
                line, used = [], 0
            if text:
                line.append((text, style))
                used += text_width(text)
    if line or not lines:
        lines.append(tuple(line))
    return [each for each in lines if each] or [()]


def _at_mark(head: str, tail: str) -> tuple[str, str]:
    """Move the cut of a word back to behind a mark, where one is near: codes and paths read on then."""
    at = max(head.rfind(mark) for mark in _MARKS) + 1
    if not tail or 2 * at < len(head):
        return head, tail
    return head[:at], head[at:] + tail


def _words(spans: Line) -> list[list[Span]]:
    words: list[list[Span]] = []
    for text, style in spans:
        start = 0
        while start < len(text):
            space = text[start] == " "
            end = start
            while end < len(text) and (text[end] == " ") == space:
                end += 1
            piece = (text[start:end], style)
            if words and not space and start == 0 and words[-1][0][0] != " " * len(words[-1][0][0]):
                words[-1].append(piece)
            else:
                words.append([piece])
            start = end
    return words


def share(natural: list[int], minimum: list[int], room: int) -> list[int] | None:
    """Share a width among columns: wide columns give way first, none below its minimum.

    Args:
        natural: Width each column would like, in cells.
        minimum: Width below which a column cannot be read.
        room: Cells there are for all columns together.

    Returns:
        A width for each column, or ``None`` where even the minimums do not fit.
    """
    if sum(natural) <= room:
        return natural
    if sum(minimum) > room:
        return None
    low, high = 0, max(natural)
    while low < high:
        middle = (low + high + 1) // 2
        if _capped(natural, minimum, middle) <= room:
            low = middle
        else:
            high = middle - 1
    widths = [min(n, max(m, low)) for n, m in zip(natural, minimum, strict=True)]
    spare = room - sum(widths)
    for index, wanted in enumerate(natural):
        if spare > 0 and widths[index] < wanted:
            widths[index] += 1
            spare -= 1
    return widths


def _capped(natural: list[int], minimum: list[int], cap: int) -> int:
    return sum(min(n, max(m, cap)) for n, m in zip(natural, minimum, strict=True))
