"""Quotes of many machines: an Arrow record batch in, a record batch of checks out."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError, ParseError
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.quote import check_quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from cvmlab.tpm.quote import QuoteReport
    from cvmlab.tpm.signature import AttestationKey

CHECKS: Final = ("structure", "signature", "nonce", "registers", "hash")
MAX_KEYS: Final = 8192
"""Most keys kept, the longest unused forgotten first."""
_MAX_KEPT: Final = 8192
"""Longest key file kept, in bytes."""


@cache
def quote_schema() -> pa.Schema:
    """Return the schema of what `check_quotes` adds to the caller's own columns."""
    import pyarrow as pa

    return pa.schema(
        [
            *(pa.field(name, pa.string()) for name in CHECKS),
            pa.field("holds", pa.bool_()),
            pa.field("code", pa.string()),
            pa.field("why", pa.string()),
            pa.field("extra_data", pa.binary()),
            pa.field("pcr_digest", pa.binary()),
            pa.field("clock", pa.uint64()),
            pa.field("reset_count", pa.uint32()),
            pa.field("restart_count", pa.uint32()),
            pa.field("firmware_version", pa.uint64()),
            pa.field("key_error", pa.string()),
        ]
    )


class Keys:
    """Attestation keys, each parsed once while it is remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, AttestationKey | ParseError] = OrderedDict()

    def parse(self, data: bytes) -> AttestationKey:
        """Return a key from TPM2B_PUBLIC, TPMT_PUBLIC, PEM or DER bytes.

        Raises:
            ParseError: The bytes are no key; also remembered.
        """
        found = self._known.get(data)
        if found is None:
            try:
                found = self._read(data)
            except ParseError as error:
                found = error
            if len(data) <= _MAX_KEPT:
                self._known[data] = found
                if len(self._known) > MAX_KEYS:
                    self._known.popitem(last=False)
        else:
            self._known.move_to_end(data)
        if isinstance(found, ParseError):
            raise found
        return found

    @staticmethod
    def _read(data: bytes) -> AttestationKey:
        # a SubjectPublicKeyInfo or certificate is a SEQUENCE; no public area of a TPM starts like one
        if data.lstrip().startswith(b"-----BEGIN ") or data[:1] == b"\x30":
            return load_public_key(data, source="key")
        return parse_public(data, source="key")


def check_quotes(batch: pa.RecordBatch, *, keys: Keys | None = None) -> pa.RecordBatch:
    """Check the quotes of many machines, each as `cvmlab.tpm.quote.check_quote` checks it.

    Whether a key is bound to its machine is not checked here.

    Args:
        batch: One row a quote: ``message`` (bytes), and where known ``signature``, ``key`` (TPM public area,
            PEM or DER) and ``nonce`` (bytes), and ``registers`` (list of structs of ``register``, ``bank``
            and ``value``, as `cvmlab.fleet.batch.process_logs` gives them). What is null is not known. Other
            columns are handed through.
        keys: Keys remembered from other batches.

    Returns:
        The rows of `batch` in their order without those columns, and the columns of `quote_schema`: the
        status of the five checks, whether all hold, code and reason of the first that is broken or else was
        not made, what the quote states (believe it only where it ``holds``; null where it cannot be read),
        and why a key cannot be read.

    Raises:
        EvidenceError: There is no column ``message``.
    """
    import pyarrow as pa

    if "message" not in batch.schema.names:
        raise EvidenceError("a batch of quotes needs a column 'message' of bytes")
    known = keys or Keys()
    given = ("message", "signature", "key", "nonce", "registers")
    columns = [
        batch.column(name).to_pylist() if name in batch.schema.names else [None] * batch.num_rows
        for name in given
    ]
    rows = [_row(known, *values) for values in zip(*columns, strict=True)]
    result = pa.RecordBatch.from_pylist(rows, schema=quote_schema())
    kept = [name for name in batch.schema.names if name not in given]
    return pa.RecordBatch.from_arrays(
        [*(batch.column(name) for name in kept), *result.columns], [*kept, *result.schema.names]
    )


def _row(
    keys: Keys,
    message: bytes | None,
    signature: bytes | None,
    key_data: bytes | None,
    nonce: bytes | None,
    registers: Sequence[Mapping[str, object]] | None,
) -> dict[str, object]:
    key, key_error = None, None
    if key_data is not None:
        try:
            key = keys.parse(key_data)
        except ParseError as error:
            key_error = str(error)
    report = check_quote(
        message or b"", signature, key, nonce=nonce, values=_values(registers), source="quote"
    )
    return {**_found(report), "key_error": key_error}


def _values(registers: Sequence[Mapping[str, object]] | None) -> dict[str, dict[int, bytes]] | None:
    if registers is None:
        return None
    values: dict[str, dict[int, bytes]] = {}
    for row in registers:
        bank, register, value = row["bank"], row["register"], row["value"]
        if isinstance(bank, str) and isinstance(register, int) and isinstance(value, bytes):
            values.setdefault(bank, {})[register] = value
    return values


def _found(report: QuoteReport) -> dict[str, object]:
    row: dict[str, object] = {check.name: check.status for check in report.checks}
    row["holds"] = report.holds
    open_ = [check for check in report.checks if check.status != "holds"]
    if first := next(iter(report.broken or open_), None):
        row |= {"code": first.code or None, "why": first.why}
    if report.attest is not None:
        attest, clock = report.attest, report.attest.clock_info
        row |= {
            "extra_data": attest.extra_data,
            "pcr_digest": attest.pcr_digest,
            "clock": clock.clock,
            "reset_count": clock.reset_count,
            "restart_count": clock.restart_count,
            "firmware_version": attest.firmware_version,
        }
    return row
