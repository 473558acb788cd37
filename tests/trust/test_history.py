"""A machine's TPM across quotes: counters and clock that may only go on (TPM 2.0 Part 1, section 36)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from quoting import Machine, public_area, software_key
from soft_tpm import SoftTpm

from cvmlab.errors import EvidenceError
from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess
from cvmlab.trust.history import CLOCK_LOSS, record_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = (1_000_000, 7, 2, True)


def judged(folder: Path, machine: Machine, history: Sequence[Assessment] = ()) -> Assessment:
    machine.write(folder)
    (folder.parent / "enrolled").write_bytes(public_area(machine.key, machine.attributes))
    records = [record_of(earlier) for earlier in history]
    context = load_context(folder, enrolled_keys=[folder.parent / "enrolled"], history=records)
    return assess(load_evidence(folder), context)


def after(
    tmp_path: Path, clock: tuple[int, int, int, bool], before: tuple[int, int, int, bool]
) -> Assessment:
    earlier = judged(tmp_path / "earlier", Machine(clock=before, files={"nonce.hex": b"aa" * 20}))
    machine = Machine(clock=clock)
    return judged(tmp_path / "now", machine, [earlier])


def told(boot: Assessment) -> list[tuple[str, str]]:
    return [(f.code, f.link) for f in boot.findings if f.code in CODES]


CODES = {"vtpm-reset", "clock-rolled-back", "nonce-mismatch"}


@pytest.mark.parametrize(
    "now",
    [
        (1_000_001, 7, 2, True),
        (1_000_000, 7, 3, True),  # resumed within the same millisecond
        (1_500_000, 8, 0, True),
        (1_000_000 - 60_000, 8, 0, False),  # power was lost, and Clock says that it is not safe
        (1 << 40, (7 + (1 << 31) - 1), 0, True),
    ],
    ids=["later", "resumed", "reset", "power_lost", "many_resets"],
)
def test_a_tpm_that_went_on_holds(tmp_path: Path, now: tuple[int, int, int, bool]) -> None:
    earlier = judged(tmp_path / "earlier", Machine(clock=NOW))
    machine = Machine(clock=now)
    machine.quote(nonce=b"another nonce")
    machine.files["nonce.hex"] = b"another nonce".hex().encode()
    boot = judged(tmp_path / "now", machine, [earlier])
    assert told(boot) == []
    assert boot.link("nonce").status == "holds"
    assert "since" in boot.link("nonce").why


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (NOW, (2_000_000, 6, 9, True), ("vtpm-reset", "key-binding")),
        (NOW, (2_000_000, 7, 1, True), ("clock-rolled-back", "nonce")),
        (NOW, (999_999, 7, 2, True), ("clock-rolled-back", "nonce")),
        (NOW, (999_999, 8, 0, True), ("clock-rolled-back", "nonce")),
        ((CLOCK_LOSS + 5, 7, 2, True), (4, 8, 0, False), ("clock-rolled-back", "nonce")),
    ],
    ids=["fewer_resets", "fewer_restarts", "clock_back", "clock_back_though_safe", "clock_back_too_far"],
)
def test_a_tpm_that_went_back_breaks_its_link(
    tmp_path: Path,
    before: tuple[int, int, int, bool],
    now: tuple[int, int, int, bool],
    expected: tuple[str, str],
) -> None:
    machine = Machine(clock=now)
    machine.quote(nonce=b"another nonce")
    machine.files["nonce.hex"] = b"another nonce".hex().encode()
    earlier = judged(tmp_path / "earlier", Machine(clock=before))
    boot = judged(tmp_path / "now", machine, [earlier])
    assert told(boot) == [expected]
    assert boot.link(expected[1]).status == "broken"
    assert not boot.believed
    assert set(boot.event_trust.values()) <= {"unproven"}


def test_counters_near_the_end_of_their_range_are_compared_as_the_tpm_obfuscates_them(tmp_path: Path) -> None:
    boot = after(tmp_path, (2_000_000, 3, 0, True), (1_000_000, (1 << 32) - 2, 0, True))
    assert ("vtpm-reset", "key-binding") not in told(boot)


def test_the_same_quote_shown_again_is_not_fresh(tmp_path: Path) -> None:
    earlier = judged(tmp_path / "earlier", Machine(clock=NOW))
    boot = judged(tmp_path / "now", Machine(clock=NOW), [earlier])
    assert told(boot) == [("nonce-mismatch", "nonce")]
    assert boot.link("nonce").status == "broken"


def test_a_nonce_is_used_once(tmp_path: Path) -> None:
    earlier = judged(tmp_path / "earlier", Machine(clock=NOW))
    boot = judged(tmp_path / "now", Machine(clock=(2_000_000, 7, 2, True)), [earlier])
    assert told(boot) == [("nonce-mismatch", "nonce")]


def test_another_attestation_key_is_another_vtpm(tmp_path: Path) -> None:
    earlier = judged(tmp_path / "earlier", Machine(clock=NOW, key=software_key(1)))
    boot = judged(tmp_path / "now", Machine(clock=(5, 1, 0, True)), [earlier])
    assert told(boot) == [("vtpm-reset", "key-binding")]


def test_evidence_without_a_good_signature_is_no_history(tmp_path: Path) -> None:
    machine = Machine(clock=NOW)
    machine.quote()
    signature = bytearray(machine.files["quote.sig"])
    signature[-1] ^= 1
    machine.files["quote.sig"] = bytes(signature)
    earlier = judged(tmp_path / "earlier", machine)
    with pytest.raises(EvidenceError, match="nothing of the machine's past"):
        record_of(earlier)


def test_a_restored_snapshot_of_a_real_tpm_is_seen(tmp_path: Path) -> None:
    """The key is in the owner hierarchy, so the TPM obfuscates its counters."""
    folder = tmp_path / "tpm"
    folder.mkdir()
    tpm = SoftTpm(folder)
    try:
        tpm("createprimary", "-Q", "-C", "o", "-c", "primary.ctx")
        tpm("create", "-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-G", "rsa2048:rsassa:null",
            "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign")  # fmt: skip
        tpm.flush()
        tpm("load", "-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "ak.ctx")
        tpm("evictcontrol", "-Q", "-C", "o", "-c", "ak.ctx", "0x81010002")
        tpm.flush()
        tpm("readpublic", "-Q", "-c", "0x81010002", "-o", "ak.pub")
        first = _quoted(tpm, tmp_path / "first", "a1" * 20)
        tpm("shutdown", "-c")
    finally:
        tpm.close()
    shutil.copytree(folder / "state", tmp_path / "snapshot")
    history = [_assessed(first)]
    seen = []
    for number in range(2):
        again = SoftTpm(folder)
        try:
            evidence = _quoted(again, tmp_path / f"later{number}", f"b{number}" * 20)
            again("shutdown", "-c")
        finally:
            again.close()
        boot = _assessed(evidence, history)
        assert told(boot) == []
        seen.append(boot.link("nonce").why)
        history.append(boot)
    assert "1 TPM resets" in seen[0]
    assert "1 TPM resets" in seen[1]
    shutil.rmtree(folder / "state")
    shutil.copytree(tmp_path / "snapshot", folder / "state")
    restored = SoftTpm(folder)
    try:
        evidence = _quoted(restored, tmp_path / "restored", "c1" * 20)
    finally:
        restored.close()
    codes = {code for code, _ in told(_assessed(evidence, history))}
    assert "vtpm-reset" in codes


def _quoted(tpm: SoftTpm, folder: Path, nonce: str) -> Path:
    folder.mkdir()
    tpm("quote", "-Q", "-c", "0x81010002", "-l", "sha256:0,1,7", "-q", nonce, "-m", folder / "quote.msg",
        "-s", folder / "quote.sig", "-g", "sha256")  # fmt: skip
    (folder / "pcrs.yaml").write_text(tpm("pcrread"))
    (folder / "nonce.hex").write_text(nonce)
    shutil.copy(tpm.folder / "ak.pub", folder)
    return folder


def _assessed(folder: Path, history: Sequence[Assessment] = ()) -> Assessment:
    records = [record_of(earlier) for earlier in history]
    context = load_context(folder, enrolled_keys=[folder / "ak.pub"], history=records)
    return assess(load_evidence(folder), context)
