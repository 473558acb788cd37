"""`cvmlab events` and `cvmlab replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import Json, app, end_of_log, print_json, read_log, show
from cvmlab.errors import CvmlabError


@app.command(epilog="Example: cvmlab events /sys/kernel/security/tpm0/binary_bios_measurements --json")
def events(
    log: Annotated[Path, typer.Argument(help="Event log; - for standard input.")],
    as_json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", metavar="F", help="Write Parquet.")] = None,
    table: Annotated[
        str,
        typer.Option(
            "--table",
            metavar="T",
            help="For --csv and --parquet: events, registers, variables, signatures, boot_entries, modules, "
            "ima, problems.",
        ),
    ] = "events",
) -> None:
    """Show the events of a log, decoded."""
    read = read_log(log)
    if as_json:
        from cvmlab.report.log_json import events_object

        print_json(events_object(read))
    elif csv or parquet is not None:
        from cvmlab.exchange import write_csv, write_parquet

        try:
            frame = read.table(table)
        except KeyError as error:
            raise CvmlabError(str(error.args[0])) from error
        if csv:
            write_csv(frame, sys.stdout)
        if parquet is not None:
            write_parquet(frame, parquet)
    else:
        from cvmlab.eventlog.frame import log_view

        show(log_view(read))
    end_of_log(read)


@app.command(epilog="Example: cvmlab replay eventlog.bin --bank sha256")
def replay(
    log: Annotated[Path, typer.Argument(help="Event log; - for standard input.")],
    bank: Annotated[str | None, typer.Option("--bank", metavar="B", help="Only this bank.")] = None,
    as_json: Json = False,
) -> None:
    """Show the register values that a log gives."""
    from cvmlab.report.log_json import registers_object

    read = read_log(log)
    if bank is not None and bank not in read.banks:
        raise CvmlabError(f"the log has no bank {bank}; it has {', '.join(read.banks) or 'none'}")
    value = registers_object(read, bank)
    if as_json:
        print_json(value)
    else:
        from cvmlab.report.tool_views import replay_document

        show(replay_document(read, bank))
    end_of_log(read)
