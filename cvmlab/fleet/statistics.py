"""What a fleet has in common, and what not: questions to Arrow tables, answered by DuckDB as DataFrames.

None of these loops over machines in Python, so a million of them are answered in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.fleet.status import connect, moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    import duckdb
    import pandas as pd
    import pyarrow as pa

    from cvmlab.fleet.recommend_lake import FleetRecommendations

DIMENSIONS: Final = ("subscription", "region", "os", "size", "scale_set")
LONE: Final = 1
"""Machines up to which a value is a lone machine's."""
FEW: Final = 2
"""Machines up to which a value is not rolling out, however small the fleet."""
ROLLING_SHARE: Final = 0.05
# Kaplan and Meier: at each duration the share of those at risk that did not end, multiplied up
_ESTIMATE: Final = """
counted AS (SELECT name, hours, count(*) FILTER ("over") AS ended, count(*) FILTER (NOT "over") AS censored
    FROM timed GROUP BY ALL),
risk AS (SELECT *, sum(ended + censored) OVER (PARTITION BY name ORDER BY hours DESC)::BIGINT AS at_risk
    FROM counted)
SELECT name, hours, at_risk, ended, censored, CASE WHEN min(at_risk - ended) OVER w = 0 THEN 0
    ELSE exp(sum(ln(greatest(1 - ended / at_risk, 1e-300))) OVER w) END AS survival
FROM risk WINDOW w AS (PARTITION BY name ORDER BY hours) ORDER BY name, hours"""
_BUCKETS: Final = ("hour", "day", "week", "month")


def compliance(
    recommendations: pa.Table, machines: pa.Table, by: tuple[str, ...] = DIMENSIONS
) -> pd.DataFrame:
    """Count states of each recommendation by what machines have in common.

    Args:
        recommendations: Columns ``machine``, ``recommendation`` and ``state``, of which there is one row a
            machine and recommendation: the table ``recommendations``, or assessments with their name.
        machines: Columns ``machine`` and those of `by`.
        by: Dimensions.

    Returns:
        ``dimension``, ``value`` (``not-stated`` where absent), ``recommendation``, ``healthy``,
        ``unhealthy``, ``not_applicable``, ``not_stated``, and ``compliance``: healthy in healthy and
        unhealthy, 0 to 1, absent where neither.

    Raises:
        KeyError: A dimension is no column of `machines`.
    """
    columns, names = _dimensions(machines, by)
    query = f"""SELECT r.recommendation::VARCHAR AS recommendation{columns},
            count(*) FILTER (r.state = 'Healthy') AS h, count(*) FILTER (r.state = 'Unhealthy') AS u,
            count(*) FILTER (r.state = 'NotApplicable') AS n, count(*) FILTER (r.state IS NULL) AS x
        FROM recommendations r LEFT JOIN machines m USING (machine) GROUP BY r.recommendation{names}"""  # noqa: S608
    return _laid_out(connect(recommendations=recommendations, machines=machines), query, by)


def own_compliance(found: FleetRecommendations, by: tuple[str, ...] = DIMENSIONS) -> pd.DataFrame:
    """Count states of own recommendations as `compliance` does; what is not judged is ``not_stated``.

    Args:
        found: What `cvmlab.fleet.recommend_lake.recommend_lake` returns.
        by: Dimensions.

    Raises:
        KeyError: A dimension is not known of machines.
    """
    columns, names = _dimensions(found.machines, by)
    query = f"""WITH groups AS (SELECT decision{columns}, count(*) AS c FROM machines m
            GROUP BY decision{names})
        SELECT recommendation{names}, sum(c) FILTER (judged AND state = 'Healthy') AS h,
            sum(c) FILTER (judged AND state = 'Unhealthy') AS u,
            sum(c) FILTER (judged AND state = 'NotApplicable') AS n, sum(c) FILTER (NOT judged) AS x
        FROM groups JOIN decided USING (decision) GROUP BY recommendation{names}"""  # noqa: S608
    return _laid_out(connect(machines=found.machines, decided=found.rows()), query, by)


