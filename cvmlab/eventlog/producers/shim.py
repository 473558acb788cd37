"""Events of shim: the MOK lists (PCR 14), the SBAT level and the keys that let images run (PCR 7).

Source: rhboot/shim, mok.c and tpm.c (what is measured under which name), SBAT.md.
"""

from __future__ import annotations

import re
from typing import Final

from cvmlab.errors import ParseError
from cvmlab.eventlog import types
from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.secureboot import (
    authority_candidates,
    authority_payload,
    damaged_authority,
    describe_signatures,
    signature_fields,
    variable_fields,
)
from cvmlab.eventlog.producers.wording import MAX_ITEMS, byte_text, one_line
from cvmlab.uefi.guids import SHIM_LOCK
from cvmlab.uefi.sbat import parse_sbat_level
from cvmlab.uefi.siglist import parse_signature_lists
from cvmlab.uefi.variables import UefiVariable, parse_variable

_SHIM_GUID: Final = SHIM_LOCK.bytes_le
_MOK_LISTS: Final = frozenset(
    {"MokList", "MokListRT", "MokListX", "MokListXRT", "MokListTrusted", "MokListTrustedRT"}
)
_MOK_STATES: Final = frozenset(
    {"MokSBState", "MokSBStateRT", "MokDBState", "MokIgnoreDB", "MokPolicy", "MokPolicyRT", "HSIStatus"}
)
_SBAT_LEVELS: Final = frozenset({"SbatLevel", "SbatLevelRT"})
_VARIABLE: Final = re.compile(r"(?:Mok|Sbat)[A-Za-z]{1,32}")


def _kind(name: str) -> str | None:
    if name in _SBAT_LEVELS:
        return "sbat-level"
    if name in _MOK_LISTS:
        return "mok-list"
    return "mok-state" if name in _MOK_STATES else None


@decoder("shim", types.EV_IPL, kind="mok-list", relation="outside")
def _measured_variable(event: EventData) -> Payload | None:
    if event.set == "tpm" and event.register != 14:
        return None
    text = byte_text(event.data)
    if text is None or not _VARIABLE.fullmatch(text):
        return None
    # The digest is of the variable's contents; the log has its name only.
    kind = _kind(text) or "mok-state"
    fields: dict[str, object] = {"variable": text}
    summary = f"{text}: contents measured, not logged"
    return Payload("shim", kind, text, summary, text, fields, (), "outside")


@decoder("shim", types.EV_EFI_VARIABLE_AUTHORITY, kind="authority", relation="data")
def _authority(event: EventData) -> Payload | None:
    if event.data[:16] != _SHIM_GUID:
        return None
    variable = parse_variable(event.cursor())
    kind = _kind(variable.name)
    try:
        if kind == "sbat-level":
            return _sbat_level(event, variable)
        if kind == "mok-state":
            return _mok_state(event, variable)
        if kind == "mok-list":
            return _mok_entry(event, variable)
        return authority_payload(event, variable, "shim")
    except ParseError as error:
        return damaged_authority(event, variable, kind or "authority", error, "shim")


def _sbat_level(event: EventData, variable: UefiVariable) -> Payload:
    cursor = event.cursor(variable.data, variable.data_offset - event.base)
    entries = parse_sbat_level(cursor)
    date = next((entry.date for entry in entries if entry.component == "sbat"), None)
    components = {entry.component: entry.generation for entry in entries[: 4 * MAX_ITEMS]}
    fields = {**variable_fields(variable), "date": date, "components": components}
    levels = ", ".join(f"{name} {number}" for name, number in components.items() if name != "sbat")
    summary = one_line(f"SBAT level {date or 'without a date'}" + (f": {levels}" if levels else ""))
    candidates = authority_candidates(event)
    return Payload("shim", "sbat-level", variable.name, summary, entries, fields, candidates, "data")


def _mok_state(event: EventData, variable: UefiVariable) -> Payload:
    fields = variable_fields(variable)
    summary = f"{variable.name} is {variable.data[:32].hex() or 'empty'}"
    if variable.name.startswith("MokSBState") and len(variable.data) == 1:
        disabled = variable.data == b"\x01"
        fields["validation_disabled"] = disabled
        state = "nothing" if disabled else "what it starts"
        summary = f"shim validates {state} ({variable.name} is {variable.data[0]})"
    candidates = authority_candidates(event)
    return Payload(
        "shim", "mok-state", variable.name, one_line(summary), variable, fields, candidates, "data"
    )


def _mok_entry(event: EventData, variable: UefiVariable) -> Payload:
    """Decode an entry of a MOK list that vouched for an image, or a whole list, or one byte of state."""
    if len(variable.data) == 1:
        fields = variable_fields(variable)
        summary = f"{variable.name} is {variable.data.hex()}"
        value: object = variable
    else:
        cursor = event.cursor(variable.data, variable.data_offset - event.base)
        try:
            lists = parse_signature_lists(cursor)
        except ParseError:
            return authority_payload(event, variable, "shim")
        value = lists
        fields = {**variable_fields(variable), **signature_fields(lists)}
        summary = f"{variable.name}: {describe_signatures(lists)}"
    candidates = authority_candidates(event)
    return Payload("shim", "mok-list", variable.name, one_line(summary), value, fields, candidates, "data")
