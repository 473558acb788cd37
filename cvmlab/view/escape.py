"""Make texts of unknown origin safe to show: nothing invisible, nothing reordered, nothing interpreted.

Event logs, variables and command lines are written by whoever had the machine. Such text must neither move
the cursor, turn the reading direction, hide characters, nor be taken for markup. HTML is escaped by the
template engine (autoescape); this module does what is common to all media, and Markdown.

Sources: Unicode Standard, 4.5 (general categories) and UAX #9 (bidirectional controls); CommonMark 0.31,
2.4 (backslash escapes); GitHub Flavored Markdown, 4.10 (tables) and 6.9 (autolinks).
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import chain

TEXT_LIMIT = 4_000
"""Characters of one text that a renderer shows before it says how many more there are."""

LINE_LIMIT = 400
"""Lines of one preformatted block that a renderer shows before it says how many more there are."""

_MARKS_IN_A_ROW = 4

# Letters, marks and symbols that draw nothing, though their category says they would.
_BLANK = frozenset(
    chain(
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)


def _escaped(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def visible(text: str) -> str:
    r"""Show what cannot be seen: control, format, surrogate, private and unassigned characters as escapes.

    Line breaks and tabs are escaped too, as are spaces other than the plain one, letters that draw nothing,
    and combining marks past the fourth in a row. A backslash stays one, so that paths stay readable.

    Args:
        text: Any text, surrogates included.

    Returns:
        Text of printable characters only; at most ten times as long.

    >>> visible("quiet\x1b[2J\u202e")
    'quiet\\x1b[2J\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    marks = 0
    for char in text:
        code = ord(char)
        marks = marks + 1 if code >= 0x300 and unicodedata.category(char) in ("Mn", "Me") else 0
        if not char.isprintable() or code in _BLANK or marks > _MARKS_IN_A_ROW:
            out.append(_escaped(code))
        else:
            out.append(char)
    return "".join(out)


def bounded(text: str, limit: int) -> str:
    """Cut a text at ``limit`` characters and say how many more there were.

    >>> bounded("abcdef", 4)
    'abcd… (2 more)'
    """
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit:,} more)"


def shown(text: str, limit: int = TEXT_LIMIT) -> str:
    """Bound a text and make it visible: what every renderer does to every text it is given."""
    return visible(bounded(text, limit))


def shown_lines(text: str, limit: int = LINE_LIMIT) -> list[str]:
    """Split preformatted text at line feeds into shown lines, bounded in number and length.

    Tabs become spaces up to the next multiple of four; a carriage return before the line feed is dropped.
    """
    lines = text.split("\n", limit)
    rest = lines.pop() if len(lines) > limit else None
    out = [shown(line.removesuffix("\r").expandtabs(4)) for line in lines]
    if rest is not None:
        out.append(f"… ({rest.count(chr(10)) + 1:,} more lines)")
    return out


_MARKDOWN = re.compile(
    r"[\\`*_\[\]<>|~&$]|(?<=[A-Za-z]):(?=//)|(?<=[wW])\.|(?<=^)(?:[#+\-=]|\d{1,9}[.)](?=\s|$))"
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "$": "&#36;"}
_MATHS_AFTER_BACKSLASH = ("(", ")", "[", "]", "{", "}", "$", "begin", "end", "\\")
_PLAIN_CODE = re.compile(r"[A-Za-z0-9 ./:_=,;@%+()\\-]+")


def markdown(text: str, limit: int = TEXT_LIMIT) -> str:
    r"""Show a text as Markdown running text in which nothing of it is markup, a link, mathematics or a table.

    >>> markdown("<b> | [x](http://a) *y*")
    '&lt;b&gt; \\| \\[x\\](http\\://a) \\*y\\*'
    """
    plain = shown(text, limit).strip()

    def replace(match: re.Match[str]) -> str:
        found = match.group()
        if found in _ENTITIES:
            return _ENTITIES[found]
        if found == "\\":
            # Jupyter takes "\\(" and "\begin{" for mathematics before it reads Markdown.
            return "&#92;" if plain.startswith(_MATHS_AFTER_BACKSLASH, match.end()) else "\\\\"
        return f"{found[:-1]}\\{found[-1]}"

    return _MARKDOWN.sub(replace, plain)


def markdown_code(text: str, limit: int = TEXT_LIMIT) -> str:
    """Show a text as a Markdown code span, inside tables too.

    Texts with characters that a code span or table cell could not hold literally become a ``<code>`` element
    with character references instead.
    """
    plain = shown(text, limit).strip()
    if not plain:
        return ""
    if _PLAIN_CODE.fullmatch(plain) and not plain.endswith("\\"):
        return f"`{plain}`"
    return f"<code>{_references(plain)}</code>"


def _references(plain: str) -> str:
    return re.sub(r"[\\`*_\[\]|~$:@{}]", lambda m: f"&#{ord(m.group())};", html.escape(plain))


def fence(lines: list[str]) -> str:
    """Return a run of backticks longer than any in the lines, to fence them with."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    return "`" * max(3, longest + 1)
