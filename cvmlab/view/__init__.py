"""The view room: one document model, shown as text, on a terminal, as HTML and as Markdown.

Build a `Document` of blocks, then `render_text`, `print_document`, `render_html` (a fragment for notebooks),
`render_page` (a complete report), `render_markdown`, or `mimebundle` for ``_repr_mimebundle_``.
"""

from __future__ import annotations

from cvmlab.view.escape import bounded, visible
from cvmlab.view.html import render_html, render_page
from cvmlab.view.markdown import render_markdown
from cvmlab.view.model import (
    Block,
    Card,
    Cell,
    CellKind,
    Chain,
    ChainLink,
    Code,
    Details,
    Diff,
    Document,
    Figure,
    Heading,
    Inline,
    KeyValues,
    LinkStatus,
    List,
    Note,
    NoteKind,
    Paragraph,
    Severity,
    Sign,
    Stats,
    Table,
    Value,
    Verdict,
    VerdictWord,
)
from cvmlab.view.terminal import print_document
from cvmlab.view.text import render_text

__all__ = [
    "Block",
    "Card",
    "Cell",
    "CellKind",
    "Chain",
    "ChainLink",
    "Code",
    "Details",
    "Diff",
    "Document",
    "Figure",
    "Heading",
    "Inline",
    "KeyValues",
    "LinkStatus",
    "List",
    "Note",
    "NoteKind",
    "Paragraph",
    "Severity",
    "Sign",
    "Stats",
    "Table",
    "Value",
    "Verdict",
    "VerdictWord",
    "bounded",
    "mimebundle",
    "print_document",
    "render_html",
    "render_markdown",
    "render_page",
    "render_text",
    "visible",
]


def mimebundle(document: Document) -> dict[str, str]:
    """Return what ``_repr_mimebundle_`` of a result returns: text, HTML and Markdown of one document."""
    return {
        "text/plain": render_text(document),
        "text/html": render_html(document),
        "text/markdown": render_markdown(document),
    }
