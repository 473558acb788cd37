"""Hardware reports of real machines against what an independent script computed, and against openssl.

The makers' roots lie in the corpus; they count because their fingerprints are pinned, not because they are
there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hardware import codes, judge, statuses
from needs import module

from cvmlab.evidence.certificates import read_certificates
from cvmlab.evidence.hardware import read_hardware, recognise
from cvmlab.tee import SnpReport, parse_td_quote
from cvmlab.tee.processor import amd_extensions, pck_extensions, role_of_certificate
from cvmlab.trust.roots import pin_of, pins
from cvmlab.trust.tdx import _verifies

if TYPE_CHECKING:
    from cryptography import x509

AZURE = Path(os.environ.get("CVMLAB_CORPUS", "/nonexistent")) / "azure"
EXPECTED: dict[str, Any] = (
    json.loads((AZURE / "EXPECTED.json").read_text()) if (AZURE / "EXPECTED.json").exists() else {}
)
TRUSTEE = "confidential-containers__trustee/deps/verifier/"
AMD_CHAINS = [f"{TRUSTEE}src/snp/{product}_ask_ark_asvk.pem" for product in ("milan", "genoa", "turin")]
INVALID = "hardware-report-signature-invalid"
THEN = {"at": "2025-06-01"}


def _of(kind: str) -> list[str]:
    return [name for name, value in EXPECTED.items() if isinstance(value, dict) and value.get("kind") == kind]


def _amd() -> dict[str, bytes]:
    """The certificates of AMD's authorities, as they come with evidence."""
    return {f"chain{n}.pem": (AZURE / name).read_bytes() for n, name in enumerate(AMD_CHAINS)}


def _evidence(name: str) -> dict[str, bytes]:
    """Report, certificate, quote and values out of Trustee's evidence, as files of the evidence directory."""
    value = json.loads((AZURE / name).read_bytes())

    def raw(item: Any) -> bytes:
        if isinstance(item, list):
            return bytes(item)
        if re.fullmatch(r"[0-9a-f]+", item):
            return bytes.fromhex(item)
        return base64.urlsafe_b64decode(item + "=" * (-len(item) % 4))

    quote = value.get("tpm_quote") or value["quote"]
    found = {
        "hcl_report.bin": raw(value.get("hcl_report") or value["report"]),
        "quote.msg": raw(quote["message"]),
        "quote.sig": raw(quote["signature"]),
        "pcrs.json": json.dumps(
            {"sha256": {str(n): raw(pcr).hex() for n, pcr in enumerate(quote["pcrs"])}}
        ).encode(),
    }
    if "vcek" in value:
        text = value["vcek"]
        found["vcek.pem"] = text.encode() if "BEGIN" in text else raw(text)
    if "td_quote" in value:
        found["td_quote.bin"] = raw(value["td_quote"])
    return found


@pytest.mark.parametrize("name", _of("evidence json"))
def test_real_evidence_holds_from_root_to_quote(corpus: Path, tmp_path: Path, name: str) -> None:
    wanted = EXPECTED[name]
    files = _evidence(name)
    result = judge(tmp_path, files | _amd(), nonce=bytes.fromhex(wanted["attest"]["extra"]), **THEN)
    assert result.link("hardware-root").status == "holds"
    assert statuses(result)[2] == "holds"
    assert result.binding.way == "hardware-report"
    if "td_quote.bin" in files:
        # Intel's collateral is not with it, so nothing says whether the platform is up to date
        assert result.link("hardware-report").status == "not-checked"
    else:
        assert wanted["snp_sig_ok"]
        assert result.link("hardware-report").status == "holds"
    for link in ("quote", "nonce", "register-values"):
        assert result.link(link).status == "holds", link


@pytest.mark.parametrize("name", [n for n in _of("evidence json") if "snp" in n])
def test_real_evidence_without_amd_s_chain_names_the_missing_issuer(
    corpus: Path, tmp_path: Path, name: str
) -> None:
    result = judge(tmp_path, _evidence(name), **THEN)
    assert result.link("hardware-root").status == "not-checked"
    assert "SEV-" in result.link("hardware-root").why
    assert "hardware-chain-untrusted" in {finding.code for finding in result.findings}


