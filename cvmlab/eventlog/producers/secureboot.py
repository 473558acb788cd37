"""Secure Boot variables and the authorities that let images run (PCR 7).

Source: TCG PC Client Platform Firmware Profile 1.06, sections 3.3.4.8 and 10.2.6; UEFI 2.10, section 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.eventlog import types
from cvmlab.eventlog.model import Invalid, Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.wording import MAX_ITEMS, bounded_name, one_line, plural
from cvmlab.uefi.certificates import display_name, read_certificate
from cvmlab.uefi.guids import EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE
from cvmlab.uefi.siglist import (
    NO_OWNER,
    Signature,
    parse_signature_data,
    parse_signature_lists_tolerant,
)
from cvmlab.uefi.text import short_hex
from cvmlab.uefi.variables import UefiVariable, parse_variable
from cvmlab.uefi.wellknown import impersonates, known_key, revision

if TYPE_CHECKING:
    import uuid

    from cvmlab.errors import ParseError
    from cvmlab.uefi.certificates import CertificateInfo
    from cvmlab.uefi.siglist import SignatureList

_SIGNATURE_KINDS: Final[dict[tuple[uuid.UUID, str], str]] = {
    (EFI_GLOBAL_VARIABLE, "PK"): "platform-key",
    (EFI_GLOBAL_VARIABLE, "KEK"): "key-exchange-keys",
    (EFI_IMAGE_SECURITY_DATABASE, "db"): "signature-database",
    (EFI_IMAGE_SECURITY_DATABASE, "dbx"): "revocation-list",
    (EFI_IMAGE_SECURITY_DATABASE, "dbt"): "secure-boot-variable",
    (EFI_IMAGE_SECURITY_DATABASE, "dbr"): "secure-boot-variable",
}
# UEFI 2.10, section 3.3, table 3.1: the mode variables, one byte each
_MODE_VARIABLES: Final = frozenset({"SetupMode", "AuditMode", "DeployedMode", "VendorKeys"})
_SWITCH: Final = {b"\0": False, b"\1": True}


@decoder("firmware", types.EV_EFI_VARIABLE_DRIVER_CONFIG, kind="driver-config-variable", relation="data")
def _driver_config(event: EventData) -> Payload:
    variable = parse_variable(event.cursor())
    kind = _SIGNATURE_KINDS.get((variable.guid, variable.name))
    if kind is not None:
        return signature_payload(event, variable, kind)
    if variable.guid == EFI_GLOBAL_VARIABLE and variable.name == "SecureBoot":
        return _switch(event, variable, "secure-boot", "Secure Boot is")
    if variable.guid == EFI_GLOBAL_VARIABLE and variable.name in _MODE_VARIABLES:
        return _switch(event, variable, "secure-boot-variable", f"{variable.name} is")
    summary = one_line(f"{variable.name}: {plural(len(variable.data), 'byte')}")
    fields = variable_fields(variable)
    return _payload(event, variable, "driver-config-variable", summary, variable, fields)


def _payload(
    event: EventData,
    variable: UefiVariable,
    kind: str,
    summary: str,
    value: object,
    fields: dict[str, object],
) -> Payload:
    # PFP 1.06: the digest is of UEFI_VARIABLE_DATA; one TPM 1.2 firmware hashed VariableData alone
    candidates = (("data", event.data), ("variable data only", variable.data))
    name = bounded_name(variable.name)
    return Payload("firmware", kind, name, summary, value, fields, candidates, "data")


def variable_fields(variable: UefiVariable) -> dict[str, object]:
    """Return the fields that every variable has; short contents as hex."""
    fields: dict[str, object] = {
        "variable": bounded_name(variable.name),
        "guid": str(variable.guid),
        "size": len(variable.data),
    }
    if len(variable.data) <= 256:
        fields["value"] = variable.data.hex()
    return fields


def _switch(event: EventData, variable: UefiVariable, kind: str, subject: str) -> Payload:
    fields = variable_fields(variable)
    state = _SWITCH.get(variable.data)
    if state is None:
        summary = f"{subject} neither 0 nor 1 but {short_hex(variable.data, 32) or 'empty'}"
    else:
        fields["enabled"] = state
        summary = f"{subject} {'on' if state else 'off'}"
    return _payload(event, variable, kind, one_line(summary), variable, fields)


def signature_payload(event: EventData, variable: UefiVariable, kind: str) -> Payload:
    """Return the payload of a variable that holds signature lists; what stands before damage is kept."""
    cursor = event.cursor(variable.data, variable.data_offset - event.base)
    lists, error = parse_signature_lists_tolerant(cursor)
    fields = {
        "variable": variable.name,
        "guid": str(variable.guid),
        "size": len(variable.data),
        **signature_fields(lists),
    }
    value: object = lists
    summary = f"{variable.name}: {describe_signatures(lists)}"
    if kind == "revocation-list":
        fields["revision"] = newest = revision(lists)
        summary += f", revision {newest}" if newest is not None else ""
    if error is not None:
        value = Invalid(event.data, error, lists)
        fields["error"] = error.message
        fields["error_offset"] = error.offset
        summary = f"{summary}; then damaged: {error.message}"
    return _payload(event, variable, kind, one_line(summary), value, fields)


def signature_fields(lists: tuple[SignatureList, ...]) -> dict[str, object]:
    """Return counts by type and the certificates, at most `MAX_ITEMS`; the entries are in the value."""
    counts: dict[str, int] = {}
    certificates: list[dict[str, object]] = []
    for one in lists:
        if one.type_name in counts or len(counts) < MAX_ITEMS:
            counts[one.type_name] = counts.get(one.type_name, 0) + len(one.signatures)
        if one.type_name == "X509":
            room = MAX_ITEMS - len(certificates)
            certificates += [certificate_fields(signature) for signature in one.signatures[:room]]
    return {
        "entries": sum(len(one.signatures) for one in lists),
        "types": counts,
        "certificates": certificates,
    }


def describe_signatures(lists: tuple[SignatureList, ...]) -> str:
    """Return such as ``2 certificates (A, B), 77 hashes``."""
    names: list[str] = []
    certificates = others = 0
    for one in lists:
        if one.type_name == "X509":
            certificates += len(one.signatures)
            names += [_certificate_name(signature) for signature in one.signatures[: max(0, 8 - len(names))]]
        else:
            others += len(one.signatures)
    parts = []
    if certificates:
        more = ", …" if certificates > len(names) else ""
        parts.append(f"{plural(certificates, 'certificate')} ({', '.join(names)}{more})")
    if others:
        parts.append("1 hash" if others == 1 else f"{others} hashes")
    return ", ".join(parts) or "empty"


def _certificate_name(signature: Signature) -> str:
    certificate = signature.certificate
    return shown_name(certificate) if certificate else f"unreadable certificate {signature.sha256[:12]}"


def shown_name(certificate: CertificateInfo) -> str:
    """Return a certificate's name, with a word of warning where a well-known key has that name."""
    name = display_name(certificate)
    if impersonates(certificate) is None:
        return name
    return f"{name} (not the well-known key of that name: {certificate.sha256[:12]})"


