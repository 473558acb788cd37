"""The search for what was done to a log: registers are computed here by hashlib alone."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quoting import IPL, SEPARATOR, boot_log, extended

from cvmlab.eventlog import read_event_log
from cvmlab.explain.reconcile import Edit, reconcile
from cvmlab.explain.reconcile.known import quirks
from cvmlab.trust.replaycheck import RegisterState

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTION = 0x80000007
EXIT = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
Events = list[tuple[int, int, bytes]]


def measured(events: Events, register: int, bank: str = "sha256", start: bytes | None = None) -> bytes:
    return extended(bank, [hashlib.new(bank, data).digest() for r, _, data in events if r == register], start)


def found(
    log: bytes, values: dict[tuple[int, str], bytes], *, matching: Sequence[tuple[int, str]] = ()
) -> dict[int, Edit]:
    states = [
        RegisterState("tpm", register, bank, value, None, "not-replayed", "")
        for (register, bank), value in values.items()
    ]
    states += [RegisterState("tpm", register, bank, b"", b"", "matches", "") for register, bank in matching]
    result = reconcile(read_event_log(log), states, None)
    return {edit.register: edit for edit in result.edits}


def texts(*names: str, register: int = 8) -> Events:
    return [(register, IPL, name.encode()) for name in names]


BOOT = texts("one", "two", "three", "four", "five")


def test_event_that_was_not_measured_is_named() -> None:
    log = boot_log([*BOOT[:2], (8, IPL, b"put in"), *BOOT[2:]])
    edit = found(log, {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.events) == ("inserted", (3,))


def test_run_of_events_that_were_not_measured_is_named() -> None:
    log = boot_log([*BOOT[:2], *texts("x", "y", "z"), *BOOT[2:]])
    edit = found(log, {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.events) == ("inserted", (3, 4, 5))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 4), (0, 4)])
def test_swapped_events_are_named(first: int, second: int) -> None:
    shown = list(BOOT)
    shown[first], shown[second] = shown[second], shown[first]
    edit = found(boot_log(shown), {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.events) == ("reordered", (first + 1, second + 1))


def test_moved_event_is_named() -> None:
    edit = found(boot_log([BOOT[3], *BOOT[:3], BOOT[4]]), {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.events) == ("reordered", (1,))


@pytest.mark.parametrize("data", [bytes(4), b"\xff" * 4, b"\x01\0\0\0"])
def test_missing_separator_is_named(data: bytes) -> None:
    boot = [(3, IPL, b"before"), (3, SEPARATOR, data), (3, IPL, b"after")]
    edit = found(boot_log([boot[0], boot[2]]), {(3, "sha256"): measured(boot, 3)})[3]
    assert edit.change == "removed"
    assert "separator" in edit.what


@pytest.mark.parametrize("kept", [0, 1])
def test_end_of_the_boot_services_is_missing(kept: int) -> None:
    boot = [(5, SEPARATOR, bytes(4)), *((5, ACTION, text) for text in EXIT)]
    edit = found(boot_log(boot[: 1 + kept]), {(5, "sha256"): measured(boot, 5)})[5]
    assert edit.change == "truncated"


def test_phases_after_the_log_are_known() -> None:
    phases = [(11, IPL, text) for text in (b"enter-initrd", b"leave-initrd")]
    log = boot_log([(11, IPL, b"section"), (8, IPL, b"x")])
    boot = [(11, IPL, b"section"), *phases]
    assert found(log, {(11, "sha256"): measured(boot, 11)})[11].change == "late"


def test_start_from_another_locality_is_named() -> None:
    events: Events = [(0, IPL, b"crtm"), (0, SEPARATOR, bytes(4))]
    value = measured(events, 0, start=bytes(31) + b"\x03")
    edit = found(boot_log(events), {(0, "sha256"): value})[0]
    assert (edit.change, edit.quirk) == ("locality", "startup-locality-not-logged")


def test_event_listed_for_another_register_is_one_edit() -> None:
    boot = [*texts("one", "two", "three"), *texts("a", "b", register=9)]
    shown = [boot[0], (9, IPL, b"two"), boot[2], *boot[3:]]
    values = {(8, "sha256"): measured(boot, 8), (9, "sha256"): measured(boot, 9)}
    edits = found(boot_log(shown), values)
    assert (edits[8].change, edits[8].events, edits[8].source) == ("relocated", (2,), 9)
    assert (edits[9].change, edits[9].events) == ("inserted", (2,))


def test_event_that_only_informs_was_measured() -> None:
    shown = list(BOOT)
    shown[2] = (8, 3, shown[2][2])  # EV_NO_ACTION
    edit = found(boot_log(shown), {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.events, edit.source) == ("removed", (3,), -1)


def test_events_listed_twice_are_a_known_fault() -> None:
    edit = found(boot_log([*BOOT, *BOOT[3:]]), {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.quirk, edit.events) == ("quirk", "events-listed-twice", (6, 7))


def test_last_event_listed_twice_is_an_event_put_in() -> None:
    edit = found(boot_log([*BOOT, BOOT[-1]]), {(8, "sha256"): measured(BOOT, 8)})[8]
    assert (edit.change, edit.events) == ("inserted", (6,))


def test_bank_that_was_capped_is_a_known_fault() -> None:
    events: Events = [(2, IPL, b"rom"), (2, SEPARATOR, bytes(4))]
    edit = found(boot_log(events), {(2, "sha256"): extended("sha256", [hashlib.sha256(bytes(4)).digest()])})[
        2
    ]
    assert (edit.change, edit.quirk) == ("quirk", "bank-capped")


def test_sha1_digests_in_a_stronger_bank_are_a_known_fault() -> None:
    padded = [hashlib.sha1(data).digest() + bytes(12) for _, _, data in BOOT]
    log = boot_log(BOOT, ("sha1", "sha256"))
    edit = found(log, {(8, "sha256"): extended("sha256", padded)})[8]
    assert (edit.change, edit.quirk) == ("quirk", "sha1-padded")


def test_edit_of_one_bank_says_which_banks_still_replay() -> None:
    log = bytearray(boot_log(BOOT, ("sha1", "sha256")))
    at = log.index(hashlib.sha256(b"three").digest())
    log[at] ^= 1
    value = measured(BOOT, 8)
    edit = found(bytes(log), {(8, "sha256"): value}, matching=[(8, "sha1")])[8]
    assert (edit.change, edit.events, edit.other_banks) == ("modified", (3,), ("sha1",))


def test_edit_that_holds_in_two_banks_names_both() -> None:
    log = boot_log([*BOOT[:2], (8, IPL, b"put in"), *BOOT[2:]], ("sha1", "sha256"))
    values = {(8, bank): measured(BOOT, 8, bank) for bank in ("sha1", "sha256")}
    assert found(log, values)[8].banks == ("sha256", "sha1")


@given(st.binary(min_size=32, max_size=32).filter(any))
@settings(max_examples=20, deadline=None)
def test_values_that_nothing_gives_are_not_explained(value: bytes) -> None:
    assert not found(boot_log(BOOT), {(8, "sha256"): value})


def test_search_ends_at_its_bound_and_says_so() -> None:
    events = texts(*(f"command {number}" for number in range(1500)))
    log = read_event_log(boot_log(events))
    state = RegisterState("tpm", 8, "sha256", b"\x55" * 32, None, "not-replayed", "")
    start = time.monotonic()
    result = reconcile(log, [state], None, seconds=0.3)
    assert time.monotonic() - start < 3
    assert result.unfinished == result.unexplained == (8,)
    assert result.tried


def test_long_register_is_left_soon_after_the_bound() -> None:
    # one hypothesis on a register of thousands of equal events costs milliseconds, so few may be tried unseen
    log = read_event_log(boot_log([(8, IPL, b"again")] * 4000))
    state = RegisterState("tpm", 8, "sha256", b"\x55" * 32, None, "not-replayed", "")
    times = iter([0.0])
    result = reconcile(log, [state], None, seconds=2.0, clock=lambda: next(times, 2.5))
    assert result.unfinished == result.unexplained == (8,)
    assert result.tried < 10


def test_search_that_ends_before_its_bound_does_not_say_it_stopped() -> None:
    state = RegisterState("tpm", 8, "sha256", b"\x55" * 32, None, "not-replayed", "")
    result = reconcile(read_event_log(boot_log(BOOT)), [state], None, seconds=2.0, clock=lambda: 0.0)
    assert (result.unexplained, result.unfinished) == ((8,), ())


def test_what_is_cheap_is_found_although_another_register_is_costly() -> None:
    boot = [*texts("one", "two"), *texts(*(f"command {number}" for number in range(1500)), register=9)]
    log = boot_log([*boot[:1], (8, IPL, b"put in"), *boot[1:]])
    states = [
        RegisterState("tpm", 8, "sha256", measured(boot, 8), None, "not-replayed", ""),
        RegisterState("tpm", 9, "sha256", b"\x55" * 32, None, "not-replayed", ""),
    ]
    result = reconcile(read_event_log(log), states, None, seconds=1.0)
    assert [edit.register for edit in result.edits] == [8]


def test_register_with_too_many_events_is_said_not_to_be_searched() -> None:
    boot = texts(*(f"command {number}" for number in range(4097)))
    state = RegisterState("tpm", 8, "sha256", b"\x55" * 32, None, "not-replayed", "")
    result = reconcile(read_event_log(boot_log(boot)), [state], None)
    assert (result.unexplained, result.unfinished, result.too_long) == ((8,), (), (8,))


def test_every_quirk_has_a_link() -> None:
    assert all(quirk.link.startswith("https://") and quirk.title for quirk in quirks().values())


def test_every_quirk_of_the_table_is_found_where_it_is() -> None:
    crtm: Events = [(0, IPL, b"crtm"), (0, SEPARATOR, bytes(4))]
    rom: Events = [(2, IPL, b"rom"), (2, SEPARATOR, bytes(4))]
    zeros, ones = (hashlib.sha256(data).digest() for data in (bytes(4), b"\xff" * 4))
    padded = [hashlib.sha1(data).digest() + bytes(12) for _, _, data in BOOT]
    twice = [*BOOT[:2], *BOOT[3:], *BOOT[3:]]
    cases = {
        "startup-locality-not-logged": (0, boot_log(crtm), measured(crtm, 0, start=bytes(31) + b"\x03")),
        "separator-of-ones": (2, boot_log(rom), extended("sha256", [hashlib.sha256(b"rom").digest(), ones])),
        "events-listed-twice": (8, boot_log(twice), measured([*BOOT[:2], *BOOT[3:]], 8)),
        "sha1-padded": (8, boot_log(BOOT, ("sha1", "sha256")), extended("sha256", padded)),
        "bank-capped": (2, boot_log(rom), extended("sha256", [zeros])),
    }
    produced = {
        name: found(log, {(register, "sha256"): value})[register].quirk
        for name, (register, log, value) in cases.items()
    }
    assert produced == {name: name for name in quirks()}
