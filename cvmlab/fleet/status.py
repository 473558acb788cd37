"""Attestation status of every machine: as of a moment, with its age, since when, and what came before.

The tables are Arrow and the questions are DuckDB's, so a million machines are as good as ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

from cvmlab.errors import MissingExtraError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

    from cvmlab.fleet.inventory import Inventory, Machine

STATUSES: Final = ("attested", "failed", "stale", "silent", "cannot")
SCORE_FORMULA: Final = (
    "A machine scores 100 while it is attested, 50 while its last verdict was trusted but is stale, and 0 "
    "otherwise (failed, silent or unable to attest: what is absent is never fine). The score of a group or a "
    "fleet is the mean over its machines."
)
_EXTENSION: Final = "guestattestation"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When evidence is too old.

    Attributes:
        stale: Age from which a verdict no longer speaks for the machine.
        silent: Age from which a machine that should report counts as silent; at least `stale`.
    """

    stale: timedelta = timedelta(hours=24)
    silent: timedelta = timedelta(hours=72)

    def __post_init__(self) -> None:
        if not timedelta(0) < self.stale <= self.silent:
            raise ValueError(
                f"stale is {self.stale} and silent {self.silent}: it must be 0 < stale <= silent"
            )


@cache
def reports_schema() -> pa.Schema:
    """Return the columns that statuses are made from: one row an evaluated evidence.

    ``boot`` is the boot id that the evidence claims, ``reset_count`` the TPM's, ``ak_name`` the key that was
    bound, each null where not known. ``verdict`` is null where the evidence could not be used. ``received``
    is the verifier's clock.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("machine", pa.string()),
            pa.field("received", pa.timestamp("us", "UTC")),
            pa.field("reset_count", pa.int64()),
            pa.field("boot", pa.string()),
            pa.field("verdict", pa.string()),
            pa.field("primary", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("codes", pa.list_(pa.string())),
            pa.field("summary", pa.string()),
            pa.field("profile", pa.string()),
            pa.field("evidence_hash", pa.string()),
            pa.field("ak_name", pa.string()),
        ]
    )


@cache
def machines_schema() -> pa.Schema:
    """Return the columns that say what is known of machines beforehand: one row a machine.

    ``vtpm``, ``secure_boot`` and ``extension`` are null where no record states them: null is neither.
    ``known_since`` is when the machine was first heard of, from which silence counts.
    """
    from cvmlab.fleet.lake.schema import arrow_schema
    from cvmlab.tables_lake import MACHINES

    return arrow_schema(MACHINES)


def machines_of(inventory: Inventory, known_since: datetime) -> pa.Table:
    """Return the machines of an inventory, with what an alert depends on.

    Models of scale sets are left out: they are no machines, and never attest.
    """
    import pyarrow as pa

    rows = []
    for one in inventory.machines:
        if one.kind == "scale-set":
            continue
        guest = [e for e in one.extensions if (e.type or "").lower() == _EXTENSION]
        rows.append(
            {
                **{name: getattr(one, name) for name in machines_schema().names[:9]},
                "vtpm": one.vtpm,
                "secure_boot": one.secure_boot,
                "extension": _installed(one),
                "alerts_disabled": any(e.alerts_disabled for e in guest) if guest else None,
                "known_since": known_since,
            }
        )
    return pa.Table.from_pylist(rows, schema=machines_schema())


def _installed(machine: Machine) -> bool | None:
    guest = [one for one in machine.extensions if (one.type or "").lower() == _EXTENSION]
    if any((one.provisioning_state or "succeeded").lower() == "succeeded" for one in guest):
        return True
    return False if guest or machine.extensions_collected else None


def connect(**tables: pa.Table) -> duckdb.DuckDBPyConnection:
    """Open DuckDB over Arrow tables.

    Times with a zone become plain ones in UTC there, since DuckDB reckons with zones only by an extension
    that it would fetch; `result` turns them back.

    Raises:
        MissingExtraError: duckdb is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("Statistics of a fleet", "fleet") from error
    link = duckdb.connect(config={"enable_external_access": "false", "preserve_insertion_order": "false"})
    for name, table in tables.items():
        link.register(name, _zone(table, None))
    return link


