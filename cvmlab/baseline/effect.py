"""What an edit of a baseline does to many boots at once: who passes, who fails, and on what.

One boot is judged by `cvmlab.baseline.compare`; this answers the same question for the slots alone and for
hundreds of boots while a person edits. Boots whose events of a register are equal are aligned once, and
registers that an edit did not touch are not aligned again. It reads the events alone: whether the log is what
was quoted is for the trust chain to say, and of a boot whose log is not, this answer means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cvmlab.baseline.comparison import machine_sources
from cvmlab.baseline.pairing import SlotKeys, pair_events
from cvmlab.eventlog.replay import register_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cvmlab.baseline.document import Baseline, RegisterBaseline
    from cvmlab.eventlog.model import Event
    from cvmlab.trust.assess import Assessment


@dataclass(frozen=True, slots=True)
class Misfit:
    """One event of one boot that the baseline does not allow, or misses.

    Attributes:
        register: Register index.
        change: ``added``, ``removed``, ``changed`` or ``moved``.
        kind: What the event is about; a claim.
        summary: One line; a claim, unescaped.
    """

    register: int
    change: str
    kind: str
    summary: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What a baseline's slots say of one boot.

    Attributes:
        machine: Name of the machine.
        cohort: The cohort from which it differs least; empty where there are none.
        misfits: What does not fit, by register.
        open: Registers pinned by value alone, which only a whole comparison judges.
    """

    machine: str
    cohort: str
    misfits: tuple[Misfit, ...]
    open: tuple[int, ...] = ()

    @property
    def fits(self) -> bool:
        """True where every event is one that the slots allow and none is missing."""
        return not self.misfits


@dataclass
class Bench:
    """Boots laid ready for judging again and again.

    Attributes:
        boots: The boots.

    Example:
        >>> import cvmlab
        >>> from cvmlab.baseline.effect import Bench
        >>> baseline = cvmlab.load_baseline(cvmlab.sample_baseline())
        >>> boot = cvmlab.assess(
        ...     cvmlab.load_evidence(cvmlab.sample("cmdline_changed")),
        ...     cvmlab.load_context(cvmlab.sample("cmdline_changed")),
        ... )
        >>> {misfit.register for misfit in Bench([boot]).effects(baseline)[0].misfits}
        {8, 9}
    """

    boots: Sequence[Assessment]
    _sequences: dict[tuple[int, str, int], tuple[int, list[Event]]] = field(default_factory=dict, repr=False)
    _numbers: dict[object, int] = field(default_factory=dict, repr=False)
    _known: dict[tuple[object, ...], tuple[RegisterBaseline, tuple[Misfit, ...]]] = field(
        default_factory=dict, repr=False
    )

    _keys: dict[tuple[int, tuple[str, ...], frozenset[int]], tuple[RegisterBaseline, SlotKeys]] = field(
        default_factory=dict, repr=False
    )

    _whole: dict[int, tuple[RegisterBaseline, frozenset[str]]] = field(default_factory=dict, repr=False)

    def effects(self, baseline: Baseline) -> list[Effect]:
        """Judge every boot by the slots of a baseline.

        Returns:
            One effect a boot, in the order of `boots`. The policy, runtime files and modules are not judged.
        """
        return [self._effect(number, boot, baseline) for number, boot in enumerate(self.boots)]

    def _effect(self, number: int, boot: Assessment, baseline: Baseline) -> Effect:
        machine = machine_sources(boot, baseline)
        shared = self._misfits(number, boot, baseline.registers, machine)
        name = ""
        own: tuple[Misfit, ...] = ()
        if baseline.cohorts:
            found = [(c, self._misfits(number, boot, c.registers, machine)) for c in baseline.cohorts]
            cohort, own = min(found, key=lambda pair: (len(pair[1]), -len(pair[0].sources)))
            name = cohort.name
        open_ = tuple(sorted({r.register for r in baseline.every_register() if r.by_value}))
        return Effect(boot.evidence.machine, name, (*shared, *own), open_)

    def _misfits(
        self, number: int, boot: Assessment, registers: Iterable[RegisterBaseline], machine: frozenset[int]
    ) -> tuple[Misfit, ...]:
        found: list[Misfit] = []
        for pinned in registers:
            if pinned.by_value:
                continue
            sequence, events = self._sequence(number, boot, pinned)
            # only of per-machine slots does it matter which machine it is
            own = machine if any(slot.slot_class == "per-machine" for slot in pinned.slots) else frozenset()
            key = (id(pinned), sequence, own)
            known = self._known.get(key)
            # the register is kept with the answer: an id is only its own while it lives
            if known is None or known[0] is not pinned:
                known = (pinned, self._judge(pinned, events, own))
                self._known[key] = known
            found += known[1]
        return tuple(found)

    def _sequence(self, number: int, boot: Assessment, pinned: RegisterBaseline) -> tuple[int, list[Event]]:
        """The events of one register, and a number that boots with equal events share."""
        place = (number, pinned.set, pinned.register)
        found = self._sequences.get(place)
        if found is None:
            log = boot.log
            events = (
                register_events(log, pinned.register) if log is not None and log.set == pinned.set else []
            )
            key = (
                pinned.set,
                pinned.register,
                tuple((e.type, e.phase, e.payload.kind, *sorted(e.digests.items())) for e in events),
            )
            found = (self._numbers.setdefault(key, len(self._numbers)), events)
            self._sequences[place] = found
        return found

    def _judge(
        self, pinned: RegisterBaseline, events: list[Event], machine: frozenset[int]
    ) -> tuple[Misfit, ...]:
        have = frozenset(bank for event in events for bank in event.digests)
        whole = self._whole.get(id(pinned))
        if whole is None or whole[0] is not pinned:
            whole = self._whole[id(pinned)] = (pinned, pinned.whole_banks)
        banks = sorted((whole[1] & have) or have)
        events = [event for event in events if any(bank in event.digests for bank in banks)]
        place = (id(pinned), tuple(banks), machine)
        keys = self._keys.get(place)
        if keys is None or keys[0] is not pinned:
            keys = self._keys[place] = (pinned, SlotKeys.of(pinned.slots, banks, machine))
        pairing = pair_events(pinned.slots, events, banks, machine, keys[1])
        found = [
            Misfit(pinned.register, change, events[j].payload.kind, events[j].payload.summary)
            for change, positions in (
                ("changed", [j for _, j in pairing.changed]),
                ("moved", [j for _, j in pairing.moved]),
                ("added", pairing.added if pinned.complete else ()),
            )
            for j in positions
        ]
        for i in pairing.removed:
            slot = pinned.slots[i]
            found.append(
                Misfit(
                    pinned.register,
                    "removed",
                    slot.kind,
                    slot.alternatives[0].summary if slot.alternatives else "",
                )
            )
        return tuple(found)
