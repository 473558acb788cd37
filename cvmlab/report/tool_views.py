"""What the single-purpose commands show: replayed registers, one quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import CvmlabError, EvidenceError, ParseError
from cvmlab.tpm.attest import describe_selections, parse_attest
from cvmlab.tpm.pcrs import read_registers
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.quote import check_quote
from cvmlab.tpm.strict import hex_bytes
from cvmlab.view import Cell, Document, KeyValues, Note, Paragraph, Table

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.eventlog.model import EventLog
    from cvmlab.tpm.public import PublicKey, TpmPublic
    from cvmlab.tpm.quote import QuoteReport
    from cvmlab.view import Block, Value

MAX_FILE: Final = 1 << 20
QUOTE_SCHEMA: Final = "cvmlab.quote/1"


def replay_document(log: EventLog, bank: str | None = None) -> Document:
    """Return the registers that a log gives, one table."""
    replayed = {name: values for name, values in log.replay().items() if bank is None or name == bank}
    indices = sorted({index for values in replayed.values() for index in values})
    rows = tuple(
        (index, *(Cell(values[index].hex()) if index in values else None for values in replayed.values()))
        for index in indices
    )
    blocks: list[Block] = [
        Paragraph(
            "What the log's digests give. Only a verified quote says whether the TPM holds these values."
        ),
        *(Note("warning", str(problem)) for problem in log.problems if problem.fatal),
        Table(("register", *replayed), rows, caption="Registers", numeric=frozenset({"register"})),
    ]
    return Document(f"Replay of {log.source}", tuple(blocks))


def read_quote(msg: Path, sig: Path, key: Path, *, nonce: str | None, pcrs: Path | None) -> QuoteReport:
    """Read a quote, its signature and key, and check them.

    Raises:
        EvidenceError: A file cannot be read, or the key or nonce cannot be used.
    """
    message, signature = _bytes(msg), _bytes(sig)
    try:
        wanted = hex_bytes(nonce.strip(), source="--nonce", field="nonce") if nonce is not None else None
        values = None
        if pcrs is not None:
            try:
                selections = parse_attest(message, source=msg.name).selections
            except CvmlabError:
                selections = None
            values = read_registers(_bytes(pcrs), source=pcrs.name, selections=selections).values
    except ParseError as error:
        raise EvidenceError(str(error)) from error
    return check_quote(message, signature, _key(key), nonce=wanted, values=values, source=msg.name)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not 0 < len(data) <= MAX_FILE:
        raise EvidenceError(f"{path}: empty, or larger than 1 MiB")
    return data


def _key(path: Path) -> TpmPublic | PublicKey:
    data = _bytes(path)
    reasons = []
    for read in (parse_public, load_public_key):
        try:
            return read(data, source=path.name)
        except ParseError as error:
            reasons.append(str(error))
    raise EvidenceError(f"{path}: not a key that verifies quotes ({'; '.join(reasons)})")


def quote_object(report: QuoteReport) -> dict[str, object]:
    """Return the object of ``cvmlab quote --json`` (schema ``cvmlab.quote/1``)."""
    attest = report.attest
    fields: dict[str, object] | None = None
    if attest is not None:
        fields = {
            "qualified_signer": attest.qualified_signer.hex(),
            "nonce": attest.extra_data.hex(),
            "clock": attest.clock_info.clock,
            "reset_count": attest.clock_info.reset_count,
            "restart_count": attest.clock_info.restart_count,
            "safe": attest.clock_info.safe,
            "firmware_version": attest.firmware_version,
            "registers": {item.bank: list(item.registers) for item in attest.selections},
            "pcr_digest": attest.pcr_digest.hex(),
        }
    return {
        "schema": QUOTE_SCHEMA,
        "holds": not report.broken and report["signature"].status == "holds",
        "checks": [
            {"check": check.name, "status": check.status, "code": check.code or None, "why": check.why}
            for check in report.checks
        ],
        "claimed" if report["signature"].status != "holds" else "quote": fields,
    }


def quote_document(report: QuoteReport, name: str) -> Document:
    """Return the checks of a quote and what it says."""
    rows = tuple((check.name, Cell(check.status, kind="status"), check.why) for check in report.checks)
    blocks: list[Block] = [Table(("check", "status", "why"), rows, caption="Checks")]
    attest = report.attest
    if attest is not None:
        signed = report["signature"].status == "holds"
        kind = "" if signed else "claimed"
        clock = attest.clock_info
        facts: list[tuple[str, Value]] = [
            ("Registers", Cell(describe_selections(attest.selections), kind=kind)),  # type: ignore[arg-type]
            ("Digest", Cell(attest.pcr_digest.hex(), kind=kind)),  # type: ignore[arg-type]
            ("Nonce", Cell(attest.extra_data.hex() or "empty", kind=kind)),  # type: ignore[arg-type]
            ("Clock", Cell(f"{clock.clock} ms{'' if clock.safe else ', not safe'}", kind=kind)),  # type: ignore[arg-type]
            ("Resets", Cell(f"{clock.reset_count}, restarts {clock.restart_count}", kind=kind)),  # type: ignore[arg-type]
        ]
        blocks.append(KeyValues(tuple(facts)))
    return Document(f"Quote {name}", tuple(blocks))
