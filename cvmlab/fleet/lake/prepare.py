"""A batch of submissions becomes rows of the lake: a pure function that runs in any process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cvmlab.errors import CvmlabError
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog import types as t
from cvmlab.evidence.directory import DESCRIPTION_SCHEMA, evidence_of
from cvmlab.evidence.names import role_of, role_of_name
from cvmlab.evidence.sources import RawFile
from cvmlab.evidence.traces import holds_evidence
from cvmlab.fleet.batch import LOG_COLUMN, process_logs
from cvmlab.fleet.lake.blobs import Packer
from cvmlab.fleet.lake.schema import arrow_table, day_of, versions
from cvmlab.tables_lake import ATTESTATIONS, PROFILE_EVENTS, PROFILES, QUARANTINE
from cvmlab.tpm.attest import parse_attest
from cvmlab.tpm.strict import load_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

OWN_TYPES: Final = (
    t.EV_EFI_VARIABLE_BOOT,
    t.EV_EFI_VARIABLE_BOOT2,
    t.EV_EFI_GPT_EVENT,
    t.EV_EFI_GPT_EVENT2,
    t.EV_EFI_HANDOFF_TABLES,
    t.EV_EFI_HANDOFF_TABLES2,
)
"""Types of events that are of one machine (boot entries, partitions, tables with serial numbers): a profile
counts that they are there, not what is in them."""
BANKS: Final = ("sha256", "sha384", "sha512", "sm3_256", "sha1")
"""Banks in the order in which one is taken for profiles and register values."""
_REGISTERS: Final = 32
_MAX_CLAIM: Final = 256
_NOTE: Final = "unreadable: "

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows for the tables of the lake, in the order in which they must be written."""

    blobs: pa.Table
    events: pa.Table
    profiles: pa.Table
    quarantine: pa.Table
    attestations: pa.Table


@cache
def submission_schema() -> pa.Schema:
    """Return the schema of a batch of submissions."""
    import pyarrow as pa

    file = pa.struct([pa.field("name", pa.string()), pa.field("data", pa.large_binary())])
    return pa.schema(
        [
            pa.field("machine", pa.string()),
            pa.field("source", pa.string()),
            pa.field("received", pa.timestamp("us", tz="UTC")),
            pa.field("reason", pa.string()),
            pa.field("evidence", pa.bool_()),
            pa.field("files", pa.list_(file)),
            pa.field("verifier", pa.list_(file)),
        ]
    )


