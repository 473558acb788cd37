"""A boot against its machine's own history: real boots of one simulated machine, measured anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

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
