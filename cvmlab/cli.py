"""The command line: a thin face on the library (design, section 10)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cvmlab.errors import CvmlabError

if TYPE_CHECKING:
    from cvmlab.baseline import Baseline
    from cvmlab.eventlog import EventLog
    from cvmlab.view import Document

app = typer.Typer(
    name="cvmlab",
    help="Say why a confidential VM failed attestation, and what to do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
baseline_app = typer.Typer(
    help="Learn, show and compare baselines.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(baseline_app, name="baseline")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Roots = Annotated[
    list[Path] | None,
    typer.Option("--trust-root", metavar="PEM", help="Certificates that chains must end in."),
]
Enrolled = Annotated[
    list[Path] | None, typer.Option("--enrolled-key", metavar="FILE", help="A key known to be the machine's.")
]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Judge for this time (ISO 8601).")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--files", metavar="F", help="Folder, .deb, archive or disk image to look digests up in."),
]
Nonce = Annotated[str | None, typer.Option("--nonce", metavar="HEX", help="The nonce that was sent.")]


def main() -> NoReturn:
    """Run the command line: exit code 0 trusted or fine, 1 not, 2 unusable input, 3 our own fault."""
    code: object
    try:
        # the exit code of a command comes back as a value in this mode
        code = app(standalone_mode=False)
    except CvmlabError as error:
        _complain(str(error))
        code = 2
    except typer.Exit as stop:
        code = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _complain("stopped")
        code = 2
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        code = _unexpected(error)
    raise SystemExit(code if isinstance(code, int) else 0)


def _unexpected(error: Exception) -> int:
    # a wrong option or command; typer carries its own copy of the class in some versions
    show = getattr(error, "show", None)
    if callable(show) and isinstance(getattr(error, "exit_code", None), int):
        show()
        return 2
    import traceback

    traceback.print_exception(error)
    _complain("this is a fault of cvmlab, not of your evidence; please report it with the lines above")
    return 3


def _complain(text: str) -> None:
    from cvmlab.view import visible

    sys.stderr.write(f"cvmlab: {visible(text)}\n")


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _show(document: Document) -> None:
    from cvmlab.view import print_document

    print_document(document)


@app.command(epilog="Example: cvmlab investigate evidence/ --baseline good.json --trust-root root.pem")
def investigate(
    evidence: Annotated[Path, typer.Argument(help="Evidence directory, or a zip or tar of one.")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="B", help="Baseline to compare.")
    ] = None,
    trust_root: Roots = None,
    nonce: Nonce = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    files: Files = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the report there.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether a machine can be trusted, and why not."""
    from cvmlab.report.investigation import investigate as run

    result = run(
        evidence,
        baseline=baseline,
        trust_roots=trust_root or (),
        nonce=nonce,
        enrolled_keys=enrolled_key or (),
        at=at,
        files=files or (),
    )
    if html is not None:
        result.to_html(html)
        sys.stderr.write(f"report written to {html}\n")
    if as_json:
        sys.stdout.write(result.to_json() + "\n")
    else:
        _show(result.document())
    raise typer.Exit(0 if result.verdict == "trusted" else 1)


def _read_log(log: Path) -> EventLog:
    from cvmlab.eventlog import read_event_log
    from cvmlab.eventlog.reader import MAX_LOG

    if str(log) == "-":
        return read_event_log(sys.stdin.buffer.read(MAX_LOG + 1), name="standard input")
    return read_event_log(log)


def _end_of_log(log: EventLog) -> NoReturn:
    """A damaged log was shown as far as it could be read: say where it ends and exit with 2."""
    fatal = [problem for problem in log.problems if problem.fatal]
    for problem in fatal:
        _complain(f"{problem}; {len(log.events)} events before it were read")
    raise typer.Exit(2 if fatal else 0)


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
            help="For --csv and --parquet: events, registers, variables, signatures, boot_entries, modules.",
        ),
    ] = "events",
) -> None:
    """Show the events of a log, decoded."""
    read = _read_log(log)
    if as_json:
        from cvmlab.report.log_json import events_object

        _print(events_object(read))
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

        _show(log_view(read))
    _end_of_log(read)


@app.command(epilog="Example: cvmlab replay eventlog.bin --bank sha256")
def replay(
    log: Annotated[Path, typer.Argument(help="Event log; - for standard input.")],
    bank: Annotated[str | None, typer.Option("--bank", metavar="B", help="Only this bank.")] = None,
    as_json: Json = False,
) -> None:
    """Show the register values that a log gives."""
    from cvmlab.report.log_json import registers_object

    read = _read_log(log)
    if bank is not None and bank not in read.banks:
        raise CvmlabError(f"the log has no bank {bank}; it has {', '.join(read.banks) or 'none'}")
    value = registers_object(read, bank)
    if as_json:
        _print(value)
    else:
        from cvmlab.report.tool_views import replay_document

        _show(replay_document(read, bank))
    _end_of_log(read)