def attestation_id(machine: str, files: Sequence[tuple[str, str]]) -> str:
    """Return the id of a submission: of its machine, and the name and SHA-256 of each file."""
    total = sha256(f"{len(machine)}:{machine}\n".encode("utf-8", "surrogatepass"))
    for name, digest in sorted(files):
        total.update(f"{len(name)}:{name}:{digest}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def prepare(batch: pa.RecordBatch) -> Prepared:
    """Make rows of the lake of a batch of submissions (`submission_schema`).

    What cannot be used goes into quarantine with its reason, and its files are kept as well.
    """
    import pyarrow as pa

    packer = Packer()
    rows: list[_Row] = []
    bad: list[_Row] = []
    logs: list[bytes] = []
    for submission in batch.to_pylist():
        row, log = _row(submission, packer)
        reason = row.pop("reason")
        if reason:
            kept = ("attestation", "machine", "received", "day", "source", "file_names", "blobs")
            bad.append(
                {name: row[name] for name in kept}
                | {"reason": reason, "evidence": _is_evidence(submission)}
                | versions()
            )
        else:
            rows.append(row)
            logs.append(log)
    read = process_logs(pa.record_batch({LOG_COLUMN: pa.array(logs, pa.large_binary())}), source="eventlog")
    profiles = _profiles(rows, read)
    # packed behind the logs' shapes, which the reading gives
    for row, log in zip(rows, logs, strict=True):
        if log:
            row["log"] = packer.add(log, "eventlog.bin", row.pop("shape"))
    return Prepared(
        packer.table(),
        _events(profiles, logs),
        arrow_table(PROFILES, [_profile_row(rows[index], read, index) for index in profiles.values()]),
        arrow_table(QUARANTINE, bad),
        arrow_table(ATTESTATIONS, rows),
    )


def _row(submission: _Row, packer: Packer) -> tuple[_Row, bytes]:
    files = [(file["name"] or "", file["data"]) for file in submission["files"] or ()]
    readable = [(name, data) for name, data in files if data is not None]
    names, blobs, log, log_name = [], [], b"", ""
    for name, data in readable:
        role = role_of(name, data)
        names.append(name)
        if role == "event-log" and data and (not log or name == "eventlog.bin"):
            log, log_name = data, name
        blobs.append(sha256(data).hexdigest())
    reason = submission["reason"] or _unusable(files, submission["machine"], bool(log))
    if reason:
        log = b""
    for name, data in readable:
        if not log or name != log_name:
            packer.add(data, name, name)
    received = submission["received"]
    known = [(file["name"], file["data"]) for file in submission["verifier"] or ()]
    row: _Row = {
        "attestation": attestation_id(submission["machine"], list(zip(names, blobs, strict=True))),
        "machine": submission["machine"],
        "received": received,
        "day": day_of(received),
        "source": submission["source"],
        "file_names": names,
        "blobs": blobs,
        "size": sum(len(data) for _, data in readable),
        "log": None,
        "log_complete": False,
        "verifier_files": [name for name, _ in known],
        "verifier_blobs": [packer.add(data, name, f"verifier {name}") for name, data in known],
        "reason": reason,
        **versions(),
    }
    contents = dict(readable)
    row |= _clock(contents) | _claimed(contents)
    for name, data in known:
        if name == "nonce.hex":
            row["nonce"] = data.decode("ascii", "replace").strip()[:128]
    return row, log


def _is_evidence(submission: _Row) -> bool:
    if submission["reason"]:
        return submission["evidence"] is not False
    return holds_evidence([(file["name"] or "", file["data"]) for file in submission["files"] or ()])


def _unusable(files: Sequence[tuple[str, bytes | None]], machine: str, has_log: bool) -> str:
    """Say why evidence cannot be used. With a boot log under its own name it can."""
    if has_log:
        return ""
    try:
        raw = [
            RawFile(n, d, len(d or b""), "" if d is not None else _NOTE + "see the source") for n, d in files
        ]
        evidence_of(raw, source=machine, default_name=machine)
    except CvmlabError as error:
        return str(error)
    return ""


def _clock(contents: dict[str, bytes]) -> _Row:
    names = sorted(
        (name for name, data in contents.items() if data and role_of_name(name) == "quote"),
        key=lambda name: (name != "quote.msg", name),
    )
    if not names:
        return {}
    try:
        clock = parse_attest(contents[names[0]], source=names[0]).clock_info
    except CvmlabError:
        return {}
    signed = (1 << 63) - 1
    return {
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "clock": clock.clock if clock.clock <= signed else None,
    }


def _claimed(contents: dict[str, bytes]) -> _Row:
    data = contents.get("evidence.json")
    if not data:
        return {}
    try:
        value = load_json(data, source="evidence.json")
    except CvmlabError:
        return {}
    if not isinstance(value, dict) or value.get("schema") != DESCRIPTION_SCHEMA:
        return {}
    ids = value.get("ids")
    said = {"claimed": value.get("collected"), "boot": ids.get("boot_id") if isinstance(ids, dict) else None}
    return {
        name: text for name, text in said.items() if isinstance(text, str) and 0 < len(text) <= _MAX_CLAIM
    }


def _profiles(rows: list[_Row], read: pa.RecordBatch) -> dict[str, int]:
    """Fill in what the reading of the logs gives; return the first row of each profile."""
    import pyarrow as pa

    events, registers = read.column("events"), read.column("registers")
    starts = events.offsets.to_numpy()
    flat = events.flatten()
    bank_texts = read.column("banks").to_pylist()
    banks = [next((b for b in BANKS if b in (text or "").split(",")), "") for text in bank_texts]
    number = flat.field("register").to_numpy().astype(np.uint32)
    kind = flat.field("type_number").to_numpy().astype(np.uint32)
    own = np.isin(kind, np.array(OWN_TYPES, np.uint32))
    heads = np.stack([number, kind, own.astype(np.uint32)], axis=1)
    digests = {bank: _digests(flat.field(bank), own) for bank in set(banks) - {""}}
    values = _values(registers, banks)
    found: dict[str, int] = {}
    complete, sets = read.column("complete").to_pylist(), read.column("set").cast(pa.string()).to_pylist()
    for index, row in enumerate(rows):
        first, last = starts[index], starts[index + 1]
        head = heads[first:last].tobytes()
        row["shape"] = f"log {sha256(head).hexdigest()}"
        if first == last:
            continue
        bank = banks[index]
        total = sha256(f"{sets[index]} {bank_texts[index]}\n".encode() + head)
        if bank:
            total.update(digests[bank][first:last].tobytes())
        profile = total.hexdigest()
        row |= {
            "log_complete": complete[index],
            "profile": profile,
            "register_set": sets[index],
            "register_bank": bank or None,
            "registers": values[index],
        }
        found.setdefault(profile, index)
    return found


def _digests(column: pa.Array, own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a matrix of digests, one row an event; zeros where there is none or it is the machine's own."""
    pool = column.dictionary.to_pylist()
    width = max((len(value) for value in pool), default=1)
    table = np.zeros((len(pool) + 1, width), np.uint8)
    for place, value in enumerate(pool):
        table[place, : len(value)] = np.frombuffer(value, np.uint8)
    indices = column.indices.fill_null(len(pool)).to_numpy(zero_copy_only=False)
    return table[np.where(own, len(pool), indices)]


def _values(registers: pa.ListArray, banks: list[str]) -> list[list[str | None] | None]:
    """Return the replayed values of each log's chosen bank by register index."""
    starts = registers.offsets.to_numpy()
    flat = registers.flatten()
    number = flat.field("register").to_pylist()
    texts = flat.field("bank")
    bank_of = [texts.dictionary[i].as_py() for i in range(len(texts.dictionary))]
    codes = texts.indices.to_numpy(zero_copy_only=False)
    value = flat.field("value")
    pool = [one.hex() for one in value.dictionary.to_pylist()]
    places = value.indices.to_numpy(zero_copy_only=False)
    found: list[list[str | None] | None] = []
    for index, bank in enumerate(banks):
        values: list[str | None] = []
        for row in range(starts[index], starts[index + 1]):
            register = number[row]
            if bank_of[codes[row]] == bank and register < _REGISTERS:
                values += [None] * (register + 1 - len(values))
                values[register] = pool[places[row]]
        found.append(values or None)
    return found


def _profile_row(row: _Row, read: pa.RecordBatch, index: int) -> _Row:
    return {
        "profile": row["profile"],
        "log": row["log"],
        "format": read.column("format")[index].as_py(),
        "set": row["register_set"],
        "banks": read.column("banks")[index].as_py(),
        "event_count": len(read.column("events")[index]),
        "first_received": row["received"],
        **versions(),
    }


def _events(profiles: dict[str, int], logs: list[bytes]) -> pa.Table:
    """Decode one log of each profile."""
    rows: list[_Row] = []
    for profile, index in profiles.items():
        frame = read_event_log(logs[index]).to_frame().drop(columns="trust").astype(object)
        for event in frame.where(frame.notna(), None).to_dict("records"):
            own = event["type_number"] in OWN_TYPES
            rows.append({"profile": profile, "own": own} | {str(k): v for k, v in event.items()})
    return arrow_table(PROFILE_EVENTS, rows)
