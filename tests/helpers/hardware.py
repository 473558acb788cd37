"""Evidence folders of hardware reports, assessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors import NOW, pem

from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509


def judge(
    folder: Path, files: dict[str, bytes], roots: list[x509.Certificate] | None = None, **options: object
) -> Assessment:
    """Write files into a new folder and assess it; `roots` are given as trust roots."""
    place = folder / f"evidence{len(list(folder.iterdir()))}"
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(data)
    named = []
    if roots:
        (folder / "roots.pem").write_bytes(pem(*roots))
        named = [folder / "roots.pem"]
    context = load_context(place, trust_roots=named, **{"at": NOW, **options})  # type: ignore[arg-type]
    return assess(load_evidence(place), context)


def statuses(result: Assessment) -> tuple[str, str, str]:
    """Status of hardware-root, hardware-report and key-binding."""
    return tuple(result.link(name).status for name in ("hardware-root", "hardware-report", "key-binding"))  # type: ignore[return-value]


def codes(result: Assessment, link: str = "") -> set[str]:
    """Codes of the findings that break something, of one link or of all."""
    return {
        f.code
        for f in result.findings
        if (not link or f.link == link)
        and result.link(f.link).status == "broken"
        and f.detail.get("severity") != "info"
    }
