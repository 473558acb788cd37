"""Render a document as lines of styled text; plain text is those lines without the styles.

One layout serves logs, pipes and colour terminals: `cvmlab.view.terminal` only adds the colours, so what a
person reads is the same everywhere.
"""

from __future__ import annotations

from typing import assert_never

from cvmlab.view import words
from cvmlab.view.escape import shown, shown_lines
from cvmlab.view.layout import Line, Span, cut, line_text, line_width, pad, text_width, wrap
from cvmlab.view.model import (
    Block,
    Card,
    Chain,
    Code,
    Details,
    Diff,
    Document,
    Figure,
    Heading,
    Inline,
    KeyValues,
    List,
    Note,
    Paragraph,
    Stats,
    Table,
    Verdict,
)
from cvmlab.view.text_table import shown_spans, table_lines

PROSE_WIDTH = 92
FOLDED_LINES = 24
SMALLEST_WIDTH = 32


def render_text(
    document: Document, width: int = 100, color: bool | None = None, folded_lines: int = FOLDED_LINES
) -> str:
    """Render a document as text.

    Args:
        document: What to show.
        width: Cells of a line; at least 32.
        color: Whether to add ANSI colours; ``None`` and ``False`` give plain text.
        folded_lines: Details up to this many lines are shown unfolded; longer ones say how long they are.

    Returns:
        Lines separated by line feeds, the last one ended by one.
    """
    lines = document_lines(document, width, folded_lines)
    if color:
        from cvmlab.view.terminal import ansi

        return ansi(lines)
    return "".join(f"{line_text(line)}\n" for line in lines)


def document_lines(document: Document, width: int = 100, folded_lines: int = FOLDED_LINES) -> list[Line]:
    """Lay a document out in styled lines of at most ``width`` cells."""
    width = max(SMALLEST_WIDTH, width)
    out: list[Line] = [*wrap(((shown(document.title), "title"),), width)]
    if document.subtitle:
        out += wrap(((shown(document.subtitle), "muted"),), width)
    return [*out, (), *_blocks(document.blocks, width, folded_lines)]


def _blocks(blocks: tuple[Block, ...], width: int, folded: int) -> list[Line]:
    out: list[Line] = []
    for block in blocks:
        if out:
            out.append(())
        out += _block(block, max(8, width), folded)
    return out


def _block(block: Block, width: int, folded: int) -> list[Line]:
    match block:
        case Heading():
            return _heading(block, width)
        case Paragraph():
            return wrap(inline_spans(block.text), min(width, PROSE_WIDTH))
        case Verdict():
            return _verdict(block, width)
        case Note():
            tone = words.NOTE_TONES[block.kind]
            label = (f"{words.NOTE_GLYPHS[block.kind]} {words.NOTE_WORDS[block.kind]}: ", f"{tone} strong")
            return _hang((label,), inline_spans(block.text), min(width, PROSE_WIDTH), indent=2)
        case Table():
            return table_lines(block, width)
        case Chain():
            return _chain(block, width)
        case Diff():
            return _diff(block, width)
        case KeyValues():
            return _key_values(block, width)
        case List():
            return _list(block, width)
        case Code():
            return [cut((("  │ ", "muted"), (line, "")), width) for line in shown_lines(block.text)]
        case Figure():
            head = (("[figure] ", "muted"),)
            text = block.alt if not block.caption else f"{block.caption} ({block.alt})"
            return _hang(head, ((shown(text), ""),), min(width, PROSE_WIDTH))
        case Stats():
            pairs = tuple((label, value) for value, label, _ in block.items)
            return _key_values(KeyValues(pairs), width)
        case Card():
            return _card(block, width, folded)
        case Details():
            return _details(block, width, folded)
        case _:
            assert_never(block)


def inline_spans(text: Inline) -> Line:
    """Return running text as spans."""
    return tuple(span for part in words.show_inline(text) for span in shown_spans(part))


def _hang(head: Line, body: Line, width: int, indent: int | None = None) -> list[Line]:
    """Wrap ``body`` after ``head``; further lines are indented by the head's width or by ``indent``."""
    if indent is not None:
        first, *rest = wrap((*head, *body), width)
        again = [line for each in rest for line in wrap(each, width - indent)]
        return [first, *(((" " * indent, ""), *line) for line in again)]
    space = line_width(head)
    lines = wrap(body, width - space)
    return [(*(head if not index else ((" " * space, ""),)), *line) for index, line in enumerate(lines)]


def _heading(block: Heading, width: int) -> list[Line]:
    lines = wrap(((shown(block.text), "heading"),), width)
    rule = width - line_width(lines[-1]) - 1
    if block.level == 2 and rule > 0:
        lines[-1] = (*lines[-1], (" ", ""), ("─" * rule, "rule"))
    return lines