def result(link: duckdb.DuckDBPyConnection, query: str, values: dict[str, object] | None = None) -> pa.Table:
    """Run a query of a `connect`-ion and return its rows, times in UTC."""
    return _zone(link.sql(query, params=values).to_arrow_table(), "UTC")


def _zone(table: pa.Table, zone: str | None) -> pa.Table:
    import pyarrow as pa

    fields = [
        field.with_type(pa.timestamp("us", zone)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


_STATUS: Final = """
WITH last AS (
    SELECT machine, max(received) AS received,
        arg_max(struct_pack(v := verdict, p := "primary", r := reason, c := codes, s := summary,
            f := profile, h := evidence_hash, n := reset_count, b := boot),
            struct_pack(r := received, h := evidence_hash)) AS row_,
        count(*) AS reports
    FROM reports WHERE received <= $now GROUP BY machine),
every AS (SELECT coalesce(m.machine, l.machine) AS machine, m.* EXCLUDE (machine), l.* EXCLUDE (machine)
    FROM machines m FULL JOIN last l ON m.machine = l.machine),
aged AS (SELECT *, $now - coalesce(received, known_since) AS age FROM every)
SELECT machine, name, subscription, resource_group, region, os, size, scale_set, tags,
    vtpm, secure_boot, extension, alerts_disabled,
    CASE WHEN received IS NOT NULL AND age < $stale THEN
            CASE WHEN row_.v = 'trusted' THEN 'attested' ELSE 'failed' END
        WHEN vtpm = false OR extension = false THEN 'cannot'
        WHEN age >= $silent OR age IS NULL THEN 'silent'
        ELSE 'stale' END AS status,
    CASE WHEN vtpm = false THEN 'vtpm-disabled'
        WHEN extension = false THEN 'guest-attestation-extension-missing'
        WHEN secure_boot = false THEN 'secure-boot-disabled' END AS prerequisite,
    received, epoch(age) AS age_seconds,
    row_.v AS verdict, row_.p AS "primary", row_.r AS reason, row_.c AS codes, row_.s AS summary,
    row_.f AS profile, row_.h AS evidence_hash, row_.n AS reset_count, row_.b AS boot,
    coalesce(reports, 0) AS reports, known_since
FROM aged
"""

_BOOTS: Final = """
WITH ordered AS (SELECT machine,
        CASE WHEN reset_count IS NULL THEN boot ELSE concat(ak_name, ' ', reset_count) END AS id,
    reset_count - lag(reset_count) OVER w AS step
    FROM reports WHERE received <= $now
    WINDOW w AS (PARTITION BY machine, ak_name ORDER BY received, evidence_hash))
SELECT machine, count(DISTINCT id) AS boots,
    coalesce(sum(greatest(step - 1, 0)), 0)::BIGINT AS boots_not_attested,
    count(*) FILTER (step < 0) AS resets_backwards
FROM ordered GROUP BY machine ORDER BY machine
"""

_HISTORY: Final = """
WITH told AS (SELECT *, CASE WHEN verdict = 'trusted' THEN 'attested' ELSE 'failed' END AS state,
        lead(received) OVER w AS next
    FROM reports WHERE received <= $now WINDOW w AS (PARTITION BY machine ORDER BY received, evidence_hash)),
parts AS (
    SELECT machine, received AS begin, state, "primary" AS cause, evidence_hash, 0 AS part FROM told
    UNION ALL SELECT machine, received + $stale, 'stale', NULL, evidence_hash, 1 FROM told
        WHERE received + $stale < coalesce(next, $now::TIMESTAMP + INTERVAL 1 MICROSECOND)
    UNION ALL SELECT machine, received + $silent, 'silent', NULL, evidence_hash, 2 FROM told
        WHERE received + $silent < coalesce(next, $now::TIMESTAMP + INTERVAL 1 MICROSECOND)),
changes AS (SELECT *, lag(state) OVER w IS DISTINCT FROM state
        OR (state = 'failed' AND lag(cause) OVER w IS DISTINCT FROM cause) AS change
    FROM parts WINDOW w AS (PARTITION BY machine ORDER BY begin, evidence_hash, part)),
runs AS (SELECT * FROM changes WHERE change)
SELECT machine, state AS status, cause, begin AS since,
    lead(begin) OVER (PARTITION BY machine ORDER BY begin, evidence_hash, part) AS until
FROM runs ORDER BY machine, begin, part
"""


def moment(now: datetime) -> datetime:
    """Return a moment as the queries take it: in UTC, without a zone.

    Raises:
        ValueError: It has no zone.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone; give UTC")
    return now.astimezone(UTC).replace(tzinfo=None)


def status_table(
    reports: pa.Table,
    machines: pa.Table | None = None,
    *,
    now: datetime,
    thresholds: Thresholds | None = None,
) -> pa.Table:
    """Return the status of every machine that the inventory names or that ever reported.

    * ``attested``: the last evidence is fresh and its verdict trusted,
    * ``failed``: it is fresh and its verdict is anything else,
    * ``stale``: it is older than `Thresholds.stale`,
    * ``silent``: it is older than `Thresholds.silent`, or there is none since so long,
    * ``cannot``: none is fresh, and the inventory states that the vTPM is off or the extension missing.

    Args:
        reports: Columns of `reports_schema`; more are ignored.
        machines: Columns of `machines_schema`; None where nothing is known beforehand.
        now: The moment to judge for; reports received later do not count.
        thresholds: Ages; those of `Thresholds` where left out.

    Returns:
        One row a machine: its facts, ``status``, ``prerequisite`` (code of what keeps it from attesting),
        ``received`` and ``age_seconds`` of the last evidence, what that said, and ``reports`` so far. The
        rows are in no order.
    """
    limits = thresholds or Thresholds()
    known = machines if machines is not None else machines_schema().empty_table()
    link = connect(reports=reports, machines=known)
    values = {"now": moment(now), "stale": limits.stale, "silent": limits.silent}
    return result(link, _STATUS, values)


def status_history(reports: pa.Table, *, now: datetime, thresholds: Thresholds | None = None) -> pa.Table:
    """Return each machine's runs of one status: ``machine``, ``status``, ``cause``, ``since``, ``until``.

    A failed run ends where the cause changes. ``until`` is null for the run that lasts. A verdict speaks
    until the next one or until it is stale, whichever is first.
    """
    limits = thresholds or Thresholds()
    values = {"now": moment(now), "stale": limits.stale, "silent": limits.silent}
    return result(connect(reports=reports), _HISTORY, values)


def boots_table(reports: pa.Table, *, now: datetime) -> pa.Table:
    """Return ``boots`` attested by machine, ``boots_not_attested`` and ``resets_backwards``.

    Every start of a TPM raises its resetCount by one (TPM 2.0 Library Part 1, "Reset Count"), so a step of
    more than one between two reports is a boot nobody saw; one below zero is another or a cleared TPM. Counts
    under different keys are not compared: a TPM may add to each key's an amount of its own (Part 1, 36.7). A
    boot of which no evidence came at all is not known before the next evidence tells of it.
    """
    return result(connect(reports=reports), _BOOTS, {"now": moment(now)})


def integrity_score(status: pa.Table, by: str | None = None) -> pd.DataFrame:
    """Return the boot integrity score, 0 to 100, with the counts it is made of; see `SCORE_FORMULA`.

    Args:
        status: What `status_table` returns.
        by: Column to group by, such as ``subscription`` or ``machine``; None for the fleet.

    Raises:
        KeyError: There is no such column.
    """
    if by is not None and by not in status.column_names:
        raise KeyError(f"there is no column {by!r} to group by")
    group = f'"{by}"' if by is not None else "'fleet'"
    counts = ", ".join(f"count(*) FILTER (status = '{word}') AS {word}" for word in STATUSES)
    query = f"""SELECT {group} AS "group", round(avg(CASE WHEN status = 'attested' THEN 100
        WHEN status = 'stale' AND verdict = 'trusted' THEN 50 ELSE 0 END), 1) AS score,
        count(*) AS machines, {counts} FROM status GROUP BY 1 ORDER BY score, 1"""  # noqa: S608
    return connect(status=status).execute(query).df()
