"""How many machines would fail if a baseline were enforced: asked once for each boot profile of a lake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.evaluate import evaluate_batch
from cvmlab.fleet.lake.blobs import Blobs
from cvmlab.fleet.lake.evaluation import COLUMNS, evidence_rows
from cvmlab.fleet.lake.schema import among
from cvmlab.fleet.profiles import Profiles
from cvmlab.fleet.status import connect, result

if TYPE_CHECKING:
    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.fleet.lake import Lake

MAX_ENFORCED: Final = 2000
"""Boot profiles that are judged, those of the most machines first; machines of others are not known."""
_BATCH: Final = 100

_NEWEST: Final = """
WITH sizes AS (SELECT profile, count(*) AS n FROM status WHERE profile IS NOT NULL GROUP BY 1
    ORDER BY n DESC, profile LIMIT $limit)
SELECT a.profile, arg_max(a.attestation, a.received) AS attestation FROM attestations a
    JOIN sizes s USING (profile) GROUP BY 1 ORDER BY 1
"""


def would_find(
    lake: Lake, status: pa.Table, baseline: Baseline, context: VerifierContext | None = None
) -> dict[str, tuple[str, ...]]:
    """Return what a baseline finds in the boots of a lake, for `cvmlab.fleet.statistics.enforced`.

    The newest evidence of each profile stands for all machines that have it. What is wrong with that one
    machine's quote or key says nothing of the others and is left out; so is a profile whose evidence cannot
    be read any more.

    Args:
        lake: The lake.
        status: What `cvmlab.fleet.status.status_table` returns.
        baseline: The baseline.
        context: What the verifier knows of all machines.

    Returns:
        Boot profile to codes of causes, the primary one first; empty where the boot fits.
    """
    import pyarrow as pa

    attestations = lake.read("attestations", columns=["attestation", "profile", "received"])
    link = connect(attestations=attestations, status=status)
    chosen = result(link, _NEWEST, {"limit": MAX_ENFORCED}).to_pylist()
    known = Profiles(baseline)
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(chosen), _BATCH):
        part = {row["attestation"]: row["profile"] for row in chosen[start : start + _BATCH]}
        where = among("attestation", pa.array(part, pa.string()))
        rows = lake.read("attestations", columns=COLUMNS, where=where).to_pylist()
        wanted = {name for row in rows for name in (*row["blobs"], *row["verifier_blobs"])}
        batch = evidence_rows(rows, Blobs(lake).get(wanted))
        judged = evaluate_batch(batch, baseline=baseline, context=context, profiles=known).to_pylist()
        for row, verdict in zip(rows, judged, strict=True):
            if verdict["object"] is None:
                continue
            causes = json.loads(verdict["object"])["causes"]
            # sorted is stable: the primary cause first where it is of the boot
            causes.sort(key=lambda cause: not cause["primary"])
            codes = [cause["code"] for cause in causes if _of_boot(cause)]
            found[part[row["attestation"]]] = tuple(dict.fromkeys(codes))
    return found


def _of_boot(cause: dict[str, object]) -> bool:
    return cause["reason"] == "boot-deviates" and cause["severity"] != "info"
