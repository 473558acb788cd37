"""The checks that make a quote evidence of register values (design, section 3, points 1 to 3)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cvmlab.banks import DIGEST_SIZE, WEAK_BANKS, available, digest
from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm.attest import describe_selections, parse_attest, quoted_registers, signed_bytes, without_tail
from cvmlab.tpm.public import TpmPublic
from cvmlab.tpm.signature import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cvmlab.tpm.attest import Attest, PcrSelection
    from cvmlab.tpm.signature import AttestationKey, TpmSignature

CheckStatus = Literal["holds", "broken", "not-checked"]
_HASH_BY_SIZE = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}

__all__ = [
    "QuoteCheck",
    "QuoteReport",
    "check_quote",
    "pcr_digest",
    "quoted_registers",
    "verify_quote",
]


@dataclass(frozen=True, slots=True)
class QuoteCheck:
    """One check of a quote.

    Attributes:
        name: ``structure``, ``signature``, ``nonce``, ``registers`` or ``hash``.
        status: ``holds``, ``broken`` or ``not-checked``.
        code: Cause code of the catalogue; empty where the check holds, or where it was not made only
            because an earlier one is broken.
        why: What was checked against what, or why it could not be.
    """

    name: str
    status: CheckStatus
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class QuoteReport:
    """What became of a quote.

    Attributes:
        attest: The quote, or None where its structure is broken. Believe it only where `holds`.
        signature: The signature, or None where there is none or it cannot be read.
        checks: Always five, in the order structure, signature, nonce, registers, hash.
    """

    attest: Attest | None
    signature: TpmSignature | None
    checks: tuple[QuoteCheck, ...]

    @property
    def holds(self) -> bool:
        """True where every check was made and holds."""
        return all(check.status == "holds" for check in self.checks)

    @property
    def broken(self) -> tuple[QuoteCheck, ...]:
        """The checks that are broken, in order."""
        return tuple(check for check in self.checks if check.status == "broken")

    def __getitem__(self, name: str) -> QuoteCheck:
        """Return the check of a name.

        Raises:
            KeyError: There is no such check.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)


def pcr_digest(
    selections: Iterable[PcrSelection], values: Mapping[str, Mapping[int, bytes]], hash_name: str
) -> bytes:
    """Return the digest that a quote of these values carries (Part 3, 18.4: TPM2_Quote).

    Args:
        selections: Banks and registers, in the quote's order.
        values: Values by bank and register.
        hash_name: Hash of the signing scheme, a name of `cvmlab.banks`.

    Raises:
        KeyError: A selected register has no value.
        VerificationError: ``register-values-mismatch``, a value has not the size of its bank: joined
            with its neighbour it could stand for other values.
    """
    joined = bytearray()
    for item in selections:
        for register in item.registers:
            value = values[item.bank][register]
            size = DIGEST_SIZE[item.bank]
            if len(value) != size:
                raise VerificationError(
                    f"the value of {item.bank}:{register} has {len(value)} bytes, not {size}",
                    code="register-values-mismatch",
                )
            joined += value
    return digest(hash_name, bytes(joined))


def check_quote(
    message: bytes,
    signature: bytes | None,
    key: AttestationKey | None,
    *,
    nonce: bytes | None,
    values: Mapping[str, Mapping[int, bytes]] | None,
    source: str = "quote",
) -> QuoteReport:
    """Make every check of a quote that can be made.

    Whether the key is bound to a machine, and fit to attest, is not checked here: see
    `cvmlab.tpm.public.check_key_attributes` and the trust chain.

    Args:
        message: TPMS_ATTEST or TPM2B_ATTEST bytes.
        signature: TPMT_SIGNATURE or plain signature bytes, or None.
        key: The key that is said to have signed, or None.
        nonce: The nonce that the verifier sent, or None if it is not known. An empty one is none.
        values: Register values by bank and index, or None. Values that the quote does not cover are
            not looked at.
        source: What the message is, for error messages.

    Returns:
        A report of five checks. It never raises for what the bytes hold.
    """
    attest, structure = _check_structure(message, source)
    parsed, signed = _check_signature(message, attest, signature, key, source)
    if attest is None:
        why = "the quote itself cannot be read"
        rest = tuple(QuoteCheck(name, "not-checked", "", why) for name in ("nonce", "registers", "hash"))
    else:
        hash_name = _hash_name(attest, parsed, key)
        rest = (_check_nonce(attest, nonce), _check_registers(attest, hash_name, values), _check_hash(attest))
    return QuoteReport(attest, parsed, (structure, signed, *rest))


def verify_quote(
    message: bytes,
    signature: bytes | None,
    key: AttestationKey | None,
    *,
    nonce: bytes | None,
    values: Mapping[str, Mapping[int, bytes]] | None,
    source: str = "quote",
) -> Attest:
    """Verify a quote completely and return it.

    The arguments are those of `check_quote`.

    Raises:
        VerificationError: For the first check that is broken, or else the first that could not be
            made, with its code.
    """
    report = check_quote(message, signature, key, nonce=nonce, values=values, source=source)
    failed = report.broken or tuple(check for check in report.checks if check.status != "holds")
    if failed or report.attest is None:
        raise VerificationError(f"{source}: {failed[0].name}: {failed[0].why}", code=failed[0].code)
    return report.attest


