"""`cvmlab baseline …`: what happens to a baseline after it was learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvmlab.cli.baselines import baseline_app
from cvmlab.cli.common import At, Enrolled, Nonce, Roots, Signed, show
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from cvmlab.baseline import Baseline

B = Annotated[Path, typer.Argument(metavar="B", help="Baseline.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="B", help="Where to write it; B itself by default.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
Who = Annotated[str | None, typer.Option("--who", help="Who decides; you by default.")]


def _finish(before: Baseline, after: Baseline, path: Path) -> None:
    """Write a changed baseline and show what changed."""
    from cvmlab.baseline import save_baseline
    from cvmlab.baseline.delta import diff_baselines
    from cvmlab.cli.common import complain

    save_baseline(after, path)
    show(diff_baselines(before, after).document())
    if before.signatures and not after.signatures:
        complain(f"{path}: the signature is gone with the change; sign again: cvmlab baseline sign")


@baseline_app.command(
    "accept",
    epilog="Example: cvmlab baseline accept good.json evidence/ --cause kernel-changed --reason 'DSA-5818'",
)
def baseline_accept(
    baseline: B,
    evidence: Annotated[
        Path, typer.Argument(help="Evidence directory, a zip or tar of one, or a file of another tool.")
    ],
    cause: Annotated[str, typer.Option("--cause", metavar="CODE", help="Code of the cause to accept.")],
    reason: Reason,
    output: Output = None,
    who: Who = None,
    trust_root: Roots = None,
    nonce: Nonce = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    require_signed: Signed = None,
) -> None:
    """Accept one cause: what differs is allowed from now on, and the history says who, when and why."""
    from cvmlab.baseline import load_baseline
    from cvmlab.report.acceptance import accept
    from cvmlab.report.investigation import investigate

    known = load_baseline(baseline, require_signed=require_signed or ())
    result = investigate(
        evidence,
        baseline=known,
        trust_roots=trust_root or (),
        nonce=nonce,
        enrolled_keys=enrolled_key or (),
        at=at,
    )
    _finish(known, accept(known, result, cause, reason=reason, who=who), output or baseline)


@baseline_app.command("merge", epilog="Example: cvmlab baseline merge a.json b.json -o both.json")
def baseline_merge(
    first: Annotated[Path, typer.Argument(metavar="A", help="Baseline; its names and labels win.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="C", help="Where to write it.")],
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why.")] = None,
    who: Who = None,
    require_signed: Signed = None,
) -> None:
    """Make one baseline of two: it allows what either allows."""
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.edit import record
    from cvmlab.baseline.merge import merge

    keys = require_signed or []
    a, b = load_baseline(first, require_signed=keys), load_baseline(second, require_signed=keys)
    merged = record(merge(a, b, name=output.stem), reason or f"merged {a.name} and {b.name}", who=who)
    _finish(a, merged, output)


@baseline_app.command("split", epilog="Example: cvmlab baseline split good.json -o cohorts.json")
def baseline_split(
    baseline: B, output: Output = None, who: Who = None, require_signed: Signed = None
) -> None:
    """Split a baseline into cohorts: boots that start differently, each with a list of its own."""
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.cohorts import split_by_cohort
    from cvmlab.baseline.edit import record

    known = load_baseline(baseline, require_signed=require_signed or ())
    parted = split_by_cohort(known)
    if parted is not known:
        names = ", ".join(cohort.name for cohort in parted.cohorts)
        parted = record(parted, f"split by cohort: {names}", who=who)
    _finish(known, parted, output or baseline)


@baseline_app.command(
    "expire", epilog="Example: cvmlab baseline expire good.json --before 2026-01-01 --reason 'half a year'"
)
def baseline_expire(
    baseline: B,
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="ISO 8601 time.")],
    reason: Reason,
    output: Output = None,
    who: Who = None,
    require_signed: Signed = None,
) -> None:
    """Drop values that no boot had since a time, where others were seen since."""
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.edit import record
    from cvmlab.baseline.expire import expire

    known = load_baseline(baseline, require_signed=require_signed or ())
    kept, gone = expire(known, before)
    if gone:
        kept = record(kept, f"{reason} ({len(gone)} values not seen since {before})", who=who)
    _finish(known, kept, output or baseline)


@baseline_app.command(
    "set-class",
    epilog="Example: cvmlab baseline set-class good.json ignored --kind boot-order --reason 'PXE'",
)
def baseline_set_class(
    baseline: B,
    slot_class: Annotated[str, typer.Argument(metavar="CLASS", help="The new class.")],
    reason: Reason,
    register: Annotated[int | None, typer.Option("--register", help="Only slots of it.")] = None,
    slot: Annotated[int | None, typer.Option("--slot", help="Only this slot of the register.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only slots of this kind.")] = None,
    cohort: Annotated[str | None, typer.Option("--cohort", help="Only slots of this cohort.")] = None,
    output: Output = None,
    who: Who = None,
    require_signed: Signed = None,
) -> None:
    """Set the class of slots, by register, slot, kind and cohort."""
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.edit import record, set_class

    known = load_baseline(baseline, require_signed=require_signed or ())
    changed = set_class(known, slot_class, register=register, slot=slot, kind=kind, cohort=cohort)  # type: ignore[arg-type]
    _finish(known, record(changed, reason, who=who), output or baseline)


@baseline_app.command(
    "allow",
    epilog="Example: cvmlab baseline allow good.json --packages cron_3.0_amd64.deb --reason 'DSA-5900'",
)
def baseline_allow(
    baseline: B,
    reason: Reason,
    packages: Annotated[
        list[Path] | None, typer.Option("--packages", metavar="DEB", help="Allow the files of a package.")
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option("--algorithm", help="Hash that the machines' IMA uses; sha256.")
    ] = None,
    file_signer: Annotated[
        Path | None, typer.Option("--file-signer", metavar="KEY", help="Allow files signed by this key.")
    ] = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Windows: judge modules one by one, those of the boots listed.")
    ] = False,
    publisher: Annotated[
        str, typer.Option("--module-publisher", help="Windows: allow modules of this publisher.")
    ] = "",
    issuer: Annotated[str, typer.Option("--module-issuer", help="Its certificate's issuer.")] = "",
    thumbprint: Annotated[str, typer.Option("--module-thumbprint", help="Its SHA-1 thumbprint.")] = "",
    path: Annotated[str, typer.Option("--path", metavar="PATTERN", help="Only these paths.")] = "*",
    output: Output = None,
    who: Who = None,
    require_signed: Signed = None,
) -> None:
    """Allow runtime files by package or signer, and Windows' modules by list or signer."""
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.edit import record
    from cvmlab.baseline.files import allow_file_signer, allow_packages
    from cvmlab.baseline.modules import allow_module_signer, list_modules

    known = load_baseline(baseline, require_signed=require_signed or ())
    changed = known
    if packages:
        changed = allow_packages(changed, packages, algorithms=algorithm or ("sha256",))
    if file_signer is not None:
        changed = allow_file_signer(changed, file_signer, path=path)
    if modules:
        changed = list_modules(changed)
    if publisher or issuer or thumbprint:
        changed = allow_module_signer(
            changed, publisher=publisher, issuer=issuer, thumbprint=thumbprint, path=path
        )
    if changed is known:
        raise BaselineError("say what to allow: --packages, --file-signer, --modules or --module-publisher")
    _finish(known, record(changed, reason, who=who), output or baseline)


