"""Secure Boot's variables: db and dbx with other contents, Secure Boot on or off (PCR 7)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cvmlab.artifacts.known import variable_data
from cvmlab.binary import Cursor
from cvmlab.errors import BaselineError, EvidenceError, ParseError
from cvmlab.uefi.siglist import parse_signature_lists
from cvmlab.uefi.variables import parse_variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.explain.predict.plan import Place, Plan
    from cvmlab.uefi.siglist import SignatureList

# UEFI 2.10, sections 8.2.2 and 32.2.4: WIN_CERTIFICATE_UEFI_GUID with EFI_CERT_TYPE_PKCS7_GUID
_CERT_TYPE_PKCS7: Final = uuid.UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_WIN_CERT_TYPE_EFI_GUID: Final = 0x0EF1
_TIME_SIZE: Final = 16
CERT_X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
NO_OWNER: Final = uuid.UUID(int=0)
# shim, include/sbat.h; since version 15.7 it goes back to this level where Secure Boot is off
_FIRST_LEVEL: Final = b"sbat,1,2021030218\n"
_RESETS_SINCE: Final = "2022111500"


def change_revocations(plan: Plan, data: bytes, source: str) -> None:
    """Another dbx: signature lists are its new contents, an authenticated update is appended to it.

    Raises:
        BaselineError: The baseline has no event of dbx.
        EvidenceError: The file is neither.
    """
    _database(plan, "revocation-list", "dbx", data, source)


def add_to_database(plan: Plan, data: bytes, source: str, owner: uuid.UUID = NO_OWNER) -> None:
    """A further certificate in db: a certificate, signature lists, or an authenticated update, appended.

    Raises:
        BaselineError: The baseline has no event of db.
        EvidenceError: The file is none of these.
    """
    lists = certificate_list(data, owner)
    if lists is not None:
        _append(plan, "signature-database", "db", lists, source)
        return
    update = authenticated_update(data)
    body = update if update is not None else data
    _lists(body, source)
    _append(plan, "signature-database", "db", body, source)


def _database(plan: Plan, kind: str, name: str, data: bytes, source: str) -> None:
    update = authenticated_update(data)
    if update is not None:
        _lists(update, source)
        _append(plan, kind, name, update, source)
        return
    _lists(data, source)
    for place in _places(plan, kind, name):
        _write(plan, place, name, lambda _: data, f"{name} with other contents")


def _append(plan: Plan, kind: str, name: str, data: bytes, source: str) -> None:
    for place in _places(plan, kind, name):
        why = f"{name} with more entries"
        _write(plan, place, name, lambda old: old + _new_entries(old, data, source), why)


def _places(plan: Plan, kind: str, name: str) -> list[Place]:
    plan.only_values(7, f"{name} changes")
    places = [p for p in plan.of_kind(kind) if p.slot.name == name]
    if not places and not any(key[1] == 7 for key in plan.unknown):
        raise BaselineError(f"{plan.baseline.name}: no event is of {name}")
    return places


def _write(plan: Plan, place: Place, name: str, contents: Callable[[bytes], bytes], why: str) -> None:
    """Give a variable other contents."""

    def edit(data: bytes, _: object) -> bytes | None:
        try:
            variable = parse_variable(Cursor(data, source=f"event of {name}"))
        except ParseError:
            return None
        if variable_data(variable.name, variable.guid, variable.data) + variable.trailing != data:
            return None
        return variable_data(variable.name, variable.guid, contents(variable.data)) + variable.trailing

    plan.rewrite(place, edit, why, needed=True)


def authenticated_update(data: bytes) -> bytes | None:
    """Return what follows EFI_VARIABLE_AUTHENTICATION_2; None where the data do not begin with it.

    The signature is the firmware's to check: it refuses an update that is not signed by a key in KEK.
    """
    cursor = Cursor(data, source="update")
    try:
        cursor.take(_TIME_SIZE, "TimeStamp")
        length = cursor.u32("dwLength")
        cursor.u16("wRevision")
        if cursor.u16("wCertificateType") != _WIN_CERT_TYPE_EFI_GUID or length < 24:
            return None
        if cursor.guid("CertType") != _CERT_TYPE_PKCS7:
            return None
        cursor.take(length - 24, "CertData")
        return cursor.rest()
    except ParseError:
        return None


def certificate_list(data: bytes, owner: uuid.UUID) -> bytes | None:
    """Return a certificate (DER or PEM) as a signature list; None where the data are none."""
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            der = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        elif data[:1] == b"\x30":
            der = x509.load_der_x509_certificate(data).public_bytes(Encoding.DER)
        else:
            return None
    except ValueError:
        return None
    return _written(CERT_X509, b"", len(der) + 16, owner.bytes_le + der)


def _written(kind: uuid.UUID, header: bytes, size: int, entries: bytes) -> bytes:
    """Write EFI_SIGNATURE_LIST (UEFI 2.10, section 32.4.1)."""
    numbers = (28 + len(header) + len(entries), len(header), size)
    return kind.bytes_le + b"".join(n.to_bytes(4, "little") for n in numbers) + header + entries


def _lists(data: bytes, source: str) -> tuple[SignatureList, ...]:
    try:
        lists = parse_signature_lists(Cursor(data, source=source))
    except ParseError as error:
        raise EvidenceError(f"{source}: neither signature lists nor an update of them: {error}") from error
    if not lists:
        raise EvidenceError(f"{source}: holds no signature list")
    return lists


def _new_entries(old: bytes, more: bytes, source: str) -> bytes:
    """What an append adds: the lists without the entries that are there already (UEFI 2.10, 32.3.1)."""
    held = {
        (one.type_guid, entry.owner, entry.data)
        for one in _lists(old, "the old contents")
        for entry in one.signatures
    } if old else set()  # fmt: skip
    made = b""
    for one in _lists(more, source):
        fresh = [e for e in one.signatures if (one.type_guid, e.owner, e.data) not in held]
        if fresh:
            size = 16 + len(fresh[0].data)
            entries = b"".join(entry.owner.bytes_le + entry.data for entry in fresh)
            made += _written(one.type_guid, one.header, size, entries)
    return made


def switch_secure_boot(plan: Plan, *, on: bool) -> None:
    """Secure Boot switched on or off in the firmware.

    Raises:
        BaselineError: The baseline has no event of the state of Secure Boot.
    """
    plan.only_values(7, "Secure Boot is switched")
    places = plan.of_kind("secure-boot")
    if not places and not any(key[1] == 7 for key in plan.unknown):
        raise BaselineError(f"{plan.baseline.name}: no event is of the state of Secure Boot")
    why = f"Secure Boot {'on' if on else 'off'}"
    changed = False
    for place in places:
        before = place.after
        _write(plan, place, "SecureBoot", lambda _: b"\1" if on else b"\0", why)
        changed = changed or place.after != before
    if not changed:
        plan.note(f"Secure Boot is {'on' if on else 'off'} already")
        return
    if on:
        for place in places:
            plan.doubt(
                place, "with Secure Boot on the keys that allow each image are measured, which are not known"
            )
        for place in plan.of_kind("application")[:1]:
            plan.doubt(
                place, "with Secure Boot on shim measures the images that it allows, which are not known"
            )
        return
    for place in plan.of_kind("authority"):
        plan.remove(place, f"{why}: nothing is checked, so no key is measured")
    _reset_level(plan, why)
    loader = next((p.slot.order for p in plan.of_kind("grub-command")), None)
    for place in plan.of_kind("application"):
        if loader is not None and place.slot.order > loader and not place.slot.name:
            plan.remove(place, f"{why}: GRUB starts the kernel without asking shim")


def _reset_level(plan: Plan, why: str) -> None:
    for place in plan.of_kind("sbat-level"):
        payload = plan.payload_of(place, place.slot)
        date = str(payload.fields.get("date", "")) if payload is not None else ""
        if not date or date < _RESETS_SINCE:
            plan.doubt(
                place, "whether shim resets its SBAT level with Secure Boot off depends on its version"
            )
        else:
            _write(plan, place, "SbatLevel", lambda _: _FIRST_LEVEL, f"{why}: shim resets its level")
