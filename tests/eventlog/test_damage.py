"""Damaged logs: what was readable is kept, the problem names its place, and nothing hangs or swells."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.eventlog import EventLog, read_event_log
from cvmlab.eventlog.producers import cache_clear

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
AGILE = (BOOTS / "baseline" / "eventlog.bin").read_bytes()
OLD = (BOOTS / "tpm12" / "eventlog.bin").read_bytes()
LOGS = {"crypto_agile": AGILE, "tcg_1_2": OLD}


def _said(log: EventLog, size: int) -> None:
    fatal = [problem for problem in log.problems if problem.fatal]
    assert len(fatal) <= 1
    for problem in log.problems:
        assert 0 <= problem.offset <= size
        assert problem.field
        assert problem.message


@pytest.mark.parametrize("name", LOGS)
def test_every_truncation_keeps_the_events_before_it(name: str) -> None:
    data = LOGS[name]
    whole = read_event_log(data)
    ends = [event.data_offset + len(event.data) for event in whole.events]
    for cut in range(len(data)):
        log = read_event_log(data[:cut])
        kept = sum(end <= cut for end in ends)
        assert [e.offset for e in log.events] == [e.offset for e in whole.events[:kept]], cut
        left = data[ends[kept - 1] if kept else 0 : cut]
        if left.strip(b"\0") and left.strip(b"\xff"):
            _said(log, cut)
            assert log.problems, cut


def _length_fields(data: bytes) -> list[tuple[str, int, int]]:
    """(name, offset, width) of every length and count of a log."""
    log = read_event_log(data)
    fields = [("first_event_size", 28, 4)]
    if log.format == "crypto-agile":
        fields += [("number_of_algorithms", 56, 4), ("vendor_info_size", log.events[0].data_offset + 40, 1)]
    for event in log.events[1:]:
        if log.format == "crypto-agile":
            fields.append(("digest_count", event.offset + 8, 4))
        fields.append(("event_size", event.data_offset - 4, 4))
    return fields


@pytest.mark.parametrize("value", ["zero", "one", "maximum", "past_the_end"])
@pytest.mark.parametrize("name", LOGS)
def test_every_length_field_out_of_range_is_said(name: str, value: str) -> None:
    data = LOGS[name]
    whole = read_event_log(data)
    for field, offset, width in _length_fields(data):
        number = {
            "zero": 0,
            "one": 1,
            "maximum": (1 << 8 * width) - 1,
            "past_the_end": min(len(data) - offset - width + 1, (1 << 8 * width) - 1),
        }[value]
        changed = bytearray(data)
        changed[offset : offset + width] = number.to_bytes(width, "little")
        if bytes(changed) == data:
            continue
        log = read_event_log(bytes(changed))
        _said(log, len(data))
        before = [event for event in whole.events if event.data_offset + len(event.data) <= offset]
        kept = [(e.offset, e.digests, e.data) for e in log.events[: len(before)]]
        assert kept == [(e.offset, e.digests, e.data) for e in before], field
        if value in ("maximum", "past_the_end") and field in (
            "event_size",
            "first_event_size",
            "digest_count",
        ):
            assert not log.complete, field
            place = next(problem.offset for problem in log.problems if problem.fatal)
            assert place <= offset + width + 64, field


# where the data of an event start, in a log of three banks: TCG PC Client PFP 1.06, sections 10.2.3 to 10.2.6
_VARIABLES = frozenset({0x80000001, 0x80000002, 0x800000E0})
_SIGNATURE_LISTS = frozenset({"PK", "KEK", "db", "dbx"})


def _inner_fields(data: bytes) -> list[tuple[str, int, int, int]]:
    """(name, offset, width, event) of the lengths and counts inside event data."""
    fields: list[tuple[str, int, int, int]] = []
    for event in read_event_log(data).events:
        at, index = event.data_offset, event.index
        if event.type in _VARIABLES:
            fields += [("name_length", at + 16, 8, index), ("data_length", at + 24, 8, index)]
            count, size = struct.unpack_from("<QQ", data, at + 16)
            name = data[at + 32 : at + 32 + 2 * count].decode("utf-16-le")
            value = at + 32 + 2 * count
            if event.type == 0x80000001 and name in _SIGNATURE_LISTS and size:
                for field, where in (("list_size", 16), ("header_size", 20), ("signature_size", 24)):
                    fields.append((field, value + where, 4, index))
            elif name.startswith("Boot0"):
                fields += [("path_list_length", value + 4, 2, index)]
        elif event.type == 0x80000003:
            fields.append(("device_path_length", at + 24, 8, index))
            if struct.unpack_from("<Q", data, at + 24)[0]:
                fields.append(("device_node_length", at + 34, 2, index))
        elif event.type == 0x80000006:
            fields += [("entry_size", at + 84, 4, index), ("partition_count", at + 92, 8, index)]
        elif event.type == 0x6:
            fields.append(("tagged_size", at + 4, 4, index))
    # two of each will do: reading a log a thousand times takes its time
    names = [field for field, *_ in fields]
    return [field for i, field in enumerate(fields) if names[:i].count(field[0]) < 2]


@pytest.mark.parametrize("value", ["zero", "one", "maximum", "past_the_end"])
@pytest.mark.parametrize("boot", ["baseline", "uki_signed"])
def test_every_length_inside_an_event_stays_in_that_event(boot: str, value: str) -> None:
    data = (BOOTS / boot / "eventlog.bin").read_bytes()
    whole = read_event_log(data).events
    fields = _inner_fields(data)
    assert len({field for field, *_ in fields}) >= 9
    for field, offset, width, index in fields:
        top = (1 << 8 * width) - 1
        numbers = {"zero": 0, "one": 1, "maximum": top, "past_the_end": min(len(data) - offset, top)}
        changed = data[:offset] + numbers[value].to_bytes(width, "little") + data[offset + width :]
        if changed == data:
            continue
        log = read_event_log(changed)
        assert log.complete, field
        assert [e.digests for e in log.events] == [e.digests for e in whole], field
        other = [e.index for e, was in zip(log.events, whole, strict=True) if e.payload != was.payload]
        assert set(other) <= {index}, field
        event = log.events[index]
        if value in ("maximum", "past_the_end") and field not in ("header_size", "entry_size"):
            error = event.payload.fields.get("error_offset")
            assert isinstance(error, int), field
            assert event.data_offset <= error <= event.data_offset + len(event.data), field
        assert event.digest_check != "covers-data" or event.digests == {}, field


@pytest.mark.parametrize("name", LOGS)
def test_damage_takes_no_more_memory_than_four_times_the_input_beyond_the_log(name: str) -> None:
    data = LOGS[name]

    def peak(log: bytes) -> int:
        cache_clear()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        read_event_log(log)
        return tracemalloc.get_traced_memory()[1] - before

    variants = [data[:cut] for cut in range(0, len(data), 509)]
    for _, offset, width in _length_fields(data)[::4]:
        for number in (0, (1 << 8 * width) - 1):
            variants.append(data[:offset] + number.to_bytes(width, "little") + data[offset + width :])
    for _, offset, width, _ in _inner_fields(data):
        for number in (1, (1 << 8 * width) - 1):
            variants.append(data[:offset] + number.to_bytes(width, "little") + data[offset + width :])
    read_event_log(data)
    tracemalloc.start()
    try:
        whole = peak(data)
        worst = max(peak(variant) for variant in variants)
    finally:
        tracemalloc.stop()
    # and what an error itself takes
    assert worst < whole + 4 * len(data) + (16 << 10)


def test_unknown_bytes_are_not_a_log() -> None:
    log = read_event_log(b"\x7fELF" + bytes(range(256)) * 8)
    assert not log.events
    assert not log.complete


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2048))
def test_random_bytes_never_raise(data: bytes) -> None:
    _said(read_event_log(data), len(data))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(AGILE) - 1), st.integers(0, 255)), max_size=12))
def test_changed_bytes_never_raise(changes: list[tuple[int, int]]) -> None:
    data = bytearray(AGILE)
    for at, value in changes:
        data[at] = value
    log = read_event_log(bytes(data))
    _said(log, len(data))
    log.replay()
    log.to_frame()


def _tiny_events(count: int) -> bytes:
    one = struct.pack("<II", 0, 5) + bytes(range(20)) + struct.pack("<I", 0)
    return one * count


def test_digests_in_any_order_replay_alike() -> None:
    whole = read_event_log(AGILE)
    data = bytearray(AGILE)
    for event in whole.events[1:]:
        start = event.offset + 12
        parts = []
        at = start
        for value in event.digests.values():
            parts.append(AGILE[at : at + 2 + len(value)])
            at += 2 + len(value)
        data[start:at] = b"".join(reversed(parts))
    turned = read_event_log(bytes(data))
    assert turned.complete
    assert turned.replay() == whole.replay()
    assert [e.digest_check for e in turned.events] == [e.digest_check for e in whole.events]


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
def test_padding_behind_the_last_event_is_normal(padding: bytes) -> None:
    log = read_event_log(AGILE + padding * 4096)
    assert log.complete
    assert len(log.events) == len(read_event_log(AGILE).events)


def test_bytes_behind_padding_are_said() -> None:
    log = read_event_log(AGILE + b"\xff" * 64 + AGILE[100:400])
    assert any("padding" in problem.message for problem in log.problems)


def test_event_of_no_register_extends_nothing() -> None:
    whole = read_event_log(AGILE)
    last = whole.events[-1]
    trailer = bytearray(AGILE[last.offset : last.data_offset + len(last.data)])
    trailer[:4] = b"\xff\xff\xff\xff"
    log = read_event_log(AGILE[: whole.end] + bytes(trailer))
    assert len(log.events) == len(whole.events) + 1
    assert log.events[-1].digest_check == "not-extended"
    assert log.replay() == whole.replay()


def test_digest_listed_twice_in_one_event_is_said() -> None:
    event = read_event_log(AGILE).events[5]
    data = bytearray(AGILE)
    at = event.offset + 12
    first = len(next(iter(event.digests.values())))
    # the second digest now claims to be of the first one's algorithm, which has another size
    data[at + 2 + first : at + 4 + first] = data[at : at + 2]
    log = read_event_log(bytes(data))
    assert log.problems


def test_a_log_of_many_tiny_events_costs_time_not_memory() -> None:
    code = (
        "import sys, resource; sys.path.insert(0, '.');"
        "from cvmlab.eventlog import read_event_log;"
        "import cvmlab.eventlog.producers, cvmlab.uefi.certificates;"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "data = open(sys.argv[1], 'rb').read();"
        "log = read_event_log(data);"
        "print(len(log.events), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base, len(data) // 1024)"
    )
    path = Path(__file__).with_name("tiny.tmp")
    try:
        path.write_bytes(_tiny_events(30_000))
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=60
        )
        assert time.monotonic() - start < 60
    finally:
        path.unlink(missing_ok=True)
    events, grown, size = map(int, done.stdout.split())
    assert events == 30_000
    assert grown < 4 * size + (64 << 10)


def test_memory_stays_within_four_times_a_real_input() -> None:
    data = AGILE + b"\0" * (8 << 20)
    read_event_log(AGILE)
    tracemalloc.start()
    read_event_log(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data)


@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 20])
def test_a_huge_count_allocates_nothing(count: int) -> None:
    event = read_event_log(AGILE).events[3]
    data = bytearray(AGILE)
    data[event.offset + 8 : event.offset + 12] = count.to_bytes(4, "little")
    tracemalloc.start()
    log = read_event_log(bytes(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not log.complete
    assert log.events_before(log.problems[0]) == log.resumed == 3
    assert peak < 4 * len(data) + (1 << 20)
