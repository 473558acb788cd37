"""Lines fit, and lose nothing but spaces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cvmlab.view.layout import cut, line_text, line_width, share, text_width, wrap

TEXT = st.text("ab- 日é\u0301", max_size=60)
SPANS = st.lists(st.tuples(TEXT, st.sampled_from(["", "bad"])), max_size=5).map(tuple)


def test_text_width_counts_cells() -> None:
    assert text_width("abc") == 3
    assert text_width("日本") == 4
    assert text_width("e\u0301") == 1


def test_wrap_keeps_punctuation_with_its_word() -> None:
    lines = wrap((("see ", ""), ("shimx64.efi", "code"), (", then", "")), 16)
    assert [line_text(line) for line in lines] == ["see shimx64.efi,", "then"]


def test_wrap_splits_a_word_behind_a_mark_where_one_is_near() -> None:
    def split(text: str, width: int) -> list[str]:
        return [line_text(line) for line in wrap(((text, ""),), width)]

    assert split("kernel-command-line-changed", 16) == ["kernel-command-", "line-changed"]
    assert split("EFI\\debian\\shimx64.efi", 12) == ["EFI\\debian\\", "shimx64.efi"]
    assert split("a-bcdefghijklmnopq", 10) == ["a-bcdefghi", "jklmnopq"], "the mark is too far back"
    assert split("------", 4) == ["----", "--"]


@given(SPANS, st.integers(2, 30))
def test_wrap_fits_and_loses_nothing(spans, width: int) -> None:
    lines = wrap(spans, width)
    assert lines
    assert all(line_width(line) <= width for line in lines)
    whole = "".join(text for text, _ in spans)
    assert "".join(line_text(line) for line in lines).replace(" ", "") == whole.replace(" ", "")


@given(SPANS, st.integers(2, 30))
def test_cut_fits(spans, width: int) -> None:
    assert line_width(cut(spans, width)) <= max(width, 2)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 200)
)
def test_share_fills_the_room_and_keeps_minimums(pairs, room: int) -> None:
    natural = [max(pair) for pair in pairs]
    minimum = [min(pair) for pair in pairs]
    widths = share(natural, minimum, room)
    if sum(natural) <= room:
        assert widths == natural
    elif sum(minimum) > room:
        assert widths is None
    else:
        assert widths is not None
        assert sum(widths) == room
        assert all(low <= size <= high for low, size, high in zip(minimum, widths, natural, strict=True))
