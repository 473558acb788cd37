"""The firmware that a TD was launched with: MRTD, which no event of the log extends."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING

import pytest
from processors import NOW, intel, pem
from quoting import IPL, boot_log, extended

import cvmlab
from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.baseline.merge import merge
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.baseline import Baseline

NONCE = bytes(range(64))
# UEFI_VARIABLE_DATA (TCG PC Client PFP 1.06, section 10.2.6): SecureBoot is 1
SECURE_BOOT = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c") + struct.pack("<QQ", 10, 1)
SECURE_BOOT += "SecureBoot".encode("utf-16-le") + b"\1"
# registers 1 and 2 of a CCEL log are RTMR 0 and 1 (UEFI 2.10, section 38.4.1)
EVENTS = ((1, 0x80000001, SECURE_BOOT), (2, IPL, b"grub_cmd: linux /vmlinuz\0"))
OTHER = b"\x23" * 48


def td(folder: Path, *, roots: bool = True, **changed: bytes) -> tuple[Path, list[Path]]:
    """Evidence of a TD whose quote fits its log, and the roots to trust."""
    values = {f"rtmr{r - 1}": extended("sha384", [hashlib.sha384(data).digest()]) for r, _, data in EVENTS}
    files = {
        "td_quote.bin": intel().quote(NONCE, **{"rtmr2": bytes(48), **values, **changed}),
        "ccel.bin": boot_log(EVENTS, ("sha384",)),
        "nonce.hex": NONCE.hex().encode(),
        **intel().collateral(),
    }
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder.parent / "root.pem").write_bytes(pem(intel().root[0]))
    return folder, [folder.parent / "root.pem"] if roots else []


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    folder, roots = td(tmp_path / "known")
    return cvmlab.learn([folder], name="td", trust_roots=roots, at=NOW)


def judge(folder: Path, roots: list[Path], baseline: Baseline) -> tuple[str, str]:
    result = cvmlab.investigate(folder, baseline=baseline, trust_roots=roots, at=NOW)
    return result.verdict, result.primary.code if result.primary else ""


def test_td_of_the_firmware_it_was_learned_from_is_trusted(tmp_path: Path, baseline: Baseline) -> None:
    assert baseline.policy.launch_measurements == ((b"\x22" * 48).hex(),)
    assert judge(*td(tmp_path / "same"), baseline) == ("trusted", "")


def test_other_firmware_that_extends_the_expected_values_is_not_trusted(
    tmp_path: Path, baseline: Baseline
) -> None:
    folder, roots = td(tmp_path / "other", mr_td=OTHER)
    assert judge(folder, roots, baseline) == ("not-trusted", "firmware-changed")
    result = cvmlab.investigate(folder, baseline=baseline, trust_roots=roots, at=NOW)
    cause = json.loads(result.to_json())["causes"][0]
    assert (cause["set"], cause["registers"], cause["primary"]) == ("cc", [0], True)


def test_measurement_that_no_processor_vouches_for_decides_nothing(
    tmp_path: Path, baseline: Baseline
) -> None:
    folder, roots = td(tmp_path / "unrooted", roots=False)
    assert judge(folder, roots, baseline) == ("not-trusted", "hardware-chain-untrusted")


def test_rule_is_kept_by_document_and_merge(tmp_path: Path, baseline: Baseline) -> None:
    again = baseline_from_json(baseline_to_json(baseline), source="td.json")
    assert again.policy.launch_measurements == baseline.policy.launch_measurements
    folder, roots = td(tmp_path / "newer", mr_td=OTHER)
    newer = cvmlab.learn([folder], name="newer", trust_roots=roots, at=NOW)
    both = merge(baseline, newer)
    assert len(both.policy.launch_measurements) == 2
    assert judge(folder, roots, both) == ("trusted", "")
    assert judge(*td(tmp_path / "third", mr_td=b"\x24" * 48), both)[1] == "firmware-changed"


def test_accepting_says_that_a_rule_is_broken(tmp_path: Path, baseline: Baseline) -> None:
    folder, roots = td(tmp_path / "other", mr_td=OTHER)
    result = cvmlab.investigate(folder, baseline=baseline, trust_roots=roots, at=NOW)
    with pytest.raises(BaselineError, match="baseline merge"):
        cvmlab.accept(baseline, result, "firmware-changed", reason="release notes")


def test_comparing_two_boots_names_other_firmware(tmp_path: Path) -> None:
    first, _ = td(tmp_path / "first")
    second, _ = td(tmp_path / "second", mr_td=OTHER)
    found = cvmlab.diff(first, second)
    assert [(c.code, c.claimed) for c in found.causes] == [("firmware-changed", True)]
    assert not found.same
    rows = {(r["set"], r["register"]): r["status"] for r in found.to_dict()["registers"]}
    assert rows[("cc", 0)] == "differs"
    assert rows[("cc", 1)] == "matches"
    assert cvmlab.diff(first, first).same
