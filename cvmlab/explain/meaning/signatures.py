"""Secure Boot's keys and revocations: which came and went, and whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.baseline.difference import entry_name
from cvmlab.explain.meaning.model import Meaning
from cvmlab.uefi.siglist import SignatureList
from cvmlab.uefi.wellknown import KnownKey, impersonates, known_key, known_keys

if TYPE_CHECKING:
    from cvmlab.baseline.comparison import DiffRow
    from cvmlab.eventlog.model import Payload
    from cvmlab.uefi.siglist import Signature

MAX_NAMED: Final = 8
"""Most entries named; the counts are of all."""
# learn.microsoft.com, "Windows Secure Boot certificate expiration and CA updates": the 2011 certificates
# expire from June 2026 on, and these follow them
_ROLL_OUT: Final = (
    "this is part of Microsoft's roll-out of its 2023 Secure Boot certificates, by fingerprint; with it "
    "belong a new KEK, new certificates in db, later a boot loader that a new key vouches for, and at its "
    "end the 2011 certificate in dbx"
)


def database(row: DiffRow) -> Meaning:
    """Say which certificates and hashes came into and went out of PK, KEK, db or a MOK list."""
    old, new = _entries(row.payload_before), _entries(row.payload_after)
    if new is None or (old is None and row.change != "added"):
        return Meaning()
    before = old or {}
    added = [entry for key, entry in new.items() if key not in before]
    removed = [entry for key, entry in before.items() if key not in new]
    where = row.name or "the database"
    says = _named(added, f"was added to {where}") + _named(removed, f"was removed from {where}")
    if not new:
        return Meaning((*says, f"{where} is empty now"), (), (f"{where} was emptied",))
    update: list[str] = []
    attack: list[str] = []
    known = [key for entry in added if (key := known_key(entry.certificate)) is not None]
    for entry in added:
        verdict = _stranger(entry, where)
        if verdict:
            attack.append(verdict)
    if known and not attack:
        names = ", ".join(dict.fromkeys(key.name for key in known))
        update.append(f"what was added to {where} is known by its fingerprint ({names})")
    if any(_of_roll_out(key) for key in known):
        says.append(_ROLL_OUT)
    present = {key.name for entry in new.values() if (key := known_key(entry.certificate)) is not None}
    if removed and not added and any(_retired(entry, present) for entry in removed):
        update.append("the certificate's successor of 2023 is there")
    return Meaning(tuple(says), tuple(update[:MAX_NAMED]), tuple(attack[:MAX_NAMED]))


def _stranger(entry: Signature, where: str) -> str:
    """Why an entry is nobody's known key; empty for a known one."""
    certificate = entry.certificate
    if certificate is None:
        if entry.type_name == "X509":
            return f"{where} trusts a certificate that cannot be read"
        return f"{where} allows a single image by its hash"
    if known_key(certificate) is not None:
        return ""
    other = impersonates(certificate)
    if other is not None:
        return f"a certificate bears the name of {other.name} and is not that key"
    return f"{certificate.common_name or certificate.subject} is no key that is widely known"


def _of_roll_out(key: KnownKey) -> bool:
    return key.vendor == "Microsoft" and key.name.endswith("2023")


def _retired(entry: Signature, present: set[str]) -> bool:
    """True for a certificate of Microsoft's of 2011 whose successors are there."""
    key = known_key(entry.certificate)
    if key is None or key.vendor != "Microsoft" or "2011" not in key.name:
        return False
    successors = {k.name for k in known_keys().values() if _of_roll_out(k)}
    return bool(successors & present)


def revocations(row: DiffRow) -> Meaning:
    """Say how many entries came and went, and from which published revision to which."""
    old, new = _entries(row.payload_before), _entries(row.payload_after)
    if new is None or (old is None and row.change != "added"):
        return Meaning()
    before = old or {}
    added = [entry for key, entry in new.items() if key not in before]
    removed = [entry for key, entry in before.items() if key not in new]
    was, now = _revision(row.payload_before), _revision(row.payload_after)
    entries = "entry" if len(before) == 1 else "entries"
    says = [f"{len(before)} {entries} before, {len(new)} now: {len(added)} added, {len(removed)} removed"]
    says += _named([e for e in added if e.type_name == "X509"], "is revoked now")
    says += _named([e for e in removed if e.type_name == "X509"], "is no longer revoked")
    if was or now:
        says.append(f"newest published revision: {was or 'none known'} before, {now or 'none known'} now")
    if any(k.name.endswith("2011") for e in added if (k := known_key(e.certificate)) is not None):
        says.append(_ROLL_OUT)
    update: list[str] = []
    attack: list[str] = []
    newer = bool(now and now > (was or ""))
    if newer:
        update.append(f"the list is of a newer published revision ({was or 'none known'} → {now})")
    if added and not removed:
        update.append("no entry of the old list is missing")
    if removed:
        attack.append(f"{len(removed)} of {len(before)} revocations are missing")
    if was and (not now or now < was):
        attack.append(f"the newest published revision went back ({was} → {now or 'none known'})")
    return Meaning(tuple(says), tuple(update), tuple(attack))


