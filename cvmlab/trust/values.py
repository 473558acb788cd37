"""Which register values a verified quote vouches for (design, section 3, point 3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Final

from cvmlab.banks import available, digest
from cvmlab.errors import VerificationError
from cvmlab.eventlog.ima_replay import IMA_REGISTER, modes, prefix_values
from cvmlab.eventlog.registers import REGISTERS, initial_value
from cvmlab.tpm.attest import quoted_registers
from cvmlab.tpm.quote import pcr_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.ima import ImaList
    from cvmlab.eventlog.model import EventLog
    from cvmlab.evidence.model import Evidence
    from cvmlab.tpm.attest import Attest

Values = dict[str, dict[int, bytes]]
"""Bank to register index to value."""

MAX_PREFIXES: Final = 2_000_000
"""Most IMA prefixes tried for one quote."""


@dataclass(frozen=True, slots=True)
class QuotedValues:
    """Values that hash to a quote's digest, or why none were found.

    Attributes:
        values: Bank to register index to value, exactly the quoted ones; empty where not `found`.
        found: True where the values meet the digest.
        origin: What gave them, for people: a file name, with the IMA prefix where that was needed.
        contradicted: Name of a reading that the quote contradicts; empty where none does.
        why: Why nothing was found; empty where found.
    """

    values: Mapping[str, Mapping[int, bytes]]
    found: bool
    origin: str
    contradicted: str = ""
    why: str = ""


def quoted_values(attest: Attest, hash_name: str, evidence: Evidence) -> QuotedValues:
    """Find the register values that a quote covers.

    Readings are tried first as they are; then with register 10 replaced by every prefix of the IMA
    list, because that register moves between quote and reading. Where there is no reading at all, the
    replay of the log may give the values: what hashes to the signed digest is what was quoted.

    Args:
        attest: A quote whose signature was verified.
        hash_name: Hash of the signing scheme.
        evidence: The claims.

    Returns:
        The values. A reading that the quote contradicts is named even where replay gives the values.
    """
    wanted = sorted(quoted_registers(attest))
    partial: list[str] = []
    contradicted = ""
    for reading in evidence.readings:
        missing = [f"{b}:{r}" for b, r in wanted if r not in reading.values.get(b, {})]
        only_ima = missing and all(m.endswith(f":{IMA_REGISTER}") for m in missing)
        if missing and not only_ima:
            partial.append(f"{reading.source} lacks {', '.join(missing[:6])}")
            continue
        base = {bank: dict(values) for bank, values in reading.values.items()}
        if not missing and _meets(attest, hash_name, base):
            return QuotedValues(_only(base, wanted), True, reading.source)
        if (match := _with_ima(attest, hash_name, base, evidence)) is not None:
            ima, count, values = match
            origin = f"{reading.source}, register {IMA_REGISTER} after entry {count} of {ima.source}"
            return QuotedValues(_only(values, wanted), True, origin)
        if not missing:
            contradicted = contradicted or reading.source
    for log in evidence.logs:
        replayed = _replayed(log, wanted)
        if replayed is None:
            continue
        origin = f"replay of {log.source}"
        if _meets(attest, hash_name, replayed):
            return QuotedValues(_only(replayed, wanted), True, origin, contradicted)
        if (match := _with_ima(attest, hash_name, replayed, evidence)) is not None:
            ima, count, values = match
            found = f"{origin} and of {ima.source} up to entry {count}"
            return QuotedValues(_only(values, wanted), True, found, contradicted)
    if contradicted:
        why = f"the register values in {contradicted} do not hash to the digest that the quote signs"
    else:
        why = "; ".join(partial) or "there are no register values (pcrs.yaml, pcrs.json or pcrs.bin)"
    return QuotedValues({}, False, "", contradicted, why)


def _meets(attest: Attest, hash_name: str, values: Mapping[str, Mapping[int, bytes]]) -> bool:
    try:
        return pcr_digest(attest.selections, values, hash_name) == attest.pcr_digest
    except (KeyError, ValueError, VerificationError):
        return False


def _only(values: Mapping[str, Mapping[int, bytes]], wanted: list[tuple[str, int]]) -> Values:
    found: Values = {}
    for bank, register in wanted:
        found.setdefault(bank, {})[register] = values[bank][register]
    return found


def _with_ima(
    attest: Attest, hash_name: str, base: Values, evidence: Evidence
) -> tuple[ImaList, int, Values] | None:
    """Find the prefix of an IMA list whose register 10 makes `base` meet the digest, in every bank quoted.

    Only register 10 differs from one prefix to the next, so the other values are laid out once: a server
    lists a hundred thousand entries.
    """
    banks = sorted({bank for bank, register in quoted_registers(attest) if register == IMA_REGISTER})
    if not banks or not all(available(name) for name in (*banks, hash_name)):
        return None
    parts: list[bytes] = []
    places: list[tuple[int, int]] = []
    for item in attest.selections:
        for register in item.registers:
            if register == IMA_REGISTER:
                places.append((len(parts), banks.index(item.bank)))
            elif register not in base.get(item.bank, {}):
                return None
            parts.append(base.get(item.bank, {}).get(register, b""))
    budget = MAX_PREFIXES
    for ima in evidence.ima:
        for choice in product(*(modes(ima, bank) for bank in banks)):
            prefixes = [prefix_values(ima, bank, mode) for bank, mode in zip(banks, choice, strict=True)]
            for step in islice(zip(*prefixes, strict=False), budget):
                budget -= 1
                for place, bank in places:
                    parts[place] = step[bank][1]
                if digest(hash_name, b"".join(parts)) == attest.pcr_digest:
                    values = {name: dict(registers) for name, registers in base.items()}
                    for name, (_, value) in zip(banks, step, strict=True):
                        values.setdefault(name, {})[IMA_REGISTER] = value
                    return ima, step[0][0], values
    return None


def _replayed(log: EventLog, wanted: list[tuple[str, int]]) -> Values | None:
    """The values that the log's replay gives for the quoted registers, initial values where it is silent."""
    if log.set != "tpm" or not log.events or any(register not in REGISTERS["tpm"] for _, register in wanted):
        return None
    replayed = log.replay()
    values: Values = {}
    for bank, register in wanted:
        if bank not in replayed and bank not in log.banks:
            return None
        value = replayed.get(bank, {}).get(register)
        values.setdefault(bank, {})[register] = (
            value if value is not None else initial_value(log.set, register, bank, log)
        )
    return values
