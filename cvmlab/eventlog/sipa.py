"""Windows' measured boot data: trees of SIPA events inside EV_EVENT_TAG events.

A tree is a sequence of (event id, size, payload), little-endian; containers hold further sequences. Integers
are as wide as their size field says. Ids, names and structures are those of ``wbcl.h`` of the Windows SDK.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_DEPTH: Final = 8
"""Deepest nesting; real logs nest three containers."""

MAX_NODES: Final = 65_536
"""Most events of one tree."""

_CONTAINER: Final = 0x4000_0000
_CLASS: Final = 0x000F_0000
_RESERVED: Final = 0x0FF0_F000
_CAPI_HASH: Final = {0x8003: "md5", 0x8004: "sha1", 0x800C: "sha256", 0x800D: "sha384", 0x800E: "sha512"}
_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
_WIDTHS: Final = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class SipaType:
    """What is known of one event id: name in ``wbcl.h``, payload form and meaning."""

    name: str
    payload: str
    meaning: str


@dataclass(frozen=True, slots=True)
class SipaEvent:
    """One event of a tree.

    Attributes:
        id: Event id.
        offset: Absolute offset of the event in its source, in bytes.
        payload: Its payload, without id and size.
        value: The decoded payload: int, bool, str, bytes, or a mapping for structures; None for containers.
        error: Why the payload could not be decoded as its form says; empty where it could.
        children: Events of a container.
    """

    id: int
    offset: int
    payload: bytes
    value: object
    error: str = ""
    children: tuple[SipaEvent, ...] = ()

    @property
    def name(self) -> str:
        """Name without its prefix, such as ``CODEINTEGRITY``; ``0x%08x`` where the id is unknown."""
        entry = sipa_types().get(self.id)
        if entry is None:
            return f"0x{self.id:08x}"
        return entry.name.removeprefix("SIPAEVENT_").removeprefix("SIPAERROR_")

    @property
    def container(self) -> bool:
        """True where it holds events."""
        return bool(self.id & _CONTAINER)


@cache
def sipa_types() -> Mapping[int, SipaType]:
    """Return every known event id, read once."""
    text = resources.files("cvmlab.eventlog").joinpath("sipa.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return MappingProxyType(
        {int(row["id"], 16): SipaType(row["name"], row["payload"], row["meaning"]) for row in rows}
    )


def looks_like_sipa(data: bytes) -> bool:
    """Tell whether data can be a tree: the first id is of a known class and its size fits."""
    if len(data) < 8:
        return False
    number = int.from_bytes(data[:4], "little")
    size = int.from_bytes(data[4:8], "little")
    return not number & _RESERVED and 1 <= (number & _CLASS) >> 16 <= 0xC and size <= len(data) - 8


def parse_sipa(cursor: Cursor) -> tuple[tuple[SipaEvent, ...], ParseError | None]:
    """Read a tree to the end of the cursor.

    Returns:
        The events, and the error that ended the reading early; what stood before it is kept.
    """
    budget = [MAX_NODES]
    return _sequence(cursor, 0, budget)


def _sequence(
    cursor: Cursor, depth: int, budget: list[int]
) -> tuple[tuple[SipaEvent, ...], ParseError | None]:
    found: list[SipaEvent] = []
    while cursor.remaining:
        try:
            event, error = _event(cursor, depth, budget)
        except ParseError as damage:
            return tuple(found), damage
        found.append(event)
        if error is not None:
            return tuple(found), error
    return tuple(found), None


def _event(cursor: Cursor, depth: int, budget: list[int]) -> tuple[SipaEvent, ParseError | None]:
    at = cursor.offset
    budget[0] -= 1
    if budget[0] < 0:
        raise cursor.error("EventID", f"more than {MAX_NODES} events", at=at)
    number = cursor.u32("EventID")
    size = cursor.u32("EventSize")
    inner = cursor.sub(size, "EventData")
    if number & _CONTAINER:
        if depth >= MAX_DEPTH:
            raise cursor.error("EventID", f"containers nest deeper than {MAX_DEPTH}", at=at)
        payload = b""
        children, error = _sequence(inner, depth + 1, budget)
        return SipaEvent(number, at, payload, None, "", children), error
    payload = inner.rest()
    value, problem = _value(number, payload)
    return SipaEvent(number, at, payload, value, problem), None


def _value(number: int, payload: bytes) -> tuple[object, str]:
    entry = sipa_types().get(number)
    form = entry.payload if entry is not None else "bytes"
    read = _FORMS.get(form)
    if read is None:
        return payload, ""
    try:
        return read(payload), ""
    except ParseError as error:
        return payload, error.message
    except (ValueError, OverflowError) as error:
        return payload, str(error)


def _int(payload: bytes) -> int:
    if len(payload) not in _WIDTHS:
        raise ValueError(f"an integer of {len(payload)} bytes")
    return int.from_bytes(payload, "little")


def _bool(payload: bytes) -> bool:
    return bool(_int(payload))


def _text(payload: bytes) -> str:
    if len(payload) % 2:
        raise ValueError("UTF-16 text of an odd number of bytes")
    return payload.decode("utf-16-le", "replace").rstrip("\0")


def _hash_name(number: int) -> str:
    return BANK_BY_ALGORITHM.get(number) or _CAPI_HASH.get(number) or f"0x{number:04x}"


def filetime(ticks: int) -> str:
    """Return a FILETIME (100 ns since 1601) as ISO 8601; empty where it is no time."""
    try:
        return (_EPOCH + timedelta(microseconds=ticks // 10)).isoformat(timespec="seconds")
    except OverflowError:
        return ""


def _revocation_list(payload: bytes) -> dict[str, object]:
    cursor = Cursor(payload, source="SIPAEVENT_REVOCATION_LIST_PAYLOAD")
    created = cursor.u64("CreationTime")
    size = cursor.u32("DigestLength")
    algorithm = cursor.u16("HashAlgID")
    return {
        "created": filetime(created),
        "algorithm": _hash_name(algorithm),
        "digest": cursor.take(size, "Digest").hex(),
    }


def _si_policy(payload: bytes) -> dict[str, object]:
    cursor = Cursor(payload, source="SIPAEVENT_SI_POLICY_PAYLOAD")
    parts = [cursor.u16("PolicyVersion") for _ in range(4)]
    name_size = cursor.u16("PolicyNameLength")
    algorithm = cursor.u16("HashAlgID")
    size = cursor.u32("DigestLength")
    name = _text(cursor.take(name_size, "PolicyName"))
    return {
        "version": ".".join(str(part) for part in reversed(parts)),
        "name": name,
        "algorithm": _hash_name(algorithm),
        "digest": cursor.take(size, "Digest").hex(),
    }


def _idk(payload: bytes) -> dict[str, object]:
    cursor = Cursor(payload, source="SIPAEVENT_VSM_IDK_INFO_PAYLOAD")
    algorithm = cursor.u32("KeyAlgID")
    bits = cursor.u32("KeyBitLength")
    exponent_size = cursor.u32("PublicExpLengthBytes")
    modulus_size = cursor.u32("ModulusSizeBytes")
    exponent = cursor.take(exponent_size, "PublicExponent")
    modulus = cursor.take(modulus_size, "Modulus")
    return {
        "algorithm": algorithm,
        "bits": bits,
        "exponent": int.from_bytes(exponent[:8], "big"),
        "modulus": modulus.hex(),
    }


def _sbcp(payload: bytes) -> dict[str, object]:
    cursor = Cursor(payload, source="SIPAEVENT_SBCP_INFO_PAYLOAD_V1")
    version = cursor.u32("PayloadVersion")
    cursor.u32("VarDataOffset")
    algorithm = cursor.u16("HashAlgID")
    size = cursor.u16("DigestLength")
    options = cursor.u32("Options")
    signers = cursor.u32("SignersCount")
    return {
        "version": version,
        "options": options,
        "signers": signers,
        "algorithm": _hash_name(algorithm),
        "digest": cursor.take(size, "Digest").hex(),
    }


def _si_policy_signer(payload: bytes) -> dict[str, object]:
    """Read the counts; how the names behind them are parted is not published, so they stay as they are."""
    cursor = Cursor(payload, source="SIPAEVENT_SI_POLICY_SIGNER_PAYLOAD")
    return {
        "root": cursor.u32("RootID"),
        "certificates_size": cursor.u32("CertificatesLength"),
        "certificates": cursor.u16("CertificatesCount"),
        "policy_name_size": cursor.u16("PolicyNameLength"),
        "usages_size": cursor.u16("EKUsLength"),
        "usages": cursor.u16("EKUsCount"),
        "data": cursor.rest().hex(),
    }


def _checksum(payload: bytes) -> dict[str, object]:
    cursor = Cursor(payload, source="SIPAEVENT_REFS_ROLLBACK_PROTECTION_USER_PAYLOAD_HASH_DATA")
    return {"type": cursor.u16("ChecksumType"), "checksum": cursor.rest().hex()}


def _ksr_signature(payload: bytes) -> dict[str, object]:
    cursor = Cursor(payload, source="SIPAEVENT_KSR_SIGNATURE_PAYLOAD")
    algorithm = cursor.u32("SignAlgID")
    size = cursor.u32("SignatureLength")
    return {"algorithm": algorithm, "signature": cursor.take(size, "Signature").hex()}


_FORMS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "int": _int,
    "bool": _bool,
    "utf16": _text,
    "revocation-list": _revocation_list,
    "si-policy": _si_policy,
    "idk": _idk,
    "sbcp": _sbcp,
    "si-policy-signer": _si_policy_signer,
    "checksum": _checksum,
    "ksr-signature": _ksr_signature,
}


def walk(events: tuple[SipaEvent, ...]) -> Iterator[SipaEvent]:
    """Yield every event of a tree, containers before what they hold."""
    for event in events:
        yield event
        yield from walk(event.children)


LOADED_MODULE: Final = 0x4001_0003
TRUST_BOUNDARY: Final = 0x4001_0001
ELAM: Final = 0x4001_0002


@dataclass(frozen=True, slots=True)
class Module:
    """One boot module that Windows loaded (SIPAEVENT_LOADEDMODULE_AGGREGATION); empty where not stated.

    Attributes:
        path: Path as logged.
        size: Image size in bytes; -1 where not stated.
        algorithm: Hash algorithm of `authenticode`.
        authenticode: Authenticode hash, hex.
        issuer: Issuer of the signer's certificate.
        publisher: Subject of the signer's certificate.
        serial: Serial number of that certificate, hex.
        thumbprint: Its SHA-1 thumbprint, hex.
        validated: True where the signature was validated, False where not, None where not stated.
        svn: Security version; -1 where not stated.
        original_name: Original file name.
    """

    path: str = ""
    size: int = -1
    algorithm: str = ""
    authenticode: str = ""
    issuer: str = ""
    publisher: str = ""
    serial: str = ""
    thumbprint: str = ""
    validated: bool | None = None
    svn: int = -1
    original_name: str = ""


def modules(events: tuple[SipaEvent, ...]) -> tuple[Module, ...]:
    """Return the modules of a tree, in load order."""
    return tuple(_module(event) for event in walk(events) if event.id == LOADED_MODULE)


def _module(event: SipaEvent) -> Module:
    values = {child.name: child.value for child in event.children if not child.error}

    def text(name: str) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else value.hex() if isinstance(value, bytes) else ""

    def number(name: str) -> int:
        value = values.get(name)
        return value if isinstance(value, int) else -1

    algorithm = values.get("HASHALGORITHMID")
    validated = values.get("IMAGEVALIDATED")
    return Module(
        path=text("FILEPATH"),
        size=number("IMAGESIZE"),
        algorithm=_hash_name(algorithm) if isinstance(algorithm, int) else "",
        authenticode=text("AUTHENTICODEHASH"),
        issuer=text("AUTHORITYISSUER"),
        publisher=text("AUTHORITYPUBLISHER"),
        serial=text("AUTHORITYSERIAL"),
        thumbprint=text("AUTHORITYSHA1THUMBPRINT"),
        validated=validated if isinstance(validated, bool) else None,
        svn=number("MODULE_SVN"),
        original_name=text("MODULE_ORIGINAL_FILENAME"),
    )


def settings(events: tuple[SipaEvent, ...]) -> tuple[tuple[str, object], ...]:
    """Return (name, value) of every scalar outside modules, in order; a name may come more than once."""
    found: list[tuple[str, object]] = []

    def gather(items: tuple[SipaEvent, ...]) -> None:
        for event in items:
            if event.id == LOADED_MODULE:
                continue
            if event.container:
                gather(event.children)
            elif isinstance(event.value, bool | int | str | dict):
                found.append((event.name, event.value))

    gather(events)
    return tuple(found)
