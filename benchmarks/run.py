"""Measure what a person waits for, as times and as ratios to something measured in the same run.

Usage: python benchmarks/run.py [--repeat N]. Nothing here asserts: figures depend on the machine, and the
ratios say how cvmlab compares with a peer on it. Goals are in the design, section 9.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.trust.assess import Assessment

ROOT = Path(__file__).resolve().parent.parent
BOOTS = ROOT / "sample_data" / "boots"


def warm(action: Callable[[], object], repeat: int) -> float:
    """Return the median time of a call in seconds, after three calls that do not count."""
    for _ in range(3):
        action()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def cold(command: list[str], repeat: int) -> float:
    """Return the median time of a new process in seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def processes(repeat: int) -> list[tuple[str, float, str]]:
    """Cold starts: what the first command of the day costs."""
    python = sys.executable
    empty = cold([python, "-c", "pass"], repeat)
    pandas = cold([python, "-c", "import pandas"], repeat)
    rows = [("python -c pass", empty, ""), ("import pandas", pandas, "")]
    imported = cold([python, "-c", "import cvmlab"], repeat)
    rows.append(("import cvmlab", imported, f"{(imported - empty) * 1e3:.0f} ms more than no import"))
    investigate = [
        python, "-m", "cvmlab", "investigate", str(BOOTS / "cmdline_changed"),
        "--baseline", str(ROOT / "sample_data" / "baseline.json"),
        "--trust-root", str(BOOTS / "trust-root.pem"),
    ]  # fmt: skip
    spent = cold(investigate, repeat)
    rows.append(("cvmlab investigate, cold", spent, f"{spent / pandas:.2f} x import pandas"))
    log = BOOTS / "cmdline_changed" / "eventlog.bin"
    events = cold([python, "-m", "cvmlab", "events", str(log), "--json"], repeat)
    if peer := shutil.which("tpm2_eventlog"):
        dumped = cold([peer, str(log)], repeat)
        rows.append(("tpm2_eventlog, cold", dumped, ""))
        rows.append(("cvmlab events --json, cold", events, f"{events / dumped:.1f} x tpm2_eventlog"))
    else:
        rows.append(("cvmlab events --json, cold", events, "tpm2_eventlog is not installed"))
    return rows


def calls(repeat: int) -> list[tuple[str, float, str]]:
    """Warm calls inside one process."""
    import cvmlab
    from cvmlab.eventlog import framing, read_event_log
    from cvmlab.report.two_boots import compare_boots
    from cvmlab.tpm.public import parse_public
    from cvmlab.tpm.quote import check_quote

    folder = BOOTS / "cmdline_changed"
    data = grown((folder / "eventlog.bin").read_bytes(), 25_000)
    size = f"{len(data) / 1e3:.0f} KB"
    frame = warm(lambda: read_event_log(data).to_frame(), repeat)
    framed = warm(lambda: framing.frame(data), repeat)
    log = read_event_log(data)
    replay = warm(log.replay, repeat)
    message, signature = (folder / "quote.msg").read_bytes(), (folder / "quote.sig").read_bytes()
    key = parse_public((folder / "ak.pub").read_bytes(), source="ak.pub")
    quote = warm(lambda: check_quote(message, signature, key, nonce=None, values=None, source="q"), repeat)
    baseline = cvmlab.load_baseline(cvmlab.sample_baseline())
    root = cvmlab.sample_trust_root()
    whole = warm(lambda: cvmlab.investigate(folder, baseline=baseline, trust_roots=root), repeat)
    explained = [loaded(name) for name in ("baseline", "kernel_changed")]
    events = len(explained[1].log.events)
    compared = warm(lambda: compare_boots(*explained), repeat)
    return [
        (f"log of {size}: framing", framed, f"{framed / frame:.2f} of log to frame"),
        (f"log of {size}: decoded events frame", frame, "goal 5 ms"),
        *peer(data, size, frame, repeat),
        (f"log of {size}: replay of {len(log.banks)} banks", replay, ""),
        ("quote check, RSA-2048", quote, "goal 0.1 ms"),
        ("SNP report with its chain to the root", hardware(repeat), "goal 1 ms"),
        (f"two logs of {events} events: compared and explained", compared, "goal 300 ms"),
        ("investigate, warm", whole, f"{whole / frame:.1f} x log to frame"),
    ]


def loaded(name: str) -> Assessment:
    """Return a sample boot with its log grown to at least 200 events, as a log alone is assessed."""
    from cvmlab.eventlog import read_event_log
    from cvmlab.evidence import Evidence
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.trust.assess import assess

    data = grown((BOOTS / name / "eventlog.bin").read_bytes(), 60_000)
    return assess(Evidence(source=name, machine=name, logs=(read_event_log(data),)), VerifierContext())


