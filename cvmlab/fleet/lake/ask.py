"""Questions to the lake in SQL, answered by DuckDB over Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import EvidenceError, MissingExtraError
from cvmlab.fleet.lake.store import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

    from cvmlab.fleet.lake.store import Lake

MEMORY: Final = "1500MB"
_LATEST: Final = """
create view latest_verdicts as select * exclude (place) from (
  select *, row_number() over (partition by machine order by received desc, evaluated desc) place
  from verdicts) where place = 1
"""
"""The last verdict of each machine, which most questions are about."""


def connect(lake: Lake, tables: Collection[str] = tuple(BY_NAME)) -> Any:
    """Return a DuckDB connection in memory with the lake's tables as views.

    Queries see these alone: no file, no network, no extension, no variable of Python's. They cannot change
    the lake.

    Args:
        lake: The lake.
        tables: Tables to open; all by default, which takes a while where they have many files.

    Raises:
        MissingExtraError: ``duckdb`` is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("SQL", "fleet") from error
    con = duckdb.connect(":memory:")
    con.execute("set python_enable_replacements = false")
    con.execute(f"set memory_limit = '{MEMORY}'")
    for name in tables:
        con.register(name, lake.dataset(name))
    if "verdicts" in tables:
        con.execute(_LATEST)
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
    return con


def _named(query: str) -> Collection[str]:
    """Return the tables that a query is about; all where it has other names, or tells none."""
    import duckdb

    try:
        # a name is looked up to tell what it is: nothing outside may be
        with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as con:
            con.execute("set python_enable_replacements = false")
            names = {name.lower() for name in con.get_table_names(query)}
    except duckdb.Error:
        return tuple(BY_NAME)
    if "latest_verdicts" in names:
        names = names - {"latest_verdicts"} | {"verdicts"}
    return names if names and names <= BY_NAME.keys() else tuple(BY_NAME)


def sql(lake: Lake, query: str) -> pa.Table:
    """Answer one query.

    Args:
        lake: The lake.
        query: SQL over its tables and the view ``latest_verdicts``.

    Raises:
        EvidenceError: The query is wrong, or wants what it may not.
    """
    con = connect(lake, _named(query))
    import duckdb

    try:
        statements = con.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise EvidenceError("one question is answered at a time, a select, and nothing is changed")
        return con.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise EvidenceError(f"the query cannot be answered: {error}") from error
    finally:
        con.close()
