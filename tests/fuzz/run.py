"""Fuzz with coverage guidance: python tests/fuzz/run.py TARGET[,TARGET…] [SECONDS] [-libfuzzer_option=…].

Several targets share the imports, which take longest to instrument: each runs in a fork, for SECONDS, and
as many at once as there are processors. What is found lies in the working directory as crash-…, of several
targets as TARGET.found-crash-…; once fixed, keep it in tests/fuzz/regressions/TARGET/.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

with atheris.instrument_imports(include=["cvmlab", "targets"]):
    import targets


def fuzz(name: str, seconds: str, more: list[str]) -> None:
    """Run one target until the time is over; ends the process."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(targets.seeds(name)):
            (Path(folder) / f"seed-{number}").write_bytes(data)
        kept = HERE / "regressions" / name
        for path in sorted(kept.iterdir()) if kept.is_dir() else []:
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        options = [
            f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=2048", "-max_len=65536",
            "-print_final_stats=1", *more,
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, folder], lambda data: targets.run(name, data))
        with contextlib.suppress(SystemExit):
            atheris.Fuzz()


def fuzz_all(names: list[str], seconds: str, more: list[str]) -> int:
    """Run targets in forks, print one line for each and return how many found something.

    What a target writes goes to TARGET.log in the working directory.
    """
    waiting, running, failed = list(names), {}, 0
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            name = waiting.pop(0)
            child = os.fork()
            if not child:
                log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(log, 1)
                os.dup2(log, 2)
                fuzz(name, seconds, [f"-artifact_prefix={name}.found-", *more])
                # libFuzzer reports what it found when the process ends in the usual way
                sys.exit(0)
            running[child] = name
        child, status = os.wait()
        name = running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        failed += code != 0
        print(f"{name} {code}", flush=True)
    return failed


def main() -> None:
    """Run what is asked for."""
    names, seconds = sys.argv[1].split(","), sys.argv[2] if len(sys.argv) > 2 else "600"
    if len(names) == 1:
        fuzz(names[0], seconds, sys.argv[3:])
    else:
        sys.exit(1 if fuzz_all(names, seconds, sys.argv[3:]) else 0)


if __name__ == "__main__":
    main()
