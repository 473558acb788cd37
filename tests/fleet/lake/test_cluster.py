"""On a cluster the lake becomes what it becomes in one process, also where a worker is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cvmlab.errors import CvmlabError
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake import ingest as module
from cvmlab.fleet.lake.ingest import ingest
from cvmlab.fleet.lake.run import DaskRunner, runner
from cvmlab.fleet.lake.submissions import find_submissions
from cvmlab.tables_lake import ATTESTATIONS

BOOTS = Path(__file__).resolve().parents[3] / "sample_data" / "boots"


def rows(lake: Lake) -> list[str]:
    wanted = ["attestation", "machine", "blobs", "profile", "registers", "size"]
    return sorted(json.dumps(row) for row in lake.read(ATTESTATIONS, columns=wanted).to_pylist())


# distributed warns about what the machine it runs on has no part in
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_killed_worker_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(module, "BATCH_MACHINES", 2)
    alone, together = Lake(tmp_path / "alone"), Lake(tmp_path / "together")
    ingest(alone, find_submissions([BOOTS]))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        killed = threading.Event()

        def kill() -> None:
            address, pid = next(iter(client.run(os.getpid).items()))
            time.sleep(0.3)
            assert address
            os.kill(pid, signal.SIGKILL)
            killed.set()

        def once(_: Any) -> None:
            if not killed.is_set():
                kill()

        counts = ingest(together, find_submissions([BOOTS]), run=DaskRunner(client), progress=once)
    assert killed.is_set()
    # what the killed one had written, and not said, was there when another did it again
    assert counts.submissions == counts.added + counts.known + counts.quarantined
    assert rows(together) == rows(alone)


def test_scheduler_that_does_not_answer_is_said() -> None:
    with pytest.raises(CvmlabError, match="no Dask scheduler answers"), runner("nonsense://127.0.0.1:1"):
        pass
