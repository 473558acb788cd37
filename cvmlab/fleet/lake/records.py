"""Inventory and assessments in the lake: a row for each change, whichever export first tells of it.

An export is a state as of the time of its file. What it says as the export before it said is not written
again, so a lake grows with what changes. An older export that is read late takes its place in the history and
changes nothing of what is last known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING, Any, Final

from cvmlab.fleet.inventory.files import files_of
from cvmlab.fleet.inventory.frames import cell_of
from cvmlab.fleet.inventory.model import Extension, Machine, Origin
from cvmlab.fleet.inventory.read import Inventory, read_inventory
from cvmlab.fleet.inventory.resources import subscription_of
from cvmlab.fleet.lake.schema import among, arrow_schema, arrow_table, day_of, versions
from cvmlab.fleet.rules import EXTENSION_FIELDS
from cvmlab.fleet.status import connect, machines_of, moment, result
from cvmlab.tables_lake import ASSESSMENTS, IMPORTS, INVENTORY, MACHINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from cvmlab.fleet.inventory.model import ProviderAssessment
    from cvmlab.fleet.lake.store import Lake

CHUNK: Final = 20_000
"""Records that are written together: this bounds what is held of them beside the inventory itself."""
_PLACE: Final = frozenset({"source", "record", "received", "day", "import", "content", "extensions"})
"""Columns that do not make a record another one; extensions are compared apart."""
_ON_OFF: Final = {"on": True, "off": False}


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an export.

    Attributes:
        known: Whether the lake had every file of it.
        machines: Machines in it.
        assessments: Assessments in it.
        others: Loose extensions, alerts and suppression rules of the provider in it.
        changed: Rows of history that it added.
        updated: Machines of which something else is last known now.
        problems: Problems in reading it.
        fatal: Problems that left something out.
    """

    known: bool = False
    machines: int = 0
    assessments: int = 0
    others: int = 0
    changed: int = 0
    updated: int = 0
    problems: int = 0
    fatal: int = 0


def take_inventory(
    lake: Lake, paths: Iterable[Path], *, now: datetime, read: Inventory | None = None
) -> Kept:
    """Read exports together and keep them; those that the lake has in this content and age are not read.

    Args:
        lake: The lake.
        paths: Files and folders of one export. Records of a machine and of its extensions may be in several.
        now: When they are read.
        read: What `read_inventory` gives for the same paths, where it was read already.

    Raises:
        EvidenceError: A path does not exist, or the lake cannot be written.
    """
    places = list(paths)
    files = []
    for name, path in files_of(places):
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        files.append((name, digest, min(datetime.fromtimestamp(path.stat().st_mtime, UTC), now)))
    if _known(lake, files):
        return Kept(known=True)
    import_ = sha256("\n".join(sorted(digest for _, digest, _ in files)).encode()).hexdigest()
    found = read or read_inventory(*places)
    kept = keep_inventory(lake, found, received=max(at for *_, at in files), import_=import_, now=now)
    if not kept.machines + kept.assessments + kept.others:
        return kept
    rows = [
        {
            "import": import_,
            "file": digest,
            "source": name,
            "stated": at,
            "taken": now,
            **{
                one: getattr(kept, one) for one in ("machines", "assessments", "changed", "problems", "fatal")
            },
            **versions(),
        }
        for name, digest, at in files
    ]
    lake.append(IMPORTS, arrow_table(IMPORTS, rows), key=("file", "stated"))
    return kept


def _known(lake: Lake, files: Sequence[tuple[str, str, datetime]]) -> bool:
    import pyarrow as pa

    digests = pa.array({digest for _, digest, _ in files}, pa.string())
    held = lake.read(IMPORTS, columns=["file", "stated"], where=among("file", digests)).to_pylist()
    there = {(row["file"], row["stated"]) for row in held}
    return all((digest, at) in there for _, digest, at in files)


