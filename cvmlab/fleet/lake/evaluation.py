"""Verdicts of what is in the lake: derived from the evidence itself, so they can be derived again."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from threading import local
from typing import TYPE_CHECKING, Any, Final

from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.errors import CvmlabError
from cvmlab.evidence.context import VerifierContext, enrolled_key
from cvmlab.findings import Problem
from cvmlab.fleet.evaluate import FILES_COLUMN, evaluate_batch, evidence_schema
from cvmlab.fleet.lake.blobs import Blobs
from cvmlab.fleet.lake.run import Runner
from cvmlab.fleet.lake.schema import arrow_table, versions
from cvmlab.fleet.lake.sent import make_sendable
from cvmlab.fleet.profiles import Profiles
from cvmlab.tables_lake import ATTESTATIONS, FINDINGS, QUARANTINE, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.fleet.lake.store import Lake

BATCH: Final = 512
"""Most attestations judged together."""
BATCH_BYTES: Final = 64 << 20
COLUMNS: Final = (
    "attestation",
    "machine",
    "received",
    "day",
    "source",
    "file_names",
    "blobs",
    "size",
    "nonce",
    "verifier_files",
    "verifier_blobs",
)

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows that a batch of attestations gives; written findings first, verdicts last."""

    findings: pa.Table
    quarantine: pa.Table
    verdicts: pa.Table


def derivation_of(baseline: Baseline | None, context: VerifierContext) -> str:
    """Return what verdicts were derived with, as one hash: baseline, verifier's knowledge, time, program."""
    made = versions()
    parts = (baseline_hash(baseline) or "-", context.context_hash, str(context.at), made["tool_version"])
    return sha256(json.dumps([*map(str, parts), made["schema_version"]]).encode()).hexdigest()


def baseline_hash(baseline: Baseline | None) -> str | None:
    """Return the SHA-256 of a baseline as it is saved; None for none."""
    return sha256(baseline_to_json(baseline).encode()).hexdigest() if baseline is not None else None


