"""From Intel's root to the TD, with one wrong thing at a time; dcap-qvl is the other opinion."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest
from hardware import codes, judge, statuses
from needs import module
from processors import (
    NOW,
    SVN,
    VENDOR,
    IntelPlatform,
    bound,
    hcl,
    intel,
    pem,
    revocation_list,
    runtime_claims,
)
from quoting import software_key

from cvmlab.evidence import load_evidence
from cvmlab.tee.tdx import TdQuote, parse_td_quote

if TYPE_CHECKING:
    from pathlib import Path

INVALID, UNTRUSTED, OLD = (
    "hardware-report-signature-invalid", "hardware-chain-untrusted", "hardware-tcb-too-old",
)  # fmt: skip
CLAIMS = runtime_claims(software_key(0).public_key().public_numbers().n)
DATA = bound(CLAIMS)
FINE = ("holds", "holds", "holds")


def files(platform: IntelPlatform, **quote: object) -> dict[str, bytes]:
    """Azure's set: HCL report with a TDREPORT, a TD quote of it, all collateral."""
    report = hcl(platform.td_report(DATA), CLAIMS, 4)
    return {"hcl_report.bin": report, "td_quote.bin": platform.quote(DATA, **quote), **platform.collateral()}  # type: ignore[arg-type]


def opinion(platform: IntelPlatform, quote: bytes, collateral: dict[str, bytes]) -> str:
    """Status by dcap-qvl with the same root, or its error."""
    dcap_qvl = module("dcap_qvl")

    def parts(data: bytes) -> tuple[str, bytes]:
        text = data.decode()
        return text[text.index(":") + 1 : text.rindex(',"signature"')], bytes.fromhex(
            json.loads(text)["signature"]
        )

    info, identity = parts(collateral["tcb_info.json"]), parts(collateral["qe_identity.json"])
    chain = collateral["tcb_signing_chain.pem"].decode()
    given = dcap_qvl.QuoteCollateralV3(
        pem(platform.platform[0], platform.root[0]).decode(), collateral["root_ca_crl.der"],
        collateral["pck_crl.der"], chain, *info, chain, *identity,
    )  # fmt: skip
    from cryptography.hazmat.primitives.serialization import Encoding

    root = platform.root[0].public_bytes(Encoding.DER)
    try:
        return str(dcap_qvl.verify_with_root_ca(quote, given, root, int(NOW.timestamp())).status)
    except ValueError as error:
        return f"error: {error}"


@pytest.mark.parametrize("version", [4, 5])
def test_whole_chain_holds_and_the_other_verifier_agrees(tmp_path: Path, version: int) -> None:
    platform = intel()
    result = judge(tmp_path, files(platform, version=version), [platform.root[0]])
    assert statuses(result) == FINE, [link.why for link in result.links[:3]]
    assert result.binding.way == "hardware-report"
    assert result.hardware.checks[0].tcb_status == "UpToDate"
    assert opinion(platform, platform.quote(DATA, version=version), platform.collateral()) == "UpToDate"


def test_root_in_the_quote_is_not_trusted_by_itself(tmp_path: Path) -> None:
    result = judge(tmp_path, files(intel()))
    assert statuses(result)[0] == "broken"
    assert UNTRUSTED in codes(result)


def test_quote_without_collateral_leaves_the_tcb_open(tmp_path: Path) -> None:
    platform = intel()
    found = {name: data for name, data in files(platform).items() if name.endswith(".bin")}
    result = judge(tmp_path, found, [platform.root[0]])
    assert statuses(result) == ("holds", "not-checked", "holds")
    assert "TCB info" in result.link("hardware-report").why


def test_tdreport_alone_cannot_be_checked(tmp_path: Path) -> None:
    platform = intel()
    found = {"snp_report.bin": hcl(platform.td_report(DATA), CLAIMS, 4)}
    result = judge(tmp_path, found, [platform.root[0]])
    assert statuses(result) == ("not-checked",) * 3
    assert "MAC" in result.link("hardware-report").why


