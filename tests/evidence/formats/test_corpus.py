"""Real files of other tools: every answer of the corpus' EXPECTED.json, computed there by another program."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import containers
import pytest

from cvmlab import investigate
from cvmlab.evidence import load_evidence
from cvmlab.tee import HclReport, SnpReport, TdQuote
from cvmlab.tpm.attest import parse_attest
from cvmlab.tpm.quote import check_quote

if TYPE_CHECKING:
    from pathlib import Path

TRUSTEE = "confidential-containers__trustee/deps/verifier/test_data"
KINVOLK = "kinvolk__azure-cvm-tooling/az-cvm-vtpm/test"
REFERENCE = "agentrust-io__agent-manifest/python/tests/fixtures/reference/ms-tpm-20-ref-v183"
WHOLE = [
    *(f"{TRUSTEE}/az-snp-vtpm/evidence-{name}.json" for name in ("genoa", "v0", "v1", "v2")),
    *(f"{TRUSTEE}/az-tdx-vtpm/evidence-{name}.json" for name in ("v0", "v1")),
]
# a quote alone, and the HCL report of the same VM that names its key
ALONE = {
    f"{TRUSTEE}/az-snp-vtpm/quote.bin": f"{TRUSTEE}/az-snp-vtpm/hcl-report.bin",
    f"{TRUSTEE}/az-tdx-vtpm/quote.bin": f"{TRUSTEE}/az-tdx-vtpm/hcl-report.bin",
    f"{KINVOLK}/quote.bin": f"{KINVOLK}/akpub.pem",
}


@pytest.fixture(scope="module")
def azure(corpus: Path) -> Path:
    return corpus / "azure"


@pytest.fixture(scope="module")
def expected(azure: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((azure / "EXPECTED.json").read_text())
    return found


def _same_quote(message: bytes, want: dict[str, Any]) -> None:
    attest = parse_attest(message, source="x")
    assert attest.extra_data.hex() == want["extra"]
    assert attest.clock_info.clock == want["clock"]
    assert attest.clock_info.reset_count == want["reset"]
    assert attest.clock_info.restart_count == want["restart"]
    assert attest.clock_info.safe == bool(want["safe"])
    assert attest.qualified_signer.hex() == want["qs"]
    assert attest.pcr_digest.hex() == want["digest"]
    assert f"0x{attest.firmware_version:016x}" == want["fw"]
    assert [list(item.registers) for item in attest.selections] == [registers for _, registers in want["sel"]]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_evidence(azure: Path, expected: dict[str, Any], tmp_path: Path, name: str) -> None:
    want = expected[name]
    file = tmp_path / "anything"
    shutil.copy(azure / name, file)
    evidence = load_evidence(file)
    assert not evidence.problems
    (quote,) = evidence.quotes
    _same_quote(quote.message, want["attest"])
    (reading,) = evidence.readings
    values = reading.values["sha256"]
    assert [values[index].hex() for index in range(24)] == want["pcrs"]
    (report,) = (claim.report for claim in evidence.hardware if claim.kind == "hcl-report")
    assert isinstance(report, HclReport)
    assert report.claims_raw.decode() == want["hcl"]["runtime_data"]
    assert report.bound is want["hcl"]["binding_ok"] is True
    key = next(claim.key for claim in evidence.keys if claim.role == "ak")
    assert key is not None
    nonce = bytes.fromhex(want["attest"]["extra"])
    checked = check_quote(quote.message, quote.signature, key, nonce=nonce, values=reading.values)
    assert (checked["signature"].status == "holds") is want["quote_sig_ok"]
    assert (checked["registers"].status == "holds") is want["pcr_digest_ok"]
    assert checked["nonce"].status == "holds"
    result = investigate(file, nonce=nonce)
    if isinstance(report.hardware, SnpReport):
        assert (result.assessment.hardware.checks[0].signed is True) is want["snp_sig_ok"]
    else:
        assert any(isinstance(claim.report, TdQuote) for claim in evidence.hardware)
        assert want["td_quote_report_data_equals_tdreport"]
        assert result.assessment.hardware.checks[0].signed
    # what nothing proves to be old or new does not become trusted by lying in another tool's file
    assert result.verdict == "inconclusive"


@pytest.mark.parametrize("name", ALONE)
def test_quote_of_az_cvm_vtpm_beside_the_key(
    azure: Path, expected: dict[str, Any], tmp_path: Path, name: str
) -> None:
    want = expected[name]
    shutil.copy(azure / name, tmp_path / "q")
    shutil.copy(azure / ALONE[name], tmp_path / "k")
    evidence = load_evidence(tmp_path)
    (quote,) = evidence.quotes
    _same_quote(quote.message, want["attest"])
    assert quote.signature is not None
    assert quote.signature.hex() == want["sig_hex"]
    values = evidence.readings[0].values["sha256"]
    assert [values[index].hex() for index in range(24)] == want["pcrs"]
    result = investigate(tmp_path, nonce=bytes.fromhex(want["attest"]["extra"]))
    status = {link.name: link.status for link in result.chain}
    # the key beside trustee's quotes is of another boot of the VM: facts on Azure, section A, and the README
    own_key = status["quote"] == "holds"
    assert (status["register-values"] == "holds") is own_key
    if name.startswith("kinvolk"):
        assert own_key


def test_quote_alone_in_trustee_json(azure: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    """``tpm-quote-v1.json`` is the quote of ``quote.bin`` in the newer form."""
    for folder in ("az-snp-vtpm", "az-tdx-vtpm"):
        shutil.copy(azure / TRUSTEE / folder / "tpm-quote-v1.json", tmp_path / "q")
        (quote,) = load_evidence(tmp_path).quotes
        _same_quote(quote.message, expected[f"{TRUSTEE}/{folder}/quote.bin"]["attest"])


def test_plain_tpm_evidence_of_trustee(azure: Path, tmp_path: Path) -> None:
    shutil.copy(azure / TRUSTEE / "tpm_evidence.json", tmp_path / "x")
    result = investigate(tmp_path / "x")
    status = {link.name: link.status for link in result.chain}
    assert (status["quote"], status["register-values"], status["nonce"]) == ("holds", "holds", "not-checked")
    assert status["key-binding"] == "not-checked"


def test_quote_that_its_report_does_not_sign_is_found(
    azure: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    """INVENTORY: ``tpm-quote.sig`` does not verify under the key of ``hcl-report.bin``."""
    for name, as_ in (("tpm-quote.msg", "1"), ("tpm-quote.sig", "2"), ("hcl-report.bin", "3")):
        shutil.copy(azure / TRUSTEE / "az-snp-vtpm" / name, tmp_path / as_)
    evidence = load_evidence(tmp_path)
    _same_quote(evidence.quotes[0].message, expected[f"{TRUSTEE}/az-snp-vtpm/tpm-quote.msg"]["attest"])
    result = investigate(tmp_path, nonce=b"challenge")
    assert result.assessment.link("quote").status == "broken"
    assert "quote-signature-invalid" in {cause.code for cause in result.causes}


@pytest.mark.parametrize("scheme", ["ecdsa-sha384", "rsapss-sha256", "rsassa-sha256", "rsassa-sha384"])
def test_reference_quotes_under_any_name(azure: Path, tmp_path: Path, scheme: str) -> None:
    """Microsoft's reference TPM: attest, TPMT_SIGNATURE and certificate chain, known by content alone."""
    folder = tmp_path / "e"
    folder.mkdir()
    for number, part in enumerate(("attest.bin", "tpmt-signature.bin", "ak-chain.pem")):
        shutil.copy(azure / REFERENCE / f"{scheme}-{part}", folder / f"file{number}")
    nonce = (azure / REFERENCE / "nonce.hex").read_text().strip()
    root = azure / REFERENCE / f"{scheme}-root.pem"
    result = investigate(folder, nonce=nonce, trust_roots=[root], at="2026-06-01")
    status = {link.name: link.status for link in result.chain}
    assert status["quote"] == status["nonce"] == "holds"
    assert status["key-certificate"] in ("holds", "broken")
    roles = {file.name: file.role for file in result.evidence.files}
    assert roles == {"file0": "quote", "file1": "signature", "file2": "certificate"}


