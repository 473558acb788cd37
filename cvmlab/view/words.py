"""The glyph and tone of each word that says how things stand: one table for all renderers.

Colour is never the only signal: whatever is coloured has a glyph and a word too. A word that is not in the
table gets the tone of something unchecked, never of something good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from cvmlab.view.escape import bounded
from cvmlab.view.model import Cell

if TYPE_CHECKING:
    from cvmlab.view.model import Inline, Value

Tone = Literal["", "good", "bad", "warn", "info", "muted"]

GLYPHS: dict[Tone, str] = {"good": "✔", "bad": "✘", "warn": "?", "info": "i", "muted": "–", "": ""}

DIGEST_CHARACTERS = 12
ABSENT = "–"
CELL_LIMIT = 400
"""Characters of one table cell that are shown; running text may be longer."""

_GOOD = "holds trusted matches proven covers-data ok yes present verified valid vouched"
_BAD = "broken not-trusted differs not-replayed mismatch failed invalid forged unreadable missing changed"
_WARN = "not-checked inconclusive unproven unknown not-quoted claimed not-collected stale digest-only absent"
_MUTED = "not-applicable not-extended describes ignored none stated"
STATUS_TONES: dict[str, Tone] = {
    **dict.fromkeys(_GOOD.split(), "good"),
    **dict.fromkeys(_BAD.split(), "bad"),
    **dict.fromkeys(_WARN.split(), "warn"),
    **dict.fromkeys(_MUTED.split(), "muted"),
}

SEVERITY_TONES: dict[str, Tone] = {"high": "bad", "medium": "warn", "low": "info", "info": "muted"}
SEVERITY_GLYPHS: dict[str, str] = {"high": "▲", "medium": "◆", "low": "●", "info": "○"}
NOTE_TONES: dict[str, Tone] = {"good": "good", "bad": "bad", "warning": "warn", "info": "info"}
NOTE_GLYPHS: dict[str, str] = {"good": "✔", "bad": "✘", "warning": "!", "info": "i"}
NOTE_WORDS: dict[str, str] = {"good": "Good", "bad": "Problem", "warning": "Warning", "info": "Note"}
DIFF_SIGNS: dict[str, str] = {"+": "+", "-": "−", " ": " "}
DIFF_WORDS: dict[str, str] = {"+": "after", "-": "before", " ": "same"}

_KIND_TONES: dict[str, Tone] = {
    "good": "good",
    "bad": "bad",
    "warn": "warn",
    "muted": "muted",
    "added": "good",
    "removed": "bad",
}
_KIND_GLYPHS: dict[str, str] = {"good": "✔", "bad": "✘", "warn": "!", "added": "+", "removed": "−"}


def plain_word(word: str) -> str:
    """Return a status word as people write it: ``not-checked`` becomes ``not checked``."""
    return word.replace("-", " ")


def status_tone(word: str) -> Tone:
    """Return the tone of a status word; an unknown word is never good."""
    return STATUS_TONES.get(word.strip().lower().replace(" ", "-"), "warn")


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as every renderer shows it; each adds only its own escaping and style.

    Attributes:
        text: What is read.
        glyph: Sign before it, or empty.
        tone: Colour, or empty.
        kind: The kind of the cell.
        title: The tooltip, or empty.
    """

    text: str
    glyph: str = ""
    tone: Tone = ""
    kind: str = ""
    title: str = ""


def show(value: Value) -> Shown:
    """Return how a value is shown. ``None`` and empty text become a dash that says it stands for no value."""
    if value is None or value == "":
        return Shown(ABSENT, tone="muted", kind="absent", title="no value")
    if isinstance(value, bool):
        return Shown("yes" if value else "no")
    if isinstance(value, int | str):
        return Shown(str(value))
    if not value.text:
        return Shown(ABSENT, tone="muted", kind="absent", title=value.title or "no value")
    if value.kind == "digest":
        return Shown(value.text[:DIGEST_CHARACTERS], kind="digest", title=value.title or value.text)
    if value.kind == "status":
        if value.text in SEVERITY_TONES:
            glyph, tone = SEVERITY_GLYPHS[value.text], SEVERITY_TONES[value.text]
        else:
            tone = status_tone(value.text)
            glyph = GLYPHS[tone]
        return Shown(plain_word(value.text), glyph, tone, "status", value.title)
    glyph = _KIND_GLYPHS.get(value.kind, "")
    return Shown(value.text, glyph, _KIND_TONES.get(value.kind, ""), value.kind, value.title)


def show_cell(value: Value) -> Shown:
    """Return how a value is shown in a table, where there is less room than in running text."""
    it = show(value)
    return replace(it, text=bounded(it.text, CELL_LIMIT), title=bounded(it.title, CELL_LIMIT))


def show_inline(text: Inline) -> list[Shown]:
    """Return the parts of running text, each as it is shown; empty parts are left out."""
    parts = text if isinstance(text, tuple) else (text,)
    return [show(part) if isinstance(part, Cell) else Shown(part) for part in parts if part != ""]
