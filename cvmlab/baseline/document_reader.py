"""Reading baselines, strictly: an unknown class, a digest of a wrong size or a missing key is an error."""

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
    Alternative,
    Baseline,
    Change,
    Cohort,
    FileSigner,
    ModuleSigner,
    Policy,
    RegisterBaseline,
    Signature,
    Slot,
    Source,
)
from cvmlab.baseline.migrate import migrate
from cvmlab.baseline.signature import check_signatures
from cvmlab.errors import BaselineError
from cvmlab.eventlog.registers import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_SLOTS: Final = 100_000
"""Most slots in all."""

MAX_COHORTS: Final = 1_000
MAX_SIGNATURES: Final = 64


def baseline_from_json(
    text: str, *, source: str, require_signed: Iterable[str | Path | bytes] = ()
) -> Baseline:
    """Read the document from JSON text.

    Args:
        text: The document.
        source: Name for messages.
        require_signed: Public keys of which one must have signed it, where any are given.

    Raises:
        BaselineError: Not a baseline of a known schema, or a signature is wrong or missing; the message
            names the place.
    """
    value = read_json(text, source)
    reader = _Reader(source)
    top = reader.mapping(value, "the document")
    signatures = tuple(
        reader.signature(item, f"signatures[{i}]")
        for i, item in enumerate(reader.items(top.get("signatures", []), "signatures", MAX_SIGNATURES))
    )
    check_signatures(top, signatures, source=source, require_signed=require_signed)
    top = migrate(top, source=source)
    cohorts = tuple(
        reader.cohort(item, f"cohorts[{i}]")
        for i, item in enumerate(reader.items(top.get("cohorts"), "cohorts", MAX_COHORTS))
    )
    registers = reader.registers(top.get("registers"), "registers")
    shared = {(register.set, register.register) for register in registers}
    if len({cohort.name for cohort in cohorts}) != len(cohorts):
        raise reader.error("cohorts", "a name occurs twice")
    for cohort in cohorts:
        if shared & {(register.set, register.register) for register in cohort.registers}:
            raise reader.error(f"cohort {cohort.name!r}", "pins a register that all cohorts share")
    return Baseline(
        name=reader.text(top.get("name"), "name"),
        created=reader.text(top.get("created"), "created"),
        tool=reader.text(top.get("tool"), "tool"),
        sources=tuple(
            reader.source_entry(item, f"sources[{i}]")
            for i, item in enumerate(reader.items(top.get("sources"), "sources"))
        ),
        registers=registers,
        files=reader.files(top.get("files"), "files"),
        policy=reader.policy(top.get("policy")),
        history=tuple(
            reader.change(item, f"history[{i}]")
            for i, item in enumerate(reader.items(top.get("history"), "history"))
        ),
        data=reader.data(top.get("data")),
        cohorts=cohorts,
        file_signers=tuple(
            reader.file_signer(item, f"file_signers[{i}]")
            for i, item in enumerate(reader.items(top.get("file_signers"), "file_signers"))
        ),
        modules=reader.files(top.get("modules"), "modules"),
        module_signers=tuple(
            reader.module_signer(item, f"module_signers[{i}]")
            for i, item in enumerate(reader.items(top.get("module_signers"), "module_signers"))
        ),
        signatures=signatures,
    )


