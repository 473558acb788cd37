"""Constellation's attestation documents: a vTPM attestation, what the platform says of itself, and user data.

``{"Attestation", "InstanceInfo", "UserData"}`` as Go's ``encoding/json`` writes it; ``InstanceInfo`` is
base64 of JSON of the platform. Source: edgelesssys/constellation, ``internal/attestation``: ``vtpm``,
``snp``, ``azure/{snp,tdx,trustedlaunch}``, ``gcp``, ``qemu``.
"""

from __future__ import annotations

from typing import Final

from cvmlab.errors import ParseError
from cvmlab.evidence.formats.attest_decode import from_json
from cvmlab.evidence.formats.go_tpm_tools import take_attestation
from cvmlab.evidence.formats.maa import unpadded
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import (
    base64_bytes,
    der_to_pem,
    json_object,
    looks_like_object,
    member,
)
from cvmlab.tee.snp import SIZE as SNP_SIZE

_KEYS: Final = {"Attestation", "InstanceInfo"}
_INFO: Final = {
    "AttestationReport", "ReportSigner", "CertChain", "Vcek", "RuntimeData", "Azure", "AkCert", "CA",
    "MAAToken",
}  # fmt: skip
_HASHED: Final = "UserData: --nonce is the SHA-256 of it and the nonce that was sent, one behind the other"


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by the document's own keys."""
    return keys >= _KEYS


def translate(data: bytes, source: str) -> Translation:
    """Read the document.

    Raises:
        ParseError: It is no JSON object, or its attestation is none.
    """
    value = json_object(data, source=source)
    found = Translation("attestation document of Constellation", source)
    attestation = member(value["Attestation"], "Attestation", source=source)
    tree = from_json(attestation, "Attestation", source=source, path="Attestation.")
    take_attestation(found, tree, "Attestation.")
    if value.get("UserData"):
        found.lost.append(_HASHED)
    try:
        info = base64_bytes(value["InstanceInfo"] or "", source=source, path="InstanceInfo")
        if looks_like_object(info):
            _instance(found, json_object(info, source=f"{source} (InstanceInfo)"))
        elif info:
            found.lost.append("InstanceInfo")
    except ParseError as error:
        found.fail(error)
    return found


def _instance(found: Translation, info: dict[str, object]) -> None:
    report = _bytes(found, info.get("AttestationReport"), "AttestationReport")
    if report:
        name = "snp_report.bin" if len(report) == SNP_SIZE else "td_quote.bin"
        found.add(name, "InstanceInfo.AttestationReport", report)
    azure = info.get("Azure")
    holder, path = (azure, "Azure.") if isinstance(azure, dict) else (info, "")
    claims = _bytes(found, holder.get("RuntimeData"), f"{path}RuntimeData")
    found.add("runtime_claims.json", f"InstanceInfo.{path}RuntimeData", claims)
    token = holder.get("MAAToken")
    if isinstance(token, str) and token:
        found.add("token.jwt", f"InstanceInfo.{path}MAAToken", token.encode("utf-8", "surrogatepass"))
    for key in ("ReportSigner", "Vcek", "CertChain"):
        pem = _bytes(found, info.get(key), key)
        if pem.strip():
            found.add("vcek.pem", f"InstanceInfo.{key}", der_to_pem(pem))
    certificate = unpadded(_bytes(found, info.get("AkCert"), "AkCert"))
    found.add("ak.crt", "InstanceInfo.AkCert", certificate)
    authority = _bytes(found, info.get("CA"), "CA")
    if authority:
        found.add("ca-issuer.pem", "InstanceInfo.CA", der_to_pem(authority))
    found.lost += [f"InstanceInfo.{key[:40]}" for key, item in info.items() if item and key not in _INFO]


def _bytes(found: Translation, value: object, key: str) -> bytes:
    if value is None or value == "":
        return b""
    try:
        return base64_bytes(value, source=found.source, path=f"InstanceInfo.{key}")
    except ParseError as error:
        found.fail(error)
        return b""