def test_quote_of_another_key_than_the_bound_one_breaks_the_quote_alone(corpus: Path, tmp_path: Path) -> None:
    folder = f"{TRUSTEE}test_data/az-snp-vtpm/"
    names = {"hcl_report.bin": "hcl-report.bin", "vcek.pem": "vcek.pem", "quote.msg": "tpm-quote.msg",
             "quote.sig": "tpm-quote.sig"}  # fmt: skip
    result = judge(
        tmp_path, {name: (AZURE / folder / file).read_bytes() for name, file in names.items()}, **THEN
    )
    assert statuses(result) == ("holds", "holds", "holds")
    assert codes(result) == {"quote-signature-invalid"}


def test_quote_made_without_a_nonce_is_said(tmp_path: Path) -> None:
    from quoting import Machine

    machine = Machine()
    machine.quote(nonce=b"")
    folder = machine.write(tmp_path / "machine")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "nonce.hex"}
    result = judge(tmp_path, files)
    assert "made without a nonce" in result.link("nonce").why
    assert {f.code for f in result.findings if f.link == "nonce"} == {"nonce-missing"}
    assert codes(judge(tmp_path, files, nonce=b"x" * 20), "nonce") == {"nonce-mismatch"}


def _report(name: str) -> bytes:
    return (AZURE / name).read_bytes()


@pytest.mark.parametrize(
    "row",
    EXPECTED.get("_signature_checks", []),
    ids=lambda row: f"{Path(row['report']).name}-{Path(row['cert']).name}",
)
def test_report_and_certificate_give_the_stated_result(
    corpus: Path, tmp_path: Path, row: dict[str, Any]
) -> None:
    files = {"report.bin": _report(row["report"]), "certificate.pem": _report(row["cert"]), **_amd()}
    result = judge(tmp_path, files, **THEN)
    broken = codes(result, "hardware-report")
    if row["snp_sig"] is True:
        assert INVALID not in broken
        assert result.link("hardware-root").status == "holds"
    else:
        assert INVALID in broken
    # one of the samples is of a machine that may be debugged
    debug = EXPECTED.get(row["report"], {}).get("policy_debug", False)
    assert ("hardware-debug-enabled" in broken) == debug


def test_certificate_of_another_chip_is_said(corpus: Path, tmp_path: Path) -> None:
    folder = "kinvolk__azure-cvm-tooling/az-cvm-vtpm/test/"
    files = {"h.bin": _report(f"{folder}hcl-report-snp.bin"), "certs.pem": _report(f"{folder}certs.pem")}
    result = judge(tmp_path, files, **THEN)
    assert statuses(result)[:2] == ("holds", "broken")
    assert codes(result) == {INVALID}
    assert "another chip" in result.link("hardware-report").why


def test_report_named_after_another_processor_is_read_as_what_it_is(corpus: Path, tmp_path: Path) -> None:
    name = "Azure__cvm-attestation-tools/cvm-attestation/tests/reports/snp_hcl_report.bin"
    result = judge(tmp_path, {"snp_report.bin": _report(name)})
    assert "TDREPORT" in result.link("hardware-report").why
    assert statuses(result)[:2] == ("not-checked", "not-checked")


def test_redacted_report_never_verifies(corpus: Path, tmp_path: Path) -> None:
    folder = "agentrust-io__agent-manifest/python/tests/vectors/snp/"
    vcek = _evidence(f"{TRUSTEE}test_data/az-snp-vtpm/evidence-v1.json")["vcek.pem"]
    for name in ("azure_hcl_report_redacted.bin", "azure_snp_report_redacted.bin"):
        result = judge(tmp_path, {"r.bin": _report(folder + name), "v.der": vcek, **_amd()}, **THEN)
        assert codes(result) == {INVALID}
        assert "redacted" in result.link("hardware-report").why
        alone = judge(tmp_path, {"r.bin": _report(folder + name)}, **THEN)
        assert statuses(alone)[:2] == ("not-checked", "not-checked")
        assert "redacted" in alone.link("hardware-root").why


