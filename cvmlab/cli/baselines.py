"""`cvmlab baseline …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvmlab.cli.common import At, Enrolled, Json, Nonce, Roots, app, print_json, show
from cvmlab.errors import CvmlabError

if TYPE_CHECKING:
    from cvmlab.baseline import Baseline

baseline_app = typer.Typer(
    help="Learn, show and compare baselines.", no_args_is_help=True, rich_markup_mode=None
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
        show(baseline_view(baseline))


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