@pytest.mark.parametrize("place", [288, 500, 530, 800, 270])
def test_tdreport_whose_hashes_do_not_fit_is_broken_even_alone(tmp_path: Path, place: int) -> None:
    data = bytearray(intel().td_report(DATA))
    data[place] ^= 1
    result = judge(tmp_path, {"h.bin": hcl(bytes(data), CLAIMS, 4)}, [intel().root[0]])
    changed_hash = place < 495 or place >= 512
    assert (statuses(result)[1] == "broken") == changed_hash


@pytest.mark.parametrize(
    "field",
    ["tee_tcb_svn", "mr_seam", "mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr3",
     "report_data", "xfam", "td_attributes"],
)  # fmt: skip
def test_quote_of_another_td_than_the_report_breaks_the_report(tmp_path: Path, field: str) -> None:
    platform = intel()
    size = len(platform.fields(DATA)[field])
    found = files(platform)
    if field == "report_data":
        found["td_quote.bin"] = platform.quote(b"\x01" * 64)
    else:
        value = b"\x00\x00\x00\x40".ljust(size, b"\0") if field == "td_attributes" else b"\x07" * size
        found["td_quote.bin"] = platform.quote(DATA, **{field: value})
    result = judge(tmp_path, found, [platform.root[0]])
    assert statuses(result)[1] == "broken"
    assert INVALID in codes(result, "hardware-report")


def _flip(data: bytes, place: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def test_every_bit_of_the_three_signed_parts_counts() -> None:
    """Signature of the quote, attestation key, QE report and its signature: none can change by a bit."""
    from cvmlab.trust.reports import Gathered
    from cvmlab.trust.tdx import _judge, _verifies

    platform = intel()
    good = platform.quote(DATA)
    end_of_body = 48 + 584
    area = end_of_body + 4
    qe = area + 128 + 6
    # header and body by byte, the rest by bit: quote signature, key, QE report, QE signature, auth data
    places = [(n, n % 8) for n in range(8, end_of_body)]
    places += [(n, bit) for n in range(area, area + 128) for bit in range(8)]
    places += [(n, n % 8) for n in range(qe, qe + 384)]
    places += [(n, bit) for n in range(qe + 384, qe + 448) for bit in range(8)]
    places += [(n, n % 8) for n in range(qe + 450, qe + 482)]
    for place, bit in places:
        quote = parse_td_quote(_flip(good, place, bit), source="x")
        work = Gathered("hardware-report")
        leaf = (
            platform.pck
            if _verifies(platform.pck.public_key(), quote.qe.signature, quote.qe.report)
            else None
        )
        claim = _claim(quote)
        assert not _judge(claim, quote, leaf, work), (place, bit)


def _claim(quote: TdQuote):  # type: ignore[no-untyped-def]
    from cvmlab.evidence.model import HardwareClaim

    return HardwareClaim("td-quote", "td_quote.bin", quote, b"")


@pytest.mark.parametrize(
    ("place", "says"),
    [(48 + 0x88, "attestation key did not sign"), (636, "attestation key did not sign"),
     (636 + 64, "does not bind the attestation key"), (636 + 128 + 6 + 128, "no PCK certificate"),
     (636 + 128 + 6 + 384, "no PCK certificate"), (636 + 128 + 6 + 448 + 2, "does not bind")],
)  # fmt: skip
def test_each_step_that_is_wrong_is_named(tmp_path: Path, place: int, says: str) -> None:
    platform = intel()
    found = {"td_quote.bin": _flip(platform.quote(DATA), place), **platform.collateral()}
    result = judge(tmp_path, found, [platform.root[0]])
    assert statuses(result)[:2] == ("holds", "broken")
    assert codes(result, "hardware-report") == {INVALID}
    assert says in result.link("hardware-report").why


@pytest.mark.parametrize("swapped", [0, 1, 2])
def test_each_certificate_of_another_platform_breaks_its_link(tmp_path: Path, swapped: int) -> None:
    platform, other = intel(), IntelPlatform()
    mine = [platform.pck, platform.platform[0], platform.root[0]]
    theirs = [other.pck, other.platform[0], other.root[0]]
    chain = pem(*(theirs[n] if n == swapped else mine[n] for n in range(3)))
    given = [other.root[0]] if swapped == 2 else [platform.root[0]]
    found = {"td_quote.bin": platform.quote(DATA, chain=chain)}
    result = judge(tmp_path, found, given)
    assert statuses(result)[0] in (("not-checked",) if swapped == 0 else ("broken",))
    assert codes(result) == ({INVALID} if swapped == 0 else {UNTRUSTED})


def test_another_vendor_s_quoting_enclave_is_refused(tmp_path: Path) -> None:
    platform = intel()
    result = judge(tmp_path, {"q": platform.quote(DATA, vendor=VENDOR[::-1])}, [platform.root[0]])
    assert "vendor" in result.link("hardware-report").why


def test_debug_enclave_is_refused(tmp_path: Path) -> None:
    platform = intel()
    qe = platform.qe_report(bytes(range(32)), attributes=b"\x13")
    result = judge(tmp_path, {"q": platform.quote(DATA, qe=qe)}, [platform.root[0]])
    assert codes(result, "hardware-report") == {INVALID}


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        (1, "hardware-debug-enabled"),
        (0x80, "hardware-debug-enabled"),
        (1 << 29, "hardware-migration-allowed"),
    ],
)
def test_attributes_of_the_td_are_judged(tmp_path: Path, attributes: int, code: str) -> None:
    platform = intel()
    quote = platform.quote(DATA, td_attributes=attributes.to_bytes(8, "little"))
    result = judge(tmp_path, {"td_quote.bin": quote, **platform.collateral()}, [platform.root[0]])
    assert codes(result, "hardware-report") == {code}


