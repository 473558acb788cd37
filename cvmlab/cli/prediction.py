"""`cvmlab predict`: a baseline for after an update."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cvmlab.cli.common import Json, Signed, app, print_json, show
from cvmlab.errors import CvmlabError


class OnOff(StrEnum):
    """A switch."""

    ON = "on"
    OFF = "off"


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values or ():
        name, mark, rest = value.partition("=")
        if not mark or not name or not rest:
            raise CvmlabError(f"{option} {value}: need two parts joined by '='")
        found[name] = rest
    return found


@app.command(
    epilog="Example: cvmlab predict good.json --kernel vmlinuz-6.1.0-57 --initrd initrd.img-6.1.0-57"
    " --rename 6.1.0-56=6.1.0-57 --file '(hd0,gpt1)/boot/grub/grub.cfg=grub.cfg' -o next.json"
)
def predict(
    baseline: Annotated[Path, typer.Argument(help="Baseline of before the update.")],
    kernel: Annotated[str | None, typer.Option(metavar="F", help="The new kernel.")] = None,
    initrd: Annotated[str | None, typer.Option(metavar="F", help="The new initial RAM disk.")] = None,
    cmdline: Annotated[str | None, typer.Option(metavar="S", help="The new kernel command line.")] = None,
    shim: Annotated[str | None, typer.Option(metavar="F", help="The new shim.")] = None,
    grub: Annotated[str | None, typer.Option(metavar="F", help="The new GRUB.")] = None,
    uki: Annotated[str | None, typer.Option(metavar="F", help="The new unified kernel image.")] = None,
    dbx: Annotated[
        Path | None,
        typer.Option(metavar="F", help="New dbx: signature lists, or an authenticated update to append."),
    ] = None,
    db_add: Annotated[
        list[str] | None,
        typer.Option("--db-add", metavar="[GUID:]CERT", help="Certificate that db gets; repeatable."),
    ] = None,
    secure_boot: Annotated[
        OnOff | None, typer.Option("--secure-boot", help="Secure Boot switched on or off.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="PATH=F", help="Another file at a path of the baseline; repeatable."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="OLD=NEW", help="Names that change, such as a release; repeatable."),
    ] = None,
    cohort: Annotated[str | None, typer.Option(metavar="NAME", help="Which cohort is updated.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="B", help="Baseline to write.")
    ] = None,
    require_signed: Signed = None,
    as_json: Json = False,
) -> None:
    """Say which register values an update will bring, and write the baseline for after it.

    A file may be a record of its digests: RECORDS.json#NAME. Exit code 1: some of it is not known.
    """
    from cvmlab.baseline import load_baseline, save_baseline
    from cvmlab.explain.predict import predict as run
    from cvmlab.explain.predict.show import prediction_view
    from cvmlab.report.prediction import prediction_object

    found = run(
        load_baseline(baseline, require_signed=require_signed or ()),
        kernel=kernel,
        initrd=initrd,
        cmdline=cmdline,
        shim=shim,
        grub=grub,
        uki=uki,
        dbx=dbx,
        db_add=db_add or (),
        secure_boot=None if secure_boot is None else secure_boot is OnOff.ON,
        file=_pairs(file, "--file"),
        rename=_pairs(rename, "--rename"),
        cohort=cohort,
    )
    if output is not None:
        save_baseline(found.baseline, output)
    if as_json:
        print_json(prediction_object(found))
    else:
        show(prediction_view(found))
    raise typer.Exit(0 if found.complete else 1)