def _dimensions(machines: pa.Table, by: tuple[str, ...]) -> tuple[str, str]:
    missing = [one for one in by if one not in machines.column_names]
    if missing:
        raise KeyError(f"machines have no column {', '.join(missing)}")
    columns = "".join(f', coalesce(m."{one}"::VARCHAR, \'not-stated\') AS "{one}"' for one in by)
    return columns, "".join(f', "{one}"' for one in by)


def _laid_out(link: duckdb.DuckDBPyConnection, cells: str, by: tuple[str, ...]) -> pd.DataFrame:
    """Machines that are the same in every dimension were counted once; lay them out by dimension."""
    parts = " UNION ALL ".join(
        f"""SELECT '{one}' AS dimension, "{one}" AS value, recommendation, sum(h) AS healthy,
            sum(u) AS unhealthy, sum(n) AS not_applicable, sum(x) AS not_stated
            FROM cells GROUP BY ALL"""  # noqa: S608 - names of columns that were looked up
        for one in by
    )
    query = f"""WITH cells AS ({cells})
        SELECT * REPLACE (coalesce(healthy, 0)::BIGINT AS healthy,
            coalesce(unhealthy, 0)::BIGINT AS unhealthy,
            coalesce(not_applicable, 0)::BIGINT AS not_applicable,
            coalesce(not_stated, 0)::BIGINT AS not_stated),
            coalesce(healthy, 0) / nullif(coalesce(healthy, 0) + coalesce(unhealthy, 0), 0) AS compliance
        FROM ({parts}) ORDER BY dimension, recommendation, compliance NULLS LAST, value"""  # noqa: S608
    return link.execute(query).df()


def trend(reports: pa.Table, step: str = "day") -> pd.DataFrame:
    """Count machines by their last verdict in each bucket of time.

    Args:
        reports: Columns of `cvmlab.fleet.status.reports_schema`.
        step: ``hour``, ``day``, ``week`` or ``month``.

    Returns:
        ``start``, ``machines`` that reported, ``trusted``, ``not_trusted``, ``inconclusive``, ``unusable``.

    Raises:
        ValueError: There is no such step.
    """
    if step not in _BUCKETS:
        raise ValueError(f"step is {step!r}; it must be one of {', '.join(_BUCKETS)}")
    query = f"""WITH last AS (SELECT date_trunc('{step}', received) AS start, machine,
            arg_max(coalesce(verdict, 'unusable'), received) AS verdict FROM reports GROUP BY ALL)
        SELECT start, count(*) AS machines, count(*) FILTER (verdict = 'trusted') AS trusted,
            count(*) FILTER (verdict = 'not-trusted') AS not_trusted,
            count(*) FILTER (verdict = 'inconclusive') AS inconclusive,
            count(*) FILTER (verdict = 'unusable') AS unusable
        FROM last GROUP BY start ORDER BY start"""  # noqa: S608
    return connect(reports=reports).execute(query).df()


def shared_causes(status: pa.Table) -> pd.DataFrame:
    """Return the causes of failed machines, the most widely shared first.

    Args:
        status: What `cvmlab.fleet.status.status_table` returns.

    Returns:
        ``cause``, ``reason``, ``machines``, ``profiles`` (distinct boots), ``first`` and ``last`` evidence,
        and up to five ``examples``.
    """
    query = """SELECT "primary" AS cause, reason, count(*) AS machines,
            count(DISTINCT profile) AS profiles, min(received) AS first, max(received) AS last,
            min(coalesce(name, machine), 5) AS examples
        FROM status WHERE status = 'failed' GROUP BY ALL ORDER BY machines DESC, cause"""
    return connect(status=status).execute(query).df()


def remediation(changes: pa.Table, *, now: datetime) -> pd.DataFrame:
    """Return episodes of what was wrong, with how long it took to put right.

    Args:
        changes: States over time, ``machine``, ``key`` (recommendation or cause), ``state`` (``Unhealthy`` or
            another) and ``at``; the same state again is not a change.
        now: End of what is known: an episode that lasts is censored there, not ended. So is one that
            turned NotApplicable, when it did: nothing was put right.

    Returns:
        ``machine``, ``key``, ``since``, ``until`` (absent while it lasts), ``hours``, ``ended``.
    """
    query = """WITH turns AS (SELECT *, lag(state) OVER w IS DISTINCT FROM state AS turned FROM changes
            WHERE "at" <= $now WINDOW w AS (PARTITION BY machine, key ORDER BY "at")),
        runs AS (SELECT machine, key, state, "at" AS since, lead("at") OVER w AS until,
            lead(state) OVER w AS next FROM turns WHERE turned
            WINDOW w AS (PARTITION BY machine, key ORDER BY "at"))
        SELECT machine, key, since, until, epoch(coalesce(until, $now::TIMESTAMP) - since) / 3600 AS hours,
            until IS NOT NULL AND next <> 'NotApplicable' AS ended
        FROM runs WHERE state = 'Unhealthy' ORDER BY since, machine, key"""
    return connect(changes=changes).execute(query, {"now": moment(now)}).df()


