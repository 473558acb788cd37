"""What changed between two boots is named, for changes that no sample has.

Each boot is a real one measured anew with one change (see `remeasure`), so the expected cause follows from
the change. Nothing but the change differs, and everything is quoted.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from remeasure import (
    APPLICATION,
    AUTHORITY,
    DRIVER,
    EFI_ACTION,
    EVENT_TAG,
    GPT,
    HANDOFF,
    IPL,
    NO_ACTION,
    SEPARATOR,
    SHIM_LOCK,
    VARIABLE_BOOT,
    Boot,
    Measured,
    contents,
    digests_of,
    enrolled_key,
    events_of,
    measured,
    variable,
    variable_parts,
    write_boot,
)

import cvmlab
from cvmlab.baseline.edit import accept_rows
from cvmlab.baseline.merge import merge

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.explain.model import Cause
    from cvmlab.report.investigation import Investigation

Change = Callable[[Boot], object]
EFI_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
SHA256_LIST = bytes.fromhex("2616c4c14c509240aca941f936934328")
# UEFI 2.10, section 10.3: nodes for a firmware volume, and for a PCI root bridge with a device
FIRMWARE_VOLUME = bytes.fromhex("04071400c9bdb87cebf8344faaea3ee4af6516a1")
PCI_CARD = bytes.fromhex("02010c00d041030a00000000010106000003")
END = bytes.fromhex("7fff0400")


def image(path: bytes) -> bytes:
    """EFI_IMAGE_LOAD_EVENT (PFP 1.06, section 10.2.3)."""
    return struct.pack("<QQQQ", 0x7E00_0000, 90_000, 0, len(path) + 4) + path + END


def file_path(text: str) -> bytes:
    name = text.encode("utf-16-le") + b"\0\0"
    return struct.pack("<BBH", 4, 4, 4 + len(name)) + name


def kernel_update(boot: Boot) -> None:
    for i in boot.where(APPLICATION)[2:]:
        boot.events[i].digests = contents("new kernel")
    old = next(e for e in boot.events if e.data.startswith(b"kernel_cmdline: "))
    version = old.data.split(b"vmlinuz-")[1].split(b" ")[0].decode()
    boot.replace_text(version, "9.9.9-99-cloud-amd64")
    for name in ("vmlinuz", "initrd", "grub.cfg"):
        for e in boot.events:
            if e.register == 9 and name.encode() in e.data:
                e.digests = contents("new " + name)


def other_kernel(boot: Boot) -> None:
    for i in boot.where(APPLICATION)[2:]:
        boot.events[i].digests = contents("other kernel")
    for e in boot.events:
        if e.register == 9 and b"vmlinuz" in e.data:
            e.digests = contents("other kernel")


def grub_update(boot: Boot) -> None:
    boot.set_contents(APPLICATION, "grubx64", "new")


def shim_update(boot: Boot) -> None:
    boot.set_contents(APPLICATION, "shimx64", "new")
    boot.set_contents(IPL, "MokListX", "new")
    boot.set_variable("SbatLevel", boot.value("SbatLevel").replace(b"shim,4", b"shim,5"))


def firmware_update(boot: Boot) -> None:
    for e in boot.events[1:3]:
        e.digests = contents(f"new firmware {e.data.hex()}")


def locality(boot: Boot) -> None:
    boot.events.insert(0, Measured(0, NO_ACTION, b"StartupLocality\0\x03", {}))


def secure_boot_off(boot: Boot) -> None:
    boot.set_variable("SecureBoot", b"\0")
    boot.drop(AUTHORITY, keep="SbatLevel")


def setup_mode(boot: Boot) -> None:
    secure_boot_off(boot)
    for name in ("PK", "KEK"):
        boot.set_variable(name, b"")


def all_keys_gone(boot: Boot) -> None:
    setup_mode(boot)
    for name in ("db", "dbx"):
        boot.set_variable(name, b"")


def setup_mode_variable(boot: Boot) -> None:
    boot.events.insert(7, measured(7, 0x80000001, variable(EFI_GLOBAL, "SetupMode", b"\1")))


def key_added(name: str) -> Change:
    return lambda boot: boot.set_variable(name, boot.value(name) + boot.value("PK"))


def first_key_only(boot: Boot) -> None:
    data = boot.value("db")
    boot.set_variable("db", data[: struct.unpack_from("<I", data, 16)[0]])


def hash_revoked(boot: Boot) -> None:
    entry = bytes(16) + hashlib.sha256(b"revoked").digest()
    one = SHA256_LIST + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
    boot.set_variable("dbx", boot.value("dbx") + one)


def validation_off(boot: Boot) -> None:
    at = boot.where(IPL, "MokListTrusted")[0]
    boot.events[at:at] = [
        measured(7, AUTHORITY, variable(SHIM_LOCK, "MokSBState", b"\1")),
        measured(14, IPL, b"MokSBState\0", b"\1"),
    ]
    vouching = set(boot.where(AUTHORITY, "MokListRT"))
    boot.events = [e for i, e in enumerate(boot.events) if i not in vouching]


def other_authority(boot: Boot) -> None:
    other_kernel(boot)
    at = boot.where(APPLICATION)[2]
    key = boot.value("PK")[28:]
    boot.events.insert(at, measured(7, AUTHORITY, variable(SHIM_LOCK, "MokListRT", key)))


def firmware_action(register: int, text: bytes) -> Change:
    def change(boot: Boot) -> None:
        at = next(i for i, e in enumerate(boot.events) if e.register == register) + 1
        boot.events.insert(at, measured(register, EFI_ACTION, text))

    return change


def driver(register: int, path: bytes) -> Change:
    return lambda boot: boot.events.insert(9, measured(register, DRIVER, image(path), b"driver"))


def network_card(boot: Boot) -> None:
    boot.set_variable("BootOrder", boot.value("BootOrder") + b"\x04\0")
    entry = variable(EFI_GLOBAL, "Boot0004", boot.value("Boot0002"))
    at = boot.where(VARIABLE_BOOT, "Boot0002")[0]
    boot.events.insert(at + 1, measured(1, VARIABLE_BOOT, entry, variable_parts(entry)[2]))
    driver(2, PCI_CARD)(boot)


def more_memory(boot: Boot) -> None:
    boot.events.insert(14, measured(1, HANDOFF, b"\x06SMBIOS" + bytes(8), b"other tables"))


def another_application(boot: Boot) -> None:
    at = boot.where(APPLICATION, "shimx64")[0]
    path = file_path("\\EFI\\tools\\other.efi")
    boot.events.insert(at, measured(4, APPLICATION, image(path), b"other application"))


def partition_moved(boot: Boot) -> None:
    event = boot.events[boot.where(GPT)[0]]
    event.data = event.data[:-100] + b"\x01" + event.data[-99:]
    event.digests = digests_of(event.data)


def words(boot: Boot) -> None:
    boot.replace_text(" quiet", " quiet init=/bin/sh")


CHANGES: dict[str, tuple[Change, str, set[str]]] = {
    "kernel_update": (kernel_update, "kernel-changed", {"boot-configuration-changed", "initrd-changed"}),
    "kernel_rebuilt": (other_kernel, "kernel-changed", set()),
    "kernel_of_another_signer": (other_authority, "kernel-changed", {"boot-loader-authority-changed"}),
    "grub_update": (grub_update, "boot-loader-changed", set()),
    "shim_update": (shim_update, "boot-loader-changed", {"mok-changed", "sbat-level-changed"}),
    "firmware_update": (firmware_update, "firmware-changed", set()),
    "started_from_locality_3": (locality, "firmware-changed", set()),
    "driver_of_the_firmware": (driver(0, FIRMWARE_VOLUME), "firmware-changed", set()),
    "option_rom": (driver(2, PCI_CARD), "option-rom-changed", set()),
    "driver_from_disk": (driver(2, file_path("\\drv\\x.efi")), "unexpected-boot-application", set()),
    "network_card_with_option_rom": (network_card, "option-rom-changed", {"boot-order-changed"}),
    "more_memory": (more_memory, "hardware-configuration-changed", set()),
    "setup_entered": (
        firmware_action(1, b"Entering ROM Based Setup"),
        "hardware-configuration-changed",
        set(),
    ),
    "dma_protection_off": (
        firmware_action(7, b"DMA Protection Disabled"),
        "hardware-configuration-changed",
        set(),
    ),
    "firmware_debug_mode": (firmware_action(7, b"UEFI Debug Mode"), "boot-debugging-enabled", set()),
    "secure_boot_off": (secure_boot_off, "secure-boot-disabled", {"boot-loader-authority-changed"}),
    "setup_mode": (setup_mode, "secure-boot-setup-mode", {"secure-boot-disabled", "platform-key-changed"}),
    "all_keys_gone": (
        all_keys_gone,
        "secure-boot-setup-mode",
        {"secure-boot-disabled", "secure-boot-key-removed", "revocation-list-rolled-back"},
    ),
    "setup_mode_variable": (setup_mode_variable, "secure-boot-setup-mode", set()),
    "key_exchange_key_added": (key_added("KEK"), "platform-key-changed", set()),
    "key_added": (key_added("db"), "secure-boot-key-added", set()),
    "key_removed": (first_key_only, "secure-boot-key-removed", set()),
    "hash_revoked": (hash_revoked, "revocation-list-updated", set()),
    "revocations_cleared": (
        lambda boot: boot.set_variable("dbx", b""),
        "revocation-list-rolled-back",
        set(),
    ),
    "shim_validates_nothing": (validation_off, "shim-validation-disabled", {"mok-changed"}),
    "owner_key": (lambda boot: boot.set_contents(IPL, "MokListX", "new"), "mok-changed", set()),
    "another_application": (another_application, "unexpected-boot-application", set()),
    "partition_moved": (partition_moved, "partition-table-changed", set()),
    "command_line": (words, "kernel-command-line-changed", {"boot-configuration-changed"}),
}


def flat(causes: tuple[Cause, ...]) -> set[str]:
    return {c.code for c in causes} | {code for c in causes for code in flat(c.consequences)}


def judge(folder: Path, name: str, change: Change, before: Change | None = None) -> Investigation:
    """Learn from the boot as it was (with `before`), then investigate it with the change."""
    good, changed = Boot(events_of(name)), Boot(events_of(name))
    for boot in (good, changed) if before is not None else ():
        before(boot)
    change(changed)
    key = enrolled_key(folder)
    baseline = cvmlab.learn([write_boot(folder / "good", good.events)], enrolled_keys=[key])
    unchanged = cvmlab.investigate(folder / "good", baseline=baseline, enrolled_keys=[key])
    assert unchanged.verdict == "trusted"
    path = write_boot(folder / "changed", changed.events)
    return cvmlab.investigate(path, baseline=baseline, enrolled_keys=[key])


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_named(tmp_path: Path, name: str) -> None:
    change, code, others = CHANGES[name]
    result = judge(tmp_path, "baseline", change)
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == code
    assert len(result.causes) == 1, "nothing but the change stands beside it"
    assert others <= flat(result.causes)


def test_everything_updated_at_once_names_the_earliest_and_the_kernel(tmp_path: Path) -> None:
    def upgrade(boot: Boot) -> None:
        for step in (shim_update, grub_update, kernel_update):
            step(boot)

    result = judge(tmp_path, "baseline", upgrade)
    assert [cause.code for cause in result.causes] == ["boot-loader-changed", "kernel-changed"]


def test_secure_boot_switched_on_is_no_disabling(tmp_path: Path) -> None:
    def on(boot: Boot) -> None:
        boot.set_variable("SecureBoot", b"\1")

    result = judge(tmp_path, "baseline", on, before=lambda boot: boot.set_variable("SecureBoot", b"\0"))
    assert result.primary is not None
    assert result.primary.code == "secure-boot-enabled"


def test_forged_secure_boot_is_never_said_to_be_on(tmp_path: Path) -> None:
    def forge(boot: Boot) -> None:
        claimed = boot.variable("SecureBoot").data
        secure_boot_off(boot)
        boot.variable("SecureBoot").data = claimed

    result = judge(tmp_path, "baseline", forge)
    assert result.primary is not None
    assert result.primary.code == "event-data-forged"
    assert "secure-boot-enabled" not in flat(result.causes)
    assert "secure-boot-disabled" in flat(result.causes)


def test_register_closed_twice_is_one_cause(tmp_path: Path) -> None:
    def twice(boot: Boot) -> None:
        at = next(i for i, e in enumerate(boot.events) if (e.register, e.type) == (7, SEPARATOR))
        boot.events.insert(at, boot.events[at])

    result = judge(tmp_path, "baseline", twice)
    assert [cause.code for cause in result.causes] == ["separator-duplicated"]


def load_options(boot: Boot) -> None:
    """Add what the Linux EFI stub measures of its command line: the digest is of text not in the log."""
    tag = struct.pack("<II", 0x8F3B22ED, 26) + b"LOADED_IMAGE::LoadOptions\0"
    line = next(e.data for e in boot.events if e.data.startswith(b"kernel_cmdline: "))
    boot.events.append(measured(9, EVENT_TAG, tag, line.partition(b": ")[2]))


def test_unlogged_command_line_with_another_kernel_path_is_the_kernels(tmp_path: Path) -> None:
    def update(boot: Boot) -> None:
        kernel_update(boot)
        del boot.events[-1]
        load_options(boot)

    result = judge(tmp_path, "baseline", update, before=load_options)
    assert [cause.code for cause in result.causes] == ["kernel-changed"]


def test_unlogged_command_line_alone_is_named(tmp_path: Path) -> None:
    def alone(boot: Boot) -> None:
        boot.events[-1].digests = contents("other options")

    result = judge(tmp_path, "baseline", alone, before=load_options)
    assert result.primary is not None
    assert result.primary.code == "kernel-command-line-changed"


def test_words_that_name_the_kernels_files_are_no_other_command_line(tmp_path: Path) -> None:
    def update(boot: Boot) -> None:
        kernel_update(boot)
        boot.replace_text("ostree=/ostree/boot.1/a/0", "ostree=/ostree/boot.0/b/0")

    def deployed(boot: Boot) -> None:
        boot.replace_text(" quiet", " quiet ostree=/ostree/boot.1/a/0")

    result = judge(tmp_path, "baseline", update, before=deployed)
    assert [cause.code for cause in result.causes] == ["kernel-changed"]


def section_contents(*names: str) -> Change:
    def change(boot: Boot) -> None:
        for name in names:
            boot.events[boot.where(IPL, name)[1]].digests = contents("new " + name)
        boot.events[boot.where(APPLICATION)[-1]].digests = contents(f"image with new {names}")

    return change


def described(register: int, text: str, of: bytes | None = None) -> Change:
    """Add what systemd-stub measures beside the image: UTF-16 text, the digest of it or of contents."""

    def change(boot: Boot) -> None:
        at = max(boot.where(IPL, ".initrd")) + 1
        boot.events.insert(at, measured(register, IPL, text.encode("utf-16-le") + b"\0\0", of))

    return change


@pytest.mark.parametrize("boot", ["uki_signed", "sdboot_uki"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (section_contents(".linux", ".initrd", ".osrel"), "unified-kernel-image-changed"),
        (section_contents(".linux", ".initrd", ".cmdline"), "unified-kernel-image-changed"),
        (section_contents(".initrd"), "unified-kernel-image-changed"),
        (section_contents(".cmdline"), "kernel-command-line-changed"),
        (described(12, "mitigations=off"), "kernel-command-line-changed"),
        (described(12, "Credentials initrd", b"credential"), "boot-extension-changed"),
        (described(13, "System extension initrd", b"extension"), "boot-extension-changed"),
    ],
    ids=["updated", "replaced", "initrd", "cmdline", "addon", "credentials", "sysext"],
)
def test_change_of_a_unified_kernel_image_is_named(
    tmp_path: Path, boot: str, change: Change, code: str
) -> None:
    result = judge(tmp_path, boot, change)
    assert result.primary is not None
    assert result.primary.code == code
    assert len(result.causes) == 1


def test_registers_that_the_quote_leaves_out_are_named(tmp_path: Path) -> None:
    key = enrolled_key(tmp_path)
    events = events_of("baseline")
    baseline = cvmlab.learn([write_boot(tmp_path / "good", events)], enrolled_keys=[key])
    path = write_boot(tmp_path / "few", events, registers=range(8))
    result = cvmlab.investigate(path, baseline=baseline, enrolled_keys=[key])
    assert result.verdict == "inconclusive"
    assert result.primary is not None
    assert result.primary.code == "register-not-quoted"
    assert result.primary.registers == (8, 9, 11, 12, 13, 14)


def test_boots_that_start_register_0_differently_make_no_baseline(tmp_path: Path) -> None:
    key = enrolled_key(tmp_path)
    other = Boot(events_of("baseline"))
    locality(other)
    folders = [
        write_boot(tmp_path / "a", events_of("baseline")),
        write_boot(tmp_path / "b", other.events),
    ]
    with pytest.raises(cvmlab.errors.BaselineError, match="locality 3"):
        cvmlab.learn(folders, enrolled_keys=[key])


def test_baselines_of_boots_that_start_register_0_differently_do_not_merge(tmp_path: Path) -> None:
    key = enrolled_key(tmp_path)
    other = Boot(events_of("baseline"))
    locality(other)
    one, two = (
        cvmlab.learn([write_boot(tmp_path / name, events)], enrolled_keys=[key])
        for name, events in (("a", events_of("baseline")), ("b", other.events))
    )
    with pytest.raises(cvmlab.errors.BaselineError, match="locality"):
        merge(one, two)


def test_another_start_of_register_0_is_learned_not_accepted(tmp_path: Path) -> None:
    result = judge(tmp_path, "baseline", locality)
    assert result.comparison is not None
    with pytest.raises(cvmlab.errors.BaselineError, match="learn a baseline"):
        accept_rows(result.comparison.baseline, result.assessment, result.comparison, result.comparison.rows)


def initrd_by_the_stub(boot: Boot) -> None:
    """Add what the Linux EFI stub measures of the RAM disk, which GRUB measured before."""
    initrd = next(e for e in boot.events if e.register == 9 and b"initrd" in e.data)
    tag = struct.pack("<II", 0x8F3B22EC, 13) + b"Linux initrd\0"
    boot.events.append(Measured(9, EVENT_TAG, tag, initrd.digests))


def test_one_file_measured_by_two_programs_is_no_edited_type(tmp_path: Path) -> None:
    def by_grub_alone(boot: Boot) -> None:
        del boot.events[-1]

    result = judge(tmp_path, "baseline", by_grub_alone, before=initrd_by_the_stub)
    assert "log-event-modified" not in flat(result.causes)
    assert result.primary is not None
    assert result.primary.code == "initrd-changed"


def test_boot_without_the_boot_loaders_events_names_what_comes_first(tmp_path: Path) -> None:
    def other_chain(boot: Boot) -> None:
        boot.events = [e for e in boot.events if e.register not in (8, 9)]
        boot.set_variable("db", boot.value("db") + boot.value("PK"))

    result = judge(tmp_path, "baseline", other_chain)
    assert result.primary is not None
    assert result.primary.code == "secure-boot-key-added"
