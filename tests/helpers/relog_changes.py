"""What happens to real machines, done to the log of any of them (see `relog`).

Each change returns the codes that may be primary, or None where the log has nothing of the kind. What is
expected follows from the change, and from nothing that the package says.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

import relog_windows as windows
from relog import digests_like, file_name, load_path, nodes, renew, rewrite
from remeasure import (
    APPLICATION,
    AUTHORITY,
    DRIVER,
    DRIVER_CONFIG,
    EVENT_TAG,
    GPT,
    IPL,
    VARIABLE_BOOT,
    Measured,
    variable,
    variable_parts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from relog import Log

    Codes = set[str]

CRTM_VERSION, FIRMWARE_BLOB, FIRMWARE_BLOB2, POST_CODE = 0x8, 0x80000008, 0x8000000A, 0x1
VARIABLE_BOOT2, RUNTIME_DRIVER = 0x8000000C, 0x80000005
SHA256_LIST = bytes.fromhex("2616c4c14c509240aca941f936934328")
END = bytes.fromhex("7fff0400")
VERSION = re.compile(rb"vmlinu[xz]-([\w.+~-]+)")
KERNEL_FILE = re.compile(r"(vmlinu[xz]|bzimage|.*bzimage|linux)([-.0-9].*)?(\.efi)?", re.IGNORECASE)


def is_text(event: Measured) -> bool:
    return event.type == IPL and event.data.startswith((b"grub_cmd", b"kernel_cmdline"))


def file_events(log: Log, *words: bytes) -> list[Measured]:
    """What GRUB measured of files: the path as text, the digest of the contents."""
    return [
        e
        for e in log.boot.events
        if e.type == IPL
        and not is_text(e)
        and e.register not in (4, 5, 7, 14)
        and any(word in e.data for word in words)
        and b"menuentry" not in e.data
    ]


def firmware_path(event: Measured) -> bool:
    """UEFI PI 1.7, volume 3, section 8.3: in a firmware volume, or in memory."""
    found = list(nodes(load_path(event) or b""))
    kinds = [node[:2] for node in found]
    return (4, 7) in kinds or (4, 6) in kinds or kinds[:1] == [(1, 3)]


def pci_path(event: Measured) -> bool:
    """An option ROM: loaded from the ROM of a PCI device."""
    found = [n[:2] for n in nodes(load_path(event) or b"")]
    return (1, 1) in found and (4, 4) not in found and (4, 6) not in found


def starts(log: Log) -> list[Measured]:
    return [e for e in log.boot.events if e.type == APPLICATION and e.register in (2, 4)]


# ---------------------------------------------------------------- the changes


def nothing(log: Log) -> Codes | None:
    return set()


def kernel_update(log: Log) -> Codes | None:
    """Another kernel and ramdisk, whose release is in every path and menu line that names them."""
    lines = [e for e in log.boot.events if e.type == IPL and e.data.startswith(b"kernel_cmdline")]
    versions = [m[1] for e in lines for m in [VERSION.search(e.data)] if m]
    if not versions:
        return None
    release = versions[-1]
    for event in log.boot.events:
        if is_text(event) and release in event.data:
            rewrite(event, event.data.replace(release, b"9.9.9-99-generic"))
    for event in file_events(log, b"vmlinuz", b"initr", b"grub.cfg"):
        event.data = event.data.replace(release, b"9.9.9-99-generic")
        renew(event, "updated")
    for event in starts(log):
        # under Secure Boot GRUB has the kernel loaded as an image, of which the log says no path
        if not (file_name(event) or firmware_path(event) or pci_path(event)):
            renew(event, "updated")
    tags(log, "updated")
    return {"kernel-changed"}


def tags(log: Log, what: str, *names: bytes) -> int:
    """The EFI stub's own measurements: of the ramdisk, of the options (drivers/firmware/efi/libstub)."""
    hit = 0
    for event in log.boot.events:
        if event.type == EVENT_TAG and any(n in event.data for n in names or (b"initrd", b"LoadOptions")):
            renew(event, what)
            hit += 1
    return hit


