"""JSON of compute-pcrs (trusted-execution-clusters): registers with their expected events, in SHA-256."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from cvmlab.banks import extend
from cvmlab.baseline.document import Alternative, RegisterBaseline, Slot
from cvmlab.baseline.document_reader import read_json
from cvmlab.baseline.exchange.model import (
    OPEN,
    Exported,
    Imported,
    common_losses,
    hex_digest,
    new_baseline,
    read_bytes,
    views,
    why_open,
)
from cvmlab.errors import BaselineError
from cvmlab.eventlog.registers import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cvmlab.baseline.document import Baseline

MAX_EVENTS: Final = 10_000

_KIND_BY_TYPE: Final = {
    "EV_EFI_ACTION": "efi-action",
    "EV_SEPARATOR": "separator",
    "EV_EFI_BOOT_SERVICES_APPLICATION": "application",
    "EV_EFI_VARIABLE_AUTHORITY": "authority",
}
_KIND_BY_ID: Final = {
    "secureboot": "secure-boot",
    "pk": "platform-key",
    "kek": "key-exchange-keys",
    "db": "signature-database",
    "dbx": "revocation-list",
    "sbatlevel": "sbat-level",
    "moklist": "mok-list",
    "moklistx": "mok-list",
    "moklisttrusted": "mok-list",
    "vmlinuz": "application",
}
_ID: Final = re.compile(r"Pcr\d+(\w*)")


def read_compute_pcrs(path: Path, name: str) -> Imported:
    """Read one register, a list of them, or ``{"pcrs": […]}``.

    Raises:
        BaselineError: Not of this form, or the events of a register do not give its value.
    """
    value = read_json(read_bytes(path).decode("utf-8", "replace"), str(path))
    if isinstance(value, dict) and "pcrs" in value:
        value = value["pcrs"]
    items = value if isinstance(value, list) else [value]
    registers = [_register(item, f"{path}: pcrs[{i}]") for i, item in enumerate(items)]
    if len({r.register for r in registers}) != len(registers) or not registers:
        raise BaselineError(f"{path}: no register, or one twice")
    others = sorted(set(range(8)) - {r.register for r in registers})
    losses = [
        "digests are of the bank sha256 alone",
        "event data are not given: differences cannot be decoded",
    ]
    if others:
        losses.append(f"registers {', '.join(map(str, others))} are not pinned: nothing is said of them")
    return Imported(new_baseline(name, registers), tuple(losses))


def _register(item: object, where: str) -> RegisterBaseline:
    if not isinstance(item, dict) or not isinstance(item.get("events"), list):
        raise BaselineError(f"{where}: need an object with id, value and events")
    number = item.get("id")
    if isinstance(number, bool) or not isinstance(number, int) or number not in REGISTERS["tpm"]:
        raise BaselineError(f"{where}: {number!r} is no register")
    events = item["events"]
    if len(events) > MAX_EVENTS:
        raise BaselineError(f"{where}: more than {MAX_EVENTS} events")
    slots = []
    value = bytes(32)
    phase = "before"
    for position, event in enumerate(events):
        slot = _slot(event, number, phase, position, f"{where}.events[{position}]")
        value = extend("sha256", value, slot.alternatives[0].digests["sha256"])
        phase = "after" if slot.kind == "separator" else phase
        slots.append(slot)
    if hex_digest(item.get("value"), where) != value:
        raise BaselineError(f"{where}: the events of register {number} do not give the value it states")
    return RegisterBaseline("tpm", number, tuple(slots))


def _slot(event: object, register: int, phase: str, position: int, where: str) -> Slot:
    if not isinstance(event, dict) or event.get("pcr", register) != register:
        raise BaselineError(f"{where}: need an event of register {register}")
    digest = hex_digest(event.get("hash"), where)
    if len(digest) != 32:
        raise BaselineError(f"{where}: need a SHA-256 digest")
    type_name, label = str(event.get("name", ""))[:100], str(event.get("id", ""))[:100]
    found = _ID.fullmatch(label)
    short = (found[1] if found else label).lower()
    kind = _KIND_BY_ID.get(short) or _KIND_BY_TYPE.get(type_name, "unknown")
    alternative = Alternative({"sha256": digest}, label)
    return Slot("fixed", (alternative,), type_name, "", kind, "", phase, position)


def write_compute_pcrs(baseline: Baseline) -> Exported:
    """Write every register whose events are one fixed sequence.

    The form holds one boot: of several cohorts each has a file of its own.
    """
    losses = [*common_losses(baseline), "digests of banks other than sha256", "event data and labels"]
    files: dict[str, bytes] = {}
    for number, (cohort, view) in enumerate(views(baseline)):
        found = []
        for pinned in view.registers:
            why = _why_not(pinned)
            if why:
                losses.append(
                    f"{cohort + ', ' if cohort else ''}register {pinned.register} is left out: {why}"
                )
            else:
                found.append(_object(pinned))
        text = json.dumps({"pcrs": found}, indent=2) + "\n"
        files["" if not cohort else f"cohort-{number}.json"] = text.encode()
    return Exported(files, tuple(dict.fromkeys(losses)))


def _why_not(pinned: RegisterBaseline) -> str:
    if pinned.set != "tpm":
        return "it is no register of a TPM"
    if pinned.by_value or pinned.values:
        return "it is pinned by value, and the form needs events"
    if pinned.locality or REGISTERS["tpm"][pinned.register].fill:
        return "it does not start at zero"
    if not pinned.complete or any(slot.slot_class in OPEN for slot in pinned.slots):
        return why_open(pinned)
    if any(slot.slot_class != "fixed" for slot in pinned.slots):
        return "some of its events may differ or be missing"
    if any("sha256" not in slot.alternatives[0].digests for slot in pinned.slots):
        return "it has no SHA-256 digests"
    return ""


def _object(pinned: RegisterBaseline) -> Mapping[str, object]:
    value = bytes(32)
    events = []
    for slot in pinned.slots:
        digest = slot.alternatives[0].digests["sha256"]
        value = extend("sha256", value, digest)
        label = slot.alternatives[0].summary
        identity = (
            label if _ID.fullmatch(label) else f"Pcr{pinned.register}{slot.kind.title().replace('-', '')}"
        )
        events.append({"name": slot.type, "pcr": pinned.register, "hash": digest.hex(), "id": identity})
    return {"id": pinned.register, "value": value.hex(), "events": events}
