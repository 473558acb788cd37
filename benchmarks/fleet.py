"""The lake at scale: a fleet simulated in flight is ingested, its size compared, statistics timed.

python benchmarks/fleet.py --machines 1000000 [--distinct 0.01] [--own] [--workers 2] [--lake DIR]
    [--scale 32768] [--json]

One run measures all: ingest with its peak of memory and its rate in each quarter, the lake's size, statistics
before and after compaction, and one worker against two, for ingest and for evaluation (`--scale 0`: not).
Another process simulates, and the clock stands while it is waited for. For one worker against two, evidence
is simulated beforehand and lies in files that the workers read.

Logs are the lab's real boots, varied (`cvmlab.fleet.vary`); `--distinct` of the machines have a boot of their
own, the others share one. With `--own` every machine also has its own partition table, so no two logs are
equal. Nonces, signatures and keys are random bytes: ingest does not verify. Verdicts for the statistics are
simulated rows, not derived.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.ingest import BATCH_MACHINES, IngestCounts, ingest_batches
from cvmlab.fleet.lake.prepare import submission_schema
from cvmlab.fleet.lake.run import DaskRunner, Runner, runner
from cvmlab.fleet.lake.schema import arrow_table, versions
from cvmlab.fleet.vary import vary_log
from cvmlab.tables_lake import ATTESTATIONS, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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


def fleet(machines: int, distinct: float, own: bool) -> Iterator[pa.RecordBatch]:
    """Simulate batches of submissions."""
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


@contextlib.contextmanager
def simulated(machines: int, distinct: float, own: bool) -> Iterator[Iterator[pa.RecordBatch]]:
    """Simulate in another process, so that neither its time nor its memory is taken for the ingest's."""
    command = [
        sys.executable,
        __file__,
        "--simulate",
        "--machines",
        str(machines),
        "--distinct",
        str(distinct),
    ]
    command += ["--own"] if own else []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with pa.ipc.open_stream(process.stdout) as stream:
            yield iter(stream)


def simulate(given: argparse.Namespace) -> None:
    """Write the batches of `fleet` as an Arrow stream."""
    with pa.ipc.new_stream(sys.stdout.buffer, submission_schema()) as stream:
        for batch in fleet(given.machines, given.distinct, given.own):
            stream.write_batch(batch)


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


