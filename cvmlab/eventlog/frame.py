"""The events table and the view of one log."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cvmlab.tables import EVENTS, make_frame
from cvmlab.view import Cell, Document, Note, Paragraph, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from cvmlab.eventlog.model import EventLog
    from cvmlab.findings import Trust
    from cvmlab.view import Block

SHOWN_EVENTS: Final = 60
"""Events shown of a log in a notebook or terminal; the frame has all."""


def to_frame(log: EventLog, trust: Mapping[int, Trust] | None = None) -> pd.DataFrame:
    """Return the events table of a log: see `EventLog.to_frame`."""
    events = log.events
    worth = trust or {}
    columns: dict[str, list[object]] = {
        "index": [event.index for event in events],
        "offset": [event.offset for event in events],
        "set": [log.set] * len(events),
        "register": [event.register for event in events],
        "phase": [event.phase for event in events],
        "type": [event.type_name for event in events],
        "type_number": [event.type for event in events],
        "producer": [event.payload.producer for event in events],
        "kind": [event.payload.kind for event in events],
        "name": [event.payload.name for event in events],
        "summary": [event.payload.summary for event in events],
        "digest_check": [event.digest_check for event in events],
        "covered": [event.covered for event in events],
        "trust": [worth.get(event.index, "unproven") for event in events],
        "data_size": [len(event.data) for event in events],
        "data_sha256": [sha256(event.data).hexdigest() for event in events],
    }
    for bank in log.banks:
        if bank in EVENTS.names:
            digests = [event.digests.get(bank) for event in events]
            columns[bank] = [value.hex() if value is not None else None for value in digests]
    return make_frame(EVENTS, columns).set_index("index", drop=False)


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
        *(Note("warning", anomaly.message) for anomaly in log.anomalies),
        Table(
            columns=("#", "register", "type", "event", "digest check", bank or "digest"),
            rows=rows,
            total=len(log.events),
            caption="Events",
        ),
    ]
    return Document(title=f"Event log {log.source}", blocks=tuple(blocks))
