"""Dumps of go-attestation: ``attest-tool dump``, and its types as ``encoding/json`` writes them.

``PlatformParameters`` has quotes, register values and the log; ``AttestationParameters`` only the key and how
it was made. Bytes are base64, ``crypto.Hash`` and ``HashAlg`` are numbers. Source: google/go-attestation,
``attest/attest.go``, ``attest/attest-tool/internal/internal.go``; Go, ``crypto.Hash``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.errors import ParseError
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import base64_bytes, json_object, registers, take

if TYPE_CHECKING:
    from collections.abc import Iterator

_TPM20: Final = 2
_GO_HASH: Final = {3: "sha1", 5: "sha256", 6: "sha384", 7: "sha512"}
_BANK_BY_SIZE: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
_MAX_QUOTES: Final = 16
_MAX_REGISTERS: Final = 24 * 8
_PLATFORM: Final = {"Public", "Quotes", "PCRs", "EventLog"}
_CREATION: Final = ("CreateData", "CreateAttestation", "CreateSignature")
_PARAMETERS: Final = {"Public", *_CREATION}
_DUMP: Final = {"AK", "Quote", "Log"}


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by the names of Go's fields, which are the keys."""
    return keys >= _DUMP or keys >= _PLATFORM or keys >= _PARAMETERS


def translate(data: bytes, source: str) -> Translation:
    """Read the dump.

    Raises:
        ParseError: It is no JSON object, or of a TPM 1.2.
    """
    value = json_object(data, source=source)
    found = Translation("dump of go-attestation", source)
    if value.keys() >= _DUMP:
        _dump(found, value)
        return found
    _only_tpm20(value.get("TPMVersion", _TPM20), source)
    take(found, value, "Public", "ak.pub", decode=base64_bytes)
    if value.keys() >= _PLATFORM:
        for index, quote in enumerate(_list(found, value.get("Quotes"), "Quotes")[:_MAX_QUOTES]):
            suffix = "" if index == 0 else f"-{index}"
            _quote(found, quote, f"Quotes[{index}]", suffix)
        registers(found, _registers(found, value.get("PCRs"), "PCRs"), "PCRs")
        take(found, value, "EventLog", "eventlog.bin", decode=base64_bytes)
    found.lost += [key for key in _CREATION if value.get(key)]
    return found


def _dump(found: Translation, value: dict[str, object]) -> None:
    static = value.get("Static")
    if isinstance(static, dict):
        _only_tpm20(static.get("TPMVersion", _TPM20), found.source)
        take(found, static, "EKPem", "ek.pem", prefix="Static", decode=base64_bytes)
    key, quote, log = value["AK"], value["Quote"], value["Log"]
    if isinstance(key, dict):
        take(found, key, "Public", "ak.pub", prefix="AK", decode=base64_bytes)
        found.lost += [f"AK.{name}" for name in _CREATION if key.get(name)]
    _quote(found, quote, "Quote", "")
    if isinstance(quote, dict) and quote.get("Nonce"):
        found.lost.append("Quote.Nonce, which only the verifier can know")
    if isinstance(log, dict):
        registers(found, _registers(found, log.get("PCRs"), "Log.PCRs"), "Log.PCRs")
        take(found, log, "Raw", "eventlog.bin", prefix="Log", decode=base64_bytes)


def _only_tpm20(version: object, source: str) -> None:
    if version != _TPM20:
        reason = f"{str(version)[:20]}: only evidence of a TPM 2.0 (2) is read, a TPM 1.2 makes other quotes"
        raise ParseError(source, 0, "TPMVersion", reason=reason)


def _list(found: Translation, value: object, path: str) -> list[object]:
    if isinstance(value, list):
        return value
    if value is not None:
        found.problem(path, f"need a list, have {type(value).__name__}")
    return []


def _quote(found: Translation, quote: object, path: str, suffix: str) -> None:
    if not isinstance(quote, dict):
        found.problem(path, "need an object with Quote and Signature")
        return
    if quote.get("Version", _TPM20) != _TPM20:
        found.problem(f"{path}.Version", "not a quote of a TPM 2.0")
        return
    take(found, quote, "Quote", f"quote{suffix}.msg", prefix=path, decode=base64_bytes)
    take(found, quote, "Signature", f"quote{suffix}.sig", prefix=path, decode=base64_bytes)


def _registers(found: Translation, values: object, path: str) -> Iterator[tuple[str, int, bytes]]:
    for position, item in enumerate(_list(found, values, path)[:_MAX_REGISTERS]):
        where = f"{path}[{position}]"
        if not isinstance(item, dict) or type(index := item.get("Index")) is not int:
            found.problem(where, "need an object with Index, Digest and DigestAlg")
            continue
        try:
            digest = base64_bytes(item.get("Digest"), source=found.source, path=f"{where}.Digest")
        except ParseError as error:
            found.fail(error)
            continue
        stated = item.get("DigestAlg")
        bank = _GO_HASH.get(stated) if type(stated) is int else None
        if bank is None and type(stated) is int and stated >= 0x0B:
            bank = BANK_BY_ALGORITHM.get(stated)
        bank = bank or _BANK_BY_SIZE.get(len(digest))
        if bank is None:
            found.problem(where, f"{len(digest)} bytes are no register value")
            continue
        yield bank, index, digest
