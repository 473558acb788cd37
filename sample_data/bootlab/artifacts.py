"""What the lab builds itself: keys, initial RAM disks, unified kernel images, a Debian root file system."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from archive import Component
from settings import BUILD, EPOCH, GUEST, LAB, ROOT_FS_UUID, run

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
SYSTEMD_BOOT = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
DEBIAN_PACKAGES = "systemd,systemd-sysv,udev,dbus,tpm2-tools,kmod,procps,openssh-server,cron"
VIRTIO = (
    "virtio/virtio.ko", "virtio/virtio_ring.ko", "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci_legacy_dev.ko", "virtio/virtio_pci.ko", "block/virtio_blk.ko",
)  # fmt: skip
UKI_CMDLINE = "ro console=tty0 console=ttyS0,115200n8 audit=1 quiet"


def make_keys() -> None:
    """Make the lab's own Secure Boot keys (kept in the work folder, never published)."""
    for name, subject in (("db", "cvmlab bootlab image signing"), ("mok", "cvmlab bootlab machine owner")):
        key, cert = BUILD / f"{name}.key", BUILD / f"{name}.crt"
        if not key.exists():
            run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7300", "-sha256",
                "-subj", f"/O=cvmlab/CN={subject}/", "-keyout", key, "-out", cert)  # fmt: skip


def pack_initrd(folder: Path, out: Path) -> None:
    """Pack a folder as a gzip-compressed newc archive that is the same bytes each time."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    done = subprocess.run(
        ["cpio", "--quiet", "-0", "-o", "-H", "newc", "--reproducible", "-R", "0:0"],
        cwd=folder, input="\0".join([".", *names]).encode(), capture_output=True, check=True,
    )  # fmt: skip
    out.write_bytes(gzip.compress(done.stdout, 9, mtime=0))


def _busybox(folder: Path) -> None:
    for sub in ("bin", "usr/lib", "usr/bin", "lib64", "root", "modules", "proc", "sys", "dev", "tmp"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    (folder / "bin/sh").symlink_to("busybox")


def make_initrd(out: Path, hook: Path | None = None) -> None:
    """Build the small guest: busybox, tpm2-tools and the collector; no kernel modules are needed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _busybox(folder)
        shutil.copy("/usr/bin/tpm2", folder / "usr/bin/tpm2")
        libraries = re.findall(r"=> (/\S+)", run("ldd", "/usr/bin/tpm2").stdout)
        libraries.append("/usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0")
        for library in libraries:
            shutil.copy(library, folder / "usr/lib" / Path(library).name)
        shutil.copy("/lib64/ld-linux-x86-64.so.2", folder / "lib64")
        shutil.copy(GUEST / "init", folder / "init")
        shutil.copy(GUEST / "collect", folder / "collect")
        if hook:
            shutil.copy(hook, folder / "hook")
        pack_initrd(folder, out)


def make_switch_root_initrd(out: Path, kernel: Component) -> None:
    """Build the RAM disk that loads the virtio disk driver and enters the Debian root file system."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _busybox(folder)
        drivers = next((kernel.root / "lib/modules").glob("*")) / "kernel/drivers"
        for module in VIRTIO:
            shutil.copy(drivers / module, folder / "modules")
        shutil.copy(GUEST / "init-switch-root", folder / "init")
        pack_initrd(folder, out)


def sign(source: Path, out: Path) -> None:
    """Sign a PE image with the lab's db key."""
    run("sbsign", "--key", BUILD / "db.key", "--cert", BUILD / "db.crt", "--output", out, source)


