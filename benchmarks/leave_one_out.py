"""Leave one out: false alarms and misses of baselines learned from all but one boot.

Usage: python benchmarks/leave_one_out.py [--boots FOLDER]... [--corpus FOLDER]

Lab boots: the good boots of one machine image are learned but for one, which must then be trusted (else it is
a false alarm); every other boot of the folder must not be (else it is a miss). Which boots are good is read
from the folder's ``expected.json``; they are learned with and without cohorts.

Corpus: logs of real machines, each from one machine alone, without quotes. A baseline of one log must match
that log itself, must not match any other, and must not match the log with one event changed, left out,
doubled or moved. Since no quote covers them, their register values stand for quoted ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cvmlab
from cvmlab.baseline import compare, learn_baseline
from cvmlab.errors import CvmlabError
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.baseline import Baseline
    from cvmlab.eventlog import EventLog
    from cvmlab.trust.assess import Assessment

ROOT = Path(__file__).resolve().parent.parent


def lab(folder: Path) -> tuple[list[str], int, int, int, int]:
    """Leave out each good boot of a folder in turn.

    Returns:
        Lines, good boots judged, false alarms, other boots judged, misses.
    """
    expected = json.loads((folder / "expected.json").read_text())
    good = [name for name, e in expected.items() if e["verdict"] == "trusted" and "baseline" not in e]
    judged = alarms = tried = missed = 0
    lines = []
    for parted in (False, True):
        for left in good:
            # the kernel update belongs to the fleet where cohorts are learned
            others = [name for name in good if name != left]
            others += [name for name in ("kernel_changed", "kernel_6_12") if parted and name in expected]
            baseline = cvmlab.learn(
                [folder / name for name in others], trust_roots=folder / "trust-root.pem", cohorts=parted
            )
            judged += 1
            if verdict(folder, left, baseline) != "trusted":
                alarms += 1
                lines.append(f"false alarm: {folder.name}/{left}, learned from {', '.join(others)}")
            for name in expected:
                if name in good or name in others:
                    continue
                tried += 1
                if verdict(folder, name, baseline) == "trusted":
                    missed += 1
                    lines.append(f"miss: {folder.name}/{name}, learned from {', '.join(others)}")
    return lines, judged, alarms, tried, missed


def verdict(folder: Path, name: str, baseline: Baseline) -> str:
    """Return the verdict for one boot."""
    return cvmlab.investigate(folder / name, baseline=baseline, trust_roots=folder / "trust-root.pem").verdict


def corpus(folder: Path) -> tuple[list[str], dict[str, list[int]]]:
    """Judge every log of the corpus by the baseline of each.

    Returns:
        Lines, and for each way (own log, other logs, each edit) how many were judged and how many wrongly.
    """
    boots: dict[str, Assessment] = {}
    seen: set[bytes] = set()
    for row in json.loads((folder / "eventlogs.json").read_text()):
        data = (folder / "eventlogs" / row["file"]).read_bytes()
        boot = quoted(data)
        if boot is None or len(boot.log.events) < 5 or data in seen:
            continue
        seen.add(data)
        boots[row["file"]] = boot
    counts: dict[str, list[int]] = {}
    lines = []

    def count(way: str, wrong: bool, what: str) -> None:
        found = counts.setdefault(way, [0, 0])
        found[0] += 1
        found[1] += wrong
        if wrong:
            lines.append(f"{way}: {what}")

    baselines = {}
    for name, boot in boots.items():
        try:
            baselines[name] = learn_baseline([boot], name=name)
        except CvmlabError as error:
            lines.append(f"not learned: {name}: {error}")
    for name, baseline in baselines.items():
        count("own log refused", not compare(boots[name], baseline).matches, name)
        for other, boot in boots.items():
            if other != name and not same(boot.log, boots[name].log):
                count("other log accepted", compare(boot, baseline).matches, f"{other} by {name}")
        for way, edited in edits(boots[name]):
            count(f"{way} accepted", compare(edited, baseline).matches, name)
    return lines, counts


def quoted(data: bytes) -> Assessment | None:
    """The trust chain of a log alone, with the values of its replay standing for quoted ones.

    Returns:
        None for logs that are damaged or contradict themselves: those are refused before any baseline.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "eventlog.bin").write_bytes(data)
        try:
            boot = assess(cvmlab.load_evidence(folder), cvmlab.load_context(folder))
        except CvmlabError:
            return None
    if boot.log is None or not boot.log.events or any(link.status == "broken" for link in boot.links):
        return None
    return covered(boot)


def covered(boot: Assessment) -> Assessment:
    """Let the values of the replay stand for quoted ones, and every link for one that holds."""
    states = tuple(replace(s, quoted=s.replayed, status="matches") for s in boot.replay.states)
    links = tuple(replace(link, status="holds") for link in boot.links)
    return replace(boot, links=links, replay=replace(boot.replay, states=states))


def same(a: EventLog, b: EventLog) -> bool:
    """True where two logs extend the same digests in the same order."""
    return [(e.register, dict(e.digests)) for e in a.events if e.digests] == [
        (e.register, dict(e.digests)) for e in b.events if e.digests
    ]


def edits(boot: Assessment) -> Iterator[tuple[str, Assessment]]:
    """Yield the boot with one event changed, left out, doubled, or moved, for every tenth event."""
    log = boot.log
    assert log is not None
    extended = [i for i, e in enumerate(log.events) if e.digests and e.digest_check != "not-extended"]
    for at in extended[::10]:
        event = log.events[at]
        flipped = {bank: bytes([value[0] ^ 1]) + value[1:] for bank, value in event.digests.items()}
        changed = replace(event, digests=flipped)
        before, after = log.events[:at], log.events[at + 1 :]
        yield "event changed", with_events(boot, (*before, changed, *after))
        yield "event left out", with_events(boot, (*before, *after))
        yield "event doubled", with_events(boot, (*before, event, event, *after))
        following = next(
            (j for j, e in enumerate(after) if e.register == event.register and e.digests != event.digests),
            None,
        )
        if following is not None:
            yield (
                "event moved",
                with_events(boot, (*before, *after[: following + 1], event, *after[following + 1 :])),
            )


def with_events(boot: Assessment, events: tuple[object, ...]) -> Assessment:
    """The boot with other events. Registers count as matching: whatever was extended, the quote agrees."""
    numbered = tuple(replace(event, index=i) for i, event in enumerate(events))  # type: ignore[type-var]
    assert boot.log is not None
    states = tuple(
        replace(s, quoted=bytes(len(s.quoted or b"")), status="matches") for s in boot.replay.states
    )
    evidence = replace(boot.evidence, logs=(replace(boot.log, events=numbered),))
    return replace(boot, evidence=evidence, replay=replace(boot.replay, states=states))


def main() -> int:
    """Print what was judged and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boots", type=Path, action="append", help="folder of lab boots with expected.json")
    parser.add_argument("--corpus", type=Path, help="folder of collected logs with eventlogs.json")
    given = parser.parse_args()
    for folder in given.boots or [ROOT / "sample_data" / "boots"]:
        lines, judged, alarms, tried, missed = lab(folder)
        print("\n".join(lines))
        print(
            f"{folder}: {judged} good boots left out, {alarms} false alarms; {tried} others, {missed} misses"
        )
    if given.corpus:
        lines, counts = corpus(given.corpus)
        print("\n".join(lines))
        for way, (total, wrong) in counts.items():
            print(f"{way}: {wrong} of {total}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
