"""`cvmlab baseline …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvmlab.cli.common import At, Enrolled, Json, Nonce, Roots, Signed, app, print_json, show
from cvmlab.errors import CvmlabError

if TYPE_CHECKING:
    from cvmlab.baseline import Baseline

_LARGEST = 64 << 20

baseline_app = typer.Typer(
    help="Learn, show and compare baselines.",
    epilog="Example: cvmlab baseline learn boots/good-* -o good.json",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(baseline_app, name="baseline")


@baseline_app.command("learn", epilog="Example: cvmlab baseline learn boots/good-* -o good.json")
def baseline_learn(
    evidence: Annotated[list[Path], typer.Argument(help="Evidence of good boots.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="B", help="Baseline to write.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the baseline.")] = None,
    trust_root: Roots = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    cohorts: Annotated[
        bool, typer.Option("--cohorts", help="Tell boots that start differently apart: one list each.")
    ] = False,
    packages: Annotated[
        list[Path] | None,
        typer.Option("--packages", metavar="DEB", help="Allow the files of a package at run time (IMA)."),
    ] = None,
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
        cohorts=cohorts,
    )
    if packages:
        from cvmlab.baseline.files import allow_packages

        learned = allow_packages(learned, packages)
    save_baseline(learned, output)
    _show_baseline(learned, as_json=as_json)


@baseline_app.command("show", epilog="Example: cvmlab baseline show good.json")
def baseline_show(
    baseline: Annotated[Path, typer.Argument(help="Baseline.")],
    require_signed: Signed = None,
    as_json: Json = False,
) -> None:
    """Show a baseline."""
    from cvmlab.baseline import load_baseline

    _show_baseline(load_baseline(baseline, require_signed=require_signed or ()), as_json=as_json)


def _show_baseline(baseline: Baseline, *, as_json: bool) -> None:
    from cvmlab.baseline.document_json import baseline_to_json
    from cvmlab.baseline.show import baseline_view

    if as_json:
        sys.stdout.write(baseline_to_json(baseline))
    else:
        show(baseline_view(baseline))


@baseline_app.command("diff", epilog="Example: cvmlab baseline diff good.json evidence/")
def baseline_diff(
    baseline: Annotated[Path, typer.Argument(help="Baseline.")],
    evidence: Annotated[
        Path, typer.Argument(help="Evidence directory, or a zip or tar of one; or a second baseline.")
    ],
    trust_root: Roots = None,
    nonce: Nonce = None,
    enrolled_key: Enrolled = None,
    at: At = None,
    require_signed: Signed = None,
    as_json: Json = False,
) -> None:
    """Show how a boot, or another baseline, differs from a baseline."""
    if _is_baseline(evidence):
        _diff_baselines(baseline, evidence, require_signed or [], as_json=as_json)
        return
    from cvmlab.report.investigation import investigate as run
    from cvmlab.report.verdict import all_causes, cause_object, register_object

    result = run(
        evidence,
        baseline=baseline,
        trust_roots=trust_root or (),
        nonce=nonce,
        enrolled_keys=enrolled_key or (),
        at=at,
        require_signed=require_signed or (),
    )
    comparison = result.comparison
    if comparison is None:
        raise CvmlabError(f"{baseline}: no baseline was read")
    if as_json:
        causes = [cause for cause in all_causes(result.causes) if cause.link in ("baseline", "policy")]
        print_json(
            {
                "schema": "cvmlab.diff/1",
                "causes": [cause_object(cause) for cause in causes],
                "registers": [register_object(row) for row in result.explanation.registers],
            }
        )
    else:
        from cvmlab.baseline.show import comparison_view

        show(comparison_view(comparison))
    raise typer.Exit(0 if comparison.matches else 1)


def _is_baseline(path: Path) -> bool:
    """True for a file that is a JSON object with the schema of a baseline."""
    from cvmlab.baseline.document import SCHEMA

    if not path.is_file():
        return False
    with path.open("rb") as file:
        text = file.read(_LARGEST)
    return text.lstrip().startswith(b"{") and SCHEMA.rpartition("/")[0].encode() in text


def _diff_baselines(a: Path, b: Path, keys: list[Path], *, as_json: bool) -> None:
    from cvmlab.baseline import load_baseline
    from cvmlab.baseline.delta import diff_baselines

    delta = diff_baselines(load_baseline(a, require_signed=keys), load_baseline(b, require_signed=keys))
    if as_json:
        print_json(
            {
                "schema": "cvmlab.baseline-diff/1",
                "before": delta.before,
                "after": delta.after,
                "looser": delta.looser,
                "parts": [
                    {"title": part.title, "looser": part.looser, "lines": [list(line) for line in part.lines]}
                    for part in delta.parts
                ],
            }
        )
    else:
        show(delta.document())
    raise typer.Exit(1 if delta.parts else 0)
