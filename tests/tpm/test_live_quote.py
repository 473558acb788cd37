"""Quotes while registers move: another program extends them over a connection of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from cvmlab.errors import TpmError
from cvmlab.tpm import live_quote
from cvmlab.tpm.attest import parse_attest
from cvmlab.tpm.live import Bank, LiveTpm
from cvmlab.tpm.live_keys import AK_TYPES, attestation_key
from cvmlab.tpm.live_quote import ATTEMPTS, LiveQuote, quote_bank
from cvmlab.tpm.quote import check_quote, verify_quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from soft_tpm import SoftTpm

NONCE = bytes(range(50))


def _extender(soft: SoftTpm, registers: tuple[int, ...], times: int) -> Callable[[], None]:
    left = times

    def extend() -> None:
        nonlocal left
        if left:
            left -= 1
            for register in registers:
                soft("pcrextend", f"{register}:sha256={'5a' * 32}")

    return extend


def _quote(soft: SoftTpm, between: Callable[[], None] | None = None) -> tuple[LiveQuote, object]:
    with LiveTpm(soft.tcti) as tpm, attestation_key(tpm, kind="ecc256") as key:
        bank = next(bank for bank in tpm.banks() if bank.name == "sha256")
        return quote_bank(tpm, key, bank, NONCE, between=between), key.public


def test_a_quiet_machine_needs_one_attempt(fresh_tpm: SoftTpm) -> None:
    quote, public = _quote(fresh_tpm)
    assert (quote.attempts, quote.fits, quote.moved) == (1, True, frozenset())
    verify_quote(quote.message, quote.signature, public, nonce=NONCE, values={"sha256": quote.values})  # type: ignore[arg-type]


@pytest.mark.parametrize("register", [8, 10, 23])
@pytest.mark.parametrize("times", [1, 3])
def test_a_register_that_moves_is_quoted_again(fresh_tpm: SoftTpm, register: int, times: int) -> None:
    quote, public = _quote(fresh_tpm, _extender(fresh_tpm, (register,), times))
    assert (quote.attempts, quote.fits, quote.moved) == (times + 1, True, {register})
    assert quote.registers == tuple(range(24))
    verify_quote(quote.message, quote.signature, public, nonce=NONCE, values={"sha256": quote.values})  # type: ignore[arg-type]


def test_register_10_that_never_rests_stays_in_the_quote(fresh_tpm: SoftTpm) -> None:
    quote, public = _quote(fresh_tpm, _extender(fresh_tpm, (10,), 99))
    assert (quote.attempts, quote.fits, quote.moved) == (ATTEMPTS, False, {10})
    assert quote.registers == tuple(range(24))
    # the value that was quoted is one extend back
    assert check_quote(quote.message, quote.signature, public, nonce=NONCE, values=None)[
        "signature"
    ].status == (  # type: ignore[arg-type]
        "holds"
    )


def test_other_registers_that_never_rest_are_left_out(fresh_tpm: SoftTpm) -> None:
    quote, public = _quote(fresh_tpm, _extender(fresh_tpm, (10, 16), 99))
    assert quote.fits
    assert quote.moved == {10, 16}
    assert quote.registers == tuple(number for number in range(24) if number not in (10, 16))
    assert parse_attest(quote.message, source="q").selections[0].registers == quote.registers
    assert set(quote.values) == set(range(24))
    verify_quote(quote.message, quote.signature, public, nonce=NONCE, values={"sha256": quote.values})  # type: ignore[arg-type]


def test_a_bank_all_of_whose_registers_move_is_quoted_as_it_is(fresh_tpm: SoftTpm) -> None:
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm, kind="ecc256") as key:
        between = _extender(fresh_tpm, (16, 23), 99)
        quote = quote_bank(tpm, key, Bank("sha256", (16, 23)), NONCE, between=between)
    assert not quote.fits
    assert quote.registers == (16, 23)


def test_an_answer_that_was_changed_on_its_way_is_no_quote(
    fresh_tpm: SoftTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_quote = live_quote._quote

    def changed(*arguments: object) -> tuple[bytes, bytes]:
        message, signature = true_quote(*arguments)  # type: ignore[arg-type]
        return message[:-1] + bytes([message[-1] ^ 1]), signature

    monkeypatch.setattr(live_quote, "_quote", changed)
    with pytest.raises(TpmError, match="a quote that does not hold"):
        _quote(fresh_tpm)


SIZES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


def _tools_view(soft: SoftTpm, bank: str) -> None:
    """Write the registers of a bank as tpm2_quote does, by a key of the tools' own."""
    soft("createprimary", "-Q", "-C", "o", "-G", "ecc256:ecdsa-sha256:null", "-c", "t.ctx", "-a",
         "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign")  # fmt: skip
    soft.flush()
    selection = f"{bank}:{','.join(map(str, range(24)))}"
    soft("quote", "-Q", "-c", "t.ctx", "-l", selection, "-m", "t.msg", "-s", "t.sig", "-o", "q.pcrs",
         "-F", "serialized")  # fmt: skip
    soft.flush()


def _checkquote(soft: SoftTpm, *more: str) -> bool:
    command = ["tpm2_checkquote", "-u", "q.pub", "-m", "q.msg", "-s", "q.sig", "-q", NONCE.hex(), *more]
    return subprocess.run(command, cwd=soft.folder, capture_output=True, check=False).returncode == 0


def _written(soft: SoftTpm, kind: str, bank: str) -> None:
    with LiveTpm(soft.tcti) as tpm, attestation_key(tpm, kind=kind) as key:
        quote = quote_bank(tpm, key, Bank(bank, tuple(range(24))), NONCE)
        files = {"q.msg": quote.message, "q.sig": quote.signature, "q.pub": key.public_file}
    for name, data in files.items():
        (soft.folder / name).write_bytes(data)


@pytest.mark.parametrize("bank", SIZES)
def test_tpm2_checkquote_accepts_each_bank(fresh_tpm: SoftTpm, bank: str) -> None:
    fresh_tpm("pcrextend", f"7:{bank}={'11' * SIZES[bank]}")
    _written(fresh_tpm, "rsa2048", bank)
    _tools_view(fresh_tpm, bank)
    assert _checkquote(fresh_tpm, "-f", "q.pcrs")
    fresh_tpm("pcrextend", f"7:{bank}={'11' * SIZES[bank]}")
    _tools_view(fresh_tpm, bank)
    assert not _checkquote(fresh_tpm, "-f", "q.pcrs")


@pytest.mark.parametrize("kind", AK_TYPES)
def test_tpm2_print_reads_what_was_written(fresh_tpm: SoftTpm, kind: str) -> None:
    _written(fresh_tpm, kind, "sha256")
    printed = fresh_tpm("print", "-t", "TPMS_ATTEST", "q.msg")
    assert "ff544347" in printed
    assert NONCE.hex() in printed
    assert "fixedtpm" in fresh_tpm("print", "-t", "TPM2B_PUBLIC", "q.pub")


@pytest.mark.parametrize("kind", AK_TYPES)
def test_the_tpm_itself_verifies_the_signature(fresh_tpm: SoftTpm, kind: str) -> None:
    _written(fresh_tpm, kind, "sha256")
    digest = "sha384" if kind == "ecc384" else "sha256"
    fresh_tpm("loadexternal", "-Q", "-C", "n", "-u", "q.pub", "-c", "q.ctx")
    fresh_tpm.flush()
    fresh_tpm("verifysignature", "-Q", "-c", "q.ctx", "-g", digest, "-m", "q.msg", "-s", "q.sig")
    fresh_tpm.flush()
