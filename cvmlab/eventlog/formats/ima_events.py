"""IMA entries as events, for those who read every log the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from cvmlab.errors import ParseError
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.formats.records import OTHER
from cvmlab.eventlog.ima import read_ima
from cvmlab.eventlog.ima_fields import Fields, decode_binary
from cvmlab.eventlog.model import Event, EventLog, Invalid, Payload
from cvmlab.eventlog.producers.wording import bounded_name, one_line

if TYPE_CHECKING:
    from cvmlab.eventlog.ima import ImaEntry

_BANK_BY_SIZE: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


def template_payload(template: str, data: bytes, *, source: str, offset: int) -> Payload:
    """Return the payload of template data; data that do not follow their template are `Invalid`."""
    try:
        fields = decode_binary(template, data, source=source, offset=offset)
    except ParseError as error:
        named: dict[str, object] = {"error": error.message, "error_offset": error.offset}
        summary = one_line(f"cannot be read: {error.message}")
        return Payload(
            "linux", "runtime-file", "", summary, Invalid(data, error), named, (("data", data),), "data"
        )
    return _payload(fields, template, (("template data", data),))


def _payload(fields: Fields, template: str, candidates: tuple[tuple[str, bytes], ...]) -> Payload:
    named: dict[str, object] = {
        "path": bounded_name(fields.path),
        "template": template,
        "hash_algorithm": fields.hash_algorithm,
        "file_digest": fields.file_digest.hex(),
        "signed": fields.signature is not None,
    }
    summary = one_line(f"{fields.path} {fields.hash_algorithm}:{fields.file_digest.hex()[:16]}…")
    relation = "data" if candidates else "outside"
    name = bounded_name(fields.path)
    return Payload("linux", "runtime-file", name, summary, fields, named, candidates, relation)


class ImaEvents(Sequence[Event]):
    """The entries of a list as events, each made when it is asked for: lists may have a million of them."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[ImaEntry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        if isinstance(index, slice):
            return tuple(_event(entry) for entry in self._entries[index])
        return _event(self._entries[index])


def read_ima_events(data: bytes, source: str) -> EventLog:
    """Read an IMA list as a log: one event an entry, with the digest that the list states."""
    ima = read_ima(data, name=source)
    return EventLog(
        source=source,
        format=f"ima-{ima.format}",
        set="tpm",
        banks=(ima.bank,) if ima.entries else (),
        events=ImaEvents(ima.entries),
        problems=tuple(sorted(ima.problems, key=lambda problem: problem.offset)),
        anomalies=(),
        startup_locality=None,
        size=len(data),
        end=len(data),
    )


def _event(entry: ImaEntry) -> Event:
    bank = _BANK_BY_SIZE.get(len(entry.template_hash), "sha1")
    body = entry.template_data
    # a violation is listed as zeros, and ones are extended (ima_add_template_entry)
    listed = b"\xff" * len(entry.template_hash) if entry.violation else entry.template_hash
    candidates = (("template data", body),) if body is not None and not entry.violation else ()
    fields = Fields(entry.hash_algorithm, entry.file_digest, entry.path, entry.signature, body)
    payload = _payload(fields, entry.template, candidates)
    digests = {bank: listed}
    check, covered = check_digest(OTHER, entry.register, digests, payload)
    return Event(
        index=entry.index,
        offset=entry.offset,
        register=entry.register,
        type=OTHER,
        digests=digests,
        data=body or b"",
        data_offset=entry.offset,
        digest_check=check,
        covered=covered,
        phase="before",
        payload=payload,
        label=f"IMA {entry.template}"[:64],
    )
