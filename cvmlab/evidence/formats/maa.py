"""Azure's guest attestation request: ``AttestationInfo``, as the extension's client sends it.

Plain, or as ``{"attestationInfo": base64url}``. Source: Azure/cvm-attestation-tools, ``attestation_types.py``
and ``isolation.py``; Azure/confidential-computing-cvm-guest-attestation, ``AttestationLibUtils``; facts on
Azure, A.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import (
    base64_bytes,
    der_to_pem,
    json_object,
    looks_like_object,
    member,
    registers,
)
from cvmlab.tpm.public import parse_public

if TYPE_CHECKING:
    from collections.abc import Iterator

_WRAPPERS: Final = ("attestationInfo", "AttestationInfo")
_MARKS: Final = {"TpmInfo", "TcgLogs", "IsolationInfo", "AttestationProtocolVersion"}
_TAKEN: Final = {"TpmInfo", "TcgLogs", "IsolationInfo", "AttestationProtocolVersion"}
_KEY_INFO: Final = ("EncKeyPub", "EncKeyCertifyInfo", "EncKeyCertifyInfoSignature")
_BANKS: Final = {20: "sha1", 32: "sha256", 48: "sha384"}
_MAX_REGISTERS: Final = 32


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by the request's own keys, plain or wrapped."""
    return bool(keys & set(_WRAPPERS)) or len(keys & _MARKS) >= 2


def translate(data: bytes, source: str) -> Translation:
    """Read the request.

    Raises:
        ParseError: It is no JSON object, or its inner text is none.
    """
    value = json_object(data, source=source)
    prefix = ""
    wrapper = next((name for name in _WRAPPERS if name in value), None)
    if wrapper is not None:
        inner = base64_bytes(value[wrapper], source=source, path=wrapper)
        value, prefix = json_object(inner, source=f"{source} ({wrapper})"), f"{wrapper}."
    found = Translation("guest attestation request to Microsoft Azure Attestation", source)
    if log := _bytes(found, value.get("TcgLogs"), f"{prefix}TcgLogs"):
        found.add("eventlog.bin", f"{prefix}TcgLogs", log)
    tpm = value.get("TpmInfo")
    if isinstance(tpm, dict):
        _tpm(found, tpm, f"{prefix}TpmInfo")
    elif tpm is not None:
        found.problem(f"{prefix}TpmInfo", "need an object")
    isolation = value.get("IsolationInfo")
    if isinstance(isolation, dict):
        _isolation(found, isolation, f"{prefix}IsolationInfo")
    found.lost += [key[:40] for key in value if key not in _TAKEN]
    return found


def _bytes(found: Translation, value: object, path: str) -> bytes:
    """Base64 as the client writes it; hex does not occur here."""
    if value is None or value == "":
        return b""
    try:
        return base64_bytes(value, source=found.source, path=path)
    except ParseError as error:
        found.fail(error)
        return b""


def _tpm(found: Translation, tpm: dict[str, object], path: str) -> None:
    found.add("quote.msg", f"{path}.PcrQuote", _bytes(found, tpm.get("PcrQuote"), f"{path}.PcrQuote"))
    found.add(
        "quote.sig", f"{path}.PcrSignature", _bytes(found, tpm.get("PcrSignature"), f"{path}.PcrSignature")
    )
    key = _bytes(found, tpm.get("AikPub"), f"{path}.AikPub")
    if key:
        found.add(_name_of_key(key), f"{path}.AikPub", key)
    # the certificate comes from an NV index that is larger than it
    certificate = _bytes(found, tpm.get("AikCert"), f"{path}.AikCert")
    found.add("ak.crt", f"{path}.AikCert", unpadded(certificate))
    registers(found, _values(found, tpm.get("PCRs"), f"{path}.PCRs"), f"{path}.PCRs")
    found.lost += [name for name in _KEY_INFO if tpm.get(name)]


def _name_of_key(data: bytes) -> str:
    """TPM2B_PUBLIC or TPMT_PUBLIC on Linux; PEM or DER elsewhere."""
    try:
        parse_public(data, source="")
    except ParseError:
        return "ak.pem"
    return "ak.pub"


def unpadded(der: bytes) -> bytes:
    """Return a DER value without the bytes that fill an NV index up behind it."""
    if len(der) > 4 and der[:2] == b"\x30\x82":
        size = 4 + int.from_bytes(der[2:4], "big")
        if size < len(der) and not der[size:].strip(b"\0\xff"):
            return der[:size]
    return der


def _values(found: Translation, values: object, path: str) -> Iterator[tuple[str, int, bytes]]:
    for position, item in enumerate(values[:_MAX_REGISTERS] if isinstance(values, list) else ()):
        where = f"{path}[{position}]"
        if not isinstance(item, dict) or type(index := item.get("Index")) is not int:
            found.problem(where, "need an object with Index and Digest")
            continue
        digest = _bytes(found, item.get("Digest"), f"{where}.Digest")
        if bank := _BANKS.get(len(digest)):
            yield bank, index, digest
        elif digest:
            found.problem(f"{where}.Digest", f"{len(digest)} bytes are no register value")


def _isolation(found: Translation, isolation: dict[str, object], path: str) -> None:
    kind = isolation.get("Type")
    evidence = isolation.get("Evidence")
    if not isinstance(evidence, dict) or not evidence:
        return
    proof = _bytes(found, evidence.get("Proof"), f"{path}.Evidence.Proof")
    claims = _bytes(found, evidence.get("RunTimeData"), f"{path}.Evidence.RunTimeData")
    if looks_like_object(proof):
        _snp(found, proof, f"{path}.Evidence.Proof")
    elif proof:
        if kind == "Tdx" and proof.isascii():
            # older clients encode the text that Azure's host answered once more
            proof = _bytes(found, proof.decode(), f"{path}.Evidence.Proof")
        found.add("td_quote.bin" if kind == "Tdx" else "snp_report.bin", f"{path}.Evidence.Proof", proof)
    found.add("runtime_claims.json", f"{path}.Evidence.RunTimeData", claims)


def _snp(found: Translation, proof: bytes, path: str) -> None:
    try:
        value = member(json_object(proof, source=f"{found.source} ({path})"), path, source=found.source)
    except ParseError as error:
        found.fail(error)
        return
    found.add(
        "snp_report.bin", f"{path}.SnpReport", _bytes(found, value.get("SnpReport"), f"{path}.SnpReport")
    )
    chain = _bytes(found, value.get("VcekCertChain"), f"{path}.VcekCertChain")
    if chain:
        found.add("vcek.pem", f"{path}.VcekCertChain", der_to_pem(chain))
