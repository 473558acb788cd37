"""Verdicts in batches are those of single investigations."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

import cvmlab
from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_context
from cvmlab.fleet.evaluate import evaluate_batch, evidence_schema, verdict_schema

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"


def row_of(folder: Path) -> dict[str, object]:
    files = [{"name": file.name, "data": file.read_bytes()} for file in sorted(folder.iterdir())]
    record = folder / "credential_activation.json"
    activation = record.read_bytes() if record.is_file() else None
    nonce = load_context(folder).nonce
    return {"machine": folder.name, "files": files, "nonce": nonce, "activation": activation}


def batch_of(folders: list[Path]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([row_of(folder) for folder in folders], schema=evidence_schema())


def test_every_sample_has_the_verdict_of_its_own_investigation() -> None:
    folders = sorted(path.parent for path in (SAMPLES / "boots").glob("*/origin.json"))
    assert folders
    baseline = cvmlab.load_baseline(SAMPLES / "baseline.json")
    root = SAMPLES / "boots" / "trust-root.pem"
    context = load_context(trust_roots=[root])
    result = evaluate_batch(batch_of(folders), baseline=baseline, context=context)
    assert result.schema.names == ["machine", *verdict_schema().names]
    for folder, row in zip(folders, result.to_pylist(), strict=True):
        alone = cvmlab.investigate(folder, baseline=baseline, trust_roots=root)
        assert json.loads(row["object"]) == json.loads(alone.to_json()), folder.name
        assert (row["verdict"], row["machine"]) == (alone.verdict, folder.name)


def test_unusable_evidence_is_a_row_with_its_error() -> None:
    batch = pa.RecordBatch.from_pylist(
        [
            {
                "machine": "m",
                "files": [{"name": "notes.txt", "data": b"hello"}],
                "nonce": None,
                "activation": None,
            }
        ],
        schema=evidence_schema(),
    )
    (row,) = evaluate_batch(batch).to_pylist()
    assert row["verdict"] is None
    assert "no file here is known as evidence" in row["error"]


def test_batch_without_evidence_is_refused() -> None:
    with pytest.raises(EvidenceError, match="'files'"):
        evaluate_batch(pa.record_batch({"machine": ["a"]}))
