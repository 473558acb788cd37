"""Hardware reports of real machines, field by field against values that an independent script read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import ParseError
from cvmlab.tee import (
    HclReport,
    SnpReport,
    parse_hcl_report,
    parse_snp_report,
    parse_td_quote,
    parse_td_report,
)
from cvmlab.tee.tdx import TdReport

AZURE = Path(os.environ.get("CVMLAB_CORPUS", "/nonexistent")) / "azure"
EXPECTED: dict[str, Any] = (
    json.loads((AZURE / "EXPECTED.json").read_text()) if (AZURE / "EXPECTED.json").exists() else {}
)


def _of(kind: str) -> list[str]:
    return [name for name, value in EXPECTED.items() if isinstance(value, dict) and value.get("kind") == kind]


def _snp(report: SnpReport, wanted: dict[str, Any]) -> None:
    for ours, theirs in (
        ("version", "version"), ("guest_svn", "guest_svn"), ("vmpl", "vmpl"), ("debug", "policy_debug"),
        ("migration", "policy_migrate_ma"), ("smt", "policy_smt"), ("single_socket", "policy_single_socket"),
        ("masked_chip", "mask_chip_key"), ("signature_algorithm", "signature_algo"),
    ):  # fmt: skip
        assert getattr(report, ours) == wanted[theirs], theirs
    for name in (
        "family_id", "image_id", "report_data", "measurement", "host_data", "id_key_digest",
        "author_key_digest", "report_id", "report_id_ma", "chip_id",
    ):  # fmt: skip
        assert getattr(report, name).hex() == wanted[name], name
    for name in ("policy", "platform_info", "key_info"):
        assert getattr(report, name) == int(wanted[name], 16), name
    for name in ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"):
        tcb = getattr(report, name)
        assert (tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode) == tuple(
            wanted[name][key] for key in ("bootloader", "tee", "snp", "microcode")
        )
    assert ".".join(map(str, report.current_version)) == wanted["current_version"]
    if report.version == 2:
        assert report.cpuid is None


def _tdreport(report: TdReport, wanted: dict[str, Any]) -> None:
    assert report.mr_td.hex() == wanted["mrtd"]
    assert report.mr_seam.hex() == wanted["mrseam"]
    assert report.report_data.hex() == wanted["report_data"]
    assert report.cpu_svn.hex() == wanted["cpusvn"]
    assert report.mac.hex() == wanted["mac"]
    assert [value.hex() for value in report.rtmr] == wanted["rtmr"]
    assert report.consistent


@pytest.mark.parametrize("name", _of("hcl_report"))
def test_hcl_report(corpus: Path, name: str) -> None:
    wanted = EXPECTED[name]
    report = parse_hcl_report((corpus / "azure" / name).read_bytes(), source=name)
    assert (report.version, report.report_size) == (wanted["header_version"], wanted["report_size"])
    assert report.bound == wanted["binding_ok"]
    assert hashlib.sha256(report.claims_raw).hexdigest() == wanted["runtime_data_sha256"]
    if "snp" in wanted and isinstance(report.hardware, SnpReport):
        _snp(report.hardware, wanted["snp"])
    if "td_report" in wanted and isinstance(report.hardware, TdReport):
        _tdreport(report.hardware, wanted["td_report"])
    assert ("snp" in wanted) == (report.report_type == "SNP")
    assert ("td_report" in wanted) == (report.report_type == "TDX")
    assert report.key("HCLAkPub") is not None


@pytest.mark.parametrize("name", _of("snp_report"))
def test_snp_report(corpus: Path, name: str) -> None:
    data = (corpus / "azure" / name).read_bytes()
    _snp(parse_snp_report(data[:1184], source=name), EXPECTED[name])


@pytest.mark.parametrize("name", _of("td_quote"))
def test_td_quote(corpus: Path, name: str) -> None:
    wanted = EXPECTED[name]
    quote = parse_td_quote((corpus / "azure" / name).read_bytes(), source=name)
    assert (quote.version, quote.attestation_key_type) == (wanted["version"], wanted["att_key_type"])
    assert quote.trailing == wanted["trailing_bytes"]
    assert quote.key_bound == wanted["qe_report_binding_ok"]
    for ours, theirs in (
        ("mr_td", "mrtd"), ("mr_seam", "mrseam"), ("report_data", "report_data"), ("xfam", "xfam"),
        ("td_attributes", "td_attributes"), ("tee_tcb_svn", "tee_tcb_svn"), ("user_data", "user_data"),
        ("qe_vendor", "qe_vendor_id"), ("mr_owner", "mrowner"), ("seam_attributes", "seam_attributes"),
    ):  # fmt: skip
        assert getattr(quote, ours).hex() == wanted[theirs], theirs
    assert [value.hex() for value in quote.rtmr] == wanted["rtmr"]
    if quote.body_type == 3:
        assert quote.tee_tcb_svn2.hex() == wanted["tee_tcb_svn2"]
        assert quote.mr_service_td.hex() == wanted["mrservicetd"]


def _hcl(claims: bytes = b'{"keys":[]}', report_type: int = 3, **changes: int) -> bytes:
    """An HCL report without hardware report, from the layout."""
    sizes = {"data": 20 + len(claims), "variable": len(claims), "report": 0x20 + 0x4A0 + 20 + len(claims)}
    sizes |= changes
    numbers = [1, sizes["report"], 2, 0]
    head = b"HCLA" + b"".join(n.to_bytes(4, "little") for n in numbers) + bytes(12)
    request = [sizes["data"], 1, report_type, sizes.get("hash", 1), sizes["variable"]]
    return head + bytes(0x4A0) + b"".join(n.to_bytes(4, "little") for n in request) + claims


def test_report_without_hardware_binds_nothing() -> None:
    report = parse_hcl_report(_hcl(), source="x")
    assert report.report_type == "TVM"
    assert not report.bound


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"", "signature", id="empty"),
        pytest.param(b"HCLB" + _hcl()[4:], "signature", id="other_signature"),
        pytest.param(_hcl(report_type=0), "report_type", id="report_type_invalid"),
        pytest.param(_hcl(report_type=99), "report_type", id="report_type_unknown"),
        pytest.param(_hcl(hash=9), "report_data_hash_type", id="hash_unknown"),
        pytest.param(_hcl(data=7), "data_size", id="sizes_contradict"),
        pytest.param(_hcl(variable=0xFFFFFFFF), "data_size", id="variable_size_maximum"),
        pytest.param(_hcl(b"[]"), "runtime_claims", id="claims_no_object"),
        pytest.param(_hcl(b"{"), "runtime_claims", id="claims_no_json"),
        pytest.param(_hcl(b'{"a":1,"a":2}'), "runtime_claims", id="claims_key_twice"),
        pytest.param(_hcl(b"\xff\xfe"), "runtime_claims", id="claims_no_utf8"),
        pytest.param(_hcl() + b"\x01", "padding", id="bytes_behind"),
        pytest.param(_hcl(report_type=2), "VERSION", id="no_snp_report_in_it"),
        pytest.param(_hcl(report_type=4), "REPORTTYPE.TYPE", id="no_tdreport_in_it"),
    ],
)
def test_damaged_hcl_report_is_refused_with_its_place(data: bytes, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_hcl_report(data, source="report")
    assert caught.value.field == field
    assert 0 <= caught.value.offset <= len(data)


def test_every_truncation_of_an_hcl_report_is_refused() -> None:
    whole = _hcl()
    for cut in range(len(whole)):
        with pytest.raises(ParseError):
            parse_hcl_report(whole[:cut], source="x")


@pytest.mark.parametrize("size", [0, 1, 1183, 1185])
def test_snp_report_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ParseError):
        parse_snp_report(bytes(size), source="x")


@pytest.mark.parametrize("size", [0, 1023, 1025])
def test_tdreport_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ParseError):
        parse_td_report(bytes(size), source="x")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=1500))
def test_random_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    for read in (parse_hcl_report, parse_snp_report, parse_td_quote, parse_td_report):
        with pytest.raises(ParseError):
            read(data, source="x")


def test_flipped_claim_is_not_bound(corpus: Path) -> None:
    name = next(n for n in _of("hcl_report") if EXPECTED[n]["binding_ok"])
    data = bytearray((corpus / "azure" / name).read_bytes())
    at = data.index(b'"keys"')
    data[at + 1] ^= 0x20
    report: HclReport = parse_hcl_report(bytes(data), source=name)
    assert not report.bound
