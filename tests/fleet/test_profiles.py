"""Boot profiles: machines that boot alike share one, and sharing it never changes a verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from quoting import NONCE, Machine, software_key

import cvmlab
from cvmlab.baseline import comparison as comparison_module
from cvmlab.baseline.slots import PER_MACHINE_KINDS
from cvmlab.evidence import load_context
from cvmlab.evidence.context import read_enrolled_key
from cvmlab.fleet.evaluate import evaluate_batch, evidence_schema
from cvmlab.fleet.profiles import Profiles, profile_of
from cvmlab.fleet.vary import vary_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.baseline.document import Baseline
    from cvmlab.evidence.context import VerifierContext

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
NUMBERS = {"baseline": 3, "cmdline_changed": 3, "dbx_updated": 2}


def own_share(data: bytes) -> float:
    """The share of a log's events that are a machine's own."""
    extending = [event for event in cvmlab.read_event_log(data).events if event.extends]
    return sum(event.payload.kind in PER_MACHINE_KINDS for event in extending) / len(extending)


def machine_of(model: str, number: int, change: Callable[[bytes], bytes] | None = None) -> dict[str, bytes]:
    """The files of another machine that boots as a sample does: own boot entries, own key."""
    data = (SAMPLES / model / "eventlog.bin").read_bytes()
    data = vary_log(data, f"{number}", own_share(data))
    machine = Machine(key=software_key(number), banks=("sha256",))
    log = cvmlab.read_event_log(data)
    for register, value in log.replay()["sha256"].items():
        machine.values["sha256"][register] = value
    for register in range(24):
        if register not in log.replay()["sha256"]:
            start = b"\xff" if 17 <= register <= 22 else b"\0"
            machine.values["sha256"][register] = start * 32
    machine.files["eventlog.bin"] = change(data) if change else data
    return machine.files | written(machine)


def written(machine: Machine) -> dict[str, bytes]:
    from quoting import ATTESTATION, public_area

    machine.quote()
    machine.read_registers()
    return {**machine.files, "ak.pub": public_area(machine.key, ATTESTATION)}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of machines, the first three of which are good."""
    root = tmp_path_factory.mktemp("fleet")
    folders = []
    number = 0
    for model, count in NUMBERS.items():
        for _ in range(count + (3 if model == "baseline" else 0)):
            number += 1
            folder = root / f"{model}-{number}"
            folder.mkdir()
            for name, data in machine_of(model, number).items():
                (folder / name).write_bytes(data)
            folders.append(folder)
    edits: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda data: data[:-300],
        "text-edited": lambda data: data.replace(b"quiet", b"loud!"),
        "boot-order-forged": lambda data: vary_log(data, "forged", own_share(data)),
    }
    for name, edit in edits.items():
        number += 1
        folder = root / name
        folder.mkdir()
        for file, data in machine_of("baseline", number, edit).items():
            (folder / file).write_bytes(data)
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def context(fleet: list[Path]) -> VerifierContext:
    keys = tuple(read_enrolled_key(folder / "ak.pub") for folder in fleet)
    return replace(load_context(nonce=NONCE), enrolled=keys)


@pytest.fixture(scope="module")
def baseline(fleet: list[Path]) -> Baseline:
    good = fleet[:3]
    for folder in good:
        (folder / "nonce.hex").write_text(NONCE.hex())
    return cvmlab.learn(good, enrolled_keys=[folder / "ak.pub" for folder in good])


