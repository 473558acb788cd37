"""Files of systemd-pcrlock (systemd 255 and newer): the measurements of each component of a boot.

Each file is ``{"records": [{"pcr": N, "digests": [{"hashAlg": …, "digest": hex}]}]}``. Files are taken in the
order of their names; a folder ``NAME.pcrlock.d`` holds variants of one component, of which one applies. The
other keys of TCG's canonical event log are ignored by systemd; ``content`` carries our labels.

Source: systemd.pcrlock(5); systemd, src/pcrlock/pcrlock.c.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE
from cvmlab.baseline.document import CLASSES, Alternative, RegisterBaseline, Slot
from cvmlab.baseline.document_reader import read_json
from cvmlab.baseline.exchange.model import (
    OPEN,
    Exported,
    Imported,
    common_losses,
    hex_digest,
    new_baseline,
    read_bytes,
    why_open,
)
from cvmlab.baseline.slots import merge_slots
from cvmlab.errors import BaselineError
from cvmlab.eventlog.registers import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cvmlab.baseline.document import Baseline, SlotClass

BANKS: Final = ("sha1", "sha256", "sha384", "sha512")
"""The hashes that systemd-pcrlock calculates."""

FIRST: Final = 600
"""Number of the first component written: before those that systemd may not have reached yet."""

MAX_FILES: Final = 4096
MAX_RECORDS: Final = 100_000
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]+")


def write_pcrlock(baseline: Baseline) -> Exported:
    """Write one folder of components.

    Fixed events that follow each other are one component; a slot that allows several events, or none, is a
    component with variants; a register that differs among cohorts is one component with a variant a cohort.
    """
    losses = common_losses(baseline)
    files: dict[str, bytes] = {}
    shared = [r for r in baseline.registers if _fits(r, losses)]
    for register in shared:
        for number, (title, variants) in enumerate(_components(register)):
            base = (
                f"{FIRST + register.register}-cvmlab-pcr{register.register:02d}-{number:03d}-{title}.pcrlock"
            )
            files |= _component(base, variants)
    for number in sorted({r.register for cohort in baseline.cohorts for r in cohort.registers}):
        files |= _cohorts(baseline, number, losses)
    if baseline.cohorts:
        losses.append(
            "that values of one cohort belong together: systemd-pcrlock judges register by register"
        )
    if "sm3_256" in baseline.banks:
        losses.append("digests of the bank sm3_256, which systemd-pcrlock does not calculate")
    return Exported(files, tuple(dict.fromkeys(losses)))


def _cohorts(baseline: Baseline, number: int, losses: list[str]) -> dict[str, bytes]:
    """One register that differs among cohorts: a component with a variant for each of them."""
    variants: dict[str, list[object]] = {}
    for index, cohort in enumerate(baseline.cohorts):
        register = next((r for r in cohort.registers if r.register == number), None)
        if register is None or (register.slots and not _fits(register, losses)):
            losses.append(f"register {number} is left out: the cohort {cohort.name} leaves it open")
            return {}
        if any(slot.slot_class not in ("fixed", "one-of") for slot in register.slots):
            losses.append(f"register {number} is left out: in the cohort {cohort.name} events may be missing")
            return {}
        if any(len(slot.alternatives) > 1 for slot in register.slots):
            losses.append(
                f"register {number}, cohort {cohort.name}: all but the first event of each one-of slot"
            )
        variants[f"{300 + index:03d}-{_safe(cohort.name)}"] = [
            _record(number, slot, slot.alternatives[0]) for slot in register.slots
        ]
    return _component(f"{FIRST + number}-cvmlab-pcr{number:02d}-cohort.pcrlock", variants)


def _fits(register: RegisterBaseline, losses: list[str]) -> bool:
    why = ""
    if register.set != "tpm":
        why = "it is no register of a TPM"
    elif register.by_value or register.values:
        why = "it is pinned by value, and components need events"
    elif not register.complete or any(slot.slot_class in OPEN for slot in register.slots):
        why = why_open(register)
    elif register.locality:
        why = f"it starts from locality {register.locality}, which no component can say"
    if why:
        losses.append(f"register {register.register} is left out: {why}")
    elif not register.slots:
        losses.append(f"that nothing may be extended into register {register.register}")
    return not why and bool(register.slots)


def _components(register: RegisterBaseline) -> Iterable[tuple[str, dict[str, list[object]]]]:
    """(Title, variants) of one register's slots, in order; an unnamed variant stands alone."""
    fixed: list[object] = []
    for slot in register.slots:
        records: list[object] = [_record(register.register, slot, a) for a in slot.alternatives]
        if slot.slot_class == "fixed":
            fixed += records
            continue
        if fixed:
            yield "fixed", {"": fixed}
            fixed = []
        variants = {f"{300 + number:03d}-allowed": [one] for number, one in enumerate(records)}
        if slot.slot_class == "optional":
            variants["600-absent"] = []
        yield _safe(slot.kind), variants
    if fixed:
        yield "fixed", {"": fixed}


def _component(base: str, variants: dict[str, list[object]]) -> dict[str, bytes]:
    def text(records: list[object]) -> bytes:
        return (json.dumps({"records": records}, indent=1) + "\n").encode()

    if list(variants) == [""]:
        return {base: text(variants[""])}
    return {f"{base}.d/{name}.pcrlock": text(records) for name, records in variants.items()}


