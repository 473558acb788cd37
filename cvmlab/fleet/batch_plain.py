"""The plain way: logs one by one through the reader of single logs. What it gives is what holds."""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING

from cvmlab.errors import CvmlabError
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.model import EventLog
from cvmlab.eventlog.replay import replay
from cvmlab.findings import Problem
from cvmlab.fleet.batch_columns import ABSENT, BANKS, COLUMNS, Part

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


def read_plain(logs: Iterable[bytes], source: str) -> Part:
    """Read logs one by one: `cvmlab.read_event_log` and replay, as columns."""
    rows = _Rows()
    for data in logs:
        rows.add(_read(data, source))
    return rows.part()


def _read(data: bytes, source: str) -> EventLog:
    try:
        return read_event_log(data, name=source)
    except CvmlabError as error:
        problem = Problem(source, 0, "log", str(error))
        return EventLog(source, "unknown", "tpm", (), (), (problem,), (), None, len(data), 0)


class _Rows:
    """Columns that grow by one log at a time."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, list[int]]] = {
            table: {name: [] for name in names} for table, names in COLUMNS.items()
        }
        self._counts: dict[str, list[int]] = {table: [] for table in COLUMNS if table != "logs"}
        self._values: dict[str, dict[Hashable, int]] = defaultdict(dict)

    def add(self, log: EventLog) -> None:
        """Add one log."""
        absent = ABSENT
        self._row(
            "logs",
            format=log.format,
            set=log.set,
            banks=",".join(log.banks),
            size=log.size,
            end=log.end,
            startup_locality=absent if log.startup_locality is None else log.startup_locality,
            resumed=absent if log.resumed is None else log.resumed,
            complete=log.complete,
        )
        for event in log.events:
            self._row(
                "events",
                offset=event.offset,
                register=event.register,
                phase=event.phase,
                type=event.type_name,
                type_number=event.type,
                digest_check=event.digest_check,
                covered=event.covered,
                data_size=len(event.data),
                data_sha256=sha256(event.data).digest(),
                **{bank: event.digests.get(bank) for bank in BANKS},
            )
        values = replay(log)
        for bank, registers in values.items():
            for register, value in registers.items():
                self._row("registers", register=register, bank=bank, value=value)
        for problem in log.problems:
            self._row(
                "problems",
                offset=problem.offset,
                field=problem.field,
                message=problem.message,
                fatal=problem.fatal,
                need=absent if problem.need is None else problem.need,
                have=absent if problem.have is None else problem.have,
            )
        self._counts["events"].append(len(log.events))
        self._counts["registers"].append(sum(map(len, values.values())))
        self._counts["problems"].append(len(log.problems))

    def _row(self, table: str, **values: str | bytes | int | None) -> None:
        columns = self._columns[table]
        for name, kind in COLUMNS[table].items():
            value = values[name]
            if kind in ("text", "bytes"):
                known = self._values[name]
                columns[name].append(-1 if value is None else known.setdefault(value, len(known)))
            else:
                assert isinstance(value, int)
                columns[name].append(value)

    def part(self) -> Part:
        """Return what was added."""
        import numpy as np
        import pyarrow as pa

        kinds = {name: kind for names in COLUMNS.values() for name, kind in names.items()}
        pools = {
            name: pa.array(list(self._values[name]), pa.string() if kind == "text" else pa.binary())
            for name, kind in kinds.items()
            if kind in ("text", "bytes")
        }
        columns = {
            table: {name: np.array(column, np.int64) for name, column in names.items()}
            for table, names in self._columns.items()
        }
        counts = {table: np.array(column, np.int64) for table, column in self._counts.items()}
        return Part(columns, counts, pools)
