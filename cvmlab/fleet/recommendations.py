"""Recommendations for every machine: what rules say of inventory and evidence, and what the provider says."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.fleet.proven import Proven
from cvmlab.fleet.rules import EVIDENCE_FIELDS, EXTENSION_FIELDS, MACHINE_FIELDS, PLACEHOLDER, load_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd

    from cvmlab.findings import Problem
    from cvmlab.fleet.inventory.model import Machine, ProviderAssessment, State
    from cvmlab.fleet.inventory.read import Inventory
    from cvmlab.fleet.rules import Rule

Comparison = Literal["agree", "disagree", "provider-silent", "not-compared"]

_MEMORY: Final = 100_000
"""Distinct sets of facts whose decisions are remembered."""
_SWITCHED_OFF: Final = {
    "offbypolicy": "its policy is switched off",
    "exempt": "the machine is exempt from it",
}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One rule and one machine.

    Attributes:
        machine: The machine.
        rule: The rule.
        state: ``Healthy``, ``Unhealthy`` or ``NotApplicable``.
        reason: Stable word for why.
        explanation: Why, as a sentence; texts of the inventory unescaped.
        judged: False where the state says only that something is not known.
        facts: The facts that the rule looked at.
        provider_state: What the provider says; None where it says nothing.
        comparison: ``agree``, ``disagree``, ``provider-silent`` or ``not-compared``.
        comparison_explanation: The comparison, as a sentence.
        command: Command that remedies, quoted for a POSIX shell; None where there is none, or the state
            is not Unhealthy.
    """

    machine: Machine
    rule: Rule
    state: State
    reason: str
    explanation: str
    judged: bool
    facts: Mapping[str, object]
    provider_state: State | None
    comparison: Comparison
    comparison_explanation: str
    command: str | None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Evidence against configuration.

    Attributes:
        machine: The machine.
        fact: Setting that they disagree on.
        configured: What the inventory says.
        proven: What verified evidence says.
        severity: ``high`` where the machine is worse than it is configured, else ``low``.
        explanation: One sentence.
    """

    machine: Machine
    fact: str
    configured: str
    proven: str
    severity: Literal["low", "medium", "high"]
    explanation: str


@dataclass(frozen=True, slots=True)
class Recommendations:
    """The answer for a fleet.

    Attributes:
        results: One entry for each machine and rule, machines in the order of the inventory.
        contradictions: Evidence against configuration.
        unmatched: Assessments of rules here, of machines that the inventory does not have.
        problems: What could not be read.
        rules: The rules, by key.
        evidence: True where evidence was given at all.
    """

    results: tuple[Recommendation, ...]
    contradictions: tuple[Contradiction, ...]
    unmatched: tuple[ProviderAssessment, ...]
    problems: tuple[Problem, ...]
    rules: Mapping[str, Rule]
    evidence: bool

    @property
    def unhealthy(self) -> tuple[Recommendation, ...]:
        """What is to be done, gravest first."""
        order = ("high", "medium", "low")
        found = [one for one in self.results if one.state == "Unhealthy"]
        return tuple(sorted(found, key=lambda one: order.index(one.rule.severity)))

    def counts(self) -> dict[str, Counter[str]]:
        """Return how many machines have which state, by key of the rule; what is not judged apart."""
        found: dict[str, Counter[str]] = {key: Counter() for key in self.rules}
        for one in self.results:
            found[one.rule.key][one.state if one.judged else "not-judged"] += 1
        return found

    def frame(self) -> pd.DataFrame:
        """Return the table ``recommendations``, one row a machine and rule."""
        from cvmlab.fleet.recommend_view import recommendations_frame

        return recommendations_frame(self.results)

    def contradictions_frame(self) -> pd.DataFrame:
        """Return the table ``contradictions``."""
        from cvmlab.fleet.recommend_view import contradictions_frame

        return contradictions_frame(self)


def recommend(
    inventory: Inventory,
    evidence: Mapping[str, Proven] | None = None,
    *,
    rules: Iterable[str | Path] | Mapping[str, Rule] = (),
) -> Recommendations:
    """Judge every machine of an inventory by every rule, and compare with what the provider says.

    Args:
        inventory: The fleet; its assessments are what the provider says.
        evidence: What evidence proves, by machine (resource id in lower case). None where none was
            collected; a machine that a mapping does not have has not reported.
        rules: TOML files that add rules or replace them, or the rules themselves.

    Raises:
        EvidenceError: A file of rules cannot be used.
    """
    known = dict(rules) if isinstance(rules, Mapping) else load_rules(rules)
    decider = Decider(tuple(known.values()))
    said = _said(inventory.assessments)
    results: list[Recommendation] = []
    contradictions: list[Contradiction] = []
    machines = {machine.machine for machine in inventory.machines}
    for machine in inventory.machines:
        proven = evidence.get(machine.machine, Proven()) if evidence is not None else None
        decisions = decider.decisions(facts_of(machine, proven))
        for rule, decision in zip(decider.rules, decisions, strict=True):
            results.append(recommendation_of(machine, rule, decision, said.get((machine.machine, rule.key))))
        if proven is not None:
            contradictions += contradictions_of(machine, proven)
    unmatched = tuple(one for (name, key), one in said.items() if key in known and name not in machines)
    return Recommendations(
        tuple(results),
        tuple(contradictions),
        unmatched,
        inventory.problems,
        known,
        evidence is not None,
    )


def facts_of(machine: Machine, proven: Proven | None) -> dict[str, object]:
    """Return what conditions may look at, by name; what is not stated or not proven is None.

    Args:
        machine: The machine's record.
        proven: What evidence proves; None where none was collected of any machine.
    """
    facts: dict[str, object] = {name: getattr(machine, name) for name in MACHINE_FIELDS}
    facts["extensions"] = tuple(
        {name: getattr(extension, name) for name in EXTENSION_FIELDS} for extension in machine.extensions
    )
    for name in EVIDENCE_FIELDS:
        facts[name] = getattr(proven, name.removeprefix("attestation."), None) if proven is not None else None
    facts["attestation.collected"] = proven is not None
    return facts


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule says of every machine with the same facts; see `Recommendation`."""

    state: State
    reason: str
    explanation: str
    judged: bool
    facts: Mapping[str, object]


