"""Evidence and inventory as they arrive: only what is complete is taken, and nothing is taken twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
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
    from datetime import datetime

    from pyarrow.fs import FileInfo, FileSystem

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.context import VerifierContext
    from cvmlab.fleet.inventory import Inventory
    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.lake.records import Kept

PARTIAL: Final = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")
"""Ends of names that programs give to what they are still writing."""
LITTER: Final = frozenset({".ds_store", ".directory", ".localized", ".gitkeep", "thumbs.db", "desktop.ini"})
"""Names, lower case, that file managers leave behind; they are neither evidence nor an upload under way."""
STALLED: Final = timedelta(hours=1)
"""An upload of which nothing came for so long is none any more: what there is of the folder counts."""
MAX_DEPTH: Final = 2
"""Parts of an object's name below the prefix: a machine, and a file of it."""
MAX_ENTRIES: Final = 1_000_000
MAX_OBJECT: Final = 256 * 1024 * 1024
MIN_FREE: Final = 1 << 30
"""Bytes that copying objects leaves free on this machine's disk."""
_MAX_NAME: Final = 255
_CHUNK: Final = 1 << 20
_INVENTORY: Final = (".json", ".jsonl", ".ndjson", ".csv")


def complete(inbox: Path, settle: timedelta, now: datetime) -> list[Path]:
    """Return the entries of a folder that nobody is writing any more, by name.

    Writers give a partial upload a name with a dot in front or one of `PARTIAL` at the end and rename it when
    it is whole; it holds its folder back until it is renamed or `STALLED`. For writers that do not, an entry
    counts once nothing in it changed for `settle`.

    Raises:
        EvidenceError: The folder cannot be listed, or more than `MAX_ENTRIES` lie in it.
    """
    try:
        with os.scandir(inbox) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        raise EvidenceError(f"{inbox}: cannot be listed: {error.strerror or error}") from error
    if len(entries) > MAX_ENTRIES:
        raise EvidenceError(f"{inbox}: more than {MAX_ENTRIES:,} entries; move what was taken elsewhere")
    limit = (now - settle).timestamp()
    return [
        Path(entry.path)
        for entry in entries
        if not entry.is_symlink()
        and _whole(entry.name)
        and entry.name.lower() not in LITTER
        and _newest(Path(entry.path), now) <= limit
    ]


def _whole(name: str) -> bool:
    return not name.startswith(".") and not name.lower().endswith(PARTIAL)


def _newest(path: Path, now: datetime) -> float:
    """Return when an entry last changed; for ever where a part of it is being written.

    An entry that cannot be looked at is as old as can be: reading it will tell what is wrong with it.
    """
    try:
        newest = path.stat().st_mtime
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.lower() in LITTER:
                        continue
                    age = entry.stat(follow_symlinks=False).st_mtime
                    if not _whole(entry.name) and age > (now - STALLED).timestamp():
                        return float("inf")
                    newest = max(newest, age)
    except OSError:
        return 0.0
    return newest


def mirror(url: str, folder: Path) -> list[str]:
    """Make a folder hold what lies under a prefix of an object store, as `complete` then finds it.

    An object ``a/b.bin`` below the prefix becomes ``a/b.bin`` in the folder. What the folder has in this size
    and age is not read again; what is no longer under the prefix is removed from it.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``abfss://…``, ``file:///…``: what `pyarrow.fs` knows.
        folder: Where to; nothing else may be in it.

    Returns:
        What was left out, and why: names that are no plain path, objects that are too large, or that cannot
        be read.

    Raises:
        EvidenceError: The prefix cannot be listed, or the disk is full.
    """
    import pyarrow as pa
    from pyarrow import fs

    try:
        store, root = fs.FileSystem.from_uri(url)
        found = store.get_file_info(fs.FileSelector(root, recursive=True))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise EvidenceError(f"{url}: cannot be listed: {error}") from error
    left: list[str] = []
    kept: set[Path] = set()
    broken: set[Path] = set()
    files = sorted((info for info in found if info.is_file), key=lambda info: info.path)
    for info in files[:MAX_ENTRIES]:
        key = info.path.removeprefix(root.rstrip("/")).removeprefix("/")
        parts = key.split("/")
        why = _unfit(parts) or (f"{info.size:,} bytes" if info.size > MAX_OBJECT else "")
        if not why and shutil.disk_usage(folder.parent).free - info.size < MIN_FREE:
            raise EvidenceError(f"{folder}: the disk is full; free some of it to copy {url} on")
        try:
            if not why:
                kept.add(_copied(store, info, folder, parts))
        except (OSError, pa.ArrowException) as error:
            why = f"{error}; all of {parts[0]!r} waits for the next round"
            broken.add(folder / parts[0])
        if why:
            left.append(f"object {key[:_MAX_NAME]!r} is left out: {why}")
    if len(files) > MAX_ENTRIES:
        left.append(f"{len(files) - MAX_ENTRIES:,} objects are left out: {MAX_ENTRIES:,} are looked at")
    # part of a machine's evidence must not be judged as if it were all
    _forget(folder, {path for path in kept if path not in broken and path.parent not in broken})
    return left


def _unfit(parts: list[str]) -> str:
    """Say why the parts of a key are no path below a folder; an empty text where they are."""
    if len(parts) > MAX_DEPTH:
        return f"its name has more than {MAX_DEPTH} parts below the prefix"
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or "\\" in part:
            return "its name is no plain path"
        if len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME:
            return f"a part of its name has more than {_MAX_NAME} bytes"
    return ""


def _copied(store: FileSystem, info: FileInfo, folder: Path, parts: list[str]) -> Path:
    target = folder.joinpath(*parts)
    age = info.mtime.timestamp() if info.mtime is not None else 0.0
    if target.is_file() and target.stat().st_size == info.size and target.stat().st_mtime == age:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        partial = Path(scratch) / "object"
        with store.open_input_stream(info.path) as source, partial.open("wb") as copy:
            for start in range(0, info.size, _CHUNK):
                copy.write(source.read(min(_CHUNK, info.size - start)))
        if partial.stat().st_size != info.size:
            raise OSError(f"{partial.stat().st_size:,} of {info.size:,} bytes could be read")
        os.utime(partial, (age, age))
        partial.replace(target)
    # a folder is as old as what lies in it, not as this copy of it
    os.utime(target.parent, (age, age))
    return target


def _forget(folder: Path, kept: set[Path]) -> None:
    """Remove what is not kept, and folders that hold nothing any more."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            if Path(place, name) not in kept:
                Path(place, name).unlink()
        if Path(place) != folder and not any(Path(place).iterdir()):
            Path(place).rmdir()


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
            age = _newest(path, now)
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
            ordered = sorted(records, key=lambda path: (_newest(path, now), path.name))
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
        ages = {path: _newest(path, now) for path in paths}
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
