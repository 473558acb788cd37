"""Fetch what processors' makers publish about a processor; nothing is fetched unless the analyst asks.

Three services: AMD's key distribution (certificates of chips, chains, revocation lists), Intel's provisioning
certification (TCB info, QE identity, revocation lists), and Azure's THIM, which a VM asks about its own host.
What comes back counts only by its makers' signatures, so a wrong answer delays a judgement, no more.
Sources: AMD 57230, section 4; Intel, *PCS API* version 4; Microsoft, *Trusted Hardware Identity Management*.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError, ParseError
from cvmlab.evidence.hardware import read_hardware
from cvmlab.findings import Problem
from cvmlab.tee.hcl import HclReport
from cvmlab.tee.processor import amd_extensions, pck_extensions, role_of_certificate
from cvmlab.tee.snp import SnpReport
from cvmlab.tee.tdx import TdQuote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

    from cryptography import x509

    from cvmlab.evidence.model import Evidence

MAX_ANSWER: Final = 4 << 20
"""Largest answer taken, in bytes; a large revocation list has some 100 KB."""

MAX_REQUESTS: Final = 32
"""Most requests for one evidence."""

FRESH: Final = 24 * 3600
"""Seconds for which a cached answer that can change is not asked for again."""

_CHAIN_HEADERS: Final = (
    "TCB-Info-Issuer-Chain",
    "SGX-TCB-Info-Issuer-Chain",
    "SGX-Enclave-Identity-Issuer-Chain",
    "SGX-PCK-CRL-Issuer-Chain",
)
_PRODUCTS: Final = {
    "Milan": "Milan",
    "Genoa": "Genoa",
    "Bergamo": "Genoa",
    "Siena": "Genoa",
    "Turin": "Turin",
}
_TURIN_CHIP_ID: Final = 8


@dataclass(frozen=True, slots=True)
class Services:
    """Where to ask, and how long to wait.

    Attributes:
        amd_kds: AMD's key distribution service.
        intel_pcs: Intel's provisioning certification service, or a cache with the same paths (Azure has one
            at ``https://global.acccache.azure.net``).
        intel_certificates: Where Intel publishes the revocation list of its root.
        azure_thim: Azure's service for a VM about its own host: ``http://169.254.169.254`` on that VM.
            Empty: not asked, since it knows no other machine.
        timeout: Seconds for one request.
    """

    amd_kds: str = "https://kdsintf.amd.com"
    intel_pcs: str = "https://api.trustedservices.intel.com"
    intel_certificates: str = "https://certificates.trustedservices.intel.com"
    azure_thim: str = ""
    timeout: float = 10.0

    @classmethod
    def of(cls, pairs: list[str]) -> Services:
        """Make one from ``NAME=URL`` texts, with names such as ``amd-kds``.

        Raises:
            EvidenceError: There is no such service, or the URL is not http or https.
        """
        found: dict[str, str] = {}
        for pair in pairs:
            name, _, url = pair.partition("=")
            key = name.replace("-", "_")
            if key not in ("amd_kds", "intel_pcs", "intel_certificates", "azure_thim"):
                raise EvidenceError(
                    f"{name!r} is no service; there are amd-kds, intel-pcs, intel-certificates and azure-thim"
                )
            if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
                raise EvidenceError(f"{url!r} is no http or https URL")
            found[key] = url.rstrip("/")
        return cls(**found)  # type: ignore[arg-type]


@dataclass(slots=True)
class Fetched:
    """What came back.

    Attributes:
        files: Files in the cache, to be given as collateral.
        problems: What could not be fetched.
    """

    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def cache_folder() -> Path:
    """Return the folder for fetched collateral: ``$XDG_CACHE_HOME/cvmlab``, else ``~/.cache/cvmlab``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cvmlab" / "collateral"


def fetch_collateral(
    evidence: Evidence, services: Services | None = None, *, cache: str | Path | None = None
) -> Fetched:
    """Fetch certificates, revocation lists, TCB info and QE identity for the reports of an evidence.

    Args:
        evidence: The claims: chip identities, TCBs and PCK certificates say what to ask for.
        services: Where to ask; the makers' own services by default.
        cache: Folder for answers; `cache_folder` by default. Certificates of chips never change; other
            answers are asked for again after a day, and an older one serves where the service does not.

    Returns:
        Files and problems. A service that does not answer is a problem, never an error.

    Raises:
        EvidenceError: The cache folder cannot be written.
    """
    where = services or Services()
    fetcher = _Fetcher(Path(cache) if cache is not None else cache_folder(), where.timeout)
    for count, (url, forever) in enumerate(dict.fromkeys(_wanted(evidence, where))):
        if count >= MAX_REQUESTS:
            fetcher.found.problems.append(Problem(url, 0, "request", f"more than {MAX_REQUESTS} requests"))
            break
        fetcher.fetch(url, forever=forever)
    return fetcher.found


def _wanted(evidence: Evidence, services: Services) -> Iterator[tuple[str, bool]]:
    """URLs to ask, each with whether the answer can never change."""
    leaves = [c.certificate for c in evidence.certificates if c.role == "processor"]
    for claim in evidence.hardware:
        report = claim.report.hardware if isinstance(claim.report, HclReport) else claim.report
        if isinstance(report, SnpReport):
            yield from _amd(report, leaves, services)
        elif isinstance(report, TdQuote):
            yield from _intel(leaves, services)


