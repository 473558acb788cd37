"""Event logs: framing, model, registers, replay, digest check, and who wrote which event."""

from __future__ import annotations

from cvmlab.eventlog.model import Event, EventLog, Payload
from cvmlab.eventlog.reader import read_event_log

__all__ = ["Event", "EventLog", "Payload", "read_event_log"]
