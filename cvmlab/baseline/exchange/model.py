"""What importing and exporting give: the baseline or the files, and what the other side cannot say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import Alternative, Baseline, Policy, RegisterBaseline
from cvmlab.baseline.learn import now, tool_name
from cvmlab.baseline.values import allowed_values
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

MAX_INPUT: Final = 64 << 20
"""Largest file imported, in bytes."""

SIZE_BANK: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
"""The bank that a bare digest is of, by its size in bytes; SM3 is never assumed."""

OPEN: Final = frozenset({"per-machine", "repeatable", "ignored"})
"""Classes of slots whose value or number cannot be listed."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A baseline read from another tool's format.

    Attributes:
        baseline: What could be taken over; possibly one that pins values only, or nothing.
        losses: What the input says that the baseline does not hold, and what it did not say.
    """

    baseline: Baseline
    losses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A baseline written in another tool's format.

    Attributes:
        files: Relative path to contents; one file under the name that is empty where the format is one file.
        losses: What the baseline says that the output does not.
    """

    files: Mapping[str, bytes]
    losses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: Name for the command line.
        title: What it is.
        read: Reads a file or folder; None where the format cannot be read.
        write: Writes a baseline; None where it cannot be written.
        suffix: Usual ending of the file; ``/`` for a folder.
    """

    name: str
    title: str
    read: Callable[[Path, str], Imported] | None
    write: Callable[[Baseline], Exported] | None
    suffix: str


def read_bytes(path: Path) -> bytes:
    """Return the contents of one input.

    Raises:
        BaselineError: It cannot be read, or is larger than `MAX_INPUT`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INPUT + 1)
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_INPUT:
        raise BaselineError(f"{path}: larger than the limit of {MAX_INPUT} bytes")
    return data


def hex_digest(value: object, where: str) -> bytes:
    """Return a digest from hex, with or without ``0x``, of a size that a bank has.

    Raises:
        BaselineError: It is not one.
    """
    if not isinstance(value, str):
        raise BaselineError(f"{where}: need a digest in hex")
    try:
        found = bytes.fromhex(value.strip().lower().removeprefix("0x"))
    except ValueError:
        raise BaselineError(f"{where}: {value[:80]!r} is not hex") from None
    if len(found) not in SIZE_BANK:
        raise BaselineError(f"{where}: {len(found)} bytes are the size of no digest")
    return found


def new_baseline(name: str, registers: Iterable[RegisterBaseline] = (), **more: object) -> Baseline:
    """Return an imported baseline: no sources, for no boot of it was seen."""
    ordered = tuple(sorted(registers, key=lambda r: (r.set, r.register)))
    base = Baseline(name, now(), tool_name(), (), ordered, None, Policy(debugging=True))
    return replace(base, **more)  # type: ignore[arg-type]


def by_values(values: Mapping[int, Iterable[Mapping[str, bytes]]], what: str) -> list[RegisterBaseline]:
    """Return registers pinned by value.

    Args:
        values: Register to its values, each in one or more banks.
        what: Where they are from, for people.
    """
    return [
        RegisterBaseline(
            "tpm", register, (), values=tuple(Alternative(dict(value), what) for value in listed)
        )
        for register, listed in sorted(values.items())
    ]


def views(baseline: Baseline) -> list[tuple[str, Baseline]]:
    """Return (cohort, what its boots must meet) for every cohort; one unnamed view where there are none."""
    if not baseline.cohorts:
        return [("", baseline)]
    return [(cohort.name, baseline.of_cohort(cohort)) for cohort in baseline.cohorts]


def listed_values(baseline: Baseline, losses: list[str]) -> dict[int, dict[str, tuple[bytes, ...]]]:
    """Return the final values that each TPM register may have, over all cohorts.

    Registers whose values cannot be listed are left out and named in `losses`; so is what values lose.
    """
    found: dict[int, dict[str, dict[bytes, None]]] = {}
    open_: dict[int, str] = {}
    if any(r.set != "tpm" for r in baseline.every_register()):
        losses.append("registers of the set cc (RTMRs) have no place in it")
    for _, view in views(baseline):
        for pinned in view.registers:
            if pinned.set != "tpm":
                continue
            banks = sorted(pinned.whole_banks or set(baseline.banks))
            listed = {bank: values for bank in banks if (values := allowed_values(pinned, bank))}
            into = found.setdefault(pinned.register, {bank: {} for bank in listed})
            # a bank that not every cohort can list would refuse the boots of those that cannot
            for bank in [bank for bank in into if bank not in listed]:
                del into[bank]
            for bank in into:
                into[bank].update(dict.fromkeys(listed[bank]))
            if not into:
                open_.setdefault(pinned.register, why_open(pinned))
    for register in open_:
        found.pop(register, None)
    losses += [f"register {register} is left out: {why}" for register, why in sorted(open_.items())]
    if baseline.cohorts:
        losses.append("that values of one cohort belong together: values of any cohort may be mixed")
    return {
        register: {bank: tuple(values) for bank, values in banks.items()}
        for register, banks in sorted(found.items())
    }


def why_open(pinned: RegisterBaseline) -> str:
    """Say why the values of a register cannot be listed."""
    if not pinned.complete:
        return "only some of its events are known"
    classes = sorted({slot.slot_class for slot in pinned.slots} & OPEN)
    return f"it has {' and '.join(classes)} slots" if classes else "its slots allow too many values to list"


def common_losses(baseline: Baseline, *, files: bool = False, policy: bool = False) -> list[str]:
    """Return what every format of registers alone loses."""
    lost = []
    if not policy and baseline.policy != Policy(debugging=True):
        lost.append("the policy (Secure Boot, debugging, revocations, SBAT level, banks)")
    if not files and baseline.files is not None:
        lost.append(f"the set of {len(baseline.files)} runtime files")
    if baseline.modules is not None or baseline.module_signers or (baseline.file_signers and not files):
        lost.append("signer rules and modules")
    if baseline.history or baseline.sources:
        lost.append("sources, history and signatures")
    return lost
