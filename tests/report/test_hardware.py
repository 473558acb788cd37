"""The section and the table of hardware reports: every field with its worth, nothing unescaped."""

from __future__ import annotations

from pathlib import Path

import pytest
from processors import NOW, amd, bound, hcl, intel, pem, runtime_claims
from quoting import software_key

import cvmlab
from cvmlab.tables import HARDWARE, check
from cvmlab.view import render_html, render_text

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "azure"
ROOTS = sorted((SAMPLES / "roots").glob("*.pem"))


def test_every_field_of_a_verified_report_is_proven_but_the_header() -> None:
    frame = cvmlab.investigate(SAMPLES / "good", trust_roots=ROOTS).hardware()
    assert check(frame, HARDWARE).empty
    worth = frame.groupby("kind", observed=True)["worth"].unique().map(set).to_dict()
    assert worth == {
        "hcl-report": {"unproven"}, "runtime-claims": {"proven"}, "snp-report": {"proven"},
        "certificate": {"proven"},
    }  # fmt: skip
    fields = frame.set_index("field")["value"]
    assert fields["vmUniqueId"] == "51a1ed00-c0de-4cde-8001-000000000001"
    assert fields["POLICY"] == "0x3001f"


@pytest.mark.parametrize("name", ["report_edited", "chain_of_another_root", "vcek_of_another_chip"])
def test_nothing_of_a_report_that_is_not_genuine_is_proven(name: str) -> None:
    frame = cvmlab.investigate(SAMPLES / name, trust_roots=ROOTS).hardware()
    assert set(frame[frame["kind"] == "snp-report"]["worth"]) == {"unproven"}


def test_claims_that_are_not_bound_are_not_proven() -> None:
    frame = cvmlab.investigate(SAMPLES / "claims_edited", trust_roots=ROOTS).hardware()
    assert set(frame[frame["kind"] == "runtime-claims"]["worth"]) == {"unproven"}
    assert set(frame[frame["kind"] == "snp-report"]["worth"]) == {"proven"}


def test_fields_of_a_td_are_shown(tmp_path: Path) -> None:
    platform = intel()
    folder = tmp_path / "evidence"
    folder.mkdir()
    claims = runtime_claims(software_key(0).public_key().public_numbers().n)
    data = bound(claims)
    files = {"h.bin": hcl(platform.td_report(data), claims, 4), "q.bin": platform.quote(data, version=5)}
    for name, content in (files | platform.collateral()).items():
        (folder / name).write_bytes(content)
    (tmp_path / "root.pem").write_bytes(pem(platform.root[0]))
    result = cvmlab.investigate(folder, trust_roots=tmp_path / "root.pem", at=NOW)
    frame = result.hardware()
    assert check(frame, HARDWARE).empty
    assert {"td-report", "td-quote"} <= set(frame["kind"])
    values = frame.set_index("field")["value"]
    assert (values["TCB"], values["FMSPC"]) == ("UpToDate", "90c06f000000")
    assert "Hardware" in render_text(result.document())


def test_evidence_without_report_has_an_empty_table_and_no_section() -> None:
    result = cvmlab.investigate(cvmlab.sample("baseline"))
    assert len(result.hardware()) == 0
    assert "Nothing to show" in render_text(result.view("hardware"))


def test_claims_of_a_hostile_report_are_shown_as_text(tmp_path: Path) -> None:
    claims = (
        b'{"keys": [], "vm-configuration": {"<script>alert(1)</script>": "\\u202e<img src=x>\\u001b[2J", '
        b'"vmUniqueId": ["deep", {"a": 1}]}}'
    )
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "hcl_report.bin").write_bytes(hcl(amd().report(bound(claims)), claims, 2))
    result = cvmlab.investigate(folder, at=NOW)
    for section in (result.document(), result.view("hardware")):
        page = render_html(section)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "\u202e" not in page
        assert "\x1b" not in render_text(section)
    assert check(result.hardware(), HARDWARE).empty
