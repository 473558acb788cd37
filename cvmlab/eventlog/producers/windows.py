"""Events of Windows' boot manager and loader (PCR 11 to 14, and trailers that extend nothing).

Source: ``wbcl.h`` of the Windows SDK; the tree itself is read by `cvmlab.eventlog.sipa`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from cvmlab.eventlog import types
from cvmlab.eventlog.model import Invalid, Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.wording import MAX_ITEMS, bounded_name, one_line, plural
from cvmlab.eventlog.sipa import ELAM, TRUST_BOUNDARY, looks_like_sipa, modules, parse_sipa, settings, walk

_FLAGS: Final = {
    "BOOTDEBUGGING": ("boot debugging", True),
    "OSKERNELDEBUG": ("kernel debugging", True),
    "HYPERVISOR_DEBUG": ("hypervisor debugging", True),
    "TESTSIGNING": ("test signing", True),
    "FLIGHTSIGNING": ("flight signing", True),
    "SAFEMODE": ("safe mode", True),
    "WINPE": ("Windows PE", True),
    "CODEINTEGRITY": ("code integrity off", False),
}
"""Settings worth a word in the summary, with the value that is."""

_REGISTERS: Final = frozenset({11, 12, 13, 14, 19, 20})
"""Registers that Windows measures its own boot into; 19 and 20 after a dynamic launch."""


@decoder("windows", types.EV_EVENT_TAG, types.EV_NO_ACTION, kind="windows-boot", relation="data")
def _sipa(event: EventData) -> Payload | None:
    if not looks_like_sipa(event.data):
        return None
    tree, error = parse_sipa(event.cursor())
    loaded = modules(tree)
    values = settings(tree)
    fields: dict[str, object] = {
        "events": sum(1 for _ in walk(tree)),
        "settings": [
            {"name": name, "value": bounded_name(value) if isinstance(value, str) else value}
            for name, value in values[:MAX_ITEMS]
        ],
        "modules": [
            {
                key: bounded_name(value) if isinstance(value, str) else value
                for key, value in asdict(m).items()
            }
            for m in loaded[:MAX_ITEMS]
        ],
    }
    parts = []
    if loaded:
        first = next((named for m in loaded if (named := m.path or m.original_name)), "")
        named = f"{first}{', …' if len(loaded) > 1 else ''}" if first else "known by their digests alone"
        parts.append(f"{plural(len(loaded), 'module')} ({named})")
    if values:
        parts.append(plural(len(values), "setting"))
    parts += [
        text
        for name, (text, wanted) in _FLAGS.items()
        if any(key == name and value == wanted and isinstance(value, bool) for key, value in values)
    ]
    name = _name(tree[0].id, tree[0].name, loaded[0].path if loaded else "") if tree else ""
    summary = f"Windows {name or 'boot data'}: {', '.join(parts) or 'no values'}"
    value: object = tree
    if error is not None:
        fields["error"], fields["error_offset"] = error.message, error.offset
        summary += f"; then damaged: {error.message}"
        value = Invalid(event.data, error, tree)
    candidates = (("data", event.data),)
    relation = "data" if event.set == "tpm" and event.register in _REGISTERS else "unknown"
    return Payload(
        "windows", "windows-boot", bounded_name(name), one_line(summary), value, fields, candidates, relation
    )


def _name(number: int, label: str, path: str) -> str:
    """Name the event by what it is about: the program of a trust boundary, or the first SIPA event."""
    if number == TRUST_BOUNDARY:
        program = path.rsplit("\\", 1)[-1].lower()
        return f"trust boundary of {program}" if program else "trust boundary"
    if number == ELAM:
        return "early launch antimalware"
    return label.lower().replace("_", " ")