def keep_inventory(
    lake: Lake, read: Inventory, *, received: datetime, import_: str, now: datetime | None = None
) -> Kept:
    """Write what an inventory changes: ``inventory``, ``assessments``, and what is last known (``machines``).

    Records that do not tell of extensions leave what is known of them; extensions without a record of their
    machine are put to what the lake has of it.

    Args:
        lake: The lake.
        read: The inventory.
        received: Time as of which it tells.
        import_: What it was read from, as one hash.
        now: When it was read; `received` by default. Silence of a machine counts from here.
    """
    now = now or received
    head = {"received": received, "day": day_of(received), "import": import_}
    last = _last_machines(lake, received)
    changed = updated = 0
    machines = [*read.machines, *_loose(lake, read, received)]
    for start in range(0, len(machines), CHUNK):
        part = machines[start : start + CHUNK]
        rows = arrow_table(INVENTORY, [_machine_row(one) | head for one in part])
        changed += lake.append(
            INVENTORY, _changed_machines(rows, last), key=("import", "machine", "received")
        )
        new = _changed_facts(lake, machines_of(Inventory(machines=tuple(part)), now), last, received)
        updated += lake.append(MACHINES, new, key=("machine", "known_since"))
    changed += _assessments(lake, read.assessments, head)
    fatal = sum(problem.fatal for problem in read.problems)
    return Kept(
        machines=len(read.machines),
        assessments=len(read.assessments),
        others=len(read.loose_extensions) + len(read.suppressions) + len(read.alerts),
        changed=changed,
        updated=updated,
        problems=len(read.problems),
        fatal=fatal,
    )


def _machine_row(machine: Machine) -> dict[str, Any]:
    row = {name: cell_of(machine, name) for name in INVENTORY.names if name not in _PLACE}
    row["content"] = _content({name: row[name] for name in row if name != "extensions_collected"})
    row |= {"source": machine.origin.source, "record": machine.origin.index}
    row["extensions"] = (
        json.dumps([{name: getattr(one, name) for name in EXTENSION_FIELDS} for one in machine.extensions])
        if machine.extensions or machine.extensions_collected
        else None
    )
    return row


def _content(row: Mapping[str, object]) -> str:
    return sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _last_machines(lake: Lake, at: datetime) -> pa.Table:
    """What the lake has of each machine as of a time, and whether it has anything later."""
    query = """SELECT machine, max(received) > $at AS later,
            max_by(struct_pack(c := content, e := extensions, k := extensions_collected), received)
                FILTER (WHERE received <= $at) AS row_
        FROM inventory GROUP BY machine"""
    columns = ["machine", "received", "content", "extensions", "extensions_collected"]
    inventory = lake.read(INVENTORY, columns=columns)
    query = f"SELECT machine, later, row_.c AS content, row_.e AS extensions, row_.k AS known FROM ({query})"  # noqa: S608
    return result(connect(inventory=inventory), query, {"at": moment(at)})


def _changed_machines(rows: pa.Table, last: pa.Table) -> pa.Table:
    """Rows that say other than the one before, whose extensions stay where the later tells of none."""
    query = """WITH joined AS (SELECT r.* REPLACE (
                CASE WHEN r.extensions IS NULL THEN l.extensions ELSE r.extensions END AS extensions,
                r.extensions_collected OR coalesce(l.known, false) AND r.extensions IS NULL
                    AS extensions_collected),
            l.content AS before, l.extensions AS had, l.machine IS NULL AS fresh
            FROM rows r LEFT JOIN last l USING (machine))
        SELECT * EXCLUDE (before, had, fresh) FROM joined
        WHERE fresh OR before IS DISTINCT FROM content OR had IS DISTINCT FROM extensions"""
    return result(connect(rows=rows, last=last), query).select(list(INVENTORY.names)).cast(rows.schema)


def _changed_facts(lake: Lake, machines: pa.Table, last: pa.Table, received: datetime) -> pa.Table:
    """What is other than last known of each machine; nothing where a later export told of it."""
    facts = [name for name in MACHINES.names if name not in ("machine", "known_since")]
    held = ", ".join(f'max_by(struct_pack(x := "{name}"), known_since).x AS "{name}"' for name in facts)
    differs = " OR ".join(f'n."{name}" IS DISTINCT FROM k."{name}"' for name in facts)
    # what is read later is last known, also of two exports that are read at one time
    query = f"""WITH known AS (SELECT machine, max(known_since) AS since, {held}
            FROM machines GROUP BY machine),
        new AS (SELECT n.* REPLACE (coalesce(n.extension, k.extension) AS extension,
                CASE WHEN n.extension IS NULL THEN k.alerts_disabled ELSE n.alerts_disabled END
                    AS alerts_disabled,
                greatest(n.known_since, k.since + INTERVAL 1 MICROSECOND) AS known_since)
            FROM told n LEFT JOIN known k USING (machine))
        SELECT n.* FROM new n LEFT JOIN known k USING (machine) LEFT JOIN last l USING (machine)
        WHERE NOT coalesce(l.later, false) AND (k.machine IS NULL OR {differs})"""  # noqa: S608
    where = among("machine", machines.column("machine").combine_chunks())
    tables = {"told": machines, "machines": lake.read(MACHINES, where=where), "last": last}
    return result(connect(**tables), query).select(list(MACHINES.names)).cast(arrow_schema(MACHINES))


