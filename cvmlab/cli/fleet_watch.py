"""`cvmlab fleet watch` and `cvmlab fleet report`."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvmlab.cli.common import At, Enrolled, Json, Roots, complain, print_json, show
from cvmlab.cli.fleet import Storage, fleet, open_lake
from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from cvmlab.fleet.status import Thresholds

LakeAt = Annotated[str, typer.Option("--lake", metavar="L", help="The lake: a folder or a URL.")]
Stale = Annotated[float, typer.Option("--stale", metavar="HOURS", help="Evidence older than this is stale.")]
Silent = Annotated[
    float, typer.Option("--silent", metavar="HOURS", help="A machine without evidence as long is silent.")
]


def limits_of(stale: float, silent: float) -> Thresholds:
    """Return the thresholds that two options give.

    Raises:
        EvidenceError: They do not fit each other.
    """
    from cvmlab.fleet.status import Thresholds as Limits

    try:
        return Limits(timedelta(hours=stale), timedelta(hours=silent))
    except (ValueError, OverflowError) as error:
        raise EvidenceError(f"--stale and --silent: {error}") from error


@fleet.command(epilog="Example: cvmlab fleet watch inbox/ --lake lake/ --baseline good.json --once")
def watch(
    inbox: Annotated[str, typer.Argument(metavar="INBOX", help="Folder, or URL of an object prefix.")],
    lake: LakeAt,
    storage: Storage = None,
    baseline: Annotated[Path | None, typer.Option("--baseline", metavar="B", help="The baseline.")] = None,
    inventory: Annotated[
        list[Path] | None, typer.Option("--inventory", metavar="F", help="Exports of machines; repeatable.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="D", help="The verifier's own folder: one for each machine by name."),
    ] = None,
    suppress: Annotated[
        list[Path] | None, typer.Option("--suppress", metavar="TOML", help="Suppression rules; repeatable.")
    ] = None,
    alert_type: Annotated[
        str | None, typer.Option("--alert-type", metavar="T", help="Type that the provider's rules name.")
    ] = None,
    trust_root: Roots = None,
    enrolled_key: Enrolled = None,
    once: Annotated[bool, typer.Option("--once", help="One round, then end.")] = False,
    hook: Annotated[
        str | None,
        typer.Option("--hook", metavar="CMD", help="Run for each alert, JSON on standard input, no shell."),
    ] = None,
    interval: Annotated[float, typer.Option("--interval", metavar="S", help="Seconds between rounds.")] = 60,
    settle: Annotated[
        float, typer.Option("--settle", metavar="S", help="Seconds an upload must not have changed.")
    ] = 10,
    stale: Stale = 24,
    silent: Silent = 72,
    as_json: Json = False,
) -> None:
    """Judge evidence as it arrives; open and resolve alerts.

    The lake is the only state: stop and start at will. Changes of alerts go to standard output (JSON lines
    with --json). Exit code with --once: 0 no alert is open and shown, 1 at least one is.
    """
    import tempfile

    from cvmlab.baseline.document import load_baseline
    from cvmlab.evidence.context import load_context
    from cvmlab.fleet.alert_export import json_lines
    from cvmlab.fleet.hooks import Hook
    from cvmlab.fleet.inbox import Intake, complete, mirror
    from cvmlab.fleet.inventory import read_inventory
    from cvmlab.fleet.suppression import provider_rules, read_rules
    from cvmlab.fleet.watch import Watcher, lake_alerts, only_watch
    from cvmlab.view import visible

    thresholds = limits_of(stale, silent)
    try:
        command = tuple(shlex.split(hook)) if hook else ()
    except ValueError as error:
        raise EvidenceError(f"--hook: {error}") from error
    rules = [rule for path in suppress or () for rule in read_rules(path)]
    for path in inventory or ():
        own, problems = provider_rules(read_inventory(path).suppressions, alert_type)
        rules += own
        for problem in problems:
            complain(str(problem))
    place = open_lake(lake, storage, new=True)
    context = load_context(trust_roots=trust_root or (), enrolled_keys=enrolled_key or ())
    intake = Intake(place, load_baseline(baseline) if baseline else None, context, store)
    watcher = Watcher(place, rules, thresholds, Hook(command, complain) if command else None)
    with ExitStack() as stack:
        stack.enter_context(only_watch(place))
        remote, listed = "://" in inbox, False
        folder = Path(inbox)
        if remote:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "inbox"
            folder.mkdir()
        while True:
            now = datetime.now(UTC)
            arrived: list[Path] = []
            try:
                if remote:
                    for left in mirror(inbox, folder):
                        complain(left)
                arrived = complete(folder, timedelta(seconds=settle), now)
            except EvidenceError as error:
                if once or not listed:
                    raise
                # a store that does not answer for a moment ends no watch; who is silent is still found out
                complain(f"{error}; tried again in {interval:g} s")
            listed = True
            taken = intake.take(arrived, now, inventory or ())
            lines = watcher.turn(now)
            if as_json:
                sys.stdout.write(json_lines(lines))
            else:
                for one in lines:
                    text = f"{one.event} {one.machine} {one.reason} {one.cause}: {one.summary}"
                    sys.stdout.write(visible(text) + "\n")
            sys.stdout.flush()
            sys.stderr.write(
                f"{taken.added} new, {taken.judged} judged, {taken.quarantined} not usable, "
                f"{taken.strays} not evidence, {taken.machines} machines read, "
                f"{len(lines)} changes of alerts\n"
            )
            if once:
                break
            time.sleep(interval)
    shown = any(one.resolved is None and one.suppressed_by is None for one in lake_alerts(place))
    raise typer.Exit(1 if shown else 0)


@fleet.command(epilog="Example: cvmlab fleet report --lake lake/ --html fleet.html")
def report(
    lake: LakeAt,
    storage: Storage = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the report there.")] = None,
    enforce: Annotated[
        Path | None,
        typer.Option("--enforce", metavar="B", help="Say how many machines would fail by this baseline."),
    ] = None,
    rules: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="TOML", help="Further rules of recommendations; repeatable."),
    ] = None,
    enrolled_key: Enrolled = None,
    trust_root: Roots = None,
    stale: Stale = 24,
    silent: Silent = 72,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Say what fails now and why, since when, and what the machines share.

    Exit code 0: every machine is attested; 1: some are not.
    """
    from cvmlab.baseline.document import load_baseline
    from cvmlab.evidence.context import load_context
    from cvmlab.fleet.fleet_report import fleet_document, fleet_object

    context = load_context(trust_roots=trust_root or (), enrolled_keys=enrolled_key or (), at=at)
    found = fleet_object(
        open_lake(lake, storage),
        context.at or datetime.now(UTC),
        limits_of(stale, silent),
        rules=rules or (),
        enforce=load_baseline(enforce) if enforce is not None else None,
        context=context,
    )
    if not found["machines"]:
        raise EvidenceError(f"{lake}: no machine is in this lake; fill it with fleet ingest or fleet watch")
    document = fleet_document(found)
    if html is not None:
        from cvmlab.view import render_page

        html.write_text(render_page(document), encoding="utf-8")
        sys.stderr.write(f"report written to {html}\n")
    if as_json:
        print_json(found)
    else:
        show(document)
    raise typer.Exit(0 if found["status"]["attested"] == found["machines"] else 1)
