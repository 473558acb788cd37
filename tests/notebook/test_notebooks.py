"""Notebooks follow the house rules and run offline from the sample boots."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in _cells(path) if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_follows_the_house_rules(path: Path) -> None:
    code = _code(path)
    assert len(code) <= 12
    for cell in code:
        assert len("".join(cell["source"]).splitlines()) <= 8
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    assert "parameters" in code[0]["metadata"].get("tags", [])
    assert "import" in "".join(code[1]["source"])
    assert not any("import " in "".join(cell["source"]) for cell in code[2:])
    nbformat.validate(nbformat.read(path, as_version=4))


def _texts(path: Path) -> str:
    found = []
    for cell in _code(path):
        for output in cell["outputs"]:
            data = output.get("data", {})
            found += ["".join(data.get("text/plain", "")), "".join(output.get("text", ""))]
    return "\n".join(found)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("", "the kernel command line changed"),
        ("secureboot_disabled", "Secure Boot is off"),
        ("mix_log_truncated", "the end of the log is missing"),
        ("stock_linux_cmd_sboff", "the boot event log is missing"),
    ],
)
def test_notebook_01_tells_why(tmp_path: Path, sample: str, said: str) -> None:
    evidence = str(ROOT / "sample_data" / "boots" / sample) if sample else ""
    done = tmp_path / "done.ipynb"
    papermill.execute_notebook(
        str(ROOT / "notebooks" / "01_investigate_failed_attestation.ipynb"),
        str(done),
        parameters={"evidence": evidence, "report": str(tmp_path / "report.html")},
        kernel_name="python3",
        progress_bar=False,
        cwd=str(tmp_path),
    )
    assert said in _texts(done)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert said in page
    assert "<script" not in page
    # an executed notebook stays small enough to mail
    assert done.stat().st_size < 1_500_000


AZURE = ROOT / "sample_data" / "azure"


def _run(notebook: str, folder: Path, **parameters: object) -> Path:
    done = folder / "done.ipynb"
    papermill.execute_notebook(
        str(ROOT / "notebooks" / notebook),
        str(done),
        parameters=parameters,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(folder),
    )
    return done


def test_notebook_01_shows_the_hardware_chain(tmp_path: Path) -> None:
    done = _run(
        "01_investigate_failed_attestation.ipynb",
        tmp_path,
        report=str(tmp_path / "report.html"),
        evidence=str(AZURE / "report_edited"),
        baseline=str(AZURE / "baseline.json"),
        trust_roots=[str(AZURE / "roots" / "ark.pem"), str(AZURE / "roots" / "vtpm.pem")],
    )
    text = _texts(done)
    assert "the hardware report's signature is wrong" in text
    assert "Nothing to show" not in text
    assert "hardware-root" in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "", "kernel changed"),
        ("baseline", "baseline_repeat", "no event differs"),
        ("baseline", "dbx_updated", "revocation list"),
    ],
)
def test_notebook_04_says_what_differs(tmp_path: Path, before: str, after: str, said: str) -> None:
    boots = ROOT / "sample_data" / "boots"
    done = _run(
        "04_compare_two_boots.ipynb",
        tmp_path,
        report=str(tmp_path / "report.html"),
        before=str(boots / before) if before else "",
        after=str(boots / after) if after else "",
    )
    assert said in _texts(done)
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert done.stat().st_size < 1_500_000


def test_notebook_02_builds_a_baseline_that_reads_without_widgets(tmp_path: Path) -> None:
    from nbconvert import HTMLExporter

    import cvmlab

    done = tmp_path / "done.ipynb"
    papermill.execute_notebook(
        str(ROOT / "notebooks" / "02_build_a_baseline.ipynb"),
        str(done),
        parameters={"output": str(tmp_path / "baseline.json")},
        kernel_name="python3",
        progress_bar=False,
        cwd=str(tmp_path),
    )
    saved = cvmlab.load_baseline(tmp_path / "baseline.json")
    assert saved.pins
    assert saved.history[-1].who == "notebook"
    said = _texts(done)
    assert "initrd_tampered: fails, now passes" in said
    page, _ = HTMLExporter().from_filename(str(done))
    # the twin of the studio itself, and not only of the cells below it
    for text in (
        "Who passes",
        "What an attacker could change unseen",
        "slots pinned everywhere",
        "held back",
    ):
        assert text in page
    assert done.stat().st_size < 1_500_000


def _read(path: Path) -> str:
    """The executed notebook as it reads in an export: without kernel and script."""
    from nbconvert import HTMLExporter

    return str(HTMLExporter().from_filename(str(path))[0])


def test_notebook_03_shows_a_fleet_that_reads_without_widgets(tmp_path: Path) -> None:
    done = _run("03_fleet_recommendations.ipynb", tmp_path, machines=90, days=5)
    page = html.unescape(_read(done))
    for said in (
        "SIMULATED: machines of this lake do not exist",
        "boot integrity score",
        "A machine scores 100 while it is attested",
        "Evidence against configuration",
        "secure-boot-must-stay-off",
        "Machines by last verdict",
        "Survival of old values",
        "rolling-out",
        "If the baseline SIMULATED, updated were enforced",
        "the hardware report's signature is wrong",
    ):
        assert said in page, said
    # the twin of the filters: what is chosen, what can be, the figure, and the code that repeats it
    for said in ("What can be chosen", "westeurope (", 'alt="Rows by recommendation and state'):
        assert said in page, said
    assert "view.select(state=" in page
    assert "az vm" in page
    assert done.stat().st_size < 1_500_000


def test_notebook_03_opens_a_lake_of_its_own(tmp_path: Path) -> None:
    from cvmlab.baseline import save_baseline
    from cvmlab.fleet.demo import open_or_simulate

    found = open_or_simulate("", 12, 1)
    save_baseline(found.what_if()[0], tmp_path / "b.json")
    done = _run(
        "03_fleet_recommendations.ipynb",
        tmp_path,
        lake=found.lake.location,
        baseline=str(tmp_path / "b.json"),
    )
    text = _texts(done)
    assert "12" in text
    # seen years after it was simulated, no evidence is fresh
    assert "silent" in text


def test_notebook_05_measures_and_finds_the_same_everywhere(tmp_path: Path) -> None:
    done = _run("05_scale_out_with_dask.ipynb", tmp_path, machines=60, batch=15)
    text = _texts(done)
    for said in ("one process", "2 workers", "times as fast", "The same in every lake", "machines a second"):
        assert said in text, said
    # handed in a second time, nothing is added
    assert "added=0" in text
    assert done.stat().st_size < 1_500_000