@baseline_app.command("sign", epilog="Example: cvmlab baseline sign good.json --key reviewer.pem")
def baseline_sign(
    baseline: B,
    key: Annotated[Path, typer.Option("--key", metavar="PEM", help="Ed25519, or ECDSA P-256 or P-384.")],
    output: Output = None,
) -> None:
    """Sign a baseline; further signatures stay beside it."""
    from cvmlab.baseline import load_baseline, save_baseline
    from cvmlab.baseline.signature import key_id, sign

    signed = sign(load_baseline(baseline), key)
    save_baseline(signed, output or baseline)
    last = signed.signatures[-1]
    typer.echo(f"{output or baseline}: signed by {key_id(last.key)} ({last.algorithm})")


@baseline_app.command(
    "verify", epilog="Example: cvmlab baseline verify good.json --require-signed reviewer.pub"
)
def baseline_verify(
    baseline: B,
    require_signed: Annotated[
        list[Path],
        typer.Option("--require-signed", "--key", metavar="PUBKEY", help="One of these signed it."),
    ],
) -> None:
    """Check that one of some keys signed a baseline, and that it was not changed since."""
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.signature import key_id, verify

    known = load_baseline(baseline, require_signed=require_signed)
    found = verify(known, require_signed)
    typer.echo(f"{baseline}: signed by {key_id(found.key)} ({found.algorithm}) at {found.when}")


@baseline_app.command("migrate", epilog="Example: cvmlab baseline migrate old.json -o new.json")
def baseline_migrate(baseline: B, output: Output = None) -> None:
    """Write a baseline of any known version again, as this version writes it."""
    from cvmlab.baseline import load_baseline

    known = load_baseline(baseline)
    _finish(known, known, output or baseline)


@baseline_app.command(
    "export", epilog="Example: cvmlab baseline export good.json --format pcrlock -o pcrlock.d"
)
def baseline_export(
    baseline: B,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Format of another tool; see list.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="F", help="File or folder to write.")],
    require_signed: Signed = None,
) -> None:
    """Write a baseline in another tool's format, and say what it loses.

    Formats: pcrlock, keylime-mb, keylime-ima, keylime-tpm, golden, pcrread, compute-pcrs, maa, go-tpm-tools,
    corim.
    """
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.exchange import export_baseline, write_files

    exported = export_baseline(load_baseline(baseline, require_signed=require_signed or ()), form)
    written = write_files(exported, output)
    typer.echo(f"{output}: {len(written)} {'file' if len(written) == 1 else 'files'} written")
    _say_losses(exported.losses)


@baseline_app.command(
    "import", epilog="Example: cvmlab baseline import pcrs.yaml --format golden -o golden.json"
)
def baseline_import(
    source: Annotated[Path, typer.Argument(metavar="F", help="File or folder of another tool.")],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="Its format; see list.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="B", help="Baseline to write.")],
    who: Who = None,
) -> None:
    """Make a baseline of another tool's file, and say what is lost.

    Formats: pcrlock, keylime-mb, keylime-ima, keylime-tpm, golden, pcrread, compute-pcrs, maa, go-tpm-tools,
    corim, tcg-rim.
    """
    from cvmlab.baseline import save_baseline
    from cvmlab.baseline.edit import record
    from cvmlab.baseline.exchange import import_baseline
    from cvmlab.baseline.show import NOTHING_PINNED
    from cvmlab.cli.common import complain

    found = import_baseline(source, form, name=output.stem)
    made = record(found.baseline, f"imported from {form}: {source.name}", who=who)
    save_baseline(made, output)
    typer.echo(f"{output}: pins {made.pins} slots and values in {len(made.registers)} registers")
    _say_losses(found.losses)
    if not made.pins:
        complain(f"{output}: {NOTHING_PINNED}")


def _say_losses(losses: tuple[str, ...]) -> None:
    from cvmlab.view import visible

    if losses:
        typer.echo("Not carried over:")
    for loss in losses:
        typer.echo(f"  - {visible(loss)}")
