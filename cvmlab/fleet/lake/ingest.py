"""Submissions into the lake: by content, so that what is there is not added; row by row whole or not at all.

The row in ``attestations`` is written last: whoever stops before it has written only contents and profiles,
which are by content too, and the next run finds them. So an ingest that was killed is simply run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.lake.prepare import Prepared, prepare, submission_schema
from cvmlab.fleet.lake.run import Runner
from cvmlab.fleet.lake.submissions import VerifierStore
from cvmlab.tables_lake import ATTESTATIONS, BLOBS, PROFILE_EVENTS, PROFILES, QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from cvmlab.fleet.lake.store import Lake
    from cvmlab.fleet.lake.submissions import Submission

BATCH_MACHINES: Final = 4096
BATCH_BYTES: Final = 128 << 20
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
        run: Where batches are prepared; in this process by default.
        progress: Called after each batch.

    Raises:
        EvidenceError: The lake cannot be written.
    """
    batches = batches_of(submissions, store or VerifierStore(None), received or datetime.now(UTC))
    return ingest_batches(lake, batches, run=run, progress=progress)


def ingest_batches(
    lake: Lake,
    batches: Iterable[pa.RecordBatch],
    *,
    run: Runner | None = None,
    progress: Callable[[IngestCounts], None] | None = None,
) -> IngestCounts:
    """Add batches of submissions (`cvmlab.fleet.lake.prepare.submission_schema`) to the lake."""
    counts = IngestCounts()
    for prepared in (run or Runner()).map(prepare, batches):
        added = commit(lake, prepared)
        found = len(prepared.attestations) + len(prepared.quarantine)
        counts.submissions += found
        counts.added += added[0]
        counts.quarantined += added[1]
        counts.known += found - sum(added)
        counts.size += sum(prepared.attestations.column("size").to_pylist())
        if progress is not None:
            progress(counts)
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
