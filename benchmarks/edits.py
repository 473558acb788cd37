"""Every single-event edit of a real log, with the quote of the unedited boot: is it named?

Usage: python benchmarks/edits.py [BOOT…] [--without-baseline]. Prints the table of docs/edits.md: each event
removed, each digest changed, each pair of neighbours of a register swapped, each cut.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from edits import BOOTS, cut_after, digest_flipped, removed, swapped  # noqa: E402

import cvmlab  # noqa: E402
from cvmlab.baseline import load_baseline  # noqa: E402
from cvmlab.eventlog import read_event_log  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edits import Change

    from cvmlab.report.investigation import Investigation

CODES = {
    "removed": {"log-event-removed", "log-truncated"},
    "digest changed": {"log-event-modified"},
    "swapped": {"log-events-reordered"},
    "cut": {"log-truncated"},
}
DAMAGE = {
    "log-event-removed", "log-event-inserted", "log-event-modified", "log-events-reordered", "log-truncated",
    "log-of-another-boot", "log-malformed", "event-data-forged", "separator-duplicated",
}  # fmt: skip


def edits(boot: str) -> Iterator[tuple[str, Change, set[int], set[int]]]:
    """Kind, edit, events of the unedited log that it concerns, and their registers."""
    log = read_event_log(BOOTS / boot / "eventlog.bin")
    extending = [event for event in log.events if event.extends]
    for event in extending:
        yield "removed", removed(event.index), {event.index}, {event.register}
        yield "digest changed", digest_flipped(event.index), {event.index}, {event.register}
    for register in sorted({event.register for event in extending}):
        own = [event for event in extending if event.register == register]
        for first, second in pairwise(own):
            if first.digests != second.digests:
                yield "swapped", swapped(first.index, second.index), {first.index, second.index}, {register}
    for event in log.events[1:-1]:
        lost = {e.register for e in extending if e.index > event.index}
        yield "cut", cut_after(event.index), {event.index}, lost


def judge(result: Investigation, kind: str, events: set[int], registers: set[int]) -> str:
    """Say how an edit was named."""
    primary = result.primary
    if result.verdict != "not-trusted" or primary is None:
        return "missed"
    if primary.code in CODES[kind]:
        exact = {
            "removed": registers <= set(primary.registers),
            "digest changed": set(primary.events) == events,
            "swapped": set(primary.registers) == registers and bool(events & set(primary.events)),
            "cut": set(primary.events) == events,
        }[kind]
        if exact:
            return "named exactly"
    if primary.code in DAMAGE and registers & set(primary.registers):
        return "named as damage"
    return "missed"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("boots", nargs="*", default=["baseline"])
    parser.add_argument("--without-baseline", action="store_true")
    options = parser.parse_args()
    baseline = None if options.without_baseline else load_baseline(cvmlab.sample_baseline())
    root = cvmlab.sample_trust_root()
    counts: dict[str, Counter[str]] = {}
    slowest = 0.0
    for boot in options.boots:
        for kind, change, events, registers in edits(boot):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / boot
                shutil.copytree(BOOTS / boot, folder)
                change(folder)
                start = time.perf_counter()
                result = cvmlab.investigate(folder, baseline=baseline, trust_roots=root)
                slowest = max(slowest, time.perf_counter() - start)
            outcome = judge(result, kind, events, registers)
            counts.setdefault(kind, Counter())[outcome] += 1
            if outcome != "named exactly":
                primary = result.primary
                said = f"{primary.code} {primary.events} {primary.registers}" if primary else result.verdict
                print(f"  {boot}: {kind} {sorted(events)} in {sorted(registers)}: {outcome} ({said})")
    print("| edit | tried | named exactly | named as damage of that register | missed |")
    print("|---|---|---|---|---|")
    for kind, found in counts.items():
        row = [found["named exactly"], found["named as damage"], found["missed"]]
        print(f"| {kind} | {sum(row)} | {' | '.join(map(str, row))} |")
    print(f"slowest investigation: {slowest * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
