"""Evidence that no machine sent: files of real boots put together or edited, as an attacker would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from expected import Expected, blamed
from logs import read, write
from settings import RAW

SOURCE = "baseline"
OTHER_MACHINE = "bank_sha256_only"
TAKEN = (
    "eventlog.bin", "pcrs.yaml", "quote.msg", "quote.sig", "quote.pcrs", "ak.pub", "ak.pem", "ak.name",
    "ek.pub", "ek.pem", "ek_rsa.crt.der", "nonce.hex", "clock.yaml", "cmdline.txt",
    "credential_activation.json", "ima_ascii.log", "ima_binary.bin",
)  # fmt: skip
TRUNCATED_EVENTS = 8


def _truncate(folder: Path) -> None:
    head, events = read((folder / "eventlog.bin").read_bytes())
    (folder / "eventlog.bin").write_bytes(write(head, events[:-TRUNCATED_EVENTS]))


def _edit_text(folder: Path) -> None:
    log = bytearray((folder / "eventlog.bin").read_bytes())
    place = log.index(b"audit=1", log.index(b"kernel_cmdline: "))
    log[place : place + 7] = b"audit=0"
    (folder / "eventlog.bin").write_bytes(log)


def _take_quote(folder: Path) -> None:
    for name in ("quote.msg", "quote.sig", "quote.pcrs", "nonce.hex"):
        shutil.copy(RAW / OTHER_MACHINE / name, folder / name)


def _ask_again(folder: Path) -> None:
    shutil.copy(RAW / "baseline_repeat" / "nonce.hex", folder / "nonce.hex")


@dataclass(frozen=True, slots=True)
class Mix:
    """One derived folder.

    Attributes:
        what: One sentence for the README.
        edit: Changes the copy of the source in place.
        sources: The boots that the files come from.
        breaks: The lab's checks that must fail; all others must hold.
        expected: What the product must say.
    """

    what: str
    edit: Callable[[Path], None]
    sources: tuple[str, ...]
    breaks: frozenset[str]
    expected: Expected = field(default_factory=lambda: Expected("not-trusted"))


MIXES: dict[str, Mix] = {
    "mix_log_truncated": Mix(
        f"The last {TRUNCATED_EVENTS} events of the log cut off, at the border of an event.",
        _truncate, (SOURCE,), frozenset({"replay"}), blamed("log-truncated"),
    ),
    "mix_other_vm_quote": Mix(
        "Quote and signature of another machine that boots the same software, sent with this machine's key.",
        _take_quote, (SOURCE, OTHER_MACHINE), frozenset({"quote"}), blamed("quote-signature-invalid"),
    ),
    "mix_event_text_edited": Mix(
        "The text of the kernel command line event edited (audit=1 to audit=0), its digests untouched:"
        " the log replays, but the text does not hash to its digest.",
        _edit_text, (SOURCE,), frozenset(), blamed("event-data-forged"),
    ),
    "mix_nonce_replayed": Mix(
        "An old quote sent in answer to a new nonce.",
        _ask_again, (SOURCE, "baseline_repeat"), frozenset({"quote"}), blamed("nonce-mismatch"),
    ),
}  # fmt: skip


def derive_all() -> list[str]:
    """Make every mix afresh from the boots.

    Returns:
        The names of the mixes whose sources are not there.
    """
    missing = []
    for name, mix in MIXES.items():
        if any(not (RAW / source / "boot.json").exists() for source in mix.sources):
            missing.append(name)
            continue
        folder = RAW / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in TAKEN:
            shutil.copy(RAW / SOURCE / file, folder / file)
        mix.edit(folder)
        (folder / "boot.json").write_text(json.dumps({"name": name, "derived_from": mix.sources}) + "\n")
    return missing
