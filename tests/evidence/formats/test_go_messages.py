"""Hardware reports back from go-tpm-tools' messages: byte for byte what the processor signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import containers
import pytest
from attest_messages import message, snp_report_message, td_quote_message
from quoting import NONCE, Machine

from cvmlab.errors import ParseError
from cvmlab.evidence import load_evidence
from cvmlab.evidence.formats import translate

if TYPE_CHECKING:
    from pathlib import Path

SNP = (
    "confidential-containers__trustee/deps/verifier/test_data/snp/test-report.bin",
    "confidential-containers__trustee/deps/verifier/test_data/snp/test-vlek-report.bin",
    "google__go-sev-guest/verify/testdata/attestation.bin",
    "microsoft__confidential-sidecar-containers/pkg/attest/test_data/snp_report.bin",
)
TD = (
    "google__go-tdx-guest/testing/testdata/tdx_prod_quote_SPR_E4.dat",
    "google__go-tdx-guest/testing/testdata/ccel/cos-113-tdx-quote.dat",
    "confidential-containers__trustee/deps/verifier/test_data/tdx_quote_4.dat",
    "confidential-containers__trustee/deps/verifier/test_data/az-tdx-vtpm/td-quote.bin",
)


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    made.quote()
    made.read_registers()
    made.files["ak.pub"] = containers.public(made)
    return made


def _part(data: bytes, name: str) -> bytes:
    found = translate(data, "x")
    assert found is not None
    assert not found.problems
    return next(part.data for part in found.parts if part.name == name)


@pytest.mark.parametrize("form", ["binary", "json", "text"])
@pytest.mark.parametrize("name", SNP)
def test_snp_report_is_rebuilt(corpus: Path, machine: Machine, name: str, form: str) -> None:
    raw = (corpus / "azure" / name).read_bytes()
    made = containers.attestation(machine.files)
    made.sev_snp_attestation.report.CopyFrom(snp_report_message(raw))
    assert _part(containers.encoded(made, form), "snp_report.bin") == raw


@pytest.mark.parametrize("form", ["binary", "json", "text"])
@pytest.mark.parametrize("name", TD)
def test_td_quote_is_rebuilt(corpus: Path, machine: Machine, name: str, form: str) -> None:
    raw = (corpus / "azure" / name).read_bytes()
    made = containers.attestation(machine.files)
    made.tdx_attestation.CopyFrom(td_quote_message(raw))
    assert _part(containers.encoded(made, form), "td_quote.bin") == raw


def test_quotes_of_every_bank_are_kept(tmp_path: Path) -> None:
    machine = Machine(banks=("sha1", "sha256", "sha384"))
    for bank in machine.banks:
        machine.quote((bank, range(24)), name=f"quote-{bank}")
    machine.read_registers()
    machine.files["ak.pub"] = containers.public(machine)
    quotes = [
        message(
            "Quote",
            quote=machine.files[f"quote-{bank}.msg"],
            raw_sig=machine.files[f"quote-{bank}.sig"],
            pcrs=message("PCRs", hash=number, pcrs=machine.values[bank]),
        )
        for bank, number in zip(machine.banks, (4, 11, 12), strict=True)
    ]
    made = message("Attestation", ak_pub=machine.files["ak.pub"][2:], quotes=quotes)
    for form in ("binary", "json", "text"):
        (tmp_path / "a").write_bytes(containers.encoded(made, form))
        evidence = load_evidence(tmp_path / "a")
        assert [quote.name for quote in evidence.quotes] == ["quote-sha1", "quote-sha256", "quote-sha384"]
        wanted = [{bank: machine.values[bank]} for bank in machine.banks]
        assert [dict(reading.values) for reading in evidence.readings] == wanted
        assert not evidence.problems


def test_canonical_log_is_what_userspace_measured(machine: Machine) -> None:
    made = containers.attestation(machine.files)
    made.canonical_event_log = b"\x00" + (8).to_bytes(4, "big") + bytes(8)
    assert _part(containers.encoded(made, "binary"), "userspace.log") == made.canonical_event_log


def test_field_of_a_later_version_is_kept_out_and_said(machine: Machine) -> None:
    made = containers.attestation(machine.files)
    made.later_field = b"something new"
    found = translate(containers.encoded(made, "binary"), "x")
    assert found is not None
    assert "field 12" in found.note()


def test_message_that_is_cut_is_known_by_its_key(machine: Machine) -> None:
    """Behind the key any cut is an error of this format, never a file of nobody's."""
    data = containers.gotpm_binary(machine.files)
    for size in range(300, len(data) - 1, 97):
        with pytest.raises(ParseError):
            translate(data[:size], "x")


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda data: data[:-1], "event_log|field|need"),
        (lambda data: data[: len(data) // 2], "need"),
        (lambda data: data + b"\x0a\x01\x00", "occurs twice"),
        (lambda data: data + b"\x10\x01", "wire type"),
        (lambda data: data + b"\x07", "starts no field"),
        (lambda data: data + b"\x98", "varint"),
    ],
    ids=["cut_by_one", "cut_in_half", "key_twice", "quotes_as_number", "group", "tag_without_end"],
)  # fmt: skip
def test_damaged_message_is_an_error_with_its_place(machine: Machine, edit: object, word: str) -> None:
    assert callable(edit)
    data = edit(containers.gotpm_binary(machine.files))
    with pytest.raises(ParseError, match=word) as caught:
        translate(data, "att.bin")
    assert caught.value.source == "att.bin"
    assert 0 <= caught.value.offset <= len(data)


def test_nonce_in_no_file_is_the_verifiers(machine: Machine, tmp_path: Path) -> None:
    """The nonce that a dump states is no knowledge of the verifier's."""
    from cvmlab import investigate

    dump = containers.go_dump(machine.files)
    dump["Quote"]["Nonce"] = containers.b64(NONCE)
    import json

    (tmp_path / "dump").write_text(json.dumps(dump))
    result = investigate(tmp_path / "dump")
    assert result.assessment.link("nonce").status == "not-checked"
    assert "Nonce" in next(f.note for f in result.evidence.files if f.role == "container")


def test_report_as_go_writes_a_oneof(corpus: Path, machine: Machine) -> None:
    """``encoding/json`` of the generated types: the interface's name, then the variant's."""
    import json

    from google.protobuf import json_format

    raw = (corpus / "azure" / SNP[0]).read_bytes()
    document = containers.constellation(machine.files, go_names=True)
    report = json_format.MessageToDict(snp_report_message(raw), preserving_proto_field_name=True)
    document["Attestation"]["TeeAttestation"] = {"SevSnpAttestation": {"report": report}}
    assert _part(json.dumps(document).encode(), "snp_report.bin") == raw


def test_report_with_a_field_of_another_size_is_left_out(corpus: Path, machine: Machine) -> None:
    raw = (corpus / "azure" / SNP[0]).read_bytes()
    made = containers.attestation(machine.files)
    made.sev_snp_attestation.report.CopyFrom(snp_report_message(raw))
    made.sev_snp_attestation.report.chip_id = raw[:63]
    found = translate(containers.encoded(made, "binary"), "x")
    assert found is not None
    assert "snp_report.bin" not in {part.name for part in found.parts}
    assert "quote.msg" in {part.name.replace("-sha256", "") for part in found.parts}
    assert [problem.field for problem in found.problems] == ["sev_snp_attestation.report.chip_id"]
