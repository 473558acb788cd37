"""The lake at scale: a fleet simulated in flight is ingested, its size compared, statistics timed.

python benchmarks/fleet.py --machines 1000000 [--distinct 0.01] [--own] [--workers 2] [--lake DIR] [--json]

Logs are the lab's real boots, varied (`cvmlab.fleet.vary`); `--distinct` of the machines have a boot of their
own, the others share one. With `--own` every machine also has its own partition table, so no two logs are
equal. Nonces, signatures and keys are random bytes: ingest does not verify. Verdicts for the statistics are
simulated rows, not derived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.ingest import BATCH_MACHINES, IngestCounts, ingest_batches
from cvmlab.fleet.lake.prepare import submission_schema
from cvmlab.fleet.lake.run import runner
from cvmlab.fleet.lake.schema import arrow_table, versions
from cvmlab.fleet.vary import vary_log
from cvmlab.tables_lake import ATTESTATIONS, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOTS = Path(__file__).resolve().parents[1] / "sample_data" / "boots"
NAMES = ("baseline", "cmdline_changed", "dbx_updated", "secureboot_disabled", "boot_order_changed")
RECEIVED = datetime(2026, 1, 31, 12, tzinfo=UTC)
STATISTICS = {
    "verdicts": "select verdict, reason, count(distinct machine) from latest_verdicts group by all",
    "cohorts": "select profile, count(distinct machine) n, min(received) from attestations group by 1 "
    "order by n desc limit 20",
    "codes": "select code, count(distinct machine) from (select unnest(codes) code, machine from verdicts) "
    "group by 1 order by 2 desc",
    "spread of a value": "select registers[5] value, count(distinct machine) n, min(received) "
    "from attestations group by 1 order by n desc limit 20",
    "rare": "select profile, any_value(machine) from attestations group by 1 having count(*) = 1 limit 20",
    "told apart": "select e.digest, count(distinct e.profile) from (select profile, sha256 digest "
    "from events where register = 4) e group by 1 order by 2 desc limit 20",
}


def fleet(machines: int, distinct: float, own: bool, seen: list[int]) -> Iterator[pa.RecordBatch]:
    """Simulate batches of submissions; `seen` counts bytes of evidence and of logs."""
    source = random.Random(1)
    raw = [BOOTS.joinpath(name, "eventlog.bin").read_bytes() for name in NAMES]
    sizes = {
        name: BOOTS.joinpath("baseline", name).read_bytes()
        for name in ("quote.msg", "quote.sig", "ak.pub", "pcrs.yaml")
    }
    group = max(1, round(1 / distinct))
    rows = []
    log = b""
    for index in range(machines):
        if index % group == 0:
            log = vary_log(raw[index // group % len(raw)], f"boot {index}", 0.1)
        mine = vary_log(log, f"machine {index}", 0, kinds=("partition-table",)) if own else log
        message = sizes["quote.msg"]
        files = {
            "eventlog.bin": mine,
            "quote.msg": message[:46] + source.randbytes(20) + message[66:],
            "quote.sig": sizes["quote.sig"][:6] + source.randbytes(256),
            "ak.pub": sizes["ak.pub"][:-256] + source.randbytes(256),
            "pcrs.yaml": sizes["pcrs.yaml"],
        }
        seen[0] += sum(map(len, files.values()))
        seen[1] += len(mine)
        rows.append(
            {
                "machine": f"SIMULATED-vm-{index:07}",
                "source": "SIMULATED",
                "received": RECEIVED,
                "reason": "",
                "files": [{"name": name, "data": data} for name, data in files.items()],
                "verifier": [],
            }
        )
        if len(rows) == BATCH_MACHINES or index == machines - 1:
            yield pa.RecordBatch.from_pylist(rows, schema=submission_schema())
            rows = []


def simulate_verdicts(lake: Lake) -> None:
    """Write a verdict for each attestation; the statistics need rows, whatever they say."""
    columns = ["attestation", "machine", "received", "day", "profile"]
    for batch in lake.dataset(ATTESTATIONS).to_batches(columns=columns, batch_size=1 << 16):
        rows = []
        for row in batch.to_pylist():
            bad = int(row["attestation"][:4], 16) % 50 == 0
            rows.append(
                {
                    **row,
                    "verdict": "not-trusted" if bad else "trusted",
                    "primary": "kernel-command-line-changed" if bad else None,
                    "reason": "boot-deviates" if bad else None,
                    "codes": ["kernel-command-line-changed"] if bad else [],
                    "summary": "SIMULATED",
                    "evidence_hash": row["attestation"],
                    "baseline_hash": "00",
                    "context_hash": "00",
                    "derivation": "SIMULATED",
                    "evaluated": RECEIVED,
                    **versions(),
                }
            )
        if rows:
            lake.append(VERDICTS, arrow_table(VERDICTS, rows))


def statistics(place: str) -> dict[str, float]:
    """Time the questions of a fleet, each from a fresh connection."""
    from cvmlab.fleet.lake.ask import sql

    lake = Lake(place)
    found: dict[str, float] = {}
    start = time.perf_counter()
    for name, query in STATISTICS.items():
        began = time.perf_counter()
        sql(lake, query)
        found[f"{name}, s"] = round(time.perf_counter() - began, 2)
    found["all, s"] = round(time.perf_counter() - start, 2)
    found["peak RSS, MiB"] = peak()
    return found


def peak() -> int:
    """Return the peak of resident memory, MiB; what getrusage says is inherited from the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Measure what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--machines", type=int, default=20_000)
    options.add_argument("--distinct", type=float, default=0.01)
    options.add_argument("--own", action="store_true")
    options.add_argument("--workers", type=int, default=0)
    options.add_argument("--lake", type=Path)
    options.add_argument("--statistics", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if given.statistics:
        print(json.dumps(statistics(str(given.lake))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = given.lake or Path(temporary) / "lake"
        print(json.dumps(measure(given, place), indent=2))


def measure(given: argparse.Namespace, place: Path) -> dict[str, object]:
    """Simulate, ingest, ask."""
    lake = Lake(place)
    seen = [0, 0]
    peaks: list[tuple[int, int]] = []

    def progress(counts: IngestCounts) -> None:
        peaks.append((counts.submissions, peak()))

    load = os.getloadavg()
    with runner(workers=given.workers) as run:
        # compiled code is loaded, or made, before the clock runs
        for _ in run.map(_warm, [None] * max(1, 2 * given.workers)):
            pass
        start = time.perf_counter()
        batches = _timed(fleet(given.machines, given.distinct, given.own, seen), made := [0.0])
        counts = ingest_batches(lake, batches, run=run, progress=progress)
        took = time.perf_counter() - start
    lake_bytes = size_of(place)
    simulate_verdicts(lake)
    command = [sys.executable, __file__, "--statistics", "--lake", str(place)]
    asked = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "machines": counts.added,
        "load average before": [round(one, 1) for one in load],
        "workers": given.workers,
        "ingest, s, without simulating": round(took - made[0], 1),
        "simulating, s": round(made[0], 1),
        "machines a second": round(counts.added / (took - made[0])),
        "raw, MiB": seen[0] >> 20,
        "raw logs, MiB": seen[1] >> 20,
        "lake, MiB": lake_bytes >> 20,
        "lake of raw": round(lake_bytes / seen[0], 4),
        "lake of raw logs": round(lake_bytes / seen[1], 4),
        "ingest peak RSS, MiB, at machines": [peaks[len(peaks) * part // 4 - 1] for part in (1, 2, 3, 4)],
        "statistics": asked,
    }


def _warm(_: object) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ingest_batches(Lake(folder), fleet(4, 1, False, [0, 0]))
    return sha256(b"warm").hexdigest()


def _timed(batches: Iterator[pa.RecordBatch], spent: list[float]) -> Iterator[pa.RecordBatch]:
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        spent[0] += time.perf_counter() - start
        if batch is None:
            return
        yield batch


if __name__ == "__main__":
    main()
