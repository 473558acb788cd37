"""`cvmlab whatis`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import Files, Json, app, print_json, read_log, show
from cvmlab.errors import CvmlabError


@app.command(epilog="Example: cvmlab whatis --log eventlog.bin --files /boot --files shim-signed.deb")
def whatis(
    digests: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DIGEST]...", help="Digests of SHA-1 or SHA-2, in hex."),
    ] = None,
    files: Files = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="LOG", help="Ask for each event whose data say nothing."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which file, package or well-known value a digest is, and who signed it."""
    from cvmlab.artifacts import identify
    from cvmlab.report.whatis_view import whatis_document, whatis_object

    asked = [(text, _digest(text)) for text in digests or ()]
    if log is not None:
        asked += [
            (f"event {event.index}, register {event.register}", value)
            for event in read_log(log).events
            if event.digest_check in ("describes", "unknown")
            for value in list(event.digests.values())[-1:]
        ]
    if not asked:
        raise CvmlabError("name at least one digest, or a log with --log")
    found = identify((value for _, value in asked), files or ())
    if as_json:
        print_json(whatis_object(asked, found))
    else:
        show(whatis_document(asked, found))
    raise typer.Exit(0 if all(value in found for _, value in asked) else 1)


def _digest(text: str) -> bytes:
    from cvmlab.artifacts.index import BANK_BY_SIZE

    try:
        value = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError as error:
        raise CvmlabError(f"{text!r} is not hex") from error
    if len(value) not in BANK_BY_SIZE:
        sizes = ", ".join(f"{size} ({bank})" for size, bank in BANK_BY_SIZE.items())
        raise CvmlabError(f"{text!r} has {len(value)} bytes; digests have {sizes}")
    return value
