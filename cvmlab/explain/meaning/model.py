"""The parts of a meaning, and what the rest of the boot says that decides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.artifacts import Match
    from cvmlab.baseline.comparison import Comparison, DiffRow
    from cvmlab.eventlog.model import EventLog
    from cvmlab.findings import Finding

# Where the Secure Boot variables and authorities are measured (TCG PFP 1.06, 3.3.4.8; UEFI 2.10, 38.4.1)
_AUTHORITY_REGISTER: Final = {"tpm": 7, "cc": 1}
Authority = Literal["same", "renewed", "other", "unknown"]
_UNDECIDED: Final = frozenset({"not-checked", "not-replayed"})
MAX_SAID: Final = 12
"""Most sentences of one meaning."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a cause means in this boot. Sentences without a full stop; evidence text unescaped.

    Attributes:
        says: The decoded before and after.
        update: What speaks for a change that somebody rolled out.
        attack: What speaks against it.
    """

    says: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    attack: tuple[str, ...] = ()

    def __add__(self, other: Meaning) -> Meaning:
        """Return both, each sentence once."""
        return Meaning(
            _once(self.says, other.says), _once(self.update, other.update), _once(self.attack, other.attack)
        )

    def __bool__(self) -> bool:
        """True where anything is said."""
        return bool(self.says or self.update or self.attack)

    @property
    def likeness(self) -> str:
        """The judgement as one sentence; empty where nothing speaks either way."""
        if self.update and self.attack:
            return f"For an update speaks that {_and(self.update)}; against it, that {_and(self.attack)}."
        if self.update:
            return f"It looks like an update, because {_and(self.update)}."
        if self.attack:
            return f"It does not look like an update, because {_and(self.attack)}."
        return ""


NO_MEANING: Final = Meaning()
"""Nothing is said."""


def _once(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))[:MAX_SAID]


def _and(parts: tuple[str, ...]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the rest of the boot says.

    Attributes:
        rows: Difference by (set, register, slot, event).
        codes: Codes of all findings.
        secure_boot: State that the log's own variable has; None where it has none or several.
        authority: ``same`` where every key that vouched for an image is one of the baseline's, ``renewed``
            where another known key of the same vendor took its place, ``other`` where a strange one vouched,
            ``unknown`` where that was not compared or nothing was vouched for.
        matches: Digest to the files it is of, where files were given.
        signatures: (path, digest) of runtime files to the signatures measured with them.
        searched: True where files were given.
    """

    rows: Mapping[tuple[str, int, int, int], DiffRow] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()
    secure_boot: bool | None = None
    authority: Authority = "unknown"
    matches: Mapping[bytes, tuple[Match, ...]] = field(default_factory=dict)
    signatures: Mapping[tuple[str, str], frozenset[bytes]] = field(default_factory=dict)
    searched: bool = False

    @classmethod
    def of(
        cls,
        comparison: Comparison | None,
        log: EventLog | None,
        findings: Iterable[Finding],
        matches: Mapping[bytes, tuple[Match, ...]] | None = None,
    ) -> Setting:
        """Return the setting of one boot.

        Args:
            comparison: The differences; None where nothing was compared.
            log: This boot's log.
            findings: All findings.
            matches: What digests are of; None where no files were given.
        """
        codes = frozenset(finding.code for finding in findings)
        if comparison is None:
            return cls(codes=codes, matches=matches or {}, searched=matches is not None)
        return cls(
            rows={(row.set, row.register, row.slot, row.event): row for row in comparison.rows},
            codes=codes,
            secure_boot=_secure_boot(log),
            authority=_authority(comparison, log, codes),
            matches=matches or {},
            signatures=comparison.facts.signatures,
            searched=matches is not None,
        )

    def row(self, finding: Finding) -> DiffRow | None:
        """Return the difference that a finding is about."""
        slot = finding.detail.get("slot")
        if not isinstance(slot, int) or len(finding.registers) != 1:
            return None
        event = finding.events[0] if finding.events else -1
        return self.rows.get((finding.set, finding.registers[0], slot, event))


def _secure_boot(log: EventLog | None) -> bool | None:
    events = log.events if log is not None else ()
    states = [
        e.payload.fields.get("enabled")
        for e in events
        if e.payload.kind == "secure-boot" and e.digest_check == "covers-data" and e.phase == "before"
    ]
    return states[0] if len(states) == 1 and isinstance(states[0], bool) else None


def _authority(comparison: Comparison, log: EventLog | None, codes: frozenset[str]) -> Authority:
    from cvmlab.explain.meaning.signatures import authority

    if codes & {"secure-boot-enabled", "secure-boot-disabled"}:
        return "unknown"
    changed = [authority(row) for row in comparison.rows if row.kind == "authority"]
    if any(meaning.attack for meaning in changed):
        return "other"
    if changed:
        return "renewed" if all(meaning.update for meaning in changed) else "unknown"
    if log is None or not any(e.payload.kind == "authority" for e in log.events):
        return "unknown"
    register = _AUTHORITY_REGISTER.get(log.set)
    state = next((r for r in comparison.registers if (r.set, r.register) == (log.set, register)), None)
    return "unknown" if state is None or state.status in _UNDECIDED else "same"
