"""An edit of a log: one change that makes replay give the quoted value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Change = Literal[
    "truncated", "removed", "inserted", "modified", "reordered", "relocated", "late", "locality", "quirk"
]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the log that gives the quoted value of one register.

    Attributes:
        register: Register index.
        change: ``truncated`` (the log lacks an end), ``removed`` (it lacks events), ``inserted`` (it has
            events that were not measured), ``modified`` (an event is not what was measured),
            ``reordered``, ``relocated`` (an event is listed for another register), ``late`` (known software
            measured after the log's end), ``locality`` (the register started from another value) or
            ``quirk`` (a known fault of firmware or reader).
        events: Indices of the log's events concerned.
        order: Where in boot order.
        what: The events concerned, in words; unescaped.
        slots: Boot order of the baseline's slots that the log lacks.
        banks: Banks in which the edit gives the quoted value; the first is the one searched in.
        other_banks: Banks whose replay needs no edit: only some digests of the events are wrong.
        quirk: Name in the table of quirks; empty for other changes.
        source: Register that the event belongs to, for ``relocated``; -1 otherwise.
    """

    register: int
    change: Change
    events: tuple[int, ...]
    order: int
    what: str
    slots: tuple[int, ...] = ()
    banks: tuple[str, ...] = ()
    other_banks: tuple[str, ...] = ()
    quirk: str = ""
    source: int = -1


CODES: Final = {
    "truncated": "log-truncated",
    "removed": "log-event-removed",
    "inserted": "log-event-inserted",
    "modified": "log-event-modified",
    "reordered": "log-events-reordered",
    "relocated": "log-event-modified",
    "late": "registers-extended-after-log",
    "locality": "log-malformed",
    "quirk": "log-malformed",
}
"""Cause code of each change."""


def short(text: str) -> str:
    """Bound a text for a sentence."""
    return text if len(text) <= 160 else text[:157] + "…"
