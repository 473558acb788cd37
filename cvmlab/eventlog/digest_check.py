"""Does an event's digest cover its data? (facts of 191 logs; TCG PFP 1.06, section 10.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmlab.banks import available, digest
from cvmlab.eventlog.types import EV_NO_ACTION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.model import Payload
    from cvmlab.findings import DigestCheck


def check_digest(
    event_type: int, register: int, digests: Mapping[str, bytes], payload: Payload
) -> tuple[DigestCheck, str]:
    """Compare the digests of an event with what they may be of.

    A digest covers the data only where one and the same candidate gives it in every bank that can be
    computed here: a candidate that fits one bank and not another is a contradiction, not chance.

    Args:
        event_type: Event type number.
        register: Register index; 0xFFFFFFFF marks a trailer, which extends nothing.
        digests: Bank to digest.
        payload: The decoded data with its candidates.

    Returns:
        The check and the label of the covered part, which is empty where nothing is covered.
    """
    if event_type == EV_NO_ACTION or register == 0xFFFFFFFF:
        return "not-extended", ""
    banks = [bank for bank in digests if available(bank)]
    if not banks:
        return "unknown", ""
    partial = False
    for label, data in payload.candidates:
        fits = sum(digest(bank, data) == digests[bank] for bank in banks)
        if fits == len(banks):
            return "covers-data", label
        partial = partial or fits > 0
    if partial or payload.relation == "data":
        return "mismatch", ""
    return ("describes" if payload.relation == "outside" else "unknown"), ""
