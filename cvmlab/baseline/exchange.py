"""Baselines as JSON, strictly: an unknown class, a digest of a wrong size or a missing key is an error."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE
from cvmlab.baseline.document import (
    CLASSES,
    MAX_DATA,
    SCHEMA,
    Alternative,
    Baseline,
    Change,
    Policy,
    RegisterBaseline,
    Slot,
    Source,
)
from cvmlab.errors import BaselineError
from cvmlab.eventlog.registers import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SLOTS: Final = 100_000
"""Most slots in all."""


def baseline_to_json(baseline: Baseline) -> str:
    """Return the document as JSON text."""
    policy = baseline.policy
    value: dict[str, object] = {
        "schema": SCHEMA,
        "name": baseline.name,
        "created": baseline.created,
        "tool": baseline.tool,
        "sources": [
            {
                "machine": source.machine,
                "evidence": source.evidence,
                "unchecked": list(source.unchecked),
                "learned": source.learned,
                "ak_name": source.ak_name,
                "ek_spki_sha256": source.ek_spki_sha256,
            }
            for source in baseline.sources
        ],
        "policy": {
            "secure_boot": policy.secure_boot,
            "debugging": policy.debugging,
            "required_registers": policy.required_registers and list(policy.required_registers),
            "required_bank": policy.required_bank,
            "authorities": None if policy.authorities is None else list(policy.authorities),
            "sbat_level": dict(policy.sbat_level),
            "revocation_list": policy.revocation_list,
            "pinned_machines": policy.pinned_machines,
        },
        "registers": [_register(register) for register in baseline.registers],
        "files": None
        if baseline.files is None
        else {path: sorted(digests) for path, digests in sorted(baseline.files.items())},
        "history": [
            {"who": c.who, "when": c.when, "why": c.why, "evidence": c.evidence, "codes": list(c.codes)}
            for c in baseline.history
        ],
        "data": {name: base64.b64encode(data).decode() for name, data in sorted(baseline.data.items())},
    }
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _register(register: RegisterBaseline) -> dict[str, object]:
    return {
        "set": register.set,
        "register": register.register,
        "locality": register.locality,
        "slots": [
            {
                "class": slot.slot_class,
                "kind": slot.kind,
                "name": slot.name,
                "phase": slot.phase,
                "type": slot.type,
                "producer": slot.producer,
                "order": slot.order,
                "allowed": [
                    {
                        "summary": alternative.summary,
                        "digests": {bank: value.hex() for bank, value in alternative.digests.items()},
                        "data": alternative.data,
                        "from": list(alternative.sources),
                    }
                    for alternative in slot.alternatives
                ],
            }
            for slot in register.slots
        ],
    }


def baseline_from_json(text: str, *, source: str) -> Baseline:
    """Read the document from JSON text.

    Raises:
        BaselineError: Not a baseline of this schema; the message names the place.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{source}: not JSON: {error}") from error
    reader = _Reader(source)
    top = reader.mapping(value, "the document")
    if top.get("schema") != SCHEMA:
        raise BaselineError(f"{source}: the schema is {top.get('schema')!r}, need {SCHEMA!r}")
    registers = tuple(
        reader.register(item, f"registers[{i}]")
        for i, item in enumerate(reader.items(top.get("registers"), "registers"))
    )
    pairs = [(register.set, register.register) for register in registers]
    if len(set(pairs)) != len(pairs):
        raise reader.error("registers", "a register occurs twice")
    return Baseline(
        name=reader.text(top.get("name"), "name"),
        created=reader.text(top.get("created"), "created"),
        tool=reader.text(top.get("tool"), "tool"),
        sources=tuple(
            reader.source_entry(item, f"sources[{i}]")
            for i, item in enumerate(reader.items(top.get("sources"), "sources"))
        ),
        registers=tuple(sorted(registers, key=lambda r: (r.set, r.register))),
        files=reader.files(top.get("files")),
        policy=reader.policy(top.get("policy")),
        history=tuple(
            reader.change(item, f"history[{i}]")
            for i, item in enumerate(reader.items(top.get("history", []), "history"))
        ),
        data=reader.data(top.get("data", {})),
    )


