"""Register values as tools and kernels hand them out: claims, until a quote covers them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.findings import Problem
from cvmlab.tpm.attest import PcrSelection
from cvmlab.tpm.constants import MAX_PCR_SELECT, MAX_SELECTIONS
from cvmlab.tpm.strict import decode_text, hex_bytes, load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MAX_REGISTER: Final = 8 * MAX_PCR_SELECT - 1
_MAX_PROBLEMS: Final = 64
# tpm2-tools 5, `-F serialized`: TPML_PCR_SELECTION and TPML_DIGEST as C lays them out, little-endian.
_SELECTION_SLOT: Final = 8
_DIGESTS_AT: Final = 4 + MAX_SELECTIONS * _SELECTION_SLOT
_DIGEST_SLOTS: Final = 8
_DIGEST_CAPACITY: Final = 64
_DIGEST_BLOCK: Final = 4 + _DIGEST_SLOTS * (2 + _DIGEST_CAPACITY)
_MAX_BLOCKS: Final = MAX_SELECTIONS * (_MAX_REGISTER + 1)

_SYSFS: Final = re.compile(r"PCR-(\d{1,4}):((?: [0-9A-Fa-f]{2})*) ?")
_BANK: Final = re.compile(r"\s*([A-Za-z0-9_]{1,16})\s*:\s*")
# as tpm2_pcrread prints it, or as a YAML or JSON writer does that read it: quoted, without 0x
_VALUE: Final = re.compile(
    r"""\s*(["']?)(?:PCR[-_]?)?(\d{1,4})\1\s*:\s*(["']?)((?:0x)?[0-9A-Fa-f]{2,})\3\s*""", re.IGNORECASE
)
_BANK_BY_SIZE: Final = {DIGEST_SIZE[bank]: bank for bank in ("sha1", "sha256", "sha384", "sha512")}
_WRAPPERS: Final = ("registers", "pcrs", "values")


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """Register values read at one time. They prove nothing by themselves.

    Attributes:
        source: File that they come from.
        values: By bank (names of `cvmlab.banks`) and register index; banks without values are left out.
        time: When they were read, as the file states it, or None.
        problems: What was left out, and why.
    """

    source: str
    values: Mapping[str, Mapping[int, bytes]]
    time: str | None = None
    problems: tuple[Problem, ...] = ()


class _Collector:
    """Take values one by one; leave out what is wrong or contradicts itself, and say so."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values: dict[str, dict[int, bytes]] = {}
        self._contradicted: set[tuple[str, int]] = set()
        self.problems: list[Problem] = []

    def problem(self, offset: int, field: str, message: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(Problem(self.source, offset, field, message, fatal=False))

    def add(self, offset: int, bank: str, register: int, value: bytes) -> None:
        field = f"{bank}:{register}"
        if not 0 <= register <= _MAX_REGISTER:
            self.problem(offset, field, f"no such register: at most {_MAX_REGISTER}")
        elif len(value) != DIGEST_SIZE[bank]:
            self.problem(offset, field, f"need {DIGEST_SIZE[bank]} bytes, have {len(value)}")
        elif (bank, register) in self._contradicted:
            return
        elif self.values.setdefault(bank, {}).setdefault(register, value) != value:
            self.problem(offset, field, "given twice with different values: neither is used")
            del self.values[bank][register]
            self._contradicted.add((bank, register))

    def reading(self, time: str | None = None) -> RegisterReading:
        values = {bank: found for bank, found in self.values.items() if found}
        if not values:
            reason = self.problems[0].message if self.problems else "no register value in it"
            raise ParseError(self.source, 0, "registers", reason=reason)
        return RegisterReading(self.source, values, time, tuple(self.problems))


def read_registers(
    data: bytes, *, source: str, selections: Sequence[PcrSelection] | None = None
) -> RegisterReading:
    """Read register values, telling the format by the content.

    Formats: the text of ``tpm2_pcrread`` (banks in any case, values with or without ``0x``, also quoted);
    JSON as ``{bank: {index: hex}}``, ``{bank: [hex, …]}`` or a
    list of objects with ``bank``, ``index`` and ``value``; the kernel's TPM 1.2 text
    (``PCR-00: 73 2C …``); tpm2-tools' binary files of ``-F serialized`` and ``-F values``.

    Args:
        data: The file.
        source: Its name, for errors and problems.
        selections: What the values are of: only needed for ``-F values``, which are bare digests.
            Take them from the quote.

    Returns:
        The values that are well formed. A value that is not (size, index, contradiction) is left out
        and stands in `RegisterReading.problems`.

    Raises:
        ParseError: No format fits, the file is damaged as a whole, or no value is left.
    """
    if not data:
        raise ParseError(source, 0, "registers", reason="the file is empty")
    if looks_serialized(data):
        return _read_serialized(data, source)
    if selections is not None and len(data) == sum(
        DIGEST_SIZE[item.bank] * len(item.registers) for item in selections
    ):
        return _read_bare(data, source, selections)
    if b"\0" in data:
        hint = "" if selections is not None else "; bare digests can only be read with the quote's selection"
        raise ParseError(source, 0, "registers", reason=f"no format of register values fits{hint}")
    text = decode_text(data, source=source)
    start = text.lstrip()[:1]
    if start and start in "{[":
        return _read_json(data, source)
    return _read_text(text, source)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    offset = 0
    for line in text.split("\n"):
        yield offset, line.rstrip("\r")
        offset += len(line.encode()) + 1


def _read_text(text: str, source: str) -> RegisterReading:
    found, bank = _Collector(source), ""
    for offset, line in _lines(text):
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped == "---":
            continue
        if (match := _VALUE.fullmatch(line)) and bank:
            try:
                value = hex_bytes(match[4], source=source, field=f"{bank}:{match[2]}", offset=offset)
            except ParseError as error:
                found.problem(offset, error.field, error.message)
                continue
            found.add(offset, bank, int(match[2]), value)
        elif match := _SYSFS.fullmatch(line):
            found.add(offset, "sha1", int(match[1]), bytes.fromhex(match[2]))
        elif match := _BANK.fullmatch(line):
            name = match[1].lower()
            bank = name if name in DIGEST_SIZE else ""
            if not bank and name not in _WRAPPERS:
                found.problem(offset, "bank", f"{match[1]} is not a bank known here")
        else:
            found.problem(offset, "line", "neither a bank nor a register and its value")
    return found.reading()


def _read_json(data: bytes, source: str) -> RegisterReading:
    value, time = load_json(data, source=source), None
    if isinstance(value, dict):
        stated = value.get("time")
        time = stated[:64] if isinstance(stated, str) else None
        if value.get("set", "tpm") != "tpm":
            raise ParseError(source, 0, "set", reason="not the registers of a TPM")
        value = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), dict | list)), value)
    found = _Collector(source)
    if isinstance(value, list):
        for position, item in enumerate(value):
            _add_item(found, item, position)
    elif isinstance(value, dict):
        for bank, registers in value.items():
            if bank.lower() in DIGEST_SIZE:
                _add_bank(found, bank.lower(), registers)
            elif isinstance(registers, dict | list):
                found.problem(0, "bank", f"{bank[:40]!r} is not a bank known here")
    return found.reading(time)


def _add_bank(found: _Collector, bank: str, registers: object) -> None:
    if isinstance(registers, list):
        for index, item in enumerate(registers):
            if isinstance(item, dict):
                _add_item(found, item, index, bank)
            elif item is not None:
                _add_hex(found, bank, index, item)
    elif isinstance(registers, dict):
        for index, item in registers.items():
            _add_hex(found, bank, index, item)
    else:
        found.problem(0, bank, "need an object or a list of registers")


def _add_item(found: _Collector, item: object, position: int, bank: str = "") -> None:
    field = f"[{position}]"
    if not isinstance(item, dict):
        found.problem(0, field, "need an object with bank, index and value")
        return

    def first(*names: str) -> object:
        return next((item[name] for name in names if name in item), None)

    index, value = first("index", "register", "pcr", "id"), first("value", "digest")
    if not bank:
        stated = first("bank", "hash", "alg", "algorithm")
        if stated is None and isinstance(value, str):
            # Without a bank the size tells it, among the SHA-1 and SHA-2 banks.
            bank = _BANK_BY_SIZE.get(len(value.removeprefix("0x")) // 2, "")
        elif isinstance(stated, str):
            bank = stated.lower()
    if bank not in DIGEST_SIZE:
        found.problem(0, field, "names no bank known here")
        return
    _add_hex(found, bank, index, value)


def _add_hex(found: _Collector, bank: str, index: object, value: object) -> None:
    number = _index(index)
    if number is None:
        found.problem(0, bank, f"{str(index)[:40]!r} is not a register index")
        return
    try:
        found.add(0, bank, number, hex_bytes(value, source=found.source, field=f"{bank}:{number}"))
    except ParseError as error:
        found.problem(0, error.field, error.message)


def _index(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 4:
        return int(value)
    return None


def looks_serialized(data: bytes) -> bool:
    """Tell tpm2-tools' binary form by its counts, which fit its size."""
    size = len(data) - _DIGESTS_AT - 4
    if size < 0 or size % _DIGEST_BLOCK:
        return False
    count = int.from_bytes(data[:4], "little")
    blocks = int.from_bytes(data[_DIGESTS_AT : _DIGESTS_AT + 4], "little")
    return 1 <= count <= MAX_SELECTIONS and blocks == size // _DIGEST_BLOCK


def _read_serialized(data: bytes, source: str) -> RegisterReading:
    cursor = Cursor(data, source=source)
    count = cursor.u32("pcrSelect.count")
    table = cursor.sub(_DIGESTS_AT - 4, "pcrSelections")
    selections = [
        _selection_slot(table.sub(_SELECTION_SLOT, "pcrSelection"), index) for index in range(count)
    ]
    at = cursor.offset
    blocks = cursor.u32("digests.count")
    if blocks > _MAX_BLOCKS:
        raise ParseError(source, at, "digests.count", _MAX_BLOCKS, blocks, "more than the limit")
    values: list[tuple[int, bytes]] = []
    for number in range(blocks):
        block = cursor.sub(_DIGEST_BLOCK, f"digests[{number}]")
        at = block.offset
        filled = block.u32(f"digests[{number}].count")
        if filled > _DIGEST_SLOTS:
            raise ParseError(
                source, at, f"digests[{number}].count", _DIGEST_SLOTS, filled, "more than the limit"
            )
        for _ in range(filled):
            at = block.offset
            size = block.u16(f"digests[{number}].size")
            if size > _DIGEST_CAPACITY:
                raise ParseError(source, at, f"digests[{number}].size", _DIGEST_CAPACITY, size)
            values.append((at + 2, block.take(_DIGEST_CAPACITY, f"digests[{number}].buffer")[:size]))
    cursor.finish("TPML_DIGEST")
    return _assign(source, selections, values)


def _selection_slot(slot: Cursor, index: int) -> PcrSelection:
    at = slot.offset
    bank = BANK_BY_ALGORITHM.get(slot.u16("hash"))
    if bank is None:
        raise slot.error(f"pcrSelections[{index}].hash", "not a hash algorithm known here", at=at)
    at = slot.offset
    size = slot.u8("sizeofSelect")
    if size > MAX_PCR_SELECT:
        raise slot.error(
            f"pcrSelections[{index}].sizeofSelect", f"{size} is more than {MAX_PCR_SELECT}", at=at
        )
    bits = int.from_bytes(slot.take(size, "pcrSelect"), "little")
    return PcrSelection(bank, tuple(number for number in range(8 * size) if bits >> number & 1))


def _read_bare(data: bytes, source: str, selections: Sequence[PcrSelection]) -> RegisterReading:
    cursor = Cursor(data, source=source)
    values = [
        (cursor.offset, cursor.take(DIGEST_SIZE[item.bank], f"{item.bank}:{register}"))
        for item in selections
        for register in item.registers
    ]
    return _assign(source, selections, values)


def _assign(
    source: str, selections: Sequence[PcrSelection], values: Sequence[tuple[int, bytes]]
) -> RegisterReading:
    wanted = [(item.bank, register) for item in selections for register in item.registers]
    if len(wanted) != len(values):
        raise ParseError(
            source, 0, "digests", len(wanted), len(values), "not as many values as selected registers"
        )
    found = _Collector(source)
    for (bank, register), (offset, value) in zip(wanted, values, strict=True):
        found.add(offset, bank, register, value)
    return found.reading()
