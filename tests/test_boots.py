"""Every boot with an expected answer, through the command line: the shared ones and the project's own.

The expected answers were written down when the boots were made, from what was done to them.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from expected_causes import check_causes
from typer.testing import CliRunner

import cvmlab
from cvmlab.cli import app

OWN = Path(__file__).resolve().parents[1] / "sample_data" / "boots"
SHARED = Path(os.environ.get("CVMLAB_BOOTS", ""))
NOT_EVIDENCE = ("README.md", "summary.json", "boot.json", "eventlog.yaml", "origin.json")
DEFAULT = ("baseline", "baseline_repeat", "baseline_machine_b")
LINKS = [
    "hardware-root", "hardware-report", "key-binding", "key-certificate", "quote", "nonce", "register-values",
    "log-replay", "event-data", "baseline", "policy",
]  # fmt: skip


def _cases() -> list[Any]:
    roots = [("own", OWN)]
    if os.environ.get("CVMLAB_BOOTS"):
        roots.append(("shared", SHARED))
    return [
        pytest.param(root, name, expected, id=f"{label}-{name}")
        for label, root in roots
        for name, expected in json.loads((root / "expected.json").read_text()).items()
    ]


def _bare(root: Path, name: str, where: Path) -> Path:
    """Copy a boot without the files that describe it."""
    target = where / name
    if not target.exists():
        shutil.copytree(root / name, target, ignore=shutil.ignore_patterns(*NOT_EVIDENCE))
    return target


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boots")


def _baseline(root: Path, names: tuple[str, ...], work: Path) -> Path:
    where = work / root.name / root.parent.name
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{'-'.join(names)}.json"
    if not path.exists():
        folders = [str(_bare(root, name, where)) for name in names]
        learned = CliRunner().invoke(app, ["baseline", "learn", *folders, "-o", str(path)])
        assert learned.exit_code == 0, learned.output
    return path


def investigate(*arguments: object) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["investigate", *map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize(("root", "name", "expected"), _cases())
def test_boot_gets_the_verdict_and_the_cause_that_were_written_down(
    root: Path, name: str, expected: dict[str, Any], work: Path
) -> None:
    names = tuple(expected.get("baseline", DEFAULT))
    baseline = _baseline(root, names, work)
    folder = _bare(root, name, work / root.name / root.parent.name)
    code, found = investigate(folder, "--baseline", baseline, "--trust-root", root / "trust-root.pem")
    wanted = expected["verdict"] if isinstance(expected["verdict"], list) else [expected["verdict"]]
    assert found["verdict"] in wanted
    assert code == (0 if found["verdict"] == "trusted" else 1)
    codes = [cause["code"] for cause in found["causes"]]
    primary = [cause["code"] for cause in found["causes"] if cause["primary"]]
    if found["verdict"] == "trusted":
        assert not primary
        assert all(cause["severity"] == "info" for cause in found["causes"])
    else:
        assert len(primary) == 1
    if "primary" in expected:
        assert primary[0] in expected["primary"]
    if "any" in expected:
        assert set(codes) & set(expected["any"])


@pytest.mark.parametrize(
    ("name", "expected"),
    json.loads((OWN / "expected.json").read_text()).items(),
    ids=lambda value: str(value)[:40],
)
def test_boot_has_the_causes_that_were_written_down_and_no_other(
    name: str, expected: dict[str, Any], work: Path
) -> None:
    baseline = _baseline(OWN, tuple(expected.get("baseline", DEFAULT)), work)
    folder = _bare(OWN, name, work / OWN.name / OWN.parent.name)
    found = cvmlab.investigate(folder, baseline=baseline, trust_roots=[OWN / "trust-root.pem"])
    check_causes(found.explanation, expected)


@pytest.mark.parametrize(("root", "name", "expected"), _cases())
def test_json_has_the_shape_of_the_contract(
    root: Path, name: str, expected: dict[str, Any], work: Path
) -> None:
    baseline = _baseline(root, tuple(expected.get("baseline", DEFAULT)), work)
    folder = _bare(root, name, work / root.name / root.parent.name)
    _, found = investigate(folder, "--baseline", baseline)
    assert list(found) == ["schema", "verdict", "summary", "causes", "chain", "registers"]
    assert found["schema"] == "cvmlab.verdict/1"
    assert [link["link"] for link in found["chain"]] == LINKS
    for link in found["chain"]:
        assert link["status"] in ("holds", "broken", "not-checked", "not-applicable")
        assert link["why"]
    for cause in found["causes"]:
        assert list(cause) == [
            "code", "reason", "severity", "primary", "title", "explanation", "next_step", "benign_if", "set",
            "registers", "events", "confidence",
        ]  # fmt: skip
        assert cause["reason"] in ("boot-deviates", "quote-origin", "no-report", "prerequisite")
        assert cause["severity"] in ("info", "low", "medium", "high")
        assert cause["registers"] == sorted(set(cause["registers"]))
        assert 0 <= cause["confidence"] <= 1
    for row in found["registers"]:
        assert list(row) == ["set", "register", "bank", "quoted", "replayed", "baseline", "status"]
        assert row["status"] in ("matches", "differs", "not-replayed", "not-quoted", "not-checked")
    # without a trust root nothing leads to a root that the verifier named
    assert found["verdict"] != "trusted"


def test_repeats_of_a_good_boot_are_trusted_whatever_the_order_of_learning(work: Path) -> None:
    for names in (DEFAULT, DEFAULT[::-1]):
        baseline = _baseline(OWN, names, work)
        for name in DEFAULT:
            folder = _bare(OWN, name, work / OWN.name / OWN.parent.name)
            code, _ = investigate(folder, "--baseline", baseline, "--trust-root", OWN / "trust-root.pem")
            assert code == 0
