"""Evidence and inventory as they arrive: only what is complete is taken, and nothing is taken twice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.inventory import read_inventory
from cvmlab.fleet.lake.evaluation import evaluate
from cvmlab.fleet.lake.ingest import ingest
from cvmlab.fleet.lake.records import take_inventory
from cvmlab.fleet.lake.submissions import VerifierStore, find_submissions
from cvmlab.fleet.recommend_lake import recommend_lake, record_recommendations
from cvmlab.tables_lake import QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.fleet.inventory import Inventory
    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.lake.records import Kept

PARTIAL: Final = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")
"""Ends of names that programs give to what they are still writing."""
MAX_ENTRIES: Final = 100_000
MAX_OBJECT: Final = 256 * 1024 * 1024
_INVENTORY: Final = (".json", ".jsonl", ".ndjson", ".csv")


def complete(inbox: Path, settle: timedelta, now: datetime) -> list[Path]:
    """Return the entries of a folder that nobody is writing any more, by name.

    Writers give a partial upload a name with a dot in front or one of `PARTIAL` at the end and rename it when
    it is whole. For those that do not, an entry counts once nothing in it changed for `settle`.

    Raises:
        EvidenceError: The folder cannot be listed.
    """
    try:
        with os.scandir(inbox) as found:
            entries = sorted(found, key=lambda entry: entry.name)[:MAX_ENTRIES]
    except OSError as error:
        raise EvidenceError(f"{inbox}: cannot be listed: {error.strerror or error}") from error
    limit = (now - settle).timestamp()
    return [
        Path(entry.path)
        for entry in entries
        if not entry.is_symlink() and _whole(entry.name) and _newest(Path(entry.path)) <= limit
    ]


def _whole(name: str) -> bool:
    return not name.startswith(".") and not name.lower().endswith(PARTIAL)


def _newest(path: Path) -> float:
    """Return when an entry last changed; for ever where a part of it is partial or cannot be looked at."""
    try:
        newest = path.stat().st_mtime
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in entries:
                    if not _whole(entry.name):
                        return float("inf")
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        return float("inf")
    return newest


def mirror(url: str, folder: Path) -> None:
    """Copy the objects under a prefix into a folder, those that it does not have in this size and age.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``abfss://…``, ``file:///…``: what `pyarrow.fs` knows.
        folder: Where to; an object ``a/b.bin`` below the prefix becomes ``a/b.bin`` there.

    Raises:
        EvidenceError: The prefix cannot be listed or an object cannot be read.
    """
    from pyarrow import fs

    try:
        store, root = fs.FileSystem.from_uri(url)
        found = store.get_file_info(fs.FileSelector(root, recursive=True))
        for info in found[:MAX_ENTRIES]:
            parts = PurePosixPath(info.path[len(root) :].lstrip("/")).parts
            if not info.is_file or not parts or ".." in parts or len(parts) > 2 or info.size > MAX_OBJECT:
                continue
            target = folder.joinpath(*parts)
            age = info.mtime.timestamp() if info.mtime is not None else 0.0
            if target.is_file() and target.stat().st_size == info.size and target.stat().st_mtime == age:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            with store.open_input_stream(info.path) as source:
                partial.write_bytes(source.read(MAX_OBJECT))
            os.utime(partial, (age, age))
            partial.replace(target)
            os.utime(target.parent, (age, age))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{url}: cannot be read: {error}") from error


@dataclass(slots=True)
class Taken:
    """What a round took.

    Attributes:
        added: Evidence that is new in the lake.
        quarantined: Evidence, new in quarantine, that cannot be used.
        strays: Files, new in quarantine, that are no evidence and no word of a machine.
        judged: Verdicts.
        machines: Machines of which inventory tells something new.
        assessments: Assessments read.
        left_out: Problems that left a record of inventory out.
        recommended: Machines of which rules say something else now.
    """

    added: int = 0
    quarantined: int = 0
    strays: int = 0
    judged: int = 0
    machines: int = 0
    assessments: int = 0
    left_out: int = 0
    recommended: int = 0


class Intake:
    """Takes entries into the lake: evidence is kept and judged, inventory kept.

    Evidence is the machine's that its folder or file is named after: what it calls itself is a claim. The
    verifier's files count only from `store`, never from the inbox.

    Args:
        lake: The lake.
        baseline: The baseline; without one nothing is better than ``inconclusive``.
        context: What the verifier knows of all machines.
        store: The verifier's own folder, with one for each machine by name.
    """

    def __init__(
        self, lake: Lake, baseline: Baseline | None, context: VerifierContext, store: Path | None = None
    ) -> None:
        self._lake = lake
        self._baseline = baseline
        self._context = context
        self._store = VerifierStore(store)
        self._seen: dict[Path, float] = {}

    def take(self, paths: Iterable[Path], now: datetime, inventory: Iterable[Path] = ()) -> Taken:
        """Take entries; what the lake has with the same content is left as it is.

        Verdicts that the lake lacks are derived too, so those of a round that was cut short.

        Args:
            paths: Entries of an inbox.
            now: When they were received.
            inventory: Files or folders of one export, that hold inventory and nothing else.

        Raises:
            EvidenceError: One of `inventory` holds none.
        """
        counts = Taken()
        evidence: list[Path] = []
        records: dict[Path, Inventory] = {}
        given = tuple(inventory)
        if given and self._exports(given, counts, now) == 0:
            raise EvidenceError(f"{given[0]}: nothing in it is inventory")
        for path in paths:
            age = _newest(path)
            if self._seen.get(path) == age:
                continue
            self._seen[path] = age
            read = read_inventory(path) if path.suffix.lower() in _INVENTORY else None
            if read is not None and _any(read):
                records[path] = read
            else:
                evidence.append(path)
        if records:
            # what arrived together may be machines in one file and their extensions in another
            ordered = sorted(records, key=lambda path: (_newest(path), path.name))
            self._keep(ordered, records[ordered[0]] if len(ordered) == 1 else None, counts, now)
        if evidence:
            done = ingest(self._lake, find_submissions(evidence), store=self._store, received=now)
            counts.strays = self._strays(now) if done.quarantined else 0
            counts.added, counts.quarantined = done.added, done.quarantined - counts.strays
        counts.judged = evaluate(self._lake, self._baseline, self._context)
        found = recommend_lake(self._lake, now=now)
        counts.recommended = record_recommendations(self._lake, found, now)
        return counts

    def _strays(self, now: datetime) -> int:
        import pyarrow as pa
        import pyarrow.compute as pc

        where = (pc.field("received") == pa.scalar(now)) & ~pc.field("evidence")
        return len(self._lake.read(QUARANTINE, columns=["evidence"], where=where))

    def _exports(self, paths: tuple[Path, ...], counts: Taken, now: datetime) -> int:
        """Take the files of `inventory` where one is new; return how many records there are, or were."""
        ages = {path: _newest(path) for path in paths}
        if all(self._seen.get(path) == age for path, age in ages.items()):
            return 1
        kept = self._keep(paths, None, counts, now)
        self._seen |= ages
        return 1 if kept.known else kept.machines + kept.assessments + kept.others

    def _keep(self, paths: Sequence[Path], read: Inventory | None, counts: Taken, now: datetime) -> Kept:
        kept = take_inventory(self._lake, paths, now=now, read=read)
        counts.machines += kept.updated
        counts.assessments += kept.assessments
        counts.left_out += kept.fatal
        return kept


def _any(read: Inventory) -> bool:
    return bool(
        read.machines or read.loose_extensions or read.assessments or read.suppressions or read.alerts
    )
