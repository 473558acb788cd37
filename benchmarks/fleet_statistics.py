"""Status, alerts and statistics of a fleet of generated tables: time of each question and peak of memory.

Run: python benchmarks/fleet_statistics.py [MACHINES]. The tables are in memory, as a lake's scan gives them;
nothing in them is of a real machine.
"""

from __future__ import annotations

import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cvmlab.fleet import statistics as stats
from cvmlab.fleet.alerts import conditions, step
from cvmlab.fleet.status import integrity_score, machines_schema, reports_schema, status_table

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def coded(values: list[str], codes: np.ndarray) -> pa.Array:
    """Return an Arrow text column of values by their codes."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), values).cast(pa.string())


def tables(size: int) -> dict[str, pa.Table]:
    """Generate one day of a fleet: 1 % distinct boots, 3 % failed, one report a machine."""
    rng = np.random.default_rng(7)
    names = pa.array([f"/subscriptions/{n % 9}/vm-{n}" for n in range(size)])
    failed = rng.random(size) < 0.03
    profile = rng.integers(0, max(1, size // 100), size)
    times = pa.array(
        np.datetime64("2026-03-01") + rng.integers(0, 86_400, size).astype("timedelta64[s]")
    ).cast(pa.timestamp("us", "UTC"))
    digests = coded([f"{n:064x}" for n in range(profile.max() + 1)], profile)
    causes = coded(["kernel-changed", "secure-boot-disabled", "nonce-mismatch"], rng.integers(0, 3, size))
    none = pa.nulls(size, pa.string())
    flag = pa.array(failed)
    columns: dict[str, pa.Array] = {
        "machine": names,
        "received": times,
        "reset_count": pa.array(rng.integers(0, 50, size)),
        "verdict": coded(["trusted", "not-trusted"], failed.astype(np.int32)),
        "primary": pa.compute.if_else(flag, causes, none),
        "reason": pa.compute.if_else(flag, coded(["boot-deviates"], np.zeros(size, np.int32)), none),
        "profile": digests,
        "evidence_hash": names,
    }
    reports = pa.table(
        {field.name: columns.get(field.name, pa.nulls(size, field.type)) for field in reports_schema()},
        schema=reports_schema(),
    )
    known: dict[str, pa.Array] = {
        "machine": names,
        "vtpm": pa.array(np.ones(size, bool)),
        "extension": pa.array(np.ones(size, bool)),
        "known_since": times,
        "subscription": coded([f"s{n}" for n in range(9)], np.arange(size) % 9),
        "region": coded(["westeurope", "eastus", "northeurope"], rng.integers(0, 3, size)),
        "os": coded(["Linux", "Windows"], rng.integers(0, 2, size)),
        "size": coded([f"Standard_DC{n}as_v5" for n in (2, 4, 8, 16)], rng.integers(0, 4, size)),
        "scale_set": coded([f"set{n}" for n in range(200)], rng.integers(0, 200, size)),
    }
    machines = pa.table(
        {field.name: known.get(field.name, pa.nulls(size, field.type)) for field in machines_schema()},
        schema=machines_schema(),
    )
    judged = pa.table(
        {
            "machine": names,
            "recommendation": coded(["Secure Boot", "vTPM"], rng.integers(0, 2, size)),
            "state": coded(["Healthy", "Unhealthy", "NotApplicable"], rng.integers(0, 3, size)),
        }
    )
    values = pa.table(
        {
            "machine": names,
            "at": times,
            "name": coded(["profile"], np.zeros(size, np.int32)),
            "value": digests,
        }
    )
    return {"reports": reports, "machines": machines, "judged": judged, "values": values}


def main(size: int) -> None:
    """Time every question once and print a line for each."""
    made = tables(size)
    status = status_table(made["reports"], made["machines"], now=NOW)
    questions: dict[str, Callable[[], object]] = {
        "status": lambda: status_table(made["reports"], made["machines"], now=NOW),
        "integrity score": lambda: integrity_score(status, "subscription"),
        "compliance by 5 dimensions": lambda: stats.compliance(made["judged"], made["machines"]),
        "trend": lambda: stats.trend(made["reports"], "hour"),
        "shared causes": lambda: stats.shared_causes(status),
        "cohorts": lambda: stats.cohorts(status),
        "spread": lambda: stats.spread(made["values"]),
        "outliers": lambda: stats.outliers(made["values"]),
        "survival": lambda: stats.survival(made["values"], now=NOW, gone=timedelta(days=3)),
    }
    total = 0.0
    for name, question in questions.items():
        start = time.perf_counter()
        question()
        took = time.perf_counter() - start
        total += took
        print(f"{name:28} {took:6.2f} s")
    print(f"{'all statistics':28} {total:6.2f} s   (goal: 5 s)")
    start = time.perf_counter()
    lines = step({}, conditions(status, ()), now=NOW)
    print(f"{'alerts':28} {time.perf_counter() - start:6.2f} s   ({len(lines):,} opened)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'peak memory':28} {peak:6.2f} GiB (goal: 2 GiB), {size:,} machines, tables included")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