@pytest.mark.parametrize(
    "status",
    ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
     "OutOfDateConfigurationNeeded", "Revoked"],
)  # fmt: skip
def test_status_of_the_platform_decides_as_the_other_verifier_says(tmp_path: Path, status: str) -> None:
    platform = intel()
    changed = {"tcb_info.json": platform.signed("tcbInfo", platform.tcb_info(status))}
    result = judge(tmp_path, files(platform) | changed, [platform.root[0]])
    bad = status.startswith("OutOfDate") or status == "Revoked"
    assert statuses(result) == ("holds", "broken" if bad else "holds", "not-checked" if bad else "holds")
    assert codes(result, "hardware-report") == ({OLD} if bad else set())
    assert result.hardware.checks[0].tcb_status == status
    theirs = opinion(platform, platform.quote(DATA), platform.collateral(**changed))
    assert theirs == status or (status == "Revoked" and "evoked" in theirs)


@pytest.mark.parametrize("part", ["module", "enclave"])
def test_out_of_date_module_or_enclave_breaks_the_report(tmp_path: Path, part: str) -> None:
    platform = intel()
    changed = (
        {"tcb_info.json": platform.signed("tcbInfo", platform.tcb_info(module="OutOfDate"))}
        if part == "module"
        else {"qe_identity.json": platform.signed("enclaveIdentity", platform.qe_identity("OutOfDate"))}
    )
    result = judge(tmp_path, files(platform) | changed, [platform.root[0]])
    assert codes(result) == {OLD}
    assert opinion(platform, platform.quote(DATA), platform.collateral(**changed)) == "OutOfDate"


@pytest.mark.parametrize(
    "lower",
    [bytes([4, 1, 3]) + bytes(13), bytes([5, 1, 2]) + bytes(13)],
    ids=["older_module", "older_microcode"],
)
def test_versions_below_every_level_break_the_report(tmp_path: Path, lower: bytes) -> None:
    platform = intel()
    found = {"td_quote.bin": platform.quote(DATA, tee_tcb_svn=lower), **platform.collateral()}
    assert OLD in codes(judge(tmp_path, found, [platform.root[0]]), "hardware-report")


