"""Golden lists of register values: text of ``tpm2_pcrread``, JSON, Keylime's TPM policy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document_reader import read_json
from cvmlab.baseline.exchange.model import (
    SIZE_BANK,
    Exported,
    Imported,
    by_values,
    common_losses,
    hex_digest,
    listed_values,
    new_baseline,
    read_bytes,
)
from cvmlab.errors import BaselineError, ParseError
from cvmlab.eventlog.registers import REGISTERS
from cvmlab.tpm.pcrs import read_registers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cvmlab.baseline.document import Baseline

_REGISTER: Final = re.compile(r"(?:pcr[-_ ]?)?(\d{1,2})", re.IGNORECASE)
MAX_LISTED: Final = 4096
"""Most values of one register."""

VALUES_ONLY: Final = (
    "values say nothing of single events: a difference names the register and not what changed, and an "
    "update of one component needs a new value"
)
Values = dict[int, list[dict[str, bytes]]]


def read_golden(path: Path, name: str) -> Imported:
    """Read a golden list; its form is told by the content.

    Raises:
        BaselineError: No form fits, or a value is not one.
    """
    data = read_bytes(path)
    losses = [VALUES_ONLY]
    found: Values = {}
    start = data.lstrip()[:1]
    value = read_json(data.decode("utf-8", "replace"), str(path)) if start in (b"{", b"[") else None
    if isinstance(value, dict) and _by_register(value):
        found = _registers(value, str(path), losses)
    elif isinstance(value, dict) and all(
        isinstance(banks, dict) and any(isinstance(x, list) for x in banks.values())
        for banks in value.values()
    ):
        found = _banks(value, str(path))
    else:
        found = _readings(data, str(path), losses)
    if not found:
        raise BaselineError(f"{path}: there is no register value in it")
    if 10 in found:
        losses.append(
            "register 10 goes on changing where IMA measures: pinned by value it matches one moment"
        )
    return Imported(new_baseline(name, by_values(found, "golden value")), tuple(losses))


def _by_register(value: Mapping[str, object]) -> bool:
    return any(_REGISTER.fullmatch(key) for key in value)


def _index(key: str, where: str) -> int:
    found = _REGISTER.fullmatch(key)
    if found is None or int(found[1]) not in REGISTERS["tpm"]:
        raise BaselineError(f"{where}: {key[:40]!r} is no register")
    return int(found[1])


def _registers(value: Mapping[str, object], where: str, losses: list[str]) -> Values:
    """``{register: hex | [hex, …]}``; with ``mask`` it is Keylime's TPM policy."""
    found: Values = {}
    for key, item in value.items():
        if key == "mask":
            _check_mask(item, value, where, losses)
            continue
        register = _index(key, where)
        listed = item if isinstance(item, list) else [item]
        if not 0 < len(listed) <= MAX_LISTED:
            raise BaselineError(f"{where}: register {register}: need 1 to {MAX_LISTED} values")
        for one in listed:
            digest = hex_digest(one, f"{where}: register {register}")
            found.setdefault(register, []).append({SIZE_BANK[len(digest)]: digest})
    return found


def _check_mask(mask: object, value: Mapping[str, object], where: str, losses: list[str]) -> None:
    try:
        bits = int(mask, 16) if isinstance(mask, str) else mask
    except ValueError:
        bits = None
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 <= bits < 1 << 24:
        raise BaselineError(f"{where}: mask: {str(mask)[:40]!r} is no mask of registers")
    listed = {_index(key, where) for key in value if key != "mask"}
    only_quoted = sorted(
        register for register in range(24) if bits >> register & 1 and register not in listed
    )
    if only_quoted:
        losses.append(
            f"registers {', '.join(map(str, only_quoted))} are quoted by the mask, and no value is given"
        )


def _banks(value: Mapping[str, object], where: str) -> Values:
    """``{bank: {register: hex | [hex, …]}}``."""
    found: Values = {}
    for bank, registers in value.items():
        if bank not in SIZE_BANK.values() or not isinstance(registers, dict):
            raise BaselineError(f"{where}: {bank[:40]!r} is no bank known here")
        for key, item in registers.items():
            register = _index(key, where)
            listed = item if isinstance(item, list) else [item]
            if len(listed) > MAX_LISTED:
                raise BaselineError(f"{where}: register {register}: more than {MAX_LISTED} values")
            for one in listed:
                digest = hex_digest(one, f"{where}: {bank} {register}")
                if SIZE_BANK[len(digest)] != bank:
                    raise BaselineError(f"{where}: {bank} {register}: {len(digest)} bytes are no {bank}")
                found.setdefault(register, []).append({bank: digest})
    return found


def _readings(data: bytes, where: str, losses: list[str]) -> Values:
    """One reading, as of ``tpm2_pcrread``: the banks of a register belong together."""
    try:
        reading = read_registers(data, source=where)
    except ParseError as error:
        raise BaselineError(str(error)) from error
    losses += [f"not read: {problem}" for problem in reading.problems]
    found: dict[int, dict[str, bytes]] = {}
    for bank, values in reading.values.items():
        for register, value in values.items():
            if register in REGISTERS["tpm"]:
                found.setdefault(register, {})[bank] = value
    return {register: [banks] for register, banks in found.items()}


def write_json(baseline: Baseline) -> Exported:
    """Write ``{bank: {register: [hex, …]}}``."""
    losses = common_losses(baseline)
    banks: dict[str, dict[str, list[str]]] = {}
    for register, values in listed_values(baseline, losses).items():
        for bank, listed in values.items():
            banks.setdefault(bank, {})[str(register)] = [value.hex() for value in listed]
    text = json.dumps({bank: banks[bank] for bank in sorted(banks)}, indent=1) + "\n"
    return Exported({"": text.encode()}, (*losses, VALUES_ONLY))


def write_pcrread(baseline: Baseline) -> Exported:
    """Write the text of ``tpm2_pcrread``: one value a register, so registers that may differ are left out."""
    losses = common_losses(baseline)
    banks: dict[str, dict[int, bytes]] = {}
    several = []
    for register, values in listed_values(baseline, losses).items():
        if any(len(listed) != 1 for listed in values.values()):
            several.append(register)
            continue
        for bank, listed in values.items():
            banks.setdefault(bank, {})[register] = listed[0]
    if several:
        listed_text = ", ".join(map(str, several))
        losses.append(f"registers {listed_text} may have several values, and the form holds one: left out")
    lines = []
    for bank in sorted(banks):
        lines.append(f"  {bank}:")
        lines += [
            f"    {register:<2}: 0x{value.hex().upper()}" for register, value in sorted(banks[bank].items())
        ]
    return Exported({"": ("\n".join(lines) + "\n").encode()}, (*losses, VALUES_ONLY))


def write_tpm_policy(baseline: Baseline) -> Exported:
    """Write Keylime's TPM policy: registers with the values allowed, and the mask of what to quote."""
    losses = common_losses(baseline)
    policy: dict[str, object] = {}
    mask = 0
    for register, values in listed_values(baseline, losses).items():
        if register in (10, 16):
            losses.append(f"register {register}: Keylime uses it for its own purposes and refuses a value")
            continue
        mask |= 1 << register
        policy[str(register)] = [value.hex() for bank in sorted(values) for value in values[bank]]
    text = json.dumps({**policy, "mask": hex(mask)}, indent=1) + "\n"
    return Exported({"": text.encode()}, (*losses, VALUES_ONLY))
