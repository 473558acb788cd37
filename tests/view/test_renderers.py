"""Every renderer says everything, and believes nothing."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cvmlab.view import (
    Cell,
    Chain,
    ChainLink,
    Code,
    Details,
    Diff,
    Document,
    Figure,
    Heading,
    Paragraph,
    Table,
    Verdict,
    mimebundle,
    print_document,
    render_html,
    render_markdown,
    render_page,
    render_text,
)

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</style></pre></details><b>",
    "\x1b[2J\x1b]0;title\x07",
    "exe.\u202egnp\u2066",
    "a|b|c\n| d |",
    "[red]x[/red] :boom: [link=http://a]",
    "```\n# owned\n<b>",
    "{{ 7*7 }}{% raw %}",
    "\ud800\x00",
    "日本" * 30,
    "x" * 9_000,
    "",
)
VOID = {"meta", "img", "br", "hr", "link", "input"}
ALLOWED = {
    *("div", "style", "header", "main", "section", "p", "span", "strong", "b", "small", "code", "pre"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "ol", "ul", "li", "dl", "dt", "dd", "ins", "del"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"),
    *("details", "summary", "html", "head", "body", "meta", "title"),
}


class Balanced(HTMLParser):
    """Holds that tags are closed in order, and collects what matters of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.headings: list[int] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert parser.tags <= ALLOWED
    names = {name for _, name, _ in parser.attributes}
    assert not any(name.startswith("on") or name in {"id", "href", "style"} for name in names)
    for tag, name, value in parser.attributes:
        if name == "src":
            assert tag == "img"
            assert (value or "").startswith("data:image/")
    return parser


CUT = {"celldigest": "celldigest"[:12]}


@pytest.mark.parametrize("render", [render_text, render_html, render_page, render_markdown])
def test_every_text_is_in(make_document, render) -> None:
    names: set[str] = set()
    out = render(make_document(lambda name: names.add(name) or name))
    left_out = {"title"}
    if render is render_markdown or render is render_text:
        out = out.replace("\\", "")
    missing = {name for name in names - left_out if CUT.get(name, name) not in out}
    assert missing == set()
    assert "1 of 2,000 rows" in out
    assert "claimed" in out


@pytest.mark.parametrize("width", [32, 40, 80, 120, 200])
def test_no_line_is_wider_than_asked(sample: Document, width: int) -> None:
    assert max(len(line) for line in render_text(sample, width).splitlines()) <= width


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("render", [render_html, render_page])
def test_html_shows_hostile_text_as_text(make_document, text: str, render) -> None:
    html = render(make_document(lambda name: f"{name}{text}" if name == "column1" else text))
    page = parsed(html)
    assert "<script" not in html
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    if text.startswith("<script>"):
        assert text in page.text


@given(st.text(st.characters(exclude_categories=()), max_size=30))
@settings(deadline=None, max_examples=60)
def test_any_text_reads_everywhere(make_document, text: str) -> None:
    document = make_document(lambda name: text if "column" not in name else name + text)
    fragment = render_html(document)
    parsed(fragment)
    parsed(render_page(document)).text.encode("utf-8")
    plain = render_text(document, 60)
    assert all(line.isprintable() for line in plain.split("\n"))
    markdown = re.sub(r"^(`{3,})[a-z]*\n.*?^\1$", "", render_markdown(document), flags=re.M | re.S)
    left = re.sub(r"</?(?:code|details|summary)>", "", markdown)
    assert "<" not in left
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    print_document(document, console)


def test_headings_never_skip_a_level(sample: Document) -> None:
    for html, first in ((render_page(sample), 1), (render_html(sample), 2)):
        levels = parsed(html).headings
        assert levels[0] == first
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert levels.count(first) == 1


def test_page_is_self_contained_and_forbids_scripts(sample: Document) -> None:
    page = render_page(sample)
    assert page.startswith("<!DOCTYPE html>")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert '<html lang="en">' in page
    assert "url(" not in page
    assert "@import" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert 'scope="col"' in page
    assert "<caption>" in page


def test_fragment_styles_only_itself() -> None:
    style = render_html(Document("t", ())).split("<style>")[1].split("</style>")[0]
    for selectors in re.findall(r"(?:^|})\s*([^{}@]+){", style, flags=re.M):
        assert all(each.strip().startswith(".cvmlab") for each in selectors.split(",")), selectors
    assert "background: #" not in style


def test_digest_is_cut_and_whole_in_the_tooltip() -> None:
    digest = "0123456789abcdef" * 4
    table = Document("t", (Table(("d",), ((Cell(digest, kind="digest"),),)),))
    assert f'title="{digest}">0123456789ab</code>' in render_html(table)
    assert "0123456789ab\n" in render_text(table)
    assert digest not in render_text(table)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("trusted", " ✔ TRUSTED"),
        ("not-trusted", " ✘ NOT TRUSTED"),
        ("inconclusive", " ? INCONCLUSIVE"),
    ],
)
def test_verdict_has_glyph_and_word(word, line: str) -> None:
    document = Document("t", (Verdict(word, "Because."),))
    assert render_text(document) == f"t\n\n{line}\nBecause.\n"
    assert f"> **{line.strip()}**\n>\n> Because." in render_markdown(document)
    assert line[1] in render_html(document)


