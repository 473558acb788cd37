"""Tables of one log beside its events: registers, variables, signatures, boot entries, modules and others."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog.model import Invalid
from cvmlab.eventlog.sipa import SipaEvent, modules
from cvmlab.tables import (
    BOOT_ENTRIES,
    EVENTS,
    IMA,
    MODULES,
    PROBLEMS,
    REGISTERS,
    SIGNATURES,
    VARIABLES,
    Table,
    make_frame,
)
from cvmlab.uefi.bootentry import LoadOption
from cvmlab.uefi.siglist import Signature, SignatureList
from cvmlab.uefi.wellknown import known_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd

    from cvmlab.eventlog.model import Event, EventLog
    from cvmlab.findings import Trust

Row = dict[str, object]
_CHECKS: Final = frozenset({"covers-data", "mismatch", "unknown"})
_VALIDATED: Final = {True: "yes", False: "no", None: "not-stated"}


def log_table(log: EventLog, name: str, trust: Mapping[int, Trust] | None = None) -> pd.DataFrame:
    """Return one table of a log.

    Args:
        log: The log.
        name: ``events``, ``registers``, ``variables``, ``signatures``, ``boot_entries``, ``modules``,
            ``ima`` or ``problems``.
        trust: Trust of each event by index; ``unproven`` where left out.

    Returns:
        The frame, by the schema of that name in `cvmlab.tables`.

    Raises:
        KeyError: There is no table of this name.
    """
    if name == EVENTS.name:
        return log.to_frame(trust)
    if name not in _TABLES:
        raise KeyError(f"a log has no table {name!r}; it has {', '.join(LOG_TABLES)}")
    table, rows = _TABLES[name]
    found = list(rows(log, trust or {}))
    return make_frame(table, {column: [row[column] for row in found] for column in table.names})


def _value(event: Event) -> object:
    """The decoded data; of damaged data what was read before the damage."""
    value = event.payload.value
    return value.partial if isinstance(value, Invalid) else value


def _worth(event: Event, trust: Mapping[int, Trust]) -> str:
    return trust.get(event.index, "unproven")


def _variables(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    for event in log.events:
        fields = event.payload.fields
        if "variable" not in fields or "guid" not in fields:
            continue
        size = fields.get("size")
        yield {
            "event": event.index,
            "register": event.register,
            "variable": fields["variable"],
            "guid": fields["guid"],
            "kind": event.payload.kind,
            "size": size if isinstance(size, int) else 0,
            "summary": event.payload.summary,
            "data_sha256": sha256(event.data).hexdigest(),
            "trust": _worth(event, trust),
        }


def _signatures(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    for event in log.events:
        value = _value(event)
        if isinstance(value, Signature):
            yield _entry(event, -1, 0, value, trust)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                if isinstance(one, SignatureList):
                    for entry, signature in enumerate(one.signatures):
                        yield _entry(event, number, entry, signature, trust)


def _entry(event: Event, number: int, entry: int, signature: Signature, trust: Mapping[int, Trust]) -> Row:
    certificate = signature.certificate
    is_hash = signature.type_name.startswith("SHA") or signature.type_name == "SM3"
    row: Row = {
        "event": event.index,
        "register": event.register,
        "variable": event.payload.name,
        "list": number,
        "entry": entry,
        "type": signature.type_name,
        "owner": str(signature.owner),
        "sha256": signature.sha256,
        "hash": signature.data.hex() if is_hash else None,
        "revocation_time": signature.revocation_time,
        "trust": _worth(event, trust),
    }
    for column in ("name", "subject", "issuer", "serial", "not_before", "not_after", "public_key", "known"):
        row[column] = None
    if signature.type_name.startswith("X509_"):
        row["hash"] = signature.data[:-16].hex()
    if certificate is not None:
        row |= {
            "name": certificate.common_name or None,
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serial": certificate.serial_hex,
            "not_before": certificate.not_before.isoformat() if certificate.not_before else None,
            "not_after": certificate.not_after.isoformat() if certificate.not_after else None,
            "public_key": certificate.public_key,
            "known": known.text if (known := known_key(certificate)) is not None else None,
            "sha256": certificate.sha256,
        }
    return row


def _boot_entries(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    order: list[str] = []
    for event in log.events:
        if event.payload.kind == "boot-order":
            listed = event.payload.fields.get("order")
            order = [f"Boot{item}" for item in listed] if isinstance(listed, list) else []
            break
    for event in log.events:
        value = event.payload.value
        if not isinstance(value, LoadOption):
            continue
        name = event.payload.name
        yield {
            "event": event.index,
            "variable": name,
            "position": order.index(name) if name in order else -1,
            "description": value.description,
            "active": value.active,
            "hidden": value.hidden,
            "device_path": str(event.payload.fields.get("device_path", "")),
            "optional_data": value.optional_data.hex(),
            "trust": _worth(event, trust),
        }


def _modules(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    for event in log.events:
        value = _value(event)
        if not (isinstance(value, tuple) and value and all(isinstance(v, SipaEvent) for v in value)):
            continue
        for module in modules(value):
            yield {
                "event": event.index,
                "register": event.register,
                "path": module.path,
                "size": module.size,
                "algorithm": module.algorithm,
                "authenticode": module.authenticode,
                "issuer": module.issuer,
                "publisher": module.publisher,
                "serial": module.serial,
                "thumbprint": module.thumbprint,
                "validated": _VALIDATED[module.validated],
                "svn": module.svn,
                "trust": _worth(event, trust),
            }


def _registers(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    for bank, values in log.replay().items():
        for register, value in values.items():
            yield {
                "set": log.set,
                "register": register,
                "bank": bank,
                "quoted": None,
                "replayed": value.hex(),
                "baseline": None,
                "status": "not-quoted",
                "why": "a log alone: no verified quote covers it",
            }


def _ima(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    """Entries of an IMA list that was read as a log, or stands in one (a canonical log's contents)."""
    for event in log.events:
        fields = event.payload.fields
        if event.payload.kind != "runtime-file" or "template" not in fields:
            continue
        digest = next(iter(event.digests.values()), b"")
        # a violation is listed as zeros, and ones are extended
        violation = bool(digest) and not digest.strip(b"\xff")
        yield {
            "index": event.index,
            "offset": event.offset,
            "register": event.register,
            "template": fields["template"],
            "template_hash": bytes(len(digest)).hex() if violation else digest.hex(),
            "hash_algorithm": fields.get("hash_algorithm") or None,
            "file_digest": fields.get("file_digest") or None,
            "path": fields.get("path", ""),
            "signed": bool(fields.get("signed")),
            "violation": violation,
            "digest_check": event.digest_check if event.digest_check in _CHECKS else "unknown",
        }


def _problems(log: EventLog, trust: Mapping[int, Trust]) -> Iterator[Row]:
    for problem in log.problems:
        yield {column: getattr(problem, column) for column in PROBLEMS.names}


_TABLES: Final[Mapping[str, tuple[Table, Callable[[EventLog, Mapping[int, Trust]], Iterator[Row]]]]] = {
    "registers": (REGISTERS, _registers),
    "variables": (VARIABLES, _variables),
    "signatures": (SIGNATURES, _signatures),
    "boot_entries": (BOOT_ENTRIES, _boot_entries),
    "modules": (MODULES, _modules),
    "ima": (IMA, _ima),
    "problems": (PROBLEMS, _problems),
}
LOG_TABLES: Final = ("events", *_TABLES)
"""Names of the tables of a log."""
