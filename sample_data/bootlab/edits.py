"""Edits that make evidence no machine sent: of logs, of quotes, and of what is measured into a TPM."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from chip import HANDLE, Chip, Files
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from logs import (
    BANKS,
    COMPACT_HASH,
    EFI_HANDOFF_TABLES2,
    IPL,
    SEPARATOR,
    Measurement,
    measured,
    read,
    spec_id,
    write,
)
from settings import PUBLISHED
from windows import DRIVERS, Driver, windows_log

SENT = (
    "eventlog.bin", "quote.msg", "quote.sig", "pcrs.yaml", "ak.pub", "ek.pub", "ek_rsa.crt.der",
    "ca-issuercert.pem", "credential_activation.json", "nonce.hex", "ima_binary.bin",
)  # fmt: skip
SOFTWARE_KEY = rsa.generate_private_key(65537, 2048)
# The UUID by which firmware of Hyper-V names the machine in register 6.
MACHINES = ("51A1ED00-C0DE-4CDE-8001-000000000011", "51A1ED00-C0DE-4CDE-8001-000000000012")
# QEMU's table of the VM generation ID, as ACPI describes it: a device that the reference does not have.
ACPI_TABLE = b"SSDT" + struct.pack("<I", 36) + b"\1\0LAB   VMGENID \1\0\0\0LAB \1\0\0\0"


def nonce_of(name: str) -> str:
    """Give the nonce of a case: made up, and the same in every run."""
    return hashlib.sha256(f"SIMULATED nonce {name}".encode()).hexdigest()[:40]


class Maker:
    """What the cases are made from: published boots, and TPMs that boots are measured into."""

    def __init__(self, scratch: Path) -> None:
        """Make two TPMs, certified by two authorities."""
        self.chip = Chip(scratch / "chip", scratch / "authority")
        self.stranger = Chip(scratch / "stranger", scratch / "another")
        self.snapshot = self.chip.snapshot()

    def sent(self, boot: str) -> Files:
        """Give what a machine of the lab sent."""
        folder = PUBLISHED / boot
        return {name: (folder / name).read_bytes() for name in SENT if (folder / name).exists()}

    def events(self, boot: str) -> list[Measurement]:
        """Give the events of a published boot, without the first."""
        return read((PUBLISHED / boot / "eventlog.bin").read_bytes())[1]

    def relogged(self, boot: str, edit: Callable[[list[Measurement]], list[Measurement]]) -> Files:
        """Give what a machine sent, with an edited log."""
        files = self.sent(boot)
        head, events = read(files["eventlog.bin"])
        return {**files, "eventlog.bin": write(head, edit(events))}

    def boot(
        self,
        name: str,
        events: list[Measurement],
        *,
        banks: tuple[str, ...] = BANKS,
        quoted: tuple[str, ...] = ("sha256",),
        registers: str = "",
        handle: str = "",
        linux: bool = True,
        chip: Chip | None = None,
        then: Callable[[Chip], bytes] = lambda chip: b"",
    ) -> Files:
        """Measure events into a TPM and collect evidence as the lab's guests do.

        Args:
            name: Of the case.
            events: What is measured and logged.
            banks: The banks that log and firmware know; the TPM has three.
            quoted: The banks to quote.
            registers: Which registers; the first fifteen by default.
            handle: The key to quote with; the attestation key by default.
            linux: Linux measures its boot aggregate.
            chip: The TPM.
            then: What else happens before the quote; gives further entries of the kernel's list.
        """
        chip, nonce = chip or self.chip, nonce_of(name)
        events = [event.only(*banks) for event in events]
        chip.start(events)
        options = {key: value for key, value in (("registers", registers), ("handle", handle)) if value}
        found: Files = {"eventlog.bin": write(spec_id(banks), events), "nonce.hex": nonce.encode() + b"\n"}
        if linux:
            found["ima_binary.bin"] = chip.boot_aggregate() + then(chip)
        for bank in quoted:
            found |= chip.quote(nonce, bank=bank, **options)
        found["pcrs.yaml"] = chip.values(*quoted)
        found |= chip.identity(nonce, *([handle] if handle else []))
        chip.stop()
        return found


def _index(events: list[Measurement], text: bytes) -> int:
    return next(i for i, event in enumerate(events) if text in event.data)


def without(text: bytes) -> Callable[[Maker], Files]:
    """Remove the event that holds a text from the log of the reference."""

    def edit(events: list[Measurement]) -> list[Measurement]:
        del events[_index(events, text)]
        return events

    return lambda maker: maker.relogged("baseline", edit)


def inserted(maker: Maker) -> Files:
    """Insert a command that never ran."""

    def edit(events: list[Measurement]) -> list[Measurement]:
        command = b"set check_signatures=enforce\0"
        events.insert(_index(events, b"set timeout"), measured(8, IPL, b"grub_cmd: " + command, command[:-1]))
        return events

    return maker.relogged("baseline", edit)


def modified(maker: Maker) -> Files:
    """Replace the digests of the last event of register 9."""

    def edit(events: list[Measurement]) -> list[Measurement]:
        at = max(i for i, event in enumerate(events) if event.register == 9)
        events[at] = replace(measured(9, IPL, b"", b"another RAM disk"), data=events[at].data)
        return events

    return maker.relogged("baseline", edit)


def reordered(maker: Maker) -> Files:
    """Swap two commands of GRUB's menu."""

    def edit(events: list[Measurement]) -> list[Measurement]:
        at = _index(events, b"set default")
        events[at : at + 2] = events[at + 1], events[at]
        return events

    return maker.relogged("baseline", edit)


