"""Collateral is fetched from a server that plays AMD's, Intel's and Azure's services; loopback only."""

from __future__ import annotations

import os
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from processors import NOW, amd, bound, hcl, intel, pem, revocation_list, runtime_claims
from quoting import software_key

import cvmlab
from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_evidence
from cvmlab.evidence.fetch import MAX_ANSWER, Services, fetch_collateral

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processors import AmdChip

CLAIMS = runtime_claims(software_key(0).public_key().public_numbers().n)
Answers = dict[str, tuple[int, dict[str, str], bytes]]


class Server:
    """Plays a service: path with query to status, headers and body."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked[self.path] += 1
                outer.headers = dict(self.headers.items())
                time.sleep(outer.delay)
                status, headers, body = outer.answers.get(self.path, (404, {}, b"no"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that gave up
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        serve = self.http.serve_forever
        threading.Thread(target=serve, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def services(server: Server, **changed: object) -> Services:
    names = ("amd_kds", "intel_pcs", "intel_certificates")
    return Services(**{**dict.fromkeys(names, server.url), "timeout": 5.0, **changed})  # type: ignore[arg-type]


def play_amd(server: Server, chip: AmdChip) -> None:
    fmc, boot, tee, snp, microcode = chip.levels
    query = f"blSPL={boot}&teeSPL={tee}&snpSPL={snp}&ucodeSPL={microcode}"
    query = f"fmcSPL={fmc}&{query}" if chip.turin else query
    base = f"/vcek/v1/{chip.product}"
    from cryptography.hazmat.primitives.serialization import Encoding

    server.answers |= {
        f"{base}/{chip.chip.hex()}?{query}": (200, {}, chip.leaf.public_bytes(Encoding.DER)),
        f"{base}/cert_chain": (200, {}, pem(chip.ask[0], chip.ark[0])),
        f"{base}/crl": (200, {}, revocation_list(chip.ark)),
    }


def play_intel(server: Server) -> None:
    platform = intel()
    parts = platform.collateral()
    chain = urllib.parse.quote(parts["tcb_signing_chain.pem"].decode())
    crl_chain = urllib.parse.quote(pem(platform.platform[0], platform.root[0]).decode())
    server.answers |= {
        "/tdx/certification/v4/tcb?fmspc=90c06f000000": (
            200, {"TCB-Info-Issuer-Chain": chain}, parts["tcb_info.json"]),
        "/tdx/certification/v4/qe/identity": (
            200, {"SGX-Enclave-Identity-Issuer-Chain": chain}, parts["qe_identity.json"]),
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der": (
            200, {"SGX-PCK-CRL-Issuer-Chain": crl_chain}, parts["pck_crl.der"]),
        "/IntelSGXRootCA.der": (200, {}, parts["root_ca_crl.der"]),
    }  # fmt: skip


def snp_folder(tmp_path: Path, chip: AmdChip, **report: object) -> Path:
    folder = tmp_path / "evidence"
    folder.mkdir()
    data = hcl(chip.report(bound(CLAIMS), **report), CLAIMS, 2)  # type: ignore[arg-type]
    (folder / "hcl_report.bin").write_bytes(data)
    (tmp_path / "root.pem").write_bytes(pem(chip.ark[0]))
    return folder


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_certificate_of_the_chip_is_fetched_and_completes_the_chain(
    tmp_path: Path, server: Server, product: str
) -> None:
    chip = amd(product)
    play_amd(server, chip)
    folder = snp_folder(tmp_path, chip, version=5 if product == "Turin" else 3)
    settings = {"trust_roots": tmp_path / "root.pem", "at": NOW}
    without = cvmlab.investigate(folder, **settings)  # type: ignore[arg-type]
    assert [link.status for link in without.chain[:2]] == ["not-checked", "not-checked"]
    assert not server.asked
    found = cvmlab.investigate(
        folder, **settings, fetch_collateral=services(server), cache=tmp_path / "cache"  # type: ignore[arg-type]
    )  # fmt: skip
    assert [link.status for link in found.chain[:3]] == ["holds"] * 3
    assert f"not revoked by the list of ARK-{product}" in found.chain[0].why


def test_fetched_root_is_not_trusted_by_itself(tmp_path: Path, server: Server) -> None:
    play_amd(server, amd())
    folder = snp_folder(tmp_path, amd())
    found = cvmlab.investigate(folder, at=NOW, fetch_collateral=services(server), cache=tmp_path / "cache")
    assert found.primary is not None
    assert found.primary.code == "hardware-chain-untrusted"


def test_second_time_the_cache_answers(tmp_path: Path, server: Server) -> None:
    play_amd(server, amd())
    evidence = load_evidence(snp_folder(tmp_path, amd()))
    first = fetch_collateral(evidence, services(server), cache=tmp_path / "cache")
    asked = sum(server.asked.values())
    again = fetch_collateral(evidence, services(server), cache=tmp_path / "cache")
    assert (asked, sum(server.asked.values())) == (3, 3)
    assert first.files == again.files


def test_old_answers_are_asked_for_again_but_a_chip_s_certificate_is_not(
    tmp_path: Path, server: Server
) -> None:
    play_amd(server, amd())
    evidence = load_evidence(snp_folder(tmp_path, amd()))
    fetch_collateral(evidence, services(server), cache=tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        os.utime(path, (1, 1))
    fetch_collateral(evidence, services(server), cache=tmp_path / "cache")
    assert sorted(server.asked.values()) == [1, 2, 2]


def test_old_answer_serves_where_the_service_does_not(tmp_path: Path, server: Server) -> None:
    play_amd(server, amd())
    evidence = load_evidence(snp_folder(tmp_path, amd()))
    first = fetch_collateral(evidence, services(server), cache=tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        os.utime(path, (1, 1))
    server.answers.clear()
    again = fetch_collateral(evidence, services(server), cache=tmp_path / "cache")
    assert again.files == first.files
    assert all("hours ago is used" in str(problem) for problem in again.problems)


def test_intel_s_collateral_is_fetched_with_its_issuers(tmp_path: Path, server: Server) -> None:
    platform = intel()
    play_intel(server)
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "td_quote.bin").write_bytes(platform.quote())
    (tmp_path / "root.pem").write_bytes(pem(platform.root[0]))
    found = cvmlab.investigate(
        folder, trust_roots=tmp_path / "root.pem", at=NOW, fetch_collateral=services(server),
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert [link.status for link in found.chain[:3]] == ["holds"] * 3
    assert "up to date" in found.chain[1].why


def test_thim_is_asked_where_it_is_named(tmp_path: Path, server: Server) -> None:
    import json

    chip = amd()
    body = {
        "vcekCert": pem(chip.leaf).decode(), "tcbm": "DB18000000000004", "cacheControl": "86400",
        "certificateChain": pem(chip.ask[0], chip.ark[0]).decode(),
    }  # fmt: skip
    server.answers["/metadata/THIM/amd/certification"] = (200, {}, json.dumps(body).encode())
    folder = snp_folder(tmp_path, chip)
    found = cvmlab.investigate(
        folder, trust_roots=tmp_path / "root.pem", at=NOW, cache=tmp_path / "cache",
        fetch_collateral=services(server, azure_thim=server.url),
    )  # fmt: skip
    assert [link.status for link in found.chain[:3]] == ["holds"] * 3
    assert server.headers["Metadata"] == "true"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param((500, {}, b"x"), "500", id="server_error"),
        pytest.param((429, {}, b"x"), "429", id="too_many_requests"),
        pytest.param((302, {"Location": "http://127.0.0.1:9/x"}, b""), "302", id="redirect"),
        pytest.param((200, {}, b"<html>no</html>"), "no certificate", id="a_web_page"),
        pytest.param((200, {}, b""), "no certificate", id="nothing"),
        pytest.param((200, {}, b"\x30" * (MAX_ANSWER + 1)), "MiB", id="more_than_the_limit"),
    ],
)
def test_wrong_answers_are_problems_and_no_errors(
    tmp_path: Path, server: Server, answer: tuple[int, dict[str, str], bytes], says: str
) -> None:
    play_amd(server, amd())
    for path in server.answers:
        server.answers[path] = answer
    found = fetch_collateral(
        load_evidence(snp_folder(tmp_path, amd())), services(server), cache=tmp_path / "cache"
    )
    assert not found.files
    assert len(found.problems) == 3
    assert all(says in str(problem) for problem in found.problems)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".part"]


def test_service_that_does_not_answer_in_time_is_a_problem(tmp_path: Path, server: Server) -> None:
    play_amd(server, amd())
    server.delay = 1.0
    evidence = load_evidence(snp_folder(tmp_path, amd()))
    start = time.monotonic()
    found = fetch_collateral(evidence, services(server, timeout=0.1), cache=tmp_path / "cache")
    assert time.monotonic() - start < 3
    assert len(found.problems) == 3


def test_nobody_there_is_a_problem(tmp_path: Path) -> None:
    evidence = load_evidence(snp_folder(tmp_path, amd()))
    found = fetch_collateral(
        evidence, Services(amd_kds="http://127.0.0.1:9", timeout=1.0), cache=tmp_path / "cache"
    )
    assert len(found.problems) == 3


def test_other_schemes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\x30\x03\x02\x01\x01")
    evidence = load_evidence(snp_folder(tmp_path, amd()))
    found = fetch_collateral(evidence, Services(amd_kds=f"file://{tmp_path}"), cache=tmp_path / "cache")
    assert not found.files


@pytest.mark.parametrize("pair", ["amd-kds=file:///etc", "amd-kds=", "nothing=http://127.0.0.1", "x"])
def test_services_are_named_as_http_urls(pair: str) -> None:
    with pytest.raises(EvidenceError):
        Services.of([pair])


def test_services_are_read_from_options() -> None:
    found = Services.of(["amd-kds=http://127.0.0.1:1/", "intel-pcs=https://global.acccache.azure.net"])
    assert (found.amd_kds, found.intel_pcs) == ("http://127.0.0.1:1", "https://global.acccache.azure.net")


def test_cache_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EvidenceError):
        fetch_collateral(load_evidence(snp_folder(tmp_path, amd())), cache=tmp_path / "file" / "cache")


def test_evidence_without_hardware_asks_nothing(tmp_path: Path, server: Server) -> None:
    from quoting import public_area

    (tmp_path / "ak.pub").write_bytes(public_area(software_key(0)))
    fetch_collateral(load_evidence(tmp_path), services(server), cache=tmp_path / "cache")
    assert not server.asked
