"""Print a document on a terminal with rich: its colours, nothing else of it.

Lines are laid out beforehand and handed to rich as finished text, so that no markup, emoji code or
highlighting is looked for in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.view.text import document_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from cvmlab.view.layout import Line
    from cvmlab.view.model import Document

WIDEST = 132
PLAIN_WIDTH = 100

STYLES = {
    "title": "bold",
    "heading": "bold",
    "column": "bold",
    "strong": "bold",
    "rule": "bright_black",
    "muted": "bright_black",
    "absent": "bright_black",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "info": "blue",
    "digest": "cyan",
    "code": "cyan",
    "claimed": "italic",
    "badge-good": "bold green reverse",
    "badge-bad": "bold red reverse",
    "badge-warn": "bold yellow reverse",
}

_ASCII = str.maketrans("✔✘–−│┃╎╳╌─▸▾•▲◆●○…·", "vx--||:X-->v*^*o.~-")


def print_document(document: Document, console: Console | None = None) -> None:
    """Print a document.

    Colours are left out where the output is not a terminal or ``NO_COLOR`` is set; signs become ASCII where
    the output's encoding has no others. Lines are as wide as the terminal, 132 cells at most.

    Args:
        document: What to print.
        console: The rich console to print on; standard output where left out.
    """
    if console is None:
        from rich.console import Console

        console = Console()
    width = min(console.width, WIDEST) if console.is_terminal else PLAIN_WIDTH
    lines = document_lines(document, width)
    console.print(_text(lines, console.encoding), soft_wrap=True, highlight=False, markup=False, end="")


def ansi(lines: list[Line]) -> str:
    """Return lines as text with ANSI colours, whatever the environment says about colours."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", _environ={})
    with console.capture() as capture:
        console.print(_text(lines, "utf-8"), soft_wrap=True, highlight=False, markup=False, end="")
    return capture.get()


def _text(lines: list[Line], encoding: str) -> Text:
    from rich.text import Text

    out = Text()
    for line in lines:
        for text, names in line:
            style = " ".join(filter(None, (STYLES.get(name, "") for name in names.split())))
            out.append(_encodable(text, encoding), style or None)
        out.append("\n")
    return out


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text
