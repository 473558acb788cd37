"""Every single-event edit of a real log, with the quote of the unedited boot: is it named?

Usage: python benchmarks/edits.py [BOOT…] [--log FILE…] [--every K] [--without-baseline]. Prints the tables of
docs/edits.md: each event removed, each digest changed, each pair of neighbours in a register swapped, cuts.
A log alone is measured anew first: its events make the registers, and a key outside any TPM signs the quote.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import relog  # noqa: E402
from edits import BOOTS, cut_after, digest_flipped, removed, swapped  # noqa: E402
from remeasure import NO_ACTION, NUMBERS, enrolled_key, write_boot  # noqa: E402

import cvmlab  # noqa: E402
from cvmlab.baseline import load_baseline  # noqa: E402
from cvmlab.errors import BaselineError  # noqa: E402
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


@dataclass(frozen=True, slots=True)
class Unedited:
    """A boot before any edit, and what judges it.

    Attributes:
        folder: Its evidence.
        judges: Keywords of `cvmlab.investigate`: the baseline, and the root or the key of the quote.
    """

    folder: Path
    judges: dict[str, Any]


def sample(name: str, *, with_baseline: bool) -> Unedited:
    """Return a sample boot with the baseline of the sample."""
    baseline = load_baseline(cvmlab.sample_baseline()) if with_baseline else None
    return Unedited(BOOTS / name, {"baseline": baseline, "trust_roots": cvmlab.sample_trust_root()})


def measured_anew(path: Path, scratch: Path, *, with_baseline: bool) -> Unedited:
    """Return a boot of a log alone, with the baseline learned of it.

    Raises:
        SystemExit: The log is damaged, has no whole SHA-256 bank, or no baseline is learned of its boot.
    """
    log = relog.read(path)
    extending = [event for event in log.boot.events if event.type != NO_ACTION] if log else []
    banks = [bank for bank in NUMBERS if all(bank in event.digests for event in extending)]
    if log is None or not extending or "sha256" not in banks:
        raise SystemExit(f"{path}: no whole log with SHA-256 digests; give another")
    folder = write_boot(scratch / "unedited", log.boot.events, banks=banks)
    keys = [enrolled_key(scratch)]
    try:
        baseline = cvmlab.learn([folder], enrolled_keys=keys) if with_baseline else None
    except BaselineError as error:
        raise SystemExit(f"{path}: {error}") from error
    boot = Unedited(folder, {"baseline": baseline, "enrolled_keys": keys})
    verdict = cvmlab.investigate(folder, **boot.judges).verdict
    if with_baseline and verdict != "trusted":
        raise SystemExit(f"{path}: the unedited boot is {verdict}; give another")
    return boot


def edits(folder: Path) -> Iterator[tuple[str, Change, set[int], set[int]]]:
    """Kind, edit, events of the unedited log that it concerns, and their registers."""
    log = read_event_log(folder / "eventlog.bin")
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
        if lost:
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


def tried(boot: Unedited, name: str, every: int) -> dict[str, Counter[str]]:
    """Try the edits of a boot, every so many of each kind, and count how they were named by kind."""
    counts: dict[str, Counter[str]] = {}
    seen: Counter[str] = Counter()
    slowest = 0.0
    for kind, change, events, registers in edits(boot.folder):
        seen[kind] += 1
        if (seen[kind] - 1) % every:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "edited"
            shutil.copytree(boot.folder, folder)
            change(folder)
            start = time.perf_counter()
            result = cvmlab.investigate(folder, **boot.judges)
            slowest = max(slowest, time.perf_counter() - start)
        outcome = judge(result, kind, events, registers)
        counts.setdefault(kind, Counter())[outcome] += 1
        if outcome != "named exactly":
            primary = result.primary
            said = f"{primary.code} {primary.events} {primary.registers}" if primary else result.verdict
            print(f"  {name}: {kind} {sorted(events)} in {sorted(registers)}: {outcome} ({said})")
    print(f"  {name}: slowest investigation {slowest * 1e3:.0f} ms", flush=True)
    return counts


def main() -> None:
    """Print the table: of all boots together by kind of edit, and of each boot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("boots", nargs="*")
    parser.add_argument("--log", action="append", default=[], type=Path, metavar="FILE", dest="logs")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="try every K-th edit of a kind")
    parser.add_argument("--without-baseline", action="store_true")
    options = parser.parse_args()
    with_baseline = not options.without_baseline
    names = options.boots or ([] if options.logs else ["baseline"])
    total: dict[str, Counter[str]] = {}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        boots = {name: sample(name, with_baseline=with_baseline) for name in names}
        for number, path in enumerate(options.logs):
            place = Path(scratch) / str(number)
            place.mkdir()
            boots[str(path)] = measured_anew(path, place, with_baseline=with_baseline)
        for name, boot in boots.items():
            counts = tried(boot, name, options.every)
            for kind, found in counts.items():
                total.setdefault(kind, Counter()).update(found)
            rows.append((name, sum(counts.values(), Counter())))
    for title, table in (("edit", total.items()), ("boot", rows)):
        print(f"\n| {title} | tried | named exactly | named as damage of that register | missed |")
        print("|---|---|---|---|---|")
        for label, found in table:
            row = [found["named exactly"], found["named as damage"], found["missed"]]
            print(f"| {label} | {sum(row)} | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
