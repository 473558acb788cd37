"""Reading on behind damage: only where the rest of the log is certain, and always said."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from cvmlab.eventlog import EventLog, read_event_log
from cvmlab.eventlog.reader import read_event_logs

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
AGILE = (BOOTS / "baseline" / "eventlog.bin").read_bytes()
OLD = (BOOTS / "tpm12" / "eventlog.bin").read_bytes()
LOGS = {"crypto_agile": AGILE, "tcg_1_2": OLD}


def _parts(log: EventLog) -> list[tuple[int, int, bytes]]:
    return [(event.offset, event.register, event.data) for event in log.events]


@pytest.mark.parametrize("damage", ["size_maximum", "digest_count_maximum", "unknown_algorithm"])
def test_damage_to_one_event_costs_that_event(damage: str) -> None:
    whole = read_event_log(AGILE)
    for event in whole.events[1:-1]:
        data = bytearray(AGILE)
        at, value = {
            "size_maximum": (event.data_offset - 4, b"\xff\xff\xff\xff"),
            "digest_count_maximum": (event.offset + 8, b"\xff\xff\xff\xff"),
            "unknown_algorithm": (event.offset + 12, b"\x77\x77"),
        }[damage]
        data[at : at + len(value)] = value
        log = read_event_log(bytes(data))
        expected = [part for part in _parts(whole) if part[0] != event.offset]
        assert _parts(log) == expected, event.index
        assert log.resumed == event.index
        assert not log.complete
        assert not log.cut
        stop, again = log.problems
        assert stop.fatal
        assert not again.fatal
        following = whole.events[event.index + 1].offset
        assert (again.offset, again.have) == (following, following - event.offset)


def test_old_log_is_read_on_where_two_events_follow() -> None:
    whole = read_event_log(OLD)
    for event in whole.events[1:-2]:
        data = bytearray(OLD)
        data[event.data_offset - 4 : event.data_offset] = b"\xff\xff\xff\xff"
        log = read_event_log(bytes(data))
        after = [part for part in _parts(whole) if part[0] > event.offset]
        assert _parts(log)[: event.index] == _parts(whole)[: event.index]
        assert _parts(log)[-len(after) :] == after, event.index


def test_registers_without_a_lost_event_still_replay() -> None:
    whole = read_event_log(AGILE)
    lost = next(event for event in whole.events if event.register == 4 and event.extends)
    data = bytearray(AGILE)
    data[lost.data_offset - 4 : lost.data_offset] = b"\xff\xff\xff\xff"
    values, before = read_event_log(bytes(data)).replay()["sha256"], whole.replay()["sha256"]
    assert {register for register in before if values.get(register) != before[register]} == {4}


@pytest.mark.parametrize("name", LOGS)
def test_cut_log_with_damage_is_not_read_on(name: str) -> None:
    """The chain behind the damage does not lead to the end: nothing proves that it is the log's."""
    whole = read_event_log(LOGS[name])
    event = whole.events[8]
    data = bytearray(LOGS[name][:-3])
    data[event.data_offset - 4 : event.data_offset] = b"\xff\xff\xff\x7f"
    log = read_event_log(bytes(data))
    assert log.resumed is None
    assert log.cut
    assert _parts(log) == _parts(whole)[:8]


@pytest.mark.parametrize("padding", [b"", bytes(4096), b"\xff" * 4096])
def test_log_is_read_on_up_to_its_padding(padding: bytes) -> None:
    event = read_event_log(AGILE).events[20]
    data = bytearray(AGILE + padding)
    data[event.offset + 8 : event.offset + 12] = b"\xff\xff\xff\xff"
    log = read_event_log(bytes(data))
    assert len(log.events) == len(read_event_log(AGILE).events) - 1


def test_inserted_bytes_cost_no_event() -> None:
    whole = read_event_log(AGILE)
    at = whole.events[12].offset
    log = read_event_log(AGILE[:at] + b"\xde\xad\xbe\xef" * 5 + AGILE[at:])
    assert [event.data for event in log.events] == [event.data for event in whole.events]
    assert log.replay() == whole.replay()
    assert not log.complete


def test_hostile_log_of_many_possible_starts_ends_in_time() -> None:
    start = (struct.pack("<III", 0, 13, 1) + b"\x04\x00" + b"\0\0\0\0") * 60_000
    head = AGILE[: read_event_log(AGILE).events[1].offset]
    data = head + b"\xff" * 64 + start + b"\x01"
    began = time.monotonic()
    log = read_event_log(data)
    assert time.monotonic() - began < len(data) / (1 << 20) + 1
    assert not log.complete


@pytest.mark.parametrize("between", [b"", bytes(700), b"\xff" * 700])
def test_logs_one_behind_the_other_are_each_read(between: bytes) -> None:
    logs = read_event_logs(AGILE + between + AGILE)
    one = read_event_log(AGILE)
    assert [log.replay() for log in logs] == [one.replay()] * 2
    assert [event.offset for event in logs[1].events] == [
        event.offset + len(AGILE) + len(between) for event in one.events
    ]
    assert [problem.field for problem in logs[0].problems] == ["SpecIDEvent"]
    assert not logs[1].problems


def test_damage_in_the_first_log_leaves_the_second_alone() -> None:
    event = read_event_log(AGILE).events[30]
    data = bytearray(AGILE)
    data[event.data_offset - 4 : event.data_offset] = b"\xff\xff\xff\x7f"
    first, second = read_event_logs(bytes(data) + AGILE)
    assert first.resumed == 30
    assert second.complete


def test_old_log_before_a_new_one_is_a_log_of_its_own() -> None:
    logs = read_event_logs(OLD + AGILE)
    assert [log.format for log in logs] == ["tcg-1.2", "crypto-agile"]
    assert logs[0].replay() == read_event_log(OLD).replay()
    assert logs[1].replay() == read_event_log(AGILE).replay()


def test_log_inside_the_data_of_an_event_is_data() -> None:
    end = read_event_log(AGILE).events[-1]
    event = AGILE[end.offset : end.data_offset - 4] + struct.pack("<I", len(AGILE)) + AGILE
    (log,) = read_event_logs(AGILE + event)
    assert log.events[-1].data == AGILE
    assert log.complete


def test_problems_are_rows_with_offset_field_need_and_have() -> None:
    event = read_event_log(AGILE).events[20]
    data = bytearray(AGILE)
    data[event.data_offset - 4 : event.data_offset] = (1 << 30).to_bytes(4, "little")
    frame = read_event_log(bytes(data)).table("problems")
    row = frame.iloc[0]
    assert (row["offset"], row["field"], row["fatal"]) == (event.data_offset - 4, "eventSize", True)
    assert (row["need"], row["have"]) == (1 << 30, len(AGILE) - event.data_offset)
    assert frame["need"].dtype == "Int64"
