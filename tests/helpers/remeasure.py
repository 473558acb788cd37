"""Sample boots measured anew: the events of a real log, some changed as another boot would have had them.

The digests follow from the data (or stand for contents that are not in a log), the registers from the
digests, and a key outside any TPM signs a quote over them. So every link of the chain holds, and what is
left to explain is the change. Nothing here uses the package's own readers.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from quoting import NONCE, SIZE, attest, boot_log, extended, key_name, public_area, sign, software_key

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
BANKS = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384"}
NUMBERS = {name: number for number, name in BANKS.items()}

# TCG PC Client PFP 1.06, table 9
NO_ACTION, SEPARATOR, EVENT_TAG, IPL = 0x3, 0x4, 0x6, 0xD
DRIVER_CONFIG, VARIABLE_BOOT, APPLICATION, DRIVER = 0x80000001, 0x80000002, 0x80000003, 0x80000004
GPT, EFI_ACTION, HANDOFF, AUTHORITY = 0x80000006, 0x80000007, 0x8000000B, 0x800000E0
SHIM_LOCK = bytes.fromhex("50ab5d6046e00043abb63dd810dd8b23")


@dataclass
class Measured:
    """One event, with a digest for each bank."""

    register: int
    type: int
    data: bytes
    digests: dict[str, bytes]


def digests_of(data: bytes) -> dict[str, bytes]:
    return {bank: hashlib.new(bank, data).digest() for bank in NUMBERS}


def measured(register: int, kind: int, data: bytes, of: bytes | None = None) -> Measured:
    """An event whose digest is of its data, or `of` something else."""
    return Measured(register, kind, data, digests_of(data if of is None else of))


def contents(what: str) -> dict[str, bytes]:
    """Digests of contents that a log does not have: a file, an image."""
    return digests_of(b"contents of " + what.encode())


def events_of(name: str) -> list[Measured]:
    """The events of a sample boot's log, without its Spec ID event."""
    data = (BOOTS / name / "eventlog.bin").read_bytes()
    at = 32 + struct.unpack_from("<I", data, 28)[0]
    found = []
    while at < len(data):
        register, kind, count = struct.unpack_from("<III", data, at)
        at += 12
        digests = {}
        for _ in range(count):
            bank = BANKS[struct.unpack_from("<H", data, at)[0]]
            digests[bank] = data[at + 2 : at + 2 + SIZE[bank]]
            at += 2 + SIZE[bank]
        size = struct.unpack_from("<I", data, at)[0]
        found.append(Measured(register, kind, data[at + 4 : at + 4 + size], digests))
        at += 4 + size
    return found


def variable(guid: bytes, name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA (PFP 1.06, section 10.2.6)."""
    text = name.encode("utf-16-le")
    return guid + struct.pack("<QQ", len(text) // 2, len(data)) + text + data


def variable_parts(data: bytes) -> tuple[bytes, str, bytes]:
    count, size = struct.unpack_from("<QQ", data, 16)
    at = 32 + 2 * count
    return data[:16], data[32:at].decode("utf-16-le"), data[at : at + size]


class Boot:
    """The events of a boot, with the ways to change them."""

    def __init__(self, events: list[Measured]) -> None:
        self.events = events

    def where(self, kind: int, text: str = "") -> list[int]:
        """Positions of events of a type whose data hold a text, as bytes or UTF-16."""
        wanted = (text.encode(), text.encode("utf-16-le"))
        return [
            i for i, e in enumerate(self.events) if e.type == kind and any(form in e.data for form in wanted)
        ]

    def variable(self, name: str) -> Measured:
        kinds = (DRIVER_CONFIG, VARIABLE_BOOT, AUTHORITY)
        return next(e for e in self.events if e.type in kinds and variable_parts(e.data)[1] == name)

    def value(self, name: str) -> bytes:
        return variable_parts(self.variable(name).data)[2]

    def set_variable(self, name: str, data: bytes) -> None:
        event = self.variable(name)
        guid, _, _ = variable_parts(event.data)
        event.data = variable(guid, name, data)
        event.digests = digests_of(data if event.type == VARIABLE_BOOT else event.data)

    def set_contents(self, kind: int, text: str, what: str) -> None:
        for i in self.where(kind, text):
            self.events[i].digests = contents(what + text)

    def drop(self, kind: int, keep: str = "\0none") -> None:
        kept = set(self.where(kind, keep))
        self.events = [e for i, e in enumerate(self.events) if e.type != kind or i in kept]

    def replace_text(self, old: str, new: str) -> None:
        """Replace a text in what GRUB logged; commands and command lines are hashed without their prefix."""
        for event in self.events:
            if event.type == IPL and old.encode() in event.data:
                event.data = event.data.replace(old.encode(), new.encode())
                prefix, _, rest = event.data.rstrip(b"\0").partition(b": ")
                if prefix in (b"grub_cmd", b"kernel_cmdline"):
                    event.digests = digests_of(rest)


def write_boot(
    folder: Path,
    events: Sequence[Measured],
    *,
    banks: Sequence[str] = ("sha1", "sha256"),
    registers: Sequence[int] = range(15),
    later: Sequence[tuple[int, bytes]] = (),
    clock: tuple[int, int, int, bool] = (123456, 7, 1, True),
    key_number: int = 0,
) -> Path:
    """Write an evidence folder of these events, `later` measurements unlogged, and a quote over them."""
    key = software_key(key_number)
    values = {
        bank: {i: (b"\xff" if 17 <= i <= 22 else b"\0") * SIZE[bank] for i in range(24)} for bank in banks
    }
    log = boot_log([], banks)
    for event in events:
        digests = {bank: event.digests.get(bank, bytes(SIZE[bank])) for bank in banks}
        log += struct.pack("<III", event.register, event.type, len(banks))
        log += b"".join(struct.pack("<H", NUMBERS[bank]) + digests[bank] for bank in banks)
        log += struct.pack("<I", len(event.data)) + event.data
        for bank in banks:
            if event.type != NO_ACTION:
                now = values[bank][event.register]
                values[bank][event.register] = extended(bank, [digests[bank]], now)
            elif event.data.startswith(b"StartupLocality\0"):
                values[bank][0] = bytes(SIZE[bank] - 1) + event.data[16:17]
    for register, data in later:
        for bank in banks:
            item = hashlib.new(bank, data).digest()
            values[bank][register] = extended(bank, [item], values[bank][register])
    message = attest([("sha256", registers)], values, clock=clock)
    public = public_area(key)
    text = {bank: {str(i): value.hex() for i, value in found.items()} for bank, found in values.items()}
    files = {
        "eventlog.bin": log,
        "quote.msg": message,
        "quote.sig": sign(key, message),
        "pcrs.json": json.dumps(text).encode(),
        "ak.pub": public,
        "ak.name": key_name(public),
        "nonce.hex": NONCE.hex().encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def enrolled_key(folder: Path, number: int = 0) -> Path:
    """Write the key of `write_boot` as the verifier would have enrolled it."""
    path = folder / (f"enrolled{number}.pem" if number else "enrolled.pem")
    public = software_key(number).public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path
