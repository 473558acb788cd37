"""The scenarios: each is one real boot in which only the stated thing differs from its reference."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archive import Component
from artifacts import kernel_image
from disks import (
    Tree,
    debian_tree,
    image_hash,
    image_tree,
    load_option,
    systemd_boot_tree,
    variable_file,
)
from expected import (
    KERNEL_UPDATE,
    MENU,
    NEW_CMDLINE,
    PACKED_FOR_KERNEL,
    SIGNED_BY_LAB,
    TRUSTED,
    UNCHECKED,
    Expected,
    blamed,
)
from settings import BASE_CMDLINE, BUILD, FIRMWARE, IMA_CMDLINE, LAB, OWNER_GUID, VARS, WORK

Found = Mapping[str, Component]
Words = Sequence[object]

SECURE_CODE = FIRMWARE / "OVMF_CODE_4M.secboot.fd"
FACTORY_VARIABLES = FIRMWARE / "OVMF_VARS_4M.ms.fd"
INSTALLED_VARIABLES = VARS / "installed.fd"
GLOBAL_GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM_GUID = "605dab50-e046-4300-abb6-3dd810dd8b23"
MICROSOFT_GUID = "77fa9abd-0359-4d32-bd60-28f4e78f784b"
CHANGED_CMDLINE = BASE_CMDLINE + " mitigations=off lockdown=none"


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
        hardware: What QEMU is started with otherwise; fields of `power.Hardware`.
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
    hardware: Mapping[str, Any] = field(default_factory=dict)

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


def _beside_image(**files: str) -> Callable[[Found], Tree]:
    """Put files beside the unified kernel image that systemd-boot starts."""
    beside = {name.replace("_", "."): text for name, text in files.items()}
    return lambda found: systemd_boot_tree("uki.efi", kernel_image(found["kernel"])[1], beside)


def _microsoft(name: str) -> Path:
    """Give one of Microsoft's certificates as virt-firmware brings them."""
    return next(
        (LAB / "venv/lib").glob(f"python3*/site-packages/virt/firmware/certs/microsoft.com/{name}.pem")
    )


def _variables(name: str, **variables: tuple[str, int, bytes]) -> Callable[[Found], Words]:
    return lambda found: ("--set-json", variable_file(name, variables))


def _lab_key(*more: object) -> Callable[[Found], Words]:
    """Add the lab's image signing certificate to the db of the installed machine."""
    return lambda found: ("--add-db", OWNER_GUID, BUILD / "db.crt", *more)


def _option_file(kind: str, file: str) -> Callable[[Found], Words]:
    """Have the firmware load a file of the EFI system partition before it turns to the boot order."""
    option = load_option("lab", "\\EFI\\lab\\" + file)
    variables = {f"{kind}0000": (GLOBAL_GUID, 7, option), f"{kind}Order": (GLOBAL_GUID, 7, b"\0\0")}
    return lambda found: (*_lab_key()(found), "--set-json", variable_file(file, variables))


def _sbat_level(found: Found) -> Words:
    """Store a revocation level that is newer than the one in shim and asks for the same generations."""
    path = WORK / "sbat-level.csv"
    path.write_text("sbat,1,2026010100\nshim,4\ngrub,5\n")
    return ("--set-sbat-level", path)


