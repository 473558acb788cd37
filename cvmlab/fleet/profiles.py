"""Boot profiles: what of a boot a comparison with a baseline can depend on, as one hash (design, section 6).

Machines that boot the same way share a profile although each has boot entries, partitions and an identity of
its own. Taken out is only what no comparison can tell apart: an event that may stand in a per-machine slot
and whose digest the baseline does not know in any bank. Its label stays, because events are paired by it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.comparison import machine_sources
from cvmlab.baseline.document import Policy
from cvmlab.baseline.policy import reported_tcb
from cvmlab.baseline.slots import PER_MACHINE_KINDS
from cvmlab.eventlog.ima_replay import IMA_REGISTER

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from cvmlab.baseline.comparison import Comparison
    from cvmlab.baseline.document import Baseline
    from cvmlab.eventlog.model import Event, EventLog
    from cvmlab.trust.assess import Assessment

MAX_COMPARISONS: Final = 4096
"""Most comparisons kept, the longest unused forgotten first."""
MAX_KEPT: Final = 16 << 20
"""Most bytes of events whose part of a profile is kept."""

_COVERED_RULES: Final = frozenset(
    {"secure_boot", "debugging", "required_registers", "required_bank", "authorities", "sbat_level"}
    | {"revocation_list", "pinned_machines", "hardware_report", "lowest_tcb"}
)
"""Rules of a policy that see no more of a boot than `Profiles.key_of` holds."""

_Register = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """A boot profile.

    Attributes:
        id: Hex SHA-256.
        taken_out: Indices of the events that are the machine's own.
        registers: Registers that such events were extended into.
    """

    id: str
    taken_out: frozenset[int]
    registers: frozenset[_Register]


@dataclass(frozen=True, slots=True)
class _Pinned:
    """What a baseline says of one register: digests it knows by bank, labels of its per-machine slots."""

    known: Mapping[str, frozenset[bytes]]
    open: frozenset[tuple[str, str, str]]
    by_value: bool


class Profiles:
    """Profiles of boots against one baseline.

    Args:
        baseline: The baseline.
    """

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self._pinned = _pinned(baseline)
        self._more_rules = any(
            getattr(baseline.policy, rule.name) for rule in fields(Policy) if rule.name not in _COVERED_RULES
        )
        self._parts: dict[Hashable, bytes] = {}
        self._bytes = 0
        self._comparisons: OrderedDict[Hashable, Comparison] = OrderedDict()

    def profile_of(self, log: EventLog, machine: frozenset[int] = frozenset()) -> Profile:
        """Return the profile of a boot.

        Args:
            log: The boot's log.
            machine: Sources of the baseline that are this machine: what is a known machine's own must be
                what it was, so nothing of it is taken out.
        """
        total = sha256(f"{log.format} {log.set} {','.join(log.banks)} {sorted(machine)}".encode())
        taken_out = set()
        for event in log.events:
            if not machine and self._is_own(event, log.set):
                taken_out.add(event.index)
                label = (event.payload.producer, event.payload.kind, event.payload.name, event.phase)
                total.update(repr((event.register, event.type, label, event.digest_check)).encode())
            else:
                total.update(self._part(event))
        for anomaly in log.anomalies:
            total.update(repr((anomaly.rule, anomaly.register, anomaly.events)).encode())
        registers = frozenset((log.set, log.events[index].register) for index in taken_out)
        return Profile(total.hexdigest(), frozenset(taken_out), registers)

    def _is_own(self, event: Event, set_: str) -> bool:
        if event.payload.kind not in PER_MACHINE_KINDS or not event.extends:
            return False
        pinned = self._pinned.get((set_, event.register))
        if pinned is None:
            return True
        label = (event.payload.kind, event.payload.name, event.phase)
        if pinned.by_value or label not in pinned.open:
            return False
        return not any(value in pinned.known.get(bank, ()) for bank, value in event.digests.items())

    def _part(self, event: Event) -> bytes:
        """Return what an event adds to a profile: its digests, and what was decoded."""
        digests = tuple(event.digests.items())
        key = (event.register, event.type, event.phase, event.digest_check, digests, event.data)
        part = self._parts.get(key)
        if part is None:
            part = _hash(event)
            self._bytes += len(event.data) + 512
            if self._bytes > MAX_KEPT:
                self._parts.clear()
                self._bytes = len(event.data) + 512
            self._parts[key] = part
        return part

    def key_of(self, boot: Assessment, profile: Profile) -> Hashable | None:
        """Return everything of a boot that a comparison depends on; None where it cannot be shared.

        Register values count only where events do not say the same: not those of registers that replay and
        hold events of the machine's own.
        """
        if boot.replay.ima is not None or self._more_rules:
            return None
        failed = {(s.set, s.register) for s in boot.replay.states if s.quoted and s.status != "matches"}
        states = tuple(
            (
                state.set,
                state.register,
                state.bank,
                state.status,
                state.why if state.register == IMA_REGISTER else "",
                state.quoted is not None,
                state.quoted
                if (state.set, state.register) in failed
                or (state.set, state.register) not in profile.registers
                else b"",
            )
            for state in boot.replay.states
        )
        debugging = tuple(
            (finding.summary, finding.events, finding.registers)
            for finding in boot.findings
            if finding.code == "boot-debugging-enabled"
        )
        policy = self.baseline.policy
        hardware: object = None
        if policy.hardware_report or policy.lowest_tcb:
            links = [boot.link("hardware-root"), boot.link("hardware-report")]
            tcb = reported_tcb(boot)
            hardware = (tuple(links), tuple(tcb.items()) if tcb is not None else None)
        return (
            profile.id,
            states,
            tuple(sorted(boot.event_trust.items())),
            frozenset(boot.quotes.values),
            boot.believed,
            boot.binding.bound,
            debugging,
            hardware,
        )

    def comparison(self, boot: Assessment) -> tuple[Comparison, Profile | None]:
        """Compare a boot with the baseline, or return what was found for another of the same profile.

        Args:
            boot: The trust chain of the machine's own evidence.

        Returns:
            What `cvmlab.baseline.compare` returns, and the profile; None without a log.
        """
        from cvmlab.baseline.comparison import compare

        log = boot.log
        if log is None or not log.events:
            return compare(boot, self.baseline), None
        profile = self.profile_of(log, machine_sources(boot, self.baseline))
        key = self.key_of(boot, profile)
        if key is not None and key in self._comparisons:
            self._comparisons.move_to_end(key)
            return self._comparisons[key], profile
        found = compare(boot, self.baseline)
        # a difference that names an event of the machine's own is the machine's own, too
        if key is not None and not any(row.event in profile.taken_out for row in found.rows):
            self._comparisons[key] = found
            if len(self._comparisons) > MAX_COMPARISONS:
                self._comparisons.popitem(last=False)
        return found, profile


def profile_of(log: EventLog, baseline: Baseline) -> str:
    """Return the id of a boot's profile against a baseline; for many boots keep a `Profiles`."""
    return Profiles(baseline).profile_of(log).id


