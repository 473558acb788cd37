"""The TCG Canonical Event Log: its encoding in TLV, and its records by name.

Source: TCG Canonical Event Log Format, version 1.0, sections 4 and 5. A record has a number, a PCR or NV
index, digests, and content of a type that says who wrote it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE, available, digest
from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.eventlog.formats.ima_events import template_payload
from cvmlab.eventlog.formats.records import (
    NO_REGISTER,
    OTHER,
    TYPE_NUMBER,
    Gathered,
    Record,
    bank_named,
    log_of_records,
    number_of,
    opaque_payload,
    text_payload,
)
from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.wording import bounded_name, one_line
from cvmlab.findings import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvmlab.eventlog.model import EventLog

MAX_RECORDS: Final = 65_536
"""Records read from one log."""

RECNUM, PCR, NV_INDEX, DIGESTS = range(4)
CC_REGISTER: Final = 108
"""Index of a CC measurement register: not in the specification, written on Google's TDX machines."""
CONTENT: Final = {4: "cel", 5: "pcclient_std", 7: "ima_template", 8: "ima_tlv", 9: "systemd", 80: "cos"}
_CONTENT_NUMBER: Final = {name: number for number, name in CONTENT.items()}
_IMA_TLV: Final = {
    0: "path",
    1: "datahash",
    2: "datasig",
    3: "owner",
    4: "group",
    5: "mode",
    6: "timestamp",
    7: "label",
}
_MANAGEMENT: Final = {1: "cel_version", 2: "firmware_end", 80: "cel_timestamp", 81: "state_trans"}


# systemd, pcrextend.c and cryptsetup.c: of these the digest is of the text; of a volume key it is an HMAC
# with the key, of others it may be of more than the text
_SYSTEMD_TEXT: Final = frozenset({"phase", "filesystem", "machine-id", "product-id", None})


def looks_like_tlv(data: bytes) -> bool:
    """Tell whether bytes start with a record number, an index and digests as TLV."""
    at = 0
    for kinds, sizes in (
        ((RECNUM,), (1, 2, 4, 8)),
        ((PCR, NV_INDEX, CC_REGISTER), (1, 2, 4)),
        ((DIGESTS,), None),
    ):
        if len(data) < at + 5 or data[at] not in kinds:
            return False
        size = int.from_bytes(data[at + 1 : at + 5], "big")
        if (sizes is not None and size not in sizes) or size > len(data):
            return False
        at += 5 + size
    return True


def read_cel_tlv(data: bytes, source: str) -> EventLog:
    """Read a log in TLV: type (1 byte), length (4 bytes, big-endian), value.

    A record whose inside is damaged is left out with a problem, and reading goes on behind it: its fields'
    lengths say where it ends. A length past the end ends the reading.
    """
    gathered = Gathered(source)
    cursor = Cursor(data, source=source, big_endian=True)
    number = 0
    while cursor.remaining:
        at = cursor.offset
        if number >= MAX_RECORDS:
            gathered.problems.append(too_many(source, at))
            break
        number += 1
        try:
            fields = _tlv_record(cursor)
        except ParseError as error:
            gathered.problems.append(Problem.of(error))
            break
        try:
            gathered.records.append(_record(at, *fields))
        except ParseError as error:
            gathered.refused(error)
    return log_of_records(gathered, "cel-tlv", len(data))


def too_many(source: str, offset: int, limit: int = MAX_RECORDS) -> Problem:
    """Return the row of a log that has more records than are read."""
    message = f"records: more than the limit: need {limit}, have more"
    return Problem(source, offset, "records", message, need=limit, have=limit + 1)


def _tlv(cursor: Cursor, field: str) -> tuple[int, Cursor]:
    kind = cursor.u8(f"{field}.type")
    size = cursor.u32(f"{field}.length")
    return kind, cursor.sub(size, f"{field}.value")


def _tlv_record(cursor: Cursor) -> tuple[tuple[int, Cursor], Cursor, tuple[int, Cursor]]:
    """Read the four fields of one record: their frames only."""
    at = cursor.offset
    kind, _ = _tlv(cursor, "recnum")
    if kind != RECNUM:
        raise cursor.error("recnum", f"type {kind} where a record number must be", at=at)
    at = cursor.offset
    index = _tlv(cursor, "index")
    if index[0] not in (PCR, NV_INDEX, CC_REGISTER):
        raise cursor.error("index", f"type {index[0]} where a register or NV index must be", at=at)
    at = cursor.offset
    kind, digests = _tlv(cursor, "digests")
    if kind != DIGESTS:
        raise cursor.error("digests", f"type {kind} where digests must be", at=at)
    return index, digests, _tlv(cursor, "content")