def remediation_curve(episodes: pd.DataFrame) -> pd.DataFrame:
    """Estimate how long it takes to put something right, what lasts counted as censored (Kaplan and Meier).

    Args:
        episodes: What `remediation` returns.

    Returns:
        As `survival`, a ``name`` for each key: ``survival`` is the share that is not put right yet.
    """
    import pyarrow as pa

    given = pa.Table.from_pandas(episodes[["key", "hours", "ended"]], preserve_index=False)
    query = f"""WITH timed AS (SELECT key AS name, hours, ended AS "over" FROM episodes), {_ESTIMATE}"""  # noqa: S608
    return connect(episodes=given).execute(query).df()


def remediation_stated(assessments: pa.Table) -> pd.DataFrame:
    """Return how long recommendations took, from the provider's own two dates.

    The provider tells when it first evaluated a machine and when the state last changed, not when it became
    unhealthy: for what is Healthy now the time between is the longest that it can have taken.

    Args:
        assessments: The table ``assessments``.

    Returns:
        ``machine``, ``key``, ``since``, ``until``, ``hours``, ``ended`` (True: these are upper bounds); for
        what is Unhealthy, since its last change, ``until`` and ``hours`` absent.
    """
    query = """WITH dated AS (SELECT machine, key::VARCHAR AS key, state::VARCHAR AS state,
            try_cast(rtrim(replace(first_evaluated, '+00:00', ''), 'Z') AS TIMESTAMP) AS first,
            try_cast(rtrim(replace(changed, '+00:00', ''), 'Z') AS TIMESTAMP) AS last FROM assessments)
        SELECT machine, key, CASE WHEN state = 'Healthy' THEN first ELSE last END AS since,
            CASE WHEN state = 'Healthy' THEN last END AS until, epoch(until - since) / 3600 AS hours,
            state = 'Healthy' AS ended
        FROM dated WHERE (state = 'Healthy' AND last > first) OR (state = 'Unhealthy' AND last IS NOT NULL)
        ORDER BY since, machine, key"""
    return connect(assessments=assessments).execute(query).df()


def cohorts(status: pa.Table) -> pd.DataFrame:
    """Return groups of machines that boot alike, the largest first.

    Returns:
        ``profile``, ``machines``, ``share`` (0 to 1), ``attested``, ``failed``, ``causes``, ``examples``.
    """
    query = """SELECT profile, count(*) AS machines, machines / sum(machines) OVER () AS share,
            count(*) FILTER (status = 'attested') AS attested, count(*) FILTER (status = 'failed') AS failed,
            list_sort(list(DISTINCT "primary") FILTER ("primary" IS NOT NULL)) AS causes,
            min(coalesce(name, machine), 5) AS examples
        FROM status WHERE profile IS NOT NULL GROUP BY profile ORDER BY machines DESC, profile"""
    return connect(status=status).execute(query).df()


