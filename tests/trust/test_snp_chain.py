"""From AMD's root to the vTPM's key, with one wrong thing at a time: it breaks its own link and no other."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hardware import codes, judge, statuses
from processors import AmdChip, amd, bound, certificate, hcl, pem, revocation_list, runtime_claims
from quoting import public_area, software_key

from cvmlab.errors import ParseError
from cvmlab.tee.snp import parse_snp_report
from cvmlab.trust.hardware import check_hardware

if TYPE_CHECKING:
    from pathlib import Path

INVALID, UNTRUSTED = "hardware-report-signature-invalid", "hardware-chain-untrusted"
CLAIMS = runtime_claims(software_key(0).public_key().public_numbers().n)
FINE = ("holds", "holds", "holds")


def files(processor: AmdChip, **report: object) -> dict[str, bytes]:
    data = processor.report(bound(CLAIMS), **report)  # type: ignore[arg-type]
    return {"hcl_report.bin": hcl(data, CLAIMS, 2), "vcek.pem": processor.chain}


@pytest.mark.parametrize("kind", ["VCEK", "VLEK"])
@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_whole_chain_holds_for_each_product_and_kind_of_key(tmp_path: Path, product: str, kind: str) -> None:
    chip = amd(product, kind)
    result = judge(tmp_path, files(chip, version=5 if product == "Turin" else 3), [chip.ark[0]])
    assert statuses(result) == FINE, [link.why for link in result.links[:3]]
    assert result.binding.way == "hardware-report"


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_each_version_of_the_report_is_verified(tmp_path: Path, version: int) -> None:
    chip = amd()
    assert statuses(judge(tmp_path, files(chip, version=version), [chip.ark[0]])) == FINE


def test_mitigation_vectors_are_read_in_version_5_only() -> None:
    report = parse_snp_report(amd().report(version=5), source="x")
    assert (report.launch_mit_vector, report.current_mit_vector) == (3, 7)
    assert parse_snp_report(amd().report(version=3), source="x").launch_mit_vector is None


@pytest.mark.parametrize("hash_type", [1, 2, 3])
def test_runtime_claims_are_bound_by_each_hash(tmp_path: Path, hash_type: int) -> None:
    chip = amd()
    data = hcl(chip.report(bound(CLAIMS, hash_type)), CLAIMS, 2, hash_type=hash_type)
    assert statuses(judge(tmp_path, {"x.bin": data, "y.pem": chip.chain}, [chip.ark[0]])) == FINE


def test_root_that_comes_with_the_evidence_alone_is_not_trusted(tmp_path: Path) -> None:
    result = judge(tmp_path, files(amd()))
    assert statuses(result) == ("broken", "holds", "not-checked")
    assert codes(result) == {UNTRUSTED}


def test_root_in_a_file_of_intermediates_is_no_root(tmp_path: Path) -> None:
    chip = amd()
    found = files(chip) | {"vcek.pem": pem(chip.leaf), "ca-amd.pem": pem(chip.ask[0], chip.ark[0])}
    assert statuses(judge(tmp_path, found))[0] == "broken"
    assert statuses(judge(tmp_path, found, [chip.ark[0]])) == FINE


def test_missing_issuer_is_named_and_leaves_the_link_open(tmp_path: Path) -> None:
    result = judge(tmp_path, files(amd()) | {"vcek.pem": pem(amd().leaf)})
    assert statuses(result) == ("not-checked", "holds", "not-checked")
    assert "SEV-Milan" in result.link("hardware-root").why
    assert UNTRUSTED in {finding.code for finding in result.findings}


def test_without_certificate_nothing_is_checked(tmp_path: Path) -> None:
    found = files(amd())
    del found["vcek.pem"]
    assert statuses(judge(tmp_path, found, [amd().ark[0]])) == ("not-checked",) * 3


@pytest.mark.parametrize("swapped", ["leaf", "ask", "ark"])
def test_each_certificate_of_another_chain_breaks_its_link(tmp_path: Path, swapped: str) -> None:
    chip, other = amd(), AmdChip()
    mine, theirs = (chip.leaf, chip.ask[0], chip.ark[0]), (other.leaf, other.ask[0], other.ark[0])
    place = ("leaf", "ask", "ark").index(swapped)
    chain = pem(*(theirs[n] if n == place else mine[n] for n in range(3)))
    given = other.ark[0] if swapped == "ark" else chip.ark[0]
    result = judge(tmp_path, files(chip) | {"vcek.pem": chain}, [given])
    if swapped == "leaf":
        assert statuses(result)[:2] == ("not-checked", "broken")
        assert codes(result) == {INVALID}
    else:
        assert statuses(result)[:2] == ("broken", "holds")
        assert codes(result) == {UNTRUSTED}


def test_every_bit_of_the_signature_counts() -> None:
    chip = amd()
    good = parse_snp_report(chip.report(), source="x")
    from cvmlab.trust.snp import _signed

    assert _signed(good, chip.leaf)
    data = chip.report()
    for bit in range(2 * 384):
        changed = bytearray(data)
        place = 0x2A0 + (bit // 8 if bit < 384 else 72 + (bit - 384) // 8)
        changed[place] ^= 1 << bit % 8
        assert not _signed(parse_snp_report(bytes(changed), source="x"), chip.leaf), bit


def test_every_byte_that_is_signed_counts() -> None:
    from cvmlab.trust.snp import _signed

    data, chip = amd().report(), amd()
    chosen = random.Random(1)
    for place in range(0x2A0):
        changed = bytearray(data)
        changed[place] ^= 1 << chosen.randrange(8)
        try:
            report = parse_snp_report(bytes(changed), source="x")
        except ParseError:
            continue  # the version, or the policy bit that must be one
        assert not _signed(report, chip.leaf), place


@pytest.mark.parametrize("bit", range(0, 2048, 61))
def test_each_bit_of_a_certificate_s_signature_breaks_the_root(tmp_path: Path, bit: int) -> None:
    chip = amd()
    der = bytearray(chip.leaf.public_bytes(Encoding.DER))
    der[len(der) - 256 + bit // 8] ^= 1 << bit % 8
    found = files(chip) | {"vcek.pem": pem(chip.ask[0], chip.ark[0]), "vcek.der": bytes(der)}
    assert statuses(judge(tmp_path, found, [chip.ark[0]]))[:2] == ("broken", "holds")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"chip": bytes(range(0x80, 0xC0))}, "another chip", id="chip_of_another"),
        pytest.param({"chip": bytes(range(0x40, 0x48))}, "another chip", id="chip_cut_to_eight_bytes"),
        pytest.param({"boot": 3}, "boot loader", id="older_boot_loader"),
        pytest.param({"tee": 1}, "TEE", id="other_tee"),
        pytest.param({"snp": 23}, "SNP firmware", id="older_firmware"),
        pytest.param({"microcode": 220}, "microcode", id="other_microcode"),
    ],
)
def test_certificate_of_another_chip_or_tcb_breaks_the_report(
    tmp_path: Path, change: dict[str, int | bytes], says: str
) -> None:
    chip = amd()
    identity = change.get("chip", chip.chip)
    levels = {key: value for key, value in change.items() if key != "chip"}
    leaf = chip.leaf_of(identity, **levels)  # type: ignore[arg-type]
    result = judge(tmp_path, files(chip) | {"vcek.pem": pem(leaf, chip.ask[0])}, [chip.ark[0]])
    assert statuses(result)[:2] == ("holds", "broken")
    assert codes(result) == {INVALID}
    assert says in result.link("hardware-report").why


def test_fmc_of_turin_is_compared(tmp_path: Path) -> None:
    chip = amd("Turin")
    leaf = chip.leaf_of(chip.chip, fmc=9)
    result = judge(tmp_path, files(chip, version=5) | {"vcek.pem": pem(leaf, chip.ask[0])}, [chip.ark[0]])
    assert "FMC" in result.link("hardware-report").why
    assert codes(result) == {INVALID}


@pytest.mark.parametrize(
    ("report", "code", "says"),
    [
        pytest.param({"policy": 0x3001F | 1 << 19}, "hardware-debug-enabled", "debugging", id="debug"),
        pytest.param(
            {"policy": 0x3001F | 1 << 18}, "hardware-migration-allowed", "migration", id="migration"
        ),
        pytest.param({"vmpl": 1}, "hardware-privilege-level", "VMPL 1", id="vmpl_1"),
        pytest.param({"vmpl": 0xFFFFFFFF}, "hardware-privilege-level", "VMPL", id="asked_for_by_the_host"),
        pytest.param({"key_info": 4}, INVALID, "VLEK", id="says_vlek_signed_by_vcek"),
        pytest.param({"key_info": 7 << 2}, INVALID, "none", id="says_that_nothing_signed"),
        pytest.param({"cpuid": (0x19, 0x11, 1)}, INVALID, "Genoa", id="product_of_another_line"),
    ],
)
def test_what_the_report_says_of_itself_breaks_the_report(
    tmp_path: Path, report: dict[str, object], code: str, says: str
) -> None:
    chip = amd()
    result = judge(tmp_path, files(chip, **report), [chip.ark[0]])
    assert statuses(result)[:2] == ("holds", "broken")
    assert codes(result, "hardware-report") == {code}
    assert says in result.link("hardware-report").why


def test_privilege_level_of_a_bare_report_is_only_stated(tmp_path: Path) -> None:
    chip = amd()
    result = judge(tmp_path, {"snp_report.bin": chip.report(vmpl=3), "v.pem": chip.chain}, [chip.ark[0]])
    assert statuses(result)[:2] == ("holds", "holds")
    assert "VMPL 3" in result.link("hardware-report").why


def test_chip_identity_that_the_host_masks_is_no_fault(tmp_path: Path) -> None:
    chip = amd()
    result = judge(tmp_path, files(chip, chip=bytes(64)), [chip.ark[0]])
    assert statuses(result) == FINE
    assert "same chip" not in result.link("hardware-report").why
    assert "names no chip" in result.link("hardware-report").why


def test_report_redacted_after_signing_is_said(tmp_path: Path) -> None:
    chip = amd()
    data = bytearray(chip.report(bound(CLAIMS)))
    data[0x1A0:0x1E0] = bytes(64)
    found = {"hcl_report.bin": hcl(bytes(data), CLAIMS, 2), "vcek.pem": chip.chain}
    result = judge(tmp_path, found, [chip.ark[0]])
    assert codes(result) == {INVALID}
    assert "blank" in result.link("hardware-report").why


def test_unsigned_report_of_a_masked_key_is_said(tmp_path: Path) -> None:
    chip = amd()
    data = chip.report(bound(CLAIMS))[:0x2A0] + bytes(512)
    result = judge(tmp_path, {"h.bin": hcl(data, CLAIMS, 2), "vcek.pem": chip.chain}, [chip.ark[0]])
    assert "not signed" in result.link("hardware-report").why


def test_claims_that_the_report_does_not_bind_break_the_binding_alone(tmp_path: Path) -> None:
    chip = amd()
    edited = CLAIMS.replace(b"51a1ed00", b"51a1ed01")
    found = {"hcl_report.bin": hcl(chip.report(bound(CLAIMS)), edited, 2), "vcek.pem": chip.chain}
    result = judge(tmp_path, found, [chip.ark[0]])
    assert statuses(result) == ("holds", "holds", "broken")
    assert codes(result) == {"attestation-key-not-bound"}


def test_report_data_behind_the_hash_must_be_zero(tmp_path: Path) -> None:
    chip = amd()
    data = bound(CLAIMS)[:63] + b"\x01"
    result = judge(tmp_path, {"h.bin": hcl(chip.report(data), CLAIMS, 2), "v.pem": chip.chain}, [chip.ark[0]])
    assert codes(result) == {"attestation-key-not-bound"}


def test_key_that_signs_quotes_must_be_the_one_in_the_claims(tmp_path: Path) -> None:
    chip = amd()
    found = files(chip) | {"ak.pub": public_area(software_key(0))}
    assert statuses(judge(tmp_path, found, [chip.ark[0]])) == FINE
    other = files(chip) | {"ak.pub": public_area(software_key(1))}
    result = judge(tmp_path, other, [chip.ark[0]])
    assert statuses(result) == ("holds", "holds", "broken")
    assert codes(result) == {"attestation-key-differs"}


def test_certificate_that_is_out_of_date_breaks_the_root(tmp_path: Path) -> None:
    chip = amd()
    leaf = chip.leaf_of(chip.chip, until=datetime(2026, 1, 1, tzinfo=UTC))
    found = files(chip) | {"vcek.pem": pem(leaf, chip.ask[0])}
    result = judge(tmp_path, found, [chip.ark[0]])
    assert codes(result) == {UNTRUSTED}
    assert "2026-01-01" in result.link("hardware-root").why
    assert statuses(judge(tmp_path, found, [chip.ark[0]], at="2025-06-01")) == FINE


def test_revoked_certificate_breaks_the_root(tmp_path: Path) -> None:
    chip = amd()
    crl = revocation_list(chip.ark, chip.ask[0].serial_number)
    result = judge(tmp_path, files(chip) | {"crl.der": crl}, [chip.ark[0]])
    assert codes(result) == {UNTRUSTED}
    assert "revoked" in result.link("hardware-root").why
    fine = judge(tmp_path, files(chip) | {"crl.der": revocation_list(chip.ark, 5)}, [chip.ark[0]])
    assert "not revoked by the list of ARK-Milan" in fine.link("hardware-root").why


def test_revocation_list_of_someone_else_says_nothing(tmp_path: Path) -> None:
    chip, other = amd(), AmdChip()
    crl = revocation_list((chip.ark[0], other.ark[1]), chip.ask[0].serial_number)
    result = judge(tmp_path, files(chip) | {"crl.der": crl}, [chip.ark[0]])
    assert statuses(result) == FINE
    assert "not signed by it" in result.link("hardware-root").why


def test_outdated_revocation_list_vouches_for_nothing(tmp_path: Path) -> None:
    chip = amd()
    crl = revocation_list(chip.ark, 5)
    result = judge(tmp_path, files(chip) | {"crl.der": crl}, [chip.ark[0]], at="2027-06-01")
    assert "revocation was not checked" in result.link("hardware-root").why


def test_vlek_issued_where_vceks_are_is_refused(tmp_path: Path) -> None:
    from processors import AMD, der, number

    chip = amd()
    found = {
        "2": der(0x16, b"Milan"),
        "3.1": number(4),
        "3.2": number(0),
        "3.3": number(24),
        "3.8": number(219),
    }
    found["5"] = der(0x16, b"cloud")
    key = ec.generate_private_key(ec.SECP384R1())
    ask = certificate(
        "SEV-Milan", chip.ask[1], chip.ark, authority=True, organization="Advanced Micro Devices"
    )
    leaf = certificate("SEV-VLEK", key, (ask, chip.ask[1]), extensions={AMD + k: v for k, v in found.items()})
    from dataclasses import replace

    signer = replace(chip, kind="VLEK")
    signer.key = key
    data = hcl(signer.report(bound(CLAIMS), key_info=4), CLAIMS, 2)
    result = judge(tmp_path, {"h.bin": data, "vlek.pem": pem(leaf, ask)}, [chip.ark[0]])
    assert codes(result) == {UNTRUSTED}


@pytest.mark.parametrize(("number", "word"), [(1, "VBS"), (5, "CCA")])
def test_reports_of_other_hardware_stay_unchecked(tmp_path: Path, number: int, word: str) -> None:
    result = judge(tmp_path, {"hcl_report.bin": hcl(b"", CLAIMS, number)})
    assert statuses(result) == ("not-checked",) * 3
    assert word in result.link("hardware-report").why


def test_trusted_launch_has_no_hardware_report(tmp_path: Path) -> None:
    result = judge(tmp_path, {"hcl_report.bin": hcl(b"", CLAIMS, 3)})
    assert statuses(result) == ("not-applicable", "not-applicable", "not-checked")
    assert "trusted launch" in result.link("hardware-root").why


def test_several_reports_must_all_be_right(tmp_path: Path) -> None:
    chip, other = amd(), AmdChip()
    found = files(chip) | {"snp_report.bin": other.report()}
    assert statuses(judge(tmp_path, found, [chip.ark[0]]))[1] == "broken"
    same = files(chip) | {"snp_report.bin": chip.report(bound(CLAIMS))}
    assert statuses(judge(tmp_path, same, [chip.ark[0]])) == FINE


@pytest.mark.parametrize(
    ("data", "word"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(hcl(b"", CLAIMS, 2)[:0x200], "damaged", id="cut_in_the_hardware_report"),
        pytest.param(hcl(b"", CLAIMS[:-1], 2), "damaged", id="claims_without_end"),
    ],
)
def test_report_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path, data: bytes, word: str) -> None:
    result = judge(tmp_path, {"hcl_report.bin": data, "ak.pub": public_area(software_key(0))})
    assert statuses(result)[:2] == ("not-checked", "not-checked")
    assert f"hcl_report.bin is {word}" in result.link("hardware-report").why
    assert any(f.code == "evidence-incomplete" and f.link == "hardware-root" for f in result.findings)


def test_evidence_without_hardware_says_so(tmp_path: Path) -> None:
    result = judge(tmp_path, {"ak.pub": public_area(software_key(0))})
    assert statuses(result)[:2] == ("not-applicable", "not-applicable")
    assert check_hardware(result.evidence, result.context, at=result.at).checks == ()
