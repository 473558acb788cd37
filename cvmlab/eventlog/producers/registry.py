"""The registry of decoders: one function for each (event type, producer), complete after import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.model import Payload

PRODUCERS: Final = ("windows", "shim", "systemd", "linux", "grub", "firmware")
"""Who writes events, the most specific first: firmware is last because it writes whatever is left."""


@dataclass(frozen=True, slots=True)
class EventData:
    """What a decoder gets to see of an event; never the digests, which would tempt it to judge.

    Attributes:
        type: Event type number.
        register: Register index as the log states it.
        data: The event data.
        set: Register set the index belongs to: ``tpm`` or ``cc``.
        source: What the log is, for error messages.
        base: Absolute offset of ``data[0]`` in the log.
    """

    type: int
    register: int
    data: bytes
    set: str
    source: str
    base: int

    def cursor(self, data: bytes | None = None, offset: int = 0) -> Cursor:
        """Return a cursor over the data, or over `data` which starts `offset` bytes into them."""
        return Cursor(self.data if data is None else data, source=self.source, base=self.base + offset)


Decode = Callable[[EventData], "Payload | None"]


@dataclass(frozen=True, slots=True)
class Decoder:
    """One registered decoder.

    Attributes:
        run: The function. It returns None for an event that its producer did not write, and raises
            `ParseError` for one that it should be able to read but cannot.
        producer: One of `PRODUCERS`.
        kind: Kind of the event where the data cannot be read.
        relation: What the digest is of where the data cannot be read.
    """

    run: Decode
    producer: str
    kind: str
    relation: str


_building: dict[tuple[int, str], Decoder] = {}
_frozen = False


def decoder(producer: str, *types: int, kind: str, relation: str = "unknown") -> Callable[[Decode], Decode]:
    """Register a decoder for `types` as written by `producer`.

    Args:
        producer: One of `PRODUCERS`.
        *types: Event type numbers.
        kind: Kind of the event where the data cannot be read.
        relation: `Payload.relation` where the data cannot be read.

    Raises:
        RuntimeError: The registry is complete already, or has a decoder for this pair.
    """

    def register(function: Decode) -> Decode:
        for event_type in types:
            key = (event_type, producer)
            if _frozen or key in _building:
                raise RuntimeError(f"the decoder registry takes no (other) decoder for {key}")
            _building[key] = Decoder(function, producer, kind, relation)
        return function

    return register


def complete() -> tuple[Mapping[tuple[int, str], Decoder], Mapping[int, tuple[Decoder, ...]]]:
    """Close the registry.

    Returns:
        The decoders by (event type, producer), and by event type alone with the most specific first.
    """
    global _frozen
    _frozen = True
    by_type: dict[int, tuple[Decoder, ...]] = {}
    for producer in PRODUCERS:
        for (event_type, owner), entry in _building.items():
            if owner == producer:
                by_type[event_type] = (*by_type.get(event_type, ()), entry)
    return MappingProxyType(dict(_building)), MappingProxyType(by_type)
