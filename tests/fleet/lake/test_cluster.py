"""On a cluster the lake becomes what it becomes in one process, also where a worker is killed meanwhile."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import cvmlab
from cvmlab.errors import CvmlabError
from cvmlab.evidence import load_context
from cvmlab.evidence.model import CollateralClaim
from cvmlab.fleet.lake import Lake, evaluation
from cvmlab.fleet.lake import ingest as module
from cvmlab.fleet.lake.ingest import ingest, ingest_paths
from cvmlab.fleet.lake.run import DaskRunner, runner
from cvmlab.fleet.lake.sent import make_sendable
from cvmlab.fleet.lake.submissions import VerifierStore, find_submissions
from cvmlab.tables_lake import ATTESTATIONS, FINDINGS, QUARANTINE, VERDICTS
from cvmlab.tokens.jwks import SigningKey

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


def verdicts(lake: Lake) -> list[str]:
    """What was judged, without when: texts, causes and places included."""
    found = [
        {name: value for name, value in row.items() if name != "evaluated"}
        for table in (VERDICTS, FINDINGS, QUARANTINE)
        for row in lake.read(table).to_pylist()
    ]
    return sorted(json.dumps(row, default=str) for row in found)


# distributed warns about what the machine it runs on has no part in
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_worker_killed_while_judging_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(evaluation, "BATCH", 4)
    folders = [boot for boot in sorted(BOOTS.iterdir()) if boot.is_dir()]
    received = datetime(2026, 1, 31, tzinfo=UTC)
    # the verifier's own files are taken from its store: here, what the lab wrote beside each boot
    store = VerifierStore(BOOTS)
    alone, together = Lake(tmp_path / "alone"), Lake(tmp_path / "together")
    for lake in (alone, together):
        assert ingest_paths(lake, folders, store=store, received=received).added > 20
    baseline = cvmlab.load_baseline(BOOTS.parent / "baseline.json")
    # roots, revocation lists and keys of services are sent to the workers, too
    context = load_context(trust_roots=[BOOTS / "trust-root.pem"])
    total = evaluation.evaluate(alone, baseline, context)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        killed: list[int] = []

        def once(_: int) -> None:
            if not killed:
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

        run = DaskRunner(client, shared=True)
        added = evaluation.evaluate(together, baseline, context, run=run, progress=once)
        assert evaluation.evaluate(together, baseline, context, run=run) == 0
    assert killed
    # a verdict that the killed one wrote, and did not say, is there and not counted
    assert added <= total == len(together.read(VERDICTS))
    assert verdicts(together) == verdicts(alone)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_workers_read_what_lies_where_they_see_it(tmp_path: Path) -> None:
    alone, together = Lake(tmp_path / "alone"), Lake(tmp_path / "together")
    there = ingest_paths(alone, [BOOTS])
    with runner(workers=2) as run:
        assert run.shared
        assert ingest_paths(together, [BOOTS], run=run) == there
        assert ingest(together, find_submissions([BOOTS]), run=run).known == there.submissions
    assert rows(together) == rows(alone)


def test_what_the_verifier_knows_comes_back_from_its_way(tmp_path: Path) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]
    signing = tuple(SigningKey(str(n), key.public_key(), "", (), "jwks") for n, key in enumerate(keys))
    roots = load_context(trust_roots=[BOOTS / "trust-root.pem"])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now)
    listed = CollateralClaim("crl", "crl", made.sign(keys[0], hashes.SHA256()))
    context = replace(roots, jwks=signing, collateral=(listed,))
    make_sendable(context)
    back = pickle.loads(pickle.dumps(context))
    assert back.trust_roots == context.trust_roots
    assert back.context_hash == context.context_hash
    assert back.collateral[0].value == listed.value


def test_scheduler_that_does_not_answer_is_said() -> None:
    with pytest.raises(CvmlabError, match="no Dask scheduler answers"), runner("nonsense://127.0.0.1:1"):
        pass
