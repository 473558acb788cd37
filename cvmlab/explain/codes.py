"""From rows of a comparison to cause codes: what a difference means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.difference import facing
from cvmlab.explain.meaning import windows
from cvmlab.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cvmlab.baseline.comparison import Comparison, DiffRow, FileRow
    from cvmlab.eventlog.model import EventLog, Payload

_BY_KIND: Final = {
    "key-exchange-keys": "platform-key-changed",
    "authority": "boot-loader-authority-changed",
    "sbat-level": "sbat-level-changed",
    "mok-list": "mok-changed",
    "mok-state": "mok-changed",
    "boot-order": "boot-order-changed",
    "boot-entry": "boot-order-changed",
    "boot-variable": "boot-order-changed",
    "partition-table": "partition-table-changed",
    "startup-locality": "firmware-changed",
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
}
# TCG PFP 1.06, section 10.4.4: what firmware says has happened, by the register it says it in
_ACTION_BY_REGISTER: Final = {
    0: "firmware-changed",
    1: "hardware-configuration-changed",
    2: "option-rom-changed",
    3: "option-rom-changed",
    4: "boot-loader-changed",
    5: "boot-loader-changed",
    6: "hardware-configuration-changed",
    7: "hardware-configuration-changed",
}
# words of a command line that name the kernel's own files, not what the kernel shall do
_DEPLOYMENT_WORDS: Final = ("BOOT_IMAGE=", "ostree=", "initrd=")
KERNEL_NAME: Final = re.compile(r"(vmlinu[xz]|bzimage|zimage|linux|kernel)([-._0-9].*)?|.*bzimage(\.efi)?")
# UEFI PI 1.7, volume 3, section 8.3: some firmware gives the file of its volume without the volume
_FIRMWARE_PATHS: Final = ("Fv(", "FvFile(", "MemoryMapped(")
# systemd, src/boot/efi/linux.c: the vendor media path under which the stub starts the kernel it carries
_STUB_KERNEL: Final = "venmedia(55c5d1f8-04cd-46b5-8a20-e56cbb3052d0"
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


# UEFI 2.10, section 38.4.1: which PCRs a measurement register of a TD takes the place of
_BY_CC_REGISTER: Final = {
    0: "firmware-changed",
    1: "hardware-configuration-changed",
    2: "boot-loader-changed",
    3: "boot-configuration-changed",
    4: "boot-configuration-changed",
}


def _purpose(set_: str, register: int) -> str:
    """The cause code of a difference of which only the register is known."""
    table = _BY_CC_REGISTER if set_ == "cc" else _BY_REGISTER
    return table.get(register, "boot-configuration-changed")


def diff_findings(comparison: Comparison, log: EventLog | None) -> list[Finding]:
    """Return one finding for each difference of a comparison, in boot order.

    Args:
        comparison: The differences.
        log: The boot's log, for what was started last; None where there is none.

    Rows of registers that no verified quote covers, or whose log does not replay, are ``unproven``.
    Registers that differ by value alone, with no log to say why, give findings by the register's purpose.
    """
    context = _context(comparison, log)
    return [_finding(row, _code(row, context)) for row in comparison.rows]


@dataclass(frozen=True, slots=True)
class _Context:
    """What the other differences say: one row alone does not always tell what happened.

    Attributes:
        image: Event that started the unified kernel image; None where there is none.
        replaced: True where more of the unified kernel image changed than its command line.
        kernel: True where the kernel's file changed.
        early: Order and code of the first image that was started besides those of the baseline.
        unchecked: Code of what switched the check of images off; empty where nothing did.
        words: True where a logged command line has other words, False where one has only another path,
            None where no logged one differs.
        stated: Events whose data count, be it as a claim: their digest covers them, and no quoted value
            contradicts the log of their register.
    """

    image: int | None
    replaced: bool
    kernel: bool
    words: bool | None
    early: tuple[int, str] | None = None
    stated: frozenset[int] = frozenset()
    unchecked: str = ""


def _context(comparison: Comparison, log: EventLog | None) -> _Context:
    rows = comparison.rows
    image = _unified_image(comparison, log)
    kernel = any(
        row.kind == "kernel"
        or (row.kind == "application" and row.event != image and _application(row) == "kernel-changed")
        for row in rows
    )
    replaced = any(row.kind == "uki-section" and row.name in (".linux", ".initrd") for row in rows)
    logged = [
        _other_words(row, kernel=kernel)
        for row in rows
        if row.kind == "kernel-command-line" and _words(row.payload_after or row.payload_before) is not None
    ]
    started = [
        (row.order, _SPECIAL[row.kind](row))
        for row in rows
        if row.change == "added" and row.kind in ("application", "driver") and row.event != image
    ]
    early = min(started, default=None)
    stated = _stated(comparison, log)
    unchecked = _unchecked(rows, stated)
    return _Context(image, replaced, kernel, any(logged) if logged else None, early, stated, unchecked)


def _unchecked(rows: Sequence[DiffRow], stated: frozenset[int]) -> str:
    """What switched the check of images off. A claim says so among claims only."""
    claimed = all(row.trust == "unproven" for row in rows)
    told = [row for row in rows if claimed or row.trust != "unproven"]
    if any(
        row.kind == "secure-boot"
        and _secure_boot(row.payload_after if row.event in stated else None) == "secure-boot-disabled"
        for row in told
    ):
        return "secure-boot-disabled"
    off = any(row.kind == "mok-state" and _mok_state(row) == "shim-validation-disabled" for row in told)
    return "shim-validation-disabled" if off else ""


def _stated(comparison: Comparison, log: EventLog | None) -> frozenset[int]:
    if log is None:
        return frozenset()
    contradicted = {
        r.register for r in comparison.registers if r.status == "not-replayed" and r.set == log.set
    }
    return frozenset(
        event.index
        for event in log.events
        if event.digest_check == "covers-data" and event.register not in contradicted
    )


def _unified_image(comparison: Comparison, log: EventLog | None) -> int | None:
    """The event that started the unified kernel image: the last application before its sections."""
    slots = (slot for register in comparison.baseline.registers for slot in register.slots)
    events = log.events if log is not None else ()
    sections = [
        event.index
        for event in events
        if event.payload.kind == "uki-section" or event.payload.name.lower().startswith(_STUB_KERNEL)
    ]
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
        "same_name": row.change == "changed" and row.before == row.after,
        "difference": [list(line) for line in row.difference.lines],
        **{key: value for key, value in row.difference.detail.items() if key not in ("order", "severity")},
    }
    if row.harmless:
        detail["severity"] = "info"
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
    before, after = facing(row.before, row.after, row.payload_before, row.payload_after)
    if before != after:
        return f"{where} was {before!r} and is {after!r}"
    return f"{where} has other contents than in the baseline: {row.after}"


def _code(row: DiffRow, context: _Context) -> str:
    """Return the cause code of one difference."""
    if row.change == "relabelled":
        return "log-event-modified"
    if row.change == "moved" and row.kind in ("separator", "secure-boot"):
        if row.trust != "unproven" and context.early is not None and context.early[0] < row.order:
            # loading an image early has the firmware measure its disk before it closes the registers
            return context.early[1]
        return "log-events-reordered"
    if row.kind == "application" and context.image is not None and row.event == context.image:
        return "unified-kernel-image-changed"
    if row.kind == "application" and row.change == "removed" and not row.name and context.unchecked:
        # only to have it checked does GRUB load the kernel as an image: it is not missing, nothing changed
        return context.unchecked
    if row.kind in ("kernel-command-line", "grub-command", "uki-section"):
        return _kernel_side(row, context)
    stated = row.payload_after if row.event in context.stated else None
    if row.kind == "secure-boot":
        return _secure_boot(stated)
    if row.kind == "platform-key":
        return _platform_key(stated)
    special = _SPECIAL.get(row.kind)
    if special is not None:
        return special(row)
    return _BY_KIND.get(row.kind) or _purpose(row.set, row.register)


def _secure_boot(after: Payload | None) -> str:
    return (
        "secure-boot-enabled" if after is not None and after.fields.get("enabled") else "secure-boot-disabled"
    )


def _platform_key(after: Payload | None) -> str:
    """UEFI 2.10, section 32.3: without a platform key the firmware is in setup mode."""
    empty = after is not None and after.fields.get("size") == 0
    return "secure-boot-setup-mode" if empty else "platform-key-changed"


def _mode(row: DiffRow) -> str:
    after = row.payload_after
    if row.name in ("SetupMode", "AuditMode") and after is not None and after.fields.get("enabled"):
        return "secure-boot-setup-mode"
    return "platform-key-changed" if row.name.endswith("Mode") else "boot-loader-authority-changed"


def _database(row: DiffRow) -> str:
    removed = row.difference.detail.get("removed")
    added = row.difference.detail.get("added")
    if row.change == "removed" or (removed and not added):
        return "secure-boot-key-removed"
    return "secure-boot-key-added"


def _revocations(row: DiffRow) -> str:
    removed = row.difference.detail.get("removed")
    if row.change == "removed" or (isinstance(removed, int) and removed > 0):
        return "revocation-list-rolled-back"
    return "revocation-list-updated"


def _application(row: DiffRow) -> str:
    if row.name.lower().startswith(_STUB_KERNEL):
        return "kernel-changed"
    path = row.name.replace("\\", "/").lower()
    base = path.rsplit("/", 1)[-1]
    if path.startswith("/efi/linux/"):
        return "unified-kernel-image-changed"
    if not path and row.change != "changed":
        # only under Secure Boot does GRUB have the kernel loaded as an image
        return "boot-loader-changed" if row.change == "removed" else "unexpected-boot-application"
    if not path or KERNEL_NAME.fullmatch(base):
        return "kernel-changed"
    if row.change == "added":
        return "unexpected-boot-application"
    return "firmware-changed" if row.name.startswith(_FIRMWARE_PATHS) else "boot-loader-changed"


def _driver(row: DiffRow) -> str:
    """A driver comes with the firmware, from a card, or as a file of the boot partition."""
    if row.register == 0 or row.name.startswith(_FIRMWARE_PATHS):
        return "firmware-changed"
    if row.name.startswith("\\"):
        return "unexpected-boot-application" if row.change == "added" else "boot-loader-changed"
    return "option-rom-changed"


def _action(row: DiffRow) -> str:
    # of a TD, register 1 stands for PCR 1 and 7
    if (row.set, row.register) in (("tpm", 7), ("cc", 1)) and row.name.startswith("UEFI Debug Mode"):
        return "boot-debugging-enabled"
    if row.set == "cc":
        return _purpose(row.set, row.register)
    return _ACTION_BY_REGISTER.get(row.register, "boot-loader-changed")


def _mok_state(row: DiffRow) -> str:
    after = row.payload_after
    if after is not None and row.name in ("MokSBState", "MokSBStateRT"):
        # PCR 14 tells only that the variable is there, PCR 7 its value
        off = row.change == "added" or after.fields.get("validation_disabled", False)
        if row.trust == "proven":
            off = after.fields.get("validation_disabled", off)
        return "shim-validation-disabled" if off else "mok-changed"
    return "mok-changed"


def _words(payload: Payload | None) -> list[object] | None:
    """The words of a logged command line; None where the log does not have them."""
    if payload is None:
        return None
    found = next((payload.fields[key] for key in ("words", "arguments") if key in payload.fields), None)
    return found if isinstance(found, list) else None


def _other_words(row: DiffRow, *, kernel: bool) -> bool:
    """Tell whether a command line asks something else of the kernel, not only names another file of it."""
    old, new = _words(row.payload_before), _words(row.payload_after)
    if old is None or new is None:
        return True
    if kernel:
        old, new = ([w for w in words if not str(w).startswith(_DEPLOYMENT_WORDS)] for words in (old, new))
    return old != new


def _kernel_side(row: DiffRow, context: _Context) -> str:
    """Command lines, GRUB's commands that start a kernel, and sections of a unified kernel image."""
    if row.kind == "uki-section":
        code = _UKI_SECTIONS.get(row.name, "unified-kernel-image-changed")
        whole = code == "kernel-command-line-changed" and context.replaced
        return "unified-kernel-image-changed" if whole else code
    if row.kind == "grub-command":
        payload = row.payload_after or row.payload_before
        if payload is None or payload.fields.get("command") not in ("linux", "linuxefi", "linux16"):
            return "boot-configuration-changed"
        if row.change != "changed":
            return "boot-configuration-changed"
    elif _words(row.payload_after or row.payload_before) is None:
        # only a digest: it is of a text with the kernel's path in it
        return "kernel-changed" if context.words is False else "kernel-command-line-changed"
    return "kernel-command-line-changed" if _other_words(row, kernel=context.kernel) else "kernel-changed"


