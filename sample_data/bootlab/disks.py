"""Disks and firmware variables: what differs between the scenarios before the machine is switched on."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from archive import Component
from artifacts import kernel_image
from settings import (
    BASE_CMDLINE,
    BUILD,
    DISK_GUID,
    ESP_GUID,
    ESP_SERIAL,
    ESP_UUID,
    EXTRA_GUID,
    LAB,
    ROOT_GUID,
    WORK,
    run,
)

Tree = Mapping[str, Path | str]
"""Path on the EFI system partition to a file of the host or a text."""

ESP_MIB = 132
GRUB_STUB = f"search.fs_uuid {ESP_UUID} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"


def grub_menu(release: str, cmdline: str, verb: str = "efi") -> str:
    """Write the menu as Debian's update-grub would.

    Args:
        release: The kernel's release name.
        cmdline: The kernel's command line.
        verb: `efi` gives `linuxefi`/`initrdefi`, which always enter the kernel by its EFI stub. Debian's
            plain `linux` does so only with Secure Boot on; else the kernel gets no event log.
    """
    return (
        "set default=0\nset timeout=0\ninsmod gzio\ninsmod part_gpt\ninsmod fat\n"
        "menuentry 'Debian GNU/Linux' --class debian --class gnu-linux --class gnu --class os {\n"
        f"\tsearch --no-floppy --fs-uuid --set=root {ESP_UUID}\n"
        f"\techo\t'Loading Linux {release} ...'\n"
        f"\tlinux{verb}\t/boot/vmlinuz-{release} {cmdline}\n"
        "\techo\t'Loading initial ramdisk ...'\n"
        f"\tinitrd{verb}\t/boot/initrd.img-{release}\n"
        "}\n"
    )


def debian_tree(
    found: Mapping[str, Component],
    *,
    kernel: str = "kernel",
    grub: str = "grubx64.efi.signed",
    cmdline: str = BASE_CMDLINE,
    initrd: Path | None = None,
    verb: str = "efi",
    shim: Path | None = None,
    menu_line: str = "",
    more: Tree | None = None,
) -> Tree:
    """Lay out shim, GRUB and a kernel as Debian's grub-install does, with /boot on the same file system.

    Args:
        found: The components by role.
        kernel: The role of the kernel package.
        grub: Which of the GRUB package's signed images.
        cmdline: The kernel's command line.
        initrd: Another initial RAM disk than the lab's own.
        verb: See `grub_menu`.
        shim: Another shim than the distribution's.
        menu_line: A further line at the top of GRUB's menu.
        more: Further files of the EFI system partition.
    """
    image, release = kernel_image(found[kernel])
    shim = shim or found["shim"].file("shimx64.efi.signed")
    fallback = found["shim_helpers"].file("fbx64.efi.signed")
    return {
        "EFI/BOOT/BOOTX64.EFI": shim,
        "EFI/BOOT/fbx64.efi": fallback,
        "EFI/debian/shimx64.efi": shim,
        "EFI/debian/grubx64.efi": found["grub"].file(grub),
        "EFI/debian/mmx64.efi": found["shim_helpers"].file("mmx64.efi.signed"),
        "EFI/debian/fbx64.efi": fallback,
        "EFI/debian/BOOTX64.CSV": found["shim_unsigned"].file("BOOTX64.CSV"),
        "EFI/debian/grub.cfg": GRUB_STUB,
        "boot/grub/grub.cfg": menu_line + grub_menu(release, cmdline, verb),
        f"boot/vmlinuz-{release}": image,
        f"boot/initrd.img-{release}": initrd or BUILD / "initrd.img",
        **(more or {}),
    }


def image_tree(name: str) -> Tree:
    """Lay out one unified kernel image that the firmware starts by itself."""
    return {"EFI/BOOT/BOOTX64.EFI": BUILD / name}


def systemd_boot_tree(name: str, release: str, beside: Tree | None = None) -> Tree:
    """Lay out systemd-boot with one unified kernel image as its entry.

    Args:
        name: The image, in the build folder.
        release: The kernel's release name.
        beside: Files of the folder beside the image, from which systemd's stub takes credentials and system
            extensions (systemd-stub(7), "Companion files").
    """
    folder = f"EFI/Linux/debian-{release}.efi.extra.d"
    loader = BUILD / "systemd-boot.efi"
    return {
        "EFI/BOOT/BOOTX64.EFI": loader,
        "EFI/systemd/systemd-bootx64.efi": loader,
        "loader/loader.conf": "timeout 0\nconsole-mode keep\neditor no\n",
        f"EFI/Linux/debian-{release}.efi": BUILD / name,
        **{f"{folder}/{name}": source for name, source in (beside or {}).items()},
    }


def make_disk(path: Path, tree: Tree, root: Path | None = None, extra_partition: bool = False) -> None:
    """Make a disk image: GPT, an EFI system partition with `tree`, and what else a scenario asks for.

    Args:
        path: The image to write.
        tree: What the EFI system partition holds.
        root: An ext4 image for partition 2.
        extra_partition: Adds a small partition at the end, which changes the partition table.
    """
    root_mib = root.stat().st_size >> 20 if root else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate((ESP_MIB + root_mib + 24) << 20)
    words: list[object] = [
        "-U",
        DISK_GUID,
        "-n",
        f"1:2048:+{ESP_MIB - 2}M",
        "-t",
        "1:EF00",
        "-u",
        f"1:{ESP_GUID}",
    ]
    words += ["-c", "1:EFI system"]
    if root:
        words += [
            "-n",
            f"2:{ESP_MIB * 2048}:+{root_mib}M",
            "-t",
            "2:8304",
            "-u",
            f"2:{ROOT_GUID}",
            "-c",
            "2:root",
        ]
    if extra_partition:
        words += ["-n", "3:0:+8M", "-t", "3:8300", "-u", f"3:{EXTRA_GUID}", "-c", "3:data"]
    run("sgdisk", *words, path)
    if root:
        run("dd", f"if={root}", f"of={path}", "bs=1M", f"seek={ESP_MIB}", "conv=notrunc,sparse")
    _fill(f"{path}@@1M", tree)


def _fill(esp: str, tree: Tree) -> None:
    run(
        "mformat",
        "-i",
        esp,
        "-F",
        "-T",
        (ESP_MIB - 2) * 2048,
        "-h",
        64,
        "-s",
        32,
        "-N",
        ESP_SERIAL,
        "-v",
        "ESP",
        "::",
    )
    made: set[str] = set()
    for place, source in tree.items():
        parts = place.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder.upper() not in made:
                run("mmd", "-i", esp, f"::/{folder}")
                made.add(folder.upper())
        if isinstance(source, Path):
            run("mcopy", "-i", esp, source, f"::/{place}")
        else:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(source)
                file.flush()
                run("mcopy", "-i", esp, file.name, f"::/{place}")


def make_variables(path: Path, base: Path, edits: Sequence[object]) -> None:
    """Copy a firmware variable store and edit it.

    Args:
        path: The store to write.
        base: The store to begin with.
        edits: Words for `virt-fw-vars`; none leaves the store as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(base, path)
    if edits:
        run(LAB / "venv/bin/virt-fw-vars", "--inplace", path, *edits)