def _amd(report: SnpReport, leaves: list[x509.Certificate], services: Services) -> Iterator[tuple[str, bool]]:
    keys = [c for c in leaves if role_of_certificate(c) in ("VCEK", "VLEK")]
    kind = "vlek" if report.signing_key == "VLEK" else "vcek"
    products = [report.product]
    for key in keys:
        try:
            products.append(_PRODUCTS.get(amd_extensions(key, source="certificate").product, ""))
        except ParseError:
            continue
    product = next((name for name in products if name), "")
    if not keys and services.azure_thim:
        yield f"{services.azure_thim}/metadata/THIM/amd/certification", False
    # a report of version 2 does not say its product; no product after Genoa has one
    for name in [product] if product else ["Milan", "Genoa"]:
        base = f"{services.amd_kds}/{kind}/v1/{name}"
        if not keys and kind == "vcek" and any(report.chip_id):
            tcb = report.reported_tcb
            chip = report.chip_id[:_TURIN_CHIP_ID] if name == "Turin" else report.chip_id
            levels = {
                "blSPL": tcb.boot_loader,
                "teeSPL": tcb.tee,
                "snpSPL": tcb.snp,
                "ucodeSPL": tcb.microcode,
            }
            if tcb.fmc is not None:
                levels = {"fmcSPL": tcb.fmc, **levels}
            yield f"{base}/{chip.hex()}?{urllib.parse.urlencode(levels)}", True
        yield f"{base}/cert_chain", False
        yield f"{base}/crl", False


def _intel(leaves: list[x509.Certificate], services: Services) -> Iterator[tuple[str, bool]]:
    for leaf in leaves:
        if role_of_certificate(leaf) != "PCK":
            continue
        try:
            fmspc = pck_extensions(leaf, source="certificate").fmspc.hex()
        except ParseError:
            continue
        pcs = services.intel_pcs
        yield f"{pcs}/tdx/certification/v4/tcb?fmspc={fmspc}", False
        yield f"{pcs}/tdx/certification/v4/qe/identity", False
        authority = "processor" if "Processor" in leaf.issuer.rfc4514_string() else "platform"
        yield f"{pcs}/sgx/certification/v4/pckcrl?ca={authority}&encoding=der", False
        yield f"{services.intel_certificates}/IntelSGXRootCA.der", False


def _opener(*, proxies: bool) -> urllib.request.OpenerDirector:
    """An opener for http and https alone, which follows no redirect: the services have none."""
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler(None if proxies else {}))
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Fetcher:
    """Asks a cache first, then a service."""

    def __init__(self, cache: Path, timeout: float) -> None:
        self.found = Fetched()
        self._cache, self._timeout = cache, timeout
        # link-local services must not be asked through a proxy
        self._direct, self._opener = _opener(proxies=False), _opener(proxies=True)
        try:
            cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EvidenceError(f"{cache}: the cache cannot be made: {error.strerror or error}") from error

    def fetch(self, url: str, *, forever: bool) -> None:
        path = self._cache / _file_name(url)
        chain = path.with_name(path.name + ".chain.pem")
        age = _age(path)
        if age is not None and (forever or age < FRESH):
            self._take(path, chain)
            return
        try:
            data, headers = self._ask(url)
        except (OSError, ValueError) as error:
            note = f"not fetched: {error}"
            if age is not None:
                note += f"; an answer of {age / 3600:.0f} hours ago is used"
                self._take(path, chain)
            self.found.problems.append(Problem(url, 0, "request", note))
            return
        _write(path, data)
        if issuers := _issuers(headers):
            _write(chain, issuers)
        self._take(path, chain)

    def _take(self, path: Path, chain: Path) -> None:
        self.found.files += [file for file in (path, chain) if file.is_file()]

    def _ask(self, url: str) -> tuple[bytes, Message]:
        headers = {"Metadata": "true", "User-Agent": "cvmlab"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the opener knows http alone
        local = (urllib.parse.urlsplit(url).hostname or "").startswith("169.254.")
        opener = self._direct if local else self._opener
        with opener.open(request, timeout=self._timeout) as answer:
            data = answer.read(MAX_ANSWER + 1)
            found = answer.headers
        if len(data) > MAX_ANSWER:
            raise ValueError(f"the answer has more than {MAX_ANSWER >> 20} MiB")
        try:
            read_hardware(data, source="answer")
        except ParseError as error:
            why = "the answer is no certificate, revocation list or collateral"
            raise ValueError(f"{why}: {error.message}") from error
        return data, found


def _issuers(headers: Message) -> bytes:
    """The issuers' certificates that Intel's service hands over in a header, as PEM."""
    for name in _CHAIN_HEADERS:
        if text := headers.get(name):
            return urllib.parse.unquote(text).encode("ascii", "ignore")
    return b""


def _file_name(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{parts.hostname}{parts.path}").strip("-")[:80]
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def _age(path: Path) -> float | None:
    """Seconds since a file was written; None where there is none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise EvidenceError(f"{path}: the cache cannot be written: {error.strerror or error}") from error