def tell_apart(status: pa.Table, events: pa.Table) -> pd.DataFrame:
    """Say what tells groups of machines apart: events that not all boot profiles have, decoded.

    Args:
        status: What `cvmlab.fleet.status.status_table` returns.
        events: The lake's ``events``: ``profile``, ``own``, ``register``, ``type``, ``kind``, ``name``,
            ``summary``, and the digest banks. Texts are claims.

    Returns:
        ``register``, ``kind``, ``name``, ``summary``, ``sha256``, ``machines`` that have it, ``without``,
        ``profiles``, and a ``sentence``. Events that are a machine's own are left out.
    """
    query = """WITH sizes AS (SELECT profile, count(*) AS n FROM status WHERE profile IS NOT NULL GROUP BY 1),
        total AS (SELECT sum(n)::BIGINT AS n FROM sizes),
        found AS (SELECT DISTINCT profile, register, kind::VARCHAR AS kind, name, summary,
            coalesce(sha256, sha384, sha1)::VARCHAR AS sha256 FROM events WHERE NOT own),
        counted AS (SELECT register, kind, name, summary, sha256, sum(s.n)::BIGINT AS machines,
            count(*) AS profiles FROM found JOIN sizes s USING (profile) GROUP BY ALL)
        SELECT register, kind, name, summary, sha256, machines, total.n - machines AS without, profiles,
            format('{} of {} machines: {} (register {})', machines, total.n,
                coalesce(nullif(summary, ''), name, kind), register) AS sentence
        FROM counted, total WHERE machines < total.n ORDER BY register, kind, name, machines DESC, sha256"""
    return connect(status=status, events=events).execute(query).df()


def spread(values: pa.Table) -> pd.DataFrame:
    """Tell when values were first seen and how they spread: an update rolling out, or a lone machine.

    Args:
        values: ``machine``, ``at``, ``name`` (of what the value is, such as ``dbx``), ``value``.

    Returns:
        ``name``, ``value``, ``first_seen``, ``first_machine``, ``last_seen``, ``machines``, ``share``,
        ``hours_to_half`` (until half of the machines that ever had it did), and ``shape``: ``everywhere``
        (all machines), ``lone`` (one of several machines), ``rolling-out`` (it came after the name's first
        sight, and reached more than two machines and one in twenty), ``majority`` (more than half),
        ``minority``.
    """
    query = f"""WITH firsts AS MATERIALIZED (SELECT name, value, machine, min("at") AS first,
            max("at") AS last FROM values_ GROUP BY ALL),
        names AS (SELECT name, count(DISTINCT machine) AS all_, min(first) AS begin FROM firsts GROUP BY 1),
        seen AS (SELECT name, value, min(first) AS first_seen, arg_min(machine, (first, machine)) AS
            first_machine, max(last) AS last_seen, count(*) AS machines, quantile_disc(first, 0.5) AS half
            FROM firsts GROUP BY ALL)
        SELECT name, value, first_seen, first_machine, last_seen, machines, machines / all_ AS share,
            epoch(half - first_seen) / 3600 AS hours_to_half,
            CASE WHEN machines = all_ THEN 'everywhere' WHEN machines <= {LONE} THEN 'lone'
                WHEN first_seen > begin AND machines > greatest({FEW}, {ROLLING_SHARE} * all_)
                THEN 'rolling-out' WHEN 2 * machines > all_ THEN 'majority' ELSE 'minority' END AS shape
        FROM seen JOIN names USING (name) ORDER BY name, machines DESC, value"""  # noqa: S608
    return connect(values_=values).execute(query).df()


def adoption(values: pa.Table, step: str = "day") -> pd.DataFrame:
    """Tell how each value spread: machines that it had reached by the end of each bucket of time.

    Args:
        values: As for `spread`.
        step: ``hour``, ``day``, ``week`` or ``month``.

    Returns:
        ``name``, ``value``, ``start`` of the bucket, ``machines`` new in it, ``reached`` so far, and
        ``share`` of all machines that ever had the name.

    Raises:
        ValueError: There is no such step.
    """
    if step not in _BUCKETS:
        raise ValueError(f"step is {step!r}; it must be one of {', '.join(_BUCKETS)}")
    query = f"""WITH firsts AS (SELECT name, value, machine, min("at") AS first FROM values_ GROUP BY ALL),
        names AS (SELECT name, count(DISTINCT machine) AS all_ FROM firsts GROUP BY 1),
        new AS (SELECT name, value, date_trunc('{step}', first) AS start, count(*) AS machines
            FROM firsts GROUP BY ALL)
        SELECT name, value, start, machines, reached::BIGINT AS reached, reached / all_ AS share FROM
            (SELECT *, sum(machines) OVER (PARTITION BY name, value ORDER BY start) AS reached FROM new)
            JOIN names USING (name) ORDER BY name, value, start"""  # noqa: S608
    return connect(values_=values).execute(query).df()