def _loose(lake: Lake, read: Inventory, received: datetime) -> list[Machine]:
    """Machines of the lake of which an export has the extensions alone.

    Extensions that were exported by themselves tell of all machines of their subscription: one that has none
    among them has none, as where both were exported together.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    held: dict[str, list[Extension]] = {}
    for one in read.loose_extensions:
        held.setdefault(one.machine, []).append(one)
    groups = {subscription_of(name) for name in held} - {None}
    if not held:
        return []
    with_record = {one.machine for one in read.machines}
    where = among("machine", pa.array(held, pa.string()))
    if groups:
        where = where | among("subscription", pa.array(groups, pa.string()))
    rows = lake.read(INVENTORY, where=where & (pc.field("received") <= pa.scalar(received)))
    newest: dict[str, dict[str, Any]] = {}
    for row in rows.sort_by("received").to_pylist():
        newest[row["machine"]] = row
    found = []
    for name, row in newest.items():
        if name in with_record:
            continue
        machine = machine_of_row(row)
        own = {(one.name or "").lower(): one for one in machine.extensions}
        own |= {(one.name or "").lower(): one for one in held.get(name, ())}
        raw = (
            *machine.raw,
            *(item for one in held.get(name, ()) for item in one.raw if item not in machine.raw),
        )
        found.append(replace(machine, extensions=tuple(own.values()), extensions_collected=True, raw=raw))
    return found


def machine_of_row(row: Mapping[str, Any]) -> Machine:
    """Return the machine that a row of the lake's ``inventory`` tells of; what the row lacks is absent."""
    origin = Origin(row.get("source") or "", row.get("record") or 0)
    values = {
        name: row[name]
        for name in INVENTORY.names
        if name in row and name not in _PLACE and name not in ("raw", "uefi_settings")
    }
    for name in ("secure_boot", "vtpm", "encryption_at_host"):
        if name in values:
            values[name] = _ON_OFF.get(values[name])
    extensions = tuple(
        _extension(row["machine"], one, origin) for one in json.loads(row.get("extensions") or "[]")
    )
    return Machine(
        **values,
        origin=origin,
        raw=tuple(json.loads(row["raw"])) if row.get("raw") else (),
        uefi_settings=bool(row.get("uefi_settings")),
        extensions=extensions,
    )


def _extension(machine: str, values: dict[str, Any], origin: Origin) -> Extension:
    values = {name: values.get(name) for name in EXTENSION_FIELDS}
    return Extension(
        machine=machine, origin=origin, raw=(), **values | {"status": tuple(values["status"] or ())}
    )


def _assessments(lake: Lake, assessments: Sequence[ProviderAssessment], head: dict[str, Any]) -> int:
    """Write what the provider says otherwise than before; of several words in one export the last counts."""
    latest: dict[tuple[str, str], ProviderAssessment] = {}
    for one in assessments:
        before = latest.get((one.machine, one.key))
        if before is None or (one.changed or "") >= (before.changed or ""):
            latest[one.machine, one.key] = one
    if not latest:
        return 0
    query = """SELECT machine, key::VARCHAR AS key, max_by(content, received) AS content FROM said
        WHERE received <= $at GROUP BY ALL"""
    said = lake.read(ASSESSMENTS, columns=["machine", "key", "content", "received"])
    last = result(connect(said=said), query, {"at": moment(head["received"])})
    changed = 0
    chosen = list(latest.values())
    for start in range(0, len(chosen), CHUNK):
        rows = arrow_table(
            ASSESSMENTS, [_assessment_row(one) | head for one in chosen[start : start + CHUNK]]
        )
        query = """SELECT r.* FROM rows r LEFT JOIN last l ON r.machine = l.machine AND r.key = l.key
            WHERE l.content IS DISTINCT FROM r.content"""
        new = result(connect(rows=rows, last=last), query).select(list(ASSESSMENTS.names)).cast(rows.schema)
        changed += lake.append(ASSESSMENTS, new, key=("import", "machine", "key", "received"))
    return changed


def _assessment_row(one: ProviderAssessment) -> dict[str, Any]:
    row = {name: cell_of(one, name) for name in ASSESSMENTS.names if name not in _PLACE}
    row["content"] = _content(row)
    return row | {"source": one.origin.source, "record": one.origin.index}
