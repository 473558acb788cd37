"""Read one event log: framing, decoding, digest check and the rules of the registers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.errors import EvidenceError
from cvmlab.eventlog import framing, framing_codes, resync
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.model import Event, EventLog
from cvmlab.eventlog.order import anomalies
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.registers import REGISTERS
from cvmlab.eventlog.types import EV_NO_ACTION, EV_SEPARATOR
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from cvmlab.eventlog.framing import Frames

MAX_LOG: Final = 64 << 20
"""Largest log read, in bytes; real ones have at most a few hundred kilobytes."""

MAX_DECODED: Final = 1 << 20
"""Bytes of event data decoded in one log; the largest real ones have a quarter. What is beyond stays bytes:
a log of many small fields would take many times its size in memory."""

_SPEC_ID_START: Final = b"Spec ID Event0"
_STARTUP_LOCALITY: Final = b"StartupLocality\0"
_TRAILER: Final = 0xFFFFFFFF


def read_event_log(
    source: str | Path | bytes, *, name: str | None = None, set: str | None = None
) -> EventLog:
    """Read an event log of any known format, known by its content.

    TCG 1.2 and crypto-agile logs (firmware, Windows, CCEL with or without its ACPI table), canonical event
    logs (TLV, JSON, CBOR), IMA lists, systemd's userspace log; also inside base64, hex, registry exports,
    JSON and protobuf of other tools. Of several logs in one file the boot log is taken: `read_event_logs`
    gives all.

    Damage never raises: events before it are kept, and it is a row of `EventLog.problems` with offset,
    field, need and have.

    Args:
        source: A path, or the bytes of a log.
        name: What to call the log in errors and tables; the file name by default.
        set: Register set of the log, ``tpm`` or ``cc``; found out from the log where None.

    Returns:
        The log with every event that could be read.

    Raises:
        EvidenceError: The file cannot be opened or is larger than 64 MiB.
        MissingExtraError: The log is in CBOR and cbor2 is not installed.
    """
    return read_event_logs(source, name=name, set=set)[0]


def read_event_logs(
    source: str | Path | bytes, *, name: str | None = None, set: str | None = None
) -> tuple[EventLog, ...]:
    """Read every log in a file: see `read_event_log`. The boot log comes first; there is always one."""
    if isinstance(source, bytes):
        data, label = source, name or "<bytes>"
    else:
        path = Path(source)
        label = name or path.name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_LOG + 1)
        except OSError as error:
            raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_LOG:
        raise EvidenceError(f"{label}: more than {MAX_LOG >> 20} MiB: this is not a boot event log")
    # a TCG log is by far the usual case; the other formats load their readers only when asked
    if data[32:46] == _SPEC_ID_START or not data:
        return read_plain(data, label, set)
    from cvmlab.eventlog.formats.recognise import read_any

    return read_any(data, label, set)


def read_plain(data: bytes, source: str, set_: str | None) -> tuple[EventLog, ...]:
    """Read TCG logs one behind the other, as they lie in a file; there is always one."""
    frames = framing.frame(data)
    further = resync.log_starts(data, frames)
    if not further:
        return (log_of(frames, data, source, set_),)
    found = []
    bounds = [0, *further, len(data)]
    for number, (start, end) in enumerate(pairwise(bounds)):
        one = framing.frame(data, [start], [end])
        if end < len(data):
            note = (0, end, framing_codes.ANOTHER_LOG, 0, 0)
            for column, value in zip(one.errors, note, strict=True):
                column.insert(0, value)
        found.append(log_of(one, data, f"{source} (log {number + 1})" if number else source, set_, end=end))
    return tuple(found)


def log_of(frames: Frames, data: bytes, source: str, set_: str | None, *, end: int | None = None) -> EventLog:
    """Make an `EventLog` of the columns of one framed log, which ends at `end` (by default with the data)."""
    resumed = None
    if frames.errors[0]:
        frames, resumed = resync.read_on(data, frames, len(data) if end is None else end)
    set_ = set_ or _register_set(frames)
    events: list[Event] = []
    closed: set[int] = set()
    locality: int | None = None
    problems = _problems(frames, source)
    decoded = 0
    for row in zip(*frames.events, strict=True):
        size = row[-1]
        if decoded <= MAX_DECODED < decoded + size:
            message = "eventData: more than are decoded in one log; the rest stays bytes"
            problems.append(Problem(source, row[1], "eventData", message, False, MAX_DECODED, decoded + size))
        decoded += size
        known = decoded <= MAX_DECODED
        event, problem = _event(len(events), row, frames, data, source, set_, closed, known=known)
        events.append(event)
        if problem is not None and len(problems) < framing.MAX_NOTES:
            problems.append(problem)
        if locality is None and event.type == EV_NO_ACTION and event.data.startswith(_STARTUP_LOCALITY):
            locality = event.data[16] if len(event.data) > 16 else None
        if event.type == EV_SEPARATOR:
            closed.add(event.register)
    problems.sort(key=lambda problem: problem.offset)
    banks = _banks(frames, events)
    return EventLog(
        source=source,
        format=framing_codes.FORMAT_NAMES[frames.formats[0]],
        set=set_,
        banks=banks,
        events=tuple(events),
        problems=tuple(problems),
        anomalies=anomalies(events, set_, complete=not any(p.fatal for p in problems)),
        startup_locality=locality if locality in (0, 3, 4) else None,
        size=len(data),
        end=frames.ends[0],
        resumed=resumed,
    )


def _event(
    index: int,
    row: tuple[int, ...],
    frames: Frames,
    data: bytes,
    source: str,
    set_: str,
    closed: set[int],
    *,
    known: bool,
) -> tuple[Event, Problem | None]:
    _, offset, register, event_type, first, count, data_offset, size = row
    digests: dict[str, bytes] = {}
    for at in range(first, first + count):
        algorithm, start, length = (column[at] for column in frames.digests)
        bank = BANK_BY_ALGORITHM.get(algorithm, f"alg_0x{algorithm:04x}")
        digests.setdefault(bank, data[start : start + length])
    body = data[data_offset : data_offset + size]
    if known:
        payload = decode(event_type, register, body, set=set_, source=source, base=data_offset)
    else:
        from cvmlab.eventlog.formats.records import opaque_payload

        payload = opaque_payload(body, "not decoded")
    check, covered = check_digest(event_type, register, digests, payload)
    phase = "after" if register in closed else "before"
    event = Event(
        index, offset, register, event_type, digests, body, data_offset, check, covered, phase, payload
    )
    problem = None
    if register not in REGISTERS[set_] and register != _TRAILER:
        message = f"register {register} does not exist; the event extends nothing"
        most = max(REGISTERS[set_])
        problem = Problem(source, offset, "pcrIndex", message, fatal=False, need=most, have=register)
    return event, problem


def _problems(frames: Frames, source: str) -> list[Problem]:
    found: list[Problem] = []
    for _, offset, code, need, have in zip(*frames.errors, strict=True):
        field, reason = framing_codes.ERRORS[code]
        message = f"{field}: {reason}" + (f": need {need}, have {have}" if need or have else "")
        fatal = code < framing_codes.NOTE
        known = (need, have) if need or have else (None, None)
        found.append(Problem(source, offset, field, message, fatal, *known))
    return found


def _banks(frames: Frames, events: list[Event]) -> tuple[str, ...]:
    """Banks in the order in which events carry them (the Spec ID event itself carries none)."""
    if frames.formats[0] == framing_codes.FORMAT_TCG12:
        return ("sha1",)
    banks: dict[str, None] = {}
    if events and events[0].type == EV_NO_ACTION:
        listed = events[0].payload.fields.get("algorithms")
        for item in listed if isinstance(listed, list) else []:
            bank = BANK_BY_ALGORITHM.get(item.get("id", 0)) if isinstance(item, dict) else None
            if bank is not None:
                banks.setdefault(bank)
    for event in events[1:]:
        for bank in event.digests:
            banks.setdefault(bank)
    return tuple(bank for bank in banks if not bank.startswith("alg_"))


def _register_set(frames: Frames) -> str:
    """Tell a confidential-computing log from a TPM's by content: it closes MR 1 only, and never PCR 2–7.

    A TPM's firmware closes each of PCR 0 to 7 with a separator. The CC profile maps PCR 1 and 7 to MR 1
    and PCR 2 to 6 to MR 2, so a CC log repeats a Secure Boot variable in register 1 (UEFI 2.10, 38.4.1).
    """
    registers = frames.events[2]
    types = frames.events[3]
    used = {r for r, t in zip(registers, types, strict=True) if t != EV_NO_ACTION and r != _TRAILER}
    driver_config = {r for r, t in zip(registers, types, strict=True) if t == 0x80000001}
    if used and max(used) <= 4 and 7 not in used and driver_config == {1}:
        return "cc"
    return "tpm"
