"""Statistics of a fleet, held against numbers worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from cvmlab.fleet import statistics as stats
from cvmlab.fleet.status import machines_schema, reports_schema, status_table

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rows(*given: tuple[object, ...], columns: str) -> pa.Table:
    names = columns.split()
    return pa.Table.from_pylist(
        [
            {
                name: START + value * HOUR if name in ("at", "received") else value
                for name, value in zip(names, row, strict=True)
            }
            for row in given
        ]
    )


def status(*given: tuple[str, str, str | None]) -> pa.Table:
    told = [
        {
            "machine": name,
            "received": START,
            "profile": profile,
            "verdict": "not-trusted" if cause else "trusted",
            "primary": cause,
            "reason": "boot-deviates" if cause else None,
            "evidence_hash": name,
        }
        for name, profile, cause in given
    ]
    return status_table(pa.Table.from_pylist(told, schema=reports_schema()), now=START + HOUR)


def test_compliance_by_dimension_leaves_not_applicable_out_of_the_share() -> None:
    given = rows(
        ("a", "SB", "Healthy"), ("b", "SB", "Unhealthy"), ("c", "SB", "NotApplicable"), ("d", "SB", None),
        columns="machine recommendation state",
    )  # fmt: skip
    machines = pa.Table.from_pylist(
        [{"machine": m, "region": r, "known_since": START} for m, r in (("a", "x"), ("b", "x"), ("c", "y"))],
        schema=machines_schema(),
    )
    found = stats.compliance(given, machines, by=("region",)).set_index("value")
    assert found.loc["x", ["healthy", "unhealthy", "compliance"]].tolist() == [1, 1, 0.5]
    assert found.loc["y", "not_applicable"] == 1
    assert found.loc["y", "compliance"] != found.loc["y", "compliance"]
    assert found.loc["not-stated", "not_stated"] == 1
    with pytest.raises(KeyError, match="colour"):
        stats.compliance(given, machines, by=("colour",))


def test_trend_counts_the_last_verdict_of_a_day() -> None:
    told = pa.Table.from_pylist(
        [
            {"machine": "a", "received": START, "verdict": "not-trusted"},
            {"machine": "a", "received": START + 5 * HOUR, "verdict": "trusted"},
            {"machine": "b", "received": START + 30 * HOUR, "verdict": None},
        ],
        schema=reports_schema(),
    )
    found = stats.trend(told)
    assert found[["trusted", "not_trusted", "unusable"]].to_numpy().tolist() == [[1, 0, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match="fortnight"):
        stats.trend(told, "fortnight")


def test_shared_causes_come_first() -> None:
    found = stats.shared_causes(
        status(
            ("a", "p", "kernel-changed"),
            ("b", "p", "kernel-changed"),
            ("c", "q", "mok-changed"),
            ("d", "p", None),
        )
    )
    assert found["cause"].tolist() == ["kernel-changed", "mok-changed"]
    assert found["machines"].tolist() == [2, 1]


def test_remediation_ends_with_the_first_other_state_and_is_censored_else() -> None:
    given = rows(
        ("a", "k", "Unhealthy", 0), ("a", "k", "Unhealthy", 3), ("a", "k", "Healthy", 8),
        ("b", "k", "Unhealthy", 4), ("c", "k", "Healthy", 1), columns="machine key state at",
    )  # fmt: skip
    found = stats.remediation(given, now=START + 10 * HOUR)
    assert found[["machine", "hours", "ended"]].to_numpy().tolist() == [["a", 8.0, True], ["b", 6.0, False]]


def test_what_turned_not_applicable_was_not_put_right() -> None:
    given = rows(
        ("a", "k", "Unhealthy", 0), ("a", "k", "NotApplicable", 5), ("b", "k", "Unhealthy", 1),
        ("b", "k", "Healthy", 2), ("b", "k", "Unhealthy", 4), columns="machine key state at",
    )  # fmt: skip
    found = stats.remediation(given, now=START + 10 * HOUR)
    assert found[["machine", "hours", "ended"]].to_numpy().tolist() == [
        ["a", 5.0, False], ["b", 1.0, True], ["b", 6.0, False],
    ]  # fmt: skip


def test_time_to_put_right_by_kaplan_and_meier_worked_out_by_hand() -> None:
    """Ends at 1, 2 and 4 hours, censored at 2 and 3: 4/5, then 3/4 of it, then none of one."""
    import pandas as pd

    given = pd.DataFrame(
        [("k", 1.0, True), ("k", 2.0, True), ("k", 2.0, False), ("k", 3.0, False), ("k", 4.0, True)],
        columns=["key", "hours", "ended"],
    )
    found = stats.remediation_curve(given)
    assert found[["hours", "at_risk", "ended", "censored"]].to_numpy().tolist() == [
        [1, 5, 1, 0], [2, 4, 1, 1], [3, 2, 0, 1], [4, 1, 1, 0],
    ]  # fmt: skip
    assert found["survival"].tolist() == pytest.approx([4 / 5, 3 / 5, 3 / 5, 0])


def test_adoption_counts_each_machine_once_from_its_first_day() -> None:
    given = rows(
        ("a", 0, "dbx", "old"), ("b", 0, "dbx", "old"), ("a", 24, "dbx", "new"), ("a", 48, "dbx", "new"),
        ("b", 72, "dbx", "new"), ("c", 72, "dbx", "new"), columns="machine at name value",
    )  # fmt: skip
    found = stats.adoption(given)
    new = found[found["value"] == "new"]
    assert new[["machines", "reached"]].to_numpy().tolist() == [[1, 1], [2, 3]]
    assert new["share"].tolist() == pytest.approx([1 / 3, 1])
    assert [f"{at:%d}" for at in new["start"]] == ["02", "04"]
    with pytest.raises(ValueError, match="fortnight"):
        stats.adoption(given, "fortnight")


def test_remediation_of_the_providers_dates_is_an_upper_bound() -> None:
    given = rows(
        ("a", "k", "Healthy", "2021-04-12T09:07:16.9228559Z", "2021-04-13T09:07:16.9228559Z"),
        ("b", "k", "Unhealthy", "2021-04-12T09:07:16Z", "2021-04-14T00:00:00+00:00"),
        ("c", "k", "Healthy", "nonsense", None),
        columns="machine key state first_evaluated changed",
    )
    found = stats.remediation_stated(given)
    assert found["machine"].tolist() == ["a", "b"]
    assert found["hours"].tolist()[0] == pytest.approx(24)
    assert found["ended"].tolist() == [True, False]


def test_cohorts_and_what_tells_them_apart() -> None:
    found = status(("a", "p", None), ("b", "p", None), ("c", "q", "secure-boot-key-added"))
    groups = stats.cohorts(found)
    assert groups[["profile", "machines", "failed"]].to_numpy().tolist() == [["p", 2, 0], ["q", 1, 1]]
    columns = "profile own register kind name summary sha256 sha384 sha1"
    events = rows(
        ("p", False, 7, "variable", "db", "db: 2 certificates", "11", "", ""),
        ("q", False, 7, "variable", "db", "db: 3 certificates", "22", "", ""),
        ("p", False, 7, "variable", "PK", "PK", "33", "", ""),
        ("q", False, 7, "variable", "PK", "PK", "33", "", ""),
        ("q", True, 5, "gpt", "disk", "disk", "44", "", ""),
        columns=columns,
    )
    apart = stats.tell_apart(found, events)
    assert apart["sentence"].tolist() == [
        "2 of 3 machines: db: 2 certificates (register 7)",
        "1 of 3 machines: db: 3 certificates (register 7)",
    ]


def test_spread_tells_an_update_from_a_lone_machine() -> None:
    given = [(f"m{n}", 0, "dbx", "old") for n in range(10)]
    given += [(f"m{n}", 24 * n, "dbx", "new") for n in range(1, 6)] + [("m9", 30, "dbx", "odd")]
    found = stats.spread(rows(*given, columns="machine at name value")).set_index("value")
    assert found["shape"].to_dict() == {"old": "everywhere", "new": "rolling-out", "odd": "lone"}
    assert found.loc["new", "first_machine"] == "m1"
    assert found.loc["new", "hours_to_half"] == 48


@pytest.mark.parametrize(
    ("having", "shape"),
    [(1, "lone"), (2, "minority"), (5, "minority"), (6, "majority"), (9, "majority"), (10, "everywhere")],
)
def test_what_was_there_from_the_start_is_told_by_how_many_have_it(having: int, shape: str) -> None:
    given = [(f"m{n}", 0, "kernel", "k1" if n < having else f"other-{n}") for n in range(10)]
    found = stats.spread(rows(*given, columns="machine at name value")).set_index("value")
    assert found.loc["k1", "shape"] == shape


def test_outliers_are_as_many_bits_as_their_values_are_rare() -> None:
    given = [(f"m{n}", "kernel", "k1" if n else "k2") for n in range(8)]
    found = stats.outliers(rows(*given, columns="machine name value"))
    assert found.loc[0, ["machine", "bits", "value", "machines"]].tolist() == ["m0", 3.0, "k2", 1]


def test_enforced_counts_what_is_not_known_apart() -> None:
    found = stats.enforced(
        status(("a", "p", None), ("b", "q", None), ("c", "r", None)), {"p": (), "q": ("kernel-changed",)}
    )
    assert found.set_index("outcome")["machines"].to_dict() == {"passes": 1, "fails": 1, "not-known": 1}
    assert found.set_index("outcome").loc["fails", "attested_now"] == 1


def test_survival_is_kaplan_and_meiers() -> None:
    # Lives of 6, 6, 6, 7, 10 hours ended; 6, 9, 10, 11 censored: the first rows of the 6-MP arm of Freireich
    # et al. 1963, shortened to nine. By hand: 6: 1-3/9; 7: *(1-1/5); 10: *(1-1/3).
    given: list[tuple[object, ...]] = []
    for n, hours in enumerate((6, 6, 6, 7, 10)):
        given += [(f"e{n}", 0, "kernel", "old"), (f"e{n}", hours, "kernel", f"new{n}")]
    given += [(f"c{n}", at, "kernel", "old") for n, end in enumerate((6, 9, 10, 11)) for at in (0, end)]
    found = stats.survival(rows(*given, columns="machine at name value"), now=START + 1000 * HOUR, gone=HOUR)
    # the lives of the new values begin and are last seen at once: censored at 0 hours
    ended = found[found["ended"] > 0]
    assert ended["hours"].tolist() == [6, 7, 10]
    assert ended["at_risk"].tolist() == [9, 5, 3]
    assert ended["survival"].tolist() == pytest.approx([6 / 9, 6 / 9 * 4 / 5, 6 / 9 * 4 / 5 * 2 / 3])
