"""Replay: the register values that a log's digests give (TPM 2.0 Part 1, section 17.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.banks import available, extend
from cvmlab.eventlog.registers import REGISTERS, initial_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cvmlab.eventlog.model import Event, EventLog


def extend_all(bank: str, value: bytes, digests: Iterable[bytes]) -> bytes:
    """Extend `value` with each digest in turn."""
    for item in digests:
        value = extend(bank, value, item)
    return value


def register_events(log: EventLog, register: int) -> list[Event]:
    """Return the events that extended a register, in log order."""
    return [event for event in log.events if event.register == register and event.extends]


def replay(log: EventLog) -> dict[str, dict[int, bytes]]:
    """Replay a log in every bank that this Python can hash.

    Args:
        log: The log. Event data are not looked at, only digests.

    Returns:
        Bank to register index to value. Registers without an extending event are left out. An event that
        lists no digest of a bank did not extend that bank (TXT logs write one event for each bank); where
        it did, replay disagrees with the quote and the register is not believed.
    """
    values: dict[str, dict[int, bytes]] = {}
    known = REGISTERS[log.set]
    for bank in log.banks:
        if not available(bank):
            continue
        current: dict[int, bytes] = {}
        for event in log.events:
            register = event.register
            if not event.extends or register not in known:
                continue
            item = event.digests.get(bank)
            if item is None:
                continue
            value = current.get(register)
            if value is None:
                value = initial_value(log.set, register, bank, log)
            current[register] = extend(bank, value, item)
        values[bank] = dict(sorted(current.items()))
    return values


def replay_steps(log: EventLog, register: int, bank: str) -> list[bytes]:
    """Return the value of a register after each of its events, the initial value first.

    Raises:
        KeyError: There is no such register.
    """
    steps = [initial_value(log.set, register, bank, log)]
    for event in register_events(log, register):
        if bank in event.digests:
            steps.append(extend(bank, steps[-1], event.digests[bank]))
    return steps