def grown(data: bytes, size: int) -> bytes:
    """Return a log of at least `size` bytes: the log, and events of it once more."""
    from cvmlab.eventlog import read_event_log

    events = read_event_log(data).events
    again = data[events[len(events) // 2].offset : events[-1].offset]
    while len(data) < size:
        data += again
    return data


def peer(data: bytes, size: str, frame: float, repeat: int) -> list[tuple[str, float, str]]:
    """The same log by tpm2_eventlog, as a process: it has no library."""
    tool = shutil.which("tpm2_eventlog")
    if tool is None:
        return []
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        spent = cold([tool, file.name], min(repeat, 15))
    return [(f"log of {size}: tpm2_eventlog", spent, f"log to frame is {frame / spent:.2f} x of it")]


def hardware(repeat: int) -> float:
    """Time to read a hardware report and to verify it up to its root, certificates parsed before."""
    from cvmlab.evidence import load_context, load_evidence
    from cvmlab.tee import parse_hcl_report
    from cvmlab.trust.hardware import check_hardware

    folder = ROOT / "sample_data" / "azure" / "good"
    data = (folder / "hcl_report.bin").read_bytes()
    evidence = load_evidence(folder)
    context = load_context(folder, trust_roots=[ROOT / "sample_data" / "azure" / "roots" / "ark.pem"])
    at = datetime.now(UTC)

    def check() -> None:
        parse_hcl_report(data, source="hcl_report.bin")
        links = check_hardware(evidence, context, at=at).links
        if [link.status for link in links] != ["holds", "holds"]:
            raise SystemExit(f"the sample does not verify: {links}")

    return warm(check, repeat)


def studio(boots: int = 200, events: int = 200) -> list[tuple[str, float, str]]:
    """The baseline studio: many boots of five machines, each with a quote, a tenth of their events unlike."""
    from cvmlab.notebook import BaselineStudio
    from cvmlab.notebook.studio_panel import Panel

    with tempfile.TemporaryDirectory() as folder:
        made_boots(Path(folder), boots, events)
        start = time.perf_counter()
        made = BaselineStudio(folder)
        loaded = time.perf_counter() - start
    words = {outcome.word for outcome in made.outcomes()}
    if not made.baseline.pins or "fails" in words:
        raise SystemExit(f"the boots of the measurement do not pass their own baseline: {words}")
    # the twin is brought up to date as in a notebook
    panel = Panel(made, lambda: made.twin_html())
    places = [(r.register, slot) for r in made.baseline.registers for slot in range(len(r.slots))][::20]
    answers = [
        timed(partial(panel.act, action))
        for register, slot in places
        for action in (partial(made.set_class, "optional", register=register, slot=slot), made.undo)
    ]
    name = f"studio, {boots} boots of {events} events"
    return [
        (f"{name}: load", loaded, "goal 5 s"),
        (f"{name}: click, median", statistics.median(answers), "goal 200 ms"),
        (f"{name}: click, slowest", max(answers), ""),
    ]


def timed(action: Callable[[], object]) -> float:
    """Return the time of one call in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def made_boots(folder: Path, boots: int, events: int) -> None:
    """Write evidence of boots of five machines: a real log grown and varied, quoted by a software key."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from quoting import Machine, software_key

    from cvmlab.eventlog import read_event_log
    from cvmlab.fleet.vary import vary_log

    data = (BOOTS / "baseline" / "eventlog.bin").read_bytes()
    log = read_event_log(data)
    ends = [*(event.offset for event in log.events[1:]), log.end]
    # registers in which the boot loader may measure the same again
    again = [data[e.offset : end] for e, end in zip(log.events, ends, strict=True) if e.register in (8, 9)]
    data += b"".join(again[number % len(again)] for number in range(events - len(log.events)))
    for number in range(boots):
        varied = vary_log(data, number, 0.1)
        machine = Machine(events=(), key=software_key(number % 5))
        machine.files["eventlog.bin"] = varied
        values = machine.values["sha256"]
        for event in read_event_log(varied).events:
            if event.extends:
                extended = values[event.register] + event.digests["sha256"]
                values[event.register] = hashlib.sha256(extended).digest()
        machine.write(folder / f"boot{number:03}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    repeat = parser.parse_args().repeat
    tables = (("Processes", processes(repeat)), ("Calls", calls(repeat * 3)), ("Studio", studio()))
    for title, rows in tables:
        print(title)
        for name, seconds, remark in rows:
            print(f"  {name:44} {seconds * 1e3:9.2f} ms  {remark}")


if __name__ == "__main__":
    main()
