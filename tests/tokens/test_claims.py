from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import token_maker as make

from cvmlab.tables import CLAIMS, check
from cvmlab.tokens.claims import Known, judge_claims
from cvmlab.tokens.jws import read_token
from cvmlab.tokens.policy import Policy
from cvmlab.tokens.report import judge_token
from cvmlab.tpm.public import spki_sha256

if TYPE_CHECKING:
    from pathlib import Path

NONCE = bytes(range(16))
AK = spki_sha256(make.private_key("rsa-ak").public_key())


def rows(claims: dict, **known: object) -> dict[str, object]:
    found = judge_claims(read_token(make.token(claims), source="token.jwt"), Known(**known))  # type: ignore[arg-type]
    assert len({row.path for row in found}) == len(found)
    return {row.path: row for row in found}


def failed(claims: dict, **known: object) -> set[str]:
    return {path for path, row in rows(claims, **known).items() if row.status == "failed"}


def status(claims: dict, path: str, **known: object) -> str:
    return rows(claims, **known)[path].status


GOOD = {
    "azurevm_on_snp": make.guest(),
    "azurevm_on_tdx": make.guest(make.tdx()),
    "sevsnpvm": make.platform(make.snp()),
    "tdxvm": make.platform(make.tdx()),
    "tpm": make.platform(
        {
            "x-ms-attestation-type": "tpm",
            "aikValidated": True,
            "tpmVersion": 2,
            "secureBootEnabled": True,
            "bootDebuggingDisabled": True,
            "notSafeMode": True,
            "notWinPE": True,
        }
    ),
    "sgx": make.platform({"x-ms-attestation-type": "sgx", "x-ms-sgx-is-debuggable": False, "tee": "sgx"}),
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_fails_in_a_good_token_of_each_kind(name: str) -> None:
    found = rows(GOOD[name])
    assert {path for path, row in found.items() if row.status in ("failed", "absent")} == set()
    assert any(row.status == "ok" for row in found.values())


TOP = {
    **dict.fromkeys(
        [
            "x-ms-azurevm-bootdebug-enabled",
            "x-ms-azurevm-kerneldebug-enabled",
            "x-ms-azurevm-hypervisordebug-enabled",
            "x-ms-azurevm-testsigning-enabled",
            "x-ms-azurevm-flightsigning-enabled",
        ],
        True,
    ),
    **dict.fromkeys(
        [
            "secureboot",
            "x-ms-azurevm-dbvalidated",
            "x-ms-azurevm-dbxvalidated",
            "x-ms-azurevm-default-securebootkeysvalidated",
            "x-ms-azurevm-debuggersdisabled",
            "x-ms-azurevm-signingdisabled",
        ],
        False,
    ),
    "x-ms-azurevm-vmid": "00000000-0000-0000-0000-000000000000",
    "x-ms-ver": "2.0",
}


@pytest.mark.parametrize("name", TOP)
def test_each_claim_of_the_guest_that_is_wrong_fails_alone(name: str) -> None:
    assert failed(make.guest(**{name: TOP[name]})) == {name}


SNP = {
    "x-ms-compliance-status": "azure-signed-katacc-uvm",
    "x-ms-sevsnpvm-is-debuggable": True,
    "x-ms-sevsnpvm-migration-allowed": True,
    "x-ms-sevsnpvm-vmpl": 1,
}
TDX = {
    "x-ms-compliance-status": "",
    "attester_tcb_status": "OutOfDate",
    "dbgstat": "enabled",
    "tdx_td_attributes_debug": True,
    "tdx_td_attributes": "0100000000000000",
    "tdx_seam_attributes": "01" + "00" * 7,
    "tdx_mrsignerseam": "11" * 48,
}


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "top"])
@pytest.mark.parametrize(
    ("base", "name", "value"),
    [*((make.snp, name, value) for name, value in SNP.items()), *((make.tdx, n, v) for n, v in TDX.items())],
)
def test_each_claim_of_the_hardware_that_is_wrong_fails_alone(
    base: object, name: str, value: object, nested: bool
) -> None:
    claims = {**base(), name: value}  # type: ignore[operator]
    prefix = "x-ms-isolation-tee." if nested else ""
    assert failed(make.guest(claims) if nested else make.platform(claims)) == {prefix + name}


