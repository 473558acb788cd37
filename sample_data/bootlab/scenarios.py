"""The scenarios: each is one real boot in which only the stated thing differs from its reference."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archive import Component
from artifacts import kernel_image
from disks import Tree, debian_tree, image_hash, image_tree, systemd_boot_tree
from settings import BASE_CMDLINE, BUILD, FIRMWARE, IMA_CMDLINE, OWNER_GUID, VARS

Found = Mapping[str, Component]
Words = Sequence[object]

SECURE_CODE = FIRMWARE / "OVMF_CODE_4M.secboot.fd"
FACTORY_VARIABLES = FIRMWARE / "OVMF_VARS_4M.ms.fd"
INSTALLED_VARIABLES = VARS / "installed.fd"
CHANGED_CMDLINE = BASE_CMDLINE + " mitigations=off lockdown=none"


@dataclass(frozen=True, slots=True)
class Expected:
    """What `cvmlab investigate` must say of the boot; the fields of expected.json."""

    verdict: str | tuple[str, ...]
    primary: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()


TRUSTED = Expected("trusted")


def blamed(*codes: str, baseline: tuple[str, ...] = ()) -> Expected:
    """Expect that the boot is not trusted, and one of these codes as the primary cause."""
    return Expected("not-trusted", primary=codes, baseline=baseline)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One boot.

    Attributes:
        what: One sentence for the README.
        changed: What differs from the reference, for origin.json; empty for a reference.
        expected: What the product must say.
        needs: Roles of packages that the archive may not have.
        firmware: The role of the firmware package; None is the installed one.
        own_db: The lab's image signing certificate is in db, and the store begins as the factory's.
    """

    what: str
    changed: str
    expected: Expected
    tree: Callable[[Found], Tree] = debian_tree
    edits: Callable[[Found], Words] = field(default=lambda found: ())
    machine: str = "alder"
    needs: tuple[str, ...] = ()
    firmware: str | None = None
    own_db: bool = False
    root: Path | None = None
    memory_mib: int = 512
    settings: tuple[str, ...] = ()
    extra_partition: bool = False

    def code(self, found: Found) -> Path:
        """Give the firmware image."""
        return found[self.firmware].file(SECURE_CODE.name) if self.firmware else SECURE_CODE

    def variables(self, found: Found) -> tuple[Path, Words]:
        """Give the variable store to begin with and the edits to make."""
        if self.own_db:
            words = ("--add-db", OWNER_GUID, BUILD / "db.crt")
            return FACTORY_VARIABLES, (*words, *self.edits(found))
        return INSTALLED_VARIABLES, self.edits(found)


def _tree(**options: object) -> Callable[[Found], Tree]:
    return lambda found: debian_tree(found, **options)  # type: ignore[arg-type]


def _systemd_boot(found: Found) -> Tree:
    return systemd_boot_tree("uki.efi", kernel_image(found["kernel"])[1])


def _revoke(found: Found) -> Words:
    """Forbid the GRUB before the installed one (a real revocation), else an image that does not exist."""
    older = found.get("grub_older")
    digest = image_hash(older.file("grubx64.efi.signed")) if older else secrets.token_hex(32)
    return ("--add-dbx-hash", OWNER_GUID, digest)


def _no_secure_boot(found: Found) -> Words:
    return ("--set-false", "SecureBootEnable")


def _unlogged(register: int) -> str:
    """Write the words of `tpm2_pcrextend` for an event that no log holds."""
    event = b"bootlab: an event without a log"
    digests = (f"{bank}={hashlib.new(bank, event).hexdigest()}" for bank in ("sha1", "sha256", "sha384"))
    return f"{register}:{','.join(digests)}"


def _ima(root: str) -> dict[str, object]:
    return {
        "tree": _tree(cmdline=IMA_CMDLINE, initrd=BUILD / "initrd-debian.img"),
        "root": BUILD / root,
        "memory_mib": 1024,
    }


