"""Verdicts of many machines: an Arrow record batch of evidence in, a record batch of verdicts out."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from cvmlab.errors import CvmlabError, EvidenceError, ParseError
from cvmlab.evidence.context import VerifierContext
from cvmlab.evidence.directory import evidence_of
from cvmlab.evidence.sources import RawFile
from cvmlab.explain.verdict import explain
from cvmlab.findings import Problem
from cvmlab.fleet.profiles import Profiles
from cvmlab.fleet.proven import proven_by
from cvmlab.report.investigation import Investigation
from cvmlab.report.verdict import verdict_object
from cvmlab.tpm.credential import parse_credential_activation
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.model import Evidence

FILES_COLUMN: Final = "files"
"""Column of a machine's evidence files: a list of structs of ``name`` and ``data``."""
_VERIFIER: Final = ("nonce", "activation")
_ACTIVATION: Final = "credential_activation.json"


@cache
def evidence_schema() -> pa.Schema:
    """Return the schema of what `evaluate_batch` reads; more columns are handed through."""
    import pyarrow as pa

    file = pa.struct([pa.field("name", pa.string()), pa.field("data", pa.large_binary())])
    return pa.schema(
        [
            pa.field("machine", pa.string()),
            pa.field(FILES_COLUMN, pa.list_(file)),
            pa.field("nonce", pa.binary()),
            pa.field("activation", pa.binary()),
        ]
    )