def _pinned(baseline: Baseline) -> dict[_Register, _Pinned]:
    """Join what the baseline says of each register, in the shared list and in every cohort."""
    known: dict[_Register, dict[str, set[bytes]]] = {}
    open_: dict[_Register, set[tuple[str, str, str]]] = {}
    by_value: set[_Register] = set()
    for pinned in baseline.every_register():
        register = (pinned.set, pinned.register)
        digests = known.setdefault(register, {})
        labels = open_.setdefault(register, set())
        if pinned.values:
            by_value.add(register)
        for slot in pinned.slots:
            if slot.slot_class == "per-machine":
                labels.add(slot.label)
            for alternative in slot.alternatives:
                for bank, value in alternative.digests.items():
                    digests.setdefault(bank, set()).add(value)
    return {
        register: _Pinned(
            {bank: frozenset(values) for bank, values in digests.items()},
            frozenset(open_[register]),
            register in by_value,
        )
        for register, digests in known.items()
    }


def _hash(event: Event) -> bytes:
    """Hash one event: its data, or of things outside the log what was decoded of them.

    Where an image lay in memory differs from boot to boot, and nothing is made of it.
    """
    payload = event.payload
    if event.digest_check == "describes":
        stated = {name: value for name, value in payload.fields.items() if name != "location"}
        text = (payload.producer, payload.kind, payload.name, payload.summary)
        what = json.dumps([text, stated], sort_keys=True, default=str).encode()
    else:
        what = event.data
    head = repr((event.register, event.type, event.phase, event.digest_check, event.covered, len(what)))
    total = sha256(head.encode() + b"\0" + what)
    for bank, value in event.digests.items():
        total.update(f"{bank}:{value.hex()};".encode())
    return total.digest()