class Decider:
    """All rules; machines with the same facts are decided once and share what is said of them.

    Args:
        rules: The rules.

    Attributes:
        rules: The rules.
        fields: Facts that any of them looks at.
    """

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.fields = tuple(dict.fromkeys(name for rule in rules for name in rule.fields))
        self._memory: dict[str, tuple[Decision, ...]] = {}

    def decisions(self, facts: Mapping[str, object]) -> tuple[Decision, ...]:
        """Return what each rule says."""
        key = repr([facts[name] for name in self.fields])
        found = self._memory.get(key)
        if found is None:
            found = tuple(_decide(rule, facts) for rule in self.rules)
            if len(self._memory) < _MEMORY:
                self._memory[key] = found
        return found


def recommendation_of(
    machine: Machine, rule: Rule, decision: Decision, said: ProviderAssessment | None
) -> Recommendation:
    """Return the result of a machine and a rule, compared with the provider's word and with its command."""
    comparison, sentence = compared(rule, decision.state, said, judged=decision.judged)
    return Recommendation(
        machine=machine,
        rule=rule,
        state=decision.state,
        reason=decision.reason,
        explanation=decision.explanation,
        judged=decision.judged,
        facts=decision.facts,
        provider_state=said.state if said is not None else None,
        comparison=comparison,
        comparison_explanation=sentence,
        command=_command(rule, machine) if decision.state == "Unhealthy" else None,
    )


def _decide(rule: Rule, facts: Mapping[str, object]) -> Decision:
    looked = {name: facts[name] for name in rule.fields}
    for step in rule.steps:
        if not step.require.holds(facts):
            return Decision(step.otherwise, step.reason, _filled(step.text, facts), step.judged, looked)
    good = next(one for one in rule.healthy if one.when is None or one.when.holds(facts))
    return Decision("Healthy", good.reason, _filled(good.text, facts), True, looked)


def _filled(text: str, facts: Mapping[str, object]) -> str:
    def value(name: str) -> str:
        fact = facts.get(name)
        if fact is None:
            return "not stated"
        return {True: "on", False: "off"}[fact] if isinstance(fact, bool) else str(fact)[:200]

    return PLACEHOLDER.sub(lambda match: value(match[1]), text)


