"""`cvmlab collect` and `cvmlab enroll …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import Json, Nonce, app, print_json, show
from cvmlab.errors import EvidenceError

enroll_app = typer.Typer(
    help="Bind a machine's attestation key to its endorsement key.",
    epilog="Example: cvmlab enroll challenge evidence/ -o c.json --record r.json",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(enroll_app, name="enroll")

_MAX_FILE = 1 << 20
Output = Annotated[Path, typer.Option("-o", "--output", metavar="F", help="File to write; must be new.")]
Record = Annotated[Path, typer.Option("--record", metavar="R", help="Your record, which holds the secret.")]


@app.command(epilog="Example: cvmlab collect -o evidence/ --nonce 00112233445566778899aabbccddeeff")
def collect(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="New or empty folder.")],
    tcti: Annotated[
        str | None,
        typer.Option("--tcti", metavar="T", envvar="TPM2TOOLS_TCTI", help="How to reach the TPM."),
    ] = None,
    nonce: Nonce = None,
    challenge: Annotated[
        Path | None, typer.Option("--challenge", metavar="F", help="A verifier's challenge to answer.")
    ] = None,
    ak_handle: Annotated[
        str | None, typer.Option("--ak-handle", metavar="H", help="Persistent attestation key, as 0x81….")
    ] = None,
    ak_context: Annotated[
        Path | None, typer.Option("--ak-context", metavar="DIR", help="Folder to keep an attestation key in.")
    ] = None,
    ak_type: Annotated[
        str, typer.Option("--ak-type", metavar="T", help="Key to make: rsa2048, ecc256 or ecc384.")
    ] = "rsa2048",
    root: Annotated[Path, typer.Option("--root", hidden=True)] = Path("/"),
    as_json: Json = False,
) -> None:
    """Collect evidence of this machine: quotes, registers, logs, keys and certificates."""
    from cvmlab.report.collect_view import collection_document, collection_object
    from cvmlab.tpm.challenge import read_challenge
    from cvmlab.tpm.collect import collect as run

    found = run(
        output,
        tcti=tcti,
        nonce=_nonce(nonce),
        ak_handle=_handle(ak_handle),
        ak_context=ak_context,
        ak_type=ak_type,
        challenge=read_challenge(_read(challenge), source=str(challenge)) if challenge is not None else None,
        root=root,
    )
    if as_json:
        print_json(collection_object(found))
    else:
        show(collection_document(found))
    raise typer.Exit(0 if found.quoted and (challenge is None or found.answered) else 1)


@enroll_app.command(
    "challenge", epilog="Example: cvmlab enroll challenge evidence/ -o c.json --record r.json"
)
def enroll_challenge(
    evidence: Annotated[Path, typer.Argument(help="Evidence with ak.pub and ek.pub.")],
    output: Output,
    record: Record,
    as_json: Json = False,
) -> None:
    """Make a challenge for a machine, and the record of it that stays with you."""
    from cvmlab.evidence.enrolment import challenge_for

    challenge, kept = challenge_for(evidence)
    _write(record, kept.to_json())
    _write(output, challenge.to_json())
    if as_json:
        print_json(
            {
                "challenge": str(output),
                "record": str(record),
                "id": challenge.id.hex(),
                "ak_name": challenge.ak_name.hex(),
                "ek_public_sha256": challenge.ek_public_sha256.hex(),
            }
        )
        return
    sys.stdout.write(
        f"Send {output} to the machine and run there: cvmlab collect -o evidence/ --challenge {output.name}\n"
        f"Keep {record} to yourself: it holds the secret.\n"
    )


@enroll_app.command("complete", epilog="Example: cvmlab enroll complete evidence/ --record r.json")
def enroll_complete(
    response: Annotated[Path, typer.Argument(help="Evidence directory with the response, or the response.")],
    record: Record,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="F", help="File to write; beside the response by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge what the machine returned and write credential_activation.json."""
    from cvmlab.tpm.challenge import RESPONSE_FILE, activation_json, complete, read_record, read_response

    file = response / RESPONSE_FILE if response.is_dir() else response
    kept = read_record(_read(record), source=str(record))
    activation = complete(kept, read_response(_read(file), source=str(file)))
    target = output if output is not None else file.parent / "credential_activation.json"
    _write(target, activation_json(activation))
    if as_json:
        print_json(
            {"activation": str(target), "returned": activation.returned, "ak_name": activation.ak_name.hex()}
        )
    elif activation.returned:
        sys.stdout.write(
            f"The machine returned the secret: both keys are in one TPM. {target} was written.\n"
            "Whether that TPM is genuine is for the endorsement key's certificate to say: give its root to "
            "cvmlab investigate --trust-root.\n"
        )
    else:
        sys.stdout.write(f"The machine returned another secret: nothing is bound. {target} was written.\n")
    raise typer.Exit(0 if activation.returned else 1)


def _nonce(text: str | None) -> bytes | None:
    if text is None:
        return None
    from cvmlab.tpm.strict import hex_bytes

    return hex_bytes(text.strip(), source="--nonce", field="nonce")


def _handle(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text, 16)
    except ValueError as error:
        raise EvidenceError(f"--ak-handle: {text!r} is not a handle: write it like 0x81010002") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > _MAX_FILE:
        raise EvidenceError(f"{path}: larger than {_MAX_FILE >> 20} MiB")
    return data


def _write(path: Path, text: str) -> None:
    from cvmlab.tpm.live_keys import write_private

    try:
        write_private(path, text.encode())
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be written: {error.strerror or error}") from error