@cache
def verdict_schema() -> pa.Schema:
    """Return the schema of what `evaluate_batch` adds to the caller's own columns."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("verdict", pa.string()),
            pa.field("primary", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("codes", pa.list_(pa.string())),
            pa.field("summary", pa.string()),
            pa.field("profile", pa.string()),
            pa.field("evidence_hash", pa.string()),
            pa.field("ak_name", pa.string()),
            pa.field("object", pa.string()),
            pa.field("error", pa.string()),
            pa.field("believed", pa.bool_()),
            pa.field("secure_boot", pa.string()),
            pa.field("boot_components", pa.string()),
            pa.field("boot_components_why", pa.string()),
            pa.field("module_signatures", pa.string()),
            pa.field("module_signatures_why", pa.string()),
        ]
    )


class Evaluator:
    """Judges evidence against one baseline; what machines that boot the same way share is done once.

    Nothing of one machine's verification is shared: every quote, key and report is checked by itself.

    Args:
        baseline: The baseline; None for none.
        context: What the verifier knows of all machines: trust roots, enrolled keys, collateral, time.
        profiles: Profiles against the same baseline, with what was compared before.
    """

    def __init__(
        self, baseline: Baseline | None, context: VerifierContext, profiles: Profiles | None = None
    ) -> None:
        self.context = context
        if profiles is not None and profiles.baseline is not baseline:
            raise ValueError("the profiles are of another baseline")
        self._profiles = profiles or (Profiles(baseline) if baseline is not None else None)

    def investigate(
        self, evidence: Evidence, context: VerifierContext | None = None
    ) -> tuple[Investigation, str | None]:
        """Return what `cvmlab.investigate` returns for the same evidence, and the boot's profile.

        Args:
            evidence: The claims.
            context: What the verifier knows of this machine; by default what it knows of all.
        """
        assessment = assess(evidence, context or self.context)
        if self._profiles is None:
            return Investigation(assessment, None, explain(assessment, None)), None
        comparison, profile = self._profiles.comparison(assessment)
        result = Investigation(assessment, comparison, explain(assessment, comparison))
        return result, profile.id if profile is not None else None


def evaluate_batch(
    batch: pa.RecordBatch,
    *,
    baseline: Baseline | None = None,
    context: VerifierContext | None = None,
    profiles: Profiles | None = None,
) -> pa.RecordBatch:
    """Judge the evidence of many machines.

    Verdicts, causes and texts are those that `cvmlab.investigate` gives for each evidence alone.

    Args:
        batch: One row a machine: ``files`` (list of structs of ``name`` and ``data``), and where known
            ``machine`` (its name where the evidence states none), ``nonce`` (bytes) and ``activation``
            (bytes of ``credential_activation.json``), each null where there is none. Other columns are
            handed through. Verifier's files among ``files`` do not count: what the verifier knows comes in
            `context` and these two columns alone.
        baseline: The baseline; without one no verdict is better than ``inconclusive``.
        context: What the verifier knows of all machines.
        profiles: ``Profiles(baseline)`` kept from batch to batch, so that what other batches compared is not
            compared again; the context may differ from batch to batch.

    Returns:
        The rows of `batch` in their order without those three columns, and the columns of `verdict_schema`:
        ``verdict``, ``primary`` and ``reason`` (code and reason of the primary cause; null where trusted),
        ``codes`` (of every cause), ``summary``, ``profile`` (null without log or baseline),
        ``evidence_hash``, ``ak_name`` (hex TPM name of the bound key; null where none is bound), ``object``
        (the JSON of ``cvmlab.verdict/1``), ``error``, and what the evidence proves (`cvmlab.fleet.proven`):
        ``believed``, ``secure_boot`` (``on``, ``off``; null where not proven), ``boot_components``,
        ``module_signatures`` and why. Evidence that cannot be used has ``error`` set and the rest null.

    Raises:
        EvidenceError: There is no column ``files``.
        ValueError: The profiles are of another baseline.
    """
    import pyarrow as pa

    if FILES_COLUMN not in batch.schema.names:
        raise EvidenceError(f"a batch of evidence needs a column {FILES_COLUMN!r}, see evidence_schema()")
    evaluator = Evaluator(baseline, context or VerifierContext(), profiles)
    known = {name: batch.column(name) for name in ("machine", *_VERIFIER) if name in batch.schema.names}
    rows = []
    for index, files in enumerate(batch.column(FILES_COLUMN)):
        own = {name: column[index].as_py() for name, column in known.items()}
        machine = own.get("machine") or f"row {index}"
        raw = [_file(file["name"].as_py() or "", file["data"].as_py() or b"") for file in files or ()]
        rows.append(_row(evaluator, raw, machine, own.get("nonce"), own.get("activation")))
    result = pa.RecordBatch.from_pylist(rows, schema=verdict_schema())
    kept = [name for name in batch.schema.names if name not in (FILES_COLUMN, *_VERIFIER)]
    return pa.RecordBatch.from_arrays(
        [*(batch.column(name) for name in kept), *result.columns], [*kept, *result.schema.names]
    )


def _file(name: str, data: bytes) -> RawFile:
    return RawFile(name, data, len(data))


def _row(
    evaluator: Evaluator,
    files: Sequence[RawFile],
    machine: str,
    nonce: bytes | None,
    activation: bytes | None,
) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(verdict_schema().names)
    try:
        evidence = evidence_of(files, source=machine, default_name=machine)
    except CvmlabError as error:
        row["error"] = str(error)
        return row
    context = evaluator.context
    if nonce:
        context = replace(context, nonce=nonce, nonce_source="the nonce given")
    if activation:
        context = _activated(context, activation)
    result, profile = evaluator.investigate(evidence, context)
    primary, binding = result.primary, result.assessment.binding
    found = verdict_object(result)
    causes = found["causes"]
    row |= {
        "verdict": result.verdict,
        "primary": primary.code if primary is not None else None,
        "reason": primary.entry.reason if primary is not None else None,
        "codes": [cause["code"] for cause in causes] if isinstance(causes, list) else [],
        "summary": result.summary,
        "profile": profile,
        "evidence_hash": evidence.evidence_hash,
        "ak_name": binding.public.name.hex() if binding.bound and binding.public is not None else None,
        "object": json.dumps(found),
    }
    proven = proven_by(result)
    return row | {
        "believed": proven.believed,
        "secure_boot": {True: "on", False: "off", None: None}[proven.secure_boot],
        "boot_components": proven.boot_components,
        "boot_components_why": proven.boot_components_why,
        "module_signatures": proven.module_signatures,
        "module_signatures_why": proven.module_signatures_why,
    }


def _activated(context: VerifierContext, data: bytes) -> VerifierContext:
    try:
        record = parse_credential_activation(data, source=_ACTIVATION)
    except ParseError as error:
        return replace(context, problems=(*context.problems, Problem.of(error)))
    return replace(context, activation=record, activation_source=_ACTIVATION)
