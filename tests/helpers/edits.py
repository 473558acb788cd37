"""Changes to copies of sample boots: one thing each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cvmlab.eventlog import Event, read_event_log

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
Change = Callable[[Path], object]


def edit_log(function: Callable[[bytes, list[tuple[int, int]], tuple[Event, ...]], bytes]) -> Change:
    """Change a log, given its bytes, the span of each event and the events."""

    def change(folder: Path) -> None:
        path = folder / "eventlog.bin"
        data = path.read_bytes()
        log = read_event_log(data)
        starts = [event.offset for event in log.events]
        spans = list(zip(starts, [*starts[1:], log.end], strict=True))
        path.write_bytes(function(data, spans, log.events))

    return change


def removed(index: int) -> Change:
    return edit_log(lambda data, spans, _: data[: spans[index][0]] + data[spans[index][1] :])


def doubled(index: int) -> Change:
    return edit_log(
        lambda data, spans, _: data[: spans[index][1]] + data[slice(*spans[index])] + data[spans[index][1] :]
    )


def swapped(first: int, second: int) -> Change:
    def run(data: bytes, spans: list[tuple[int, int]], _: tuple[Event, ...]) -> bytes:
        (a, b), (c, d) = spans[first], spans[second]
        return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]

    return edit_log(run)


def digest_flipped(index: int, bank: str = "sha256") -> Change:
    def run(data: bytes, spans: list[tuple[int, int]], events: tuple[Event, ...]) -> bytes:
        at = data.index(events[index].digests[bank], spans[index][0])
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return edit_log(run)


def type_changed(index: int, number: int) -> Change:
    def run(data: bytes, spans: list[tuple[int, int]], _: tuple[Event, ...]) -> bytes:
        at = spans[index][0] + 4
        return data[:at] + number.to_bytes(4, "little") + data[at + 4 :]

    return edit_log(run)


def cut_after(index: int, extra: int = 0) -> Change:
    return edit_log(lambda data, spans, _: data[: spans[index][1] + extra])


def without(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def written(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def log_of(name: str) -> Change:
    return lambda folder: shutil.copy(BOOTS / name / "eventlog.bin", folder / "eventlog.bin")


def event(name: str, kind: str, register: int) -> int:
    """Index of the first event of a kind in a register of a sample boot."""
    log = read_event_log(BOOTS / name / "eventlog.bin")
    return next(e.index for e in log.events if e.payload.kind == kind and e.register == register)
