"""`cvmlab investigate` and `cvmlab demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import (
    At,
    Enrolled,
    Files,
    History,
    Issuers,
    Json,
    Jwks,
    Nonce,
    Roots,
    Signed,
    app,
    print_json,
    show,
)


@app.command(epilog="Example: cvmlab investigate evidence/ --baseline good.json --trust-root root.pem")
def investigate(
    evidence: Annotated[
        Path, typer.Argument(help="Evidence directory, a zip or tar of one, or a file of another tool.")
    ],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="B", help="Baseline to compare.")
    ] = None,
    trust_root: Roots = None,
    nonce: Nonce = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    files: Files = None,
    history: History = None,
    require_signed: Signed = None,
    jwks: Jwks = None,
    token_issuer: Issuers = None,
    collateral: Annotated[
        list[Path] | None,
        typer.Option(
            "--collateral", metavar="F", help="File or folder: processors' certificates, CRLs, TCB info."
        ),
    ] = None,
    fetch_collateral: Annotated[
        bool,
        typer.Option("--fetch-collateral", help="Fetch what is missing from AMD's and Intel's services."),
    ] = False,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="NAME=URL", help="Ask another amd-kds, intel-pcs, azure-thim, …"),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="F", help="Write the report there.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether a machine can be trusted, and why not."""
    from cvmlab.evidence.fetch import Services
    from cvmlab.report.investigation import investigate as run

    result = run(
        evidence,
        baseline=baseline,
        trust_roots=trust_root or (),
        nonce=nonce,
        enrolled_keys=enrolled_key or (),
        at=at,
        files=files or (),
        history=history or (),
        require_signed=require_signed or (),
        jwks=jwks or (),
        token_issuers=token_issuer or (),
        collateral=collateral or (),
        fetch_collateral=Services.of(service or []) if fetch_collateral or service else None,
    )
    if html is not None:
        result.to_html(html)
        sys.stderr.write(f"report written to {html}\n")
    if as_json:
        sys.stdout.write(result.to_json() + "\n")
    else:
        show(result.document())
    raise typer.Exit(0 if result.verdict == "trusted" else 1)


@app.command(epilog="Example: cvmlab diff yesterday/ today/    or: cvmlab diff old.bin new.bin --json")
def diff(
    before: Annotated[Path, typer.Argument(help="Evidence or event log of the first boot.")],
    after: Annotated[Path, typer.Argument(help="Evidence or event log of the second boot.")],
    as_json: Json = False,
) -> None:
    """Compare two boots without a baseline: what changed, and what it means."""
    from cvmlab.report.two_boots import diff as run

    found = run(before, after)
    if as_json:
        print_json(found.to_dict())
    else:
        show(found.document())
    raise typer.Exit(0 if found.same else 1)


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
    show(result.document())
    sys.stderr.write(
        "\nThis was a real boot. Try your own:\n"
        "  cvmlab baseline learn GOOD_EVIDENCE… -o good.json\n"
        "  cvmlab investigate EVIDENCE --baseline good.json --trust-root ROOT.pem --html report.html\n"
    )