def evaluate(
    lake: Lake,
    baseline: Baseline | None = None,
    context: VerifierContext | None = None,
    *,
    run: Runner | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Derive the verdicts that the lake does not have yet for this baseline and knowledge.

    Args:
        lake: The lake.
        baseline: The baseline; None for none.
        context: What the verifier knows of all machines. What it knows of one came with its ingest.
        run: Where batches are judged and written; in this process by default.
        progress: Called with the number of verdicts after each batch.

    Returns:
        Verdicts that were added.
    """
    context = context or VerifierContext()
    make_sendable(context)
    work = partial(_added, lake, baseline, baseline_hash(baseline), context, derivation_of(baseline, context))
    total = 0
    for added in (run or Runner()).map(work, _open(lake, derivation_of(baseline, context))):
        total += added
        if progress is not None:
            progress(total)
    return total


def _open(lake: Lake, derivation: str) -> Iterator[pa.RecordBatch]:
    """Yield the attestations without a verdict of this derivation, in batches of bounded size."""
    import pyarrow as pa
    import pyarrow.compute as pc

    verdicts, keys = lake.files(VERDICTS), lake.keys(VERDICTS, "attestation")
    for found in lake.dataset(ATTESTATIONS).to_batches(columns=list(COLUMNS), batch_size=BATCH):
        if not len(found):
            continue
        ids = found.column("attestation").cast(pa.string())
        judged: list[str] = []
        for rows in keys.rows(verdicts, keys.maybe(verdicts, ids), ("attestation", "derivation")):
            same = rows.filter(pc.equal(rows.column("derivation").cast(pa.string()), derivation))
            judged += same.column("attestation").to_pylist()
        new = found.filter(pc.invert(pc.is_in(ids, value_set=pa.array(judged, pa.string()))))
        first, size = 0, 0
        for index, bytes_ in enumerate(new.column("size").to_pylist()):
            if index > first and size + bytes_ > BATCH_BYTES:
                yield new.slice(first, index - first)
                first, size = index, 0
            size += bytes_
        if first < len(new):
            yield new.slice(first)


def _added(
    lake: Lake,
    baseline: Baseline | None,
    hashed: str | None,
    context: VerifierContext,
    derivation: str,
    found: pa.RecordBatch,
) -> int:
    """Judge and write, in whichever process; what was written before is not written again."""
    made = {"baseline_hash": hashed, "derivation": derivation, "evaluated": datetime.now(UTC), **versions()}
    judged = _judge(lake, _profiles(hashed, baseline), context, made, found)
    lake.append(FINDINGS, judged.findings, key=("attestation", "derivation", "position"))
    lake.append(QUARANTINE, judged.quarantine, key=("attestation",))
    return lake.append(VERDICTS, judged.verdicts, key=("attestation", "derivation"))


class _Kept(local):
    """What a thread keeps from batch to batch: profiles against the last baseline."""

    hashed: str | None = None
    profiles: Profiles | None = None


_KEPT: Final = _Kept()


def _profiles(hashed: str | None, baseline: Baseline | None) -> Profiles | None:
    if baseline is None:
        return None
    if _KEPT.profiles is None or _KEPT.hashed != hashed:
        _KEPT.hashed, _KEPT.profiles = hashed, Profiles(baseline)
    return _KEPT.profiles


def _judge(
    lake: Lake, profiles: Profiles | None, context: VerifierContext, made: _Row, found: pa.RecordBatch
) -> Judged:
    rows = found.to_pylist()
    wanted = {name for row in rows for name in (*row["blobs"], *row["verifier_blobs"])}
    contents = Blobs(lake).get(wanted)
    groups: dict[tuple[tuple[str, str], ...], list[_Row]] = defaultdict(list)
    for row in rows:
        known = zip(row["verifier_files"], row["verifier_blobs"], strict=True)
        groups[tuple(sorted(one for one in known if one[0].startswith("enrolled/")))].append(row)
    verdicts: list[_Row] = []
    findings: list[_Row] = []
    bad: list[_Row] = []
    for keys, group in groups.items():
        own = _enrolled(context, keys, contents)
        judged = evaluate_batch(
            evidence_rows(group, contents),
            baseline=profiles.baseline if profiles is not None else None,
            context=own,
            profiles=profiles,
        )
        for row, result in zip(group, judged.to_pylist(), strict=True):
            _add(row, result, made | {"context_hash": own.context_hash}, verdicts, findings, bad)
    return Judged(
        arrow_table(FINDINGS, findings), arrow_table(QUARANTINE, bad), arrow_table(VERDICTS, verdicts)
    )


def _enrolled(
    context: VerifierContext, keys: Sequence[tuple[str, str]], contents: dict[str, bytes]
) -> VerifierContext:
    """Add the keys that the verifier enrolled for these machines, and for no other."""
    for name, blob in keys:
        try:
            key = enrolled_key(contents[blob], source=name)
            context = replace(context, enrolled=(*context.enrolled, key))
        except CvmlabError as error:
            context = replace(context, problems=(*context.problems, Problem(name, 0, "key", str(error))))
    return context


def evidence_rows(rows: list[_Row], contents: dict[str, bytes]) -> pa.RecordBatch:
    """Return attestations as `evaluate_batch` reads them.

    Args:
        rows: Rows of ``attestations`` with the columns `COLUMNS`.
        contents: Contents of their blobs.
    """
    import pyarrow as pa

    made = []
    for row in rows:
        pairs = zip(row["file_names"], row["blobs"], strict=True)
        known = dict(zip(row["verifier_files"], row["verifier_blobs"], strict=True))
        made.append(
            {
                "machine": row["machine"],
                FILES_COLUMN: [{"name": name, "data": contents[blob]} for name, blob in pairs],
                "nonce": _nonce(row["nonce"]),
                "activation": contents.get(known.get("credential_activation.json", "")),
            }
        )
    return pa.RecordBatch.from_pylist(made, schema=evidence_schema())


def _nonce(text: str | None) -> bytes | None:
    try:
        return bytes.fromhex(text) if text else None
    except ValueError:
        return None


def _add(
    row: _Row, result: _Row, made: _Row, verdicts: list[_Row], findings: list[_Row], bad: list[_Row]
) -> None:
    head = {name: row[name] for name in ("attestation", "machine", "received", "day")}
    if result["error"] is not None:
        files = {name: row[name] for name in ("source", "file_names", "blobs")}
        bad.append(head | files | {"reason": result["error"], "evidence": True} | versions())
        # a verdict all the same: no run may take this for what was never judged, nor a reader for fine
        result = dict.fromkeys(result) | {"verdict": "inconclusive", "codes": [], "summary": result["error"]}
        result["evidence_hash"] = ""
    names = (
        "verdict", "primary", "reason", "codes", "summary", "profile", "evidence_hash", "ak_name",
        "believed", "secure_boot", "boot_components", "boot_components_why", "module_signatures",
        "module_signatures_why",
    )  # fmt: skip
    verdicts.append(head | {name: result[name] for name in names} | made)
    causes = json.loads(result["object"])["causes"] if result["object"] else []
    kept = ("code", "reason", "severity", "primary", "title", "explanation", "registers", "events")
    for position, cause in enumerate(causes):
        findings.append(
            head
            | {name: cause[name] for name in kept}
            | {
                "set": cause["set"] or None,
                "position": position,
                "derivation": made["derivation"],
                **versions(),
            }
        )
