"""Is the quoted vTPM that of the machine which the hardware report names?

Azure's firmware measures the VM's unique id into PCR 6: the digest of the text ``UUID: `` and the id in upper
case, then the separator. The runtime claims that the hardware report binds hold the same id, so a quote of
another VM's vTPM shows here even where the key's own proof is missing (measured on every confidential VM that
was seen: facts on Azure, section A.7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import STRONGEST_FIRST, available, digest, extend
from cvmlab.findings import Finding
from cvmlab.tee.hcl import HclReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.model import EventLog
    from cvmlab.evidence.model import Evidence

IDENTITY_REGISTER: Final = 6
_ID: Final = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")
_SEPARATOR: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class IdentityCheck:
    """What register 6 says of the VM's identity.

    Attributes:
        status: ``holds``, ``broken`` or ``not-checked``.
        why: One sentence.
    """

    status: Literal["holds", "broken", "not-checked"]
    why: str


def vm_unique_id(evidence: Evidence) -> str:
    """Return the id of the runtime claims of the evidence's HCL report; empty where there is none.

    Only of a report with a hardware report in it: without one nothing binds the claims.
    """
    for claim in evidence.hardware:
        if isinstance(claim.report, HclReport) and claim.report.hardware is not None:
            found = claim.report.configuration().get("vmUniqueId")
            if isinstance(found, str) and found.strip("0-"):
                return found[:64]
    return ""


def identity_value(vm_unique_id: str, bank: str) -> bytes:
    """Return the value that PCR 6 has on Azure for a VM's unique id.

    Args:
        vm_unique_id: The id as text with dashes, in either case.
        bank: Bank name, see `cvmlab.banks`.

    Raises:
        ValueError: The id is none, or the bank cannot be computed here.
    """
    text = vm_unique_id.strip().upper()
    if not _ID.fullmatch(text):
        raise ValueError(f"{vm_unique_id!r} is no VM id: need 8-4-4-4-12 hex digits")
    empty = bytes(len(digest(bank, b"")))
    value = extend(bank, empty, digest(bank, f"UUID: {text}".encode("ascii")))
    return extend(bank, value, digest(bank, _SEPARATOR))


def check_identity(
    vm_unique_id: str, quoted: Mapping[tuple[int, str], bytes], log: EventLog | None
) -> IdentityCheck:
    """Compare a VM's unique id with the quoted register 6.

    Args:
        vm_unique_id: The id of the runtime claims that a hardware report binds.
        quoted: (register, bank) to value, from verified quotes only.
        log: The boot event log, for the id that the firmware measured instead; or None.

    Returns:
        ``holds`` where the register has the value of this id; ``broken`` where it has another;
        ``not-checked`` where it is not quoted, was never extended with an id, or the id is none.
    """
    banks = [b for b in STRONGEST_FIRST if (IDENTITY_REGISTER, b) in quoted and available(b)]
    if not banks:
        return IdentityCheck("not-checked", "no verified quote covers register 6, which names the VM")
    value, bank = quoted[IDENTITY_REGISTER, banks[0]], banks[0]
    try:
        expected = identity_value(vm_unique_id, bank)
    except ValueError as error:
        return IdentityCheck("not-checked", f"the runtime claims name no VM: {error}")
    if value == expected:
        return IdentityCheck("holds", f"register 6 has the value that the VM {vm_unique_id.upper()} measures")
    empty = bytes(len(value))
    if value in (empty, extend(bank, empty, digest(bank, _SEPARATOR))):
        return IdentityCheck("not-checked", "the firmware measured no VM id into register 6")
    named = _measured(log)
    if named == vm_unique_id.upper():
        # the log may name more that went into the register: replay decides, and the id itself agrees
        return IdentityCheck("holds", f"the log's register 6 names the VM {named}")
    other = f"; the log names {named}" if named else ""
    why = f"register 6 is not that of the VM {vm_unique_id.upper()} which the hardware report names{other}"
    return IdentityCheck("broken", why)


def _measured(log: EventLog | None) -> str:
    """The id that the log says was measured, where its digest covers it."""
    for event in log.events if log is not None else ():
        if event.payload.kind == "machine-identity" and event.digest_check == "covers-data":
            return str(event.payload.fields.get("uuid", "")).upper()
    return ""


def identity_findings(check: IdentityCheck) -> list[Finding]:
    """Return the finding of a check that is broken."""
    if check.status != "broken":
        return []
    return [Finding("vm-identity-differs", "key-binding", check.why, "tpm", (IDENTITY_REGISTER,))]
