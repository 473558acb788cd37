"""Many boots judged at once by the slots: the same as one by one, and quick enough to edit by."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import cvmlab
from cvmlab.baseline import Baseline, compare, set_class
from cvmlab.baseline.effect import Bench
from cvmlab.trust.assess import Assessment, assess

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"


@pytest.fixture(scope="module")
def boots() -> dict[str, Assessment]:
    answers = json.loads((BOOTS / "expected.json").read_text())
    # where the log is missing or in the old format there are no rows to compare
    names = [
        n
        for n, answer in answers.items()
        if {*answer.get("primary", ())} - {"log-missing", "evidence-incomplete"}
    ]
    names += ["baseline", "baseline_repeat", "baseline_machine_b"]
    return {
        name: assess(
            cvmlab.load_evidence(BOOTS / name), cvmlab.load_context(BOOTS / name, trust_roots=[ROOT])
        )
        for name in names
    }


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "cohorts"])
def baseline(request: pytest.FixtureRequest) -> Baseline:
    names = ("baseline", "baseline_machine_b", "kernel_changed")
    return cvmlab.learn([BOOTS / name for name in names], trust_roots=ROOT, cohorts=request.param)


def test_answers_are_those_of_the_whole_comparison(boots: dict[str, Assessment], baseline: Baseline) -> None:
    for name, effect in zip(boots, Bench([*boots.values()]).effects(baseline), strict=True):
        if any(link.status == "broken" for link in boots[name].links):
            continue
        whole = compare(boots[name], baseline)
        rows = [(row.register, row.change) for row in whole.rows if row.change != "relabelled"]
        assert sorted((m.register, m.change) for m in effect.misfits) == sorted(rows), name
        assert effect.cohort == whole.cohort


def test_edit_shows_its_effect_and_is_quick(boots: dict[str, Assessment], baseline: Baseline) -> None:
    chains = [[*boots.values()][i % len(boots)] for i in range(200)]
    bench = Bench(chains)
    before = bench.effects(baseline)
    loose = set_class(baseline, "ignored", register=7, kind="revocation-list")
    start = time.perf_counter()
    after = bench.effects(loose)
    took = time.perf_counter() - start
    at = list(boots).index("dbx_updated")
    assert not before[at].fits
    assert after[at].fits
    assert [e.fits for e in after].count(True) > [e.fits for e in before].count(True)
    # a click must answer in 0.2 s on a quiet machine; here others run beside
    assert took < 2


def test_registers_that_an_edit_leaves_alone_are_the_same_objects(baseline: Baseline) -> None:
    loose = set_class(baseline, "ignored", register=7, kind="revocation-list")
    changed = [a.register for a, b in zip(baseline.registers, loose.registers, strict=True) if a is not b]
    assert changed == [7]
    assert baseline.cohorts == loose.cohorts


def test_registers_pinned_by_value_are_left_to_the_whole_comparison(boots: dict[str, Assessment]) -> None:
    from cvmlab.baseline.exchange import import_baseline

    golden = import_baseline(BOOTS / "baseline" / "pcrs.yaml", "golden").baseline
    (effect,) = Bench([boots["cmdline_changed"]]).effects(golden)
    assert effect.fits
    assert effect.open == tuple(range(24))
