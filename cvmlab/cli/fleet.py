"""`cvmlab fleet recommend`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cvmlab.cli.common import At, Enrolled, Json, Roots, app, complain, print_json, show
from cvmlab.errors import CvmlabError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.fleet.inventory import Inventory
    from cvmlab.fleet.lake import Lake
    from cvmlab.fleet.proven import Proven
    from cvmlab.fleet.recommend_lake import FleetRecommendations

fleet = typer.Typer(
    help="Many machines: their evidence in a lake, verdicts, recommendations and their reasons.",
    epilog="Example: cvmlab fleet ingest inbox/ --lake lake/ --baseline good.json",
    no_args_is_help=True,
)
app.add_typer(fleet, name="fleet")

Storage = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="KEY=VALUE",
        help="Option of the lake's object store, such as endpoint_url=…; repeatable. Secrets: environment.",
    ),
]


def open_lake(location: str, storage: list[str] | None, *, new: bool = False) -> Lake:
    """Open a lake; where nothing was written to it yet that is an error unless it may be `new`."""
    from cvmlab.fleet.lake import Lake as Place

    options: dict[str, str] = {}
    for one in storage or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise EvidenceError(f"--storage-option {one}: write it as KEY=VALUE")
        options[name] = value
    if options and "://" not in location:
        raise EvidenceError(f"{location}: a folder has no storage options; a lake in object storage is a URL")
    lake = Place(location, storage_options=options)
    if not new and not any(lake.delta(name) is not None for name in _ANY):
        raise EvidenceError(f"{location}: no lake is here; `cvmlab fleet ingest` or `fleet watch` makes one")
    return lake


_ANY = ("attestations", "quarantine", "machines")


@fleet.command(
    epilog="Example: cvmlab fleet recommend machines.json --assessments defender.json --html r.html"
)
def recommend(
    inventory: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INVENTORY...",
            help="Exports of machines (JSON, JSON lines, CSV), folders, or - for stdin.",
        ),
    ] = None,
    lake: Annotated[
        str | None,
        typer.Option("--lake", metavar="L", help="Take inventory, assessments and evidence from a lake."),
    ] = None,
    storage: Storage = None,
    assessments: Annotated[
        list[Path] | None,
        typer.Option("--assessments", metavar="F", help="What the provider says: exports of assessments."),
    ] = None,
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            "--evidence", metavar="E", help="Evidence of machines, or a folder of such; repeatable."
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="B", help="Baseline for the evidence.")
    ] = None,
    rules: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="TOML", help="Further rules; they replace those of the same key."),
    ] = None,
    trust_root: Roots = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the report there.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one row a machine and rule, as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Say what should be changed on which machine and why, and whether the provider says the same.

    Exit code 0: nothing to do; 1: something is Unhealthy, or evidence contradicts the configuration.
    """
    from cvmlab.fleet.inventory import read_inventory
    from cvmlab.fleet.recommend_view import recommendations_document, recommendations_object
    from cvmlab.fleet.recommendations import recommend as run

    if as_csv and as_json:
        raise CvmlabError("--csv and --json exclude each other")
    if lake is not None:
        if inventory or assessments or evidence or baseline or trust_root or enrolled_key or at:
            raise CvmlabError("with --lake everything comes from the lake: give --rules and outputs alone")
        _recommend_lake(open_lake(lake, storage), rules, html, as_csv=as_csv, as_json=as_json)
    if not inventory:
        raise CvmlabError("give exports of machines, or --lake")
    read = read_inventory(*inventory, *(assessments or ()))
    if not read.machines:
        first = next(
            (str(problem) for problem in read.problems if problem.fatal), "nothing in it is a machine"
        )
        raise CvmlabError(f"no machine was read: {first}")
    proven = _proven(read, evidence, baseline, trust_root, enrolled_key, at) if evidence else None
    found = run(read, proven, rules=rules or ())
    if html is not None:
        from cvmlab.view import render_page

        html.write_text(render_page(recommendations_document(found)), encoding="utf-8")
        sys.stderr.write(f"report written to {html}\n")
    if as_json:
        print_json(recommendations_object(found))
    elif as_csv:
        from cvmlab.exchange import write_csv

        write_csv(found.frame(), sys.stdout)
    else:
        show(recommendations_document(found))
    raise typer.Exit(1 if found.unhealthy or found.contradictions else 0)


def _recommend_lake(
    lake: Lake, rules: list[Path] | None, html: Path | None, *, as_csv: bool, as_json: bool
) -> NoReturn:
    from datetime import UTC, datetime

    from cvmlab.fleet.recommend_lake import recommend_lake
    from cvmlab.fleet.recommend_view import lake_recommendations_object, recommendations_document

    found = recommend_lake(lake, now=datetime.now(UTC), rules=rules or ())
    if not len(found.machines):
        raise CvmlabError(f"{lake.location}: no inventory is in this lake; fleet ingest --inventory adds it")
    document = None if (as_csv or as_json) and html is None else recommendations_document(found)
    if html is not None and document is not None:
        from cvmlab.view import render_page

        html.write_text(render_page(document), encoding="utf-8")
        sys.stderr.write(f"report written to {html}\n")
    if as_json:
        print_json(lake_recommendations_object(found))
    elif as_csv:
        _write_results(found)
    elif document is not None:
        show(document)
    raise typer.Exit(1 if found.concerned() or found.contradictions(1)[1] else 0)


def _write_results(found: FleetRecommendations) -> None:
    """All results as CSV, a part after the other."""
    from itertools import islice

    from cvmlab.exchange import write_csv
    from cvmlab.fleet.recommend_view import recommendations_frame

    results = found.results()
    first = True
    while part := list(islice(results, 20_000)):
        write_csv(recommendations_frame(part), sys.stdout, header=first)
        first = False


def _proven(
    inventory: Inventory,
    paths: list[Path],
    baseline: Path | None,
    roots: list[Path] | None,
    keys: list[Path] | None,
    at: str | None,
) -> dict[str, Proven]:
    from cvmlab.fleet.proven import proven_by
    from cvmlab.fleet.recommendations import match_evidence
    from cvmlab.report.investigation import investigate

    results: dict[str, Proven] = {}
    for place in _places(paths):
        try:
            result = investigate(
                place, baseline=baseline, trust_roots=roots or (), enrolled_keys=keys or (), at=at
            )
        except EvidenceError as error:
            complain(f"this evidence is left out: {error}")
            continue
        # of several evidences of one machine the one named last counts
        results[result.evidence.machine] = proven_by(result)
    matched, problems = match_evidence(inventory, results)
    for problem in problems:
        complain(f"left out: {problem}")
    return {machine: results[name] for name, machine in matched.items()}


def _places(paths: list[Path]) -> Iterator[Path]:
    """Evidence, or the folders of evidence in a folder that has nothing else."""
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        yield from inside if inside and all(one.is_dir() for one in inside) else [path]
