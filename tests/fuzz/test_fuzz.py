"""Short runs of every fuzz target, and what longer runs found before."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
TARGETS = runpy.run_path(str(HERE / "targets.py"))
NAMES = sorted(TARGETS["TARGETS"])
REGRESSIONS = sorted(p for p in (HERE / "regressions").rglob("*") if p.is_file() and p.name != "README.md")


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_what_was_found_before_stays_fixed(path: Path) -> None:
    TARGETS["run"](path.parent.name, path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read(name: str) -> None:
    for seed in TARGETS["seeds"](name):
        TARGETS["run"](name, seed)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "evidence"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mutated_seeds_never_crash(name: str, data: st.DataObject) -> None:
    seeds = [seed for seed in TARGETS["seeds"](name) if seed] or [b""]
    seed = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        if not seed:
            break
        at = data.draw(st.integers(0, len(seed) - 1))
        change = data.draw(st.sampled_from(("flip", "zero", "full", "cut", "repeat")))
        if change == "flip":
            seed[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del seed[at : at + data.draw(st.integers(1, 64))]
        elif change == "repeat":
            seed[at:at] = seed[at : at + 32]
        else:
            seed[at : at + 4] = (b"\0" if change == "zero" else b"\xff") * len(seed[at : at + 4])
    TARGETS["run"](name, bytes(seed))


@pytest.fixture(scope="module")
def coverage_guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one run of every target for two seconds: they share the instrumented imports."""
    folder = tmp_path_factory.mktemp("fuzz")
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), ",".join(NAMES), "2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    (folder / "codes.txt").write_text(done.stdout)
    assert len(done.stdout.splitlines()) == len(NAMES), done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_coverage_guided_run_finds_nothing_in_two_seconds(name: str, coverage_guided: Path) -> None:
    said = (coverage_guided / f"{name}.log").read_text(errors="replace")
    codes = dict(line.split() for line in (coverage_guided / "codes.txt").read_text().splitlines())
    assert codes[name] == "0", said[-3000:]
    assert not list(coverage_guided.glob(f"{name}.found-*"))
    assert "stat::number_of_executed_units" in said
