"""What is shown as widgets has a static twin: a document that reads where neither kernel nor script is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from cvmlab.view import mimebundle, render_html

if TYPE_CHECKING:
    from cvmlab.view import Document

_KEPT = 4
"""Twins that follow: of a cell that runs again only the newest twin is still there."""


class Twinned(ABC):
    """Shown in a notebook it is a panel of widgets, and below it the same as a document that follows."""

    _twins: tuple[Any, ...] = ()

    @abstractmethod
    def document(self) -> Document:
        """Return the static twin: everything that the panel shows, as a document."""

    @abstractmethod
    def panel(self) -> Any:
        """Return the widgets.

        Raises:
            MissingExtraError: ipywidgets is not installed.
        """

    def refresh(self) -> None:
        """Bring the static twins that were shown up to date."""
        shown = self._twin() if self._twins else None
        for twin in self._twins:
            twin.update(shown)

    def _twin(self) -> _Twin:
        document = self.document()
        return _Twin(document.title, render_html(document))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return mimebundle(self.document())

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.panel())  # type: ignore[no-untyped-call]
        twin = display(self._twin(), display_id=True)  # type: ignore[no-untyped-call]
        if twin is not None:
            self._twins = (*self._twins[1 - _KEPT :], twin)


class _Twin:
    """The static twin as HTML alone: laying it out as text as well would double what a click costs."""

    def __init__(self, title: str, html: str) -> None:
        self._title, self._html = title, html

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": self._title, "text/html": self._html}
