"""The baseline document ``cvmlab.baseline/1``: what it holds (design, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = "cvmlab.baseline/1"
SlotClass = Literal["fixed", "one-of", "per-machine", "optional", "repeatable", "ignored"]
CLASSES: Final = ("fixed", "one-of", "per-machine", "optional", "repeatable", "ignored")

MAX_DATA: Final = 64 << 10
"""Largest event data kept for decoded differences, in bytes."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One event that a slot allows.

    Attributes:
        digests: Bank to digest; only banks that the sources' quotes covered.
        summary: One line for people; a label, not a criterion.
        data: Hex SHA-256 of the event data in `Baseline.data`; empty where the data are not kept.
        sources: Indices of the sources that had it.
    """

    digests: Mapping[str, bytes]
    summary: str = ""
    data: str = ""
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in the sequence of a register's events.

    Attributes:
        slot_class: ``fixed`` (one alternative), ``one-of``, ``per-machine`` (pinned only for the machines
            it was learned from), ``optional``, ``repeatable`` (once or more) or ``ignored``.
        alternatives: What is allowed there; at least one.
        type: Event type name; a label.
        producer: Who writes such events; a label.
        kind: What it is about; a label.
        name: What tells it apart; a label.
        phase: ``before`` or ``after`` the separator.
        order: Position in boot order, of the event in the boot it was first learned from.
    """

    slot_class: SlotClass
    alternatives: tuple[Alternative, ...]
    type: str
    producer: str
    kind: str
    name: str
    phase: str
    order: int = 0

    @property
    def label(self) -> tuple[str, str, str]:
        """Kind, name and phase: what slots and events are paired by where digests differ."""
        return self.kind, self.name, self.phase


@dataclass(frozen=True, slots=True)
class RegisterBaseline:
    """The slots of one register.

    Attributes:
        set: Register set.
        register: Register index.
        slots: In order.
        locality: Startup locality of the boots, for PCR 0 (0 where none was logged).
    """

    set: str
    register: int
    slots: tuple[Slot, ...]
    locality: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """One evidence that the baseline was learned from.

    Attributes:
        machine: Name of the machine, as the evidence gave it.
        evidence: Hash of the evidence.
        unchecked: Links of the trust chain that were not checked when it was learned.
        learned: ISO 8601 time.
        ak_name: Hex TPM name of the attestation key; empty where unknown.
        ek_spki_sha256: Hex SHA-256 of the endorsement key; empty where unknown.
    """

    machine: str
    evidence: str
    unchecked: tuple[str, ...]
    learned: str
    ak_name: str = ""
    ek_spki_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules beside the slots. None and empty mean: no rule.

    Attributes:
        secure_boot: What Secure Boot must be; None for either.
        debugging: False forbids firmware and kernel debugging.
        required_registers: PCRs that a verified quote must cover; all pinned ones where None.
        required_bank: Bank that a verified quote must cover, or a stronger one.
        authorities: Hex SHA-256 of the certificates that may vouch for boot components; None for any.
        sbat_level: Lowest SBAT generation by component.
        revocation_list: Hex SHA-256 of the revocation list's data whose entries must all be present.
        pinned_machines: True where only the machines of `Baseline.sources` may use the baseline.
    """

    secure_boot: bool | None = None
    debugging: bool = False
    required_registers: tuple[int, ...] | None = None
    required_bank: str = ""
    authorities: tuple[str, ...] | None = None
    sbat_level: Mapping[str, int] = field(default_factory=dict)
    revocation_list: str = ""
    pinned_machines: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted change: who, when, why, from which evidence."""

    who: str
    when: str
    why: str
    evidence: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline.

    Attributes:
        name: Name for people.
        created: ISO 8601 time.
        tool: Program and version that wrote it.
        sources: Evidences it was learned from.
        registers: Pinned registers, ascending.
        files: IMA set: path to allowed ``algorithm:hex`` digests; None where no IMA list was learned.
        policy: Rules beside the slots.
        history: Accepted changes, oldest first.
        data: Hex SHA-256 to event data, for decoded differences.
    """

    name: str
    created: str
    tool: str
    sources: tuple[Source, ...]
    registers: tuple[RegisterBaseline, ...]
    files: Mapping[str, frozenset[str]] | None
    policy: Policy
    history: tuple[Change, ...] = ()
    data: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def banks(self) -> tuple[str, ...]:
        """Banks in which at least one slot is pinned, the strongest first."""
        from cvmlab.banks import STRONGEST_FIRST

        found = {
            bank
            for register in self.registers
            for slot in register.slots
            for alternative in slot.alternatives
            for bank in alternative.digests
        }
        return tuple(bank for bank in STRONGEST_FIRST if bank in found)

    @property
    def pins(self) -> int:
        """How many slots decide anything: not ignored, and with a digest."""
        return sum(
            slot.slot_class != "ignored" and any(alternative.digests for alternative in slot.alternatives)
            for register in self.registers
            for slot in register.slots
        )

    def register(self, set_: str, index: int) -> RegisterBaseline | None:
        """Return one register, or None where the baseline does not pin it."""
        return next((r for r in self.registers if r.set == set_ and r.register == index), None)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.baseline.show import baseline_view
        from cvmlab.view import mimebundle

        return mimebundle(baseline_view(self))


def load_baseline(path: str | Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: It cannot be read, or is not a baseline; the message names the place.
    """
    from cvmlab.baseline.exchange import baseline_from_json

    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{source}: the baseline cannot be read: {error}") from error
    return baseline_from_json(text, source=str(source))


def save_baseline(baseline: Baseline, path: str | Path) -> None:
    """Write a baseline: JSON with sorted keys, one line a digest, so that a change can be reviewed.

    Raises:
        BaselineError: It cannot be written.
    """
    from cvmlab.baseline.exchange import baseline_to_json

    target = Path(path)
    temporary = target.with_name(target.name + ".part")
    try:
        temporary.write_text(baseline_to_json(baseline), encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise BaselineError(f"{target}: the baseline cannot be written: {error}") from error
