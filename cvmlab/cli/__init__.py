"""The command line: a thin face on the library (design, section 10), a module for each group of commands."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from cvmlab.cli.common import app, complain
from cvmlab.errors import CvmlabError

# each module adds its commands to the application, in the order in which `--help` lists them
# isort: off
from cvmlab.cli import investigation, logs, quotes, tokens, baselines, baseline_life  # noqa: F401
from cvmlab.cli import prediction, digests, live, fleet, fleet_lake  # noqa: F401
from cvmlab.cli import fleet_watch, fleet_status  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Run the command line: exit code 0 trusted or fine, 1 not, 2 unusable input, 3 our own fault."""
    code: object
    try:
        # the exit code of a command comes back as a value in this mode
        code = app(standalone_mode=False)
    except CvmlabError as error:
        complain(str(error))
        code = 2
    except typer.Exit as stop:
        code = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        complain("stopped")
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
    complain("this is a fault of cvmlab, not of your evidence; please report it with the lines above")
    return 3


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from cvmlab import __version__

        sys.stdout.write(f"cvmlab {__version__}\n")
        raise typer.Exit(0)
