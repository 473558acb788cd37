"""Give each cause its meaning, and let that move severity and confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.explain.catalogue import SEVERITIES
from cvmlab.explain.meaning import commands, disks, files, images, signatures, windows
from cvmlab.explain.meaning.model import Meaning, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cvmlab.artifacts import Match
    from cvmlab.baseline.comparison import Comparison, DiffRow
    from cvmlab.eventlog.model import EventLog
    from cvmlab.explain.catalogue import Severity
    from cvmlab.explain.model import Cause
    from cvmlab.findings import Finding

MAX_FINDINGS: Final = 64
"""Most findings of one cause that are looked into; registers of hostile logs can have many thousands."""
DIGEST_ONLY: Final = 0.85
"""Confidence in a cause that rests on a name which no digest covers."""
_SIGNATURE_LISTS: Final = frozenset({"platform-key", "key-exchange-keys", "signature-database", "mok-list"})
_IMAGES: Final = frozenset({"application", "driver"})
_FIRMWARE: Final = frozenset({"crtm-version", "crtm-contents", "firmware-blob"})


def judge_causes(
    causes: Iterable[Cause],
    comparison: Comparison | None,
    log: EventLog | None,
    findings: Iterable[Finding],
    matches: Mapping[bytes, tuple[Match, ...]] | None = None,
) -> tuple[Cause, ...]:
    """Return the causes with what they mean here.

    What looks like an update is one step less severe, what does not is one step more. Only evidence that a
    verified quote covers can lower a severity; a claim can raise it.

    Args:
        causes: Ranked causes.
        comparison: The differences; None where nothing was compared.
        log: This boot's log.
        findings: All findings, for what else happened.
        matches: What digests are of; None where no files were given.
    """
    setting = Setting.of(comparison, log, findings, matches)
    names = _boot_entries(comparison, log)
    return tuple(_judge(cause, setting, names) for cause in causes)


Names = tuple[dict[str, str], dict[str, str]]


def _judge(cause: Cause, setting: Setting, names: Names) -> Cause:
    meaning = _meaning(cause.findings[:MAX_FINDINGS], setting, names)
    below = tuple(_judge(child, setting, names) for child in cause.consequences)
    severity, confidence = cause.severity, cause.confidence
    if meaning.attack and not meaning.update:
        severity = _step(severity, 1)
    elif meaning.update and not meaning.attack and not cause.claimed:
        severity = _step(severity, -1)
    if not cause.claimed and all(finding.trust == "digest-only" for finding in cause.findings):
        known = any("of the package" in text for text in meaning.update)
        confidence = confidence if known else min(confidence, DIGEST_ONLY)
    return replace(cause, meaning=meaning, severity=severity, confidence=confidence, consequences=below)


def _step(severity: Severity, by: int) -> Severity:
    """A step up or down between low and high; what is only a remark stays one."""
    if severity == "info":
        return severity
    at = SEVERITIES.index(severity) + by
    return SEVERITIES[max(1, min(at, len(SEVERITIES) - 1))]


def _meaning(findings: Sequence[Finding], setting: Setting, names: Names) -> Meaning:
    if findings and findings[0].code == "runtime-file-unknown":
        return files.runtime_files(findings, setting)
    rows = [row for finding in findings if (row := setting.row(finding)) is not None]
    meaning = Meaning()
    for row in rows:
        meaning = meaning + _of_row(row, setting, names, rows)
    return meaning


def _of_row(row: DiffRow, setting: Setting, names: Names, rows: Sequence[DiffRow]) -> Meaning:
    kind = row.kind
    if kind in _SIGNATURE_LISTS:
        return signatures.database(row)
    if kind in _IMAGES:
        drawn = row.register in (2, 3) and kind == "driver"
        return images.option_rom(row, setting) if drawn else images.image(row, setting)
    if kind in _FIRMWARE:
        return images.firmware(row, setting, rows)
    if kind in ("kernel-command-line", "grub-command"):
        # of a script's commands only those that start a kernel say what the kernel shall do
        if kind == "grub-command" and not _starts_kernel(row):
            return Meaning()
        return commands.command_line(row) + images.version(row)
    by_kind = {
        "revocation-list": signatures.revocations,
        "authority": signatures.authority,
        "sbat-level": signatures.levels,
        "partition-table": disks.partitions,
        "boot-entry": disks.boot_entry,
        "windows-boot": windows.boot,
    }
    if kind in by_kind:
        return by_kind[kind](row)
    if kind == "boot-order":
        return disks.boot_order(row, *names)
    if kind == "initrd":
        return images.ramdisk(row, setting)
    if kind in ("kernel", "boot-file", "boot-configuration", "grub-module", "uki-section"):
        return images.file(row, setting)
    return Meaning()


def _starts_kernel(row: DiffRow) -> bool:
    payload = row.payload_after or row.payload_before
    return payload is not None and payload.fields.get("command") in ("linux", "linuxefi", "linux16")


def _boot_entries(comparison: Comparison | None, log: EventLog | None) -> Names:
    """Number of a boot entry to its name, in the baseline and in this boot."""
    before: dict[str, str] = {}
    for register in comparison.baseline.registers if comparison is not None else ():
        for slot in register.slots:
            if slot.kind == "boot-entry" and slot.alternatives:
                before[slot.name[4:].upper()] = _entry(slot.name, slot.alternatives[0].summary)
    after = {
        event.payload.name[4:].upper(): _entry(event.payload.name, event.payload.summary)
        for event in (log.events if log is not None else ())
        if event.payload.kind == "boot-entry"
    }
    return before, after


def _entry(name: str, summary: str) -> str:
    """A boot entry's name and what it starts, without its number."""
    return summary.removeprefix(name).strip() or name
