"""A prediction as the JSON object of ``cvmlab predict --json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.explain.predict import SCHEMA
from cvmlab.report.verdict import all_causes, cause_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.explain.predict import Prediction


def prediction_object(found: Prediction) -> dict[str, object]:
    """Return the object of ``cvmlab predict --json``."""
    return {
        "schema": SCHEMA,
        "baseline": found.before.name,
        "complete": found.complete,
        "registers": [
            {
                "set": one.set,
                "register": one.register,
                "bank": one.bank,
                "before": [value.hex() for value in one.before],
                "after": [value.hex() for value in one.after],
                "status": one.status,
                "why": one.why,
            }
            for one in found.registers
        ],
        "events": [
            {
                "set": one.set,
                "register": one.register,
                "change": one.change,
                "kind": one.kind,
                "name": one.name,
                "before": one.before,
                "after": one.after,
                "digests_before": _hex(one.digests_before),
                "digests_after": _hex(one.digests_after),
                "why": one.why,
            }
            for one in found.events
        ],
        "causes": [cause_object(cause) for cause in all_causes(found.causes)],
        "unknown": [
            {"set": key[0], "register": key[1], "why": list(reasons)}
            for key, reasons in found.unknown.items()
        ],
        "notes": list(found.notes),
    }


def _hex(digests: Mapping[str, bytes]) -> dict[str, str]:
    return {bank: value.hex() for bank, value in digests.items()}
