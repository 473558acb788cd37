"""From rows of a comparison to cause codes: what a difference means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cvmlab.baseline.comparison import Comparison, DiffRow, FileRow
    from cvmlab.eventlog.model import EventLog

_BY_KIND: Final = {
    "secure-boot": "secure-boot-disabled",
    "platform-key": "platform-key-changed",
    "key-exchange-keys": "platform-key-changed",
    "authority": "boot-loader-authority-changed",
    "sbat-level": "sbat-level-changed",
    "mok-list": "mok-changed",
    "mok-state": "mok-changed",
    "boot-order": "boot-order-changed",
    "boot-entry": "boot-order-changed",
    "boot-variable": "boot-order-changed",
    "partition-table": "partition-table-changed",
    "crtm-version": "firmware-changed",
    "crtm-contents": "firmware-changed",
    "firmware-blob": "firmware-changed",
    "post-code": "firmware-changed",
    "microcode": "firmware-changed",
    "nonhost": "firmware-changed",
    "platform-config": "hardware-configuration-changed",
    "table-of-devices": "hardware-configuration-changed",
    "handoff-tables": "hardware-configuration-changed",
    "driver-config-variable": "hardware-configuration-changed",
    "machine-identity": "machine-identity-differs",
    "driver": "option-rom-changed",
    "device-policy": "hardware-configuration-changed",
    "device-authority": "hardware-configuration-changed",
    "grub-command": "boot-configuration-changed",
    "grub-module": "boot-loader-changed",
    "boot-configuration": "boot-configuration-changed",
    "boot-file": "boot-configuration-changed",
    "boot-phase": "boot-configuration-changed",
    "kernel": "kernel-changed",
    "initrd": "initrd-changed",
    "boot-extension": "boot-extension-changed",
    "uki-section-name": "unified-kernel-image-changed",
    "efi-action": "boot-loader-changed",
    "action": "firmware-changed",
}
_UKI_SECTIONS: Final = {
    ".cmdline": "kernel-command-line-changed",
    ".linux": "kernel-changed",
    ".initrd": "initrd-changed",
}
# TCG PFP 1.06, section 3.3.4 and the Linux TPM PCR registry: what each register is for
_BY_REGISTER: Final = {
    0: "firmware-changed",
    1: "hardware-configuration-changed",
    2: "option-rom-changed",
    3: "option-rom-changed",
    4: "boot-loader-changed",
    5: "partition-table-changed",
    6: "hardware-configuration-changed",
    7: "boot-loader-authority-changed",
    8: "boot-configuration-changed",
    9: "boot-configuration-changed",
    11: "unified-kernel-image-changed",
    12: "boot-extension-changed",
    13: "boot-extension-changed",
    14: "mok-changed",
}


def diff_findings(comparison: Comparison, log: EventLog | None) -> list[Finding]:
    """Return one finding for each difference of a comparison, in boot order.

    Args:
        comparison: The differences.
        log: The boot's log, for what was started last; None where there is none.

    Rows of registers that no verified quote covers, or whose log does not replay, are ``unproven``.
    Registers that differ by value alone, with no log to say why, give findings by the register's purpose.
    """
    rows = comparison.rows
    image = _unified_image(comparison, log)
    return [_finding(row, row_code(row, unified=image is not None and row.event == image)) for row in rows]


def _unified_image(comparison: Comparison, log: EventLog | None) -> int | None:
    """The event that started the unified kernel image: the last application before its sections."""
    slots = (slot for register in comparison.baseline.registers for slot in register.slots)
    events = log.events if log is not None else ()
    sections = [event.index for event in events if event.payload.kind == "uki-section"]
    if not sections and not any(slot.kind == "uki-section" for slot in slots):
        return None
    before = sections[0] if sections else len(events)
    started = [e.index for e in events[:before] if e.payload.kind == "application" and e.payload.name]
    return started[-1] if started else None


def _finding(row: DiffRow, code: str) -> Finding:
    detail: dict[str, object] = {
        "order": row.order,
        "change": row.change,
        "kind": row.kind,
        "name": row.name,
        "slot": row.slot,
        "difference": [list(line) for line in row.difference.lines],
        **{key: value for key, value in row.difference.detail.items() if key not in ("order", "severity")},
    }
    return Finding(
        code=code,
        link="baseline",
        summary=_sentence(row),
        set=row.set,
        registers=(row.register,),
        events=(row.event,) if row.event >= 0 else (),
        before=row.before,
        after=row.after,
        trust=row.trust,
        detail=detail,
    )


def _sentence(row: DiffRow) -> str:
    where = f"event {row.event} in register {row.register}" if row.event >= 0 else f"register {row.register}"
    if row.change == "added":
        return f"{where} is not in the baseline: {row.after}"
    if row.change == "removed":
        return f"{where} lacks what the baseline has: {row.before}"
    if row.change == "moved":
        return f"{where} comes at another place than in the baseline: {row.after}"
    if row.change == "relabelled":
        return f"{where} has the digest of the baseline and another event type: its type was edited"
    if row.before != row.after:
        return f"{where} was {row.before!r} and is {row.after!r}"
    return f"{where} has other contents than in the baseline: {row.after}"


def row_code(row: DiffRow, *, unified: bool) -> str:
    """Return the cause code of one difference.

    Args:
        row: The difference.
        unified: True where the event started the unified kernel image.
    """
    if row.change == "relabelled":
        return "log-event-modified"
    if row.change == "moved" and row.kind in ("separator", "secure-boot"):
        return "log-events-reordered"
    special = _SPECIAL.get(row.kind)
    if special is not None:
        return special(row, unified)
    return _BY_KIND.get(row.kind) or _BY_REGISTER.get(row.register, "boot-configuration-changed")


def _database(row: DiffRow, unified: bool) -> str:
    removed = row.difference.detail.get("removed")
    added = row.difference.detail.get("added")
    if removed and not added:
        return "secure-boot-key-removed"
    if row.change == "removed":
        return "secure-boot-key-removed"
    return "secure-boot-key-added"


def _revocations(row: DiffRow, unified: bool) -> str:
    removed = row.difference.detail.get("removed")
    if row.change == "removed" or (isinstance(removed, int) and removed > 0):
        return "revocation-list-rolled-back"
    return "revocation-list-updated"


def _application(row: DiffRow, unified: bool) -> str:
    path = row.name.replace("\\", "/").lower()
    base = path.rsplit("/", 1)[-1]
    if unified or path.startswith("/efi/linux/"):
        return "unified-kernel-image-changed"
    if not path and row.change == "removed":
        # without Secure Boot, GRUB starts the kernel itself and the firmware loads no image
        return "boot-loader-changed"
    if not path or base.startswith(("vmlinuz", "bzimage", "linux")):
        return "kernel-changed"
    if row.change == "added":
        return "unexpected-boot-application"
    return "boot-loader-changed"


def _command_line(row: DiffRow, unified: bool) -> str:
    before, after = row.payload_before, row.payload_after
    if before is not None and after is not None:
        # the path of the kernel stands beside the words: where only it differs, the kernel changed
        for key in ("words", "arguments"):
            old, new = before.fields.get(key), after.fields.get(key)
            if isinstance(old, list) and old == new:
                return "kernel-changed"
    return "kernel-command-line-changed"


def _section(row: DiffRow, unified: bool) -> str:
    return _UKI_SECTIONS.get(row.name, "unified-kernel-image-changed")


def _mok_state(row: DiffRow, unified: bool) -> str:
    after = row.payload_after
    if after is not None and row.name in ("MokSBState", "MokSBStateRT") and row.change == "added":
        return "shim-validation-disabled"
    return "mok-changed"


def _grub_command(row: DiffRow, unified: bool) -> str:
    for payload in (row.payload_after, row.payload_before):
        if payload is not None and payload.fields.get("command") in ("linux", "linuxefi", "linux16"):
            return _command_line(row, unified) if row.change == "changed" else "boot-configuration-changed"
    return "boot-configuration-changed"


_SPECIAL: Final[dict[str, Callable[[DiffRow, bool], str]]] = {
    "signature-database": _database,
    "revocation-list": _revocations,
    "application": _application,
    "kernel-command-line": _command_line,
    "uki-section": _section,
    "mok-state": _mok_state,
    "grub-command": _grub_command,
}


def value_findings(comparison: Comparison) -> list[Finding]:
    """Return findings for registers that differ by value and have no row to say why."""
    explained = {(row.set, row.register) for row in comparison.rows}
    return [
        Finding(
            code=_BY_REGISTER.get(state.register, "boot-configuration-changed"),
            link="baseline",
            summary=f"register {state.register}: {state.why}",
            set=state.set,
            registers=(state.register,),
            detail={"order": 1 << 20, "confidence": 0.4, "by_value": True},
        )
        for state in comparison.registers
        if state.status == "differs" and (state.set, state.register) not in explained
    ]


def file_findings(rows: Sequence[FileRow], violations: Sequence[str]) -> list[Finding]:
    """Return findings of the IMA set: unknown files, and entries the kernel could not vouch for."""
    found = []
    for row in rows:
        what = (
            "is not in the baseline" if row.change == "added" else "has other contents than in the baseline"
        )
        found.append(
            Finding(
                "runtime-file-unknown",
                "baseline",
                f"{row.path} {what}",
                "tpm",
                (10,),
                before=", ".join(row.before),
                after=", ".join(row.after),
                detail={"order": 1 << 24, "path": row.path, "change": row.change},
            )
        )
    for path in violations:
        found.append(
            Finding(
                "runtime-measurement-violation",
                "baseline",
                f"{path} was being written while it was measured",
                "tpm",
                (10,),
                after=path,
                detail={"order": 1 << 24, "path": path, "severity": "info"},
            )
        )
    return found