def make_uki(out: Path, kernel: Path, release: str, initrd: Path, cmdline: str) -> None:
    """Join systemd's stub, a kernel, an initrd and a command line to one signed image.

    The sections follow the stub's own, each at the next page (systemd-stub(7), "Boot stub").
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = {
            "osrel": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="cvmlab bootlab image"\n',
            "cmdline": cmdline,
            "uname": release,
        }
        sections: list[tuple[str, Path]] = []
        for section, text in texts.items():
            (folder / section).write_text(text)
            sections.append((section, folder / section))
        sections += [("initrd", initrd), ("linux", kernel)]
        headers = re.findall(
            r"^ +\d+ \S+ +([0-9a-f]{8,16}) +([0-9a-f]{8,16})", run("objdump", "-h", STUB).stdout, re.M
        )
        address = max(int(size, 16) + int(start, 16) for size, start in headers)
        words: list[object] = []
        for section, source in sections:
            address = (address + 0xFFF) & ~0xFFF
            words += [
                "--add-section",
                f".{section}={source}",
                "--change-section-vma",
                f".{section}={address:#x}",
            ]
            address += source.stat().st_size
        run("objcopy", *words, STUB, folder / "unsigned.efi")
        sign(folder / "unsigned.efi", out)


def make_efi_program(out: Path, *, driver: bool = False) -> None:
    """Write a PE image of a few instructions and sign it: an application that fails, or a driver that stays.

    An application that returns EFI_NOT_FOUND lets the firmware go on with its next option.
    """
    code = bytes.fromhex("31c0c3") if driver else bytes.fromhex("48b80e00000000000080c3")
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        0x20B, 0, 0, 0x200, 0, 0, 0x1000, 0x1000, 0, 0x1000, 0x200, 0, 0, 0, 0, 0, 0, 0, 0x2000, 0x200, 0,
        11 if driver else 10, 0, 0, 0, 0, 0, 0, 16,
    )  # fmt: skip
    optional += bytes(16 * 8)
    # IMAGE_FILE_EXECUTABLE_IMAGE and IMAGE_FILE_LARGE_ADDRESS_AWARE: it may be loaded anywhere
    header = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x22)
    section = struct.pack("<8sIIIIIIHHI", b".text", len(code), 0x1000, 0x200, 0x200, 0, 0, 0, 0, 0x60000020)
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    image = (dos + b"PE\0\0" + header + optional + section).ljust(0x200, b"\0") + code.ljust(0x200, b"\0")
    unsigned = out.with_suffix(".unsigned")
    unsigned.write_bytes(image)
    sign(unsigned, out)
    unsigned.unlink()


def make_shims(found: dict[str, Component]) -> None:
    """Sign the distribution's shim with the lab's key, and a copy that says it is of another version."""
    shim = found["shim_unsigned"].file("shimx64.efi")
    sign(shim, BUILD / "shim-lab.efi")
    data = shim.read_bytes()
    version = re.search(rb"\$Version: [0-9.]+", data)
    if version is None:
        raise RuntimeError("shim does not say its version")
    other = bytearray(data)
    other[version.end() - 1] ^= 1
    (BUILD / "shim-other.unsigned").write_bytes(other)
    sign(BUILD / "shim-other.unsigned", BUILD / "shim-other.efi")


def make_debian_root() -> None:
    """Build the Debian root file system of the IMA boots, and the copy with two files tampered with."""
    root = LAB / "debian-root"
    if not (root / "etc/debian_version").exists():
        run(
            "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", "bookworm", root
        )
    shutil.copy(GUEST / "collect", root / "usr/local/sbin/collect")
    units = root / "etc/systemd/system"
    shutil.copy(GUEST / "collect.service", units / "collect.service")
    for link, target in (
        ("multi-user.target.wants/collect.service", "../collect.service"),
        ("serial-getty@ttyS1.service", "/dev/null"),
        ("apt-daily.timer", "/dev/null"),
        ("apt-daily-upgrade.timer", "/dev/null"),
    ):
        path = units / link
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    (root / "etc/hostname").write_text("bootlab\n")
    (root / "etc/fstab").write_text("/dev/vda2 / ext4 defaults,noatime 0 1\n")
    (root / "etc/machine-id").write_text("7c0d5b9e31f84a26b8e2f04d6a917c53\n")
    for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / waste, ignore_errors=True)
        (root / waste).mkdir(parents=True)
    _make_ext4(root, BUILD / "root.ext4")
    tampered = LAB / "debian-root-tampered"
    shutil.rmtree(tampered, ignore_errors=True)
    run("cp", "-a", root, tampered)
    with (tampered / "usr/sbin/cron").open("ab") as file:
        file.write(b"\n")
    implant = tampered / "usr/local/bin/implant"
    implant.write_bytes((tampered / "usr/bin/true").read_bytes() + b"implant")
    implant.chmod(0o755)
    (tampered / "etc/systemd/system/cron.service.d").mkdir(parents=True, exist_ok=True)
    (tampered / "etc/systemd/system/cron.service.d/start.conf").write_text(
        "[Service]\nExecStartPre=/usr/local/bin/implant\n"
    )
    _make_ext4(tampered, BUILD / "root-tampered.ext4")
    shutil.rmtree(tampered)


def _make_ext4(folder: Path, image: Path) -> None:
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(640 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-U", ROOT_FS_UUID, "-E", f"hash_seed={ROOT_FS_UUID}",
        "-O", "^metadata_csum_seed", "-d", folder, image,
        env={**os.environ, "E2FSPROGS_FAKE_TIME": str(EPOCH)})  # fmt: skip


def kernel_image(kernel: Component) -> tuple[Path, str]:
    """Give a kernel's image and its release name (what `uname -r` prints)."""
    image = kernel.file("boot/vmlinuz-*")
    return image, image.name.removeprefix("vmlinuz-")


def build(found: dict[str, Component]) -> None:
    """Build everything that the scenarios need.

    Args:
        found: The downloaded components by role.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    make_keys()
    make_initrd(BUILD / "initrd.img")
    make_initrd(BUILD / "initrd-tampered.img", GUEST / "hook-tampered")
    make_switch_root_initrd(BUILD / "initrd-debian.img", found["kernel"])
    image, release = kernel_image(found["kernel"])
    initrd = BUILD / "initrd.img"
    make_uki(BUILD / "uki.efi", image, release, initrd, UKI_CMDLINE)
    make_uki(
        BUILD / "uki-cmdline.efi", image, release, initrd, UKI_CMDLINE + " mitigations=off lockdown=none"
    )
    make_initrd(BUILD / "initrd-updated.img", GUEST / "hook-updated")
    make_uki(BUILD / "uki-initrd.efi", image, release, BUILD / "initrd-updated.img", UKI_CMDLINE)
    if "kernel_updated" in found:
        updated, newer = kernel_image(found["kernel_updated"])
        make_uki(BUILD / "uki-kernel.efi", updated, newer, initrd, UKI_CMDLINE)
    sign(SYSTEMD_BOOT, BUILD / "systemd-boot.efi")
    make_efi_program(BUILD / "tool.efi")
    make_efi_program(BUILD / "driver.efi", driver=True)
    make_shims(found)
    make_debian_root()
    print(f"built in {BUILD.name}: " + ", ".join(sorted(path.name for path in BUILD.iterdir())))
