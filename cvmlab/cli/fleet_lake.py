"""`cvmlab fleet ingest`, `evaluate`, `sql` and `compact`: the fleet's lake."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvmlab.cli.common import At, Enrolled, Json, Roots, Signed, print_json
from cvmlab.cli.fleet import Storage, fleet, open_lake
from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence import VerifierContext

LakePlace = Annotated[
    str, typer.Option("--lake", metavar="L", help="Folder or URL (s3://…) of the fleet's tables.")
]
BaselineFile = Annotated[Path | None, typer.Option("--baseline", metavar="B", help="Baseline to compare.")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="A", help="Address of a Dask scheduler to work on.")
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=0, help="Worker processes here; 0: this one alone.")
]


@fleet.command(
    epilog="Example: cvmlab fleet ingest inbox/ --lake lake/ --baseline good.json --verifier known/"
)
def ingest(
    lake: LakePlace,
    storage: Storage = None,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Folders, archives and files with evidence of many machines."),
    ] = None,
    inventory: Annotated[
        list[Path] | None,
        typer.Option(
            "--inventory", metavar="F", help="Exports of machines and assessments, read together; repeatable."
        ),
    ] = None,
    baseline: BaselineFile = None,
    trust_root: Roots = None,
    enrolled_key: Enrolled = None,
    require_signed: Signed = None,
    at: At = None,
    verifier: Annotated[
        Path | None,
        typer.Option(
            "--verifier", metavar="DIR", help="The verifier's own files: a folder for each machine's name."
        ),
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Add evidence to the lake, each once, and judge it; what cannot be used goes into quarantine.

    Stopped at any point, it is simply run again. Exit code 1 where something went into quarantine.
    """
    from cvmlab.fleet.lake.evaluation import evaluate as judge
    from cvmlab.fleet.lake.ingest import ingest_paths as add
    from cvmlab.fleet.lake.records import Kept, take_inventory
    from cvmlab.fleet.lake.run import runner
    from cvmlab.fleet.lake.submissions import VerifierStore
    from cvmlab.fleet.recommend_lake import recommend_lake, record_recommendations

    if not paths and not inventory:
        raise EvidenceError("give evidence, --inventory, or both")
    missing = [path for path in (*(paths or ()), *(inventory or ())) if not path.exists()]
    if missing:
        raise EvidenceError(f"{missing[0]}: there is nothing here")
    known, context = _known(baseline, trust_root, enrolled_key, require_signed, at)
    place = open_lake(lake, storage, new=True)
    kept = take_inventory(place, inventory, now=datetime.now(UTC)) if inventory else Kept()
    if inventory and not (kept.known or kept.machines + kept.assessments + kept.others):
        raise EvidenceError(f"{inventory[0]}: nothing in it is inventory")
    with runner(scheduler, workers) as run:
        with _bar("reading") as shown:
            counts = add(
                place,
                paths or (),
                store=VerifierStore(verifier),
                run=run,
                progress=lambda done: shown(done.submissions),
            )
        with _bar("judging") as shown:
            verdicts = judge(place, known, context, run=run, progress=shown)
    now = datetime.now(UTC)
    record_recommendations(place, recommend_lake(place, now=now), now)
    if as_json:
        told = _numbers(kept) if inventory else None
        numbers = {**_numbers(counts), "verdicts": verdicts, "inventory": told}
        print_json({"schema": "cvmlab.ingest/1", **numbers})
    else:
        if inventory:
            sys.stdout.write(
                f"{kept.machines:,} machines and {kept.assessments:,} assessments read, "
                f"{kept.changed:,} of them new or changed; {kept.problems:,} problems\n"
                if not kept.known
                else "this inventory is there already\n"
            )
        sys.stdout.write(
            f"{counts.submissions:,} submissions: {counts.added:,} added, {counts.known:,} there already, "
            f"{counts.quarantined:,} into quarantine; {verdicts:,} verdicts\n"
        )
    raise typer.Exit(1 if counts.quarantined else 0)


