"""Is it the machine of the earlier quotes, later? Counters and clock of the TPM across quotes.

Source: TPM 2.0 Library, Part 1, section 36 (Clock, resetCount, restartCount, safe) and 36.7: outside the
endorsement and platform hierarchies a value of the key's own is added to the counters, modulo 2^32. Quotes of
one key can therefore be compared by the difference modulo 2^32, and quotes of two keys not at all.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.evidence.context import MachineRecord
from cvmlab.findings import Finding
from cvmlab.tpm.public import spki_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.evidence.context import VerifierContext
    from cvmlab.tpm.attest import Attest
    from cvmlab.trust.assess import Assessment
    from cvmlab.trust.binding import KeyBinding
    from cvmlab.trust.quotes import QuoteResult

CLOCK_LOSS: Final = 1 << 22
"""Milliseconds by which Clock may fall back when power is lost: it is saved to NV at least this often
(Part 1, 36.3.1)."""


def record_of(boot: Assessment) -> MachineRecord:
    """Return what an earlier evidence says of its machine's TPM, for the history of a later judgement.

    Raises:
        EvidenceError: No quote of it has a signature that verifies: then nothing is known.
    """
    key = boot.binding.key
    for quote in boot.quotes.quotes:
        attest = quote.report.attest
        if quote.signed and attest is not None and key is not None:
            return MachineRecord(
                source=boot.evidence.source,
                key_spki_sha256=spki_sha256(key),
                endorsement_spki_sha256=boot.binding.endorsement_spki_sha256,
                nonce=attest.extra_data,
                message_sha256=hashlib.sha256(attest.raw).digest(),
                clock=attest.clock_info.clock,
                reset_count=attest.clock_info.reset_count,
                restart_count=attest.clock_info.restart_count,
            )
    raise EvidenceError(
        f"{boot.evidence.source}: no quote with a signature that verifies, so it tells nothing of the "
        "machine's past; leave it out of the history"
    )


def check_history(context: VerifierContext, binding: KeyBinding, quotes: QuoteResult) -> list[Finding]:
    """Compare the quotes with the machine's earlier ones.

    Args:
        context: With the history; without it there is nothing to find.
        binding: The attestation key now.
        quotes: The quotes now. Only signed ones are compared.

    Returns:
        Findings ``vtpm-reset`` on the link ``key-binding``; ``clock-rolled-back``, and ``nonce-mismatch``
        for a quote that was shown before, on the link ``nonce``.
    """
    if binding.key is None:
        return []
    findings: list[Finding] = []
    spki = spki_sha256(binding.key)
    attests = [q.report.attest for q in quotes.quotes if q.signed and q.report.attest is not None]
    for record in context.history:
        if record.key_spki_sha256 != spki:
            findings.extend(_another_key(record, binding))
            continue
        for attest in attests:
            findings.extend(_compare(record, attest))
    unique: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        unique.setdefault((finding.code, finding.summary), finding)
    return list(unique.values())


def _another_key(record: MachineRecord, binding: KeyBinding) -> list[Finding]:
    same = (
        record.endorsement_spki_sha256 and record.endorsement_spki_sha256 == binding.endorsement_spki_sha256
    )
    if same:
        return []
    why = f"the attestation key is another than in {record.source}"
    why += (
        ", and so is the endorsement key it was activated with: the vTPM was replaced or made anew"
        if record.endorsement_spki_sha256 and binding.endorsement_spki_sha256
        else ", and nothing ties both to one TPM: the vTPM was replaced, or its key was made anew"
    )
    return [Finding("vtpm-reset", "key-binding", why, before=record.key_spki_sha256)]


def _compare(record: MachineRecord, attest: Attest) -> list[Finding]:
    now = attest.clock_info
    source = record.source
    if hashlib.sha256(attest.raw).digest() == record.message_sha256:
        why = f"it is the very quote of {source}: an old one, shown again"
        return [Finding("nonce-mismatch", "nonce", why)]
    findings: list[Finding] = []
    if attest.extra_data and attest.extra_data == record.nonce:
        why = f"the quote answers the nonce of {source} again: a nonce is used once"
        findings.append(Finding("nonce-mismatch", "nonce", why))
    resets = _steps(record.reset_count, now.reset_count)
    if resets < 0:
        why = f"resetCount is {-resets} lower than in {source}, and it never falls in one TPM's life"
        return [*findings, Finding("vtpm-reset", "key-binding", why, detail={"resets": resets})]
    # restartCount starts again with every reset, so it is compared between resets only
    restarts = _steps(record.restart_count, now.restart_count) if resets == 0 else 0
    if restarts < 0:
        why = f"restartCount is {-restarts} lower than in {source}, with no TPM reset in between"
        findings.append(Finding("clock-rolled-back", "nonce", why, detail={"restarts": restarts}))
    back = record.clock - now.clock
    if back > 0 and not (resets > 0 and not now.safe and back <= CLOCK_LOSS):
        why = f"the TPM's clock is {_span(back)} before that of {source}"
        findings.append(Finding("clock-rolled-back", "nonce", why, detail={"milliseconds": back}))
    return findings


def describe_history(context: VerifierContext, binding: KeyBinding, quotes: QuoteResult) -> str:
    """Say in words what happened since the latest earlier quote of this key; empty where there is none."""
    spki = spki_sha256(binding.key) if binding.key is not None else ""
    attest = next((q.report.attest for q in quotes.quotes if q.signed and q.report.attest is not None), None)
    records = [record for record in context.history if record.key_spki_sha256 == spki]
    if attest is None or not records:
        return ""
    info = attest.clock_info
    last = min(records, key=lambda r: _distance(r, info.reset_count, info.restart_count))
    resets = _steps(last.reset_count, attest.clock_info.reset_count)
    if resets < 0:
        return ""
    parts = [f"{resets} TPM resets"]
    restarts = _steps(last.restart_count, attest.clock_info.restart_count) if resets == 0 else 0
    if restarts > 0:
        parts.append(f"{restarts} resumes from sleep or hibernation (the log is of the boot before them)")
    if attest.clock_info.clock >= last.clock:
        parts.append(f"{_span(attest.clock_info.clock - last.clock)} of TPM time")
    return f"since {last.source}: {', '.join(parts)}"


def latest(records: Sequence[MachineRecord], now: MachineRecord | None) -> int:
    """Return which of some records is the latest.

    The counters decide before the clock, which may fall back when power is lost (Part 1, 36.3.1). They are
    told for one key only, so records of the present key come first; of other keys the clock has to do.

    Args:
        records: At least one record of one machine.
        now: The present state; None where no quote of now tells it. Then the last record's key counts.
    """
    now = now if now is not None else records[-1]

    def rank(index: int) -> tuple[bool, int, int, int]:
        record = records[index]
        if record.key_spki_sha256 != now.key_spki_sha256:
            return True, 0, 0, -record.clock
        return False, *_distance(record, now.reset_count, now.restart_count)

    return min(range(len(records)), key=rank)


def _distance(record: MachineRecord, resets: int, restarts: int) -> tuple[int, int, int]:
    """How far a record lies back: in resets, then in restarts since the reset, then by the clock."""
    return _steps(record.reset_count, resets), _steps(record.restart_count, restarts), -record.clock


def _steps(before: int, now: int) -> int:
    """Steps from one counter to the other, negative backwards: a difference modulo 2^32, the shorter way."""
    difference = (now - before) % (1 << 32)
    return difference if difference < 1 << 31 else difference - (1 << 32)


def _span(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} seconds"
