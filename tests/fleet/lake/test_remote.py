"""A lake in object storage: a server of that protocol runs on this machine, on the loopback alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.ask import sql
from cvmlab.fleet.lake.blobs import Blobs
from cvmlab.fleet.lake.care import compact
from cvmlab.fleet.lake.ingest import ingest
from cvmlab.fleet.lake.submissions import find_submissions
from cvmlab.tables_lake import QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOTS = Path(__file__).resolve().parents[3] / "sample_data" / "boots"


WRITER = """
import json, sys
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.lake.schema import arrow_table, versions
from cvmlab.tables_lake import QUARANTINE
from datetime import UTC, datetime
place, options, writer = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
at = datetime(2026, 1, 31, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
lake, added = Lake(place, storage_options=options), 0
for number in range(8):
    rows = [
        {"attestation": name, "machine": name, "received": at, "day": "2026-01-31", "source": writer,
         "reason": "a test", "file_names": [], "blobs": [], **versions()}
        for name in (f"both-{number}", f"{writer}-{number}")
    ]
    added += lake.append(QUARANTINE, arrow_table(QUARANTINE, rows), key=["attestation"])
print(added, flush=True)
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, str]]]:
    moto: Any = pytest.importorskip("moto.server")
    responses: Any = pytest.importorskip("moto.s3.responses").S3Response
    # S3 decides a conditional write atomically; this server looks and writes in two steps, each request in
    # a thread of its own
    put, one_at_a_time = responses.put_object, threading.Lock()

    def put_object(self: Any) -> Any:
        with one_at_a_time:
            return put(self)

    monkeypatch.setattr(responses, "put_object", put_object)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with urlopen(Request(f"{address}/fleet", method="PUT")):
        pass
    options = {
        "endpoint_url": address,
        "allow_http": "true",
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
        "virtual_hosted_style_request": "false",
    }
    yield "s3://fleet/lake", options
    server.stop()


# the server's own libraries warn of each other
@pytest.mark.filterwarnings("ignore")
def test_lake_in_object_storage_is_what_it_is_in_a_folder(
    tmp_path: Path, place: tuple[str, dict[str, str]]
) -> None:
    paths = [BOOTS / "baseline", BOOTS / "cmdline_changed"]
    local, remote = Lake(tmp_path / "lake"), Lake(place[0], storage_options=place[1])
    for lake in (local, remote):
        assert ingest(lake, find_submissions(paths)).added == 2
        assert ingest(lake, find_submissions(paths)).known == 2
    query = "select attestation, blobs, profile from attestations order by machine"
    rows = sql(local, query).to_pylist()
    assert sql(remote, query).to_pylist() == rows
    compact(remote, vacuum_hours=0)
    names = [name for row in rows for name in row["blobs"]]
    assert Blobs(remote).get(names) == Blobs(local).get(names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_processes_that_write_at_once_lose_and_double_nothing(place: tuple[str, dict[str, str]]) -> None:
    command = [sys.executable, "-c", WRITER, place[0], json.dumps(place[1])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers: list[Any] = [subprocess.Popen([*command, name], **pipes) for name in ("one", "two", "three")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    added = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    found = Lake(place[0], storage_options=place[1]).read(QUARANTINE).column("machine").to_pylist()
    wanted = [f"{who}-{number}" for who in ("both", "one", "two", "three") for number in range(8)]
    assert sorted(found) == sorted(wanted)
    assert sum(added) == len(wanted)
