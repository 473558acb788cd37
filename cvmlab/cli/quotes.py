"""`cvmlab quote`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import Json, Nonce, app, print_json, show


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
        print_json(quote_object(report))
    else:
        show(quote_document(report, str(msg)))
    bad = any(check.status == "broken" for check in report.checks)
    signed = report["structure"].status == report["signature"].status == "holds"
    asked = nonce is None or report["nonce"].status == "holds"
    raise typer.Exit(1 if bad or not signed or not asked else 0)