def cut(maker: Maker) -> Files:
    """Cut the log inside an event."""
    files = maker.sent("baseline")
    log = files["eventlog.bin"]
    return {**files, "eventlog.bin": log[: log.index(b"kernel_cmdline: ") + 20]}


def damaged(maker: Maker) -> Files:
    """Overwrite a count of digests."""
    files = maker.sent("baseline")
    head, events = read(files["eventlog.bin"])
    at = len(write(head, events[: _index(events, b"kernel_cmdline: ")])) + 8
    log = files["eventlog.bin"]
    return {**files, "eventlog.bin": log[:at] + b"\xff\xff\xff\xff" + log[at + 4 :]}


def wrong_register(maker: Maker) -> Files:
    """Edit register 7 in the text of the register values."""
    files = maker.sent("baseline")
    lines = files["pcrs.yaml"].decode().splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if "sha256" in line)
    at = next(i for i, line in enumerate(lines) if i > start and line.split(":")[0].strip() == "7")
    value = lines[at].rsplit("0x", 1)[1].strip()
    lines[at] = lines[at].replace(value, hashlib.sha256(b"another value").hexdigest().upper())
    return {**files, "pcrs.yaml": "".join(lines).encode()}


def timed(maker: Maker) -> Files:
    """The TPM attests its time, signed with the attestation key: its own work, and no quote."""
    files, chip = maker.boot("quote_of_another_kind", maker.events("baseline")), maker.chip
    chip.start()
    chip("gettime", "-c", HANDLE, "-q", files["nonce.hex"].decode().strip(), "-g", "sha256",
         "--attestation", "time.msg", "-o", "time.sig")  # fmt: skip
    found = {**files, "quote.msg": chip.read("time.msg"), "quote.sig": chip.read("time.sig")}
    chip.stop()
    return found


def imitated(maker: Maker) -> Files:
    """A program without a TPM signs what looks like a quote of the wanted registers."""
    files = maker.sent("baseline")
    message = struct.pack(">I", 0xFF544348) + files["quote.msg"][4:]
    signature = SOFTWARE_KEY.sign(message, padding.PKCS1v15(), hashes.SHA256())
    public = SOFTWARE_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    kept = ("eventlog.bin", "pcrs.yaml", "nonce.hex", "ima_binary.bin")
    return {**{name: files[name] for name in kept}, "quote.msg": message, "quote.sig": signature,
            "ak.pem": public}  # fmt: skip


def booted(name: str, edit: Callable[[list[Measurement]], list[Measurement]]) -> Callable[[Maker], Files]:
    """Measure the reference's events, edited, and collect evidence."""
    return lambda maker: maker.boot(name, edit(maker.events("baseline")))


def named(machine: str) -> Callable[[list[Measurement]], list[Measurement]]:
    """Let the firmware name the machine in register 6, before its separator."""
    event = measured(6, COMPACT_HASH, f"UUID: {machine}".encode())

    def edit(events: list[Measurement]) -> list[Measurement]:
        at = next(i for i, e in enumerate(events) if e.register == 6 and e.type == SEPARATOR)
        return [*events[:at], event, *events[at:]]

    return edit


def closed_twice(events: list[Measurement]) -> list[Measurement]:
    """Repeat the separator of register 2."""
    at = next(i for i, event in enumerate(events) if event.register == 2 and event.type == SEPARATOR)
    return [*events[: at + 1], events[at], *events[at + 1 :]]


def turned_back(maker: Maker) -> Files:
    """After the boot of clock_ahead the TPM is put back to its state of before."""
    maker.chip.restore(maker.snapshot)
    return maker.boot("clock_turned_back", maker.events("baseline"))


def ahead(maker: Maker) -> Files:
    """The clock stands at ten hours when the TPM quotes."""
    maker.chip.restore(maker.snapshot)

    def forward(chip: Chip) -> bytes:
        chip("setclock", str(36_000_000))
        return b""

    return maker.boot("clock_ahead", maker.events("baseline"), then=forward)


def violated(maker: Maker) -> Files:
    """Have the kernel meet a file that is open for writing."""
    return maker.boot(
        "file_open_for_writing", maker.events("baseline"),
        then=lambda chip: chip.violate(b"/var/log/journal/system.journal\0"),
    )  # fmt: skip


def windows_boot(
    name: str, settings: Mapping[int, int] | None = None, drivers: tuple[Driver, ...] = DRIVERS
) -> Callable[[Maker], Files]:
    """Measure a Windows boot."""
    return lambda maker: maker.boot(
        name, windows_log(maker.events("baseline"), settings, drivers), linux=False
    )


def table_added(events: list[Measurement]) -> list[Measurement]:
    """Add a table of a device to what the firmware measures."""
    at = next(i for i, event in enumerate(events) if event.register == 1 and event.type == SEPARATOR)
    name = b"ACPI VMGENID\0"
    # UEFI_HANDOFF_TABLE_POINTERS2 (PFP 1.06, section 10.2.4): description, then GUID and address of the table
    guid = bytes.fromhex("71e868882fe4d311bc220080c73c8881")
    data = bytes([len(name)]) + name + struct.pack("<Q", 1) + guid + struct.pack("<Q", 0x7FB7E000)
    return [*events[:at], measured(1, EFI_HANDOFF_TABLES2, data, ACPI_TABLE), *events[at:]]
