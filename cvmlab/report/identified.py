"""The files behind a cause, where files were given to look through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cvmlab.explain.model import Cause
    from cvmlab.report.investigation import Investigation

MAX_SHOWN: Final = 4


def identified(result: Investigation, cause: Cause) -> list[tuple[str, str]]:
    """Return (``baseline`` or ``this boot``, what the digest is of) for the events of a cause.

    A match is by digest, so it holds as far as the digest does: the trust of the event says how far.
    """
    if not result.matches:
        return []
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
    found = [("baseline", text) for text in _meanings(result, before)]
    found += [("this boot", text) for text in _meanings(result, after)]
    return found[: 2 * MAX_SHOWN]


def _meanings(result: Investigation, digests: Iterable[bytes]) -> list[str]:
    texts = (match.meaning for value in digests for match in result.matches.get(value, ()))
    return list(dict.fromkeys(texts))[:MAX_SHOWN]