def _record(at: int, index: tuple[int, Cursor], digests: Cursor, content: tuple[int, Cursor]) -> Record:
    raw = index[1].rest()
    named = index[0] in (PCR, CC_REGISTER) and 0 < len(raw) <= 4
    register = int.from_bytes(raw, "big") if named else NO_REGISTER
    found: dict[str, bytes] = {}
    while digests.remaining:
        here = digests.offset
        algorithm, value = _tlv(digests, "digest")
        bank = BANK_BY_ALGORITHM.get(algorithm, f"alg_0x{algorithm:04x}")
        data = value.rest()
        if len(data) != DIGEST_SIZE.get(bank, len(data)):
            raise ParseError(digests.source, here, "digest", DIGEST_SIZE[bank], len(data), "wrong size")
        found.setdefault(bank, data)
    kind, body = content
    record = _content(at, register, found, CONTENT.get(kind, f"content {kind}"), _fields(body), body)
    return replace(record, set="cc") if index[0] == CC_REGISTER else record


def _fields(body: Cursor) -> tuple[int, dict[int, bytes], bytes]:
    """Return the offset of content, its fields as TLV where they are, and its bytes."""
    at, raw = body.offset, body.rest()
    fields: dict[int, bytes] = {}
    inner = Cursor(raw, source=body.source, base=at, big_endian=True)
    try:
        while inner.remaining:
            kind, value = _tlv(inner, "content")
            fields.setdefault(kind, value.rest())
    except ParseError:
        return at, {}, raw
    return at, fields, raw


def _content(
    at: int,
    register: int,
    digests: Mapping[str, bytes],
    kind: str,
    parts: tuple[int, dict[int, bytes], bytes],
    body: Cursor,
) -> Record:
    offset, fields, raw = parts
    if kind == "pcclient_std":
        if 0 not in fields or 1 not in fields or len(fields[0]) != 4:
            raise ParseError(body.source, offset, "pcclient_std", reason="need an event type and event data")
        return Record(at, register, digests, fields[1], int.from_bytes(fields[0], "big"))
    if kind == "ima_template" and 0 in fields and 1 in fields:
        name = fields[0].rstrip(b"\0").decode("latin-1")
        payload = template_payload(name, fields[1], source=body.source, offset=offset)
        return Record(at, register, digests, fields[1], OTHER, f"IMA {name}"[:64], payload)
    if kind == "ima_tlv":
        return Record(at, register, digests, raw, OTHER, "IMA TLV", _ima_tlv(fields, raw))
    if kind == "systemd":
        return Record(
            at, register, digests, raw, OTHER, "systemd", text_payload("systemd", "boot-phase", "", raw)
        )
    if kind == "cel":
        names = ", ".join(_MANAGEMENT.get(number, str(number)) for number in fields) or "management"
        return Record(at, register, digests, raw, OTHER, "CEL management", opaque_payload(raw, names))
    return Record(at, register, digests, raw, OTHER, kind, opaque_payload(raw, kind))


def _ima_tlv(fields: Mapping[int, bytes], raw: bytes) -> Payload:
    path = fields.get(0, b"").rstrip(b"\0").decode("utf-8", "backslashreplace")
    named: dict[str, object] = {
        _IMA_TLV.get(number, str(number)): path if number == 0 else value[:64].hex()
        for number, value in fields.items()
    }
    summary = one_line(f"{path} (IMA TLV)")
    return Payload(
        "linux", "runtime-file", bounded_name(path), summary, raw, named, (("content", raw),), "data"
    )


def read_cel_records(items: list[object], source: str, form: str, size: int) -> EventLog:
    """Read records that JSON gave: maps with text keys, or with the numbers of the TLV encoding.

    Args:
        items: The records.
        source: Name for messages.
        form: ``cel-json`` or ``cel-cbor``.
        size: Bytes of the input.

    Returns:
        The log. A record that is no record is left out with a problem that names its position.
    """
    gathered = Gathered(source)
    for number, item in enumerate(items):
        if number >= MAX_RECORDS:
            gathered.problems.append(too_many(source, 0))
            break
        add_named(gathered, item, number, 0)
    return log_of_records(gathered, form, size)


def add_named(gathered: Gathered, item: object, number: int, offset: int) -> None:
    """Keep one record, or the reason why it is none."""
    try:
        if not isinstance(item, dict):
            raise ParseError(gathered.source, offset, f"record {number}", reason="not a record")
        gathered.records.append(named_record(item, gathered.source, number, offset))
    except ParseError as error:
        gathered.refused(error)


