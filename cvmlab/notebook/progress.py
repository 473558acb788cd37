"""A progress bar for notebooks, with a line of text that stays where the bar does not."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cvmlab.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress(text: str, total: int, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show how far long work is, and how long it took.

    Args:
        text: What is done.
        total: Steps there are.
        unit: What a step is, in the plural.

    Returns:
        What takes the number of steps that are done.

    Raises:
        MissingExtraError: ipywidgets is not installed.
    """
    try:
        import ipywidgets as widgets
        from IPython.display import display
    except ImportError as error:
        raise MissingExtraError("A progress bar", "notebook") from error
    begun = time.perf_counter()
    bar = widgets.IntProgress(
        max=max(total, 1),
        description=text,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="30em"),
    )
    line = widgets.Label(f"0 of {total:,} {unit}".rstrip())
    handle: Any = display(widgets.HBox([bar, line]), display_id=True)  # type: ignore[no-untyped-call]

    def show(done: int) -> None:
        bar.value = done
        line.value = f"{done:,} of {total:,} {unit}".rstrip()

    yield show
    bar.close()
    said = f"{text}: {bar.value:,} of {total:,} {unit}".rstrip()
    if handle is not None:
        # a bar that was closed leaves an empty box in the notebook: words take its place
        handle.update(_Line(f"{said}, {time.perf_counter() - begun:.1f} s"))


class _Line:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
