"""Hooks are told at least once, over failures and stops; one watch a lake."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import cvmlab
from cvmlab.errors import EvidenceError
from cvmlab.fleet import hooks
from cvmlab.fleet.alerts import Alert, to_table
from cvmlab.fleet.hooks import Hook
from cvmlab.fleet.lake import Lake
from cvmlab.fleet.watch import lake_alerts, only_watch
from cvmlab.tables_lake import ALERTS, HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = datetime(2026, 3, 1, tzinfo=UTC)
WRITE = "import sys; open({!r}, 'a').write(sys.stdin.read())"


def alert(machine: str = "vm1", **more: object) -> Alert:
    values: dict[str, object] = {
        "alert": f"id-{machine}", "event": "opened", "at": START, "machine": machine, "name": machine,
        "reason": "boot-deviates", "cause": "kernel-changed", "episode": 1, "opened": START, "resolved": None,
        "count": 1, "correlation": "c", "suppressed_by": None, "cause_severity": "high", "summary": "one",
        "evidence_hash": None, "why": "", "verdict": "not-trusted", **more,
    }  # fmt: skip
    known = set(to_table([]).schema.names)
    return Alert(**{name: value for name, value in values.items() if name in known})  # type: ignore[arg-type]


def written(lake: Lake, hook: Hook, *lines: Alert) -> None:
    hook.due(lake, lines)
    lake.append(ALERTS, to_table(lines), key=("alert", "event", "at"))


def writer(path: Path) -> tuple[str, ...]:
    return (sys.executable, "-c", WRITE.format(str(path)))


def told(path: Path) -> list[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["machine"] for line in lines]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_what_was_told_is_not_told_again(lake: Lake, tmp_path: Path) -> None:
    hook = Hook(writer(tmp_path / "told"))
    written(lake, hook, alert())
    assert hook.tell(lake, START) == 1
    assert hook.tell(lake, START + timedelta(hours=1)) == 0
    assert told(tmp_path / "told") == ["vm1"]


def test_a_failing_hook_is_told_again_in_the_next_round(lake: Lake, tmp_path: Path) -> None:
    said: list[str] = []
    broken = Hook((sys.executable, "-c", "raise SystemExit('receiver is away')"), said.append)
    written(lake, broken, alert())
    assert broken.tell(lake, START) == 0
    assert any("exit code 1: receiver is away" in line for line in said)
    assert Hook(writer(tmp_path / "told")).tell(lake, START + timedelta(hours=1)) == 1
    assert told(tmp_path / "told") == ["vm1"]


def test_a_dead_receiver_does_not_hold_the_watch(lake: Lake) -> None:
    said: list[str] = []
    hook = Hook(("/no/such/program",), said.append)
    written(lake, hook, *(alert(f"vm{i}") for i in range(20)))
    assert hook.tell(lake, START) == 0
    assert sum(line.startswith("hook for alert") for line in said) == hooks.FAILURES
    assert "next round" in said[-1]


def test_a_hook_that_hangs_is_bounded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "HOOK_SECONDS", 0.3)
    said: list[str] = []
    hook = Hook((sys.executable, "-c", "import time; time.sleep(60)"), said.append)
    written(lake, hook, alert())
    assert hook.tell(lake, START) == 0
    assert "timed out" in said[0]


def test_after_a_week_it_is_given_up_and_said(lake: Lake) -> None:
    said: list[str] = []
    hook = Hook(("/no/such/program",), said.append)
    written(lake, hook, alert())
    hook.tell(lake, START + timedelta(days=8))
    assert "given up after 7 days" in said[-1]
    said.clear()
    hook.tell(lake, START + timedelta(days=9))
    assert not said


def test_hidden_and_updated_alerts_are_not_told(lake: Lake, tmp_path: Path) -> None:
    hook = Hook(writer(tmp_path / "told"))
    written(lake, hook, alert("hidden", suppressed_by="rule"), alert("more", event="updated"), alert("vm1"))
    assert hook.tell(lake, START) == 1
    assert told(tmp_path / "told") == ["vm1"]


def test_what_is_due_without_its_alert_is_not_told(lake: Lake, tmp_path: Path) -> None:
    hook = Hook(writer(tmp_path / "told"))
    hook.due(lake, [alert()])  # stopped before the alert was written
    assert hook.tell(lake, START) == 0
    assert not told(tmp_path / "told")


def test_text_of_evidence_reaches_no_shell_and_no_argument(lake: Lake, tmp_path: Path) -> None:
    hostile = "vm; touch " + str(tmp_path / "ran") + " $(id) `id` \n--option"
    program = f"import sys, json; json.dump(sys.argv[1:], open({str(tmp_path / 'args')!r}, 'w'))"
    hook = Hook((sys.executable, "-c", program))
    written(lake, hook, alert(hostile, summary=hostile))
    assert hook.tell(lake, START) == 1
    assert json.loads((tmp_path / "args").read_text()) == []
    assert not (tmp_path / "ran").exists()


def command(tmp_path: Path, hook: tuple[str, ...], *more: str) -> list[str]:
    return [
        sys.executable, "-m", "cvmlab", "fleet", "watch", str(tmp_path / "in"), "--lake",
        str(tmp_path / "lake"), "--settle", "0", "--hook", shlex.join(hook), *more,
    ]  # fmt: skip


def test_a_watch_killed_while_it_tells_tells_after_its_restart(tmp_path: Path) -> None:
    boot = str(cvmlab.sample("cmdline_changed"))
    shutil.copytree(boot, tmp_path / "in" / "vm1", ignore=shutil.ignore_patterns("nonce.hex"))
    kill = WRITE.format(str(tmp_path / "told")) + f"; import os; os.kill(os.getppid(), {int(signal.SIGKILL)})"
    killed = subprocess.run(
        command(tmp_path, (sys.executable, "-c", kill), "--once"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert told(tmp_path / "told") == ["vm1"]
    again = command(tmp_path, writer(tmp_path / "told"), "--once")
    for _ in range(2):
        done = subprocess.run(again, capture_output=True, timeout=120, check=False)
        assert done.returncode == 1, done.stderr
    assert told(tmp_path / "told") == ["vm1", "vm1"]
    lines = Lake(tmp_path / "lake").read(ALERTS).to_pylist()
    assert [line["event"] for line in lines] == ["opened"]
    assert len(lake_alerts(Lake(tmp_path / "lake"))) == 1


def test_a_second_watch_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first = subprocess.Popen(command(tmp_path, (sys.executable, "-c", "")), stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (tmp_path / "lake" / "watch.lock").exists():
            time.sleep(0.1)
        assert first.poll() is None
        second = command(tmp_path, (sys.executable, "-c", ""), "--once")
        refused = subprocess.run(second, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode not in (0, 1)
        assert "another watch runs on this lake" in " ".join(refused.stderr.split())
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(30)
    assert subprocess.run(second, capture_output=True, timeout=60, check=False).returncode == 0


def test_the_lock_is_held_once(lake: Lake) -> None:
    with only_watch(lake), pytest.raises(EvidenceError, match="another watch"), only_watch(lake):
        pass
    with only_watch(lake):
        pass
    assert len(lake.read(HOOKS)) == 0


def test_an_inbox_that_is_gone_for_a_moment_ends_no_watch(tmp_path: Path) -> None:
    boot = str(cvmlab.sample("cmdline_changed"))
    inbox, away = tmp_path / "in", tmp_path / "away"
    inbox.mkdir()
    shutil.copytree(boot, away / "vm1", ignore=shutil.ignore_patterns("nonce.hex"))
    said = tmp_path / "said"
    with said.open("w") as errors:
        watch = subprocess.Popen(
            command(tmp_path, writer(tmp_path / "told"), "--interval", "1"),
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )

    def until(reached: Callable[[], bool]) -> None:
        end = time.monotonic() + 90
        while not reached():
            assert watch.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.1)

    try:
        until(lambda: "changes of alerts" in said.read_text())
        inbox.rename(tmp_path / "gone")
        until(lambda: "cannot be listed" in said.read_text())
        away.rename(inbox)
        until(lambda: told(tmp_path / "told") == ["vm1"])
    finally:
        watch.kill()
        watch.wait(30)


def test_an_inbox_that_never_was_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, (sys.executable, "-c", "")), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in (0, 1)
    assert "cannot be listed" in " ".join(done.stderr.split())