def asked(place: Path) -> dict[str, object]:
    """Ask in a process of its own, whose memory is that of the questions."""
    command = [sys.executable, __file__, "--statistics", "--lake", str(place)]
    answer: dict[str, object] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return answer


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
    options.add_argument("--scale", type=int, default=32_768, metavar="MACHINES")
    options.add_argument("--lake", type=Path)
    options.add_argument("--statistics", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--simulate", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    if given.simulate:
        simulate(given)
        return
    if given.statistics:
        print(json.dumps(statistics(str(given.lake))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        found: dict[str, object] = {"load average before": [round(one, 1) for one in os.getloadavg()]}
        if given.machines:
            found |= measure(given, given.lake or Path(temporary) / "lake")
        if given.scale:
            found["one worker against two"] = scale(given, Path(temporary))
        found["load average after"] = [round(one, 1) for one in os.getloadavg()]
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


def show(found: dict[str, object], indent: str = "") -> None:
    """Print what was measured, a line for each figure."""
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name}: {value}")


def measure(given: argparse.Namespace, place: Path) -> dict[str, object]:
    """Ingest what is simulated meanwhile, ask, compact, and ask again."""
    from cvmlab.fleet.lake.care import compact

    lake = Lake(place)
    seen = [0, 0]
    # machines, seconds without waiting for the simulation, peak of memory: after each batch
    marks: list[tuple[int, float, int]] = []
    with runner(workers=given.workers) as run:
        warm(run, given.workers)
        waited = [0.0]
        start = time.perf_counter()

        def progress(counts: IngestCounts) -> None:
            marks.append((counts.submissions, time.perf_counter() - start - waited[0], peak()))

        with simulated(given.machines, given.distinct, given.own) as batches:
            counts = ingest_batches(lake, _timed(batches, waited, seen), run=run, progress=progress)
        took = time.perf_counter() - start - waited[0]
    lake_bytes = size_of(place)
    simulate_verdicts(lake)
    before = asked(place)
    began = time.perf_counter()
    compact(lake, vacuum_hours=0)
    compacted = time.perf_counter() - began
    quarters = [marks[max(0, len(marks) * part // 4 - 1)] for part in (1, 2, 3, 4)]
    rates = [
        round((last[0] - first[0]) / max(1e-9, last[1] - first[1]))
        for first, last in zip([(0, 0.0, 0), *quarters], quarters, strict=False)
    ]
    return {
        "machines": counts.added,
        "workers": given.workers,
        "ingest, s, without waiting for the simulation": round(took, 1),
        "waited for the simulation, s": round(waited[0], 1),
        "machines a second": round(counts.added / took),
        "machines a second, by quarter": rates,
        "ingest peak RSS, MiB, after each quarter": [mark[2] for mark in quarters],
        "raw, MiB": seen[0] >> 20,
        "raw logs, MiB": seen[1] >> 20,
        "lake, MiB": lake_bytes >> 20,
        "lake of raw": round(lake_bytes / seen[0], 4),
        "lake of raw logs": round(lake_bytes / seen[1], 4),
        "statistics": before,
        "compaction, s": round(compacted, 1),
        "lake after compaction, verdicts included, MiB": size_of(place) >> 20,
        "statistics after compaction": asked(place),
    }


def warm(run: Runner, workers: int) -> None:
    """Let every process load compiled code, or make it, before the clock runs."""
    for _ in run.map(_warm, [None] * max(1, 2 * workers)):
        pass


def _warm(_: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ingest_batches(Lake(folder), fleet(4, 1, False))


def _timed(
    batches: Iterator[pa.RecordBatch], waited: list[float], seen: list[int]
) -> Iterator[pa.RecordBatch]:
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        waited[0] += time.perf_counter() - start
        if batch is None:
            return
        data = batch.column("files").flatten().field("data")
        seen[0] += pc.sum(pc.binary_length(data)).as_py()
        first = pa.array(
            batch.column("files").offsets.to_numpy()[:-1] - batch.column("files").offsets[0].as_py()
        )
        seen[1] += pc.sum(pc.binary_length(data.take(first))).as_py()
        yield batch


def stored(path: str) -> Iterable[pa.RecordBatch]:
    """Read batches of submissions from a file."""
    with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def scale(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Measure one worker against two, for ingest and for evaluation."""
    import cvmlab
    from cvmlab.evidence import load_context
    from cvmlab.fleet.lake.evaluation import evaluate

    paths = []
    with simulated(given.scale, given.distinct, True) as batches:
        for number, batch in enumerate(batches):
            paths.append(str(folder / f"batch{number}"))
            with pa.OSFile(paths[-1], "wb") as file, pa.ipc.new_stream(file, batch.schema) as stream:
                stream.write_batch(batch)
    judged = Lake(folder / "judged")
    ingest_batches(judged, paths[: max(2, len(paths) // 4)], load=stored)
    baseline = cvmlab.load_baseline(BOOTS.parent / "baseline.json")
    context = load_context(trust_roots=[BOOTS / "trust-root.pem"])

    def take(run: Runner, workers: int) -> int:
        return ingest_batches(Lake(folder / f"lake{workers}"), paths, load=stored, run=run).added

    def judge(run: Runner, workers: int) -> int:
        # another time is another derivation, so all is judged again
        return evaluate(judged, baseline, replace(context, at=RECEIVED + timedelta(workers)), run=run)

    works = {"ingest": take, "evaluation": judge}

    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in works}
    for workers in (1, 2):
        for name, work in works.items():
            with runner(workers=workers) as run:
                warm(run, workers)
                found[name][workers] = _clocked(run, partial(work, run, workers))
    return {name: _compared(one[1], one[2]) for name, one in found.items()}


def _clocked(run: Runner, work: Callable[[], int]) -> dict[str, float]:
    """Time work, and the processor time of this process, scheduler included, and of the workers."""
    assert isinstance(run, DaskRunner)
    before = sum(run.client.run(time.process_time).values())
    own, start = time.process_time(), time.perf_counter()
    machines = work()
    took, here = time.perf_counter() - start, time.process_time() - own
    there = sum(run.client.run(time.process_time).values()) - before
    return {"machines": machines, "s": took, "processor here, s": here, "processor workers, s": there}


def _compared(one: dict[str, float], two: dict[str, float]) -> dict[str, object]:
    work = one["processor workers, s"]
    return {
        "one": {name: round(value, 2) for name, value in one.items()},
        "two": {name: round(value, 2) for name, value in two.items()},
        "two against one": round(one["s"] / two["s"], 2),
        "share of this process in all processor time": round(
            one["processor here, s"] / (work + one["processor here, s"]), 3
        ),
        "at most, by processor time on two cores": round(
            2 * one["s"] / max(one["s"], work + one["processor here, s"]), 2
        ),
    }


if __name__ == "__main__":
    main()
