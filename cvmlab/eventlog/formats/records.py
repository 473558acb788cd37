"""Records of logs that carry fields by name, made into events of the one model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.model import Event, EventLog, Opaque, Payload
from cvmlab.eventlog.order import anomalies
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.producers.wording import bounded_name, byte_text, one_line, summary_hex
from cvmlab.eventlog.registers import REGISTERS
from cvmlab.eventlog.types import EV_NO_ACTION, EV_SEPARATOR, EVENT_TYPES
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.errors import ParseError

MAX_PROBLEMS: Final = 1000
OTHER: Final = -1
"""Type number of events that have no TCG event type."""

NO_REGISTER: Final = 0xFFFFFFFF
TYPE_NUMBER: Final = {name: number for number, name in EVENT_TYPES.items()}
_ALGORITHM_NAMES: Final = {
    **{bank: bank for bank in DIGEST_SIZE},
    **{bank.replace("_", "-"): bank for bank in DIGEST_SIZE},
    **{bank.replace("sha", "sha-"): bank for bank in DIGEST_SIZE if bank.startswith("sha")},
    "sm3": "sm3_256",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        offset: Absolute offset in the source.
        register: PCR index; `NO_REGISTER` for an NV index or none.
        digests: Bank to digest.
        content: Bytes that the record says were measured, or that describe it.
        event_type: TCG event type of PC Client content; `OTHER` for others.
        label: What to show as type where there is no TCG event type.
        payload: Decoded content; None for PC Client content, which the producers decode.
        set: Register set of `register`.
    """

    offset: int
    register: int
    digests: Mapping[str, bytes]
    content: bytes
    event_type: int = OTHER
    label: str = ""
    payload: Payload | None = None
    set: str = "tpm"


def bank_named(name: object) -> str | None:
    """Return the bank of an algorithm's name or TPM_ALG_ID; None where it is no hash known here."""
    if isinstance(name, bool):
        return None
    if isinstance(name, int):
        return BANK_BY_ALGORITHM.get(name)
    if isinstance(name, str):
        text = name.strip().lower()
        if text.startswith("0x"):
            return BANK_BY_ALGORITHM.get(number_of(text))
        return _ALGORITHM_NAMES.get(text.removeprefix("tpm_alg_"))
    return None


def number_of(text: str) -> int:
    """Return a number written as text, decimal or ``0x…``; -1 where it is none."""
    try:
        return int(text, 0) if len(text) <= 20 else -1
    except ValueError:
        return -1


def text_payload(
    producer: str, kind: str, name: str, content: bytes, fields: Mapping[str, object] | None = None
) -> Payload:
    """Return the payload of a text whose digest is that of its bytes."""
    text = byte_text(content)
    summary = one_line(text) if text is not None else summary_hex(content)
    candidates = (("text", content), ("text and NUL", content + b"\0"))
    value: object = text if text is not None else Opaque(content)
    return Payload(producer, kind, bounded_name(name), summary, value, dict(fields or {}), candidates, "data")


def opaque_payload(content: bytes, label: str) -> Payload:
    """Return the payload of content of which nothing is known."""
    candidates = (("content", content),)
    summary = one_line(f"{label}: {summary_hex(content)}")
    return Payload("unknown", "unknown", bounded_name(label), summary, Opaque(content), {}, candidates)


@dataclass(slots=True)
class Gathered:
    """Records and problems while a log is read."""

    source: str
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def refused(self, error: ParseError) -> None:
        """Keep why a record was left out; reading goes past it."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem.of(error, fatal=False))

    def note(self, offset: int, field: str, message: str) -> None:
        """Keep an oddity that reading goes past, up to `MAX_PROBLEMS` of them."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self.source, offset, field, message, fatal=False))


def log_of_records(gathered: Gathered, form: str, size: int, *, set_: str = "tpm") -> EventLog:
    """Make a log of records, in their order.

    A log has one register set. Of records of both, those of the set that most name stand as they are; the
    others name no register of the log, and a problem row says so.
    """
    named = [record.set for record in gathered.records if record.register != NO_REGISTER]
    if named:
        set_ = max(("tpm", "cc"), key=named.count)
    events: list[Event] = []
    closed: set[int] = set()
    banks: dict[str, None] = {}
    for index, record in enumerate(gathered.records):
        payload = record.payload
        if payload is None:
            payload = decode(
                record.event_type,
                record.register,
                record.content,
                set=set_,
                source=gathered.source,
                base=record.offset,
            )
        register = record.register
        if register != NO_REGISTER and (record.set != set_ or register not in REGISTERS[set_]):
            message = f"register {register} of set {record.set} is none of this log, whose set is {set_}"
            gathered.note(record.offset, f"record {index}", message)
            register = NO_REGISTER
        check, covered = check_digest(record.event_type, register, record.digests, payload)
        for bank in record.digests:
            banks.setdefault(bank)
        events.append(
            Event(
                index=index,
                offset=record.offset,
                register=register,
                type=record.event_type,
                digests=dict(record.digests),
                data=record.content,
                data_offset=record.offset,
                digest_check=check,
                covered=covered,
                phase="after" if register in closed else "before",
                payload=payload,
                label=record.label,
            )
        )
        if record.event_type == EV_SEPARATOR:
            closed.add(register)
    problems = tuple(sorted(gathered.problems, key=lambda problem: problem.offset))
    complete = not any(problem.fatal for problem in problems)
    return EventLog(
        source=gathered.source,
        format=form,
        set=set_,
        banks=tuple(banks),
        events=tuple(events),
        problems=problems,
        anomalies=anomalies(events, set_, complete=complete) if _pc_client(events) else (),
        startup_locality=_locality(events),
        size=size,
        end=size,
    )


def _pc_client(events: Iterable[Event]) -> bool:
    return any(event.type != OTHER for event in events)


def _locality(events: Iterable[Event]) -> int | None:
    for event in events:
        if (
            event.type == EV_NO_ACTION
            and event.data.startswith(b"StartupLocality\0")
            and len(event.data) == 17
        ):
            return event.data[16] if event.data[16] in (0, 3, 4) else None
    return None
