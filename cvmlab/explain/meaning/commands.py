"""Command lines: which words came and went, and what they do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cvmlab.explain.meaning.model import Meaning
from cvmlab.explain.meaning.words import words_changed

if TYPE_CHECKING:
    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.eventlog.model import Payload

MAX_EXPLAINED: Final = 8
"""Most words explained of one command line; the difference beside it has all."""


def command_line(row: DiffRow) -> Meaning:
    """Say what a changed command line asks for that the old one did not, and the other way round."""
    if row.change not in ("changed", "added"):
        return Meaning()
    old, new = words_of(row.payload_before), words_of(row.payload_after)
    if new is None or (old is None and row.change == "changed"):
        return Meaning()
    added = list((Counter(new) - Counter(old or ())).elements())
    removed = list((Counter(old or ()) - Counter(new)).elements())
    words = words_changed(removed, added)
    says = [word.sentence for word in words if word.does and word.worth != "neutral"]
    says += [word.sentence for word in words if word.does and word.worth == "neutral"]
    plain = [word for word in words if not word.does]
    for came, verb in ((True, "added"), (False, "removed")):
        names = [word.text for word in plain if word.added is came]
        if names:
            more = f" and {len(names) - MAX_EXPLAINED} more" if len(names) > MAX_EXPLAINED else ""
            says.append(f"{verb}: {' '.join(names[:MAX_EXPLAINED])}{more}")
    if not words and old == new:
        return Meaning()
    if not words:
        return Meaning(("the words are the same in another order, in which the last of several counts",))
    worse = tuple(
        f"{word.text} was {'added' if word.added else 'removed'}" for word in words if word.worth == "worse"
    )[:MAX_EXPLAINED]
    harmless = not worse and not plain and all(word.does for word in words)
    update = ("none of the words that changed weakens the machine",) if harmless else ()
    return Meaning(tuple(says[: MAX_EXPLAINED + 2]), update, worse)


def words_of(payload: Payload | None) -> list[str] | None:
    """Return the words of a logged command line; None where the log does not have them."""
    if payload is None:
        return None
    for key in ("words", "arguments"):
        found = payload.fields.get(key)
        if isinstance(found, list):
            return [str(word) for word in found]
    return None
