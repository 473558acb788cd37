"""Measure logs in batches: frame, replay of every bank, digest check with SHA-256 of all data, Arrow columns.

Usage: python benchmarks/batch.py [--logs N] [--batch N] [--repeat N] [--stages]. Nothing here asserts.
Logs are real ones of the lab, mixed, each varied into the log of another machine and boot; the share of
events that no other log has is counted, not assumed. In the same run: the same work log by log, and
tpm2_eventlog as a process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cvmlab.eventlog import read_event_log
from cvmlab.fleet import batch_fast
from cvmlab.fleet.batch import process_logs
from cvmlab.fleet.batch_columns import to_record_batch
from cvmlab.fleet.batch_plain import read_plain
from cvmlab.fleet.vary import vary_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
EVENTS, SIZE = 66, 26_000
"""Events and bytes that a log has at least: what a cloud's VM with Secure Boot writes."""


def models() -> list[bytes]:
    """Return the lab's whole logs of three banks, brought to size by events of their own."""
    found = []
    for path in sorted((ROOT / "sample_data" / "boots").glob("*/eventlog.bin")):
        data = path.read_bytes()
        log = read_event_log(data)
        if log.problems or len(log.banks) < 3:
            continue
        bounds = [*(event.offset for event in log.events), log.end]
        pieces = [data[start:end] for start, end in pairwise(bounds)]
        more = [piece for piece, event in zip(pieces, log.events, strict=True) if event.extends]
        row = 0
        while len(pieces) < EVENTS or sum(map(len, pieces)) < SIZE:
            pieces.append(more[row % len(more)])
            row += 1
        found.append(b"".join(pieces))
    return found


def unique_share(logs: Sequence[bytes]) -> float:
    """Return the share of events that are in one log only."""
    seen: dict[bytes, int] = {}
    for number, data in enumerate(logs):
        log = read_event_log(data)
        bounds = [*(event.offset for event in log.events), log.end]
        for start, end in pairwise(bounds):
            piece = data[start:end]
            seen[piece] = number if seen.get(piece, number) == number else -1
    events = sum(len(read_event_log(data).events) for data in logs)
    return sum(owner >= 0 for owner in seen.values()) / events


def best(action: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Return the shortest time of a call: (by the clock, of the processor), in seconds."""
    walls, cores = [], []
    action()
    for _ in range(repeat):
        wall, core = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    return min(walls), min(cores)


def peer(logs: Sequence[bytes]) -> float | None:
    """Return the time of a tpm2_eventlog process for one log, in seconds; None where it is not installed."""
    tool = shutil.which("tpm2_eventlog")
    if tool is None:
        return None
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for data in logs:
            Path(file.name).write_bytes(data)
            start = time.perf_counter()
            subprocess.run(
                [tool, file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            times.append(time.perf_counter() - start)
    return min(times)


def stages(batch: pa.RecordBatch) -> list[tuple[str, float]]:
    """Return what each stage of one call took, in seconds."""
    spent: dict[str, float] = {}
    names = {
        "frame_logs": "frame",
        "_survey": "survey",
        "_intern": "tell events apart",
        "Distinct": "hash and check distinct events",
        "_replay": "replay",
        "_register_columns": "registers",
    }
    kept = {name: getattr(batch_fast, name) for name in names}

    def timed(name: str) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            start = time.perf_counter()
            result = kept[name](*arguments)
            spent[names[name]] = spent.get(names[name], 0.0) + time.perf_counter() - start
            return result

        return run

    for name in names:
        setattr(batch_fast, name, timed(name))
    try:
        start = time.perf_counter()
        process_logs(batch)
        whole = time.perf_counter() - start
    finally:
        for name, function in kept.items():
            setattr(batch_fast, name, function)
    return [*spent.items(), ("columns and Arrow", whole - sum(spent.values()))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=512, help="logs in a batch")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--stages", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    bases = models()
    print(f"{options.logs} logs of {len(bases)} boots in batches of {options.batch}, one core")
    print(f"  {'unique':>7} {'events':>7} {'KB':>6} {'us a log':>9} {'of CPU':>7} {'log by log':>11} "
          f"{'tpm2_eventlog':>14}")  # fmt: skip
    for share in (0.0, 0.3, 0.5, 1.0):
        logs = [
            bases[i % len(bases)] if not share else vary_log(bases[i % len(bases)], i, share)
            for i in range(options.logs)
        ]
        batches = [
            pa.record_batch({"log": pa.array(logs[i : i + options.batch], pa.binary())})
            for i in range(0, len(logs), options.batch)
        ]
        wall, core = best(lambda batches=batches: [process_logs(batch) for batch in batches], options.repeat)
        few = logs[:48]
        naive, _ = best(lambda few=few: to_record_batch([read_plain(few, "log")], None), 3)
        other = peer(few[:20])
        events = float(np.mean([len(read_event_log(data).events) for data in few]))
        size = sum(map(len, logs)) / len(logs) / 1e3
        shown = f"{other * 1e6:10.0f} us" if other is not None else "not installed"
        print(
            f"  {unique_share(logs[:512]):7.0%} {events:7.0f} {size:6.1f} {wall / len(logs) * 1e6:9.1f} "
            f"{core / len(logs) * 1e6:7.1f} {naive / len(few) * 1e6:8.0f} us {shown:>14}"
        )
        if options.stages:
            for name, seconds in stages(batches[0]):
                print(f"          {name:32} {seconds / batches[0].num_rows * 1e6:8.1f} us")


if __name__ == "__main__":
    main()
