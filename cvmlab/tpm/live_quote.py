"""Quotes of a live TPM together with the register values that they cover.

A TPM signs a digest of the registers; their values have to be read by another command. Where a register is
extended in between, the two do not fit, and both are taken again.

Source: TPM 2.0 Library, Part 3, 18.4 (TPM2_Quote) and 22.4 (TPM2_PCR_Read).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import TpmError
from cvmlab.tpm.quote import check_quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cvmlab.tpm.live import Bank, LiveTpm
    from cvmlab.tpm.live_keys import LiveKey

ATTEMPTS: Final = 5
"""How often quote and values are taken until they fit."""

IMA_REGISTER: Final = 10
"""What the kernel measures into while it runs: its list shows which value was quoted."""


@dataclass(frozen=True, slots=True)
class LiveQuote:
    """One quote and the values read after it.

    Attributes:
        bank: The bank that it covers.
        registers: The registers that it covers, ascending.
        message: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        values: What was read, by register; more than what is covered where registers were left out.
        attempts: How often quote and values were taken.
        fits: True where the values are those that were quoted.
        moved: Registers that were extended in between, at any attempt.
    """

    bank: str
    registers: tuple[int, ...]
    message: bytes
    signature: bytes
    values: dict[int, bytes]
    attempts: int
    fits: bool
    moved: frozenset[int]


def quote_bank(
    tpm: LiveTpm, key: LiveKey, bank: Bank, nonce: bytes, *, between: Callable[[], None] | None = None
) -> LiveQuote:
    """Quote all registers of a bank and read their values, again where they do not fit.

    Registers that move at every attempt are left out of the last attempts, except for register 10: the IMA
    list tells which of its values was quoted.

    Args:
        tpm: The TPM.
        key: The attestation key.
        bank: The bank; it has at least one register.
        nonce: Qualifying data, 1 to 64 bytes.
        between: Called between quote and reading, for tests.

    Raises:
        TpmError: The TPM refuses, or gives a quote that its own key did not sign.
    """
    quote = _attempts(tpm, key, bank.name, bank.registers, nonce, between)
    if quote.fits or quote.moved <= {IMA_REGISTER}:
        return quote
    still = tuple(register for register in bank.registers if register not in quote.moved)
    if not still:
        return quote
    again = _attempts(tpm, key, bank.name, still, nonce, between)
    values = dict(sorted({**quote.values, **again.values}.items()))
    return LiveQuote(
        bank.name, still, again.message, again.signature, values, quote.attempts + again.attempts,
        again.fits, quote.moved | again.moved,
    )  # fmt: skip


def _attempts(
    tpm: LiveTpm,
    key: LiveKey,
    bank: str,
    registers: Sequence[int],
    nonce: bytes,
    between: Callable[[], None] | None,
) -> LiveQuote:
    moved: set[int] = set()
    before = tpm.read_registers(bank, registers)
    for attempt in range(1, ATTEMPTS + 1):
        message, signature = _quote(tpm, key, bank, registers, nonce)
        if between is not None:
            between()
        values = tpm.read_registers(bank, registers)
        moved |= {register for register in registers if values[register] != before[register]}
        before = values
        fits = _fits(message, signature, key, nonce, bank, values)
        if fits or attempt == ATTEMPTS:
            return LiveQuote(
                bank, tuple(registers), message, signature, values, attempt, fits, frozenset(moved)
            )
    raise AssertionError  # the last attempt returns


def _quote(
    tpm: LiveTpm, key: LiveKey, bank: str, registers: Sequence[int], nonce: bytes
) -> tuple[bytes, bytes]:
    data = tpm.pytss.TPM2B_DATA(buffer=nonce)
    quoted, signature = tpm.call("quote", key.handle, tpm.selection(bank, registers), data, about=bank)
    return bytes(quoted), signature.marshal()


def _fits(
    message: bytes, signature: bytes, key: LiveKey, nonce: bytes, bank: str, values: dict[int, bytes]
) -> bool:
    report = check_quote(message, signature, key.public, nonce=nonce, values={bank: values})
    for name in ("structure", "signature", "nonce"):
        check = report[name]
        if check.status != "holds":
            raise TpmError(
                f"{bank}: the TPM gave a quote that does not hold ({name}: {check.why}). What to do: collect "
                "again; if it stays, what lies between this program and the TPM changes its answers"
            )
    return report["registers"].status == "holds"