def rows_of(folders: list[Path]) -> pa.RecordBatch:
    rows = []
    for folder in folders:
        files = [{"name": path.name, "data": path.read_bytes()} for path in sorted(folder.iterdir())]
        record = folder / "credential_activation.json"
        rows.append(
            {
                "machine": folder.name,
                "files": files,
                "nonce": load_context(folder).nonce or NONCE,
                "activation": record.read_bytes() if record.is_file() else None,
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=evidence_schema())


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Boots that were really compared."""
    found: list[object] = []
    original = comparison_module.compare

    def compare(boot: object, baseline: object) -> object:
        found.append(boot)
        return original(boot, baseline)

    monkeypatch.setattr(comparison_module, "compare", compare)
    return found


def test_machines_share_comparisons_and_keep_their_own_verdicts(
    fleet: list[Path], context: VerifierContext, baseline: Baseline, compared: list[object]
) -> None:
    slots = [slot for register in baseline.registers for slot in register.slots]
    assert any(slot.slot_class == "per-machine" for slot in slots)
    folders = [*fleet, *fleet[::-1]]
    rows = evaluate_batch(rows_of(folders), baseline=baseline, context=context).to_pylist()
    assert len(compared) < len(fleet)
    keys = [folder / "ak.pub" for folder in fleet]
    for folder, row in zip(folders, rows, strict=True):
        alone = cvmlab.investigate(folder, baseline=baseline, enrolled_keys=keys, nonce=NONCE)
        assert json.loads(row["object"]) == json.loads(alone.to_json()), folder.name
    by_name = {row["machine"]: row for row in rows}
    assert by_name[fleet[4].name]["verdict"] == "trusted"
    assert {row["verdict"] for name, row in by_name.items() if "cmdline" in name} == {"not-trusted"}
    # new machines that boot alike share one profile, another boot has another
    profiles = {name: row["profile"] for name, row in by_name.items()}
    new = {profiles[folder.name] for folder in fleet[3:6]}
    changed = {profiles[name] for name in profiles if "cmdline" in name}
    assert len(new) == len(changed) == 1
    assert new != changed
    # a known machine must be what it was
    assert not {profiles[folder.name] for folder in fleet[:3]} & new


@pytest.mark.parametrize("order", [1, -1])
def test_every_sample_and_lab_boot(order: int, boots: Path) -> None:
    for root in (SAMPLES, boots):
        folders = sorted(path.parent for path in root.glob("*/eventlog.bin"))[::order]
        learned = cvmlab.learn(
            [root / name for name in ("baseline", "baseline_repeat", "baseline_machine_b")],
            trust_roots=root / "trust-root.pem",
        )
        context = load_context(trust_roots=[root / "trust-root.pem"])
        rows = evaluate_batch(rows_of([*folders, *folders]), baseline=learned, context=context).to_pylist()
        for folder, first, second in zip(folders, rows, rows[len(folders) :], strict=False):
            nonce = load_context(folder).nonce or NONCE
            alone = cvmlab.investigate(
                folder, baseline=learned, trust_roots=root / "trust-root.pem", nonce=nonce
            )
            wanted = json.loads(alone.to_json())
            assert json.loads(first["object"]) == wanted, folder.name
            assert json.loads(second["object"]) == wanted, folder.name


def test_what_is_not_the_machines_own_changes_the_profile(fleet: list[Path], baseline: Baseline) -> None:
    data = (fleet[4] / "eventlog.bin").read_bytes()
    profiles = Profiles(baseline)
    log = cvmlab.read_event_log(data)
    before = profiles.profile_of(log)
    assert before.taken_out
    for event in log.events[1:]:
        at = event.data_offset - 5 - len(event.digests.get("sha512", b""))
        other = bytearray(data)
        other[at] ^= 1  # the last byte of the last digest
        changed = profiles.profile_of(cvmlab.read_event_log(bytes(other))).id != before.id
        # of the machine's own, only that its digest no longer fits its data shows
        assert changed, event.index


def test_an_event_that_the_baseline_knows_stays(fleet: list[Path], baseline: Baseline) -> None:
    good = cvmlab.read_event_log((fleet[0] / "eventlog.bin").read_bytes())
    new = cvmlab.read_event_log((fleet[4] / "eventlog.bin").read_bytes())
    assert profile_of(good, baseline) != profile_of(new, baseline)
    profiles = Profiles(baseline)
    pinned = {register.register for register in baseline.registers}
    assert not [i for i in profiles.profile_of(good).taken_out if good.events[i].register in pinned]
    assert not profiles.profile_of(new, frozenset({0})).taken_out


def test_kept_parts_are_bounded(
    fleet: list[Path], baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvmlab.fleet.profiles.MAX_KEPT", 40_000)
    monkeypatch.setattr("cvmlab.fleet.profiles.MAX_COMPARISONS", 1)
    profiles = Profiles(baseline)
    for seed in range(5):
        data = vary_log((fleet[4] / "eventlog.bin").read_bytes(), seed, 1.0)
        profiles.profile_of(cvmlab.read_event_log(data))
        assert profiles._bytes <= 40_000
        assert sum(len(key[5]) for key in profiles._parts) <= 40_000


def test_profiles_are_kept_from_batch_to_batch(
    fleet: list[Path], context: VerifierContext, baseline: Baseline, compared: list[object]
) -> None:
    profiles = Profiles(baseline)
    for folder in fleet[3:6]:
        (row,) = evaluate_batch(
            rows_of([folder]), baseline=baseline, context=context, profiles=profiles
        ).to_pylist()
        assert row["verdict"] == "trusted"
    assert len(compared) == 1
    with pytest.raises(ValueError, match="another baseline"):
        evaluate_batch(rows_of(fleet[:1]), context=context, profiles=profiles)


def test_rules_that_see_more_than_a_profile_are_checked_for_every_machine(
    fleet: list[Path], context: VerifierContext, baseline: Baseline, compared: list[object]
) -> None:
    strict = replace(baseline, policy=replace(baseline.policy, launch_measurements=("00" * 48,)))
    rows = evaluate_batch(rows_of(fleet[3:6]), baseline=strict, context=context).to_pylist()
    assert len(compared) == 3
    keys = [folder / "ak.pub" for folder in fleet]
    for folder, row in zip(fleet[3:6], rows, strict=True):
        alone = cvmlab.investigate(folder, baseline=strict, enrolled_keys=keys, nonce=NONCE)
        assert json.loads(row["object"]) == json.loads(alone.to_json())
