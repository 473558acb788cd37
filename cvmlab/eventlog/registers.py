"""Registers: what each starts from, and what changes that (design, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE
from cvmlab.eventlog.types import EV_EFI_HCRTM_EVENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.model import EventLog

LOCALITY: Final = "locality"
DRTM: Final = "drtm"


@dataclass(frozen=True, slots=True)
class RegisterRule:
    """What one register starts from.

    Attributes:
        fill: Byte that fills the initial value.
        changed_by: ``locality`` where StartupLocality or an H-CRTM event sets the last byte, ``drtm``
            where a dynamic launch resets the register to zeros, else empty.
    """

    fill: int = 0
    changed_by: str = ""


REGISTERS: Final[Mapping[str, Mapping[int, RegisterRule]]] = {
    # TCG PC Client Platform TPM Profile 1.06, table 6: initial values; PFP 1.06, 10.4.5.3
    "tpm": {
        0: RegisterRule(changed_by=LOCALITY),
        **{index: RegisterRule() for index in range(1, 17)},
        **{index: RegisterRule(fill=0xFF, changed_by=DRTM) for index in range(17, 23)},
        23: RegisterRule(),
    },
    # UEFI 2.10, section 38.4.1: MR index 0 is MRTD, 1 to 4 are RTMR 0 to 3
    "cc": {index: RegisterRule() for index in range(5)},
}
"""Every register of each set."""


def initial_value(set_: str, register: int, bank: str, log: EventLog | None = None) -> bytes:
    """Return the value of a register before its first event.

    Args:
        set_: ``tpm`` or ``cc``.
        register: Register index.
        bank: Bank name.
        log: The log of the boot, which may carry a StartupLocality or H-CRTM event or a dynamic launch.

    Raises:
        KeyError: There is no such register or bank.
    """
    rule = REGISTERS[set_][register]
    size = DIGEST_SIZE[bank]
    if rule.changed_by == LOCALITY and log is not None:
        return bytes(size - 1) + bytes([start_of_register_0(log)[0]])
    if rule.changed_by == DRTM and log is not None and drtm_ran(log):
        return bytes(size)
    return bytes([rule.fill]) * size


def start_of_register_0(log: EventLog) -> tuple[int, int]:
    """Return the last byte of PCR 0 before its first event, and the index of the event that says so.

    0 without such an event (index -1), the locality of a StartupLocality event, 4 where an H-CRTM ran.
    """
    measured = next((e for e in log.events if e.type == EV_EFI_HCRTM_EVENT and e.register == 0), None)
    if measured is not None:
        return 4, measured.index
    if log.startup_locality is None:
        return 0, -1
    told = next((e for e in log.events if e.data.startswith(b"StartupLocality\0")), None)
    return log.startup_locality, told.index if told is not None else -1


def drtm_ran(log: EventLog) -> bool:
    """Tell whether the log holds events of a dynamic launch: only one extends PCR 17 to 22."""
    return any(event.extends and 17 <= event.register <= 22 for event in log.events)
