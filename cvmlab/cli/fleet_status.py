"""`cvmlab fleet status` and `cvmlab fleet alerts`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvmlab.cli.common import Json, complain, print_json, show
from cvmlab.cli.fleet import Storage, fleet, open_lake
from cvmlab.cli.fleet_watch import LakeAt, Silent, Stale, limits_of
from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cvmlab.fleet.alerts import Alert

Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


@fleet.command(epilog="Example: cvmlab fleet status --lake lake/ --status failed --by subscription")
def status(
    lake: LakeAt,
    storage: Storage = None,
    wanted: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="S", help="attested, failed, stale, silent or cannot; repeatable."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="COLUMN", help="Scores by subscription, region, os, size, scale_set, …"),
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", metavar="M", help="History of one machine, by id or name.")
    ] = None,
    stale: Stale = 24,
    silent: Silent = 72,
    as_csv: Csv = False,
    as_json: Json = False,
) -> None:
    """List machines with their attestation status, its cause, age and since when; scores with their formula.

    Exit code 0: every machine that is listed is attested; 1: some are not.
    """
    from cvmlab.fleet import status_view as view

    if as_csv and as_json:
        raise EvidenceError("--csv and --json exclude each other")
    if machine is not None and (wanted or by):
        raise EvidenceError("--machine is of one machine: leave out --status and --by")
    place, now, thresholds = open_lake(lake, storage), datetime.now(UTC), limits_of(stale, silent)
    if machine is not None:
        found = view.history_object(place, machine, now, thresholds)
        rows, listed = found["history"], [found["machine"]]
    else:
        found = view.status_object(place, now, thresholds, wanted=wanted or (), by=by)
        rows = listed = found["machines"]
    if as_json:
        print_json(found)
    elif as_csv:
        _csv(rows, view.HISTORY_COLUMNS if machine is not None else view.STATUS_COLUMNS)
    else:
        show(view.history_document(found) if machine is not None else view.status_document(found))
    raise typer.Exit(0 if all(row["status"] == "attested" for row in listed) else 1)


@fleet.command(epilog="Example: cvmlab fleet alerts --lake lake/ --as provider -o alerts.json")
def alerts(
    lake: LakeAt,
    storage: Storage = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are hidden or resolved.")] = False,
    shape: Annotated[
        str | None,
        typer.Option("--as", metavar="SHAPE", help="lines (JSON lines) or provider (Microsoft.Security)."),
    ] = None,
    alert_type: Annotated[
        str | None, typer.Option("--alert-type", metavar="T", help="alertType to state, with --as provider.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write there instead.")
    ] = None,
    as_csv: Csv = False,
    as_json: Json = False,
) -> None:
    """List and export the alerts that a watch opened; those that rules hide are counted.

    Exit code 0: no alert is open and shown; 1: at least one is.
    """
    from cvmlab.fleet import status_view as view

    if shape not in (None, "lines", "provider"):
        raise EvidenceError(f"--as {shape}: alerts are written as lines or as provider")
    if (shape is not None) + as_csv + as_json > 1:
        raise EvidenceError("--as, --csv and --json exclude each other")
    if alert_type is not None and shape != "provider":
        raise EvidenceError("--alert-type is stated in the provider's shape: add --as provider")
    found, chosen = view.alerts_object(open_lake(lake, storage), datetime.now(UTC), every=every)
    text = _exported(found, chosen, shape, alert_type, as_csv=as_csv)
    if text is None and not as_json and output is None:
        show(view.alerts_document(found))
    else:
        _write(text if text is not None else json.dumps(found, indent=2) + "\n", output)
        complain(f"{found['open']} open, {found['suppressed']} open but hidden, {found['resolved']} resolved")
    raise typer.Exit(1 if found["open"] else 0)


def _exported(
    found: Mapping[str, Any],
    chosen: Sequence[Alert],
    shape: str | None,
    alert_type: str | None,
    *,
    as_csv: bool,
) -> str | None:
    """Return alerts in another shape than that of `--json`; None where none is wanted."""
    from cvmlab.fleet.alert_export import provider_object

    if shape == "lines":
        return "".join(json.dumps(one) + "\n" for one in found["alerts"])
    if shape == "provider":
        return json.dumps({"value": [provider_object(one, alert_type) for one in chosen]}, indent=2) + "\n"
    if as_csv:
        import io

        from cvmlab.fleet.alert_export import COLUMNS

        buffer = io.StringIO()
        _csv(found["alerts"], COLUMNS, buffer)
        return buffer.getvalue()
    return None


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvidenceError(f"{output}: cannot be written: {error.strerror or error}") from error


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], target: Any = None) -> None:
    import pandas as pd

    from cvmlab.exchange import write_csv

    write_csv(pd.DataFrame(list(rows), columns=list(columns), dtype=object), target or sys.stdout)
