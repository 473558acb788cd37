"""Care for the lake: small files joined, old rows removed, contents that nothing refers to removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.lake.ingest import GARBAGE
from cvmlab.fleet.lake.schema import among, day_of
from cvmlab.fleet.lake.store import writer_of
from cvmlab.tables_lake import ATTESTATIONS, BLOBS, CHANGES, LAKE_TABLES, PARTITIONED, PROFILES, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

    from cvmlab.fleet.lake.store import Lake

GRACE: Final = timedelta(days=1)
"""Contents younger than this are kept: an ingest that is under way may be about to refer to them."""
_REMOVE: Final = 2000


@dataclass(frozen=True, slots=True)
class CareCounts:
    """What was done: files joined, rows removed by age, contents removed, files deleted from storage."""

    joined: int
    expired: int
    contents: int
    deleted: int


def compact(
    lake: Lake, *, keep_days: int | None = None, vacuum_hours: int = 168, now: datetime | None = None
) -> CareCounts:
    """Join small files; with `keep_days` remove what was received before, and what only that referred to.

    Rows of tables that hold changes alone (`cvmlab.tables_lake.CHANGES`) are states and stay.

    Ingest may run at the same time. Files that no version needs are deleted from storage after
    `vacuum_hours`, so that readers that began before keep what they read.

    Raises:
        EvidenceError: A number is negative.
    """
    if (keep_days or 0) < 0 or vacuum_hours < 0:
        raise EvidenceError("days and hours to keep are not negative")
    now = now or datetime.now(UTC)
    expired = contents = joined = deleted = 0
    if keep_days is not None:
        first = day_of(now - timedelta(days=keep_days))
        for table in LAKE_TABLES:
            found = lake.delta(table) if table.name in PARTITIONED - CHANGES else None
            if found is not None:
                expired += int(found.delete(f"day < '{first}'").get("num_deleted_rows") or 0)
        contents = _collected(lake, now - GRACE)
    for table in LAKE_TABLES:
        found = lake.delta(table)
        if found is not None:
            joined += int(found.optimize.compact(writer_properties=writer_of(table))["numFilesRemoved"])
            gone_files = lake.delta(table)
            if gone_files is not None:
                removed = gone_files.vacuum(
                    retention_hours=vacuum_hours, dry_run=False, enforce_retention_duration=False
                )
                deleted += len(removed)
    return CareCounts(joined, expired, contents, deleted)


def _collected(lake: Lake, before: datetime) -> int:
    """Remove the contents that nothing refers to; return how many.

    An ingest may refer to one meanwhile. If its row is there after the removal, the content is put back
    here; if not yet, the ingest sees the removal once its row is written, and stores the content again.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake import CommitProperties, Transaction

    start = lake.delta(BLOBS)
    if start is None:
        return 0
    contents = lake.scan(start, BLOBS)
    rows = contents.to_table(columns=["sha256", "base", "written"])
    old = rows.filter(pc.less(rows.column("written"), pa.scalar(before, rows.column("written").type)))
    names = old.column("sha256").filter(pc.invert(pc.is_in(old.column("sha256"), _used(lake, rows))))
    removed = 0
    for first in range(0, len(names), _REMOVE):
        found = lake.delta(BLOBS) or start
        turn = found.transaction_version(GARBAGE) or 0
        listed = ", ".join(f"'{name}'" for name in names.slice(first, _REMOVE).to_pylist())
        properties = CommitProperties(app_transactions=[Transaction(GARBAGE, turn + 1)])
        gone = found.delete(f"sha256 in ({listed})", commit_properties=properties)
        removed += int(gone.get("num_deleted_rows") or 0)
    if removed:
        back = names.filter(pc.is_in(names, _used(lake, rows)))
        if len(back):
            lost = contents.to_table(filter=among("sha256", back))
            removed -= lake.append(BLOBS, lost, key=("sha256",))
    return removed


def _used(lake: Lake, contents: pa.Table) -> pa.Array:
    """Return the contents that rows refer to, themselves or by one that rests on them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [pa.array([], pa.string())]
    for table, columns in (
        (ATTESTATIONS, ("blobs", "verifier_blobs")),
        (QUARANTINE, ("blobs",)),
        (PROFILES, ("log",)),
    ):
        for name in columns:
            column = lake.read(table, columns=[name]).column(name)
            flat = pc.list_flatten(column) if name != "log" else column
            parts.append(pc.unique(flat.cast(pa.string())))
    used = pc.unique(pa.concat_arrays(parts).drop_null())
    names, bases = contents.column("sha256").cast(pa.string()), contents.column("base").cast(pa.string())
    while True:
        found = pc.unique(bases.filter(pc.is_in(names, used)).drop_null())
        more = found.filter(pc.invert(pc.is_in(found, used)))
        if not len(more):
            return used
        used = pa.concat_arrays([used, more])
