"""What a prediction keeps, refuses and says it does not know."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cvmlab
from cvmlab.errors import BaselineError, EvidenceError
from cvmlab.explain.predict import Prediction, predict

if TYPE_CHECKING:
    from cvmlab.baseline.document import Baseline

BOOTS = Path(__file__).resolve().parents[3] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"
BASE_CMDLINE = "root=/dev/vda2 ro console=tty0 console=ttyS0,115200n8 audit=1 quiet"
GRUB_CFG = "(hd0,gpt1)/boot/grub/grub.cfg"


def learned(*names: str) -> Baseline:
    return cvmlab.learn([BOOTS / name for name in names], name="before", trust_roots=[ROOT])


@pytest.fixture(scope="module")
def base() -> Baseline:
    return learned("baseline", "baseline_repeat")


def quoted(name: str) -> dict[tuple[int, str], str]:
    """The register values that a verified quote of a boot vouches for."""
    rows = cvmlab.investigate(BOOTS / name, trust_roots=[ROOT]).explanation.registers
    return {(row.register, row.bank): row.quoted for row in rows if row.quoted and row.set == "tpm"}


def holds(found: Prediction, boot: str, *, unknown: frozenset[int] = frozenset()) -> None:
    """Every register that is not said to be unknown has the value that the boot quoted."""
    values = quoted(boot)
    compared = 0
    for one in found.registers:
        if (one.register, one.bank) not in values:
            continue
        if one.register in unknown:
            assert one.status == "unknown"
            assert one.why
            assert not one.after
            continue
        assert [value.hex() for value in one.after] == [values[one.register, one.bank]], one
        compared += 1
    assert compared >= 14 - len(unknown)
    assert {key[1] for key in found.unknown} == unknown


def test_secure_boot_off(base: Baseline) -> None:
    found = predict(base, secure_boot=False)
    holds(found, "secureboot_disabled")
    assert found.baseline.policy.secure_boot is False
    assert [cause.code for cause in found.causes] == ["secure-boot-disabled"]


def test_secure_boot_on_needs_keys_that_were_not_measured() -> None:
    found = predict(learned("secureboot_disabled"), secure_boot=True)
    assert {key[1] for key in found.unknown} == {4, 7}
    assert not found.complete


def test_what_is_not_known_keeps_its_old_slots(base: Baseline) -> None:
    found = predict(base, cmdline=BASE_CMDLINE + " mitigations=off lockdown=none")
    holds(found, "cmdline_changed", unknown=frozenset({9}))
    assert found.baseline.register("tpm", 9) == base.register("tpm", 9)
    result = cvmlab.investigate(BOOTS / "cmdline_changed", baseline=found.baseline, trust_roots=[ROOT])
    assert [cause.code for cause in result.causes] == ["boot-configuration-changed"]


def test_the_same_again_changes_nothing(base: Baseline) -> None:
    found = predict(base, cmdline=BASE_CMDLINE)
    assert found.complete
    assert not found.events
    assert not found.causes
    assert {one.status for one in found.registers} == {"same"}


def test_history_tells_of_the_prediction_and_signatures_go(base: Baseline) -> None:
    found = predict(base, secure_boot=False, who="ops")
    assert found.baseline.history[-1].who == "ops"
    assert "Secure Boot off" in found.baseline.history[-1].why
    assert found.baseline.signatures == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "say what changes"),
        ({"file": {"/boot/nothing": __file__}}, "no event is of a file"),
        ({"rename": {"5.10.0": "5.11.0"}}, "no text or path"),
        ({"rename": {"": "x"}}, "needs the old name"),
        ({"cohort": "blue", "secure_boot": False}, "has no cohorts"),
    ],
    ids=["nothing", "unknown_path", "unknown_name", "empty_name", "no_cohorts"],
)
def test_refused_changes(base: Baseline, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BaselineError, match=message):
        predict(base, **changes)  # type: ignore[arg-type]


def test_parts_of_a_unified_image_are_not_files() -> None:
    base = learned("uki_signed")
    for changes in ({"cmdline": "quiet"}, {"initrd": __file__}):
        with pytest.raises(BaselineError, match="say --uki"):
            predict(base, **changes)  # type: ignore[arg-type]


def test_a_kernel_that_is_no_image_leaves_its_measurement_unknown(base: Baseline, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"no PE image")
    found = predict(base, kernel=kernel)
    assert ("tpm", 4) in found.unknown
    (event,) = (one for one in found.events if one.kind == "kernel")
    assert event.digests_after["sha256"] == hashlib.sha256(b"no PE image").digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "not a record"),
        ('{"schema": "cvmlab.artifacts/2", "artifacts": {}}', "not a record"),
        ('{"schema": "cvmlab.artifacts/1", "artifacts": {"other": {}}}', "holds no 'initrd'"),
        ('{"schema": "cvmlab.artifacts/1", "artifacts": {"initrd": {}}}', "no object of digests"),
        (
            '{"schema": "cvmlab.artifacts/1", "artifacts": {"initrd": {"digests": {"sha256": "00"}}}}',
            "sha256",
        ),
        ('{"schema": "cvmlab.artifacts/1", "artifacts": {"initrd": {"digests": {"md5": "00"}}}}', "md5"),
        (
            '{"schema": "cvmlab.artifacts/1", "artifacts": {"initrd": {"digests": {}, "sections": 1}}}',
            "sections",
        ),
    ],
    ids=["cut", "no_object", "other_schema", "other_name", "no_digests", "short", "unknown_bank", "sections"],
)
def test_records_that_cannot_be_used(base: Baseline, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "records.json").write_text(text)
    with pytest.raises(EvidenceError, match=message):
        predict(base, initrd=f"{tmp_path / 'records.json'}#initrd")


def test_a_record_without_a_bank_leaves_that_bank_unknown(base: Baseline, tmp_path: Path) -> None:
    value = hashlib.sha256(b"initrd").hexdigest()
    (tmp_path / "records.json").write_text(
        f'{{"schema": "cvmlab.artifacts/1", "artifacts": {{"i": {{"digests": {{"sha256": "{value}"}}}}}}}}'
    )
    found = predict(base, initrd=f"{tmp_path / 'records.json'}#i")
    assert "sha384" in found.unknown["tpm", 9][0]


def record(folder: Path, **entry: object) -> str:
    """A record of a file that is known by its digests alone."""
    digests = {bank: hashlib.new(bank, b"another image").hexdigest() for bank in ("sha256", "sha384")}
    entry = {"digests": digests, "authenticode": digests, **entry}
    path = folder / "records.json"
    path.write_text(json.dumps({"schema": "cvmlab.artifacts/1", "artifacts": {"new": entry}}))
    return f"{path}#new"


def test_another_grub_leaves_what_it_runs_and_reads_unknown(base: Baseline, tmp_path: Path) -> None:
    found = predict(base, grub=record(tmp_path))
    assert {("tpm", 8), ("tpm", 9)} <= set(found.unknown)
    for register in (8, 9):
        assert found.register(register, "sha256").after == ()
        assert "another GRUB may run other commands" in found.register(register, "sha256").why
        assert found.baseline.register("tpm", register) == base.register("tpm", register)
    assert found.register(4, "sha256").status == "changes"


def test_the_same_grub_again_changes_nothing(base: Baseline) -> None:
    found = predict(base, grub=f"{BOOTS / 'artifacts.json'}#grub/grubx64.efi.signed")
    assert found.complete
    assert not found.events


def test_unsigned_kernel_under_secure_boot_is_said_not_to_start(base: Baseline, tmp_path: Path) -> None:
    found = predict(base, kernel=record(tmp_path))
    (why,) = found.unknown["tpm", 7]
    assert "no valid signature: under Secure Boot it would not start" in why


def test_unsigned_kernel_without_secure_boot_is_no_question(tmp_path: Path) -> None:
    found = predict(learned("secureboot_disabled"), kernel=record(tmp_path))
    assert ("tpm", 7) not in found.unknown


def test_kernel_of_another_signer_leaves_its_authority_unknown(base: Baseline, tmp_path: Path) -> None:
    found = predict(base, kernel=record(tmp_path, signed_by=["ab" * 32, "CN=Somebody else"]))
    (why,) = found.unknown["tpm", 7]
    assert "signed by others" in why


@pytest.mark.parametrize("option", ["kernel", "initrd"])
def test_a_unified_image_and_its_parts_contradict_each_other(option: str, tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="not both"):
        predict(learned("uki_signed"), uki=record(tmp_path), **{option: record(tmp_path)})  # type: ignore[arg-type]