def _certificates_2023(found: Found) -> Words:
    return (
        "--add-db", MICROSOFT_GUID, _microsoft("windows-2023"),
        "--add-db", MICROSOFT_GUID, _microsoft("ms-uefi-2023"),
    )  # fmt: skip


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
        "variable SecureBootEnable = 0", blamed("secure-boot-disabled", under=UNCHECKED),
        edits=_no_secure_boot,
    ),
    "kernel_changed": Scenario(
        "A kernel of a newer series, signed by Debian as well, with its entry in GRUB's menu.",
        "kernel package, and the release name in GRUB's menu and file names",
        blamed("kernel-changed", under=KERNEL_UPDATE),
        tree=_tree(kernel="kernel_updated"), needs=("kernel_updated",),
    ),
    "cmdline_changed": Scenario(
        "Two words that weaken the kernel added to its command line in GRUB's menu.",
        "kernel command line: mitigations=off lockdown=none added",
        blamed("kernel-command-line-changed", under=NEW_CMDLINE),
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
        blamed("boot-loader-changed", under={"boot-loader-changed": MENU}),
        tree=_tree(grub="gcdx64.efi.signed"),
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
        tree=_systemd_boot, own_db=True, machine="elder",
    ),
    "uki_signed": Scenario(
        "The firmware starts a unified kernel image by itself, signed with a key of the lab that is in db.",
        "no boot loader, kernel image, db (own reference)", Expected("trusted", baseline=("uki_signed",)),
        tree=lambda found: image_tree("uki.efi"), own_db=True, machine="elder",
    ),
    "uki_cmdline_changed": Scenario(
        "As uki_signed, but the image's own command line is another.",
        "the image's .cmdline section",
        blamed(
            "kernel-command-line-changed", baseline=("uki_signed",),
            under={"kernel-command-line-changed": ("unified-kernel-image-changed",)},
        ),
        tree=lambda found: image_tree("uki-cmdline.efi"), own_db=True, machine="elder",
    ),
    "ima_tcb": Scenario(
        "The kernel measures files while it runs, because its command line asks for it.",
        "kernel command line: ima_policy=tcb ima_hash=sha256 added",
        blamed(
            "kernel-command-line-changed",
            under={"kernel-command-line-changed": (*MENU, "runtime-file-unknown")},
        ),
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
        Expected("inconclusive", primary=("evidence-incomplete",)), machine="douglas",
    ),
    "stock_linux_cmd_sboff": Scenario(
        "Debian's plain `linux` command with Secure Boot off enters the kernel without its EFI stub: no log.",
        "GRUB's menu uses linux/initrd instead of linuxefi/initrdefi; variable SecureBootEnable = 0",
        Expected("not-trusted", primary=("log-missing",)), tree=_tree(verb=""),
        edits=_no_secure_boot,
    ),
    "memory_more": Scenario(
        "The reference with four times the memory.",
        "memory", TRUSTED, machine="elder", memory_mib=2048,
    ),
    "hardware_addresses": Scenario(
        "The reference with the disk in another slot and a random number generator beside it.",
        "PCI addresses; one device added",
        Expected("trusted", info=("boot-order-changed",)), machine="elder",
        hardware={"disk_slot": "0x9", "extra": ("-device", "virtio-rng-pci,addr=0x4")},
    ),
    "tpm_interface": Scenario(
        "The reference with the TPM behind the FIFO interface instead of CRB.",
        "the interface of the TPM", TRUSTED, machine="elder", hardware={"tpm_device": "tpm-tis"},
    ),
    "bank_sha384_only": Scenario(
        "A machine whose TPM has only the SHA-384 bank; its quote is in that bank.",
        "the machine: other TPM with one active bank", TRUSTED, machine="fir", settings=("extra sha384",),
    ),
    "db_key_added": Scenario(
        "A certificate of the lab added to db; nothing in the boot is signed with it.",
        "variable db: one certificate added", blamed("secure-boot-key-added"), machine="elder",
        edits=_lab_key(),
    ),
    "db_certificates_2023": Scenario(
        "Microsoft's two certificates of 2023 added to db, as its roll-out does.",
        "variable db: two certificates added", blamed("secure-boot-key-added"), machine="elder",
        edits=_certificates_2023,
    ),
    "db_key_removed": Scenario(
        "The certificate of Windows' boot loaders taken from db.",
        "variable db: one certificate removed", blamed("secure-boot-key-removed"), machine="elder",
        edits=lambda found: ("--delete", "db", "--add-db", MICROSOFT_GUID, _microsoft("ms-uefi-2011")),
    ),
    "kek_added": Scenario(
        "Microsoft's key exchange key of 2023 added to KEK.",
        "variable KEK: one certificate added", blamed("platform-key-changed"), machine="elder",
        edits=lambda found: ("--add-kek", MICROSOFT_GUID, _microsoft("ms-kek-2023")),
    ),
    "platform_key_changed": Scenario(
        "Another platform key.",
        "variable PK", blamed("platform-key-changed"), machine="elder",
        edits=lambda found: ("--set-pk", OWNER_GUID, BUILD / "mok.crt"),
    ),
    "setup_mode": Scenario(
        "The platform key deleted: the firmware is in setup mode and does not enforce Secure Boot.",
        "variable PK deleted",
        blamed(
            "secure-boot-setup-mode",
            under={"secure-boot-setup-mode": ("secure-boot-disabled",), **UNCHECKED},
        ),
        machine="elder", edits=lambda found: ("--delete", "PK"),
    ),
    "dbx_rolled_back": Scenario(
        "The factory's list of forbidden images, which lacks the entry that dbx_updated has.",
        "variable dbx: one SHA-256 entry fewer than the reference",
        blamed("revocation-list-rolled-back", baseline=("dbx_updated",)), machine="elder",
    ),
    "sbat_level_changed": Scenario(
        "A later SBAT level, as an operating system's update stores it for shim.",
        "variable SbatLevel", blamed("sbat-level-changed"), machine="elder", edits=_sbat_level,
    ),
    "shim_validation_disabled": Scenario(
        "shim's validation switched off, as `mokutil --disable-validation` does.",
        "variable MokSBState = 1",
        blamed(
            "shim-validation-disabled",
            under={"shim-validation-disabled": ("boot-loader-authority-changed", "mok-changed")},
        ),
        machine="elder",
        edits=_variables("validation", MokSBState=(SHIM_GUID, 3, b"\1")),
    ),
    "shim_signed_otherwise": Scenario(
        "The same shim, signed with the lab's key, which is in db.",
        "the signature of shim", blamed("boot-loader-authority-changed", baseline=("db_key_added",)),
        machine="elder", tree=_tree(shim=BUILD / "shim-lab.efi"), edits=_lab_key(),
    ),
    "shim_changed": Scenario(
        "A shim that says it is of another version, signed like its reference.",
        "shim image", blamed("boot-loader-changed", baseline=("shim_signed_otherwise",)),
        machine="elder", tree=_tree(shim=BUILD / "shim-other.efi"), edits=_lab_key(),
    ),
    "unexpected_application": Scenario(
        "An application that the firmware starts before the boot loader (SysPrep####), its key in db.",
        "variables SysPrepOrder and SysPrep0000; one file",
        blamed("unexpected-boot-application", baseline=("db_key_added",), under=SIGNED_BY_LAB),
        machine="elder",
        tree=_tree(more={"EFI/lab/tool.efi": BUILD / "tool.efi"}), edits=_option_file("SysPrep", "tool.efi"),
    ),
    "driver_loaded": Scenario(
        "A driver that the firmware loads from the boot partition (Driver####), signed with a key in db.",
        "variables DriverOrder and Driver0000; one file",
        blamed("unexpected-boot-application", baseline=("db_key_added",), under=SIGNED_BY_LAB),
        machine="elder",
        tree=_tree(more={"EFI/lab/driver.efi": BUILD / "driver.efi"}),
        edits=_option_file("Driver", "driver.efi"),
    ),
    "option_rom_added": Scenario(
        "A network card with a driver in its option ROM.",
        "one network card with a ROM", blamed("option-rom-changed"), machine="elder",
        hardware={"extra": ("-device", "virtio-net-pci,romfile=/usr/lib/ipxe/qemu/efi-virtio.rom,addr=0x6")},
    ),
    "grub_menu_changed": Scenario(
        "A further command at the top of GRUB's menu.",
        "GRUB's menu: set gfxpayload=text added", blamed("boot-configuration-changed"), machine="elder",
        tree=_tree(menu_line="set gfxpayload=text\n"),
    ),
    "initrd_updated": Scenario(
        "An initial RAM disk as an update of a package leaves it, with one script more.",
        "initrd: one script added", blamed("initrd-changed"), machine="elder",
        tree=_tree(initrd=BUILD / "initrd-updated.img"),
    ),
    "kernel_debugging": Scenario(
        "The kernel's debugger on the serial line, asked for on the command line.",
        "kernel command line: kgdboc=ttyS0 added",
        blamed(
            "kernel-command-line-changed",
            under={"kernel-command-line-changed": (*MENU, "kernel-debugging-enabled")},
        ),
        machine="elder",
        tree=_tree(cmdline=BASE_CMDLINE + " kgdboc=ttyS0"),
    ),
    "kernel_and_dbx": Scenario(
        "Two updates at once: the kernel of kernel_changed and the revocation list of dbx_updated.",
        "kernel package and variable dbx",
        blamed("revocation-list-updated", independent=("kernel-changed",), under=KERNEL_UPDATE),
        machine="elder",
        tree=_tree(kernel="kernel_updated"), edits=_revoke, needs=("kernel_updated",),
    ),
    "cmdline_and_mok": Scenario(
        "Two changes at once: the command line of cmdline_changed and the owner's key of mok_enrolled.",
        "kernel command line and variable MokList",
        blamed("mok-changed", independent=("kernel-command-line-changed",), under=NEW_CMDLINE),
        machine="elder",
        tree=_tree(cmdline=CHANGED_CMDLINE), edits=lambda found: ("--add-mok", OWNER_GUID, BUILD / "mok.crt"),
    ),
    "uki_kernel_changed": Scenario(
        "As uki_signed, with a kernel of a newer series.",
        "the image's .linux and .uname sections",
        blamed(
            "unified-kernel-image-changed", baseline=("uki_signed",),
            under={"unified-kernel-image-changed": ("kernel-changed",)},
        ),
        machine="elder",
        tree=lambda found: image_tree("uki-kernel.efi"), own_db=True, needs=("kernel_updated",),
    ),
    "uki_initrd_changed": Scenario(
        "As uki_signed, with another initial RAM disk.",
        "the image's .initrd section",
        blamed(
            "unified-kernel-image-changed", baseline=("uki_signed",),
            under={"unified-kernel-image-changed": ("initrd-changed",)},
        ),
        machine="elder",
        tree=lambda found: image_tree("uki-initrd.efi"), own_db=True,
    ),
    "uki_credential_added": Scenario(
        "As sdboot_uki, with a credential beside the image.",
        "one file in the folder beside the image", PACKED_FOR_KERNEL,
        machine="elder", tree=_beside_image(motd_cred="the lab's credential\n"), own_db=True,
    ),
    "uki_extension_added": Scenario(
        "As sdboot_uki, with a system extension image beside the image.",
        "one file in the folder beside the image", PACKED_FOR_KERNEL,
        machine="elder", tree=_beside_image(lab_raw="stands for a file system image\n"), own_db=True,
    ),
}  # fmt: skip
