"""Two texts face each other by what differs in them, whatever their length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cvmlab.baseline.difference import facing
from cvmlab.eventlog.model import Payload

LINE = "linux /boot/vmlinuz-6.1.0-56-cloud-amd64 root=/dev/vda2 ro console=tty0 console=ttyS0 audit=1"


def command(text: str) -> Payload:
    return Payload("grub", "grub-command", "linux", text[:40] + "…", None, {"text": text})


def test_short_texts_stay_whole() -> None:
    assert facing("boot order 0001 0002", "boot order 0002 0001", None, None) == (
        "boot order 0001 0002",
        "boot order 0002 0001",
    )


def test_long_texts_show_the_added_words_and_what_stands_before_them() -> None:
    before, after = facing(LINE + " quiet", LINE + " quiet init=/bin/sh", None, None)
    assert before == "… audit=1 quiet"
    assert after == before + " init=/bin/sh"


def test_change_in_the_middle_leaves_out_both_ends() -> None:
    before, after = facing(f"{LINE} a=1 {LINE}", f"{LINE} a=2 {LINE}", None, None)
    assert before.replace("a=1", "a=2") == after
    assert after.startswith("… ")
    assert after.endswith(" …")
    assert len(after) < 80


def test_change_behind_the_end_of_a_summary_is_found_in_the_whole_text() -> None:
    old, new = command(LINE * 9 + " quiet"), command(LINE * 9 + " debug")
    before, after = facing(old.summary, new.summary, old, new)
    assert old.summary == new.summary
    assert (before.split()[-1], after.split()[-1]) == ("quiet", "debug")


@given(st.text(max_size=900), st.text(max_size=400), st.text(max_size=400))
def test_sides_are_bounded_and_differ_wherever_the_texts_do(start: str, one: str, two: str) -> None:
    before, after = facing(f"{start}x{one}", f"{start}y{two}", None, None)
    assert before != after
    assert max(len(before), len(after)) <= 300
