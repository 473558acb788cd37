"""Who passes a baseline while it is edited: slots, rules and runtime files of many boots at once.

Built on `cvmlab.baseline.effect.Bench`. It is a quick look, not a verdict: Windows module lists and registers
pinned by value alone are left to `cvmlab.baseline.compare`, and what it leaves open never counts as passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cvmlab.baseline.comparison import machine_sources
from cvmlab.baseline.effect import Bench
from cvmlab.baseline.facts import boot_facts
from cvmlab.baseline.files import unknown_digests
from cvmlab.baseline.policy import check_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvmlab.baseline.document import Baseline
    from cvmlab.baseline.effect import Effect
    from cvmlab.baseline.facts import BootFacts
    from cvmlab.trust.assess import Assessment

Word = Literal["passes", "fails", "not judged"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a baseline says of one boot.

    Attributes:
        machine: Name of the machine.
        source: Where its evidence is.
        word: ``passes``, ``fails`` or ``not judged``.
        cohort: The cohort from which it differs least; empty where there are none.
        on: On what it fails or why it is not judged, one line each; may quote the evidence, unescaped.
        unchecked: Links of its trust chain that were not checked: a verdict may ask for more.
    """

    machine: str
    source: str
    word: Word
    cohort: str
    on: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


@dataclass
class Trial:
    """Boots laid ready for judging while a baseline is edited.

    Attributes:
        boots: The boots.
    """

    boots: Sequence[Assessment]
    _facts: list[BootFacts] = field(default_factory=list, repr=False)
    _bench: Bench | None = field(default=None, repr=False)
    _files: dict[int, tuple[object, object, tuple[str, ...]]] = field(default_factory=dict, repr=False)

    def outcomes(self, baseline: Baseline) -> list[Outcome]:
        """Judge every boot, in the order of `boots`."""
        if self._bench is None:
            self._bench = Bench(self.boots)
            self._facts = [boot_facts(boot) for boot in self.boots]
        effects = self._bench.effects(baseline)
        pins: dict[tuple[str, bool], int] = {}
        return [self._outcome(n, baseline, effect, pins) for n, effect in enumerate(effects)]

    def _outcome(
        self, number: int, baseline: Baseline, effect: Effect, pins: dict[tuple[str, bool], int]
    ) -> Outcome:
        boot, facts = self.boots[number], self._facts[number]
        machine = machine_sources(boot, baseline)
        broken = [f"{link.name}: {link.why}" for link in boot.links if link.status == "broken"]
        fails = [f"register {m.register}, {m.change} {m.kind}: {m.summary}" for m in effect.misfits]
        waits = []
        for result in check_policy(boot, baseline, facts, known_machine=bool(machine)):
            if result.status == "broken":
                fails.append(f"policy, {result.rule}: {result.why}")
            elif result.status == "not-checked":
                waits.append(f"policy, {result.rule}: {result.why}")
        fails += self._unknown_files(number, baseline)
        if boot.log is None or not boot.log.events:
            waits.append("there is no boot event log")
        if baseline.files is not None and boot.replay.ima is None:
            waits.append("there is no list of runtime files (IMA)")
        if effect.open:
            listed = ", ".join(map(str, effect.open))
            waits.append(f"registers pinned by value alone ({listed}) need the whole comparison")
        kind = (effect.cohort, bool(machine))
        if kind not in pins:
            pins[kind] = _pins(baseline, effect.cohort, known=bool(machine))
        if not pins[kind]:
            waits.append("the baseline pins nothing of this boot")
        word: Word = "fails" if broken or fails else "not judged" if waits else "passes"
        unchecked = tuple(link.name for link in boot.links if link.status == "not-checked")
        on = (*broken, *fails, *waits)
        return Outcome(boot.evidence.machine, boot.evidence.source, word, effect.cohort, on, unchecked)

    def _unknown_files(self, number: int, baseline: Baseline) -> tuple[str, ...]:
        if baseline.files is None:
            return ()
        key = (baseline.files, baseline.file_signers)
        known = self._files.get(number)
        # the lists are kept with the answer: an id is only its own while it lives
        if known is None or known[0] is not key[0] or known[1] is not key[1]:
            facts = self._facts[number]
            found = [
                f"runtime file {path} is not listed with its digest"
                for path, digests in facts.files.items()
                if unknown_digests(path, digests, baseline.files, facts.signatures, baseline.file_signers)
            ]
            found += [f"runtime file {path} was measured while it was written" for path in facts.violations]
            known = self._files[number] = (*key, tuple(found))
        return known[2]


def _pins(baseline: Baseline, cohort: str, *, known: bool) -> int:
    met = baseline.of_cohort(next((c for c in baseline.cohorts if c.name == cohort), None))
    open_ = 0 if known else sum(s.slot_class == "per-machine" for r in met.registers for s in r.slots)
    return max(0, sum(register.pins for register in met.registers) - open_)