def initrd_update(log: Log) -> Codes | None:
    events = [e for e in file_events(log, b"initr") if b".lst" not in e.data and b".cfg" not in e.data]
    for event in events:
        renew(event, "rebuilt")
    hit = tags(log, "rebuilt", b"Linux initrd")
    return {"initrd-changed"} if events or hit else None


def command_line(log: Log) -> Codes | None:
    hit = False
    for event in log.boot.events:
        if event.type != IPL:
            continue
        text = event.data.rstrip(b"\0")
        end = event.data[len(text) :]
        command = is_text(event) and b"cmd: linux" in text[:20] and b" root=" in text
        if text.startswith(b"kernel_cmdline") or command:
            hit |= rewrite(event, text + b" nokaslr" + end)
        elif (
            b"r\0o\0o\0t\0=\0" in event.data
            and event.register in (8, 12)
            and b"\0\0" not in event.data[:-3:2]
        ):
            wide = event.data[: len(event.data) // 2 * 2].decode("utf-16-le").rstrip("\0")
            end = event.data[2 * len(wide) :]
            hit |= rewrite(event, (wide + " nokaslr").encode("utf-16-le") + end)
    hit |= bool(tags(log, "with a word more", b"LoadOptions"))
    return {"kernel-command-line-changed"} if hit else None


def first_loader(log: Log) -> Codes | None:
    """The file that the boot entry names, in another release."""
    named = [e for e in starts(log) if e.register == 4 and file_name(e)]
    named = [e for e in named if "efi" in file_name(e).lower() and "fwupd" not in file_name(e).lower()]
    if not named:
        return None
    event = named[0]
    renew(event, "other release")
    name = file_name(event).replace("\\", "/").lower()
    if KERNEL_FILE.fullmatch(name.rsplit("/", 1)[-1]):
        return {"kernel-changed"}
    if name.startswith("/efi/linux/"):
        return {"unified-kernel-image-changed"}
    return {"boot-loader-changed", "unified-kernel-image-changed"}


def shim_update(log: Log) -> Codes | None:
    shims = [e for e in starts(log) if "shim" in file_name(e).lower()]
    if not shims:
        return None
    renew(shims[0], "other release")
    for event in log.boot.events:
        if event.type == AUTHORITY and variable_parts(event.data)[1] == "SbatLevel":
            guid, name, value = variable_parts(event.data)
            first, *lines = value.split(b"\n")
            others = [line for line in lines if not line.startswith(b"shim,")]
            rewrite(event, variable(guid, name, b"\n".join([first, b"shim,9", *others])))
    return {"boot-loader-changed"}


def of_firmware(event: Measured) -> bool:
    """Firmware volumes, and the drivers in them."""
    if event.type in (DRIVER, RUNTIME_DRIVER):
        return event.register in (0, 2) and firmware_path(event)
    return event.register == 0 and event.type in (FIRMWARE_BLOB, FIRMWARE_BLOB2, POST_CODE)


def firmware_update(log: Log) -> Codes | None:
    """A capsule of fwupd: another version, other volumes, other drivers in them."""
    hit = False
    for event in log.boot.events:
        if event.register == 0 and event.type == CRTM_VERSION and len(event.data) > 4:
            data = event.data
            # the last digit or letter of the text is another one now
            at = next((i for i in range(len(data) - 1, -1, -1) if chr(data[i]).isalnum()), None)
            if at is not None:
                hit |= rewrite(event, data[:at] + (b"7" if data[at] != 0x37 else b"8") + data[at + 1 :])
        elif of_firmware(event):
            renew(event, "capsule")
            hit = True
    return {"firmware-changed"} if hit else None


def cards(log: Log) -> list[Measured]:
    drivers = (e for e in log.boot.events if e.type in (DRIVER, RUNTIME_DRIVER))
    return [e for e in drivers if e.register == 2 and pci_path(e)]


def option_rom(log: Log) -> Codes | None:
    roms = cards(log)
    if not roms:
        return None
    renew(roms[0], "flashed")
    return {"option-rom-changed"}


def option_rom_gone(log: Log) -> Codes | None:
    roms = cards(log)
    # a log of one event alone would be empty
    if not roms or len(log.boot.events) < 2:
        return None
    log.boot.events.remove(roms[-1])
    return {"option-rom-changed"}


def of_variable(log: Log, name: str) -> Measured | None:
    kinds = (DRIVER_CONFIG, VARIABLE_BOOT, VARIABLE_BOOT2)
    events = (e for e in log.boot.events if e.type in kinds and sized(e))
    return next((e for e in events if variable_parts(e.data)[1] == name), None)


def sized(event: Measured) -> bool:
    """Tell whether the data are those of a variable, whole."""
    if len(event.data) < 32:
        return False
    count, size = struct.unpack_from("<QQ", event.data, 16)
    return count < 512 and 32 + 2 * count + size <= len(event.data)


def set_value(log: Log, name: str, change: Callable[[bytes], bytes]) -> bool:
    event = of_variable(log, name)
    if event is None:
        return False
    guid, name, value = variable_parts(event.data)
    new = change(value)
    if new == value:
        return False
    return rewrite(event, variable(guid, name, new))


def revocation(log: Log) -> Codes | None:
    entry = bytes(16) + bytes(range(32))
    one = SHA256_LIST + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
    return {"revocation-list-updated"} if set_value(log, "dbx", lambda value: value + one) else None


def revocations_gone(log: Log) -> Codes | None:
    return {"revocation-list-rolled-back"} if set_value(log, "dbx", lambda value: b"") else None


def key_added(log: Log) -> Codes | None:
    platform = of_variable(log, "PK")
    if platform is None or not variable_parts(platform.data)[2]:
        return None
    key = variable_parts(platform.data)[2]
    return {"secure-boot-key-added"} if set_value(log, "db", lambda value: value + key) else None


def key_exchange_added(log: Log) -> Codes | None:
    platform = of_variable(log, "PK")
    if platform is None or not variable_parts(platform.data)[2]:
        return None
    key = variable_parts(platform.data)[2]
    return {"platform-key-changed"} if set_value(log, "KEK", lambda value: value + key) else None


def boot_order(log: Log) -> Codes | None:
    def swap(value: bytes) -> bytes:
        return value[2:4] + value[:2] + value[4:] if len(value) >= 4 else value

    return {"boot-order-changed"} if set_value(log, "BootOrder", swap) else None


def boot_entry_gone(log: Log) -> Codes | None:
    """An entry that was not started is deleted, and its place in the order."""
    order = of_variable(log, "BootOrder")
    if order is None:
        return None
    value = variable_parts(order.data)[2]
    last = struct.unpack_from("<H", value, len(value) - 2)[0] if len(value) >= 4 else None
    if last is None:
        return None
    entry = of_variable(log, f"Boot{last:04X}")
    if entry is None:
        return None
    log.boot.events.remove(entry)
    set_value(log, "BootOrder", lambda old: old[:-2])
    return {"boot-order-changed"}


def partition(log: Log) -> Codes | None:
    """The last partition grows by 8 MiB: UEFI 2.10, section 5.3.3, of 128 bytes each behind the header."""
    events = [e for e in log.boot.events if e.type == GPT and len(e.data) >= 92 + 8 + 128]
    if not events:
        return None
    data = events[-1].data
    count = struct.unpack_from("<Q", data, 92)[0]
    at = 100 + 128 * (count - 1)
    if at + 128 > len(data):
        return None
    last = struct.unpack_from("<Q", data, at + 40)[0]
    rewrite(events[-1], data[: at + 40] + struct.pack("<Q", last + 16384) + data[at + 48 :])
    return {"partition-table-changed"}


def secure_boot_off(log: Log) -> Codes | None:
    if not set_value(log, "SecureBoot", lambda value: b"\0" if value == b"\1" else value):
        return None
    log.boot.events = [
        e for e in log.boot.events if e.type != AUTHORITY or variable_parts(e.data)[1] == "SbatLevel"
    ]
    return {"secure-boot-disabled"}


def secure_boot_on(log: Log) -> Codes | None:
    """Switched on: from then on a certificate of db vouches for what is started."""
    database = of_variable(log, "db")
    started = [i for i, e in enumerate(log.boot.events) if e.type == APPLICATION and e.register == 4]
    if database is None or not started:
        return None
    guid, name, value = variable_parts(database.data)
    if len(value) < 28 + 16 or not set_value(log, "SecureBoot", lambda v: b"\1" if v == b"\0" else v):
        return None
    size = struct.unpack_from("<I", value, 24)[0]
    event = Measured(database.register, AUTHORITY, b"", dict(database.digests))
    event.data = variable(guid, name, value[28 : 28 + size])
    event.digests = digests_like(event)
    log.boot.events.insert(started[0], event)
    return {"secure-boot-enabled"}


def setup_mode(log: Log) -> Codes | None:
    if secure_boot_off(log) is None or not set_value(log, "PK", lambda value: b""):
        return None
    return {"secure-boot-setup-mode"}


def other_application(log: Log) -> Codes | None:
    events = enumerate(log.boot.events)
    named = [i for i, e in events if e.type == APPLICATION and e.register == 4 and file_name(e)]
    if not named:
        return None
    name = "\\EFI\\tools\\other.efi".encode("utf-16-le") + b"\0\0"
    path = struct.pack("<BBH", 4, 4, 4 + len(name)) + name + END
    data = struct.pack("<QQQQ", 0x7E000000, 90000, 0, len(path)) + path
    event = Measured(4, APPLICATION, data, dict(log.boot.events[named[0]].digests))
    renew(event, "tool")
    log.boot.events.insert(named[0], event)
    return {"unexpected-boot-application"}


def owner_keys(log: Log) -> Codes | None:
    of_shim = (e for e in log.boot.events if e.type == IPL and e.register == 14)
    events = [e for e in of_shim if e.data.startswith(b"MokList")]
    if not events:
        return None
    renew(events[0], "enrolled")
    return {"mok-changed"}


def firmware_setting(log: Log) -> Codes | None:
    """A setting of the setup screen: the maker's own variable in PCR 1."""
    public = ("SecureBoot", "PK", "KEK", "db", "dbx", "dbt", "dbr", "SetupMode", "AuditMode", "DeployedMode")
    events = [
        e
        for e in log.boot.events
        if e.register == 1
        and e.type == DRIVER_CONFIG
        and sized(e)
        and variable_parts(e.data)[2]
        and variable_parts(e.data)[1] not in public
    ]
    if not events:
        return None
    data = events[0].data
    rewrite(events[0], data[:-1] + bytes([data[-1] ^ 1]))
    return {"hardware-configuration-changed"}


CHANGES: Final[dict[str, Callable[[Log], Codes | None]]] = {
    function.__name__: function
    for function in (
        nothing, kernel_update, initrd_update, command_line, first_loader, shim_update, firmware_update,
        option_rom, option_rom_gone, revocation, revocations_gone, key_added, key_exchange_added,
        boot_order, boot_entry_gone, partition, secure_boot_off, secure_boot_on, setup_mode,
        other_application, owner_keys, firmware_setting, windows.boot_debugging,
        windows.kernel_debugging, windows.test_signing, windows.windows_driver, windows.windows_update,
    )
}  # fmt: skip