def test_chain_breaks_where_it_is_broken() -> None:
    links = (
        ChainLink("quote", "holds"),
        ChainLink("log replay", "broken", "PCR 4"),
        ChainLink("policy", "not-checked"),
    )
    assert render_text(Document("t", (Chain(links),)), 60) == (
        "t\n\n"
        " ✔  quote       holds\n"
        " ✘  log replay  broken       PCR 4\n"
        " ╳╌╌ the chain breaks here ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌\n"
        " ?  policy      not checked\n"
    )
    html = render_html(Document("t", (Chain(links),)))
    assert html.count('class="cvm-link cvm-bad cvm-break"') == 1
    assert html.count('class="cvm-link cvm-warn cvm-after"') == 1
    assert html.count('class="cvm-link cvm-good"') == 1


@pytest.mark.parametrize("render", [render_text, render_html, render_markdown])
def test_table_cells_are_bounded(render) -> None:
    out = render(Document("t", (Table(("a",), ((Cell("w" * 100_000, title="w" * 100_000),),)),)))
    assert out.count("w") < 2_000


def test_unknown_status_is_never_good() -> None:
    html = render_html(Document("t", (Table(("s",), ((Cell("splendid", kind="status"),),)),)))
    assert "cvm-warn cvm-status" in html
    assert "✔" not in html


def test_absent_is_not_blank() -> None:
    document = Document("t", (Table(("a", "b"), ((None, 0),)),))
    assert render_text(document) == "t\n\na  b\n─  ─\n–  0\n1 row\n"
    assert 'aria-label="no value"' in render_html(document)
    assert "| – | 0 |" in render_markdown(document)


def test_diff_marks_the_words_that_changed() -> None:
    document = Document("t", (Diff("", (("-", "ro quiet"), ("+", "ro quiet init=/bin/sh"))),))
    assert "ro quiet <b>init=/bin/sh</b>" in render_html(document)
    assert parsed(render_html(document)).text.count("ro quiet") == 2
    assert "```diff\n- ro quiet\n+ ro quiet init=/bin/sh\n```" in render_markdown(document)


@given(st.lists(st.tuples(st.sampled_from("+- "), st.text("ab <", max_size=8)), max_size=6))
@settings(deadline=None, max_examples=60)
def test_diff_loses_no_text(lines) -> None:
    text = parsed(render_html(Document("t", (Diff("", tuple(lines)),)))).text
    sign = {"+": "+", "-": "−", " ": " "}
    assert [line for line in text.split("\n") if line[:1] and line[0] in "+− " and line.strip()] == [
        f"{sign[s]} {t}" for s, t in lines if (sign[s] + t).strip()
    ]


def test_long_details_are_folded_in_text() -> None:
    block = Details("More", tuple(Paragraph(str(i)) for i in range(40)))
    assert "▸ More  (79 lines folded)" in render_text(Document("t", (block,)))
    assert "39" in render_text(Document("t", (block,)), folded_lines=100)


def test_code_cannot_end_its_fence() -> None:
    out = render_markdown(Document("t", (Code("```\n<b>", language="sh\n<x>"),)))
    assert "````shx\n```\n<b>\n````" in out


def test_figure_is_an_image_with_alt_text(sample: Document) -> None:
    assert 'src="data:image/svg+xml;base64,' in render_page(sample)
    png = Figure(b"\x89PNG\r\n\x1a\n", alt="a")
    assert 'src="data:image/png;base64,' in render_html(Document("t", (png,)))
    with pytest.raises(ValueError, match="neither PNG nor SVG"):
        render_html(Document("t", (Figure(b"GIF89a", alt="a"),)))


def test_colour_only_where_asked(sample: Document) -> None:
    assert "\x1b" not in render_text(sample)
    assert "\x1b[" in render_text(sample, color=True)
    assert (
        re.sub(r"\x1b\[[0-9;]*m", "", render_text(sample, color=True)).split() == render_text(sample).split()
    )


def printed(**options) -> str:
    file = io.StringIO()
    print_document(Document("t", (Verdict("trusted", "[red]x[/red] :boom:"),)), Console(file=file, **options))
    return file.getvalue()


def test_printing_is_plain_without_a_terminal() -> None:
    assert printed() == "t\n\n ✔ TRUSTED \n[red]x[/red] :boom:\n"


def test_printing_honours_no_color() -> None:
    out = printed(force_terminal=True, width=80, color_system="standard", no_color=True, _environ={})
    assert not re.search(r"\x1b\[(?:\d+;)*3\d", out)
    coloured = printed(force_terminal=True, width=80, color_system="standard", _environ={})
    assert re.search(r"\x1b\[(?:\d+;)*3\d", coloured)


def test_printing_survives_an_ascii_terminal() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"))
    print_document(Document("é", (Heading("h"), Verdict("not-trusted", "s"))), console)
    console.file.flush()
    assert b"x NOT TRUSTED" in raw.getvalue()
    assert b"\\xe9" in raw.getvalue()


def test_mimebundle_is_one_model_three_ways(sample: Document) -> None:
    bundle = mimebundle(sample)
    assert set(bundle) == {"text/plain", "text/html", "text/markdown"}
    assert all("sentence" in text for text in bundle.values())


def test_import_is_light() -> None:
    heavy = ("jinja2", "rich", "pandas", "markupsafe")
    code = f"import sys, cvmlab.view; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
