"""The words shared by every stage after reading: problems, links of the trust chain, findings.

These are ground types: reading fills `Problem` rows, checking fills `Link` and `Finding` rows, and
only `cvmlab.explain` turns findings into causes and a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.errors import ParseError

LinkStatus = Literal["holds", "broken", "not-checked", "not-applicable"]
Trust = Literal["proven", "digest-only", "unproven"]
DigestCheck = Literal["covers-data", "describes", "mismatch", "unknown", "not-extended"]

LINKS: Final = (
    "hardware-root",
    "hardware-report",
    "key-binding",
    "key-certificate",
    "quote",
    "nonce",
    "register-values",
    "log-replay",
    "event-data",
    "baseline",
    "policy",
)
"""The links of the trust chain, in order: each rests on the ones before (design, section 3)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in an input that could not be read as its format says.

    Attributes:
        source: File name, or a description of the bytes.
        offset: Absolute offset in bytes in `source`; 0 where the whole file is meant.
        field: Field being read, in the spelling of the specification.
        message: What is wrong, with need and have where known.
        fatal: True where reading stopped here, False for an oddity that reading went past.
        need: Bytes (or the value) that the format needs here; None where that is no number.
        have: Bytes (or the value) that are here; None where that is no number.
    """

    source: str
    offset: int
    field: str
    message: str
    fatal: bool = True
    need: int | None = None
    have: int | None = None

    @classmethod
    def of(cls, error: ParseError, *, fatal: bool = True) -> Problem:
        """Turn a `ParseError` into a row."""
        return cls(error.source, error.offset, error.field, error.message, fatal, error.need, error.have)

    def __str__(self) -> str:
        return f"{self.source}: offset {self.offset} (0x{self.offset:x}): {self.message}"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the trust chain and what became of it.

    Attributes:
        name: One of `LINKS`.
        status: ``holds``, ``broken``, ``not-checked`` or ``not-applicable``.
        why: One sentence: what was checked against what, or why it could not be.
    """

    name: str
    status: LinkStatus
    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was observed. Findings are never changed or removed by later stages.

    Attributes:
        code: Cause code of the catalogue (design, section 4).
        link: The link of the trust chain it belongs to, one of `LINKS`.
        summary: One sentence with the facts, evidence text unescaped.
        set: Register set, ``tpm`` or ``cc``; empty where no register is concerned.
        registers: Register indices concerned, ascending.
        events: Indices of the events concerned, in log order.
        before: What was expected (baseline, policy, quote), as text.
        after: What was found.
        trust: What the observation is worth (design, section 3).
        detail: Decoded difference, JSON-able: certificates added, words removed, offsets.
    """

    code: str
    link: str
    summary: str
    set: str = ""
    registers: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    before: str = ""
    after: str = ""
    trust: Trust = "proven"
    detail: Mapping[str, object] = field(default_factory=dict)
