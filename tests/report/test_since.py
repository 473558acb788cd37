"""A boot against its machine's own history: real boots of one simulated machine, measured anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from remeasure import APPLICATION, Boot, enrolled_key, events_of, write_boot

import cvmlab

if TYPE_CHECKING:
    from cvmlab.report.investigation import Investigation

AZURE = Path(__file__).resolve().parents[2] / "sample_data" / "azure"


def words(boot: Boot) -> Boot:
    boot.replace_text(" quiet", " quiet nokaslr")
    return boot


def loader(boot: Boot) -> Boot:
    boot.set_contents(APPLICATION, "grubx64", "new")
    return boot


def investigated(folder: Path, earlier: Boot, now: Boot) -> Investigation:
    key = enrolled_key(folder)
    baseline = cvmlab.learn([write_boot(folder / "good", events_of("baseline"))], enrolled_keys=[key])
    history = write_boot(folder / "earlier", earlier.events)
    path = write_boot(folder / "now", now.events)
    return cvmlab.investigate(path, baseline=baseline, enrolled_keys=[key], history=[history])


def ages(result: Investigation) -> dict[str, str]:
    assert result.since is not None
    return {c.code: result.since.of_cause(c, result.comparison) for c in result.causes}


def test_new_difference_is_told_from_one_that_was_there(tmp_path: Path) -> None:
    earlier = words(Boot(events_of("baseline")))
    now = loader(words(Boot(events_of("baseline"))))
    result = investigated(tmp_path, earlier, now)
    assert result.since is not None
    assert [cause.code for cause in result.since.boots.causes] == ["boot-loader-changed"]
    found = ages(result)
    assert found["boot-loader-changed"].startswith("New since")
    assert found["kernel-command-line-changed"].startswith("It was there already")
    text = json.loads(result.to_json())["causes"]
    assert any("It was there already" in cause["explanation"] for cause in text)
    assert "there already" in str(result.view("since"))


def test_boot_like_the_last_one_has_nothing_new(tmp_path: Path) -> None:
    boot = words(Boot(events_of("baseline")))
    result = investigated(tmp_path, boot, boot)
    assert result.since is not None
    assert result.since.boots.same
    # the same quote shown twice is a finding of its own, with nothing to say of its age
    assert {age for age in ages(result).values() if age} == {
        "It was there already in the machine's last sound evidence"
    }


def test_without_a_history_nothing_is_said_of_one() -> None:
    result = cvmlab.investigate(cvmlab.sample("cmdline_changed"), baseline=cvmlab.sample_baseline())
    assert result.since is None
    assert "last sound evidence" not in result.to_json()


def test_earlier_boot_of_a_confidential_vm() -> None:
    roots = [AZURE / "roots" / "ark.pem", AZURE / "roots" / "vtpm.pem"]
    result = cvmlab.investigate(
        AZURE / "cmdline_changed",
        baseline=AZURE / "baseline.json",
        trust_roots=roots,
        history=[AZURE / "good"],
    )
    assert result.since is not None
    assert "kernel-command-line-changed" in [cause.code for cause in result.since.boots.causes]


# clock in milliseconds, resetCount, restartCount, safe (TPM 2.0 Part 1, section 36)
NOW = (9_000_000, 40, 2, True)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        # power was lost before Clock was saved: it may fall back by 2^22 ms, and resetCount does not
        ((8_000_000, 39, 5, True), (5_000_000, 40, 0, False)),
        # a resume from sleep counts within one reset, whatever was counted in the one before
        ((7_000_000, 40, 0, True), (7_000_000, 40, 1, True)),
        ((6_000_000, 39, 900, True), (6_000_001, 40, 0, True)),
        ((8_999_998, 40, 2, True), (8_999_999, 40, 2, True)),
        # counters are told with a value of the key's own added, modulo 2^32
        ((1_000, (1 << 32) - 9, 0, True), (2_000, 3, 0, True)),
    ],
    ids=["clock_fell_back", "resumed", "reset", "same_boot", "counter_wrapped"],
)
@pytest.mark.parametrize("last_first", [False, True])
def test_last_evidence_is_told_by_resets_then_restarts_then_clock(
    tmp_path: Path, older: tuple[int, int, int, bool], newer: tuple[int, int, int, bool], last_first: bool
) -> None:
    key = enrolled_key(tmp_path)
    paths = {
        name: write_boot(tmp_path / name, events_of("baseline"), clock=clock)
        for name, clock in (("older", older), ("newer", newer), ("now", NOW))
    }
    history = [paths[name] for name in (("newer", "older") if last_first else ("older", "newer"))]
    result = cvmlab.investigate(paths["now"], enrolled_keys=[key], history=history)
    assert result.since is not None
    assert Path(result.since.earlier).name == "newer"


def test_evidence_of_the_present_key_is_nearer_than_that_of_another(tmp_path: Path) -> None:
    keys = [enrolled_key(tmp_path), enrolled_key(tmp_path, 1)]
    other = write_boot(
        tmp_path / "other", events_of("baseline"), clock=(8_999_999, 40, 2, True), key_number=1
    )
    own = write_boot(tmp_path / "own", events_of("baseline"), clock=(8_000_000, 39, 0, True))
    now = write_boot(tmp_path / "now", events_of("baseline"), clock=NOW)
    result = cvmlab.investigate(now, enrolled_keys=keys, history=[other, own])
    assert result.since is not None
    assert Path(result.since.earlier).name == "own"


def test_history_of_other_keys_alone_goes_by_the_clock(tmp_path: Path) -> None:
    keys = [enrolled_key(tmp_path), enrolled_key(tmp_path, 1)]
    folders = [
        write_boot(tmp_path / name, events_of("baseline"), clock=clock, key_number=1)
        for name, clock in (("late", (8_000_000, 3, 0, True)), ("early", (7_000_000, 5, 0, True)))
    ]
    now = write_boot(tmp_path / "now", events_of("baseline"), clock=NOW)
    result = cvmlab.investigate(now, enrolled_keys=keys, history=folders)
    assert result.since is not None
    assert Path(result.since.earlier).name == "late"