def _verdict(block: Verdict, width: int) -> list[Line]:
    tone = words.status_tone(block.word)
    badge: Line = ((f" {words.GLYPHS[tone]} {words.plain_word(block.word).upper()} ", f"badge-{tone}"),)
    sentence: Line = ((shown(block.sentence), "strong"),)
    return [badge, *wrap(sentence, min(width, PROSE_WIDTH))]


def _chain(block: Chain, width: int) -> list[Line]:
    if not block.links:
        return [(("no links", "muted"),)]
    status_width = max(len(link.status) for link in block.links)
    name_room = max(4, min(width // 3, width - 6 - status_width))
    names = [wrap(((shown(link.name), "strong"),), name_room) for link in block.links]
    name_width = max(line_width(line) for lines in names for line in lines)
    why_column = 4 + name_width + 2 + status_width + 2
    beside = width - why_column >= 24
    out: list[Line] = []
    broken = block.first_broken
    for index, (link, name) in enumerate(zip(block.links, names, strict=True)):
        tone = words.status_tone(link.status)
        last = index == len(block.links) - 1
        rail = " " if last else "╎" if broken is not None and index >= broken else "│"
        first: list[Span] = [(f" {words.GLYPHS[tone]}  ", f"{tone} strong"), *pad(name[0], name_width)]
        first += [("  ", ""), *pad(((words.plain_word(link.status), tone),), status_width)]
        why = shown(link.why)
        more: list[Line] = [(("    ", ""), *line) for line in name[1:]]
        if why and beside:
            lines = wrap(((why, ""),), min(width - why_column, PROSE_WIDTH))
            first += [("  ", ""), *lines[0]]
            more += [((" " * why_column, ""), *line) for line in lines[1:]]
        elif why:
            more += [(("      ", ""), *line) for line in wrap(((why, "muted"),), width - 6)]
        out.append(tuple(first))
        out += [((f" {rail}", "rule"), (line[0][0][2:], ""), *line[1:]) for line in more]
        if index == broken and not last:
            label = " the chain breaks here "
            dashes = max(0, min(width, why_column + 24) - 3 - len(label))
            out.append(((" ╳╌╌", "bad"), (label, "bad"), ("╌" * (dashes - 1), "bad")))
    return out


def _diff(block: Diff, width: int) -> list[Line]:
    out: list[Line] = [*wrap(((shown(block.title), "strong"),), width)] if block.title else []
    for sign, text in block.lines:
        style = {"+": "good", "-": "bad", " ": ""}[sign]
        head: Line = ((f"  {words.DIFF_SIGNS[sign]} ", style),)
        out += _hang(head, ((shown(text), style),), width)
    return out


def _key_values(block: KeyValues, width: int) -> list[Line]:
    if not block.items:
        return []
    keys = [shown(key) for key, _ in block.items]
    key_width = min(max(text_width(key) for key in keys), max(8, width // 3))
    out: list[Line] = []
    for key, (_, value) in zip(keys, block.items, strict=True):
        names = wrap(((key, "muted"),), key_width)
        values = wrap(shown_spans(words.show(value)), width - key_width - 2)
        for index in range(max(len(names), len(values))):
            name = names[index] if index < len(names) else ()
            rest = values[index] if index < len(values) else ()
            out.append((*pad(name, key_width), ("  ", ""), *rest))
    return out


def _list(block: List, width: int) -> list[Line]:
    size = len(str(len(block.items))) + 2 if block.ordered else 2
    out: list[Line] = []
    for number, item in enumerate(block.items, start=1):
        mark = f"{number}. ".rjust(size + 1) if block.ordered else " • "
        out += _hang(((mark, "muted"),), inline_spans(item), min(width, PROSE_WIDTH))
    return out


def _card(block: Card, width: int, folded: int) -> list[Line]:
    tone = words.SEVERITY_TONES[block.severity]
    kicker = (f"{words.SEVERITY_GLYPHS[block.severity]} {block.severity.upper()}", f"{tone} strong")
    head: Line = (kicker, (f"  {shown(block.kicker)}", "muted")) if block.kicker else (kicker,)
    inner = width - 2
    lines = [*wrap(head, inner), *wrap(((shown(block.title), "title"),), inner)]
    if block.blocks:
        lines += [(), *_blocks(block.blocks, inner, folded)]
    bar: Span = ("┃ " if block.primary else "│ ", tone)
    return [(bar, *line) for line in lines]


def _details(block: Details, width: int, folded: int) -> list[Line]:
    lines = _blocks(block.blocks, width - 2, folded)
    if len(lines) > folded:
        note = (f"  ({len(lines):,} lines folded)", "muted")
        return wrap((("▸ ", "muted"), (shown(block.summary), "strong"), note), width)
    head = wrap((("▾ ", "muted"), (shown(block.summary), "strong")), width)
    return head + [(("  ", ""), *line) if line else () for line in lines]
