"""Replay against quoted values: logs in a row, later extends, and registers that nothing explains."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cvmlab.eventlog import EventLog, read_event_log
from cvmlab.trust.replaycheck import check_replay

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
PHASES = ("enter-initrd", "leave-initrd", "sysinit", "ready")


def later(register: int, *texts: str) -> EventLog:
    """systemd's log of some measurements."""
    records = [
        {
            "pcr": register,
            "digests": [{"hashAlg": "sha256", "digest": hashlib.sha256(text.encode()).hexdigest()}],
            "content_type": "systemd",
            "content": {"string": text, "eventType": "machine-id"},
        }
        for text in texts
    ]
    data = b"".join(b"\x1e" + json.dumps(record).encode() + b"\n" for record in records)
    return read_event_log(data, name="userspace.log")


def extended(value: bytes, *texts: str) -> bytes:
    for text in texts:
        value = hashlib.sha256(value + hashlib.sha256(text.encode()).digest()).digest()
    return value


@pytest.fixture
def log() -> EventLog:
    return read_event_log(BOOTS / "uki_signed" / "eventlog.bin")


def _status(log: EventLog, register: int, value: bytes, userspace: EventLog | None = None) -> tuple[str, str]:
    result = check_replay(log, [], {(register, "sha256"): value}, userspace)
    state = next(s for s in result.states if s.register == register and s.quoted is not None)
    return state.status, state.why


@pytest.mark.parametrize("count", range(1, len(PHASES) + 1))
def test_boot_phases_of_systemd_are_known_without_a_log(log: EventLog, count: int) -> None:
    value = extended(log.replay()["sha256"][11], *PHASES[:count])
    status, why = _status(log, 11, value)
    assert status == "matches"
    assert PHASES[count - 1] in why


def test_other_texts_are_not_guessed(log: EventLog) -> None:
    assert _status(log, 11, extended(log.replay()["sha256"][11], "leave-initrd"))[0] == "not-replayed"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_prefix_of_the_userspace_log_may_have_been_quoted(log: EventLog, count: int) -> None:
    texts = ("machine-id:1", "file-system:/", "product-id:2")
    value = extended(bytes(32), *texts[:count])
    assert _status(log, 15, value)[0] == "not-replayed"
    status, why = _status(log, 15, value, later(15, *texts))
    assert status == "matches"
    assert "userspace.log" in why


def test_userspace_log_follows_the_boot_log(log: EventLog) -> None:
    value = extended(log.replay()["sha256"][12] if 12 in log.replay()["sha256"] else bytes(32), "credential")
    assert _status(log, 12, value, later(12, "credential"))[0] == "matches"


def test_userspace_log_of_another_register_explains_nothing(log: EventLog) -> None:
    value = extended(bytes(32), "x")
    assert _status(log, 15, value, later(12, "x"))[0] == "not-replayed"


def test_bank_that_nothing_extended_proves_nothing(log: EventLog) -> None:
    quoted = {(register, "sha512"): bytes(64) for register in range(8)}
    result = check_replay(log, [], quoted)
    assert result.link.status == "broken"
    assert [finding.code for finding in result.findings] == ["bank-not-extended"]


def test_register_never_extended_and_never_logged_matches(log: EventLog) -> None:
    assert _status(log, 16, bytes(32))[0] == "matches"
    assert _status(log, 17, b"\xff" * 32)[0] == "matches"
    assert _status(log, 16, b"\x01" * 32)[0] == "not-replayed"