def test_runtime_claims_go_with_the_report_that_binds_them(azure: Path, tmp_path: Path) -> None:
    """``var-data.bin`` is no claim of the reports beside it: that is said, and its keys are not taken."""
    report = (azure / TRUSTEE / "az-snp-vtpm/hcl-report.bin").read_bytes()
    size = int.from_bytes(report[0x4D0:0x4D4], "little")
    claims = report[0x4D4 : 0x4D4 + size]
    (tmp_path / "a").write_bytes(report[0x20:0x4C0])
    (tmp_path / "b").write_bytes(claims)
    evidence = load_evidence(tmp_path)
    (claim,) = evidence.hardware
    assert isinstance(claim.report, HclReport)
    assert claim.report.bound
    assert {key.role for key in evidence.keys} == {"ak", "ek"}
    (tmp_path / "b").write_bytes((azure / KINVOLK / "var-data.bin").read_bytes())
    other = load_evidence(tmp_path).hardware[0]
    assert isinstance(other.report, HclReport)
    assert not other.report.bound
    (tmp_path / "a").unlink()
    alone = load_evidence(tmp_path)
    assert not alone.keys
    assert any("runtime claims" in problem.message for problem in alone.problems)


def test_td_quote_and_runtime_claims_without_tdreport(azure: Path, tmp_path: Path) -> None:
    """As Constellation and AttestationInfo hand them on: the TD quote itself binds the claims."""
    evidence = json.loads((azure / TRUSTEE / "az-tdx-vtpm/evidence-v0.json").read_text())
    report = bytes(evidence["hcl_report"])
    size = int.from_bytes(report[0x4D0:0x4D4], "little")
    (tmp_path / "a").write_bytes(bytes(evidence["td_quote"]))
    (tmp_path / "b").write_bytes(report[0x4D4 : 0x4D4 + size])
    (tmp_path / "c").write_bytes(json.dumps(evidence["tpm_quote"]).encode())
    result = investigate(tmp_path, nonce=b"challenge")
    status = {link.name: link.status for link in result.chain}
    names = ("hardware-root", "key-binding", "quote", "nonce", "register-values")
    assert [status[name] for name in names] == ["holds"] * 5
    assert not result.assessment.hardware.registers
    assert "td-quote" in set(result.hardware()["kind"])