def _check_structure(message: bytes, source: str) -> tuple[Attest | None, QuoteCheck]:
    try:
        attest = parse_attest(message, source=source)
    except VerificationError as error:
        return None, QuoteCheck("structure", "broken", error.code, str(error))
    except ParseError as error:
        why = f"no TPM makes such bytes: {error}"
        return None, QuoteCheck("structure", "broken", "quote-not-tpm-generated", why)
    covered = describe_selections(attest.selections) or "no register"
    why = f"the bytes are a TPM's quote, with nothing left over, of {covered}"
    return attest, QuoteCheck("structure", "holds", "", why)


def _check_signature(
    message: bytes, attest: Attest | None, data: bytes | None, key: AttestationKey | None, source: str
) -> tuple[TpmSignature | None, QuoteCheck]:
    if not data:
        return None, QuoteCheck("signature", "not-checked", "evidence-incomplete", "there is no signature")
    # The hash that made the register digest is that of the signing scheme, so a plain signature,
    # which does not name its hash, can only be by this one.
    size = len(attest.pcr_digest) if attest is not None else 0
    default = _HASH_BY_SIZE.get(size, "sha256")
    try:
        signature = parse_signature(data, source=f"{source} signature", key=key, default_hash=default)
    except CvmlabError as error:
        code = error.code if isinstance(error, VerificationError) else "quote-signature-invalid"
        return None, QuoteCheck("signature", "broken", code, str(error))
    if key is None:
        why = "there is no key to verify the signature with"
        return signature, QuoteCheck("signature", "not-checked", "evidence-incomplete", why)
    try:
        verify_signature(key, signature, attest.raw if attest is not None else signed_bytes(message))
    except VerificationError as error:
        if attest is None and _holds_without_tail(key, signature, message, source):
            why = "the signature verifies with the given key for the quote without the bytes that follow it"
            return signature, QuoteCheck("signature", "not-checked", "", why)
        return signature, QuoteCheck("signature", "broken", error.code, str(error))
    why = f"the {signature.scheme} signature by {signature.hash} verifies with the given key"
    return signature, QuoteCheck("signature", "holds", "", why)


def _holds_without_tail(key: AttestationKey, signature: TpmSignature, message: bytes, source: str) -> bool:
    """True where a TPM's quote is whole and bytes were put behind it: then they are all that is wrong."""
    try:
        verify_signature(key, signature, without_tail(message, source=source))
    except CvmlabError:
        return False
    return True


def _check_nonce(attest: Attest, nonce: bytes | None) -> QuoteCheck:
    if not nonce:
        why = "the nonce that the verifier sent is not known, so the quote may be of any time"
        if not attest.extra_data:
            why = "the quote was made without a nonce, so it may be of any time"
        return QuoteCheck("nonce", "not-checked", "nonce-missing", why)
    if not hmac.compare_digest(attest.extra_data, nonce):
        have = attest.extra_data.hex() or "no nonce"
        why = f"the quote answers {have}, not the nonce {nonce.hex()} that the verifier sent"
        return QuoteCheck("nonce", "broken", "nonce-mismatch", why)
    return QuoteCheck("nonce", "holds", "", "the quote answers the nonce that the verifier sent")


def _check_registers(
    attest: Attest, hash_name: str, values: Mapping[str, Mapping[int, bytes]] | None
) -> QuoteCheck:
    def check(status: CheckStatus, code: str, why: str) -> QuoteCheck:
        return QuoteCheck("registers", status, code, why)

    wanted = quoted_registers(attest)
    if not wanted:
        return check("not-checked", "register-not-quoted", "the quote covers no register")
    if values is None:
        return check("not-checked", "evidence-incomplete", "there are no register values to check")
    missing = sorted(pair for pair in wanted if pair[1] not in values.get(pair[0], {}))
    if missing:
        names = ", ".join(f"{bank}:{register}" for bank, register in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        return check("not-checked", "evidence-incomplete", f"the quote covers {names}{more}: no value given")
    if not available(hash_name):
        return check("not-checked", "evidence-incomplete", f"digests by {hash_name} cannot be computed here")
    try:
        computed = pcr_digest(attest.selections, values, hash_name)
    except VerificationError as error:
        return check("broken", error.code, str(error))
    if not hmac.compare_digest(computed, attest.pcr_digest):
        have = attest.pcr_digest.hex()
        why = f"the given values hash by {hash_name} to {computed.hex()}, the quote has {have}"
        return check("broken", "register-values-mismatch", why)
    covered = describe_selections(attest.selections)
    return check("holds", "", f"the given values of {covered} hash to the quote's digest")


def _hash_name(attest: Attest, signature: TpmSignature | None, key: AttestationKey | None) -> str:
    if signature is not None:
        return signature.hash
    if isinstance(key, TpmPublic) and key.scheme_hash:
        return key.scheme_hash
    return _HASH_BY_SIZE[len(attest.pcr_digest)]


def _check_hash(attest: Attest) -> QuoteCheck:
    banks = {bank for bank, _ in quoted_registers(attest)}
    if not banks:
        why = "the quote covers no register: it says nothing of how the machine booted"
        return QuoteCheck("hash", "broken", "weak-hash-only", why)
    if banks <= WEAK_BANKS:
        why = "the quote covers only SHA-1 registers, whose values can be met by other events"
        return QuoteCheck("hash", "broken", "weak-hash-only", why)
    return QuoteCheck("hash", "holds", "", f"the quote covers registers of {', '.join(sorted(banks))}")