def read_json(text: str, source: str) -> object:
    """Read JSON in which no key occurs twice: two readers could take different ones.

    Raises:
        BaselineError: Not JSON, or a key twice.
    """

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise BaselineError(f"{source}: the key {twice!r} occurs twice in one object")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except BaselineError:
        raise
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{source}: not JSON: {error}") from error


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

    def items(self, value: object, place: str, limit: int | None = None) -> list[object]:
        if not isinstance(value, list):
            raise self.error(place, "need a list")
        if limit is not None and len(value) > limit:
            raise self.error(place, f"more than {limit}")
        return value

    def base64(self, value: object, place: str) -> bytes:
        try:
            return base64.b64decode(self.text(value, place), validate=True)
        except (binascii.Error, ValueError) as error:
            raise self.error(place, "not base64") from error

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

    def registers(self, value: object, place: str) -> tuple[RegisterBaseline, ...]:
        found = [self.register(item, f"{place}[{i}]") for i, item in enumerate(self.items(value, place))]
        if len({(register.set, register.register) for register in found}) != len(found):
            raise self.error(place, "a register occurs twice")
        return tuple(sorted(found, key=lambda r: (r.set, r.register)))

    def cohort(self, value: object, place: str) -> Cohort:
        item = self.mapping(value, place)
        return Cohort(
            self.text(item.get("name"), f"{place}.name"),
            self.registers(item.get("registers"), f"{place}.registers"),
            self.numbers(item.get("from", []), f"{place}.from"),
        )

    def numbers(self, value: object, place: str) -> tuple[int, ...]:
        return tuple(self.number(item, place) for item in self.items(value, place))

    def file_signer(self, value: object, place: str) -> FileSigner:
        item = self.mapping(value, place)
        return FileSigner(
            self.text(item.get("path"), f"{place}.path"),
            self.base64(item.get("key"), f"{place}.key"),
            self.text(item.get("name", ""), f"{place}.name"),
        )

    def module_signer(self, value: object, place: str) -> ModuleSigner:
        item = self.mapping(value, place)
        texts = {
            name: self.text(item.get(name, ""), f"{place}.{name}")
            for name in ("publisher", "issuer", "thumbprint")
        }
        if not any(texts.values()):
            raise self.error(place, "names no publisher, issuer or thumbprint: any signer would do")
        least = item.get("least_svn", -1)
        return ModuleSigner(
            path=self.text(item.get("path", "*"), f"{place}.path"),
            least_svn=-1 if least == -1 else self.number(least, f"{place}.least_svn"),
            **texts,
        )

    def signature(self, value: object, place: str) -> Signature:
        item = self.mapping(value, place)
        return Signature(
            self.text(item.get("algorithm"), f"{place}.algorithm"),
            self.base64(item.get("key"), f"{place}.key"),
            self.base64(item.get("value"), f"{place}.value"),
            self.text(item.get("when", ""), f"{place}.when"),
        )

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
        values = tuple(
            self.alternative(entry, f"{place}.values[{i}]")
            for i, entry in enumerate(self.items(item.get("values", []), f"{place}.values"))
        )
        locality = self.number(item.get("locality", 0), f"{place}.locality")
        if locality > 255:
            raise self.error(f"{place}.locality", "need at most 255")
        complete = item.get("complete", True)
        if not isinstance(complete, bool):
            raise self.error(f"{place}.complete", "need true or false")
        return RegisterBaseline(set_, index, slots, locality, values, complete)

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
            self.numbers(item.get("from", []), f"{place}.from"),
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

    def files(self, value: object, place: str) -> dict[str, frozenset[str]] | None:
        if value is None:
            return None
        found = self.mapping(value, place)
        return {path: frozenset(self.texts(digests, f"{place}.{path}")) for path, digests in found.items()}

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
        if not isinstance(item.get("hardware_report", False), bool):
            raise self.error("policy.hardware_report", "need true or false")
        registers = item.get("required_registers")
        authorities = item.get("authorities")
        levels = self.mapping(item.get("sbat_level", {}), "policy.sbat_level")
        tcb = self.mapping(item.get("lowest_tcb", {}), "policy.lowest_tcb")
        return Policy(
            secure_boot=item.get("secure_boot"),  # type: ignore[arg-type]
            debugging=bool(item["debugging"]),
            required_registers=None
            if registers is None
            else self.numbers(registers, "policy.required_registers"),
            required_bank=self.text(item.get("required_bank", ""), "policy.required_bank"),
            authorities=None if authorities is None else self.texts(authorities, "policy.authorities"),
            sbat_level={name: self.number(n, f"policy.sbat_level.{name}") for name, n in levels.items()},
            revocation_list=self.text(item.get("revocation_list", ""), "policy.revocation_list"),
            pinned_machines=bool(item["pinned_machines"]),
            hardware_report=bool(item.get("hardware_report", False)),
            lowest_tcb={name: self.number(n, f"policy.lowest_tcb.{name}") for name, n in tcb.items()},
            launch_measurements=self.texts(item.get("launch_measurements", []), "policy.launch_measurements"),
        )

    def data(self, value: object) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name, text in self.mapping(value, "data").items():
            data = self.base64(text, f"data.{name}")
            if len(data) > MAX_DATA or hashlib.sha256(data).hexdigest() != name:
                raise self.error(f"data.{name}", "is not the data that its name is the SHA-256 of")
            found[name] = data
        return found
