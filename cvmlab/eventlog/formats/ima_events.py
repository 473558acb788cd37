"""IMA entries as events, for those who read every log the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog.formats.records import OTHER, Gathered, Record, log_of_records
from cvmlab.eventlog.ima import read_ima
from cvmlab.eventlog.ima_fields import Fields, decode_binary
from cvmlab.eventlog.model import Invalid, Payload
from cvmlab.eventlog.producers.wording import bounded_name, one_line

if TYPE_CHECKING:
    from cvmlab.eventlog.ima import ImaEntry
    from cvmlab.eventlog.model import EventLog

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


def read_ima_events(data: bytes, source: str) -> EventLog:
    """Read an IMA list as a log: one event an entry, with the digest that the list states."""
    ima = read_ima(data, name=source)
    gathered = Gathered(source, [_event(entry) for entry in ima.entries], list(ima.problems))
    return log_of_records(gathered, f"ima-{ima.format}", len(data))


def _event(entry: ImaEntry) -> Record:
    bank = _BANK_BY_SIZE.get(len(entry.template_hash), "sha1")
    body = entry.template_data
    # a violation is listed as zeros, and ones are extended (ima_add_template_entry)
    digest = b"\xff" * len(entry.template_hash) if entry.violation else entry.template_hash
    candidates = (("template data", body),) if body is not None and not entry.violation else ()
    fields = Fields(entry.hash_algorithm, entry.file_digest, entry.path, entry.signature, body)
    label = f"IMA {entry.template}"[:64]
    payload = _payload(fields, entry.template, candidates)
    return Record(entry.offset, entry.register, {bank: digest}, body or b"", OTHER, label, payload)
