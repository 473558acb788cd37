"""What we write for other programs, given to those programs themselves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from needs import tools
from peers import keylime, pcrlock
from soft_tpm import TOOLS, SoftTpm

import cvmlab
from cvmlab.baseline import load_baseline
from cvmlab.baseline.exchange import export_baseline, write_files
from cvmlab.tpm.pcrs import read_registers

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"

# GnuPG's module, which only Keylime's signing needs, is built with the system's library: not here
STUB = "import sys, types; sys.modules['gpg'] = types.ModuleType('gpg')\n"
MEASURED_BOOT = """
import json, sys
from keylime.mba.elchecking import policies, example
from keylime.mba.elparsing.tpm2_tools_elparser import parse_binary_bootlog
state = json.load(open(sys.argv[1]))
for path in sys.argv[2:]:
    failure, log = parse_binary_bootlog(open(path, "rb").read())
    assert not failure, failure
    print(json.dumps(policies.evaluate("example", state, log)))
"""
RUNTIME = """
import json, sys
from keylime.ima import ima
policy = json.load(open(sys.argv[1]))
ima.validate_runtime_policy(policy)
for path in sys.argv[2:]:
    lines = open(path).read().splitlines()
    _, failure = ima.process_measurement_list(None, lines, policy)
    print(json.dumps([event.context for event in failure.events]))
"""


def in_keylime(script: str, *arguments: object) -> list[Any]:
    done = subprocess.run(
        [str(keylime()), "-W", "ignore", "-c", STUB + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in '["']


def test_keylime_accepts_the_reference_state_and_judges_boots_by_it(tmp_path: Path) -> None:
    tools("tpm2_eventlog")
    both = cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)
    write_files(export_baseline(both, "keylime-mb"), tmp_path / "state.json")
    names = (
        "baseline",
        "baseline_repeat",
        "kernel_changed",
        "cmdline_changed",
        "initrd_tampered",
        "firmware_older",
        "secureboot_disabled",
        "mok_enrolled",
    )
    logs = [BOOTS / name / "eventlog.bin" for name in names]
    why = dict(zip(names, in_keylime(MEASURED_BOOT, tmp_path / "state.json", *logs), strict=True))
    assert [name for name in names if not why[name]] == ["baseline", "baseline_repeat", "kernel_changed"], why


def test_keylime_makes_the_same_reference_state_of_the_log(tmp_path: Path) -> None:
    """Its own generator, on the log that our baseline was learned from."""
    tools("tpm2_eventlog")
    alone = cvmlab.learn([BOOTS / "baseline"], trust_roots=ROOT)
    ours = json.loads(export_baseline(alone, "keylime-mb").files[""])
    arguments = ["create", "measured-boot", "-e", BOOTS / "baseline" / "eventlog.bin", "-o", tmp_path / "m"]
    in_keylime("from keylime.cmd.keylime_policy import main\nmain()", *arguments)
    theirs = json.loads((tmp_path / "m").read_text())
    for key in ("has_secureboot", "scrtm_and_bios", "pk", "kek", "db", "dbx", "mokdig", "mokxdig"):
        assert ours[key] == theirs[key], key
    # ours also has what Keylime needs where Secure Boot is off
    assert theirs["kernels"][0].items() <= ours["kernels"][0].items()


def test_keylime_accepts_the_runtime_policy_and_judges_files_by_it(tmp_path: Path) -> None:
    base = cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT)
    write_files(export_baseline(base, "keylime-ima"), tmp_path / "policy.json")
    lists = [BOOTS / name / "ima_ascii.log" for name in ("debian_ima", "debian_ima_tampered")]
    good, bad = in_keylime(RUNTIME, tmp_path / "policy.json", *lists)
    # the boot aggregate is of the registers, which a list of files does not hold
    assert all("boot_aggregate" in json.dumps(context) for context in good), good
    result = cvmlab.investigate(BOOTS / "debian_ima_tampered", baseline=base, trust_roots=ROOT)
    assert result.comparison is not None
    differ = result.comparison.files or ()
    assert len(bad) == len(good) + len(differ)
    for row in differ:
        named = row.path if row.change == "added" else row.after[0].partition(":")[2]
        assert any(named in json.dumps(context) for context in bad), row.path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A software TPM into which the events of the good boot were extended."""
    tools(*TOOLS, "tpm2_pcrextend")
    tpm = SoftTpm(tmp_path_factory.mktemp("pcrlock"))
    try:
        log = cvmlab.read_event_log(BOOTS / "baseline" / "eventlog.bin")
        for event in log.events:
            if event.digests:
                digests = ",".join(f"{bank}={value.hex()}" for bank, value in event.digests.items())
                tpm("pcrextend", f"{event.register}:{digests}")
        yield tpm
    finally:
        tpm.close()


