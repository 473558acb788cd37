"""Who vouches for a new image: the authority events of register 7 follow its signature."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from cvmlab.artifacts.known import variable_data
from cvmlab.uefi.siglist import Signature, SignatureList

if TYPE_CHECKING:
    from cvmlab.eventlog.model import Payload
    from cvmlab.explain.predict.given import Given
    from cvmlab.explain.predict.plan import Place, Plan


def follow_signer(plan: Plan, image: Place, new: Given, *, loader: str) -> None:
    """Keep, change or doubt the authority event of an image.

    An authority is measured once, however many images it vouches for (PFP 1.06, section 3.3.4.8), so what
    counts is whether one that is measured already vouches for the new image.

    Args:
        plan: The baseline being changed.
        image: The place of the image in register 4.
        new: The new image.
        loader: Who checks it: ``firmware`` (against db) or ``shim``.
    """
    authorities = plan.of_kind("authority")
    if not authorities:
        return
    payloads = [(place, plan.payload_of(place, place.slot)) for place in authorities]
    if any(payload is None for _, payload in payloads):
        plan.doubt(authorities[0], "the baseline does not have the data of every authority event")
        return
    if not new.certificates and not new.signed_by:
        plan.doubt(
            authorities[0], f"{new.name} carries no valid signature: under Secure Boot it would not start"
        )
        return
    if any(payload is not None and _vouches(_certificate(payload), new) for _, payload in payloads):
        return
    own = [
        p
        for p in authorities
        if p.slot.order < image.slot.order and _is_firmwares(p) == (loader == "firmware")
    ]
    entry = _entry(plan, new) if loader == "firmware" else None
    if entry is None or not own:
        where = "db" if loader == "firmware" else "shim's lists"
        plan.doubt(
            authorities[0],
            f"{new.name} is signed by others, and the entry of {where} that allows it is not known",
        )
        return
    owner_and_certificate = entry.owner.bytes_le + entry.data

    def other(data: bytes, _: Payload) -> bytes:
        return variable_data("db", uuid.UUID(bytes_le=data[:16]), owner_and_certificate)

    plan.rewrite(own[-1], other, "another signer", needed=True)


def _is_firmwares(place: Place) -> bool:
    return place.slot.producer == "firmware" and place.slot.name == "db"


def _certificate(payload: Payload) -> bytes | None:
    value = payload.value
    return value.data if isinstance(value, Signature) and value.type_name == "X509" else None


def _vouches(certificate: bytes | None, new: Given) -> bool:
    """True where a certificate is in the image's verified chain, or issued the last of it."""
    if certificate is None:
        return False
    fingerprint = hashlib.sha256(certificate).hexdigest()
    if fingerprint in new.signed_by or any(one == certificate for one in new.certificates):
        return True
    try:
        authority = x509.load_der_x509_certificate(certificate)
        name = authority.subject.rfc4514_string()
    except ValueError:
        return False
    if name in new.signed_by:
        return True
    for one in new.certificates:
        try:
            x509.load_der_x509_certificate(one).verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return True
    return False


def _entry(plan: Plan, new: Given) -> Signature | None:
    """The entry of db, as it will be, that allows the image."""
    for place in plan.of_kind("signature-database"):
        payload = plan.payload_of(place, place.slot)
        value = payload.value if payload is not None else None
        if place.slot.name != "db" or not isinstance(value, tuple):
            continue
        for one in value:
            if isinstance(one, SignatureList) and one.type_name == "X509":
                for entry in one.signatures:
                    if _vouches(entry.data, new):
                        return entry
    return None