SCENARIOS: dict[str, Scenario] = {
    "baseline": Scenario(
        "The reference: Secure Boot on, Microsoft's keys, Debian's signed shim, GRUB and cloud kernel.",
        "", TRUSTED, settings=("extra sha1 sha256 sha384",),
    ),
    "baseline_repeat": Scenario(
        "The next boot of the same machine, nothing changed; quoted in every bank like the first.",
        "nothing (a later boot)", TRUSTED, settings=("extra sha1 sha256 sha384",),
    ),
    "baseline_machine_b": Scenario(
        "The same disk and variables on a second machine; its attestation key is ECDSA P-256.",
        "the machine: other TPM, other SMBIOS UUID, other kind of attestation key", TRUSTED, machine="birch",
    ),
    "bank_sha256_only": Scenario(
        "A third machine, whose TPM has only the SHA-256 bank.",
        "the machine: other TPM with one active bank, other SMBIOS UUID", TRUSTED, machine="cedar",
    ),
    "secureboot_disabled": Scenario(
        "Secure Boot switched off in the firmware's setup, keys still enrolled.",
        "variable SecureBootEnable = 0", blamed("secure-boot-disabled"), edits=_no_secure_boot,
    ),
    "kernel_changed": Scenario(
        "A kernel of a newer series, signed by Debian as well, with its entry in GRUB's menu.",
        "kernel package, and the release name in GRUB's menu and file names", blamed("kernel-changed"),
        tree=_tree(kernel="kernel_updated"), needs=("kernel_updated",),
    ),
    "cmdline_changed": Scenario(
        "Two words that weaken the kernel added to its command line in GRUB's menu.",
        "kernel command line: mitigations=off lockdown=none added", blamed("kernel-command-line-changed"),
        tree=_tree(cmdline=CHANGED_CMDLINE),
    ),
    "initrd_tampered": Scenario(
        "An initial RAM disk to which a script was added that runs at boot.",
        "initrd: one script added", blamed("initrd-changed"),
        tree=_tree(initrd=BUILD / "initrd-tampered.img"),
    ),
    "dbx_updated": Scenario(
        "The hash of the GRUB release before this one added to the list of forbidden images.",
        "variable dbx: one SHA-256 entry added", blamed("revocation-list-updated"), edits=_revoke,
    ),
    "mok_enrolled": Scenario(
        "A machine owner's key enrolled for shim; nothing in the boot is signed with it.",
        "variable MokList: one certificate added", blamed("mok-changed"),
        edits=lambda found: ("--add-mok", OWNER_GUID, BUILD / "mok.crt"),
    ),
    "boot_order_changed": Scenario(
        "A further boot entry appended to the boot order.",
        "variables BootOrder and Boot####: one entry added", blamed("boot-order-changed"),
        edits=lambda found: ("--append-boot-filepath", "\\EFI\\rescue\\grubx64.efi"),
    ),
    "firmware_older": Scenario(
        "The firmware release before the installed one.",
        "firmware package", blamed("firmware-changed"), firmware="firmware_older", needs=("firmware_older",),
    ),
    "boot_loader_changed": Scenario(
        "Another GRUB image that Debian signed (the one for removable media) in the place of GRUB.",
        "GRUB image: gcdx64.efi instead of grubx64.efi, which runs the menu by another way",
        blamed("boot-loader-changed"), tree=_tree(grub="gcdx64.efi.signed"),
    ),
    "partition_added": Scenario(
        "A further partition on the boot disk.",
        "partition table: one partition added", blamed("partition-table-changed"), extra_partition=True,
    ),
    "extended_after_log": Scenario(
        "Software in the guest extended register 9 after the boot, and no log tells of it.",
        "register 9 extended once in every bank before the quote", blamed("registers-extended-after-log"),
        settings=(f"extend {_unlogged(9)}",),
    ),
    "sdboot_uki": Scenario(
        "systemd-boot and a unified kernel image, both signed with a key of the lab that is in db.",
        "boot loader, kernel image, db (own reference)", Expected("trusted", baseline=("sdboot_uki",)),
        tree=_systemd_boot, own_db=True,
    ),
    "uki_signed": Scenario(
        "The firmware starts a unified kernel image by itself, signed with a key of the lab that is in db.",
        "no boot loader, kernel image, db (own reference)", Expected("trusted", baseline=("uki_signed",)),
        tree=lambda found: image_tree("uki.efi"), own_db=True,
    ),
    "uki_cmdline_changed": Scenario(
        "As uki_signed, but the image's own command line is another.",
        "the image's .cmdline section",
        blamed("kernel-command-line-changed", "unified-kernel-image-changed", baseline=("uki_signed",)),
        tree=lambda found: image_tree("uki-cmdline.efi"), own_db=True,
    ),
    "ima_tcb": Scenario(
        "The kernel measures files while it runs, because its command line asks for it.",
        "kernel command line: ima_policy=tcb ima_hash=sha256 added", blamed("kernel-command-line-changed"),
        tree=_tree(cmdline=IMA_CMDLINE),
    ),
    "debian_ima": Scenario(
        "Debian with systemd, ssh and cron from a root file system, files measured while it runs.",
        "initrd, root file system, kernel command line (own reference)",
        Expected("trusted", baseline=("debian_ima",)), **_ima("root.ext4"),  # type: ignore[arg-type]
    ),
    "debian_ima_repeat": Scenario(
        "The next boot of debian_ima: the same files, measured partly in another order.",
        "nothing (a later boot)", Expected("trusted", baseline=("debian_ima",)),
        **_ima("root.ext4"),  # type: ignore[arg-type]
    ),
    "debian_ima_tampered": Scenario(
        "As debian_ima, but one program has a byte appended and an unknown program is started.",
        "root file system: /usr/sbin/cron one byte longer, /usr/local/bin/implant started by cron's unit",
        blamed("runtime-file-unknown", baseline=("debian_ima",)),
        **_ima("root-tampered.ext4"),  # type: ignore[arg-type]
    ),
    "tpm12": Scenario(
        "The machine's TPM speaks version 1.2: a log in the old format, no quote.",
        "the machine: a TPM 1.2 behind a TIS interface",
        Expected("inconclusive", any=("evidence-incomplete",)), machine="douglas",
    ),
    "stock_linux_cmd_sboff": Scenario(
        "Debian's plain `linux` command with Secure Boot off enters the kernel without its EFI stub: no log.",
        "GRUB's menu uses linux/initrd instead of linuxefi/initrdefi; variable SecureBootEnable = 0",
        Expected(("not-trusted", "inconclusive"), any=("log-missing",)), tree=_tree(verb=""),
        edits=_no_secure_boot,
    ),
}  # fmt: skip