@pytest.mark.parametrize("name", _of("td_quote"))
def test_each_step_of_a_real_quote_gives_the_stated_result(corpus: Path, name: str) -> None:
    wanted = EXPECTED[name]
    quote = parse_td_quote(_report(name), source=name)
    pck = read_certificates(quote.qe.certificates.rstrip(b"\0"), source=name)[0]
    assert role_of_certificate(pck) == "PCK"
    assert _verifies(pck.public_key(), quote.qe.signature, quote.qe.report) == wanted["qe_report_sig_ok"]
    assert quote.key_bound == wanted["qe_report_binding_ok"]
    assert wanted["quote_sig_ok"]


@pytest.mark.parametrize("name", _of("td_quote"))
def test_real_quote_leads_to_intel_s_pinned_root(corpus: Path, tmp_path: Path, name: str) -> None:
    result = judge(tmp_path, {"td_quote.bin": _report(name)}, at="2026-06-01")
    assert result.link("hardware-root").status == "holds"
    assert "Intel SGX Root CA" in result.link("hardware-root").why
    # one of the samples is of a TD that may be debugged: its registers prove nothing
    debug = bytes.fromhex(EXPECTED[name]["td_attributes"])[0] != 0
    assert codes(result) == ({"hardware-debug-enabled"} if debug else set())
    assert len(result.quotes.values) == (0 if debug else 4)


def test_log_of_a_td_replays_to_the_registers_of_its_quote(corpus: Path, tmp_path: Path) -> None:
    folder = "google__go-tdx-guest/testing/testdata/ccel/"
    files = {
        "eventlog.bin": _report(f"{folder}ccel_data.dat"),
        "q": _report(f"{folder}cos-113-tdx-quote.dat"),
    }
    nonce = _report(f"{folder}nonce.dat")
    result = judge(tmp_path, files, nonce=nonce, **THEN)
    assert result.link("log-replay").status == "holds"
    assert result.link("nonce").status == "holds"
    assert {(state.set, state.register) for state in result.replay.states if state.status == "matches"} == {
        ("cc", index) for index in range(1, 5)
    }
    assert "proven" in set(result.event_trust.values())
    tpm = (
        Path(__file__).resolve().parents[2] / "sample_data" / "boots" / "baseline" / "eventlog.bin"
    ).read_bytes()
    both = {"eventlog.bin": tpm, "ccel.bin": files["eventlog.bin"], "q": files["q"]}
    assert judge(tmp_path, both, nonce=nonce, **THEN).link("log-replay").status == "holds"
    damaged = bytearray(files["eventlog.bin"])
    at = damaged.index(b"grub", 4096)
    damaged[at - 200] ^= 1
    worse = judge(tmp_path, files | {"eventlog.bin": bytes(damaged)}, nonce=nonce, **THEN)
    assert "broken" in {worse.link(name).status for name in ("log-replay", "event-data")}


def test_lists_of_intel_are_used_in_their_time(corpus: Path, tmp_path: Path) -> None:
    folder = "google__go-tdx-guest/testing/testdata/"
    files = {
        "td_quote.bin": _report(f"{folder}tdx_prod_quote_SPR_E4.dat"),
        "pck_crl.der": _report(f"{folder}pckcrl"),
        "root_ca_crl.der": _report(f"{folder}rootcrl.der"),
    }
    why = judge(tmp_path, files, at="2023-06-20").link("hardware-root").why
    assert "not revoked by the list of Intel SGX PCK Platform CA, Intel SGX Root CA" in why
    assert "revocation was not checked" in judge(tmp_path, files, **THEN).link("hardware-root").why