def _separator(row: DiffRow) -> str:
    return "separator-duplicated" if row.change == "added" else "firmware-changed"


_SPECIAL: Final[dict[str, Callable[[DiffRow], str]]] = {
    "separator": _separator,
    "secure-boot-variable": _mode,
    "signature-database": _database,
    "revocation-list": _revocations,
    "application": _application,
    "driver": _driver,
    "efi-action": _action,
    "action": _action,
    "mok-state": _mok_state,
    "windows-boot": windows.code_of,
}


def value_findings(comparison: Comparison) -> list[Finding]:
    """Return findings for registers that differ by value and have no row to say why."""
    explained = {(row.set, row.register) for row in comparison.rows}
    return [
        Finding(
            code=_purpose(state.set, state.register),
            link="baseline",
            summary=f"register {state.register}: {state.why}",
            set=state.set,
            registers=(state.register,),
            detail={"order": 1 << 20, "confidence": 0.4, "by_value": True},
        )
        for state in comparison.registers
        if state.status == "differs" and (state.set, state.register) not in explained
    ]


def without_log(by_value: Iterable[Finding], against: str = "the baseline") -> list[Finding]:
    """Return one finding in place of those of `value_findings`: without a log no value says what changed.

    Args:
        by_value: Findings of registers that differ by value.
        against: What they differ from.
    """
    found = list(by_value)
    registers = tuple(sorted({register for finding in found for register in finding.registers}))
    if not registers:
        return []
    listed = ", ".join(map(str, registers))
    many = "registers {} differ" if len(registers) > 1 else "register {} differs"
    why = f"{many.format(listed)} from {against}, and without the boot event log nothing says why"
    return [Finding("log-missing", "baseline", why, found[0].set, registers, detail={"order": 0})]


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
