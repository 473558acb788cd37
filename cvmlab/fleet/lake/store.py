"""The lake as a place: its tables are read, appended to and asked."""

from __future__ import annotations

import random
import time
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import EvidenceError, MissingExtraError
from cvmlab.fleet.lake.keys import Files, Keys
from cvmlab.fleet.lake.schema import arrow_schema, checked
from cvmlab.tables_lake import LAKE_TABLES, PARTITIONED, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds
    from deltalake import DeltaTable

    from cvmlab.schema import Table

_TURN: Final = "cvmlab-turn"
"""Application transaction of a table; each exclusive append takes the next number."""
_VERSION: Final = "cvmlab-schema"
_TRIES: Final = 60
_CONFIGURATION: Final = {"delta.checkpointInterval": "20"}

BY_NAME: Final = {table.name: table for table in LAKE_TABLES}


class Lake:
    """Delta tables in a folder, or in object storage.

    Args:
        location: Folder or URL (``s3://bucket/prefix``, ``abfss://…``, ``gs://…``).
        storage_options: Options of the object store, such as ``endpoint_url``; by default the environment's.

    Raises:
        MissingExtraError: ``deltalake`` is not installed.
    """

    def __init__(self, location: str | Path, *, storage_options: Mapping[str, str] | None = None) -> None:
        try:
            import deltalake  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("The lake", "fleet") from error
        self.location = str(location).rstrip("/")
        self.remote = "://" in self.location
        self.storage_options = dict(storage_options or {})
        self._keys: dict[tuple[str, str], Keys] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return (_opened, (self.location, tuple(self.storage_options.items())))

    def keys(self, table: Table, column: str) -> Keys:
        """Return where a table's keys are, with what was learned of them before."""
        return self._keys.setdefault((table.name, column), Keys(column))

    def address(self, table: Table | str) -> str:
        """Return the folder or URL of a table."""
        return f"{self.location}/{table if isinstance(table, str) else table.name}"

    @cached_property
    def _options(self) -> dict[str, str] | None:
        return self.storage_options or None

    def delta(self, table: Table | str) -> DeltaTable | None:
        """Return a table as it is now; None where nothing was written to it.

        Raises:
            EvidenceError: It cannot be read, or was written by a newer version.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if not self.remote and not (Path(self.address(table)) / "_delta_log").is_dir():
            return None
        try:
            found = DeltaTable(self.address(table), storage_options=self._options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise EvidenceError(f"{self.address(table)}: no table that can be read: {error}") from error
        version = found.transaction_version(_VERSION)
        if version is not None and version > SCHEMA_VERSION:
            raise EvidenceError(
                f"{self.address(table)}: written by schema version {version}, and this program knows "
                f"{SCHEMA_VERSION}: install a newer cvmlab"
            )
        return found

    def dataset(self, table: Table | str) -> ds.Dataset:
        """Return a table as it is now, for scans in bounded memory; empty where nothing was written to it."""
        import pyarrow.dataset as ds

        found = self.delta(table)
        if found is None:
            return ds.dataset(arrow_schema(_table(table)).empty_table())
        return self.scan(found, table)

    def scan(self, found: DeltaTable, table: Table | str) -> ds.Dataset:
        """Return a table as it was when it was opened; see `dataset`."""
        return found.to_pyarrow_dataset(schema=self._wanted(table), filesystem=self._files(table))

    def files(self, table: Table, found: DeltaTable | None = None) -> Files:
        """Return the files of a table, as it is now or as it was when it was opened.

        Raises:
            EvidenceError: Another program marked rows of it as removed inside of files.
        """
        import pyarrow.dataset as ds
        from pyarrow import fs

        found = found or self.delta(table)
        if found is None:
            return Files(arrow_schema(table), (), ds.ParquetFileFormat().make_fragment)
        features = set(found.protocol().reader_features or ())
        if features & {"deletionVectors", "columnMapping"}:
            raise EvidenceError(
                f"{self.address(table)}: uses {', '.join(sorted(features))}: rewrite it without them"
            )
        if self.remote:
            fragments = {part.path: part for part in self.scan(found, table).get_fragments()}
            return Files(arrow_schema(table), tuple(fragments), fragments.__getitem__)
        # a data set reads the statistics of each file first, which costs more the more there are
        kind, store = ds.ParquetFileFormat(), fs.LocalFileSystem()
        return Files(arrow_schema(table), found.file_uris(), lambda path: kind.make_fragment(path, store))

    def _files(self, table: Table | str) -> Any:
        """Return Arrow's own file system for a folder; None for object storage.

        The Delta library's is written in Python: threads of Arrow that still close its files while the
        interpreter ends abort the process (apache/arrow issue 34314), after everything was answered.
        """
        from pyarrow import fs

        if self.remote:
            return None
        return fs.SubTreeFileSystem(str(Path(self.address(table)).resolve()), fs.LocalFileSystem())

    def _wanted(self, table: Table | str) -> pa.Schema | None:
        """Read columns that a later version added as absent: a lake is read without being rewritten."""
        if isinstance(table, str) and table not in BY_NAME:
            return None
        return arrow_schema(_table(table))

    def read(
        self, table: Table | str, *, columns: Iterable[str] | None = None, where: ds.Expression | None = None
    ) -> pa.Table:
        """Read rows of a table.

        Args:
            table: The table, or its name.
            columns: Columns; all by default.
            where: An expression of `pyarrow.dataset` that rows must meet.
        """
        return self.dataset(table).to_table(
            columns=list(columns) if columns is not None else None, filter=where
        )

    def frame(self, table: Table | str, **options: Any) -> pd.DataFrame:
        """Return rows of a table as a DataFrame; see `read`."""
        frame: pd.DataFrame = self.read(table, **options).to_pandas()
        return frame

    def append(
        self,
        table: Table,
        data: pa.Table,
        *,
        key: Collection[str] = (),
    ) -> int:
        """Append rows in one commit.

        Args:
            table: The table.
            data: Rows with the table's columns.
            key: Columns that name a row. Rows whose key is in the table, or twice in `data`, are left out,
                also where other writers append at the same time.

        Returns:
            Rows that were appended.

        Raises:
            ValueError: Rows do not follow the schema.
            EvidenceError: Others wrote without end, or the table cannot be written.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        data = checked(table, data)
        wait = random.Random()  # noqa: S311 - spreads writers, nothing secret
        for attempt in range(_TRIES):
            try:
                found = self._created(table)
                new = self._new_rows(found, table, data, tuple(key))
                if not len(new):
                    return 0
                self._write(found, table, new, exclusive=bool(key))
            except CommitFailedError:
                time.sleep(wait.uniform(0, min(2.0, 0.02 * 2**attempt)))
                continue
            except (DeltaError, OSError) as error:
                raise EvidenceError(f"{self.address(table)}: cannot be written: {error}") from error
            return len(new)
        raise EvidenceError(f"{self.address(table)}: {_TRIES} times another writer was first; try again")

    def _write(self, found: DeltaTable, table: Table, data: pa.Table, *, exclusive: bool) -> None:
        """Append to the very state of the table that was looked at: a later one may have more rows."""
        from deltalake import CommitProperties, Transaction, write_deltalake

        turn = found.transaction_version(_TURN) or 0
        marks = [Transaction(_TURN, turn + 1)] if exclusive else []
        if (found.transaction_version(_VERSION) or 0) < SCHEMA_VERSION:
            # from now on rows may have columns that an older program would not know
            marks.append(Transaction(_VERSION, SCHEMA_VERSION))
        properties = CommitProperties(
            max_commit_retries=0 if exclusive else 20, app_transactions=marks or None
        )
        write_deltalake(
            found,
            data,
            mode="append",
            schema_mode="merge",
            writer_properties=writer_of(table),
            commit_properties=properties,
        )

    def _new_rows(self, found: DeltaTable, table: Table, data: pa.Table, key: tuple[str, ...]) -> pa.Table:
        """Return the rows of `data` whose key is new, as the table is in `found`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not key or not len(data):
            return data
        keys = self.keys(table, key[0])
        files = self.files(table, found)
        known = keys.maybe(files, pc.unique(data.column(key[0])))
        there: set[tuple[object, ...]] = set()
        for rows in keys.rows(files, known, key):
            there.update(zip(*(rows.column(name).to_pylist() for name in key), strict=True))
        keep = []
        for index, row in enumerate(zip(*(data.column(name).to_pylist() for name in key), strict=True)):
            if row not in there:
                there.add(row)
                keep.append(index)
        return data if len(keep) == len(data) else data.take(pa.array(keep, pa.int64()))

    def _created(self, table: Table) -> DeltaTable:
        """Return a table, made where there was none; where two make it at once, the first wins."""
        from deltalake import CommitProperties, DeltaTable, Transaction

        found = self.delta(table)
        if found is not None:
            return found
        if not self.remote:
            Path(self.address(table)).mkdir(parents=True, exist_ok=True)
        return DeltaTable.create(
            self.address(table),
            arrow_schema(table),
            mode="ignore",
            partition_by=["day"] if table.name in PARTITIONED else None,
            configuration=_CONFIGURATION,
            storage_options=self._options,
            commit_properties=CommitProperties(app_transactions=[Transaction(_VERSION, SCHEMA_VERSION)]),
        )


def _table(table: Table | str) -> Table:
    if not isinstance(table, str):
        return table
    if table not in BY_NAME:
        raise EvidenceError(f"there is no table {table!r} in a lake; there are {', '.join(BY_NAME)}")
    return BY_NAME[table]


@lru_cache(maxsize=8)
def _opened(location: str, storage_options: tuple[tuple[str, str], ...]) -> Lake:
    """Open a lake that was sent to this process: once, so that what is learned of its keys is kept."""
    return Lake(location, storage_options=dict(storage_options))


def writer_of(table: Table) -> Any:
    """Return how a table's files are written: Zstandard, and packed contents as they are."""
    from deltalake import ColumnProperties, WriterProperties

    plain = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    columns = {c.name: plain for c in table.columns if c.dtype == "binary"}
    return WriterProperties(
        compression="ZSTD",
        compression_level=3,
        # a row group is what is read for one content, and what a question has in memory a few of
        max_row_group_size=1 << 14 if columns else 1 << 15,
        column_properties=columns or None,
    )