@app.command(epilog="Example: cvmlab quote quote.msg quote.sig --key ak.pub --nonce 00aa…")
def quote(
    msg: Annotated[Path, typer.Argument(help="TPMS_ATTEST or TPM2B_ATTEST.")],
    sig: Annotated[Path, typer.Argument(help="TPMT_SIGNATURE or a plain signature.")],
    key: Annotated[Path, typer.Option("--key", metavar="K", help="TPM2B_PUBLIC, public key or certificate.")],
    nonce: Nonce = None,
    pcrs: Annotated[
        Path | None, typer.Option("--pcrs", metavar="F", help="Register values to check.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check one quote: structure, signature, nonce, values, hash."""
    from cvmlab.report.tool_views import quote_document, quote_object, read_quote

    report = read_quote(msg, sig, key, nonce=nonce, pcrs=pcrs)
    if as_json:
        _print(quote_object(report))
    else:
        _show(quote_document(report, str(msg)))
    bad = any(check.status == "broken" for check in report.checks)
    signed = report["structure"].status == report["signature"].status == "holds"
    asked = nonce is None or report["nonce"].status == "holds"
    raise typer.Exit(1 if bad or not signed or not asked else 0)


@baseline_app.command("learn", epilog="Example: cvmlab baseline learn boots/good-* -o good.json")
def baseline_learn(
    evidence: Annotated[list[Path], typer.Argument(help="Evidence of good boots.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="B", help="Baseline to write.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the baseline.")] = None,
    trust_root: Roots = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Learn a baseline from good boots."""
    from cvmlab.baseline import save_baseline
    from cvmlab.report.investigation import learn

    learned = learn(
        evidence,
        name=name or output.stem,
        trust_roots=trust_root or (),
        enrolled_keys=enrolled_key or (),
        at=at,
    )
    save_baseline(learned, output)
    _show_baseline(learned, as_json=as_json)


@baseline_app.command("show", epilog="Example: cvmlab baseline show good.json")
def baseline_show(
    baseline: Annotated[Path, typer.Argument(help="Baseline.")],
    as_json: Json = False,
) -> None:
    """Show a baseline."""
    from cvmlab.baseline import load_baseline

    _show_baseline(load_baseline(baseline), as_json=as_json)


def _show_baseline(baseline: Baseline, *, as_json: bool) -> None:
    from cvmlab.baseline.exchange import baseline_to_json
    from cvmlab.baseline.show import baseline_view

    if as_json:
        sys.stdout.write(baseline_to_json(baseline))
    else:
        _show(baseline_view(baseline))


@baseline_app.command("diff", epilog="Example: cvmlab baseline diff good.json evidence/")
def baseline_diff(
    baseline: Annotated[Path, typer.Argument(help="Baseline.")],
    evidence: Annotated[Path, typer.Argument(help="Evidence directory, or a zip or tar of one.")],
    trust_root: Roots = None,
    nonce: Nonce = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Show how a boot differs from a baseline."""
    from cvmlab.report.investigation import investigate as run
    from cvmlab.report.verdict import all_causes, cause_object, register_object

    result = run(
        evidence,
        baseline=baseline,
        trust_roots=trust_root or (),
        nonce=nonce,
        enrolled_keys=enrolled_key or (),
        at=at,
    )
    comparison = result.comparison
    if comparison is None:
        raise CvmlabError(f"{baseline}: no baseline was read")
    if as_json:
        causes = [cause for cause in all_causes(result.causes) if cause.link in ("baseline", "policy")]
        _print(
            {
                "schema": "cvmlab.diff/1",
                "causes": [cause_object(cause) for cause in causes],
                "registers": [register_object(row) for row in result.explanation.registers],
            }
        )
    else:
        from cvmlab.baseline.show import comparison_view

        _show(comparison_view(comparison))
    raise typer.Exit(0 if comparison.matches else 1)


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
            for event in _read_log(log).events
            if event.digest_check in ("describes", "unknown")
            for value in list(event.digests.values())[-1:]
        ]
    if not asked:
        raise CvmlabError("name at least one digest, or a log with --log")
    found = identify((value for _, value in asked), files or ())
    if as_json:
        _print(whatis_object(asked, found))
    else:
        _show(whatis_document(asked, found))
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


@app.command(epilog="Example: cvmlab demo --html report.html")
def demo(
    name: Annotated[str, typer.Argument(help="Sample boot.")] = "cmdline_changed",
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the report there.")] = None,
    as_json: Json = False,
) -> None:
    """Explain a real failed attestation that comes with cvmlab."""
    from cvmlab.report.investigation import investigate as run
    from cvmlab.report.samples import sample, sample_baseline, sample_trust_root

    folder = sample(name)
    result = run(folder, baseline=sample_baseline(), trust_roots=sample_trust_root())
    if html is not None:
        result.to_html(html)
    if as_json:
        sys.stdout.write(result.to_json() + "\n")
        return
    _show(result.document())
    sys.stderr.write(
        "\nThis was a real boot. Try your own:\n"
        "  cvmlab baseline learn GOOD_EVIDENCE… -o good.json\n"
        "  cvmlab investigate EVIDENCE --baseline good.json --trust-root ROOT.pem --html report.html\n"
    )


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from cvmlab import __version__

        sys.stdout.write(f"cvmlab {__version__}\n")
        raise typer.Exit(0)
