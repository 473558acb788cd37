"""What a baseline pins, what it leaves open, and what an attacker could change unseen, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import RESETTABLE
from cvmlab.eventlog.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.baseline.document import Baseline, RegisterBaseline, Slot

MEASURES: Final[Mapping[str, Mapping[int, str]]] = {
    # TCG PC Client PFP 1.06, section 3.3.4; UAPI Linux TPM PCR Registry for 8 to 15
    "tpm": {
        0: "firmware code",
        1: "firmware configuration and boot order",
        2: "option ROM and driver code",
        3: "configuration of option ROMs and drivers",
        4: "boot loader and whatever else firmware started",
        5: "boot loader configuration and partition table",
        6: "what the machine's maker measures",
        7: "Secure Boot state and keys",
        8: "GRUB commands and kernel command line",
        9: "files that the boot loader read: kernel and initial RAM disk",
        10: "files that Linux ran (IMA)",
        11: "unified kernel image and phases of the boot",
        12: "kernel command line and credentials beside a unified kernel image; Windows' boot settings",
        13: "system extensions; Windows' boot modules",
        14: "machine owner keys (MOK) of shim",
        15: "machine identity and disk keys of systemd",
    },
    # UEFI 2.10, section 38.4.1
    "cc": {
        0: "initial memory of the trust domain",
        1: "firmware configuration, Secure Boot state and keys",
        2: "boot loader, kernel and what firmware started",
        3: "what the operating system measures",
        4: "what applications measure",
    },
}
"""What each register is of, by convention."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The coverage of a baseline.

    Attributes:
        slots: How many slots and listed values there are.
        pinned: How many of them decide on every machine.
        registers: How many registers decide anything.
        pins: What is pinned, one sentence a register.
        open: What is left open on purpose.
        unseen: What an attacker could change without being seen by this baseline.
    """

    slots: int
    pinned: int
    registers: int
    pins: tuple[str, ...]
    open: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def share(self) -> float:
        """Pinned slots of all slots, 0 to 1."""
        return self.pinned / self.slots if self.slots else 0.0


def coverage(baseline: Baseline) -> Coverage:
    """Return what a baseline covers."""
    slots = pinned = 0
    pins: list[str] = []
    open_: list[str] = []
    unseen: list[str] = []
    deciding = set()
    for register in baseline.every_register():
        strict = sum(_strict(slot) for slot in register.slots) if register.pins else 0
        values = len(register.values) if register.by_value else 0
        slots += len(register.slots) + values
        pinned += strict + (values if register.pins else 0)
        if register.pins:
            deciding.add((register.set, register.register))
        pins += _pins(register, strict)
        open_ += _open(register)
        unseen += _unseen(register)
    present = {(r.set, r.register) for r in baseline.every_register()}
    sets = {set_ for set_, _ in present} or {"tpm"}
    for set_ in sorted(sets):
        for index, what in MEASURES[set_].items():
            files = (set_, index) == ("tpm", 10) and baseline.files is not None
            if (set_, index) not in present and not files:
                unseen.append(f"Register {index} is not pinned: {what}.")
    unseen += _rules(baseline)
    return Coverage(slots, pinned, len(deciding), tuple(pins), tuple(dict.fromkeys(open_)), tuple(unseen))


def _strict(slot: Slot) -> bool:
    return slot.slot_class in ("fixed", "one-of", "repeatable") and any(a.digests for a in slot.alternatives)


def _pins(register: RegisterBaseline, strict: int) -> list[str]:
    if not register.pins and register.slots:
        return []
    name = f"Register {register.register}"
    what = MEASURES.get(register.set, {}).get(register.register, "no common use")
    if register.by_value:
        return [f"{name}: its final value, one of {len(register.values)} ({what})."]
    if not register.slots:
        return [f"{name}: nothing may be extended into it ({what})."]
    return [f"{name}: {strict} of {len(register.slots)} events ({what})."]


def _open(register: RegisterBaseline) -> list[str]:
    found = []
    words = {
        "one-of": "one of several values",
        "per-machine": "pinned for learned machines, any on others",
        "optional": "may be missing",
        "repeatable": "may repeat",
        "ignored": "anything",
    }
    for slot_class, how in words.items():
        kinds = Counter(slot.kind for slot in register.slots if slot.slot_class == slot_class)
        found += [
            f"Register {register.register}: {_count(kind, number)}: {how}." for kind, number in kinds.items()
        ]
    return found


def _unseen(register: RegisterBaseline) -> list[str]:
    name = f"register {register.register}"
    if (register.set, register.register) in RESETTABLE:
        return [f"Everything in {name}: software may reset it, so it decides nothing."]
    found = []
    for slot_class, how in (
        ("ignored", "could be anything, on every machine"),
        ("per-machine", "could be anything on a machine that was not learned"),
        ("optional", "could be left out"),
        ("repeatable", "could be measured more than once"),
    ):
        kinds = Counter(slot.kind for slot in register.slots if slot.slot_class == slot_class)
        found += [f"{_count(kind, number)} in {name} {how}." for kind, number in kinds.items()]
    mixed = sum(slot.slot_class == "one-of" for slot in register.slots)
    if mixed > 1:
        found.append(f"The values of {mixed} events in {name} could be mixed among those that were seen.")
    if not register.complete:
        found.append(f"Other events in {name}: only some are named, so it never matches.")
    if set(register.banks) == {"sha1"}:
        found.append(f"Anything in {name} whose SHA-1 collides: it is pinned in no stronger bank.")
    return found


def _count(kind: str, number: int) -> str:
    label = KINDS.get(kind, kind)
    return f"{label} ({kind})" if number == 1 else f"{label} ({kind}, {number} slots)"


def _rules(baseline: Baseline) -> list[str]:
    policy = baseline.policy
    found = []
    if baseline.files is None:
        found.append("Programs that run after the boot: no runtime files (IMA) are listed.")
    if policy.secure_boot is None:
        found.append("Secure Boot: no rule says that it must be on; only slots of register 7 can tell.")
    if policy.debugging:
        found.append("Debugging of firmware or kernel: the policy allows it.")
    if not policy.required_bank:
        found.append("The bank of the quote: no rule names one that must be covered.")
    if policy.required_registers is not None:
        required = frozenset(policy.required_registers)
        if missing := sorted({r.register for r in baseline.every_register() if r.pins} - required):
            listed = ", ".join(map(str, missing))
            found.append(f"Registers {listed}: pinned, and the policy does not ask for a quote of them.")
    if not policy.hardware_report:
        found.append("The host: no processor's report is asked for, so nothing but the TPM vouches.")
    if not policy.pinned_machines:
        found.append("The machine: another one that boots the same way would pass too.")
    return found
