"""The simulated confidential VMs: each variant is judged as its one wrong thing demands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from expected_causes import check_causes

import cvmlab
from cvmlab.baseline import load_baseline, save_baseline
from cvmlab.evidence import load_evidence

if TYPE_CHECKING:
    from cvmlab.baseline import Baseline

AZURE = Path(__file__).resolve().parents[1] / "sample_data" / "azure"
EXPECTED = json.loads((AZURE / "expected.json").read_text())
ROOTS = [AZURE / "roots" / name for name in ("ark.pem", "vtpm.pem")]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return load_baseline(AZURE / "baseline.json")


@pytest.mark.parametrize("name", EXPECTED)
def test_variant_is_judged_as_written(name: str, baseline: Baseline) -> None:
    wanted = EXPECTED[name]
    history = [AZURE / earlier for earlier in wanted.get("history", ())]
    result = cvmlab.investigate(
        AZURE / name,
        baseline=baseline,
        trust_roots=ROOTS,
        history=history,
        at=wanted.get("at"),
        jwks=[AZURE / keys for keys in wanted.get("jwks", ())],
    )
    check_causes(result.explanation, wanted)
    if result.verdict == "trusted":
        assert all(link.status in ("holds", "not-applicable") for link in result.chain)


@pytest.mark.parametrize("name", EXPECTED)
def test_everything_says_that_it_is_simulated(name: str) -> None:
    evidence = load_evidence(AZURE / name)
    assert "SIMULATED" in evidence.machine
    for claim in evidence.certificates:
        assert "SIMULATED" in claim.certificate.subject.rfc4514_string(), claim.source
        assert "SIMULATED" in claim.certificate.issuer.rfc4514_string(), claim.source


def test_without_its_roots_no_simulated_chain_holds() -> None:
    result = cvmlab.investigate(AZURE / "good")
    status = {link.name: link.status for link in result.chain}
    assert status["hardware-root"] == "broken"
    assert status["key-certificate"] != "holds"


def test_rules_about_hardware_are_learned_saved_and_needed(baseline: Baseline, tmp_path: Path) -> None:
    assert baseline.policy.hardware_report
    assert dict(baseline.policy.lowest_tcb) == {"boot_loader": 4, "tee": 0, "snp": 24, "microcode": 219}
    save_baseline(baseline, tmp_path / "b.json")
    assert load_baseline(tmp_path / "b.json").policy == baseline.policy


def test_older_tcb_than_the_policy_allows_is_its_own_cause(baseline: Baseline) -> None:
    from cvmlab.baseline.edit import set_policy

    stricter = set_policy(baseline, lowest_tcb={**baseline.policy.lowest_tcb, "microcode": 220})
    result = cvmlab.investigate(AZURE / "good", baseline=stricter, trust_roots=ROOTS)
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == "hardware-tcb-too-old"