def _command(rule: Rule, machine: Machine) -> str | None:
    """The command for this machine; none where a value is not known, or the machine is of another cloud."""
    if not rule.command or machine.provider != rule.command_provider:
        return None
    values = {
        name: getattr(machine, name) for name in ("resource_id", "resource_group", "name", "subscription")
    }
    if any(not values[match[1]] for match in PLACEHOLDER.finditer(rule.command)):
        return None
    # names are an attacker's or at least somebody else's text: an option, or more than one word
    if any(str(value or "").startswith("-") for value in values.values()):
        return None
    return PLACEHOLDER.sub(lambda match: shlex.quote(str(values[match[1]])), rule.command)


def _said(assessments: Sequence[ProviderAssessment]) -> dict[tuple[str, str], ProviderAssessment]:
    """The provider's last word for each machine and key."""
    found: dict[tuple[str, str], ProviderAssessment] = {}
    for one in assessments:
        before = found.get((one.machine, one.key))
        if before is None or (one.changed or "") >= (before.changed or ""):
            found[one.machine, one.key] = one
    return found


def compared(
    rule: Rule, state: State, said: ProviderAssessment | None, *, judged: bool
) -> tuple[Comparison, str]:
    """Compare a state with the provider's word; return the outcome and a sentence."""
    if said is None:
        if rule.origin != "provider":
            return "provider-silent", "The provider has no such recommendation."
        return "provider-silent", "The provider's assessment of this machine is not among what was read."
    off = _SWITCHED_OFF.get((said.cause or "").lower())
    if said.state == "NotApplicable" and off is not None:
        return "provider-silent", f"The provider does not judge: {off}."
    if said.state is None:
        return "not-compared", "The provider's assessment has no state that is known."
    if not judged:
        return "not-compared", f"The provider says {said.state}; what was read here does not tell."
    if said.state == state:
        return "agree", f"The provider says {said.state} too."
    why = f": {said.description[:300]}" if said.description else "."
    return "disagree", f"The provider says {said.state}, the rule says {state}. The provider's words{why}"


def contradictions_of(machine: Machine, proven: Proven) -> list[Contradiction]:
    """Return where verified evidence of a machine says other than its configuration."""
    found: list[Contradiction] = []
    words = {True: "on", False: "off"}
    if proven.secure_boot is not None and machine.secure_boot not in (None, proven.secure_boot):
        worse = not proven.secure_boot
        found.append(
            Contradiction(
                machine,
                "secure_boot",
                words[not proven.secure_boot],
                words[proven.secure_boot],
                "high" if worse else "low",
                "The configuration says that Secure Boot is "
                f"{words[not proven.secure_boot]}, and a verified quote proves that the machine booted with "
                f"it {words[proven.secure_boot]}: "
                + (
                    "the record is not of this machine, or what it configures did not take effect."
                    if worse
                    else "the record is older than the boot, or not of this machine."
                ),
            )
        )
    if proven.believed and machine.vtpm is False:
        found.append(
            Contradiction(
                machine,
                "vtpm",
                "off",
                "on",
                "medium",
                "The configuration says that there is no vTPM, and a quote by a key bound to this machine's "
                "was verified: the record is older than the boot, or not of this machine.",
            )
        )
    installed = any(
        (one.type or "").lower() == "guestattestation"
        and (one.provisioning_state or "").lower() == "succeeded"
        for one in machine.extensions
    )
    if installed and proven.status == "silent":
        found.append(
            Contradiction(
                machine,
                "guest_attestation",
                "installed",
                "silent",
                "medium",
                "The Guest Attestation extension is installed as far as the records say, and the machine "
                "does not report.",
            )
        )
    return found


def match_evidence(inventory: Inventory, names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Say which machine of the inventory an evidence is of, by the name in it.

    A name fits a resource id, a name, a host name or the id that the provider gave, without regard to case.

    Returns:
        Name to machine; and a sentence for each name that fits none or several.
    """
    index: dict[str, set[str]] = {}
    for machine in inventory.machines:
        for value in (machine.machine, machine.name, machine.computer_name, machine.vm_id):
            if value:
                index.setdefault(value.lower(), set()).add(machine.machine)
    found: dict[str, str] = {}
    problems: list[str] = []
    for name in names:
        fits = index.get(name.lower(), set())
        if len(fits) == 1:
            found[name] = next(iter(fits))
        else:
            problems.append(
                f"evidence of {name!r} fits {len(fits)} machines of the inventory; it is matched by resource "
                "id, name, host name or VM id, so name the machine so in its evidence.json"
            )
    return found, problems
