"""Recommendations from a lake are those of the same records and evidence at hand, and have a history."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from cvmlab.cli import app
from cvmlab.evidence.directory import evidence_of
from cvmlab.evidence.sources import RawFile
from cvmlab.fleet import statistics as stats
from cvmlab.fleet.evaluate import Evaluator
from cvmlab.fleet.inventory.read import read_inventory_bytes
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.proven import Proven, proven_by
from cvmlab.fleet.recommend_lake import recommend_lake, recommendation_changes, record_recommendations
from cvmlab.fleet.recommendations import recommend
from cvmlab.fleet.rules import load_rules
from cvmlab.fleet.simulate import START, Fleet
from cvmlab.fleet.simulate_lake import EVENING, fill_lake, simulated_baseline
from cvmlab.fleet.simulate_records import assessments_page, inventory_pages

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

DAYS, COUNT = 4, 60


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Lake, datetime]:
    fleet = Fleet(COUNT, DAYS, seed=11, faults=0.5)
    lake = Lake(tmp_path_factory.mktemp("fleet") / "lake")
    return fleet, lake, fill_lake(lake, fleet)


def test_results_are_those_of_the_records_and_the_evidence_themselves(
    filled: tuple[Fleet, Lake, datetime],
) -> None:
    """Oracle: each machine's last evidence investigated by itself, and `recommend` on the export."""
    fleet, lake, now = filled
    pages = b"\n".join(json.dumps(page).encode() for page in inventory_pages(fleet))
    inventory = read_inventory_bytes(pages)
    said = read_inventory_bytes(json.dumps(assessments_page(fleet, inventory)).encode())
    inventory = replace(inventory, assessments=said.assessments)
    evaluator = Evaluator(simulated_baseline(fleet), fleet.context())
    evidence: dict[str, Proven] = {}
    for index in range(COUNT):
        machine = fleet.machine(index)
        if machine.fault == "silent":
            evidence[machine.resource_id.lower()] = Proven("silent")
            continue
        row = fleet.evidence(machine, DAYS - 1)
        if row is None:
            faulty = machine.fault
            # it reported on its first day alone: the last evidence is three days old
            assert faulty in ("stale", "extension-missing", "vtpm-off")
            days = DAYS - machine.fault_day
            word = "cannot" if faulty != "stale" else "silent" if days >= 3 else "stale"
            evidence[machine.resource_id.lower()] = Proven(word)
            continue
        files = [RawFile(f["name"], f["data"], len(f["data"])) for f in row["files"]]  # type: ignore[attr-defined]
        context = replace(fleet.context(), nonce=row["nonce"])
        read = evidence_of(files, source="x", default_name="x")
        evidence[machine.resource_id.lower()] = proven_by(evaluator.investigate(read, context)[0])
    wanted = recommend(inventory, evidence)
    found = recommend_lake(lake, now=now)

    def rows(results: object) -> dict[tuple[str, str], tuple[object, ...]]:
        return {
            (one.machine.machine, one.rule.key): (
                one.state, one.reason, one.judged, one.provider_state, one.comparison, one.command,
            )
            for one in results  # type: ignore[attr-defined]
        }  # fmt: skip

    mine, theirs = rows(found.results()), rows(wanted.results)
    assert mine.keys() == theirs.keys()
    assert {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]} == {}
    assert found.counts() == wanted.counts()
    assert found.concerned() == len({one.machine.machine for one in wanted.unhealthy})
    contradictions, total = found.contradictions()
    assert total == len(wanted.contradictions) > 0
    assert {(c.machine.machine, c.fact, c.proven, c.severity) for c in contradictions} == {
        (c.machine.machine, c.fact, c.proven, c.severity) for c in wanted.contradictions
    }
    words = {(w["key"], w["comparison"]): 0 for w in found.words()}
    for word in found.words():
        words[word["key"], word["comparison"]] += word["machines"]
    for (key, comparison), count in words.items():
        assert count == sum(r.rule.key == key and r.comparison == comparison for r in wanted.results)


