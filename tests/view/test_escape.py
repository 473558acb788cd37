"""Texts an attacker wrote are shown, never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.view.escape import bounded, fence, markdown, markdown_code, shown_lines, visible

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("plain /EFI/debian", "plain /EFI/debian"),
        ("\\EFI\\debian\\shimx64.efi", "\\EFI\\debian\\shimx64.efi"),
        ("Zażółć 日本 ✔", "Zażółć 日本 ✔"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\x00b\x7f\x85", "a\\x00b\\x7f\\x85"),
        ("line\nfeed\ttab\r", "line\\x0afeed\\x09tab\\x0d"),
        ("exe.\u202egnp", "exe.\\u202egnp"),
        ("\u2066x\u2069\u200f\u061c", "\\u2066x\\u2069\\u200f\\u061c"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\u2028\u2029\xa0\u3000", "\\u2028\\u2029\\xa0\\u3000"),
        ("\ud800\ue000\U000e0041", "\\ud800\\ue000\\U000e0041"),
        ("hangul\u3164filler\ufe0f", "hangul\\u3164filler\\ufe0f"),
        ("e\u0301" + "\u0301" * 4, "e" + "\u0301" * 4 + "\\u0301"),
    ],
)
def test_visible(raw: str, seen: str) -> None:
    assert visible(raw) == seen


@given(ANY_TEXT)
def test_visible_leaves_nothing_invisible(text: str) -> None:
    seen = visible(text)
    assert seen.isprintable()
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in seen)
    assert len(seen) <= 10 * len(text)
    assert visible(seen) == seen
    seen.encode("utf-8")


def test_bounded_says_how_many_more() -> None:
    assert bounded("x" * 5, 5) == "xxxxx"
    assert bounded("x" * 5_000, 3) == "xxx… (4,997 more)"


def test_shown_lines_bounds_lines_and_lengths() -> None:
    assert shown_lines("a\r\n\tb", 5) == ["a", "    b"]
    assert shown_lines("\n" * 999, 2) == ["", "", "… (998 more lines)"]
    assert shown_lines("x" * 9_000)[0].endswith("… (5,000 more)")


@pytest.mark.parametrize(
    ("raw", "source"),
    [
        ("a|b", r"a\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("&lt;", "&amp;lt;"),
        ("*b* _i_ `c` ~s~", r"\*b\* \_i\_ \`c\` \~s\~"),
        ("[t](javascript:1)", r"\[t\](javascript:1)"),
        ("![i](http://x)", r"!\[i\](http\://x)"),
        ("see www.example.com", r"see www\.example.com"),
        ("$x$", "&#36;x&#36;"),
        ("\\(x\\)", "&#92;(x&#92;)"),
        ("\\begin{x}", "&#92;begin{x}"),
        ("# title", r"\# title"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("0.97", "0.97"),
        ("=====", r"\====="),
    ],
)
def test_markdown(raw: str, source: str) -> None:
    assert markdown(raw) == source


def test_markdown_code_holds_what_a_code_span_cannot() -> None:
    assert markdown_code("root=UUID=1 ro") == "`root=UUID=1 ro`"
    assert markdown_code("a`b|c<d") == "<code>a&#96;b&#124;c&lt;d</code>"
    assert markdown_code("ends in \\") == "<code>ends in &#92;</code>"
    assert markdown_code("") == ""


def test_fence_is_longer_than_any_run_inside() -> None:
    assert fence(["x"]) == "```"
    assert fence(["````", "`"]) == "`````"


@given(ANY_TEXT)
@settings(deadline=None)
def test_markdown_never_yields_markup(text: str) -> None:
    out = markdown(text)
    assert "<" not in out
    assert ">" not in out
    assert "\n" not in out
    assert "|" not in out.replace("\\|", "")
    code = markdown_code(text)
    assert "<" not in code.replace("<code>", "").replace("</code>", "")
    assert "|" not in code
