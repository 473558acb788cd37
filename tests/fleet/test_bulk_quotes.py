"""Quotes in batches are checked as single ones are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quoting import ATTESTATION, NONCE, Machine, public_area, software_key

from cvmlab.errors import EvidenceError, ParseError
from cvmlab.fleet import bulk_quotes
from cvmlab.fleet.batch import process_logs
from cvmlab.fleet.bulk_quotes import CHECKS, Keys, check_quotes, quote_schema
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.quote import check_quote

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
SCHEMA = pa.schema(
    [
        ("machine", pa.string()),
        *((name, pa.binary()) for name in ("message", "signature", "key", "nonce")),
    ]
)


def rows_of_samples() -> list[dict[str, object]]:
    rows = []
    for folder in sorted(path.parent for path in SAMPLES.glob("*/quote.msg")):
        nonce = folder / "nonce.hex"
        rows.append(
            {
                "machine": folder.name,
                "message": (folder / "quote.msg").read_bytes(),
                "signature": (folder / "quote.sig").read_bytes(),
                "key": (folder / "ak.pub").read_bytes() if (folder / "ak.pub").is_file() else None,
                "nonce": bytes.fromhex(nonce.read_text().strip()) if nonce.is_file() else None,
            }
        )
    return rows


def expected(row: Mapping[str, object]) -> dict[str, str]:
    key = None
    if isinstance(row["key"], bytes):
        try:
            key = parse_public(row["key"], source="key")
        except ParseError:
            key = None
    report = check_quote(
        row["message"] or b"", row["signature"], key, nonce=row["nonce"], values=None, source="quote"
    )
    return {check.name: check.status for check in report.checks}


def test_every_sample_as_alone() -> None:
    rows = rows_of_samples()
    result = check_quotes(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    assert result.schema.names == ["machine", *quote_schema().names]
    for row, found in zip(rows, result.to_pylist(), strict=True):
        assert {name: found[name] for name in CHECKS} == expected(row), row["machine"]
    assert {row["signature"] for row in result.to_pylist()} >= {"holds"}


def test_values_of_replay_complete_the_checks() -> None:
    row = next(row for row in rows_of_samples() if row["machine"] == "baseline")
    log = (SAMPLES / "baseline" / "eventlog.bin").read_bytes()
    registers = process_logs(pa.record_batch({"log": [log]})).column("registers")[0].as_py()
    have = {entry["register"] for entry in registers}
    # registers that nothing was extended into have no replay
    registers += [
        {"register": index, "bank": bank, "value": (b"\xff" if 17 <= index <= 22 else b"\0") * size}
        for bank, size in (("sha1", 20), ("sha256", 32), ("sha384", 48))
        for index in range(24)
        if index not in have
    ]
    kind = pa.list_(pa.struct([("register", pa.int32()), ("bank", pa.string()), ("value", pa.binary())]))
    batch = pa.RecordBatch.from_pylist([{**row, "registers": registers}], schema=SCHEMA.append(
        pa.field("registers", kind)
    ))  # fmt: skip
    (found,) = check_quotes(batch).to_pylist()
    alone = check_quote(
        row["message"],
        row["signature"],
        parse_public(row["key"], source="key"),
        nonce=row["nonce"],
        values={
            bank: {entry["register"]: entry["value"] for entry in registers if entry["bank"] == bank}
            for bank in ("sha1", "sha256", "sha384")
        },
    )
    assert {name: found[name] for name in CHECKS} == {check.name: check.status for check in alone.checks}
    assert found["pcr_digest"] == alone.attest.pcr_digest
    assert found["reset_count"] == alone.attest.clock_info.reset_count


@settings(max_examples=80, deadline=None)
@given(
    column=st.sampled_from(["message", "signature", "key", "nonce"]),
    place=st.integers(0, 400),
    bit=st.integers(0, 7),
    cut=st.booleans(),
)
def test_a_quote_changed_anywhere(column: str, place: int, bit: int, cut: bool) -> None:
    rows = rows_of_samples()[:3]
    value = bytearray(rows[1][column])
    at = place % len(value)
    if cut:
        del value[at:]
    else:
        value[at] ^= 1 << bit
    rows[1][column] = bytes(value)
    result = check_quotes(pa.RecordBatch.from_pylist(rows, schema=SCHEMA)).to_pylist()
    for row, found in zip(rows, result, strict=True):
        assert {name: found[name] for name in CHECKS} == expected(row)
    assert not result[1]["holds"]


def test_what_is_null_is_not_known() -> None:
    rows = [{"machine": "m", "message": None, "signature": None, "key": None, "nonce": None}]
    (found,) = check_quotes(pa.RecordBatch.from_pylist(rows, schema=SCHEMA)).to_pylist()
    assert not found["holds"]
    assert found["structure"] == "broken"
    assert found["clock"] is None


def test_another_machines_key_does_not_verify() -> None:
    machine = Machine()
    machine.quote()
    row = {
        "message": machine.files["quote.msg"],
        "signature": machine.files["quote.sig"],
        "key": public_area(software_key(1), ATTESTATION),
        "nonce": NONCE,
    }
    (found,) = check_quotes(pa.RecordBatch.from_pylist([row])).to_pylist()
    assert (found["signature"], found["code"]) == ("broken", "quote-signature-invalid")


def test_keys_are_parsed_once_and_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(
        bulk_quotes,
        "parse_public",
        lambda data, source: parsed.append(data) or parse_public(data, source=source),
    )
    monkeypatch.setattr(bulk_quotes, "MAX_KEYS", 2)
    keys = Keys()
    areas = [public_area(software_key(number), ATTESTATION) for number in range(3)]
    for area in (areas[0], areas[0], areas[1], areas[0], areas[2], areas[1]):
        keys.parse(area)
    assert parsed == [areas[0], areas[1], areas[2], areas[1]]
    for _ in range(2):
        with pytest.raises(ParseError):
            keys.parse(b"no key")
    assert parsed.count(b"no key") == 1


def test_keys_in_pem_are_read_as_alone() -> None:
    path = SAMPLES / "baseline" / "ak.pem"
    alone = load_public_key(path.read_bytes(), source="key")
    assert Keys().parse(path.read_bytes()).public_numbers() == alone.public_numbers()


def test_batch_without_messages_is_refused() -> None:
    with pytest.raises(EvidenceError, match="'message'"):
        check_quotes(pa.record_batch({"signature": [b""]}))