def test_the_lake_knows_since_when(filled: tuple[Fleet, Lake, datetime]) -> None:
    """Oracle: the simulator's own record of who became faulty when."""
    fleet, lake, now = filled
    changes = recommendation_changes(lake)
    name = load_rules()["ad50b498-f90c-451f-886f-d0a169cc5002"].name
    episodes = stats.remediation(changes, now=now)
    of_rule = episodes[episodes["key"] == name]
    wanted = {
        machine.resource_id.lower(): START + timedelta(days=machine.fault_day) + EVENING
        for machine in map(fleet.machine, range(COUNT))
        if machine.fault == "secure-boot-off"
    }
    assert wanted
    since = dict(zip(of_rule["machine"], of_rule["since"].dt.tz_localize("UTC"), strict=True))
    assert {machine: at.to_pydatetime() for machine, at in since.items()} == wanted
    assert not of_rule["ended"].any()


def test_what_is_the_same_is_not_recorded_again(filled: tuple[Fleet, Lake, datetime]) -> None:
    _, lake, now = filled
    before = len(lake.read("recommended"))
    assert record_recommendations(lake, recommend_lake(lake, now=now), now + timedelta(minutes=1)) == 0
    assert len(lake.read("recommended")) == before
    later = now + timedelta(days=9)
    stale = record_recommendations(lake, recommend_lake(lake, now=later), later)
    assert stale == len(lake.read("recommended")) - before > 0


def test_evidence_that_is_too_old_proves_nothing(filled: tuple[Fleet, Lake, datetime]) -> None:
    _, lake, now = filled
    found = recommend_lake(lake, now=now + timedelta(days=30))
    counts = found.counts()
    assert counts["ad50b498-f90c-451f-886f-d0a169cc5002"]["Healthy"] == 0
    assert counts["ad50b498-f90c-451f-886f-d0a169cc5002"]["not-judged"] == COUNT
    assert counts["b7604066-ed76-45f9-a5c1-c97e4812dc55"]["Healthy"] == 0


def test_the_past_is_judged_by_what_was_known_then(filled: tuple[Fleet, Lake, datetime]) -> None:
    _, lake, _ = filled
    first = recommend_lake(lake, now=START + EVENING)
    counts = first.counts()["b7604066-ed76-45f9-a5c1-c97e4812dc55"]
    assert counts["not-judged"] > 0  # machines that are still awaited
    assert not any(row["reason"] == "no-report" for row in first.words())


def test_a_lake_without_evidence_judges_configuration_alone(tmp_path: Path) -> None:
    from cvmlab.fleet.lake.records import keep_inventory

    fleet = Fleet(5, 1)
    lake = Lake(tmp_path / "lake")
    read = read_inventory_bytes(json.dumps(next(inventory_pages(fleet))).encode())
    keep_inventory(lake, read, received=START, import_="0")
    found = recommend_lake(lake, now=START + EVENING)
    assert not found.evidence
    counts = found.counts()
    assert counts["b7604066-ed76-45f9-a5c1-c97e4812dc55"] == {"not-judged": 5}
    assert counts == recommend(read).counts()


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fleet", "recommend", *map(str, arguments)])
    return result.exit_code, result.stdout or str(result.exception)


def test_the_command_asks_the_lake(filled: tuple[Fleet, Lake, datetime], tmp_path: Path) -> None:
    _, lake, _ = filled
    page = tmp_path / "r.html"
    code, text = run("--lake", lake.location, "--json", "--html", page)
    told = json.loads(text)
    assert code == 1
    assert told["machines"] == COUNT
    assert told["results_total"] == len(told["results"]) > 0
    assert {row["state"] for row in told["results"]} == {"Unhealthy"}
    assert sum(rule["counts"]["Unhealthy"] for rule in told["rules"]) == told["results_total"]
    assert "Evidence against configuration" in page.read_text()
    rows = list(csv.DictReader(io.StringIO(run("--lake", lake.location, "--csv")[1])))
    assert len(rows) == COUNT * len(load_rules())
    assert "What is to be done" in run("--lake", lake.location)[1]


def test_the_command_wants_one_source(filled: tuple[Fleet, Lake, datetime], tmp_path: Path) -> None:
    _, lake, _ = filled
    assert "give exports" in run()[1]
    assert "everything comes from the lake" in run(tmp_path / "a.json", "--lake", lake.location)[1]
    assert "no lake is here" in run("--lake", tmp_path / "none")[1]
