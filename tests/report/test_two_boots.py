"""Two boots compared without a baseline: each pair of the lab's boots differs in what the lab changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from remeasure import events_of, write_boot

import cvmlab
from cvmlab.errors import EvidenceError
from cvmlab.tables import DIFF, REGISTERS, check

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
EXPECTED = json.loads((BOOTS / "expected.json").read_text())
# boots that differ from the lab's reference in the one thing that their answer names
PAIRS = [
    (name, answer["primary"])
    for name, answer in EXPECTED.items()
    if answer["verdict"] == "not-trusted"
    and "baseline" not in answer
    and "primary" in answer
    and not name.startswith("mix_")
    # what followed the log needs a quote to compare with
    and name != "extended_after_log"
]


@pytest.mark.parametrize(("name", "primary"), PAIRS)
@pytest.mark.parametrize("what", ["evidence", "log"])
def test_pair_differs_in_what_was_changed(name: str, primary: list[str], what: str) -> None:
    paths = [BOOTS / boot / ("eventlog.bin" if what == "log" else "") for boot in ("baseline", name)]
    if not paths[1].exists():
        with pytest.raises(EvidenceError):
            cvmlab.diff(*paths)
        return
    found = cvmlab.diff(*paths)
    assert not found.same
    assert found.causes[0].code in primary
    assert found.causes[0].primary
    assert sum(cause.primary for cause in found.causes) == 1
    assert check(found.diff(), DIFF).empty
    assert check(found.registers(), REGISTERS).empty
    assert {"differs", "matches"} >= set(found.registers()["status"])


@pytest.mark.parametrize("name", ["baseline", "baseline_repeat", "baseline_machine_b"])
def test_boots_alike_show_no_difference(name: str) -> None:
    found = cvmlab.diff(BOOTS / "baseline" / "eventlog.bin", BOOTS / name / "eventlog.bin")
    assert found.same
    assert found.causes == ()


def test_order_of_the_two_says_which_is_new() -> None:
    there = cvmlab.diff(BOOTS / "baseline", BOOTS / "dbx_updated")
    back = cvmlab.diff(BOOTS / "dbx_updated", BOOTS / "baseline")
    assert [c.code for c in there.causes] == ["revocation-list-updated"]
    assert [c.code for c in back.causes] == ["revocation-list-rolled-back"]


def test_what_no_quote_vouches_for_is_compared_as_claimed() -> None:
    found = cvmlab.diff(BOOTS / "baseline" / "eventlog.bin", BOOTS / "dbx_updated" / "eventlog.bin")
    assert all(cause.claimed for cause in found.causes)
    page = found._repr_mimebundle_()["text/plain"]
    assert "compared as claimed" in page


def test_register_that_only_the_second_boot_extends_differs() -> None:
    found = cvmlab.diff(BOOTS / "baseline", BOOTS / "uki_signed")
    rows = found.registers()
    assert set(rows[rows["register"] == 11]["status"]) == {"differs"}


def test_json_has_the_causes_and_registers_of_the_contract() -> None:
    command = [sys.executable, "-m", "cvmlab", "diff", "--json", str(BOOTS / "baseline")]
    done = subprocess.run([*command, str(BOOTS / "cmdline_changed")], capture_output=True, check=False)
    assert done.returncode == 1
    value = json.loads(done.stdout)
    assert value["causes"][0]["code"] == "kernel-command-line-changed"
    assert set(value["causes"][0]) >= {"code", "reason", "severity", "primary", "registers", "events"}
    assert {row["status"] for row in value["registers"]} == {"matches", "differs"}
    same = subprocess.run([*command, str(BOOTS / "baseline")], capture_output=True, check=False)
    assert same.returncode == 0


def test_register_that_the_second_log_leaves_out_differs(tmp_path: Path) -> None:
    boot = [event for event in events_of("baseline") if event.register != 14]
    folder = write_boot(tmp_path / "without", boot)
    found = cvmlab.diff(BOOTS / "baseline" / "eventlog.bin", folder / "eventlog.bin")
    assert not found.same
    rows = found.diff()
    assert set(rows["register"]) == {14}
    assert set(rows["change"]) == {"removed"}
    assert [cause.code for cause in found.causes] == ["mok-changed"]


@pytest.mark.parametrize("damage", ["empty", "noise", "missing"])
def test_what_is_neither_evidence_nor_a_log_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.bin"
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else bytes(range(256)) * 4)
    with pytest.raises(EvidenceError):
        cvmlab.diff(path, BOOTS / "baseline")
    with pytest.raises(EvidenceError):
        cvmlab.diff(BOOTS / "baseline", path)


def test_log_that_is_cut_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    data = (BOOTS / "baseline" / "eventlog.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(data[: len(data) // 2])
    found = cvmlab.diff(BOOTS / "baseline", tmp_path / "cut.bin")
    assert not found.same
    assert (found.diff()["change"] == "removed").all()


def test_boot_without_a_log_is_one_cause_that_says_what_is_missing() -> None:
    found = cvmlab.diff(BOOTS / "baseline", BOOTS / "stock_linux_cmd_sboff")
    assert [cause.code for cause in found.causes] == ["log-missing"]
    judged = cvmlab.investigate(
        BOOTS / "stock_linux_cmd_sboff",
        baseline=cvmlab.sample_baseline(),
        trust_roots=[cvmlab.sample_trust_root()],
    ).primary
    assert judged is not None
    assert judged.code == "log-missing"
    said = found.causes[0].findings[0].summary
    assert "differ from the first boot, and without the boot event log nothing says why" in said
    assert "baseline" not in said


def test_same_boot_without_its_log_differs_in_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "boot"
    shutil.copytree(BOOTS / "baseline_repeat", folder)
    (folder / "eventlog.bin").unlink()
    found = cvmlab.diff(BOOTS / "baseline", folder)
    # its quote says so for every register
    assert found.causes == ()
    assert found.same


def test_boot_without_log_and_quote_is_not_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "boot"
    shutil.copytree(BOOTS / "baseline", folder)
    for path in [folder / "eventlog.bin", folder / "pcrs.yaml", *folder.glob("quote*")]:
        path.unlink()
    found = cvmlab.diff(BOOTS / "baseline", folder)
    assert not found.same
    assert [cause.code for cause in found.causes] == ["log-missing"]
    assert "no boot event log and no quoted value" in found.causes[0].findings[0].summary