@pytest.mark.parametrize("name", ["secure-boot", "tpm-enabled"])
def test_each_setting_of_the_vm_that_is_wrong_fails_alone(name: str) -> None:
    claims = make.snp()
    claims["x-ms-runtime"]["vm-configuration"][name] = False
    assert failed(make.guest(claims)) == {f"x-ms-isolation-tee.x-ms-runtime.vm-configuration.{name}"}
    assert failed(make.platform(claims)) == {f"x-ms-runtime.vm-configuration.{name}"}


WRONG_TYPES = {"one": 1, "text": "yes", "null": None, "list": [True], "object": {}}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_value_of_another_type_is_not_as_expected(name: str) -> None:
    assert "secureboot" in failed(make.guest(secureboot=WRONG_TYPES[name]))


@pytest.mark.parametrize("value", [False, 0.0, "0", None], ids=repr)
def test_false_is_not_zero(value: object) -> None:
    assert failed(make.guest({**make.snp(), "x-ms-sevsnpvm-vmpl": value}))


def test_a_policy_may_issue_truth_as_text() -> None:
    assert failed(make.guest(secureboot="true")) == set()
    assert failed(make.guest(secureboot="False")) == {"secureboot"}


def test_what_should_be_there_and_is_not_is_absent() -> None:
    claims = make.guest()
    del claims["secureboot"], claims["x-ms-isolation-tee"]["x-ms-compliance-status"]
    found = rows(claims)
    assert found["secureboot"].status == "absent"
    assert found["secureboot"].value == ""
    assert found["x-ms-isolation-tee.x-ms-compliance-status"].status == "absent"


def test_trusted_launch_has_no_hardware_claims() -> None:
    claims = make.guest()
    del claims["x-ms-isolation-tee"]
    assert not any(row.status in ("failed", "absent") for row in rows(claims).values())


def test_what_the_guest_writes_does_not_speak_for_the_platform() -> None:
    """Runtime data at the top of a guest token is the guest's own."""
    claims = make.guest()
    claims["x-ms-runtime"] |= {"secureboot": False, "vm-configuration": {"secure-boot": False}, **make.snp()}
    del claims["x-ms-isolation-tee"]["x-ms-compliance-status"]
    found = rows(claims)
    assert found["x-ms-runtime.x-ms-compliance-status"].status == "stated"
    assert found["x-ms-runtime.secureboot"].status == "stated"
    assert found["x-ms-isolation-tee.x-ms-compliance-status"].status == "absent"


def test_a_name_that_looks_like_a_path_hides_nothing() -> None:
    claims = make.guest()
    del claims["x-ms-isolation-tee"]["x-ms-compliance-status"]
    claims["x-ms-isolation-tee.x-ms-compliance-status"] = "azure-compliant-cvm"
    found = rows(claims)
    assert found["x-ms-isolation-tee.x-ms-compliance-status"].status == "absent"
    assert found['"x-ms-isolation-tee.x-ms-compliance-status"'].status == "stated"


def test_the_vm_is_the_one_of_the_hardware_report() -> None:
    path = "x-ms-isolation-tee.x-ms-runtime.vm-configuration.vmUniqueId"
    assert failed(make.guest(), vm_unique_id=make.VM_ID.lower()) == set()
    assert failed(make.guest(), vm_unique_id=make.VM_ID.replace("2", "3")) == {path, "x-ms-azurevm-vmid"}
    assert status(make.guest(), path, vm_unique_id=make.VM_ID) == "ok"