@fleet.command(epilog="Example: cvmlab fleet evaluate --lake lake/ --baseline new.json")
def evaluate(
    lake: LakePlace,
    storage: Storage = None,
    baseline: BaselineFile = None,
    trust_root: Roots = None,
    enrolled_key: Enrolled = None,
    require_signed: Signed = None,
    at: At = None,
    scheduler: Scheduler = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Judge what is in the lake by another baseline; verdicts of before stay."""
    from cvmlab.fleet.lake.evaluation import derivation_of
    from cvmlab.fleet.lake.evaluation import evaluate as judge
    from cvmlab.fleet.lake.run import runner

    known, context = _known(baseline, trust_root, enrolled_key, require_signed, at)
    with runner(scheduler, workers) as run, _bar("judging") as shown:
        verdicts = judge(open_lake(lake, storage), known, context, run=run, progress=shown)
    if as_json:
        derivation = derivation_of(known, context)
        print_json({"schema": "cvmlab.evaluate/1", "verdicts": verdicts, "derivation": derivation})
    else:
        sys.stdout.write(f"{verdicts:,} verdicts added\n")


@fleet.command(
    epilog="Example: cvmlab fleet sql --lake lake/ 'select verdict, count(*) from latest_verdicts group by 1'"
)
def sql(
    query: Annotated[str, typer.Argument(help="A question in SQL; it can change nothing.")],
    lake: LakePlace,
    storage: Storage = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the lake: tables attestations, verdicts, findings, events, …, and the view latest_verdicts."""
    from cvmlab.fleet.lake.ask import sql as ask

    if as_csv and as_json:
        raise EvidenceError("--csv and --json exclude each other")
    found = ask(open_lake(lake, storage), query)
    if as_csv:
        from cvmlab.exchange import write_csv

        write_csv(found.to_pandas(), sys.stdout)
    elif as_json:
        rows = [{name: _plain(value) for name, value in row.items()} for row in found.to_pylist()]
        print_json({"schema": "cvmlab.sql/1", "columns": found.column_names, "rows": rows})
    else:
        _show(found)


@fleet.command(epilog="Example: cvmlab fleet compact --lake lake/ --keep-days 90")
def compact(
    lake: LakePlace,
    storage: Storage = None,
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", metavar="N", min=0, help="Remove what is older than this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Join small files; with --keep-days remove old evidence and what only that referred to."""
    from cvmlab.fleet.lake.care import compact as care

    counts = care(open_lake(lake, storage), keep_days=keep_days)
    if as_json:
        print_json({"schema": "cvmlab.compact/1", **_numbers(counts)})
    else:
        sys.stdout.write(
            f"{counts.joined:,} files joined, {counts.expired:,} rows and "
            f"{counts.contents:,} contents removed\n"
        )


def _numbers(counts: object) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(counts)  # type: ignore[call-overload, no-any-return]


def _known(
    baseline: Path | None,
    roots: list[Path] | None,
    enrolled: list[Path] | None,
    signed: list[Path] | None,
    at: str | None,
) -> tuple[Baseline | None, VerifierContext]:
    from cvmlab.baseline.document import load_baseline
    from cvmlab.evidence import load_context

    known = load_baseline(baseline, require_signed=signed or ()) if baseline is not None else None
    return known, load_context(trust_roots=roots or (), enrolled_keys=enrolled or (), at=at)


@contextmanager
def _bar(text: str) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done: progress.update(task, completed=done)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


def _show(found: pa.Table) -> None:
    from cvmlab.view import Cell, Document, Table, print_document

    shown = found.slice(0, 60)
    rows = tuple(
        tuple(Cell("-" if v is None else str(_plain(v)), kind="claimed") for v in row.values())
        for row in shown.to_pylist()
    )
    table = Table(columns=tuple(found.column_names), rows=rows, total=len(found), caption="Answer")
    print_document(Document(title="Answer of the lake", blocks=(table,)))