def _collateral() -> list[str]:
    return [
        f"{TRUSTEE}test_data/tcbInfo.json", f"{TRUSTEE}test_data/enclaveIdentity.json",
        "google__go-tdx-guest/testing/testdata/sample_tcbInfo_response",
        "google__go-tdx-guest/testing/testdata/sample_tcbinfo_response_v5",
        "google__go-tdx-guest/testing/testdata/sample_qeIdentity_response",
    ]  # fmt: skip


@pytest.mark.parametrize("name", _collateral())
def test_signed_part_of_real_collateral_is_cut_out_exactly(corpus: Path, name: str) -> None:
    data = _report(name)
    found = read_hardware(data, source=name).collateral[0].value
    value = json.loads(data)
    member = "tcbInfo" if "tcbInfo" in value else "enclaveIdentity"
    assert json.loads(found.signed) == value[member]  # type: ignore[union-attr]
    assert found.signed in data  # type: ignore[union-attr]
    assert len(found.levels) == len(value[member]["tcbLevels"])  # type: ignore[union-attr]


# --- certificates against openssl


def _certificates() -> list[tuple[str, x509.Certificate]]:
    found: dict[bytes, tuple[str, x509.Certificate]] = {}
    for path in sorted(AZURE.rglob("*")) if AZURE.exists() else []:
        if path.is_file() and path.stat().st_size < 1 << 16 and recognise(path.read_bytes()):
            try:
                claims = read_hardware(path.read_bytes(), source=path.name).certificates
            except ValueError:
                continue
            for claim in claims:
                if role_of_certificate(claim.certificate):
                    found.setdefault(claim.der, (path.name, claim.certificate))
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "leaf"), _certificates(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_openssl_agrees_about_every_chain(
    corpus: Path, tmp_path: Path, name: str, leaf: x509.Certificate
) -> None:
    from cvmlab.errors import VerificationError
    from cvmlab.trust.paths import verify_path

    others = [c for chain in AMD_CHAINS for c in read_certificates(_report(chain), source=chain)]
    intel = parse_td_quote(_report(_of("td_quote")[0]), source="x").qe.certificates
    others += read_certificates(intel.rstrip(b"\0"), source="x")[1:]
    for path in _of("td_quote"):
        chain = parse_td_quote(_report(path), source="x").qe.certificates
        others += read_certificates(chain.rstrip(b"\0"), source="x")[1:]
    roots = [c for c in others if pin_of(c) is not None]
    middle = [c for c in others if pin_of(c) is None]
    for file, certificates in (("roots", roots), ("middle", middle), ("leaf", [leaf])):
        (tmp_path / file).write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
    at = datetime(2025, 6, 1, tzinfo=UTC)
    done = subprocess.run(
        ["openssl", "verify", "-attime", str(int(at.timestamp())), "-CAfile", tmp_path / "roots",
         "-untrusted", tmp_path / "middle", tmp_path / "leaf"],
        capture_output=True, check=False,
    )  # fmt: skip
    try:
        verify_path(leaf, middle, roots, at=at, untrusted_code="x", expired_code="x")
        ours = True
    except VerificationError:
        ours = False
    assert ours == (done.returncode == 0), (name, done.stderr)


@pytest.mark.parametrize(
    ("name", "leaf"), _certificates(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_openssl_shows_the_same_extensions(
    corpus: Path, tmp_path: Path, name: str, leaf: x509.Certificate
) -> None:
    (tmp_path / "leaf").write_bytes(leaf.public_bytes(Encoding.DER))
    text = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER", "-in", tmp_path / "leaf"], capture_output=True, check=True
    ).stdout.decode()
    if role_of_certificate(leaf) == "PCK":
        fmspc = pck_extensions(leaf, source=name).fmspc.hex().upper()
        assert re.search(rf"1\.2\.840\.113741\.1\.13\.1|[0-9A-F]*{fmspc}", text)
        return
    found = amd_extensions(leaf, source=name)
    lines = text.splitlines()

    def value(oid: str) -> str:
        at = next(n for n, line in enumerate(lines) if line.endswith(f":{oid}"))
        return lines[at + 1].rsplit("[HEX DUMP]:", 1)[1]

    levels = {"3.1": "boot_loader", "3.2": "tee", "3.3": "snp", "3.8": "microcode"}
    for short, level in levels.items():
        raw = bytes.fromhex(value(f"1.3.6.1.4.1.3704.1.{short}"))
        assert found.versions[level] == int.from_bytes(raw[2:], "big")
    if role_of_certificate(leaf) == "VCEK":
        assert found.hardware_id.hex().upper() == value("1.3.6.1.4.1.3704.1.4")


def test_serial_number_zero_loads_where_warnings_are_errors(corpus: Path) -> None:
    path = AZURE / "google__go-sev-guest/verify/testdata/vcek.testcer"
    code = (
        "import sys; from cvmlab.evidence.hardware import read_hardware; "
        "found = read_hardware(open(sys.argv[1], 'rb').read(), source='vcek'); "
        "c = found.certificates[0].certificate; print(c.signature_algorithm_oid.dotted_string)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1.2.840.113549.1.1.10"  # RSASSA-PSS
    shown = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-in", path, "-noout", "-serial"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == "serial=00"


def test_pinned_fingerprints_are_those_that_openssl_computes(corpus: Path, tmp_path: Path) -> None:
    files = [*(AZURE / name for name in AMD_CHAINS), AZURE / "google__go-tdx-guest/verify/trusted_root.pem",
             AZURE / "_derived/azure-vtpm-ca/azure-virtual-tpm-root-ca-2023.pem"]  # fmt: skip
    seen = set()
    for path in files:
        for certificate in read_certificates(path.read_bytes(), source=path.name):
            if (pin := pin_of(certificate)) is None:
                continue
            (tmp_path / "root.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
            shown = subprocess.run(
                ["openssl", "x509", "-in", tmp_path / "root.pem", "-noout", "-fingerprint", "-sha256"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert shown.strip().rsplit("=", 1)[1].replace(":", "").lower() == pin.sha256
            key = subprocess.run(
                f"openssl x509 -in {tmp_path / 'root.pem'} -noout -pubkey | openssl pkey -pubin -outform DER "
                "| openssl dgst -sha256",
                shell=True, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert key.strip().rsplit("= ", 1)[1] == pin.spki_sha256
            seen.add(pin.name)
    # AWS's root is in no corpus; tests of NitroTPM documents hold its use
    assert seen == {pin.name for pin in pins() if pin.use != "nitro"}


def test_independent_path_validator_agrees_about_amd(corpus: Path) -> None:
    validator = module("pyhanko_certvalidator")
    from asn1crypto import x509 as asn1

    path = AZURE / "google__go-sev-guest/verify/testdata/vcek.testcer"
    chain = read_certificates(_report("google__go-sev-guest/verify/trust/ask_ark_milan.pem"), source="x")
    ask, ark = (asn1.Certificate.load(c.public_bytes(Encoding.DER)) for c in chain)
    leaf = asn1.Certificate.load(path.read_bytes())
    context = validator.ValidationContext(
        trust_roots=[ark], other_certs=[ask], moment=datetime(2025, 6, 1, tzinfo=UTC), allow_fetching=False
    )
    import asyncio

    check = validator.CertificateValidator(leaf, intermediate_certs=[ask], validation_context=context)
    found = asyncio.run(check.async_validate_usage(set()))
    assert [c.subject.native["common_name"] for c in found][-1] == "SEV-VCEK"


def test_product_and_tcb_by_certificate_are_those_of_the_report(corpus: Path) -> None:
    """Reports of version 2 do not say their product: the certificate does."""
    report = read_hardware(
        _report("google__go-sev-guest/verify/testdata/attestation.bin"), source="x"
    ).reports[0]
    assert isinstance(report.report, SnpReport)
    leaf = read_certificates(_report("google__go-sev-guest/verify/testdata/vcek.testcer"), source="x")[0]
    found = amd_extensions(leaf, source="x")
    assert (report.report.product, found.product) == ("", "Milan")
    assert found.hardware_id == report.report.chip_id
