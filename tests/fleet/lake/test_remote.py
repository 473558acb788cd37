"""A lake in object storage: a server of that protocol runs on this machine, on the loopback alone."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOTS = Path(__file__).resolve().parents[3] / "sample_data" / "boots"


@pytest.fixture
def place() -> Iterator[tuple[str, dict[str, str]]]:
    moto: Any = pytest.importorskip("moto.server")
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
