"""The catalogue of causes, as data (`catalogue.toml`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Severity = Literal["info", "low", "medium", "high"]
Reason = Literal["boot-deviates", "quote-origin", "no-report", "prerequisite"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high")
"""From harmless to grave."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the product knows of one cause code.

    Attributes:
        code: Stable kebab-case code (design, section 4).
        title: Headline.
        reason: ``boot-deviates``, ``quote-origin``, ``no-report`` or ``prerequisite``.
        severity: ``info``, ``low``, ``medium`` or ``high``.
        explanation: What it means, in plain words.
        benign_if: What would make it harmless, and what would not.
        next_step: The first thing to do.
        consequence_of: Codes that can bring this one about.
    """

    code: str
    title: str
    reason: Reason
    severity: Severity
    explanation: str
    benign_if: str
    next_step: str
    consequence_of: tuple[str, ...]


@cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """Return every entry by code, read once."""
    text = resources.files("cvmlab.explain").joinpath("catalogue.toml").read_text(encoding="utf-8")
    entries = {
        code: CatalogueEntry(code=code, **{**fields, "consequence_of": tuple(fields["consequence_of"])})
        for code, fields in tomllib.loads(text).items()
    }
    return MappingProxyType(entries)
