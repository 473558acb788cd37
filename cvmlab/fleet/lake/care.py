"""Care for the lake: small files joined, old rows removed, contents that nothing refers to removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.lake.ingest import GARBAGE
from cvmlab.fleet.lake.schema import day_of
from cvmlab.fleet.lake.store import writer_of
from cvmlab.tables_lake import ATTESTATIONS, BLOBS, CHANGES, LAKE_TABLES, PARTITIONED, PROFILES, QUARANTINE

if TYPE_CHECKING:
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
    from deltalake import CommitProperties, Transaction

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
        names = _unused(lake, now - GRACE)
        for start in range(0, len(names), _REMOVE):
            found = lake.delta(BLOBS)
            if found is not None:
                turn = found.transaction_version(GARBAGE) or 0
                listed = ", ".join(f"'{name}'" for name in names[start : start + _REMOVE])
                properties = CommitProperties(app_transactions=[Transaction(GARBAGE, turn + 1)])
                gone = found.delete(f"sha256 in ({listed})", commit_properties=properties)
                contents += int(gone.get("num_deleted_rows") or 0)
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


def _unused(lake: Lake, before: datetime) -> list[str]:
    """Return the old contents that no row refers to, neither itself nor by one that rests on it."""
    used: set[str] = set()
    for table, columns in (
        (ATTESTATIONS, ("blobs", "verifier_blobs")),
        (QUARANTINE, ("blobs",)),
        (PROFILES, ("log",)),
    ):
        for batch in lake.dataset(table).to_batches(columns=list(columns)):
            for name in columns:
                column = batch.column(name)
                flat = column.flatten() if name != "log" else column
                used.update(value for value in flat.to_pylist() if value is not None)
    rows = lake.read(BLOBS, columns=["sha256", "base", "written"]).to_pylist()
    base_of = {row["sha256"]: row["base"] for row in rows}
    for name in tuple(used):
        base = base_of.get(name)
        while base is not None and base not in used:
            used.add(base)
            base = base_of.get(base)
    return sorted(r["sha256"] for r in rows if r["sha256"] not in used and r["written"] < before)
