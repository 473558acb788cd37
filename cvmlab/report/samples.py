"""Sample boots that travel with the package: real measured boots of virtual machines."""

from __future__ import annotations

from pathlib import Path

from cvmlab.errors import EvidenceError


def _root() -> Path:
    """The samples inside the installed package, or those of a source checkout."""
    package = Path(__file__).resolve().parent.parent
    for root in (package / "_samples", package.parent / "sample_data"):
        if (root / "boots").is_dir():
            return root
    raise EvidenceError("this installation has no sample boots")


def sample_names() -> tuple[str, ...]:
    """Return the names of the sample boots here; a source checkout has more than the package."""
    return tuple(sorted(path.name for path in (_root() / "boots").iterdir() if path.is_dir()))


def sample(name: str) -> Path:
    """Return the evidence directory of a sample boot.

    Raises:
        EvidenceError: There is no sample of this name; the message lists those there are.
    """
    if name not in sample_names():
        raise EvidenceError(f"there is no sample {name!r}; there are {', '.join(sample_names())}")
    return _root() / "boots" / name


def sample_baseline() -> Path:
    """Return the baseline learned from the good sample boots."""
    return _root() / "baseline.json"


def sample_trust_root() -> Path:
    """Return the trust root of the sample machines' endorsement certificates."""
    return _root() / "boots" / "trust-root.pem"
