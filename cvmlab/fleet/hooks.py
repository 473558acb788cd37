"""Hooks: programs that are told of alerts, at least once each, over any stop of the watch.

What is due is written down before the alerts are, and what was told after it was. Whoever stops in between
tells again: ``alert``, ``event`` and ``at`` name one telling, so that a receiver can drop what it has.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.alert_export import alert_object
from cvmlab.fleet.alerts import affected, current, from_table
from cvmlab.fleet.lake.schema import arrow_table
from cvmlab.tables_lake import ALERTS, HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from cvmlab.fleet.alerts import Alert
    from cvmlab.fleet.lake import Lake

HOOK_SECONDS: Final = 30
FAILURES: Final = 3
"""Calls in a row that fail before the rest waits for the next round: a dead receiver holds no watch."""
GIVE_UP: Final = timedelta(days=7)
"""Age from which a telling that fails is given up, and said to be."""
TOLD: Final = ("opened", "resolved", "unsuppressed")
_SHOWN: Final = 400
_KEY: Final = ("alert", "event", "at", "state")


@dataclass(frozen=True, slots=True)
class Hook:
    """A program that is told of alerts.

    Attributes:
        command: Program and arguments; no shell.
        log: Where failures are told.
    """

    command: tuple[str, ...]
    log: Callable[[str], None] = print

    def due(self, lake: Lake, lines: Iterable[Alert]) -> None:
        """Write down what will have to be told; before the alerts themselves are written."""
        rows = [
            {"alert": one.alert, "event": one.event, "at": one.at, "state": "due", "written": one.at}
            for one in lines
            if one.event in TOLD and one.suppressed_by is None
        ]
        if rows:
            lake.append(HOOKS, arrow_table(HOOKS, rows), key=_KEY)

    def tell(self, lake: Lake, now: datetime) -> int:
        """Tell what is due, oldest first, also of a watch before this one; return how many were told."""
        calls = lake.read(HOOKS, columns=_KEY).to_pylist()
        over = {(row["alert"], row["event"], row["at"]) for row in calls if row["state"] != "due"}
        due = {(row["alert"], row["event"], row["at"]) for row in calls} - over
        if not due:
            return 0
        history = from_table(lake.read(ALERTS).sort_by("at"))
        shared = affected(current(history).values())
        told = failed = 0
        for one in history:
            if (one.alert, one.event, one.at) not in due:
                continue
            error = self._call(json.dumps(alert_object(one, shared.get(one.correlation, 0))) + "\n")
            if error:
                self.log(f"hook for alert {one.alert} ({one.event}): {error}")
                failed += 1
            else:
                told, failed = told + 1, 0
            if not error or now - one.at >= GIVE_UP:
                self._over(lake, one, "given-up" if error else "told", now)
            if failed >= FAILURES:
                self.log("the hook failed repeatedly: what is left is told in the next round")
                break
        return told

    def _over(self, lake: Lake, one: Alert, state: str, now: datetime) -> None:
        row = {"alert": one.alert, "event": one.event, "at": one.at, "state": state, "written": now}
        lake.append(HOOKS, arrow_table(HOOKS, [row]), key=_KEY)
        if state == "given-up":
            self.log(f"hook for alert {one.alert} ({one.event}): given up after {GIVE_UP.days} days")

    def _call(self, text: str) -> str:
        """Run the program; return what went wrong, or an empty text."""
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own program, no shell, no text of evidence
                self.command, input=text.encode(), timeout=HOOK_SECONDS, capture_output=True, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if not done.returncode:
            return ""
        said = done.stderr[-_SHOWN:].decode("utf-8", "replace").strip()
        return f"exit code {done.returncode}: {said}"
