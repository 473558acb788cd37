from __future__ import annotations

import base64
import json
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
import token_maker as make
from edits import BOOTS

import cvmlab
from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_evidence
from cvmlab.findings import Link
from cvmlab.tokens import judge_token, parse_jwks, read_token
from cvmlab.tpm.public import parse_public
from cvmlab.trust.tokens import TokenResult

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.report.investigation import Investigation

BOOT = BOOTS / "baseline"
NONCE = bytes.fromhex((BOOT / "nonce.hex").read_text().strip())


def machine(**changes: object) -> dict:
    """Claims of a token that is of the sample's machine: its key and its nonce."""
    numbers = parse_public((BOOT / "ak.pub").read_bytes(), source="ak.pub").key.public_numbers()
    isolation = make.snp()
    isolation["x-ms-runtime"]["keys"] = [
        {"kid": "HCLAkPub", "kty": "RSA", "n": make.number(numbers.n), "e": make.number(numbers.e)}
    ]
    runtime = {"client-payload": {"nonce": base64.b64encode(NONCE).decode()}}
    return make.guest(isolation, **{"x-ms-runtime": runtime, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "machine"
    shutil.copytree(BOOT, path)
    (tmp_path / "certs.json").write_bytes(make.jwks())
    return path


def judge(
    folder: Path, data: bytes, *, name: str = "token.jwt", keys: bool = True, **options: object
) -> Investigation:
    (folder / name).write_bytes(data)
    settings: dict[str, object] = {
        "baseline": BOOTS.parent / "baseline.json",
        "trust_roots": BOOTS / "trust-root.pem",
        "at": make.AT,
        **({"jwks": folder.parent / "certs.json"} if keys else {}),
        **options,
    }
    return cvmlab.investigate(folder, **settings)  # type: ignore[arg-type]


def codes(result: Investigation) -> list[str]:
    return [cause.code for cause in result.causes if cause.code.startswith("token-")]


def status(result: Investigation, name: str) -> str:
    return next(link.status for link in result.chain if link.name == name)


def test_a_token_that_holds_changes_nothing_but_what_is_said(folder: Path) -> None:
    result = judge(folder, make.token(machine()))
    assert result.verdict == "trusted", result.summary
    link = next(link for link in result.chain if link.name == "hardware-report")
    assert link.status == "not-applicable"
    assert make.ISSUER in link.why
    assert status(result, "hardware-root") == "not-applicable"
    assert set(result.tokens()["trust"]) == {"vouched"}
    assert "Attestation tokens" in result.to_html()


def test_a_token_without_keys_is_claimed_and_leaves_the_machine_unjudged(folder: Path) -> None:
    result = judge(folder, make.token(machine()), keys=False)
    assert result.verdict == "inconclusive"
    assert status(result, "hardware-report") == "not-checked"
    assert set(result.tokens()["trust"]) == {"claimed"}
    assert "--jwks" in result.primary.summary


def test_keys_in_the_evidence_do_not_count(folder: Path) -> None:
    (folder / "jwks.json").write_bytes(make.jwks())
    (folder / "certs.json").write_bytes(make.jwks())
    assert status(judge(folder, make.token(machine()), keys=False), "hardware-report") == "not-checked"


WRONG = {
    "signed_by_another": (make.token(machine(), key=make.private_key("rsa-ak")), "token-signature-invalid"),
    "not_signed": (
        make.b64(b'{"alg":"none"}').encode() + b"." + make.token(machine()).split(b".")[1] + b".",
        "token-signature-invalid",
    ),
    "unknown_key": (make.token(machine(), header={"kid": "k9"}), "token-signature-invalid"),
    "other_issuer": (make.token(machine(iss="https://evil.example")), "token-claim-failed"),
    "keys_elsewhere": (make.token(machine(), header={"jku": "https://evil.example/"}), "token-claim-failed"),
    "no_end": (make.token({k: v for k, v in machine().items() if k != "exp"}), "token-claim-failed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_token_that_nobody_vouches_for_breaks_the_report(folder: Path, name: str) -> None:
    data, code = WRONG[name]
    result = judge(folder, data)
    assert result.verdict == "not-trusted"
    assert status(result, "hardware-report") == "broken"
    assert result.primary.code == code
    assert [link.name for link in result.chain if link.status == "broken"] == ["hardware-report"]


def test_an_unsigned_token_is_refused_without_keys_too(folder: Path) -> None:
    result = judge(folder, WRONG["not_signed"][0], keys=False)
    assert result.primary.code == "token-signature-invalid"


@pytest.mark.parametrize("changes", [{"exp": 1}, {"nbf": 4102444800}], ids=["over", "to_come"])
def test_a_token_out_of_its_time_leaves_the_report_open(folder: Path, changes: dict) -> None:
    result = judge(folder, make.token(machine(**changes)))
    assert result.verdict == "inconclusive"
    assert status(result, "hardware-report") == "not-checked"
    assert result.primary.code == "token-expired"


FAILED = {
    "secure_boot_off": ({"secureboot": False}, "secureboot"),
    "test_signing": ({"x-ms-azurevm-testsigning-enabled": True}, "x-ms-azurevm-testsigning-enabled"),
    "other_nonce": (
        {"x-ms-runtime": {"client-payload": {"nonce": "MTIzNA=="}}},
        "x-ms-runtime.client-payload.nonce",
    ),
    "other_machine": ({"x-ms-isolation-tee": make.snp()}, "x-ms-isolation-tee.x-ms-runtime.keys[0].n"),
    "an_enclave": ({"x-ms-attestation-type": "sgx"}, "x-ms-attestation-type"),
}


@pytest.mark.parametrize("name", FAILED)
def test_a_claim_that_fails_breaks_the_policy(folder: Path, name: str) -> None:
    changes, claim = FAILED[name]
    result = judge(folder, make.token(machine(**changes)))
    assert result.verdict == "not-trusted"
    assert [link.name for link in result.chain if link.status == "broken"] == ["policy"]
    assert result.primary.code == "token-claim-failed"
    assert [finding.detail["claim"] for finding in result.primary.findings] == [claim]
    assert all({"expected", "found"} <= set(finding.detail) for finding in result.primary.findings)
    json.loads(result.to_json())


@pytest.mark.parametrize("name", FAILED)
def test_a_claim_that_fails_in_an_unchecked_token_is_only_claimed(folder: Path, name: str) -> None:
    result = judge(folder, make.token(machine(**FAILED[name][0])), keys=False)
    assert result.verdict == "inconclusive"
    assert status(result, "policy") == "not-checked"
    assert all(cause.claimed for cause in result.causes if cause.code == "token-claim-failed")


def test_every_token_counts(folder: Path) -> None:
    (folder / "token.jwt").write_bytes(make.token(machine()))
    result = judge(folder, make.token(machine(secureboot=False)), name="token-second.jwt")
    assert len(load_evidence(folder).tokens) == 2
    assert result.verdict == "not-trusted"


@pytest.mark.parametrize("name", ["answer.json", "maa.txt"])
def test_a_token_is_known_by_its_content(folder: Path, name: str) -> None:
    data = json.dumps({"token": make.token(machine()).decode()}).encode()
    assert len(judge(folder, data, name=name).assessment.tokens.reports) == 1


def test_the_issuer_that_is_named_alone_counts(folder: Path) -> None:
    assert judge(folder, make.token(machine()), token_issuers=make.ISSUER).verdict == "trusted"
    other = judge(folder, make.token(machine()), token_issuers=["https://mine.eus.attest.azure.net"])
    assert codes(other) == ["token-claim-failed"]


def test_without_pyjwt_the_token_stays_unchecked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "jwt" or name.startswith("jwt.")]:
        monkeypatch.setitem(sys.modules, name, None)
    result = judge(folder, make.token(machine()))
    assert result.verdict == "inconclusive"
    assert "cvmlab[tokens]" in next(link.why for link in result.chain if link.name == "hardware-report")


def test_more_tokens_than_one_machine_has_are_not_read(folder: Path) -> None:
    for number in range(9):
        (folder / f"token-{number}.jwt").write_bytes(make.token(machine()))
    evidence = load_evidence(folder)
    assert len(evidence.tokens) == 8
    assert any("more than 8 tokens" in str(problem) for problem in evidence.problems)


@pytest.mark.parametrize("content", [b"", b"[]", b"not json"])
def test_a_set_of_keys_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder.parent / "certs.json").write_bytes(content)
    with pytest.raises(EvidenceError, match=r"certs\.json"):
        judge(folder, make.token(machine()))


def test_the_keys_are_part_of_what_was_known(folder: Path) -> None:
    given = cvmlab.load_context(folder, jwks=[folder.parent / "certs.json"])
    assert given.context_hash != cvmlab.load_context(folder).context_hash


REPORT_HOLDS = Link("hardware-report", "holds", "the processor signed it")


@pytest.mark.parametrize("case", ["expired", "unchecked"])
def test_the_processors_own_word_stays_where_a_token_only_does_not_count(case: str) -> None:
    data = make.token(machine(exp=1) if case == "expired" else machine())
    keys = parse_jwks(make.jwks(), source="certs.json") if case == "expired" else None
    report = judge_token(read_token(data, source="token.jwt"), keys, at=make.AT)
    link, findings = TokenResult((report,)).hardware_link(REPORT_HOLDS)
    assert link.status == "holds"
    assert "token.jwt" in link.why
    assert findings
    assert all(finding.detail["severity"] == "info" for finding in findings)


def test_a_forged_token_breaks_what_the_processor_signed() -> None:
    forged = read_token(make.token(machine(), key=make.private_key("rsa-ak")), source="token.jwt")
    report = judge_token(forged, parse_jwks(make.jwks(), source="certs.json"), at=make.AT)
    link, findings = TokenResult((report,)).hardware_link(REPORT_HOLDS)
    assert link.status == "broken"
    assert [finding.code for finding in findings] == ["token-signature-invalid"]


@pytest.mark.parametrize("status_before", ["holds", "not-applicable", "not-checked", "broken"])
def test_no_token_makes_a_link_hold(status_before: str) -> None:
    report = judge_token(
        read_token(make.token(machine()), source="t"), parse_jwks(make.jwks(), source="k"), at=make.AT
    )
    assert report.vouched
    for name in ("hardware-report", "policy"):
        link = Link(name, status_before, "why")  # type: ignore[arg-type]
        result = TokenResult((report,))
        after = result.hardware_link(link)[0] if name == "hardware-report" else result.policy_link(link)
        assert after.status == status_before
