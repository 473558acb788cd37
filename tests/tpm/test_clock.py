"""The clock as tpm2_readclock prints it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import CvmlabError, ParseError
from cvmlab.tpm.clock import ClockReading, parse_clock

GOOD = "time: 16891\nclock_info:\n  clock: 95617\n  reset_count: 8\n  restart_count: 0\n  safe: yes\n"


def test_reads_what_the_tool_prints(soft_tpm):
    reading = parse_clock(soft_tpm("readclock").encode(), source="clock.yaml")
    later = parse_clock(soft_tpm("readclock").encode(), source="clock.yaml")
    assert later.clock >= reading.clock
    assert (later.reset_count, later.restart_count) == (reading.reset_count, reading.restart_count)


def test_reads_the_recorded_clock(boots):
    assert parse_clock((boots / "baseline/clock.yaml").read_bytes(), source="c") == ClockReading(
        16891, 95617, 8, 0, True
    )


def test_not_safe():
    assert parse_clock(GOOD.replace("yes", "no").encode(), source="c").safe is False


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("95617", ""),
        ("95617", "-1"),
        ("95617", "0x10"),
        ("95617", "1.5"),
        ("95617", "١٢"),
        ("95617", str(1 << 64)),
        ("95617", "9" * 5000),
        ("reset_count: 8", f"reset_count: {1 << 32}"),
        ("safe: yes", "safe: true"),
        ("  safe: yes\n", ""),
        ("time: 16891\n", ""),
        ("time: 16891", "time: 1\ntime: 2"),
        ("time: 16891", "something else"),
        (GOOD, ""),
    ],
    ids=lambda text: text[:20],
)
def test_clock_of_a_wrong_form(old, new):
    with pytest.raises(ParseError):
        parse_clock(GOOD.replace(old, new).encode(), source="c")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=100) | st.text(alphabet="timeclock_safe: \n0123", max_size=100).map(str.encode))
def test_hostile_bytes_only_raise_our_errors(data):
    with pytest.raises(CvmlabError):
        parse_clock(data, source="c")
