"""Render a document as GitHub Flavored Markdown."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, assert_never

from cvmlab.view import words
from cvmlab.view.escape import fence, markdown, markdown_code, shown, shown_lines
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

if TYPE_CHECKING:
    from cvmlab.view.words import Shown


def render_markdown(document: Document) -> str:
    """Render a document as GitHub Flavored Markdown; figures are given by their captions and alt texts."""
    parts = [f"# {markdown(document.title)}"]
    if document.subtitle:
        parts.append(markdown(document.subtitle))
    parts += [part for block in document.blocks for part in _block(block, 2)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, level: int) -> list[str]:
    match block:
        case Heading():
            return [f"{'#' * min(6, block.level + level - 2)} {markdown(block.text)}"]
        case Paragraph():
            return [_inline(block.text)]
        case Verdict():
            glyph = words.GLYPHS[words.status_tone(block.word)]
            word = words.plain_word(block.word).upper()
            return [f"> **{glyph} {word}**\n>\n> {markdown(block.sentence)}"]
        case Note():
            word = f"{words.NOTE_GLYPHS[block.kind]} {words.NOTE_WORDS[block.kind]}"
            return [f"> **{word}:** {_inline(block.text)}"]
        case Table():
            return _table(block)
        case Chain():
            head = "| | Link | Status | Why |\n|:-:|:--|:--|:--|\n"
            return [head + "\n".join(_link(block, index) for index in range(len(block.links)))]
        case Diff():
            lines = [f"{sign} {shown(text)}" for sign, text in block.lines]
            marks = fence(lines)
            body = "\n".join([f"{marks}diff", *lines, marks])
            return [f"**{markdown(block.title)}**", body] if block.title else [body]
        case KeyValues():
            rows = [f"| {markdown(key)} | {_shown(words.show(value))} |" for key, value in block.items]
            return ["| | |\n|:--|:--|\n" + "\n".join(rows)] if rows else []
        case List():
            items = [_inline(item) for item in block.items]
            marked = (
                f"{i}. {item}" if block.ordered else f"- {item}" for i, item in enumerate(items, start=1)
            )
            return ["\n".join(marked)]
        case Code():
            lines = shown_lines(block.text)
            marks = fence(lines)
            return ["\n".join([marks + re.sub(r"[^a-z0-9+-]", "", block.language.lower()), *lines, marks])]
        case Figure():
            caption = f" {markdown(block.caption)}" if block.caption else ""
            return [f"*Figure:*{caption} ({markdown(block.alt)})"]
        case Stats():
            facts = (f"- **{markdown(value)}** {markdown(label)}" for value, label, _ in block.items)
            return ["\n".join(facts)]
        case Card():
            return _card(block, level)
        case Details():
            inner = [part for each in block.blocks for part in _block(each, level)]
            summary = html.escape(shown(block.summary))
            return [f"<details>\n<summary>{summary}</summary>", *inner, "</details>"]
        case _:
            assert_never(block)


def _shown(part: Shown) -> str:
    if part.kind in ("digest", "code"):
        return markdown_code(part.text)
    text = markdown(part.text)
    if part.kind == "claimed":
        return f"{text} *(claimed)*"
    return f"{part.glyph} {text}" if part.glyph else text


def _inline(text: Inline) -> str:
    out: list[str] = []
    for part in words.show_inline(text):
        body = _shown(part)
        before = " " if part.text[:1] == " " and out else ""
        after = " " if part.text[-1:] == " " else ""
        out.append(f"{before}{body}{after}")
    return "".join(out).strip()


def _table(table: Table) -> list[str]:
    marks = "|".join("--:" if name in table.numeric else ":--" for name in table.columns)
    lines = [f"| {' | '.join(markdown(name) for name in table.columns)} |", f"|{marks}|"]
    lines += [f"| {' | '.join(_shown(words.show_cell(value)) for value in row)} |" for row in table.rows]
    caption = f"**{markdown(table.caption)}** · {table.count}" if table.caption else table.count
    return [caption, "\n".join(lines)] if table.columns else [caption]


def _link(chain: Chain, index: int) -> str:
    link = chain.links[index]
    glyph = words.GLYPHS[words.status_tone(link.status)]
    here = " (the chain breaks here)" if index == chain.first_broken else ""
    status = f"**{words.plain_word(link.status)}**{here}" if here else words.plain_word(link.status)
    return f"| {glyph} | {markdown(link.name)} | {status} | {markdown(link.why)} |"


def _card(card: Card, level: int) -> list[str]:
    glyph = words.SEVERITY_GLYPHS[card.severity]
    kicker = f" · {markdown(card.kicker)}" if card.kicker else ""
    parts = [f"{'#' * min(6, level + 1)} {markdown(card.title)}", f"{glyph} **{card.severity}**{kicker}"]
    return parts + [part for block in card.blocks for part in _block(block, level + 1)]
