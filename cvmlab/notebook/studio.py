"""The baseline studio: a panel of core widgets over `cvmlab.notebook.session.Session`.

Widgets only call the session's methods, and below them stands the static twin, so that a saved or exported
notebook reads without them. All evidence text goes through `cvmlab.view`; selections show it as plain text.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvmlab.baseline.learn import now
from cvmlab.errors import MissingExtraError
from cvmlab.notebook.session import Session
from cvmlab.notebook.studio_view import part_document, studio_document
from cvmlab.notebook.twin import Twinned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cvmlab.view import Document


class BaselineStudio(Twinned, Session):
    """Build a baseline by seeing what it accepts.

    Shown in a notebook it is a panel with a static twin below. Every button calls the method of the same
    name, and `code` gives the code that repeats what was done.

    Args:
        evidence: Evidence folders or archives to learn from; a folder that holds only folders stands for
            those.
        held_back: Evidence that is only judged.
        baseline: A saved baseline to go on with.
        trust_roots: Certificate files that key certificates must lead to.
        enrolled_keys: Files of keys that are known to be the machines'.
        at: Time for which evidence is judged and which the document states; now by default.
        name: Name of the baseline.
        uploads: Folder for what is uploaded in the browser.

    Raises:
        CvmlabError: Nothing of the evidence could be loaded, or the baseline cannot be read.

    Example:
        >>> import cvmlab
        >>> from cvmlab.notebook import BaselineStudio
        >>> studio = BaselineStudio(cvmlab.sample("baseline"), trust_roots=cvmlab.sample_trust_root())
        >>> studio.set_class("per-machine", kind="boot-entry")
        >>> studio.undo()
    """

    def __init__(
        self,
        evidence: Iterable[str | Path] | str | Path = (),
        *,
        held_back: Iterable[str | Path] | str | Path = (),
        baseline: str | Path | None = None,
        trust_roots: Iterable[str | Path] | str | Path = (),
        enrolled_keys: Iterable[str | Path] | str | Path = (),
        at: datetime | str | None = None,
        name: str = "baseline",
        uploads: str | Path = "uploads",
    ) -> None:
        super().__init__(_texts(trust_roots), _texts(enrolled_keys), _stated(at), name, Path(uploads))
        if baseline is not None:
            self.open(baseline)
        if learned := _texts(evidence):
            self.load(*learned)
        if judged := _texts(held_back):
            self.load(*judged, held_back=True)

    def document(self) -> Document:
        """Return the static twin: everything that the studio shows, as a document."""
        return studio_document(self)

    def view(self, part: str) -> Document:
        """Return one part of the twin: ``outcomes``, ``coverage``, ``slots``, ``policy`` or ``code``.

        Raises:
            ValueError: There is no such part.
        """
        return part_document(self, part)

    def panel(self) -> Any:
        """Return the widgets, an `ipywidgets.VBox`.

        Raises:
            MissingExtraError: ipywidgets is not installed.
        """
        try:
            from cvmlab.notebook.studio_panel import Panel
        except ImportError as error:
            raise MissingExtraError("The panel of the studio", "notebook") from error
        return Panel(self, self.refresh).box


def _stated(at: datetime | str | None) -> str:
    """Return a time as ISO 8601; now where none is given."""
    if at is None:
        return now()
    return at.isoformat(timespec="seconds") if isinstance(at, datetime) else at


def _texts(value: Iterable[str | Path] | str | Path) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))
