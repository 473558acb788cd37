"""Hold an explanation to what was written down when its evidence was made: which causes, what under which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.explain.model import Cause, Explanation


def check_causes(found: Explanation, expected: Mapping[str, Any]) -> None:
    """Compare verdict, primary cause, the causes beside it and the consequences of each.

    Args:
        found: The answer.
        expected: An entry of an ``expected.json``: `verdict`, `primary` (any of a list), `independent`,
            `info` (causes that only inform), `consequences` (code to the codes right under it, at any
            depth). What is not named must not be found.
    """
    wanted = expected["verdict"]
    assert found.verdict in ([wanted] if isinstance(wanted, str) else wanted)
    causes = list(found.causes)
    info = {cause.code for cause in causes if cause.severity == "info"}
    assert info == set(expected.get("info", ())), "causes that only inform"
    serious = [cause for cause in causes if cause.severity != "info"]
    primary = [cause.code for cause in serious if cause.primary]
    if expected.get("primary"):
        assert len(primary) == 1
        assert primary[0] in expected["primary"]
    else:
        assert not primary
    beside = {cause.code for cause in serious if not cause.primary}
    assert beside == set(expected.get("independent", ())), "causes beside the primary one"
    under = {code: set(codes) for code, codes in expected.get("consequences", {}).items()}
    assert dict(_under(causes)) == under, "which codes hang under which cause"


def named_codes(expected: Mapping[str, Any]) -> set[str]:
    """Every code that an entry says its evidence shows."""
    under = expected.get("consequences", {})
    return {
        *expected.get("primary", ()),
        *expected.get("independent", ()),
        *expected.get("info", ()),
        *(code for codes in under.values() for code in codes),
    }


def _under(causes: Iterable[Cause]) -> Iterable[tuple[str, set[str]]]:
    for cause in causes:
        if cause.consequences:
            yield cause.code, {one.code for one in cause.consequences}
            yield from _under(cause.consequences)
