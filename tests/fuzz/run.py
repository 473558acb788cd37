"""Fuzz one target with coverage guidance: python tests/fuzz/run.py TARGET [SECONDS] [-libfuzzer_option=…].

What is found lies in the working directory as crash-…; once fixed, keep it in tests/fuzz/regressions/TARGET/.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

with atheris.instrument_imports(include=["cvmlab", "targets"]):
    import targets


def main() -> None:
    """Run until the time is over."""
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "600"
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(targets.seeds(name)):
            (Path(folder) / f"seed-{number}").write_bytes(data)
        kept = HERE / "regressions" / name
        for path in sorted(kept.iterdir()) if kept.is_dir() else []:
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        options = [
            f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=2048", "-max_len=65536",
            "-print_final_stats=1", *sys.argv[3:],
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, folder], lambda data: targets.run(name, data))
        with contextlib.suppress(SystemExit):
            atheris.Fuzz()


if __name__ == "__main__":
    main()
