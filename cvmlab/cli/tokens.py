"""`cvmlab token`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import At, Json, Jwks, Nonce, app, print_json, show


@app.command(epilog="Example: cvmlab token token.jwt --jwks certs.json --policy policy.txt")
def token(
    token: Annotated[Path, typer.Argument(help="Attestation token, or the service's answer with it.")],
    jwks: Jwks = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="F", help="Policy by which the service should have judged."),
    ] = None,
    issuer: Annotated[
        list[str] | None,
        typer.Option(
            "--issuer", "--token-issuer", metavar="URL", help="Issuer that counts; any of Azure's else."
        ),
    ] = None,
    nonce: Nonce = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Check an attestation token and explain its claims."""
    from cvmlab.report.token_views import judge_token_file, token_document, token_good, token_object

    report = judge_token_file(token, jwks=jwks or (), policy=policy, issuers=issuer or (), nonce=nonce, at=at)
    if as_json:
        print_json(token_object(report))
    else:
        show(token_document(report))
    raise typer.Exit(0 if token_good(report, policy=policy is not None) else 1)