def _tdx(azure: Path) -> tuple[bytes, bytes, bytes, bytes, list[bytes]]:
    """TD quote, runtime claims, message, signature and register values of Azure's TDX sample."""
    evidence = json.loads((azure / TRUSTEE / "az-tdx-vtpm/evidence-v0.json").read_text())
    report, quote = bytes(evidence["hcl_report"]), evidence["tpm_quote"]
    size = int.from_bytes(report[0x4D0:0x4D4], "little")
    values = [bytes(value) for value in quote["pcrs"]]
    claims = report[0x4D4 : 0x4D4 + size]
    return bytes(evidence["td_quote"]), claims, bytes(quote["message"]), bytes(quote["signature"]), values


@pytest.mark.parametrize("form", ["constellation", "maa", "maa_encoded_twice"])
def test_td_quote_inside_other_tools_documents(azure: Path, tmp_path: Path, form: str) -> None:
    td_quote, claims, message, signature, values = _tdx(azure)
    proof = td_quote if form == "maa" else containers.b64url(td_quote).encode()
    pcrs = {str(index): containers.b64(value) for index, value in enumerate(values)}
    quote = {"quote": containers.b64(message), "rawSig": containers.b64(signature)}
    info = {"AttestationReport": containers.b64(td_quote), "RuntimeData": containers.b64(claims)}
    documents: dict[str, Any] = {
        "constellation": {
            "Attestation": {"quotes": [{**quote, "pcrs": {"hash": "SHA256", "pcrs": pcrs}}]},
            "InstanceInfo": containers.b64(json.dumps(info).encode()),
            "UserData": None,
        },
        "maa": {
            "AttestationProtocolVersion": "2.0",
            "TpmInfo": {
                "PcrQuote": quote["quote"],
                "PcrSignature": quote["rawSig"],
                "PCRs": [{"Index": int(index), "Digest": digest} for index, digest in pcrs.items()],
            },
            "IsolationInfo": {
                "Type": "Tdx",
                "Evidence": {"Proof": containers.b64(proof), "RunTimeData": containers.b64(claims)},
            },
        },
    }
    (tmp_path / "x").write_text(json.dumps(documents[form.partition("_")[0]]))
    result = investigate(tmp_path / "x", nonce=b"challenge")
    assert not result.evidence.problems
    status = {link.name: link.status for link in result.chain}
    names = ("hardware-root", "key-binding", "quote", "nonce", "register-values")
    assert [status[name] for name in names] == ["holds"] * 5


def test_constellation_on_trusted_launch(tmp_path: Path, sample_data: Path) -> None:
    """The key's certificate and its issuer come in ``InstanceInfo``; the root is the verifier's."""
    folder = sample_data / "azure" / "good"
    files = containers.files_of(folder)
    issuer = containers.der(files["ca-vtpm.pem"])
    info = {"AkCert": containers.b64(files["ak.crt"] + bytes(500)), "CA": containers.b64(issuer)}
    bare = {name: data for name, data in files.items() if name not in ("ak.crt", "ca-vtpm.pem")}
    (tmp_path / "x").write_text(json.dumps(containers.constellation(bare, info)))
    root = sample_data / "azure" / "roots" / "vtpm.pem"
    result = investigate(tmp_path / "x", nonce=files["nonce.hex"].decode().strip(), trust_roots=[root])
    status = {link.name: link.status for link in result.chain}
    assert (status["key-certificate"], status["quote"], status["nonce"]) == ("holds", "holds", "holds")
