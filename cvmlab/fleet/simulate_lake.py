"""A simulated fleet in a lake: what `fleet ingest` and `fleet watch` would have made of it, day by day."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cvmlab.baseline.learn import learn_baseline
from cvmlab.evidence.directory import evidence_of
from cvmlab.evidence.sources import RawFile
from cvmlab.fleet.inventory.read import read_inventory_bytes
from cvmlab.fleet.lake.evaluation import evaluate
from cvmlab.fleet.lake.ingest import BATCH_MACHINES, ingest_batches
from cvmlab.fleet.lake.prepare import submission_schema
from cvmlab.fleet.lake.records import keep_inventory
from cvmlab.fleet.recommend_lake import recommend_lake, record_recommendations
from cvmlab.fleet.simulate import START
from cvmlab.fleet.simulate_records import assessments_page, inventory_pages
from cvmlab.fleet.watch import Watcher
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.simulate import Fleet
    from cvmlab.fleet.suppression import SuppressionRule

EVENING: Final = timedelta(hours=12)
"""After the first report of a day: all of that day are in by then."""


def simulated_baseline(fleet: Fleet, *, updated: bool | None = None) -> Baseline:
    """Return a baseline learned from other machines of a simulated fleet, without any fault.

    Args:
        fleet: The fleet.
        updated: Whether the baseline knows machines with the update alone, or those without it alone; None
            for both.
    """
    known = fleet.context()
    good = []
    sides = (False, True) if updated is None else (updated,)
    for row in (row for side in sides for row in fleet.good(updated=side)):
        files: Any = row["files"]
        raw = [RawFile(one["name"], one["data"], len(one["data"])) for one in files]
        nonce: Any = row["nonce"]
        evidence = evidence_of(raw, source="SIMULATED", default_name="SIMULATED")
        good.append(assess(evidence, replace(known, nonce=nonce)))
    return learn_baseline(good, name="SIMULATED, updated" if updated else "SIMULATED")


def fill_lake(
    lake: Lake,
    fleet: Fleet,
    baseline: Baseline | None = None,
    *,
    rules: Sequence[SuppressionRule] = (),
    progress: Callable[[int], None] | None = None,
) -> datetime:
    """Write all days of a simulated fleet: records, evidence, verdicts, recommendations, alerts.

    Args:
        lake: The lake; an empty one.
        fleet: The fleet.
        baseline: The baseline; `simulated_baseline` by default.
        rules: Rules that hide alerts.
        progress: Called with the number of days that are done.

    Returns:
        The evening of the last day.
    """
    baseline = baseline or simulated_baseline(fleet)
    now = START
    for day in range(fleet.days):
        morning, now = START + timedelta(days=day), START + timedelta(days=day) + EVENING
        pages = [json.dumps(page).encode() for page in inventory_pages(fleet, day)]
        read = read_inventory_bytes(b"\n".join(pages), source="SIMULATED")
        said = read_inventory_bytes(json.dumps(assessments_page(fleet, read)).encode(), source="SIMULATED")
        both = replace(read, assessments=said.assessments)
        keep_inventory(lake, both, received=morning, import_=sha256(b"\n".join(pages)).hexdigest())
        ingest_batches(lake, submission_batches(fleet, day))
        evaluate(lake, baseline, fleet.context())
        record_recommendations(lake, recommend_lake(lake, now=now), now)
        Watcher(lake, rules).turn(now)
        if progress is not None:
            progress(day + 1)
    return now


def submission_batches(fleet: Fleet, day: int, size: int = BATCH_MACHINES) -> Iterator[pa.RecordBatch]:
    """Yield what the machines hand in on a day, in batches for `cvmlab.fleet.lake.ingest.ingest_batches`.

    Nothing touches a disk. Nonces come from the verifier's side, as they do in life.

    Args:
        fleet: The fleet.
        day: The day, from 0.
        size: Submissions of a batch.
    """
    import pyarrow as pa

    schema = submission_schema()
    rows: list[dict[str, object]] = []
    for row in fleet.rows(range(day, day + 1)):
        nonce: Any = row["nonce"]
        rows.append(
            {
                "machine": row["machine"],
                "source": "SIMULATED",
                "received": START + timedelta(days=day, seconds=len(rows) % 3600),
                "reason": "",
                "files": row["files"],
                "verifier": [{"name": "nonce.hex", "data": nonce.hex().encode()}],
            }
        )
        if len(rows) >= size:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)