def _record(register: int, slot: Slot, alternative: Alternative) -> dict[str, object]:
    return {
        "pcr": register,
        "digests": [
            {"hashAlg": bank, "digest": alternative.digests[bank].hex()}
            for bank in BANKS
            if bank in alternative.digests
        ],
        "content_type": "cvmlab.slot",
        "content": {
            "class": slot.slot_class,
            "kind": slot.kind,
            "name": slot.name,
            "type": slot.type,
            "phase": slot.phase,
            "summary": alternative.summary,
        },
    }


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text).strip("-.")[:60] or "unnamed"


def read_pcrlock(path: Path, name: str) -> Imported:
    """Read one file, or a folder of components with their variants.

    Raises:
        BaselineError: A file is not of this form, or there is none.
    """
    components = _found(path)
    losses = ["event data are not given: differences cannot be decoded"]
    slots: dict[int, list[Slot]] = {}
    for title, variants in components:
        read = [_variant(file, title) for file in variants]
        registers = sorted({register for one in read for register in one})
        if len(read) > 1 and (len(registers) > 1 or any(len(s) > 1 for one in read for s in one.values())):
            losses.append(
                f"component {title}: its {len(read)} variants hold several records; "
                "which of them belong together is lost"
            )
        for register in registers:
            merged: list[Slot] = []
            for number, one in enumerate(read):
                new = one.get(register, [])
                merged = new if number == 0 else merge_slots(merged, new)
            slots.setdefault(register, []).extend(_classed(merged, register, read))
    pinned = [RegisterBaseline("tpm", number, tuple(_phased(found))) for number, found in slots.items()]
    return Imported(new_baseline(name, pinned), tuple(losses))


def _found(path: Path) -> list[tuple[str, list[Path]]]:
    """Components by name, each with the files of its variants."""
    if path.is_file():
        return [(path.name.removesuffix(".pcrlock"), [path])]
    found: dict[str, list[Path]] = {}
    files = sorted((*path.glob("*.pcrlock"), *path.glob("*.pcrlock.d/*.pcrlock")))
    if len(files) > MAX_FILES:
        raise BaselineError(f"{path}: more than {MAX_FILES} files")
    for file in files:
        if not file.is_file() or file.is_symlink():
            continue
        variant = file.parent != path
        title = (file.parent.name.removesuffix(".d") if variant else file.name).removesuffix(".pcrlock")
        found.setdefault(title, []).append(file)
    if not found:
        raise BaselineError(f"{path}: there is no *.pcrlock file in it")
    return sorted(found.items())


def _variant(file: Path, title: str) -> dict[int, list[Slot]]:
    value = read_json(read_bytes(file).decode("utf-8", "replace"), str(file))
    records = value.get("records") if isinstance(value, dict) else None
    if not isinstance(records, list):
        raise BaselineError(f"{file}: need an object with a list of records")
    if len(records) > MAX_RECORDS:
        raise BaselineError(f"{file}: more than {MAX_RECORDS} records")
    found: dict[int, list[Slot]] = {}
    for position, record in enumerate(records):
        where = f"{file}: records[{position}]"
        if not isinstance(record, dict):
            raise BaselineError(f"{where}: need an object")
        register = record.get("pcr")
        if isinstance(register, bool) or not isinstance(register, int) or register not in REGISTERS["tpm"]:
            raise BaselineError(f"{where}: {register!r} is no register")
        found.setdefault(register, []).append(_slot(record, title, position, where))
    return found


def _slot(record: dict[str, object], title: str, position: int, where: str) -> Slot:
    listed = record.get("digests")
    digests: dict[str, bytes] = {}
    for item in listed if isinstance(listed, list) else []:
        bank = item.get("hashAlg") if isinstance(item, dict) else None
        if not isinstance(bank, str):
            raise BaselineError(f"{where}: a digest names no hashAlg")
        if bank not in DIGEST_SIZE:
            continue
        digests[bank] = hex_digest(item.get("digest"), where)
        if len(digests[bank]) != DIGEST_SIZE[bank]:
            raise BaselineError(f"{where}: {len(digests[bank])} bytes are no {bank}")
    if not digests:
        raise BaselineError(f"{where}: has no digest of a bank known here")
    content = record.get("content")
    labels = content if isinstance(content, dict) and record.get("content_type") == "cvmlab.slot" else {}

    def label(key: str, default: str = "") -> str:
        value = labels.get(key)
        return value[:4096] if isinstance(value, str) else default

    slot_class = label("class", "fixed")
    return Slot(
        slot_class if slot_class in CLASSES else "fixed",  # type: ignore[arg-type]
        (Alternative(digests, label("summary", title)),),
        label("type"),
        "",
        label("kind", "unknown"),
        label("name", "" if labels else title),
        label("phase"),
        position,
    )


def _classed(merged: Sequence[Slot], register: int, variants: Sequence[dict[int, list[Slot]]]) -> list[Slot]:
    """Slots of one component: optional where a variant lacks them."""
    slots = []
    for slot in merged:
        keys = {frozenset(a.digests.items()) for a in slot.alternatives}
        everywhere = all(
            any(frozenset(a.digests.items()) in keys for s in one.get(register, []) for a in s.alternatives)
            for one in variants
        )
        slot_class: SlotClass = "optional"
        if everywhere:
            slot_class = "fixed" if len(slot.alternatives) == 1 else "one-of"
        slots.append(replace(slot, slot_class=slot_class))
    return slots


def _phased(slots: Sequence[Slot]) -> Iterable[Slot]:
    """Number the slots, and let those without a label stand before the separator."""
    for position, slot in enumerate(slots):
        yield replace(slot, order=position, phase=slot.phase or "before")