class _Reader:
    """Typed access to JSON, each error with its place."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.slots = 0

    def error(self, place: str, reason: str) -> BaselineError:
        return BaselineError(f"{self.source}: {place}: {reason}")

    def mapping(self, value: object, place: str) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise self.error(place, "need an object")
        return value

    def items(self, value: object, place: str) -> list[object]:
        if not isinstance(value, list):
            raise self.error(place, "need a list")
        return value

    def text(self, value: object, place: str) -> str:
        if not isinstance(value, str):
            raise self.error(place, "need a text")
        return value

    def texts(self, value: object, place: str) -> tuple[str, ...]:
        return tuple(self.text(item, place) for item in self.items(value, place))

    def number(self, value: object, place: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.error(place, "need a whole number of at least 0")
        return value

    def register(self, value: object, place: str) -> RegisterBaseline:
        item = self.mapping(value, place)
        set_ = self.text(item.get("set"), f"{place}.set")
        index = self.number(item.get("register"), f"{place}.register")
        if index not in REGISTERS.get(set_, {}):
            raise self.error(place, f"there is no register {index} in the set {set_!r}")
        slots = tuple(
            self.slot(slot, f"{place}.slots[{i}]")
            for i, slot in enumerate(self.items(item.get("slots"), f"{place}.slots"))
        )
        self.slots += len(slots)
        if self.slots > MAX_SLOTS:
            raise self.error(place, f"more than {MAX_SLOTS} slots")
        return RegisterBaseline(set_, index, slots, self.number(item.get("locality", 0), f"{place}.locality"))

    def slot(self, value: object, place: str) -> Slot:
        item = self.mapping(value, place)
        slot_class = self.text(item.get("class"), f"{place}.class")
        if slot_class not in CLASSES:
            raise self.error(f"{place}.class", f"{slot_class!r} is none of {', '.join(CLASSES)}")
        allowed = tuple(
            self.alternative(entry, f"{place}.allowed[{i}]")
            for i, entry in enumerate(self.items(item.get("allowed"), f"{place}.allowed"))
        )
        if not allowed and slot_class != "ignored":
            raise self.error(f"{place}.allowed", "is empty: nothing could ever match")
        if slot_class == "fixed" and len(allowed) != 1:
            raise self.error(f"{place}.allowed", "a fixed slot allows exactly one event")
        texts = {
            name: self.text(item.get(name), f"{place}.{name}")
            for name in ("type", "producer", "kind", "name", "phase")
        }
        order = self.number(item.get("order", 0), f"{place}.order")
        return Slot(slot_class=slot_class, alternatives=allowed, order=order, **texts)  # type: ignore[arg-type]

    def alternative(self, value: object, place: str) -> Alternative:
        item = self.mapping(value, place)
        digests: dict[str, bytes] = {}
        for bank, text in self.mapping(item.get("digests"), f"{place}.digests").items():
            if bank not in DIGEST_SIZE:
                raise self.error(f"{place}.digests", f"{bank!r} is no bank")
            try:
                digests[bank] = bytes.fromhex(self.text(text, f"{place}.digests.{bank}"))
            except ValueError as error:
                raise self.error(f"{place}.digests.{bank}", "not hex") from error
            if len(digests[bank]) != DIGEST_SIZE[bank]:
                raise self.error(f"{place}.digests.{bank}", f"need {DIGEST_SIZE[bank]} bytes")
        return Alternative(
            digests,
            self.text(item.get("summary", ""), f"{place}.summary"),
            self.text(item.get("data", ""), f"{place}.data"),
            tuple(self.number(n, f"{place}.from") for n in self.items(item.get("from", []), f"{place}.from")),
        )

    def source_entry(self, value: object, place: str) -> Source:
        item = self.mapping(value, place)
        return Source(
            machine=self.text(item.get("machine"), f"{place}.machine"),
            evidence=self.text(item.get("evidence"), f"{place}.evidence"),
            unchecked=self.texts(item.get("unchecked", []), f"{place}.unchecked"),
            learned=self.text(item.get("learned", ""), f"{place}.learned"),
            ak_name=self.text(item.get("ak_name", ""), f"{place}.ak_name"),
            ek_spki_sha256=self.text(item.get("ek_spki_sha256", ""), f"{place}.ek_spki_sha256"),
        )

    def change(self, value: object, place: str) -> Change:
        item = self.mapping(value, place)
        texts = {n: self.text(item.get(n), f"{place}.{n}") for n in ("who", "when", "why", "evidence")}
        return Change(**texts, codes=self.texts(item.get("codes", []), f"{place}.codes"))

    def files(self, value: object) -> dict[str, frozenset[str]] | None:
        if value is None:
            return None
        found = self.mapping(value, "files")
        return {path: frozenset(self.texts(digests, f"files.{path}")) for path, digests in found.items()}

    def policy(self, value: object) -> Policy:
        item = dict(self.mapping(value, "policy"))
        known = set(Policy.__dataclass_fields__)
        if unknown := sorted(item.keys() - known):
            raise self.error(
                "policy", f"unknown rules {', '.join(unknown)}: a rule not understood is not kept"
            )
        for name in ("secure_boot", "debugging", "pinned_machines"):
            if not isinstance(item.get(name), bool) and not (
                name == "secure_boot" and item.get(name) is None
            ):
                raise self.error(f"policy.{name}", "need true or false")
        registers = item.get("required_registers")
        authorities = item.get("authorities")
        levels = self.mapping(item.get("sbat_level", {}), "policy.sbat_level")
        return Policy(
            secure_boot=item.get("secure_boot"),  # type: ignore[arg-type]
            debugging=bool(item["debugging"]),
            required_registers=None
            if registers is None
            else tuple(
                self.number(n, "policy.required_registers")
                for n in self.items(registers, "policy.required_registers")
            ),
            required_bank=self.text(item.get("required_bank", ""), "policy.required_bank"),
            authorities=None if authorities is None else self.texts(authorities, "policy.authorities"),
            sbat_level={name: self.number(n, f"policy.sbat_level.{name}") for name, n in levels.items()},
            revocation_list=self.text(item.get("revocation_list", ""), "policy.revocation_list"),
            pinned_machines=bool(item["pinned_machines"]),
        )

    def data(self, value: object) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name, text in self.mapping(value, "data").items():
            try:
                data = base64.b64decode(self.text(text, f"data.{name}"), validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.error(f"data.{name}", "not base64") from error
            if len(data) > MAX_DATA or hashlib.sha256(data).hexdigest() != name:
                raise self.error(f"data.{name}", "is not the data that its name is the SHA-256 of")
            found[name] = data
        return found