def test_the_key_is_the_one_of_the_evidence() -> None:
    path = "x-ms-isolation-tee.x-ms-runtime.keys[0].n"
    assert status(make.guest(), path, attestation_key=AK) == "ok"
    assert failed(make.guest(), attestation_key="00" * 32) == {path}
    claims = make.snp()
    claims["x-ms-runtime"]["keys"][0]["n"] = 7
    assert failed(make.guest(claims), attestation_key=AK) == {path}
    claims["x-ms-runtime"]["keys"] = [7, {"kid": "HCLAkPub"}]
    assert failed(make.guest(claims), attestation_key=AK) == {"x-ms-isolation-tee.x-ms-runtime.keys[1].kid"}


SPELLED = {
    "raw": NONCE,
    "hex": NONCE.hex().encode(),
    "hex_upper": NONCE.hex().upper().encode(),
    "base64": base64.b64encode(NONCE),
    "base64url": base64.urlsafe_b64encode(NONCE).rstrip(b"="),
}
NONCES = "x-ms-runtime.client-payload.nonce"


@pytest.mark.parametrize("name", SPELLED)
def test_the_nonce_is_found_in_each_spelling(name: str) -> None:
    def claims(text: str) -> dict:
        return make.guest(**{"x-ms-runtime": {"client-payload": {"nonce": text}}})

    text = base64.b64encode(SPELLED[name]).decode()
    assert status(claims(text), NONCES, nonce=NONCE) == "ok"
    assert failed(claims(text), nonce=NONCE[::-1]) == {NONCES}
    assert status(claims(text), NONCES) == "stated"


@pytest.mark.parametrize("name", ["nonce", "rp_data", "eat_nonce"])
def test_the_nonce_of_other_clients_is_checked(name: str) -> None:
    assert status(make.guest(**{"x-ms-runtime": {}, name: NONCE.hex()}), name, nonce=NONCE) == "ok"
    assert failed(make.guest(**{"x-ms-runtime": {}, name: "1234"}), nonce=NONCE) == {name}
    assert failed(make.guest(**{"x-ms-runtime": {}, name: 1234}), nonce=NONCE) == {name}


def test_the_hash_of_the_policy_is_checked() -> None:
    policy = Policy("policy.txt", "version= 1.0;")
    good = make.guest(**{"x-ms-policy-hash": policy.hash})
    assert status(good, "x-ms-policy-hash", policy=policy) == "ok"
    assert failed(make.guest(), policy=policy) == {"x-ms-policy-hash"}
    del good["x-ms-policy-hash"]
    assert status(good, "x-ms-policy-hash", policy=policy) == "absent"


def test_the_table_follows_its_schema() -> None:
    report = judge_token(read_token(make.token(), source="token.jwt"), None, at=make.AT)
    frame = report.to_frame()
    assert check(frame, CLAIMS).empty
    assert set(frame["trust"]) == {"claimed"}
    assert frame.loc[frame["claim"] == "secureboot", "value"].item() == "true"


def test_the_published_sample_of_a_guest_is_as_expected(corpus: Path) -> None:
    """sampleAttestationToken.json of Azure/confidential-computing-cvm-guest-attestation: a token, decoded."""
    folder = corpus / "azure" / "Azure__confidential-computing-cvm-guest-attestation"
    claims = json.loads((folder / "cvm-attestation-sample-app" / "sampleAttestationToken.json").read_text())
    found = rows(claims)
    assert {path for path, row in found.items() if row.status in ("failed", "absent")} == set()
    # every leaf of the sample is a row, and every one but the members of keys has a meaning
    assert len(found) == sum(1 for _ in _leaves(claims))
    assert {path.rsplit(".", 1)[0] for path, row in found.items() if not row.meaning} == {
        "x-ms-runtime.keys[0]",
        "x-ms-isolation-tee.x-ms-runtime.keys[0]",
    }


def _leaves(value: object) -> object:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list) and isinstance(value[0], dict):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value
