"""What was done to a log is named, where the quote is that of the unedited boot.

Expected codes follow from the edit itself; the hash of the quoted registers decides, so an edit that is
named is proven by it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import remeasure
from edits import (
    Change,
    cut_after,
    digest_flipped,
    doubled,
    event,
    log_of,
    removed,
    swapped,
    type_changed,
)

import cvmlab
from cvmlab.eventlog import read_event_log
from cvmlab.report.investigation import Investigation

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
Judge = Callable[..., Investigation]
LAST = len(read_event_log(BOOTS / "baseline" / "eventlog.bin").events) - 1
EXTENDING = [e.index for e in read_event_log(BOOTS / "baseline" / "eventlog.bin").events if e.extends]


@pytest.mark.parametrize("index", [i for i in EXTENDING if i < LAST - 1])
def test_each_removed_event_is_named(judge: Judge, index: int) -> None:
    result = judge("baseline", removed(index))
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code in ("log-event-removed", "log-truncated")
    gone = read_event_log(BOOTS / "baseline" / "eventlog.bin").events[index]
    assert gone.register in result.primary.registers


@pytest.mark.parametrize("index", EXTENDING[::3])
def test_each_doubled_event_is_named(judge: Judge, index: int) -> None:
    result = judge("baseline", doubled(index))
    assert result.primary is not None
    assert result.primary.code == "log-event-inserted"
    events = result.assessment.log.events
    # of equal events it cannot be said which one is too many
    assert [events[i].digests for i in result.primary.events] == [events[index].digests]


@pytest.mark.parametrize("index", EXTENDING[::2])
def test_each_changed_digest_is_named(judge: Judge, index: int) -> None:
    result = judge("baseline", digest_flipped(index))
    assert result.primary is not None
    assert result.primary.code == "log-event-modified"
    assert result.primary.events == (index,)


@pytest.mark.parametrize(("first", "second"), [(42, 43), (33, 43), (32, 35)])
def test_swapped_events_of_one_register_are_named(judge: Judge, first: int, second: int) -> None:
    result = judge("baseline", swapped(first, second))
    assert result.primary is not None
    assert result.primary.code == "log-events-reordered"
    assert result.primary.registers == (8,)


@pytest.mark.parametrize("index", range(24, LAST))
@pytest.mark.parametrize("extra", [0, 9])
def test_each_cut_is_a_truncation(judge: Judge, index: int, extra: int) -> None:
    result = judge("baseline", cut_after(index, extra))
    assert result.primary is not None
    assert result.primary.code == "log-truncated"


def test_cut_between_commands_that_come_again_is_a_truncation(tmp_path: Path) -> None:
    boot = remeasure.Boot(remeasure.events_of("baseline"))
    commands = [e for e in boot.events if e.register == 8 and e.data.startswith(b"grub_cmd")]
    assert len(commands) > 2
    last = boot.events.index(commands[-1])
    # a boot loader's menu runs the same commands again
    boot.events[last + 1 : last + 1] = commands
    # the Spec ID event stands before them
    assert cut_anew(tmp_path, boot, last + 2) == ("log-truncated", (last + 2,))


def test_cut_before_the_separator_of_register_7_is_a_truncation_and_no_fault(tmp_path: Path) -> None:
    boot = remeasure.Boot(remeasure.events_of("baseline"))
    closing = next(e for e in boot.events if (e.register, e.type) == (7, remeasure.SEPARATOR))
    boot.events.remove(closing)
    others = [i for i, e in enumerate(boot.events) if e.type == remeasure.SEPARATOR]
    # some firmware closes register 7 as the last
    boot.events.insert(others[-1] + 1, closing)
    assert cut_anew(tmp_path, boot, others[-1] + 1) == ("log-truncated", (others[-1] + 1,))


def test_cut_before_the_authority_of_what_was_started_is_a_truncation(tmp_path: Path) -> None:
    boot = remeasure.Boot(remeasure.events_of("baseline"))
    secure = boot.variable("SecureBoot")
    assert boot.value("SecureBoot") == b"\x01"
    authorities = [e for e in boot.events if e.type == remeasure.AUTHORITY]
    assert secure.register == authorities[0].register == 7
    started = next(e for e in boot.events if (e.register, e.type) == (4, remeasure.APPLICATION))
    for authority in authorities:
        boot.events.remove(authority)
    place = boot.events.index(started) + 1
    # some firmware logs who vouched for an application after the application
    boot.events[place:place] = authorities
    assert cut_anew(tmp_path, boot, place) == ("log-truncated", (place,))


def test_edit_of_a_register_too_long_to_search_is_told_as_not_searched(tmp_path: Path) -> None:
    commands = [
        remeasure.measured(8, remeasure.IPL, b"grub_cmd: %d\0" % number, b"%d" % number)
        for number in range(4100)
    ]
    folder = remeasure.write_boot(tmp_path / "boot", [*remeasure.events_of("baseline"), *commands])
    last = read_event_log(folder / "eventlog.bin").events[-1].index
    removed(last - 9)(folder)
    primary = cvmlab.investigate(folder, enrolled_keys=[remeasure.enrolled_key(tmp_path)]).primary
    assert primary is not None
    assert (primary.code, primary.registers) == ("log-event-modified", (8,))
    assert "register 8 was not searched, with more than 4,096 events" in primary.summary


def cut_anew(scratch: Path, boot: remeasure.Boot, index: int) -> tuple[str, tuple[int, ...]]:
    """Measure a boot anew, learn it, cut its log after an event and return what is primary."""
    key = remeasure.enrolled_key(scratch)
    folder = remeasure.write_boot(scratch / "boot", boot.events)
    baseline = cvmlab.learn([folder], enrolled_keys=[key])
    cut_after(index)(folder)
    primary = cvmlab.investigate(folder, baseline=baseline, enrolled_keys=[key]).primary
    assert primary is not None
    return primary.code, primary.events


def test_a_cut_log_without_a_baseline_is_still_cut(judge: Judge) -> None:
    result = judge("baseline", cut_after(LAST - 1), baseline=None)
    assert result.primary is not None
    assert result.primary.code == "log-truncated"


@pytest.mark.parametrize(
    ("boot", "other"),
    [
        ("baseline", "cmdline_changed"),
        ("cmdline_changed", "baseline"),
        ("secureboot_disabled", "baseline"),
        ("baseline", "kernel_changed"),
        ("baseline", "uki_signed"),
    ],
)
def test_log_of_another_boot_is_named(judge: Judge, boot: str, other: str) -> None:
    result = judge(boot, log_of(other))
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == "log-of-another-boot"


def test_hiding_secure_boot_off_behind_a_good_log_shows_no_secure_boot_fact(judge: Judge) -> None:
    result = judge("secureboot_disabled", log_of("baseline"))
    assert result.comparison is not None
    assert result.comparison.facts.secure_boot is None
    secure = next(e for e in result.assessment.log.events if e.payload.kind == "secure-boot")
    assert result.assessment.event_trust[secure.index] == "unproven"


def test_separator_renamed_is_found_by_its_digest(judge: Judge) -> None:
    index = event("baseline", "separator", 7)
    result = judge("baseline", type_changed(index, 0x80000001))
    assert result.primary is not None
    assert result.primary.code == "event-data-forged"


@pytest.mark.parametrize("kind", ["grub-command", "kernel-command-line"])
def test_changed_type_with_the_digest_of_the_baseline_is_named(judge: Judge, kind: str) -> None:
    result = judge("baseline", type_changed(event("baseline", kind, 8), 5))
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code in ("log-event-modified", "event-data-forged")


def test_event_declared_informative_is_missing_from_its_register(judge: Judge) -> None:
    result = judge("baseline", type_changed(event("baseline", "application", 4), 3))
    assert result.primary is not None
    assert result.primary.code == "log-event-removed"
    assert result.primary.registers == (4,)


def _codes(change: Change, judge: Judge, boot: str) -> list[str]:
    return [cause.code for cause in judge(boot, change).causes]


def test_an_edit_beside_a_real_change_names_both(judge: Judge) -> None:
    codes = _codes(removed(event("cmdline_changed", "authority", 7)), judge, "cmdline_changed")
    assert codes[0] == "log-event-removed"
    assert "kernel-command-line-changed" in codes
