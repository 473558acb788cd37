"""The files behind a cause, where files were given to look through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cvmlab.artifacts import Match
    from cvmlab.explain.model import Cause
    from cvmlab.report.investigation import Investigation

MAX_SHOWN: Final = 4


def identified(result: Investigation, cause: Cause) -> list[tuple[str, str]]:
    """Return (``baseline`` or ``this boot``, what the digest is of) for the events of a cause.

    A match is by digest, so it holds as far as the digest does: the trust of the event says how far.
    """
    before, after = _matches(result, cause)
    found = [("baseline", match.meaning) for match in before[:MAX_SHOWN]]
    return found + [("this boot", match.meaning) for match in after[:MAX_SHOWN]]


def summary(result: Investigation) -> str:
    """Return the sentence of the verdict, with what changed to what where files say it."""
    sentence = result.explanation.summary
    primary = result.primary
    if primary is None or primary.claimed or not result.matches:
        return sentence
    before, after = _matches(result, primary)
    if not after:
        return sentence
    was = f", from {before[0].short}" if before else ""
    return f"{sentence.removesuffix('.')}{was}, to {after[0].short}."


def _matches(result: Investigation, cause: Cause) -> tuple[list[Match], list[Match]]:
    """What the digests of the baseline and of this boot are of, each file once."""
    if not result.matches:
        return [], []
    before: list[bytes] = []
    after: list[bytes] = []
    rows = result.comparison.rows if result.comparison is not None else ()
    for row in rows:
        if row.register in cause.registers and (row.event in cause.events or row.event < 0):
            before += row.digests_before.values()
            after += row.digests_after.values()
    log = result.assessment.log
    for index in cause.events:
        if log is not None and index < len(log.events):
            after += log.events[index].digests.values()
    return _files(result, before), _files(result, after)


def _files(result: Investigation, digests: Iterable[bytes]) -> list[Match]:
    """The matches, one a file: an image is found by its Authenticode digest and by that of the file."""
    found: dict[tuple[str, str], Match] = {}
    for value in digests:
        for match in result.matches.get(value, ()):
            found.setdefault((match.package, match.path.rsplit("/", 1)[-1] or match.meaning), match)
    return list(found.values())
