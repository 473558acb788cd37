"""TCG reference integrity manifests: the reference event log of a platform's maker (support RIM).

A support RIM for a PC client is an event log, as a boot of the platform would write it. Its events become the
slots of the registers it fills. The base RIM that names it (a signed SWID tag or CoSWID) is not read.

Source: TCG PC Client Reference Integrity Manifest Specification 1.1, section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.banks import STRONGEST_FIRST
from cvmlab.baseline.document import RegisterBaseline
from cvmlab.baseline.exchange.model import Imported, new_baseline, read_bytes
from cvmlab.baseline.learn import slot_of
from cvmlab.errors import BaselineError, CvmlabError
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.replay import register_events

if TYPE_CHECKING:
    from pathlib import Path


def read_rim(path: Path, name: str) -> Imported:
    """Read a reference event log.

    Raises:
        BaselineError: It is no event log, or is damaged.
    """
    try:
        log = read_event_log(read_bytes(path), name=str(path))
    except CvmlabError as error:
        raise BaselineError(str(error)) from error
    fatal = [problem for problem in log.problems if problem.fatal]
    if fatal or not log.events:
        raise BaselineError(f"{path}: no whole event log: {fatal[0] if fatal else 'there is no event in it'}")
    wrong = [event.index for event in log.events if event.digest_check == "mismatch"]
    if wrong:
        raise BaselineError(f"{path}: event {wrong[0]} does not hash to its digest: no reference")
    banks = frozenset(bank for bank in log.banks if bank in STRONGEST_FIRST)
    data: dict[str, bytes] = {}
    registers = []
    for register in sorted({event.register for event in log.events if event.digests}):
        events = [event for event in register_events(log, register) if banks & event.digests.keys()]
        locality = (log.startup_locality or 0) if register == 0 else 0
        slots = tuple(slot_of(event, banks, 0, data) for event in events)
        if slots:
            registers.append(RegisterBaseline(log.set, register, slots, locality))
    pinned = {r.register for r in registers}
    losses = [
        "who made the reference: the base RIM with its signature is not read; check it before",
        "what a machine measures of itself (boot order, disks) may differ: accept it from its boots",
    ]
    if others := sorted(set(range(8)) - pinned):
        losses.append(f"registers {', '.join(map(str, others))}: the reference has no event of them")
    return Imported(new_baseline(name, registers, data=data), tuple(losses))
