"""The application, the options that commands share, and how results are printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cvmlab.eventlog import EventLog
    from cvmlab.view import Document

app = typer.Typer(
    name="cvmlab",
    help="Say why a confidential VM failed attestation, and what to do.",
    epilog="Example: cvmlab investigate evidence/ --baseline good.json",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Roots = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust-root", metavar="PEM", help="Certificate that chains must end in, or a folder of them."
    ),
]
Enrolled = Annotated[
    list[Path] | None, typer.Option("--enrolled-key", metavar="FILE", help="A key known to be the machine's.")
]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Judge for this time (ISO 8601).")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--files", metavar="F", help="Folder, .deb, archive or disk image to look digests up in."),
]
History = Annotated[
    list[Path] | None,
    typer.Option("--history", metavar="EVIDENCE", help="Earlier evidence of this machine; repeatable."),
]
Signed = Annotated[
    list[Path] | None,
    typer.Option(
        "--require-signed", metavar="PUBKEY", help="The baseline must be signed by this key; repeatable."
    ),
]
Jwks = Annotated[
    list[Path] | None,
    typer.Option("--jwks", metavar="FILE", help="Keys of the attestation service: what its /certs serves."),
]
Issuers = Annotated[
    list[str] | None,
    typer.Option("--token-issuer", metavar="URL", help="Issuer of tokens that counts; any of Azure's else."),
]
Nonce = Annotated[str | None, typer.Option("--nonce", metavar="HEX", help="The nonce that was sent.")]


def complain(text: str) -> None:
    """Write one line of `cvmlab: …` to standard error, control characters made visible."""
    from cvmlab.view import visible

    sys.stderr.write(f"cvmlab: {visible(text)}\n")


def print_json(value: object) -> None:
    """Write a value to standard output as JSON."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def show(document: Document) -> None:
    """Write a document to standard output as text."""
    from cvmlab.view import print_document

    print_document(document)


def read_log(log: Path) -> EventLog:
    """Read an event log from a file, or from standard input for ``-``."""
    from cvmlab.eventlog import read_event_log
    from cvmlab.eventlog.reader import MAX_LOG

    if str(log) == "-":
        return read_event_log(sys.stdin.buffer.read(MAX_LOG + 1), name="standard input")
    return read_event_log(log)


def end_of_log(log: EventLog) -> NoReturn:
    """A damaged log was shown as far as it could be read: say where it ends and exit with 2."""
    fatal = [problem for problem in log.problems if problem.fatal]
    for problem in fatal:
        complain(f"{problem}; {log.events_before(problem)} events before it were read")
    raise typer.Exit(2 if fatal else 0)