def certificate_fields(signature: Signature) -> dict[str, object]:
    """Return what a certificate entry says, with its owner."""
    return {"owner": str(signature.owner), **der_fields(signature.data)}


def der_fields(der: bytes) -> dict[str, object]:
    """Return what a DER certificate says; ``readable`` is False where it says nothing."""
    certificate = read_certificate(der)
    if certificate is None:
        return {"readable": False, "size": len(der)}
    return {"readable": True, **certificate_statements(certificate)}


def certificate_statements(certificate: CertificateInfo) -> dict[str, object]:
    """Return what a certificate says of itself."""
    begin, end = certificate.not_before, certificate.not_after
    return {
        "common_name": bounded_name(certificate.common_name),
        "subject": bounded_name(certificate.subject),
        "issuer": bounded_name(certificate.issuer),
        "serial": certificate.serial_hex,
        "not_before": begin.isoformat() if begin is not None else None,
        "not_after": end.isoformat() if end is not None else None,
        "public_key": certificate.public_key,
        "sha256": certificate.sha256,
        "known": key.text if (key := known_key(certificate)) is not None else None,
    }


# PFP 1.06, section 3.3.4.8: EFI_SIGNATURE_DATA of the entry that validated an image
@decoder("firmware", types.EV_EFI_VARIABLE_AUTHORITY, kind="authority", relation="data")
def _authority(event: EventData) -> Payload:
    return authority_payload(event, parse_variable(event.cursor()), "firmware")


def authority_payload(event: EventData, variable: UefiVariable, producer: str) -> Payload:
    """Return the payload of an entry that vouched for an image: a certificate, or a hash of the image."""
    name = bounded_name(variable.name)
    fields: dict[str, object] = {
        "variable": name,
        "guid": str(variable.guid),
        "size": len(variable.data),
    }
    # Some versions of shim leave the owner out.
    bare = read_certificate(variable.data)
    value: object
    if bare is not None:
        fields["certificate"] = der_fields(variable.data)
        value, what = Signature(NO_OWNER, "X509", variable.data, variable.data_offset), shown_name(bare)
    else:
        offset = variable.data_offset - event.base
        signature = parse_signature_data(event.cursor(variable.data, offset))
        value = signature
        fields["type"] = signature.type_name
        if signature.type_name == "X509":
            fields["certificate"] = certificate_fields(signature)
            what = _certificate_name(signature)
        else:
            fields["owner"] = str(signature.owner)
            fields["entry"] = short_hex(signature.data)
            what = f"{signature.type_name} {short_hex(signature.data, 32)}"
    summary = one_line(f"allowed by {name}: {what}")
    candidates = authority_candidates(event)
    return Payload(producer, "authority", name, summary, value, fields, candidates, "data")


def authority_candidates(event: EventData) -> tuple[tuple[str, bytes], ...]:
    """Return what the digest of EV_EFI_VARIABLE_AUTHORITY may be of.

    Some versions of shim log one byte more than they measure (google/go-attestation issue 157).
    """
    return (("data", event.data), ("data without its last byte, as some shims measure", event.data[:-1]))


def damaged_authority(
    event: EventData, variable: UefiVariable, kind: str, error: ParseError, producer: str
) -> Payload:
    """Return the payload of an authority variable whose name can be read and whose contents cannot."""
    fields = {**variable_fields(variable), "error": error.message, "error_offset": error.offset}
    summary = one_line(f"{variable.name} cannot be read: {error.message}")
    value = Invalid(event.data, error)
    name = bounded_name(variable.name)
    return Payload(producer, kind, name, summary, value, fields, authority_candidates(event), "data")
