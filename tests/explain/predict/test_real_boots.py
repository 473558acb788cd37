"""Predicted registers against those of real boots, from records that other programs made of the files.

No input comes from the log of the boot after the update: kernels, RAM disks and images are records of the lab
(coreutils, osslsigncode, objcopy, openssl), certificates, lists and menus are the lab's files.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import cvmlab
from cvmlab.baseline.learn import snapshot
from cvmlab.explain.predict import predict
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from cvmlab.baseline.document import Baseline

SAMPLES = Path(__file__).resolve().parents[3] / "sample_data"
BOOTS, UPDATES = SAMPLES / "boots", SAMPLES / "updates"
ROOT = BOOTS / "trust-root.pem"
GRUB_CFG = "(hd0,gpt1)/boot/grub/grub.cfg"
CMDLINE = "root=/dev/vda2 ro console=tty0 console=ttyS0,115200n8 audit=1 quiet"
# the owner that the lab writes into every list it makes; Microsoft's of its certificates
LAB = "8d3f6e52-41ba-4c0e-b6c7-2a9d15e07b34"
MICROSOFT = "77fa9abd-0359-4d32-bd60-28f4e78f784b"
OLD, NEW = "6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"
REFERENCE = ("baseline", "baseline_repeat")
RUNTIME = 10


def record(name: str) -> str:
    return f"{BOOTS / 'artifacts.json'}#{name}"


def menu(name: str) -> dict[str, str]:
    return {GRUB_CFG: str(UPDATES / f"grub-{name}.cfg")}


KERNEL = {
    "kernel": record(f"kernel_updated/vmlinuz-{NEW}"),
    "rename": {OLD: NEW},
    "file": menu("kernel_changed"),
}
DBX = {"dbx": UPDATES / "dbx.esl"}
MORE = CMDLINE + " mitigations=off lockdown=none"

# before, changes, after; registers that stay unknown
PAIRS: dict[str, tuple[tuple[str, ...], dict[str, Any], str, set[int]]] = {
    "kernel": (REFERENCE, KERNEL, "kernel_changed", set()),
    "kernel without the menu": (REFERENCE, {**KERNEL, "file": {}}, "kernel_changed", {9}),
    "initrd": (REFERENCE, {"initrd": record("build/initrd-updated.img")}, "initrd_updated", set()),
    "another initrd": (REFERENCE, {"initrd": record("build/initrd-tampered.img")}, "initrd_tampered", set()),
    "command line": (REFERENCE, {"cmdline": MORE, "file": menu("cmdline_changed")}, "cmdline_changed", set()),
    "command line without the menu": (REFERENCE, {"cmdline": MORE}, "cmdline_changed", {9}),
    "debugger": (
        REFERENCE, {"cmdline": CMDLINE + " kgdboc=ttyS0", "file": menu("kernel_debugging")},
        "kernel_debugging", set(),
    ),
    "dbx": (REFERENCE, DBX, "dbx_updated", set()),
    "kernel and dbx": (REFERENCE, {**KERNEL, **DBX}, "kernel_and_dbx", set()),
    "db": (REFERENCE, {"db_add": [f"{LAB}:{UPDATES / 'lab-db.der'}"]}, "db_key_added", set()),
    "db by a list": (REFERENCE, {"db_add": [UPDATES / "lab-db.esl"]}, "db_key_added", set()),
    "db by a signed update": (REFERENCE, {"db_add": [UPDATES / "lab-db.auth"]}, "db_key_added", set()),
    "db of 2023": (
        REFERENCE,
        {"db_add": [f"{MICROSOFT}:{UPDATES / f'{name}-2023.der'}" for name in ("windows", "ms-uefi")]},
        "db_certificates_2023", set(),
    ),
    "Secure Boot off": (REFERENCE, {"secure_boot": False}, "secureboot_disabled", set()),
    "unified image, command line": (
        ("uki_signed",), {"uki": record("build/uki-cmdline.efi")}, "uki_cmdline_changed", set(),
    ),
    "unified image, initrd": (
        ("uki_signed",), {"uki": record("build/uki-initrd.efi")}, "uki_initrd_changed", set(),
    ),
    "unified image, kernel": (
        ("uki_signed",), {"uki": record("build/uki-kernel.efi")}, "uki_kernel_changed", set(),
    ),
}  # fmt: skip
KNOWN = [case for case, (_, _, _, unknown) in PAIRS.items() if not unknown]


@cache
def learned(names: tuple[str, ...]) -> Baseline:
    return cvmlab.learn([BOOTS / name for name in names], name="before", trust_roots=[ROOT])


@cache
def every_bank(name: str) -> Baseline:
    """One boot with every register and bank of its log, however few banks its quote covers."""
    return snapshot(assess(cvmlab.load_evidence(BOOTS / name), cvmlab.load_context(BOOTS / name)), name=name)


@cache
def real(boot: str) -> dict[tuple[int, str], str]:
    """All 24 registers in every bank: quoted where the quote covers them, else as tpm2_pcrread read them.

    The reading must agree with the quote where both are there.
    """
    found: dict[tuple[int, str], str] = {}
    bank = ""
    for line in (BOOTS / boot / "pcrs.yaml").read_text().splitlines():
        if match := re.match(r"\s+(sha\d+):\s*$", line):
            bank = match[1]
        elif match := re.match(r"\s+(\d+)\s*:\s*0x([0-9A-Fa-f]+)\s*$", line):
            found[int(match[1]), bank] = match[2].lower()
    result = cvmlab.investigate(BOOTS / boot, trust_roots=[ROOT])
    quoted = {
        (row.register, row.bank): row.quoted
        for row in result.explanation.registers
        if row.quoted and row.set == "tpm"
    }
    assert len(quoted) >= 15
    assert all(found[key] == value for key, value in quoted.items() if key[0] != RUNTIME)
    return found | quoted


@pytest.mark.parametrize("case", PAIRS)
def test_every_register_has_the_value_of_the_real_boot(case: str) -> None:
    names, changes, boot, unknown = PAIRS[case]
    found = predict(every_bank(names[0]), **changes)
    values = real(boot)
    assert len(values) == 3 * 24
    assert {bank for _, bank in values} == {"sha1", "sha256", "sha384"}
    compared = 0
    for one in found.registers:
        if one.register in unknown:
            assert (one.status, one.after) == ("unknown", ())
            assert one.why
            continue
        if one.register == RUNTIME:
            continue
        assert [value.hex() for value in one.after] == [values[one.register, one.bank]], (
            one.register,
            one.bank,
        )
        compared += 1
    # every register that a log of these boots extends, in 3 banks
    assert compared == 3 * (14 - len(unknown))
    # the others are not the baseline's, and stay as they were; register 10 counts files of the running system
    pinned = {one.register for one in found.registers} | {RUNTIME}
    kept = [key for key in values if key[0] not in pinned]
    assert len(kept) == 3 * 9
    assert all(values[key] == real(names[0])[key] for key in kept)
    assert {key[1] for key in found.unknown} == unknown


@pytest.mark.parametrize("case", [case for case in KNOWN if case != "debugger"])
def test_the_boot_after_the_update_is_trusted_by_the_new_baseline(case: str) -> None:
    names, changes, boot, _ = PAIRS[case]
    found = predict(learned(names), **changes)
    assert found.complete
    result = cvmlab.investigate(BOOTS / boot, baseline=found.baseline, trust_roots=[ROOT])
    assert result.verdict == "trusted", result.summary


@pytest.mark.parametrize("case", KNOWN)
def test_the_causes_are_those_of_the_boot_after_the_update(case: str) -> None:
    names, changes, boot, _ = PAIRS[case]
    before = learned(names)
    found = predict(before, **changes)
    result = cvmlab.investigate(BOOTS / boot, baseline=before, trust_roots=[ROOT])
    told = {cause.code for cause in result.causes if cause.severity != "info"}
    assert {cause.code for cause in found.causes if cause.severity != "info"} <= told
    assert found.causes[0].code == next(cause.code for cause in result.causes if cause.primary)