def test_first_level_that_is_reached_counts(tmp_path: Path) -> None:
    platform = intel()
    info = platform.tcb_info()
    levels = info["tcbLevels"]
    assert isinstance(levels, list)
    higher = json.loads(json.dumps(levels[0]))
    higher["tcb"]["sgxtcbcomponents"][0]["svn"] += 1
    lower = json.loads(json.dumps(levels[0])) | {"tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00001"]}
    lower["tcb"]["pcesvn"] -= 1
    info["tcbLevels"] = [higher, lower]
    changed = {"tcb_info.json": platform.signed("tcbInfo", info)}
    result = judge(tmp_path, files(platform) | changed, [platform.root[0]])
    assert result.hardware.checks[0].tcb_status == "OutOfDate"
    assert opinion(platform, platform.quote(DATA), platform.collateral(**changed)) == "OutOfDate"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"isvprodid": 9}, "ISVPRODID"), ({"mrsigner": "00" * 32}, "MRSIGNER"),
     ({"attributes": "13" + "00" * 15}, "attributes"), ({"miscselect": "01000000"}, "MISCSELECT")],
)  # fmt: skip
def test_enclave_that_intel_does_not_identify_breaks_the_report(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    platform = intel()
    identity = platform.signed("enclaveIdentity", platform.qe_identity(**change))
    result = judge(tmp_path, files(platform) | {"qe_identity.json": identity}, [platform.root[0]])
    assert codes(result, "hardware-report") == {INVALID}
    assert says in result.link("hardware-report").why
    assert opinion(
        platform, platform.quote(DATA), platform.collateral(**{"qe_identity.json": identity})
    ).startswith("error")


@pytest.mark.parametrize("member", ["tcbInfo", "enclaveIdentity"])
def test_collateral_that_intel_did_not_sign_is_not_used(tmp_path: Path, member: str) -> None:
    platform, other = intel(), IntelPlatform()
    name, value = (
        ("tcb_info.json", platform.tcb_info())
        if member == "tcbInfo"
        else ("qe_identity.json", platform.qe_identity())
    )
    forged = platform.signed(member, value, other.signing)
    result = judge(tmp_path, files(platform) | {name: forged}, [platform.root[0]])
    assert statuses(result)[1] == "not-checked"
    assert "signature is wrong" in result.link("hardware-report").why


def test_collateral_signed_under_another_root_is_not_used(tmp_path: Path) -> None:
    platform, other = intel(), IntelPlatform()
    changed = {
        "tcb_info.json": platform.signed("tcbInfo", platform.tcb_info(), other.signing),
        "tcb_signing_chain.pem": pem(other.signing[0], other.root[0]),
    }
    result = judge(tmp_path, files(platform) | changed, [platform.root[0]])
    assert statuses(result)[1] == "not-checked"


def test_edited_collateral_is_not_used(tmp_path: Path) -> None:
    platform = intel()
    info = platform.signed("tcbInfo", platform.tcb_info("OutOfDate")).replace(b"OutOfDate", b"UpToDate")
    result = judge(tmp_path, files(platform) | {"tcb_info.json": info}, [platform.root[0]])
    assert statuses(result)[1] == "not-checked"


@pytest.mark.parametrize("at", ["2026-05-01", "2026-07-01"])
def test_collateral_counts_in_its_own_time_only(tmp_path: Path, at: str) -> None:
    platform = intel()
    result = judge(tmp_path, files(platform), [platform.root[0]], at=at)
    assert statuses(result)[1] == "not-checked"
    assert "2026-06-20" in result.link("hardware-report").why


def test_collateral_of_another_platform_says_nothing(tmp_path: Path) -> None:
    platform = intel()
    info = platform.signed("tcbInfo", platform.tcb_info(fmspc="00a06d080000"))
    result = judge(tmp_path, files(platform) | {"tcb_info.json": info}, [platform.root[0]])
    assert statuses(result)[1] == "not-checked"


def test_newest_of_several_statements_counts(tmp_path: Path) -> None:
    platform = intel()
    newer = platform.signed("tcbInfo", platform.tcb_info("OutOfDate", tcbEvaluationDataNumber=19))
    result = judge(tmp_path, files(platform) | {"other.json": newer}, [platform.root[0]])
    assert codes(result) == {OLD}


@pytest.mark.parametrize("which", ["pck", "platform"])
def test_revoked_certificates_break_the_root(tmp_path: Path, which: str) -> None:
    platform = intel()
    changed = (
        {"pck_crl.der": revocation_list(platform.platform, platform.pck.serial_number)}
        if which == "pck"
        else {"root_ca_crl.der": revocation_list(platform.root, platform.platform[0].serial_number)}
    )
    result = judge(tmp_path, files(platform) | changed, [platform.root[0]])
    assert codes(result) == {UNTRUSTED}
    assert "revoked" in opinion(platform, platform.quote(DATA), platform.collateral(**changed)).lower()


def test_revoked_signer_of_collateral_is_not_used(tmp_path: Path) -> None:
    platform = intel()
    changed = {"root_ca_crl.der": revocation_list(platform.root, platform.signing[0].serial_number)}
    result = judge(tmp_path, files(platform) | changed, [platform.root[0]])
    assert statuses(result)[1] == "not-checked"


def test_all_collateral_in_one_object_of_a_cache_is_read(tmp_path: Path) -> None:
    platform = intel()
    parts = platform.collateral()
    info, identity = (json.loads(parts[name]) for name in ("tcb_info.json", "qe_identity.json"))
    text = {
        name: parts[file].decode()[parts[file].decode().index(":") + 1 : parts[file].decode().rindex(',"sig')]
        for name, file in (("tcb_info", "tcb_info.json"), ("qe_identity", "qe_identity.json"))
    }
    whole = {
        **text, "tcb_info_signature": info["signature"], "qe_identity_signature": identity["signature"],
        "tcb_info_issuer_chain": parts["tcb_signing_chain.pem"].decode(),
        "qe_identity_issuer_chain": parts["tcb_signing_chain.pem"].decode(),
        "pck_crl": parts["pck_crl.der"].hex(), "root_ca_crl": parts["root_ca_crl.der"].hex(),
        "pck_crl_issuer_chain": pem(platform.platform[0], platform.root[0]).decode(),
    }  # fmt: skip
    found = {name: data for name, data in files(platform).items() if name.endswith(".bin")}
    result = judge(tmp_path, found | {"collateral.json": json.dumps(whole).encode()}, [platform.root[0]])
    assert statuses(result) == FINE


def test_bytes_behind_a_quote_are_allowed(tmp_path: Path) -> None:
    platform = intel()
    found = files(platform)
    found["td_quote.bin"] += bytes(70)
    assert statuses(judge(tmp_path, found, [platform.root[0]])) == FINE


@pytest.mark.parametrize("form", ["nonce", "sha256", "sha512"])
def test_td_without_a_vtpm_rests_on_its_quote(tmp_path: Path, form: str) -> None:
    import hashlib

    platform, nonce = intel(), b"\x55" * 32
    data = nonce if form == "nonce" else hashlib.new(form, nonce).digest()
    found = {"td_quote.bin": platform.quote(data.ljust(64, b"\0")), **platform.collateral()}
    result = judge(tmp_path, found, [platform.root[0]], nonce=nonce)
    assert statuses(result) == FINE
    assert [result.link(n).status for n in ("quote", "nonce", "register-values")] == ["holds"] * 3
    assert result.quotes.set == "cc"
    assert result.quotes.values[1, "sha384"] == b"\x30" * 48
    wrong = judge(tmp_path, found, [platform.root[0]], nonce=b"\x56" * 32)
    assert codes(wrong) == {"nonce-mismatch"}


def test_quote_without_root_vouches_for_no_register(tmp_path: Path) -> None:
    result = judge(tmp_path, {"td_quote.bin": intel().quote(DATA)})
    assert not result.quotes.values
    assert result.link("register-values").status == "not-checked"


def test_quote_is_found_by_content(tmp_path: Path) -> None:
    (tmp_path / "anything.dat").write_bytes(intel().quote(DATA))
    evidence = load_evidence(tmp_path)
    assert [claim.kind for claim in evidence.hardware] == ["td-quote"]
    assert len([c for c in evidence.certificates if c.role == "processor"]) == 3
    assert evidence.absent == ("boot event log: eventlog.bin",)


def test_length_of_signature_data_is_checked(tmp_path: Path) -> None:
    data = bytearray(intel().quote(DATA))
    struct.pack_into("<I", data, 48 + 584, 1 << 31)
    (tmp_path / "td_quote.bin").write_bytes(bytes(data))
    evidence = load_evidence(tmp_path)
    assert not evidence.hardware
    assert any("signature_data" in str(problem) for problem in evidence.problems)
    assert SVN