def outliers(values: pa.Table, limit: int = 60) -> pd.DataFrame:
    """Return the machines whose values are rarest.

    Args:
        values: ``machine``, ``name``, ``value``: one row for each thing that a machine has.
        limit: Most machines returned.

    Returns:
        ``machine``, ``bits`` (sum of −log₂ of each value's share among machines that have the name: 0 for a
        machine that is like all others), ``rarest`` name, its ``value`` and how many ``machines`` have it.
    """
    query = """WITH own AS MATERIALIZED (SELECT DISTINCT machine, name, value FROM values_),
        shares AS (SELECT name, value, count(*) AS n FROM own GROUP BY ALL),
        names AS (SELECT name, count(DISTINCT machine) AS all_ FROM own GROUP BY 1),
        rare AS (SELECT name, value, n, -log2(n / all_) AS bits FROM shares JOIN names USING (name))
        SELECT machine, sum(bits) AS bits, arg_max(name, bits) AS rarest, arg_max(value, bits) AS value,
            arg_max(n, bits) AS machines
        FROM own JOIN rare USING (name, value) GROUP BY machine HAVING sum(bits) > 0
        ORDER BY bits DESC, machine LIMIT $limit"""
    return connect(values_=values).execute(query, {"limit": limit}).df()


def enforced(status: pa.Table, verdicts: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Say how many machines would fail if a baseline were enforced.

    Args:
        status: What `cvmlab.fleet.status.status_table` returns.
        verdicts: For each boot profile the cause codes that the baseline finds in it; empty where it fits.

    Returns:
        ``outcome`` (``passes``, ``fails``, ``not-known``: no profile, or none that was judged), ``cause``
        (the first code), ``machines``, ``attested_now``: how many of these are attested today.
    """
    import pyarrow as pa

    rows = [{"profile": profile, "cause": codes[0] if codes else None} for profile, codes in verdicts.items()]
    schema = pa.schema([pa.field("profile", pa.string()), pa.field("cause", pa.string())])
    query = """SELECT CASE WHEN j.profile IS NULL THEN 'not-known' WHEN j.cause IS NULL THEN 'passes'
            ELSE 'fails' END AS outcome, j.cause, count(*) AS machines,
            count(*) FILTER (s.status = 'attested') AS attested_now
        FROM status s LEFT JOIN judged j ON s.profile = j.profile GROUP BY ALL
        ORDER BY outcome, machines DESC, cause"""
    judged = pa.Table.from_pylist(rows, schema=schema)
    return connect(status=status, judged=judged).execute(query).df()


def survival(values: pa.Table, *, now: datetime, gone: timedelta) -> pd.DataFrame:
    """Estimate how long old values (kernels, revocation lists) live on: Kaplan and Meier's curve.

    The life of a value on a machine begins when the machine first shows it and ends when the machine first
    shows another. Where it never does, the life is censored: at `now`, or, for a machine not seen for `gone`,
    when it was last seen. Censored lives count as at risk until then and never as ended.

    Args:
        values: ``machine``, ``at``, ``name``, ``value``.
        now: End of what is known.
        gone: Time without sight after which a machine counts as gone.

    Returns:
        ``name``, ``hours``, ``at_risk``, ``ended``, ``censored`` (at that duration), ``survival`` (0 to 1,
        after it).
    """
    query = f"""WITH turns AS (SELECT *, lag(value) OVER w IS DISTINCT FROM value AS turned,
            max("at") OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS seen
            FROM values_ WHERE "at" <= $now
            WINDOW w AS (PARTITION BY machine, name ORDER BY "at")),
        lives AS (SELECT name, "at" AS since, seen,
            lead("at") OVER (PARTITION BY machine, name ORDER BY "at") AS until FROM turns WHERE turned),
        timed AS (SELECT name, until IS NOT NULL AS "over", epoch(CASE WHEN until IS NOT NULL THEN until
            WHEN seen < $now::TIMESTAMP - $gone::INTERVAL THEN seen ELSE $now::TIMESTAMP END - since) / 3600
            AS hours FROM lives), {_ESTIMATE}"""  # noqa: S608
    return connect(values_=values).execute(query, {"now": moment(now), "gone": gone}).df()
