"""The table of TPM errors, held against the constants of tpm2-tss and the words of tpm2_rc_decode."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import absent
from tpm2_pytss import TSS2_Exception
from tpm2_pytss._libtpm2_pytss import lib

from cvmlab.tpm.response_codes import TPM_CODES, TSS_CODES, base_code, explain, lookup


@pytest.mark.parametrize("row", TPM_CODES, ids=lambda row: row.name)
def test_number_and_name_are_those_of_the_specification(row: object) -> None:
    name = row.name.replace("TPM_RC_", "TPM2_RC_")  # type: ignore[attr-defined]
    assert getattr(lib, name) == row.code  # type: ignore[attr-defined]


@pytest.mark.parametrize("row", TSS_CODES, ids=lambda row: row.name)
def test_number_and_name_are_those_of_the_tss(row: object) -> None:
    assert getattr(lib, row.name) == row.code  # type: ignore[attr-defined]


def test_every_row_says_what_to_do_and_is_there_once() -> None:
    for table in (TPM_CODES, TSS_CODES):
        assert len({row.code for row in table}) == len(table)
        assert all(row.meaning and row.action for row in table)


@pytest.mark.parametrize(
    ("code", "name", "about"),
    [
        (0x14A, "TPM_RC_NV_UNINITIALIZED", ""),
        (0x921, "TPM_RC_LOCKOUT", ""),
        (0x922, "TPM_RC_RETRY", ""),
        (0x902, "TPM_RC_OBJECT_MEMORY", ""),
        (0x100, "TPM_RC_INITIALIZE", ""),
        (0x18B, "TPM_RC_HANDLE", "handle 1"),
        (0x28B, "TPM_RC_HANDLE", "handle 2"),
        (0x38F, "TPM_RC_NONCE", "handle 3"),
        (0x1C4, "TPM_RC_VALUE", "parameter 1"),
        (0x2DF, "TPM_RC_INTEGRITY", "parameter 2"),
        (0x98E, "TPM_RC_AUTH_FAIL", "session 1"),
        (0x9A2, "TPM_RC_BAD_AUTH", "session 1"),
        (0xA9D, "TPM_RC_POLICY_FAIL", "session 2"),
        (0xA000A, "TSS2_BASE_RC_IO_ERROR", "TCTI"),
        (0x7000B, "TSS2_BASE_RC_BAD_VALUE", "ESAPI"),
        (0xB0143, "TPM_RC_COMMAND_CODE", ""),
        (0xC0902, "TPM_RC_OBJECT_MEMORY", ""),
    ],
)
def test_codes_are_told_apart_from_what_they_are_about(code: int, name: str, about: str) -> None:
    text = explain(code)
    assert name in text
    assert f"({about})" in text if about else "(" not in text.split(":")[0]
    assert "What to do: " in text


@pytest.mark.parametrize("code", [0x14A, 0x18B, 0x1C4, 0x98E, 0x921, 0xA9D, 0x2DF, 0x084])
def test_tpm2_tools_read_the_codes_alike(code: int) -> None:
    if shutil.which("tpm2_rc_decode") is None:
        absent("this test needs tpm2_rc_decode (Debian: tpm2-tools)")
    done = subprocess.run(["tpm2_rc_decode", hex(code)], capture_output=True, text=True, check=True)
    theirs = done.stdout.lower()
    number = TSS2_Exception(code)
    for word, value in (
        ("handle", number.handle),
        ("parameter", number.parameter),
        ("session", number.session),
    ):
        if value:
            assert f"{word}({int(value)})" in theirs
            assert f"({word} {int(value)})" in explain(code)
    assert number.error == base_code(code)


def test_azures_wording_of_an_unfilled_index() -> None:
    # facts: NV read error 330 on a confidential VM
    assert "the platform has not filled the index" in explain(330)


@given(code=st.integers(min_value=0, max_value=0xFFFFFFFF))
def test_any_number_is_explained(code: int) -> None:
    text = explain(code)
    assert text.startswith("0x")
    assert "What to do: " in text
    assert (lookup(code) is None) == ("not a code known here" in text)
