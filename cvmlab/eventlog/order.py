"""Rules of order: what may appear where, and what looks like something it is not.

The TPM authenticates the order of digests within a register and nothing else, so an event type can be
edited freely. These rules find logs in which that was done (go-attestation, event log disclosure; TCG PFP
1.06, sections 3.3.4.8 and 10.4.1).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cvmlab.banks import ALGORITHM_BY_BANK, available, digest
from cvmlab.eventlog import types
from cvmlab.eventlog.model import Anomaly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.eventlog.model import Event

_PCR7_TYPES: Final = frozenset(
    {
        types.EV_SEPARATOR,
        types.EV_EFI_ACTION,
        types.EV_EFI_VARIABLE_DRIVER_CONFIG,
        types.EV_EFI_VARIABLE_AUTHORITY,
        types.EV_EFI_SPDM_DEVICE_POLICY,
        types.EV_EFI_SPDM_DEVICE_AUTHORITY,
    }
)
_SEPARATORS: Final = (b"\0\0\0\0", b"\xff\xff\xff\xff")
_ERROR_SEPARATOR: Final = b"\x01\0\0\0"
_ACTIONS: Final = (
    b"Calling EFI Application from Boot Option",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Success",
)
_ACTION_TYPES: Final = frozenset({types.EV_EFI_ACTION, types.EV_ACTION})


def _known(texts: Sequence[bytes]) -> frozenset[bytes]:
    return frozenset(digest(bank, text) for bank in ALGORITHM_BY_BANK if available(bank) for text in texts)


_SEPARATOR_DIGESTS: Final = _known(_SEPARATORS)
_ERROR_DIGESTS: Final = _known((_ERROR_SEPARATOR,))
_ACTION_DIGESTS: Final = _known(_ACTIONS)


def anomalies(events: Sequence[Event], set_: str, *, complete: bool) -> tuple[Anomaly, ...]:
    """Return what breaks the rules of the registers.

    Args:
        events: The events of one log.
        set_: Register set; the rules are those of a TPM, other sets give none.
        complete: False where reading ended early: what is missing then is no anomaly.
    """
    if set_ == "cc":
        return tuple(_ovmf(events))
    found: list[Anomaly] = []
    found += _look_alikes(events)
    found += _separators(events)
    found += _no_action(events)
    found += _secure_boot(events, complete=complete)
    return tuple(sorted(found, key=lambda anomaly: anomaly.events[:1]))


def _ovmf(events: Sequence[Event]) -> list[Anomaly]:
    """The known fault of OVMF before August 2024 (edk2 pull request 6051): it closes RTMR 0 for RTMR 1."""
    closing: dict[int, list[int]] = {}
    for event in events:
        if event.type == types.EV_SEPARATOR and event.extends:
            closing.setdefault(event.register, []).append(event.index)
    twice = closing.get(1, [])
    # some firmware writes one separator for each PCR that a register stands for: then RTMR 1 has some too
    if len(twice) < 2 or 2 in closing:
        return []
    message = f"RTMR 0 is closed {len(twice)} times (events {', '.join(map(str, twice[:8]))})"
    message += " and RTMR 1 never: a known fault of OVMF before August 2024 (edk2 pull request 6051)"
    return [Anomaly("ovmf-duplicate-separator", 1, tuple(twice), message, "separator-duplicated")]


def _look_alikes(events: Sequence[Event]) -> list[Anomaly]:
    found = []
    for event in events:
        if not event.extends:
            continue
        values = event.digests.values()
        # firmware may measure four zero bytes as the contents of its root of trust, in register 0
        crtm = event.type == types.EV_S_CRTM_CONTENTS and event.register == 0
        closing = event.register <= 7 and any(value in _SEPARATOR_DIGESTS for value in values)
        if event.type != types.EV_SEPARATOR and closing and not crtm:
            message = f"event {event.index} has the digest of a separator and says it is {event.type_name}"
            found.append(
                Anomaly("looks-like-separator", event.register, (event.index,), message, "event-data-forged")
            )
        elif event.type not in _ACTION_TYPES and any(value in _ACTION_DIGESTS for value in values):
            message = (
                f"event {event.index} has the digest of a firmware action and says it is {event.type_name}"
            )
            found.append(
                Anomaly("looks-like-action", event.register, (event.index,), message, "event-data-forged")
            )
    return found


def _separators(events: Sequence[Event]) -> list[Anomaly]:
    found = []
    by_register: dict[int, list[int]] = {}
    for event in events:
        if event.type != types.EV_SEPARATOR or not event.extends:
            continue
        by_register.setdefault(event.register, []).append(event.index)
        if any(value in _ERROR_DIGESTS for value in event.digests.values()):
            message = (
                f"the firmware closed register {event.register} with the separator that announces an error"
            )
            found.append(
                Anomaly("separator-error", event.register, (event.index,), message, "firmware-changed")
            )
    for register, indices in by_register.items():
        if len(indices) > 1 and register <= 7:
            listed = ", ".join(map(str, indices[:8]))
            message = f"register {register} is closed {len(indices)} times (events {listed})"
            found.append(
                Anomaly("separator-duplicated", register, tuple(indices), message, "separator-duplicated")
            )
    return found


def _no_action(events: Sequence[Event]) -> list[Anomaly]:
    found = []
    localities = []
    for event in events:
        if event.type != types.EV_NO_ACTION:
            continue
        # Windows closes its log with an event of no register, which has a digest and extends nothing
        if event.register <= 23 and any(value.strip(b"\0") for value in event.digests.values()):
            message = f"event {event.index} is EV_NO_ACTION, which extends nothing, and has a digest"
            found.append(
                Anomaly("no-action-with-digest", event.register, (event.index,), message, "log-malformed")
            )
        if event.data.startswith(b"StartupLocality\0"):
            localities.append(event)
    extended = next((event.index for event in events if event.register == 0 and event.extends), len(events))
    for position, event in enumerate(localities):
        if event.data[16:17] not in (b"\0", b"\x03", b"\x04") or len(event.data) != 17:
            message = f"event {event.index} gives a startup locality that does not exist"
            found.append(
                Anomaly("startup-locality-value", event.register, (event.index,), message, "log-malformed")
            )
        elif position or event.register != 0 or event.index > extended:
            message = (
                f"the startup locality of event {event.index} is repeated, or not the first of register 0"
            )
            found.append(
                Anomaly(
                    "startup-locality-misplaced", event.register, (event.index,), message, "log-malformed"
                )
            )
    return found


def _secure_boot(events: Sequence[Event], *, complete: bool) -> list[Anomaly]:
    """The rules of PCR 7 (facts on event logs, section 3)."""
    found = []
    seven = [event for event in events if event.register == 7 and event.extends]
    closed = False
    variables: Counter[str] = Counter()
    enabled: Event | None = None

    def add(rule: str, event: Event, message: str, code: str) -> None:
        found.append(Anomaly(rule, 7, (event.index,), f"event {event.index} {message}", code))

    for event in seven:
        if event.type not in _PCR7_TYPES:
            add(
                "unexpected-type",
                event,
                f"is {event.type_name}, which has no place in register 7",
                "log-malformed",
            )
        elif event.type == types.EV_SEPARATOR:
            closed = True
        elif event.type == types.EV_EFI_ACTION and event.data.startswith(b"UEFI Debug Mode"):
            add(
                "uefi-debug-mode",
                event,
                "says that the firmware runs in debug mode",
                "boot-debugging-enabled",
            )
        elif event.type == types.EV_EFI_VARIABLE_DRIVER_CONFIG:
            name = event.payload.name
            variables[name] += 1
            if variables[name] == 2:
                add("variable-repeated", event, f"measures the variable {name!r} again", "log-malformed")
            if closed:
                add(
                    "config-after-separator", event, f"measures {name!r} after the separator", "log-malformed"
                )
            if event.payload.kind == "secure-boot":
                value = getattr(event.payload.value, "data", b"")
                if len(value) != 1 and value:
                    add(
                        "secure-boot-value",
                        event,
                        f"has a SecureBoot value of {len(value)} bytes",
                        "log-malformed",
                    )
                if value == b"\x01":
                    enabled = event
    if not complete:
        return found
    kinds = {event.payload.kind for event in seven}
    if variables and not closed and any(event.type == types.EV_SEPARATOR for event in events):
        last = seven[-1]
        message = f"register 7 is never closed by a separator; event {last.index} is its last"
        found.append(Anomaly("separator-missing", 7, (last.index,), message, "log-malformed"))
    if enabled is not None and closed and enabled.digest_check == "covers-data":
        lacking = {"platform-key", "key-exchange-keys", "signature-database"} - kinds
        if lacking:
            message = f"says Secure Boot is on, and the log has no {', '.join(sorted(lacking))}"
            add("secure-boot-without-keys", enabled, message, "log-malformed")
        started = any(event.register == 4 and event.payload.kind == "application" for event in events)
        if started and "authority" not in kinds:
            message = "says Secure Boot is on, and nothing vouched for the applications that were started"
            add("secure-boot-without-authority", enabled, message, "log-malformed")
    return found