def authority(row: DiffRow) -> Meaning:
    """Say which key vouched for an image, before and now."""
    old, new = _vouching(row.payload_before), _vouching(row.payload_after)
    if row.change == "removed":
        return Meaning((f"no longer vouched: {row.before}",))
    if new is None:
        return Meaning()
    name, vendor, known = new
    if old is None:
        says: tuple[str, ...] = (f"{name} vouched for a boot component",)
        return Meaning(says, (), () if known else (f"{name} is no key that is widely known",))
    says = (f"{old[0]} vouched before, {name} now",)
    if known and vendor == old[1]:
        return Meaning(says, (f"both keys are {vendor}'s, known by fingerprint",))
    if known:
        moved = f"the key is {vendor}'s, and before it was {old[1] or 'one that is not widely known'}"
        return Meaning(says, (), (moved,))
    return Meaning(says, (), (f"{name} is no key that is widely known",))


def levels(row: DiffRow) -> Meaning:
    """Say which component's lowest generation was raised or lowered."""
    old = _components(row.payload_before)
    new = _components(row.payload_after)
    if new is None or old is None:
        return Meaning()
    says: list[str] = []
    lowered: list[str] = []
    raised: list[str] = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        says.append(f"{name}: generation {was if was is not None else 'none'} before, {now or 'none'} now")
        (lowered if now is None or (was is not None and now < was) else raised).append(name)
    dates = [_date(payload) for payload in (row.payload_before, row.payload_after)]
    if dates[0] != dates[1]:
        says.append(f"level of {dates[0] or 'no date'} before, {dates[1] or 'no date'} now")
    update = (f"the lowest generation of {', '.join(raised[:MAX_NAMED])} was raised",) if raised else ()
    attack = (f"the lowest generation of {', '.join(lowered[:MAX_NAMED])} was lowered",) if lowered else ()
    if not update and not attack and all(dates):
        update = ("the level is newer",) if str(dates[1]) > str(dates[0]) else ()
        attack = ("the level is older",) if str(dates[1]) < str(dates[0]) else ()
    return Meaning(tuple(says), update, attack)


def _entries(payload: Payload | None) -> dict[tuple[str, str], Signature] | None:
    if payload is None:
        return None
    value = payload.value
    if not (isinstance(value, tuple) and all(isinstance(item, SignatureList) for item in value)):
        return None
    return {(one.type_name, entry.sha256): entry for one in value for entry in one.signatures}


def _named(entries: list[Signature], what: str) -> list[str]:
    says = [f"{entry_name(entry)} {what}" for entry in entries if entry.type_name == "X509"][:MAX_NAMED]
    hashes = sum(entry.type_name != "X509" for entry in entries)
    if hashes:
        says.append(f"{'one hash' if hashes == 1 else f'{hashes} hashes'}: {what}")
    return says


def _revision(payload: Payload | None) -> str:
    value = payload.fields.get("revision") if payload is not None else None
    return value if isinstance(value, str) else ""


def _vouching(payload: Payload | None) -> tuple[str, str, bool] | None:
    """Name, vendor and whether it is known, of the certificate that vouched for an image."""
    certificate = payload.fields.get("certificate") if payload is not None else None
    if not isinstance(certificate, dict):
        return None
    key = known_keys().get(str(certificate.get("sha256")))
    name = str(certificate.get("common_name") or certificate.get("subject") or "a certificate without a name")
    return name, key.vendor if key is not None else "", key is not None


def _components(payload: Payload | None) -> dict[str, int] | None:
    value = payload.fields.get("components") if payload is not None else None
    if not isinstance(value, dict):
        return None
    return {str(name): number for name, number in value.items() if isinstance(number, int)}


def _date(payload: Payload | None) -> str:
    value = payload.fields.get("date") if payload is not None else None
    return str(value) if value else ""
