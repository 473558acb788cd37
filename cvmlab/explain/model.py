"""What an explanation is: causes, a verdict, and the rows that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cvmlab.explain.meaning.model import NO_MEANING

if TYPE_CHECKING:
    from cvmlab.explain.catalogue import CatalogueEntry, Severity
    from cvmlab.explain.known_values import KnownValue
    from cvmlab.explain.meaning.model import Meaning
    from cvmlab.findings import Finding, Link

VerdictWord = Literal["trusted", "not-trusted", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause: a finding that no other finding explains, or (folded) a consequence of one.

    Attributes:
        entry: The catalogue's text.
        severity: Severity here; a finding may lower the catalogue's.
        primary: True for the one cause that explains the verdict.
        link: The link of the chain it breaks, or keeps from being checked.
        broken: True where that link is broken, False where it could not be checked.
        claimed: True where only unproven text shows it.
        summary: The facts, in one sentence; evidence text unescaped.
        findings: All findings of this code.
        consequences: Causes that follow from this one.
        confidence: 0 to 1: how sure it is that this is what happened.
        meaning: The decoded before and after, and what speaks for and against an update.
    """

    entry: CatalogueEntry
    severity: Severity
    primary: bool
    link: str
    broken: bool
    claimed: bool
    summary: str
    findings: tuple[Finding, ...]
    consequences: tuple[Cause, ...]
    confidence: float
    meaning: Meaning = NO_MEANING

    @property
    def code(self) -> str:
        """The stable code."""
        return self.entry.code

    @property
    def likeness(self) -> str:
        """Whether it looks like an update, in one sentence; may be empty. Claims are said to be such."""
        said = self.meaning.likeness
        return f"By what is only claimed: {said[0].lower()}{said[1:]}" if said and self.claimed else said

    @property
    def set(self) -> str:
        """Register set of the findings; empty where no register is concerned."""
        return next((finding.set for finding in self.findings if finding.set), "")

    @property
    def registers(self) -> tuple[int, ...]:
        """Registers concerned, ascending."""
        return tuple(sorted({register for finding in self.findings for register in finding.registers}))

    @property
    def events(self) -> tuple[int, ...]:
        """Events concerned, ascending."""
        return tuple(sorted({event for finding in self.findings for event in finding.events}))


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """One register of one bank, for the register table of design section 10.

    Attributes:
        set: Register set.
        register: Register index.
        bank: Bank name.
        quoted: Hex value that a verified quote vouches for; empty where none does.
        replayed: Hex value that the logs give; empty where no log speaks of it.
        baseline: Hex values that the baseline allows, the first shown; empty where it has none.
        status: ``matches``, ``differs``, ``not-replayed``, ``not-quoted`` or ``not-checked``.
        why: One sentence.
    """

    set: str
    register: int
    bank: str
    quoted: str
    replayed: str
    baseline: str
    status: str
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer: verdict, causes, chain and registers.

    Attributes:
        verdict: ``trusted``, ``not-trusted`` or ``inconclusive``.
        summary: One sentence for the person on duty.
        causes: Causes, the primary one first; consequences hang below theirs.
        chain: All links, in order.
        registers: The register table.
        findings: Everything that was found, never changed.
        known: Quoted values that no log explains and public measurements do.
    """

    verdict: VerdictWord
    summary: str
    causes: tuple[Cause, ...]
    chain: tuple[Link, ...]
    registers: tuple[RegisterRow, ...]
    findings: tuple[Finding, ...]
    known: tuple[KnownValue, ...] = ()

    @property
    def primary(self) -> Cause | None:
        """The cause that explains the verdict; None where the machine is trusted."""
        return next((cause for cause in self.causes if cause.primary), None)
