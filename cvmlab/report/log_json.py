"""JSON of one event log: the contracts of ``cvmlab events`` and ``cvmlab replay``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cvmlab.eventlog.model import EventLog
    from cvmlab.findings import Problem

EVENTS_SCHEMA: Final = "cvmlab.events/1"
REGISTERS_SCHEMA: Final = "cvmlab.registers/1"


def events_object(log: EventLog) -> dict[str, object]:
    """Return the object of ``cvmlab events --json``."""
    return {
        "schema": EVENTS_SCHEMA,
        "format": log.format,
        "set": log.set,
        "banks": list(log.banks),
        "events": [
            {
                "index": event.index,
                "offset": event.offset,
                "register": event.register,
                "type": event.type_name,
                "digests": {bank: value.hex() for bank, value in event.digests.items()},
                "digest_check": event.digest_check,
                "producer": event.payload.producer,
                "summary": event.payload.summary,
                "data_sha256": hashlib.sha256(event.data).hexdigest(),
            }
            for event in log.events
        ],
        "problems": [problem_object(problem) for problem in log.problems],
    }


def registers_object(log: EventLog, bank: str | None = None) -> dict[str, object]:
    """Return the object of ``cvmlab replay --json``; registers without an event are left out."""
    replayed = log.replay()
    return {
        "schema": REGISTERS_SCHEMA,
        "set": log.set,
        "registers": {
            name: {str(index): value.hex() for index, value in sorted(registers.items())}
            for name, registers in replayed.items()
            if bank is None or name == bank
        },
        "problems": [problem_object(problem) for problem in log.problems],
    }


def problem_object(problem: Problem) -> dict[str, object]:
    """Return one problem."""
    return {"offset": problem.offset, "field": problem.field, "message": problem.message}