def image_hash(image: Path) -> str:
    """Give the SHA-256 Authenticode hash of a PE image, in hex, as virt-firmware computes it."""
    program = (
        "import pefile, sys; from virt.peutils.pesign import pe_authenticode_hash as h;"
        " print(h(pefile.PE(sys.argv[1])).hex())"
    )
    return run(LAB / "venv/bin/python", "-c", program, image).stdout.strip()


def load_option(description: str, path: str) -> bytes:
    """Write an active EFI_LOAD_OPTION for a file on any partition (UEFI 2.10, section 3.1.3)."""
    name = path.encode("utf-16-le") + b"\0\0"
    node = struct.pack("<BBH", 4, 4, 4 + len(name)) + name + bytes.fromhex("7fff0400")
    return struct.pack("<IH", 1, len(node)) + description.encode("utf-16-le") + b"\0\0" + node


def variable_file(name: str, variables: Mapping[str, tuple[str, int, bytes]]) -> Path:
    """Write variables as `virt-fw-vars --set-json` reads them.

    Args:
        name: Of the file, in the work folder.
        variables: By name: vendor GUID, attributes, contents.
    """
    path = WORK / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"name": variable, "guid": guid, "attr": attributes, "data": data.hex()}
        for variable, (guid, attributes, data) in variables.items()
    ]
    path.write_text(json.dumps({"version": 2, "variables": rows}))
    return path
