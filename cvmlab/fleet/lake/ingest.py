"""Submissions into the lake: by content, so that what is there is not added; row by row whole or not at all.

The row in ``attestations`` is written last: whoever stops before it has written only contents and profiles,
which are by content too, and the next run finds them. So an ingest that was killed is simply run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cvmlab.fleet.lake.prepare import Prepared, prepare, submission_schema
from cvmlab.fleet.lake.run import Runner
from cvmlab.fleet.lake.submissions import VerifierStore, find_sources, find_submissions, read_source
from cvmlab.tables_lake import ATTESTATIONS, BLOBS, PROFILE_EVENTS, PROFILES, QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from cvmlab.fleet.lake.store import Lake
    from cvmlab.fleet.lake.submissions import Source, Submission

Item = TypeVar("Item", bound=Any)

BATCH_MACHINES: Final = 2048
BATCH_BYTES: Final = 64 << 20
"""Most submissions, and most bytes, of one batch: this bounds memory."""

GARBAGE: Final = "cvmlab-garbage"
"""Application transaction of the blobs: counts removals of what nothing refers to."""


@dataclass(slots=True)
class IngestCounts:
    """What an ingest did.

    Attributes:
        submissions: Submissions found.
        added: Attestations that are new in the lake.
        quarantined: Submissions that cannot be used and are new in quarantine.
        known: Submissions that the lake had.
        size: Bytes of evidence read.
    """

    submissions: int = 0
    added: int = 0
    quarantined: int = 0
    known: int = 0
    size: int = 0


def ingest(
    lake: Lake,
    submissions: Iterable[Submission],
    *,
    store: VerifierStore | None = None,
    received: datetime | None = None,
    run: Runner | None = None,
    progress: Callable[[IngestCounts], None] | None = None,
) -> IngestCounts:
    """Add submissions to the lake.

    Args:
        lake: The lake.
        submissions: They are read as they are needed.
        store: The verifier's own files; None for none.
        received: When the evidence was received; now by default.
        run: Where batches are prepared and written; in this process by default. Evidence is sent there: where
            it lies in a place that workers see as well, `ingest_paths` spares this process to read it.
        progress: Called after each batch.

    Raises:
        EvidenceError: The lake cannot be written.
    """
    batches = batches_of(submissions, store or VerifierStore(None), received or datetime.now(UTC))
    return ingest_batches(lake, batches, run=run, progress=progress)


def ingest_paths(
    lake: Lake,
    paths: Iterable[str | Path],
    *,
    store: VerifierStore | None = None,
    received: datetime | None = None,
    run: Runner | None = None,
    progress: Callable[[IngestCounts], None] | None = None,
) -> IngestCounts:
    """Add what is found in folders, archives and files (`find_sources`); see `ingest`.

    Where the workers see the same files, they read them; else evidence is read here and sent to them.
    """
    run = run or Runner()
    store, received = store or VerifierStore(None), received or datetime.now(UTC)
    if not run.shared:
        return ingest(
            lake, find_submissions(paths), store=store, received=received, run=run, progress=progress
        )
    load = partial(_read, store, received)
    return ingest_batches(lake, _parts(find_sources(paths)), load=load, run=run, progress=progress)


def _parts(sources: Iterable[Source]) -> Iterator[list[Source]]:
    rest = iter(sources)
    while part := list(islice(rest, BATCH_MACHINES)):
        yield part


def _read(store: VerifierStore, received: datetime, sources: list[Source]) -> Iterator[pa.RecordBatch]:
    return batches_of((one for source in sources for one in read_source(source)), store, received)


def ingest_batches(
    lake: Lake,
    items: Iterable[Item],
    *,
    load: Callable[[Item], Iterable[pa.RecordBatch]] | None = None,
    run: Runner | None = None,
    progress: Callable[[IngestCounts], None] | None = None,
) -> IngestCounts:
    """Add batches of submissions (`cvmlab.fleet.lake.prepare.submission_schema`) to the lake.

    A worker reads, prepares and writes, and only counts come back: one process that writes for all would
    limit how many workers are of use. What a worker wrote that died before it said so counts as known.

    Args:
        lake: The lake; workers must reach it.
        items: Batches, or with `load` what it makes batches of.
        load: Reads batches, where they are prepared; a function that can be pickled.
        run: Where this happens; in this process by default.
        progress: Called after each item.
    """
    counts = IngestCounts()
    for found in (run or Runner()).map(partial(_added, lake, load), items):
        for name in IngestCounts.__slots__:
            setattr(counts, name, getattr(counts, name) + getattr(found, name))
        if progress is not None:
            progress(counts)
    return counts


def _added(lake: Lake, load: Callable[[Item], Iterable[pa.RecordBatch]] | None, item: Item) -> IngestCounts:
    import pyarrow.compute as pc

    counts = IngestCounts()
    batches = load(item) if load is not None else (item,)
    for prepared in map(prepare, batches):
        added = commit(lake, prepared)
        found = len(prepared.attestations) + len(prepared.quarantine)
        counts.submissions += found
        counts.added += added[0]
        counts.quarantined += added[1]
        counts.known += found - sum(added)
        counts.size += pc.sum(prepared.attestations.column("size")).as_py() or 0
    return counts


def commit(lake: Lake, rows: Prepared) -> tuple[int, int]:
    """Write the rows of a batch.

    Returns:
        Attestations, and rows in quarantine, that were new.
    """
    before = _removals(lake)
    lake.append(BLOBS, rows.blobs, key=("sha256",))
    lake.append(PROFILE_EVENTS, rows.events, key=("profile", "index"))
    lake.append(PROFILES, rows.profiles, key=("profile",))
    quarantined = lake.append(QUARANTINE, rows.quarantine, key=("attestation",))
    added = lake.append(ATTESTATIONS, rows.attestations, key=("attestation",))
    if _removals(lake) != before:
        # contents that nothing referred to yet may have been removed between the two
        lake.append(BLOBS, rows.blobs, key=("sha256",))
    return added, quarantined


def _removals(lake: Lake) -> int:
    found = lake.delta(BLOBS)
    return (found.transaction_version(GARBAGE) or 0) if found is not None else 0


def batches_of(
    submissions: Iterable[Submission], store: VerifierStore, received: datetime
) -> Iterator[pa.RecordBatch]:
    """Gather submissions to batches of bounded size."""
    import pyarrow as pa

    rows: list[dict[str, object]] = []
    size = 0
    for submission in submissions:
        files = [{"name": file.name, "data": file.data} for file in submission.files]
        known = [{"name": file.name, "data": file.data} for file in store.files_of(submission.machine)]
        rows.append(
            {
                "machine": submission.machine,
                "source": submission.source,
                "received": received,
                "reason": submission.reason,
                "evidence": submission.evidence,
                "files": files,
                "verifier": known,
            }
        )
        size += sum(len(file.data or b"") for file in submission.files)
        if len(rows) >= BATCH_MACHINES or size >= BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(rows, schema=submission_schema())
            rows, size = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=submission_schema())
