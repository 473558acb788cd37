"""Varied logs are sound logs of other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.fleet.vary import vary_log

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
# variables with no contents, or of one byte, leave nothing to draw that keeps their meaning
_NOT_MODELS = ("setup_mode", "shim_validation_disabled")
LOGS = sorted(path for path in SAMPLES.glob("*/eventlog.bin") if path.parent.name not in _NOT_MODELS)


def whole_logs() -> list[Path]:
    return [path for path in LOGS if not read_event_log(path).problems]


@pytest.mark.parametrize("path", whole_logs(), ids=lambda path: path.parent.name)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_varied_log_checks_out_as_its_model_does(path: Path, share: float) -> None:
    model = read_event_log(path)
    varied = read_event_log(vary_log(path.read_bytes(), "a", share))
    assert not varied.problems
    assert [a.rule for a in varied.anomalies] == [a.rule for a in model.anomalies]
    for old, new in zip(model.events, varied.events, strict=True):
        assert (new.register, new.type, new.digest_check) == (old.register, old.type, old.digest_check)
        assert (new.payload.kind, new.covered) == (old.payload.kind, old.covered)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_share_asked_for_is_unlike_any_other_machine(share: float) -> None:
    data = whole_logs()[0].read_bytes()
    first, second = (read_event_log(vary_log(data, seed, share)) for seed in (1, 2))
    extending = [event.index for event in first.events if event.extends]
    differ = [i for i in extending if first.events[i].digests != second.events[i].digests]
    # beyond what machines of one image differ in, each draws by itself which events differ
    assert len(differ) >= round(share * len(extending))
    model = {tuple(event.digests.values()) for event in read_event_log(data).events}
    own = [i for i in extending if tuple(first.events[i].digests.values()) not in model]
    assert len(own) == round(share * len(extending))


def test_the_same_seed_gives_the_same_log() -> None:
    data = whole_logs()[0].read_bytes()
    assert vary_log(data, 7) == vary_log(data, 7) != vary_log(data, 8)


@pytest.mark.parametrize("damage", ["empty", "cut", "no_log"])
def test_what_is_no_whole_log_is_refused(damage: str) -> None:
    data = LOGS[0].read_bytes()
    bad = {"empty": b"", "cut": data[:-40], "no_log": b"hello"}[damage]
    with pytest.raises(EvidenceError):
        vary_log(bad, 1)
