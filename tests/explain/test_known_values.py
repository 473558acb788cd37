"""Quoted values that no log explains, held against values that real vTPMs signed.

The digests of the events come from published logs; the values are computed here by hashlib alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quoting import Machine, public_area

from cvmlab.evidence import load_context, load_evidence
from cvmlab.explain.known_values import explain_value
from cvmlab.explain.verdict import explain
from cvmlab.trust.assess import assess

if TYPE_CHECKING:
    from pathlib import Path

# values of PCR 7, 12 and 14 in quotes of real confidential VMs
UBUNTU = "3b20e022416fdf61d72e4da32b4354781be3de0608116976d28ffdad8c341d2a"
UBUNTU_OLDER_SHIM = "86ba8c6ab3d727b1fbab18e3f128bf58d6e3935f6e8a928a364cb145382119c3"
FEDORA = "ab106842509649106881ac864d8ea4086b3f3bfc3fcc69f25e18083ffcaa6888"
SNAP = "f1a142c53586e7e2223ec74e5f4d1a4942956b1fd9ac78fafcdf85117aa345da"
MOK = "306f9d8b94f17d93dc6e7cf8f5c79d652eb4c6c4d13de2dddc24af416e13ecaf"
SEPARATOR_ONLY = "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"

OFF = "115aa827dbccfb44d216ad9ecfda56bdea620b860a94bed5b7a27bba1c4d02d8"
VARIABLES = (
    "827f3ad1828bd20cc03a5624d4ce3f1cf74910715cc764f69800fefd8f406dc6",
    "63c0ee78eb49b91ac213b03768a827ebf9b12370f65879b19a883bf32eaf2a14",
    "557d6499c5b8cf01576c44bea8b5320d9723dedea6883bbd42566db56ce888fc",
    "bcc3309a60c8fab0ed90e1c15deec7a18de9f65d318af79c0f3f7bb7701cc3ad",
)


def extended(*digests: str) -> bytes:
    value = bytes(32)
    for item in digests:
        value = hashlib.sha256(value + bytes.fromhex(item)).digest()
    return value


@pytest.mark.parametrize(
    ("register", "value", "words"),
    [
        (7, UBUNTU, ("Secure Boot is on", "2023 certificates", "SBAT level 2023012900", "MokListRT")),
        (7, UBUNTU_OLDER_SHIM, ("Secure Boot is on", "SBAT level 2021030218", "variable Shim")),
        (7, FEDORA, ("Secure Boot is on", "Fedora's vendor certificate")),
        (12, SNAP, ("snap-bootstrap",)),
        (14, MOK, ("no key of an owner", "MokListTrusted")),
        (2, SEPARATOR_ONLY, ("nothing was measured",)),
        (9, "00" * 32, ("nothing was extended",)),
        (17, "ff" * 32, ("no dynamic launch",)),
    ],
)
def test_value_of_a_real_vtpm_is_explained(register: int, value: str, words: tuple[str, ...]) -> None:
    known = explain_value(register, "sha256", bytes.fromhex(value))
    assert known is not None
    assert all(word in known.sentence for word in words)
    assert not known.shows


def test_a_combination_that_no_sample_has_is_explained_too() -> None:
    separator = hashlib.sha256(bytes(4)).hexdigest()
    known = explain_value(7, "sha256", extended(OFF, *VARIABLES, separator))
    assert known is not None
    assert known.steps[:3] == (
        "Secure Boot is off",
        "PK: Microsoft Hyper-V Firmware PK",
        "KEK of Azure before the 2023 certificates",
    )
    assert known.shows == ("secure-boot-disabled",)


@pytest.mark.parametrize(
    ("register", "bank", "value"),
    [
        (7, "sha256", bytes.fromhex(UBUNTU)[::-1]),
        (14, "sha256", bytes.fromhex(UBUNTU)),  # the value of another register
        (7, "sha256", bytes.fromhex(UBUNTU)[:20]),
        (7, "sha1", bytes(range(20))),
        (9, "sha256", b"\xff" * 32),
        (8, "sha256", bytes.fromhex(SEPARATOR_ONLY)),
    ],
    ids=["reversed", "other_register", "short", "other_bank", "all_ones", "separator_where_none_is"],
)
def test_any_other_value_stays_unexplained(register: int, bank: str, value: bytes) -> None:
    assert explain_value(register, bank, value) is None


@given(st.integers(0, 30), st.binary(min_size=32, max_size=32).filter(any))
def test_random_values_are_never_explained(register: int, value: bytes) -> None:
    if set(value) != {0xFF}:
        assert explain_value(register, "sha256", value) is None


def test_quote_without_a_log_says_that_secure_boot_was_off(tmp_path: Path) -> None:
    machine = Machine(events=())
    separator = hashlib.sha256(bytes(4)).hexdigest()
    machine.values["sha256"][7] = extended(OFF, *VARIABLES, separator)
    machine.files["eventlog.bin"] = b""
    folder = machine.write(tmp_path / "machine")
    (tmp_path / "enrolled").write_bytes(public_area(machine.key))
    boot = assess(load_evidence(folder), load_context(folder, enrolled_keys=[tmp_path / "enrolled"]))
    result = explain(boot, None)
    assert "secure-boot-disabled" in {cause.code for cause in result.causes}
    assert result.verdict == "inconclusive"
    unsigned = assess(load_evidence(folder), load_context(folder))
    codes = {cause.code for cause in explain(unsigned, None).causes}
    assert "secure-boot-disabled" not in codes