def named_record(item: Mapping[object, object], source: str, number: int, offset: int = 0) -> Record:
    """Make a record of a map.

    Raises:
        ParseError: It has no index or digests, or they are malformed.
    """
    place = f"record {number}"

    def get(*keys: object) -> object:
        return next((item[key] for key in keys if key in item), None)

    # systemd numbers the RTMRs from 0, the CC profile from 1 (its 0 is MRTD)
    rtmr = get("rtmr")
    index = rtmr if rtmr is not None else get("pcr", PCR)
    if isinstance(index, bool) or not (index is None or isinstance(index, int)):
        raise ParseError(source, offset, f"{place}.pcr", reason="not a number")
    if rtmr is not None and isinstance(index, int):
        index += 1
    if index is None and get("nv_index", "nv_name", NV_INDEX) is None:
        raise ParseError(source, offset, f"{place}.pcr", reason="neither a PCR nor an NV index")
    register = index if index is not None and 0 <= index < NO_REGISTER else NO_REGISTER
    digests = _named_digests(get("digests", DIGESTS), source, place, offset)
    kind = get("content_type")
    content = get("content")
    if kind is None:
        kind = next((CONTENT[key] for key in item if isinstance(key, int) and key in CONTENT), None)
        content = get(*(key for key in item if isinstance(key, int) and key in CONTENT)) if kind else content
    kind = CONTENT.get(kind, kind) if isinstance(kind, int) else kind
    name = kind if isinstance(kind, str) else "unknown"
    record = _named_content(offset, register, digests, name, content, source, place)
    return replace(record, set="cc") if rtmr is not None else record


def _named_digests(value: object, source: str, place: str, offset: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if isinstance(value, dict):
        value = [{"hashAlg": name, "digest": text} for name, text in value.items()]
    if not isinstance(value, list):
        raise ParseError(source, offset, f"{place}.digests", reason="need a list")
    for item in value[:16]:
        if not isinstance(item, dict):
            raise ParseError(source, offset, f"{place}.digests", reason="need objects")
        bank = bank_named(item.get("hashAlg", item.get("hash_alg", item.get(0))))
        value_of = _bytes(item.get("digest", item.get(1)))
        if bank is None:
            continue
        if value_of is None or len(value_of) != DIGEST_SIZE[bank]:
            raise ParseError(source, offset, f"{place}.digests", reason=f"no {bank} digest")
        found.setdefault(bank, value_of)
    return found


def _bytes(value: object) -> bytes | None:
    """Bytes as CBOR has them, or as JSON writes them: hex, else base64."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return None
    text = value.removeprefix("0x")
    try:
        return bytes.fromhex(text)
    except ValueError:
        return _base64(text)


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _bytes_of(value: object, digests: Mapping[str, bytes]) -> bytes | None:
    """Bytes of a text that may be hex or base64: the digests tell where it can be read as both."""
    data = _bytes(value)
    if isinstance(value, str) and data is not None and digests:
        other = _base64(value)
        banks = [bank for bank in digests if available(bank)]
        if other is not None and banks and all(digest(bank, other) == digests[bank] for bank in banks):
            return other
    return data


def _named_content(
    offset: int, register: int, digests: dict[str, bytes], kind: str, content: object, source: str, place: str
) -> Record:
    fields = content if isinstance(content, dict) else {}

    def get(*keys: object) -> object:
        return next((fields[key] for key in keys if key in fields), None)

    if kind == "pcclient_std":
        number = get("event_type", 0)
        if isinstance(number, str):
            number = TYPE_NUMBER.get(number.upper(), number_of(number))
        data = _bytes_of(get("event_data", 1), digests) if get("event_data", 1) is not None else b""
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or not 0 <= number < 1 << 32
            or data is None
        ):
            raise ParseError(source, offset, f"{place}.content", reason="need an event type and event data")
        return Record(offset, register, digests, data, number)
    if kind == "ima_template":
        name, data = get("template_name", 0), _bytes(get("template_data", "template_value", 1))
        if isinstance(name, str) and data is not None:
            payload = template_payload(name, data, source=source, offset=offset)
            return Record(offset, register, digests, data, OTHER, f"IMA {name}"[:64], payload)
    if kind == "systemd":
        return _systemd(offset, register, digests, fields)
    raw = (
        content
        if isinstance(content, bytes)
        else repr(content)[:4096].encode()
        if content is not None
        else b""
    )
    return Record(offset, register, digests, raw, OTHER, kind[:64], opaque_payload(raw, kind))


def _systemd(
    offset: int, register: int, digests: dict[str, bytes], fields: Mapping[object, object]
) -> Record:
    """Systemd's userspace measurements: ``string`` is what was measured (systemd, tpm2-util.c)."""
    text = fields.get("string")
    kind = fields.get("eventType")
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""
    label = f"systemd {kind}"[:64] if isinstance(kind, str) else "systemd"
    named = {
        str(key): value
        for key, value in fields.items()
        if key in ("eventType", "bootId", "timestamp", "nvIndexName") and isinstance(value, str | int)
    }
    payload = text_payload("systemd", "boot-phase", str(kind or ""), raw, named)
    if kind not in _SYSTEMD_TEXT:
        payload = replace(payload, relation="outside" if kind == "volume-key" else "unknown")
    return Record(offset, register, digests, raw, OTHER, label, payload)
