"""One register of one bank on its way through a log: values after each event, and the value wanted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE, digest, extend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cvmlab.baseline.document import Slot
    from cvmlab.eventlog.model import Event

_CHECK_EVERY: Final = 2048
"""Extends between two looks at the clock: a few milliseconds, however long the register is."""


class TimeUpError(Exception):
    """The search reached its time bound. Never leaves this room."""


class Budget:
    """A bound in time, and a count of what was tried."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock
        self.deadline = clock() + seconds
        self.tried = 0
        self._unseen = 0

    def spend(self, extends: int) -> None:
        """Count one hypothesis, and the extends that it takes to try it.

        Raises:
            TimeUpError: The time is up.
        """
        self.tried += 1
        self._unseen += 1 + extends
        if self._unseen >= _CHECK_EVERY:
            self.look()

    def look(self) -> None:
        """Look at the clock: before work that is no hypothesis and may be long.

        Raises:
            TimeUpError: The time is up.
        """
        self._unseen = 0
        if self.clock() > self.deadline:
            raise TimeUpError


@dataclass(slots=True)
class Track:
    """A register in one bank.

    Attributes:
        register: Register index.
        bank: Bank name.
        start: Value before the first event.
        events: Events of the log that extend it, those with a digest of the bank.
        digests: Their digests.
        wanted: The quoted value.
        slots: The baseline's slots of the register; empty without a baseline.
        budget: The time left.
        prefix: Value before each event, and after the last.
    """

    register: int
    bank: str
    start: bytes
    events: Sequence[Event]
    digests: list[bytes]
    wanted: bytes
    slots: Sequence[Slot]
    budget: Budget
    prefix: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prefix = [self.start]
        for each in self.digests:
            self.prefix.append(extend(self.bank, self.prefix[-1], each))

    def after(self, count: int, rest: Iterable[bytes]) -> bytes:
        """The value after the first `count` events and then `rest`."""
        value = self.prefix[count]
        for each in rest:
            value = extend(self.bank, value, each)
        return value

    def meets(self, count: int, rest: Sequence[bytes]) -> bool:
        """Tell whether the first `count` events and then `rest` give the wanted value; costs budget."""
        self.budget.spend(len(rest))
        return self.after(count, rest) == self.wanted

    def hash(self, data: bytes) -> bytes:
        """Digest of data in this bank."""
        return digest(self.bank, data)

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return DIGEST_SIZE[self.bank]

    def place(self, position: int) -> int:
        """Boot order of a position in the register's sequence."""
        if position < len(self.events):
            return self.events[position].index
        return self.events[-1].index + 1 if self.events else 0
