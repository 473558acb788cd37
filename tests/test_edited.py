"""Edited evidence for causes that no honest boot has: each is judged as its one edit demands.

The expected answers were written down with the edits (`sample_data/bootlab/cases.py`); the register values
were checked with tpm2_eventlog and the quotes with tpm2_checkquote when the folders were made.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from expected_causes import check_causes

import cvmlab
from cvmlab.baseline.edit import set_class

if TYPE_CHECKING:
    from cvmlab.baseline import Baseline

SAMPLES = Path(__file__).resolve().parents[1] / "sample_data"
EDITED = SAMPLES / "edited"
EXPECTED = json.loads((EDITED / "expected.json").read_text())
ROOTS = [EDITED / "trust-root.pem"]
DEFAULT = ("boots/baseline", "boots/baseline_repeat", "boots/baseline_machine_b")


@cache
def _learned(names: tuple[str, ...]) -> Baseline:
    return cvmlab.learn([SAMPLES / name for name in names], trust_roots=ROOTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_edit_has_the_causes_that_were_written_down_and_no_other(name: str, tmp_path: Path) -> None:
    wanted: dict[str, Any] = EXPECTED[name]
    baseline = _learned(tuple(wanted.get("baseline", DEFAULT)))
    for kind, slot_class in wanted.get("slots", {}).items():
        baseline = set_class(baseline, slot_class, kind=kind)
    folder = SAMPLES / wanted.get("evidence", f"edited/{name}")
    if "without" in wanted:
        folder = shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns(*wanted["without"]))
    history = [SAMPLES / earlier for earlier in wanted.get("history", ())]
    found = cvmlab.investigate(folder, baseline=baseline, trust_roots=ROOTS, history=history)
    check_causes(found.explanation, wanted)


def test_what_is_synthetic_says_so_in_its_evidence() -> None:
    for name, wanted in EXPECTED.items():
        if "evidence" not in wanted:
            machine = cvmlab.load_evidence(EDITED / name).machine
            assert machine.startswith("SIMULATED" if wanted.get("synthetic") else "EDITED"), name
