"""What a quoted register value says where no log explains it.

A register's value is a chain of hashes, so a sequence of public measurements that gives exactly the quoted
value is what was measured: no other can be found. The measurements are data
(``known_measurements.toml``); this module knows only in which order a register's writers extend it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE, available, digest, extend
from cvmlab.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cvmlab.trust.assess import Assessment

SEPARATOR: Final = "the firmware closed the register"
_SEPARATOR_DATA: Final = bytes(4)
_SHIM_GUID: Final = bytes.fromhex("50ab5d60 46e0 0043 abb6 3dd810dd8b23")
_LAST_BOOT_REGISTER: Final = 14
MAX_STATES: Final = 400_000
"""Most sequences tried for one value."""

# (step, fewest, most) in boot order (TCG PFP 1.06, section 3.3.4.8; rhboot/shim, mok.c and shim.c)
_ORDER: Final[Mapping[int, tuple[tuple[str, int, int], ...]]] = {
    7: (
        ("secure-boot", 1, 1),
        ("platform-key", 1, 1),
        ("key-exchange-keys", 1, 1),
        ("signature-database", 1, 1),
        ("revocation-list", 1, 1),
        ("separator", 1, 1),
        ("authority", 0, 2),
        ("sbat", 0, 1),
        ("shim-state", 0, 1),
        ("vendor", 0, 2),
    ),
    12: (("snap", 1, 3),),
    14: (("mok-list", 1, 1), ("mok-list-x", 0, 1), ("mok-list-trusted", 0, 1)),
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One public measurement: what was measured, its digest, and the cause it is reason for, if any."""

    what: str
    digest: bytes
    shows: str = ""


@dataclass(frozen=True, slots=True)
class KnownValue:
    """A register value with the measurements that give it.

    Attributes:
        register: PCR index.
        bank: Bank name.
        value: The value.
        steps: What was measured, in order; one sentence for a register that nothing or only the separator
            was extended into.
        shows: Cause codes that the measurements alone are reason for.
    """

    register: int
    bank: str
    value: bytes
    steps: tuple[str, ...]
    shows: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The steps as one sentence."""
        return "; then ".join(self.steps)


@lru_cache(maxsize=4096)
def explain_value(register: int, bank: str, value: bytes) -> KnownValue | None:
    """Say which public measurements give a register value.

    Args:
        register: PCR index, 0 to 23.
        bank: Bank name, see `cvmlab.banks`.
        value: The value, as quoted.

    Returns:
        The measurements; None where no known sequence gives the value.
    """
    if not available(bank) or len(value) != DIGEST_SIZE[bank]:
        return None
    if not any(value):
        return KnownValue(register, bank, value, ("nothing was extended into it",))
    if set(value) == {0xFF} and 17 <= register <= 22:
        return KnownValue(register, bank, value, ("no dynamic launch took place",))
    zero = bytes(len(value))
    if register <= 7 and value == extend(bank, zero, digest(bank, _SEPARATOR_DATA)):
        return KnownValue(register, bank, value, (f"nothing was measured before {SEPARATOR}",))
    order = _ORDER.get(register)
    if order is None:
        return None
    known = _measurements(bank)
    budget = MAX_STATES
    for at, steps in _sequences(bank, zero, order, known.get(register, {})):
        budget -= 1
        if at == value:
            shows = tuple(dict.fromkeys(step.shows for step in steps if step.shows))
            return KnownValue(register, bank, value, tuple(step.what for step in steps), shows)
        if budget <= 0:
            break
    return None


def _sequences(
    bank: str,
    value: bytes,
    order: tuple[tuple[str, int, int], ...],
    known: Mapping[str, tuple[Measurement, ...]],
) -> Iterator[tuple[bytes, tuple[Measurement, ...]]]:
    """Every sequence that the order of the register allows, with the value it gives."""
    if not order:
        yield value, ()
        return
    (step, fewest, most), rest = order[0], order[1:]
    if fewest == 0:
        yield from _sequences(bank, value, rest, known)
    if most:
        left = ((step, max(fewest - 1, 0), most - 1), *rest)
        for each in known.get(step, ()):
            for end, steps in _sequences(bank, extend(bank, value, each.digest), left, known):
                yield end, (each, *steps)


@cache
def _measurements(bank: str) -> Mapping[int, Mapping[str, tuple[Measurement, ...]]]:
    """The measurements of one bank by register and step; what is known only by another bank is out."""
    text = resources.files("cvmlab.explain").joinpath("known_measurements.toml").read_text("utf-8")
    found: dict[int, dict[str, tuple[Measurement, ...]]] = {}
    for row in tomllib.loads(text)["measurement"]:
        if bank in row:
            value = bytes.fromhex(row[bank])
        elif "sbat" in row:
            value = digest(bank, _sbat_variable(row["sbat"].encode("ascii")))
        elif "data" in row:
            value = digest(bank, row["data"].encode("ascii"))
        else:
            continue
        steps = found.setdefault(row["register"], {})
        each = Measurement(row["what"], value, row.get("shows", ""))
        steps[row["step"]] = (*steps.get(row["step"], ()), each)
    for register, order in _ORDER.items():
        if any(step == "separator" for step, _, _ in order):
            closing = Measurement(SEPARATOR, digest(bank, _SEPARATOR_DATA))
            found.setdefault(register, {})["separator"] = (closing,)
    return found


def _sbat_variable(level: bytes) -> bytes:
    """UEFI_VARIABLE_DATA of SbatLevel, as shim measures it (TCG PFP 1.06, section 10.2.6)."""
    name = "SbatLevel".encode("utf-16-le")
    return (
        _SHIM_GUID + (len(name) // 2).to_bytes(8, "little") + len(level).to_bytes(8, "little") + name + level
    )


def known_values(boot: Assessment) -> tuple[KnownValue, ...]:
    """Explain the quoted values that no log explains, the strongest bank of each register.

    Args:
        boot: The trust chain. Only values that a verified quote vouches for are looked at.
    """
    found: dict[int, KnownValue] = {}
    for state in boot.replay.states:
        if state.set != "tpm" or state.quoted is None or state.status == "matches":
            continue
        if state.register > _LAST_BOOT_REGISTER:
            continue
        known = explain_value(state.register, state.bank, state.quoted)
        if known is not None and state.register not in found:
            found[state.register] = known
    return tuple(found[register] for register in sorted(found))


def known_findings(boot: Assessment, known: tuple[KnownValue, ...]) -> list[Finding]:
    """Findings for what the values alone are reason for, such as Secure Boot that was off."""
    if not boot.believed:
        return []
    return [
        Finding(
            code,
            "policy",
            f"register {value.register} has the value that this gives: {value.sentence}",
            "tpm",
            (value.register,),
            detail={"order": 0, "by_value": True},
        )
        for value in known
        for code in value.shows
    ]
