"""The event model: what one log says, with every byte's offset, before anything is believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cvmlab.eventlog.types import EV_NO_ACTION, event_type_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import pyarrow as pa

    from cvmlab.errors import ParseError
    from cvmlab.findings import DigestCheck, Problem, Trust


@dataclass(frozen=True, slots=True)
class Opaque:
    """Event data for which no decoder exists; shown as hex."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Invalid:
    """Event data that a decoder refused, with its error.

    Attributes:
        data: The raw bytes.
        error: Why it was refused.
        partial: What was read before the damage, in the shape of a whole value; None where nothing was.
    """

    data: bytes
    error: ParseError
    partial: object = None


@dataclass(frozen=True, slots=True)
class Payload:
    """Decoded event data: a claim, until `Event.digest_check` and a quote say more.

    Attributes:
        producer: Who writes such events: ``firmware``, ``shim``, ``grub``, ``systemd``, ``linux`` or
            ``unknown``.
        kind: What the event is, one word of the vocabulary in `cvmlab.eventlog.kinds`.
        name: What tells the event apart from others of its kind (variable name, path); may be empty.
            Bounded to 512 characters; not escaped.
        summary: One line for people, bounded, not escaped.
        value: The shape of the data (`UefiVariable`, `SignatureList` tuple, ...), `Opaque` or `Invalid`.
        fields: The same as JSON-able details for tables and reports.
        candidates: (label, bytes) pairs whose digest the event's digest may be, the most usual first.
        relation: What the specification says the digest is of: ``data`` (one of `candidates` must
            match, else the data were changed), ``outside`` (something outside the log, such as a PE
            image; a match is a bonus), ``unknown``.
    """

    producer: str
    kind: str
    name: str
    summary: str
    value: object
    fields: Mapping[str, object] = field(default_factory=dict)
    candidates: tuple[tuple[str, bytes], ...] = ()
    relation: str = "unknown"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a log. `type` is never covered by a digest: it is a claim even in a verified log.

    Attributes:
        index: Position in the log from 0; the Spec ID event is 0.
        offset: Absolute offset of the event in the log, in bytes.
        register: Register index as the log states it (PCR index, or CC MR index).
        type: Event type number.
        digests: Bank name to digest, in the order of the log. Duplicates of one algorithm are a problem
            row; the first counts.
        data: The event data.
        data_offset: Absolute offset of `data`.
        digest_check: How digest and data agree (design, section 3).
        covered: Label of the candidate that the digest covers, empty if none.
        phase: ``before`` or ``after`` the separator of its register.
        payload: The decoded data.
        label: What stands for the type where there is no TCG event type (IMA, systemd); else empty.
    """

    index: int
    offset: int
    register: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes
    data_offset: int
    digest_check: DigestCheck
    covered: str
    phase: str
    payload: Payload
    label: str = ""

    @property
    def type_name(self) -> str:
        """Name of the type in the spelling of the specification, or ``0x%08x``; else `label`."""
        return self.label or event_type_name(self.type)

    @property
    def extends(self) -> bool:
        """True where the event was extended into its register (EV_NO_ACTION never is)."""
        return self.type != EV_NO_ACTION and self.register != 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class EventLog:
    """One boot event log as read: events, and what could not be read.

    Attributes:
        source: File name or description.
        format: ``tcg-1.2`` (SHA-1 only), ``crypto-agile``, ``cel-tlv``, ``cel-json``, ``cel-cbor``,
            ``ima-ascii``, ``ima-binary`` or ``systemd-userspace``; ``unknown`` where nothing was recognised.
        set: Register set the indices belong to: ``tpm`` or ``cc``.
        banks: Bank names, in the order of the Spec ID event.
        events: All events that could be read, in their order; made when asked for where there are very many.
        problems: Damage and oddities, in order of offset. A `fatal` one ended the reading, or lost a stretch.
        anomalies: Events that break the rules of their register although they are well framed
            (unexpected type in PCR 7, look-alike separator, EV_NO_ACTION with a digest), as findings.
        startup_locality: Locality of the StartupLocality event; None where there is none.
        size: Bytes of the input.
        end: Offset behind the last event; padding from there on is normal.
        resumed: Index of the first event behind damage from which the log could be read again to its end;
            None where reading never stopped, or stopped for good.
    """

    source: str
    format: str
    set: str
    banks: tuple[str, ...]
    events: Sequence[Event]
    problems: tuple[Problem, ...]
    anomalies: tuple[Anomaly, ...]
    startup_locality: int | None
    size: int
    end: int
    resumed: int | None = None

    @property
    def complete(self) -> bool:
        """True where nothing stopped the reading, for good or for a stretch."""
        return not any(problem.fatal for problem in self.problems)

    @property
    def cut(self) -> bool:
        """True where reading stopped for good: what the log held further on is not known."""
        return self.resumed is None and not self.complete

    def events_before(self, problem: Problem) -> int:
        """Return how many events stand before the place of a problem."""
        return sum(event.offset < problem.offset for event in self.events)

    def replay(self) -> dict[str, dict[int, bytes]]:
        """Replay the digests: bank to register index to value. See `cvmlab.eventlog.replay`."""
        from cvmlab.eventlog.replay import replay

        return replay(self)

    def to_frame(self, trust: Mapping[int, Trust] | None = None) -> pd.DataFrame:
        """Return the events table (`cvmlab.tables.EVENTS`), one row an event, indexed by `index`.

        Args:
            trust: Trust of each event by index, from an investigation. Without it every event is
                ``unproven``: a log alone proves nothing.
        """
        from cvmlab.eventlog.frame import to_frame

        return to_frame(self, trust)

    def table(self, name: str, trust: Mapping[int, Trust] | None = None) -> pd.DataFrame:
        """Return one table of the log, by the schema of that name in `cvmlab.tables`.

        Args:
            name: ``events``, ``registers``, ``variables``, ``signatures``, ``boot_entries``, ``modules``,
                ``ima`` or ``problems``.
            trust: Trust of each event by index, from an investigation.

        Raises:
            KeyError: A log has no table of this name.
        """
        from cvmlab.eventlog.log_tables import log_table

        return log_table(self, name, trust)

    def to_arrow(self, name: str = "events", trust: Mapping[int, Trust] | None = None) -> pa.Table:
        """Return one table of the log as an Arrow table; see `table`."""
        from cvmlab.exchange import to_arrow

        return to_arrow(self.table(name, trust))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.eventlog.frame import log_view
        from cvmlab.view import mimebundle

        return mimebundle(log_view(self))


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A well-framed event that breaks a rule of its register.

    Attributes:
        rule: Stable name of the rule: ``unexpected-type``, ``looks-like-separator``,
            ``looks-like-action``, ``separator-duplicated``, ``separator-missing``, ``separator-error``,
            ``variable-repeated``, ``config-after-separator``, ``no-action-with-digest``,
            ``startup-locality-misplaced``, ``startup-locality-value``, ``uefi-debug-mode``,
            ``ovmf-duplicate-separator``, ``secure-boot-value``, ``secure-boot-without-keys``,
            ``secure-boot-without-authority``.
        register: Register index.
        events: Indices of the events concerned.
        message: What is wrong, in one sentence.
        code: Cause code for `cvmlab.explain`: ``event-data-forged``, ``separator-duplicated``,
            ``log-malformed``, ``firmware-changed`` or ``boot-debugging-enabled``.
    """

    rule: str
    register: int
    events: tuple[int, ...]
    message: str
    code: str