def predicted(folder: Path, tpm: SoftTpm, command: str, *options: str) -> str:
    return pcrlock(
        command,
        f"--components={folder}",
        "--no-pager",
        *options,
        SYSTEMD_TPM2_DEVICE=tpm.tcti,
        SYSTEMD_MEASURE_LOG_FIRMWARE=str(BOOTS / "baseline" / "eventlog.bin"),
        SYSTEMD_MEASURE_LOG_USERSPACE="/nonexistent",
    )


def test_systemd_pcrlock_lists_recognises_and_predicts(tmp_path: Path, measured: SoftTpm) -> None:
    write_files(export_baseline(load_baseline(cvmlab.sample_baseline()), "pcrlock"), tmp_path / "c")
    listed = pcrlock("list-components", f"--components={tmp_path / 'c'}", "--no-pager")
    assert "11 components listed" in listed
    events = json.loads(predicted(tmp_path / "c", measured, "log", "--json=short"))["log"]
    ours = load_baseline(cvmlab.sample_baseline())
    assert len(events) == sum(len(register.slots) for register in ours.registers)
    # every event of the log is one of a component of ours, and of the right register
    assert all(event["component"].startswith(f"{600 + event['pcr']}-cvmlab-") for event in events)
    values = json.loads(predicted(tmp_path / "c", measured, "predict", "--json=short"))
    quoted = read_registers((BOOTS / "baseline" / "pcrs.yaml").read_bytes(), source="pcrs.yaml").values
    for bank in ("sha256", "sha384"):
        found = {one["pcr"]: one["values"] for one in values[bank]}
        assert {1, 2, 3, 4, 5, 7, 14} <= found.keys()
        for register, listed_values in found.items():
            if register in (1, 2, 3, 4, 5, 7, 14):
                assert listed_values == [quoted[bank][register].hex()]


def test_systemd_pcrlock_predicts_the_values_of_each_cohort(tmp_path: Path, measured: SoftTpm) -> None:
    both = cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)
    write_files(export_baseline(both, "pcrlock"), tmp_path / "c")
    values = json.loads(predicted(tmp_path / "c", measured, "predict", "--json=short"))
    found = {one["pcr"]: set(one["values"]) for one in values["sha256"]}
    quoted = {
        name: read_registers((BOOTS / name / "pcrs.yaml").read_bytes(), source=name).values["sha256"]
        for name in ("baseline", "kernel_changed")
    }
    assert found[4] == {quoted[name][4].hex() for name in quoted}
    assert found[7] == {quoted["baseline"][7].hex()}


def test_components_that_miss_an_event_are_not_recognised(tmp_path: Path, measured: SoftTpm) -> None:
    """The other way round: the program does notice a wrong component."""
    write_files(export_baseline(load_baseline(cvmlab.sample_baseline()), "pcrlock"), tmp_path / "c")
    (path,) = (tmp_path / "c").glob("604-*")
    value = json.loads(path.read_text())
    value["records"][0]["digests"] = [{"hashAlg": "sha256", "digest": "00" * 32}]
    path.write_text(json.dumps(value))
    values = json.loads(predicted(tmp_path / "c", measured, "predict", "--json=short"))
    assert 4 not in {one["pcr"] for one in values["sha256"]}
