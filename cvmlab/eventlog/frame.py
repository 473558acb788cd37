"""The events table and the view of one log."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cvmlab.tables import EVENTS, make_frame
from cvmlab.view import Cell, Document, Note, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from cvmlab.eventlog.model import Event, EventLog
    from cvmlab.findings import Trust
    from cvmlab.view import Block

SHOWN_EVENTS: Final = 60
"""Events shown of a log in a notebook or terminal; the frame has all."""


_COLUMNS: Final = (
    "index",
    "offset",
    "set",
    "register",
    "phase",
    "type",
    "type_number",
    "producer",
    "kind",
    "name",
    "summary",
    "digest_check",
    "covered",
    "trust",
    "data_size",
    "data_sha256",
)


def _row(event: Event, set_: str, worth: Mapping[int, Trust], banks: list[str]) -> tuple[object, ...]:
    """Values of one event as `_COLUMNS`, then its digests: one pass, as events may be made on demand."""
    payload = event.payload
    digests = [event.digests.get(bank) for bank in banks]
    return (
        event.index,
        event.offset,
        set_,
        event.register,
        event.phase,
        event.type_name,
        event.type,
        payload.producer,
        payload.kind,
        payload.name,
        payload.summary,
        event.digest_check,
        event.covered,
        worth.get(event.index, "unproven"),
        len(event.data),
        sha256(event.data).hexdigest(),
        *(value.hex() if value is not None else None for value in digests),
    )


def to_frame(log: EventLog, trust: Mapping[int, Trust] | None = None) -> pd.DataFrame:
    """Return the events table of a log: see `EventLog.to_frame`."""
    worth = trust or {}
    banks = [bank for bank in log.banks if bank in EVENTS.names]
    rows = [_row(event, log.set, worth, banks) for event in log.events]
    names = (*_COLUMNS, *banks)
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    return make_frame(EVENTS, columns).set_index("index", drop=False)


def _resumed(log: EventLog) -> list[Block]:
    if log.resumed is None:
        return []
    event = log.events[log.resumed]
    text = f"Reading went on at offset {event.offset} with event {log.resumed}: what lay before it is lost."
    return [Note("warning", text)]


def log_view(log: EventLog) -> Document:
    """Return the document that shows a log by itself: every event is a claim."""
    bank = next((b for b in ("sha256", "sha384", "sha512", "sm3_256", "sha1") if b in log.banks), "")
    rows = tuple(
        (
            event.index,
            event.register,
            event.type_name,
            Cell(event.payload.summary, kind="claimed"),
            Cell(event.digest_check),
            Cell(event.digests[bank].hex(), kind="digest") if bank in event.digests else None,
        )
        for event in log.events[:SHOWN_EVENTS]
    )
    blocks: list[Block] = [
        Paragraph(
            f"{log.format} log, {len(log.events)} events, banks {', '.join(log.banks) or 'none'}, "
            f"{log.size:,} bytes. A log alone proves nothing: its text counts only under a verified quote."
        ),
        *(Note("warning", str(problem)) for problem in log.problems if problem.fatal),
        *_resumed(log),
        *(Note("warning", anomaly.message) for anomaly in log.anomalies),
        Table(
            columns=("#", "register", "type", "event", "digest check", bank or "digest"),
            rows=rows,
            total=len(log.events),
            caption="Events",
        ),
    ]
    return Document(title=f"Event log {log.source}", blocks=tuple(blocks))
