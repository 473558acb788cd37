"""The JSON object of ``cvmlab investigate --json`` (design, section 10): names and shapes are fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.report.identified import identified

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvmlab.explain.model import Cause, RegisterRow
    from cvmlab.report.investigation import Investigation

SCHEMA: Final = "cvmlab.verdict/1"


def verdict_object(result: Investigation) -> dict[str, object]:
    """Return the object: verdict, summary, causes, chain and registers."""
    return {
        "schema": SCHEMA,
        "verdict": result.verdict,
        "summary": result.summary,
        "causes": [_cause(result, cause) for cause in all_causes(result.causes)],
        "chain": [{"link": link.name, "status": link.status, "why": link.why} for link in result.chain],
        "registers": [register_object(row) for row in result.explanation.registers],
    }


def _cause(result: Investigation, cause: Cause) -> dict[str, object]:
    found = cause_object(cause, identified(result, cause))
    age = result.since.of_cause(cause, result.comparison) if result.since is not None else ""
    return {**found, "explanation": f"{found['explanation']} {age}."} if age else found


def all_causes(causes: Iterable[Cause]) -> Iterator[Cause]:
    """Yield each cause, then what follows from it, depth first."""
    for cause in causes:
        yield cause
        yield from all_causes(cause.consequences)


def cause_object(cause: Cause, files: Iterable[tuple[str, str]] = ()) -> dict[str, object]:
    """Return one cause; `files` says what its digests are of, as (side, text)."""
    entry = cause.entry
    named = "".join(f" {side[0].upper()}{side[1:]}: {text}." for side, text in files)
    return {
        "code": cause.code,
        "reason": entry.reason,
        "severity": cause.severity,
        "primary": cause.primary,
        "title": entry.title,
        "explanation": f"{entry.explanation} Here: {cause.summary}.{_says(cause)}{named}",
        "next_step": entry.next_step,
        "benign_if": " ".join(filter(None, (entry.benign_if, cause.likeness))),
        "set": cause.set,
        "registers": list(cause.registers),
        "events": list(cause.events),
        "confidence": cause.confidence,
    }


def _says(cause: Cause) -> str:
    return "".join(f" {text[0].upper()}{text[1:]}." for text in cause.meaning.says)


def register_object(row: RegisterRow) -> dict[str, object]:
    """Return one register; a value that is not known is null."""
    return {
        "set": row.set,
        "register": row.register,
        "bank": row.bank,
        "quoted": row.quoted or None,
        "replayed": row.replayed or None,
        "baseline": row.baseline or None,
        "status": row.status,
    }
