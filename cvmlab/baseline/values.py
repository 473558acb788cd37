"""The register values that slots allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE, available, extend
from cvmlab.eventlog.registers import REGISTERS

if TYPE_CHECKING:
    from cvmlab.baseline.document import RegisterBaseline

MAX_VALUES: Final = 64
"""Most register values that the slots of one register are unfolded to."""


def allowed_values(pinned: RegisterBaseline, bank: str) -> tuple[bytes, ...]:
    """Unfold the slots of a register into the values they allow.

    Returns:
        At most `MAX_VALUES` values, those that the register lists first; of the slots none where one is
        open (per-machine, repeatable, ignored), lacks a digest of the bank, or where there would be more.
    """
    listed = tuple(dict.fromkeys(v.digests[bank] for v in pinned.values if bank in v.digests))[:MAX_VALUES]
    return listed if pinned.by_value else tuple(dict.fromkeys((*listed, *_unfolded(pinned, bank))))


def _unfolded(pinned: RegisterBaseline, bank: str) -> tuple[bytes, ...]:
    if not available(bank) or not pinned.complete:
        return ()
    rule = REGISTERS[pinned.set][pinned.register]
    size = DIGEST_SIZE[bank]
    start = bytes([rule.fill]) * size
    if pinned.locality:
        start = bytes(size - 1) + bytes([pinned.locality])
    elif rule.changed_by == "drtm" and pinned.slots:
        start = bytes(size)
    values = [start]
    for slot in pinned.slots:
        if slot.slot_class in ("per-machine", "repeatable", "ignored"):
            return ()
        digests = [a.digests[bank] for a in slot.alternatives if bank in a.digests]
        if len(digests) != len(slot.alternatives):
            return ()
        new = [extend(bank, value, item) for value in values for item in digests]
        values = list(dict.fromkeys((*values, *new) if slot.slot_class == "optional" else new))
        if len(values) > MAX_VALUES:
            return ()
    return tuple(values)
