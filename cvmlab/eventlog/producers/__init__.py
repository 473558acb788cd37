"""Decoding of event data, one module for each program that writes events.

`decode` tries the decoders of an event's type, the most specific producer first. What no decoder knows
is `Opaque`; what a decoder cannot read is `Invalid`: one bad event never costs the log.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog import types
from cvmlab.eventlog.model import Invalid, Opaque, Payload
from cvmlab.eventlog.producers import (
    boot,
    firmware,
    grub,
    launch,
    linux,
    platform,
    secureboot,
    shim,
    spdm,
    systemd,
    windows,
)
from cvmlab.eventlog.producers.registry import PRODUCERS, Decoder, EventData, complete
from cvmlab.eventlog.producers.wording import one_line, summary_hex
from cvmlab.eventlog.vendor_types import LAUNCH_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DECODERS", "PRODUCERS", "Decoder", "EventData", "cache_clear", "cache_size", "decode"]

_MODULES: Final = (
    boot, firmware, grub, launch, linux, platform, secureboot, shim, spdm, systemd, windows,
)  # fmt: skip

_REGISTRY: Final = complete()
DECODERS: Final[Mapping[tuple[int, str], Decoder]] = _REGISTRY[0]
"""Every decoder by (event type, producer); read-only."""
_BY_TYPE: Final[Mapping[int, tuple[Decoder, ...]]] = _REGISTRY[1]

MAX_CACHED_DATA: Final = 64 << 10
"""Longest event data, in bytes, whose decoding is kept."""
_MAX_ENTRIES: Final = 8192
_MAX_BYTES: Final = 4 << 20
# What these decode to knows absolute offsets, so it is shared only between events at one offset.
_KNOWS_OFFSETS: Final = frozenset(
    {
        types.EV_EFI_VARIABLE_DRIVER_CONFIG,
        types.EV_EFI_VARIABLE_BOOT,
        types.EV_EFI_VARIABLE_BOOT2,
        types.EV_EFI_VARIABLE_AUTHORITY,
        types.EV_EFI_BOOT_SERVICES_APPLICATION,
        types.EV_EFI_BOOT_SERVICES_DRIVER,
        types.EV_EFI_RUNTIME_SERVICES_DRIVER,
    }
)

_Key = tuple[int, int, str, int, bytes]


class _Cache:
    """Payloads by what they were decoded from, the longest unused forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payloads: OrderedDict[_Key, Payload] = OrderedDict()
        self._bytes = 0

    def get(self, key: _Key) -> Payload | None:
        with self._lock:
            payload = self._payloads.get(key)
            if payload is not None:
                self._payloads.move_to_end(key)
            return payload

    def put(self, key: _Key, payload: Payload) -> None:
        with self._lock:
            if key in self._payloads:
                return
            self._payloads[key] = payload
            self._bytes += len(key[4])
            while self._bytes > _MAX_BYTES or len(self._payloads) > _MAX_ENTRIES:
                old, _ = self._payloads.popitem(last=False)
                self._bytes -= len(old[4])

    def clear(self) -> None:
        with self._lock:
            self._payloads.clear()
            self._bytes = 0

    def size(self) -> tuple[int, int]:
        with self._lock:
            return len(self._payloads), self._bytes


_cache = _Cache()


def decode(
    event_type: int,
    register: int,
    data: bytes,
    *,
    set: str = "tpm",
    source: str = "<log>",
    base: int = 0,
) -> Payload:
    """Decode the data of one event. What comes back is a claim: no digest is looked at here.

    Args:
        event_type: Event type number.
        register: Register index as the log states it.
        data: The event data.
        set: Register set of the index: ``tpm`` or ``cc``.
        source: What the log is, for error messages.
        base: Absolute offset of ``data[0]`` in the log, in bytes.

    Returns:
        The payload: with `Opaque` as value where nothing is known of such events, with `Invalid` where
        the data do not follow their format. Payloads are shared between equal events: leave `fields`
        as they are.
    """
    offset = base if event_type in _KNOWS_OFFSETS else -1
    key = (event_type, register, set, offset, data)
    payload = _cache.get(key)
    if payload is None:
        payload = _decode(EventData(event_type, register, data, set, source, base))
        # An error names its source, so it is not shared between logs.
        if len(data) <= MAX_CACHED_DATA and not isinstance(payload.value, Invalid):
            _cache.put(key, payload)
    return payload


def cache_clear() -> None:
    """Forget all decoded payloads (for measurements)."""
    _cache.clear()


def cache_size() -> tuple[int, int]:
    """Return how many payloads are kept, and the bytes of the data they were decoded from."""
    return _cache.size()


_NOTHING: Final = "(empty)"
"""Summary of data that say nothing, such as the prefix of a GRUB command without one."""


def _decode(event: EventData) -> Payload:
    for entry in _BY_TYPE.get(event.type, ()):
        try:
            payload = entry.run(event)
        except ParseError as error:
            return _invalid(event, entry, error)
        if payload is not None:
            return payload if payload.summary else replace(payload, summary=_NOTHING)
    return _unknown(event)


def _invalid(event: EventData, entry: Decoder, error: ParseError) -> Payload:
    candidates = (("data", event.data),) if entry.relation == "data" else ()
    return Payload(
        entry.producer,
        entry.kind,
        "",
        one_line(f"cannot be read: {error.message}"),
        Invalid(event.data, error),
        {"error": error.message, "error_offset": error.offset},
        candidates,
        entry.relation,
    )


def _unknown(event: EventData) -> Payload:
    kind = "drtm" if event.type in LAUNCH_TYPES else "unknown"
    candidates = (("data", event.data),)
    return Payload("unknown", kind, "", summary_hex(event.data), Opaque(event.data), {}, candidates)
