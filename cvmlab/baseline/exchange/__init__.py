"""Baselines in the formats of other tools: read, written, and what is lost by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.exchange.compute_pcrs import read_compute_pcrs, write_compute_pcrs
from cvmlab.baseline.exchange.corim import read_corim, write_corim
from cvmlab.baseline.exchange.golden import read_golden, write_json, write_pcrread, write_tpm_policy
from cvmlab.baseline.exchange.gotpm import read_gotpm, write_gotpm
from cvmlab.baseline.exchange.keylime import read_runtime_policy, write_runtime_policy
from cvmlab.baseline.exchange.keylime_refstate import read_refstate, write_refstate
from cvmlab.baseline.exchange.maa import read_maa, write_maa
from cvmlab.baseline.exchange.model import Exported, Format, Imported
from cvmlab.baseline.exchange.pcrlock import read_pcrlock, write_pcrlock
from cvmlab.baseline.exchange.rim import read_rim
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.baseline.document import Baseline

__all__ = ["FORMATS", "Exported", "Format", "Imported", "export_baseline", "import_baseline", "write_files"]

_ALL: Final = (
    Format("pcrlock", "systemd-pcrlock components", read_pcrlock, write_pcrlock, "/"),
    Format("keylime-mb", "Keylime measured-boot reference state", read_refstate, write_refstate, ".json"),
    Format("keylime-ima", "Keylime runtime policy (IMA)", read_runtime_policy, write_runtime_policy, ".json"),
    Format("keylime-tpm", "Keylime TPM policy", read_golden, write_tpm_policy, ".json"),
    Format("golden", "golden register values (JSON)", read_golden, write_json, ".json"),
    Format("pcrread", "golden register values (tpm2_pcrread)", read_golden, write_pcrread, ".yaml"),
    Format("compute-pcrs", "compute-pcrs JSON", read_compute_pcrs, write_compute_pcrs, ".json"),
    Format("maa", "Azure Attestation policy 1.2", read_maa, write_maa, ".txt"),
    Format("go-tpm-tools", "go-tpm-tools attest.Policy (text)", read_gotpm, write_gotpm, ".textproto"),
    Format("corim", "CoRIM reference values (CBOR)", read_corim, write_corim, ".cbor"),
    Format("tcg-rim", "TCG reference event log (support RIM)", read_rim, None, ".rimel"),
)
FORMATS: Final[Mapping[str, Format]] = {one.name: one for one in _ALL}
"""Every format by name."""


def import_baseline(path: str | Path, form: str, *, name: str | None = None) -> Imported:
    """Read a baseline from another tool's format.

    Args:
        path: File, or folder where the format is one.
        form: Name of the format, one of `FORMATS`.
        name: Name of the baseline; that of the file by default.

    Returns:
        The baseline and what was lost. It has no sources: no boot of it was seen.

    Raises:
        BaselineError: There is no such format, or the input is not of it.
        MissingExtraError: The format needs an extra.
    """
    found = _format(form)
    if found.read is None:
        raise BaselineError(f"{form} cannot be read")
    source = Path(path)
    return found.read(source, name if name is not None else source.stem or form)


def export_baseline(baseline: Baseline, form: str) -> Exported:
    """Write a baseline in another tool's format.

    Raises:
        BaselineError: There is no such format, or the baseline lacks what it needs.
        MissingExtraError: The format needs an extra.
    """
    found = _format(form)
    if found.write is None:
        raise BaselineError(
            f"{form} cannot be written: it holds the data of events, which a baseline keeps in part"
        )
    return found.write(baseline)


def _format(form: str) -> Format:
    if form not in FORMATS:
        raise BaselineError(f"{form!r} is no format known here: {', '.join(FORMATS)}")
    return FORMATS[form]


def write_files(exported: Exported, path: str | Path) -> list[Path]:
    """Write what was exported: one file, or a folder of them.

    Returns:
        The files written.

    Raises:
        BaselineError: They cannot be written.
    """
    target = Path(path)
    written = []
    try:
        for name, data in exported.files.items():
            file = target / name if name else target
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            written.append(file)
    except OSError as error:
        raise BaselineError(f"{target}: cannot be written: {error}") from None
    return written
