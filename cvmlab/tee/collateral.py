"""Intel's collateral as its provisioning service signs it: TCB info and QE identity (PCS API version 4).

The signature covers the exact bytes of one member of the JSON object, so those bytes are cut out, never
written again. Source: Intel, *SGX and TDX Provisioning Certification Service API*, version 4.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.errors import ParseError
from cvmlab.tpm.strict import decode_text, hex_bytes, load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LEVELS: Final = 256
COMPONENTS: Final = 16
_MEMBERS: Final[dict[str, Literal["tcb-info", "qe-identity"]]] = {
    "tcbInfo": "tcb-info",
    "enclaveIdentity": "qe-identity",
}


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """One level of a TCB: who reaches it has its status.

    Attributes:
        sgx: Lowest security versions of the 16 SGX components; empty for enclave and module levels.
        tdx: The same of the 16 TDX components; empty elsewhere.
        pce_svn: Lowest security version of the provisioning certification enclave; 0 elsewhere.
        isv_svn: Lowest security version of an enclave or module; 0 for platform levels.
        status: ``UpToDate``, ``OutOfDate``, ``Revoked`` and others, as Intel spells them.
        date: Date of the level, as stated.
        advisories: Intel security advisories that the level leaves open.
    """

    sgx: tuple[int, ...]
    tdx: tuple[int, ...]
    pce_svn: int
    isv_svn: int
    status: str
    date: str
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """What a TDX module must be.

    Attributes:
        id: ``TDX_01`` and so on, by major version; empty for the one of before TDX 1.5.
        mr_signer: Signer, 48 bytes.
        attributes: Attributes, 8 bytes.
        attributes_mask: Bits of the attributes that count.
        levels: Levels by security version, as listed.
    """

    id: str
    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[TcbLevel, ...]


@dataclass(frozen=True, slots=True)
class Collateral:
    """A signed statement of Intel. Nothing in it is proven before its signature is.

    Attributes:
        kind: ``tcb-info`` or ``qe-identity``.
        id: ``TDX``, ``SGX``, ``TD_QE`` or ``QE``.
        version: Version of the format.
        issued: From when it holds.
        next_update: Until when it holds.
        evaluation: TCB evaluation data number: higher is newer.
        signed: The exact bytes that the signature covers.
        signature: r and s, big-endian, 64 bytes.
        levels: Levels in the order listed, highest first.
        fmspc: Platform that it is of (TCB info), else empty.
        pce_id: The same.
        modules: TDX modules (TCB info).
        misc_select: Value and mask (QE identity), else empty.
        attributes: Value and mask (QE identity), else empty.
        mr_signer: Signer of the enclave (QE identity).
        product: Product identity of the enclave (QE identity).
    """

    kind: Literal["tcb-info", "qe-identity"]
    id: str
    version: int
    issued: datetime
    next_update: datetime
    evaluation: int
    signed: bytes
    signature: bytes
    levels: tuple[TcbLevel, ...]
    fmspc: bytes = b""
    pce_id: bytes = b""
    modules: tuple[ModuleIdentity, ...] = ()
    misc_select: tuple[bytes, bytes] = (b"", b"")
    attributes: tuple[bytes, bytes] = (b"", b"")
    mr_signer: bytes = b""
    product: int = 0


def looks_like_collateral(data: bytes) -> bool:
    """Tell by content: a JSON object with a signed TCB info or QE identity."""
    head = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    return head.startswith(b"{") and any(f'"{name}"'.encode() in data[:4096] for name in _MEMBERS)


def parse_collateral(data: bytes, *, source: str) -> Collateral:
    """Read a TCB info or QE identity as the provisioning service or its caches answer it.

    Raises:
        ParseError: No such JSON, an unknown version, or a field that is missing or damaged.
    """
    outer = load_json(data, source=source)
    if not isinstance(outer, dict):
        raise ParseError(source, 0, "json", reason="need an object")
    members = [name for name in _MEMBERS if name in outer]
    if len(members) != 1 or not isinstance(outer[members[0]], dict):
        raise ParseError(source, 0, "json", reason="need one of tcbInfo and enclaveIdentity")
    name = members[0]
    signature = hex_bytes(outer.get("signature"), source=source, field="signature")
    if len(signature) != 64:
        raise ParseError(source, 0, "signature", 64, len(signature), "wrong size")
    signed = _member_bytes(decode_text(data, source=source), name, source)
    fields = _Fields(outer[name], name, source)
    common = {
        "kind": _MEMBERS[name],
        "id": fields.text("id"),
        "version": fields.number("version"),
        "issued": fields.time("issueDate"),
        "next_update": fields.time("nextUpdate"),
        "evaluation": fields.number("tcbEvaluationDataNumber"),
        "signed": signed,
        "signature": signature,
    }
    if name == "enclaveIdentity":
        return Collateral(
            **common,  # type: ignore[arg-type]
            levels=tuple(_isv_level(level) for level in fields.objects("tcbLevels")),
            misc_select=(fields.hex("miscselect", 4), fields.hex("miscselectMask", 4)),
            attributes=(fields.hex("attributes", 16), fields.hex("attributesMask", 16)),
            mr_signer=fields.hex("mrsigner", 32),
            product=fields.number("isvprodid"),
        )
    if common["version"] != 3:
        raise ParseError(source, 0, "version", reason=f"{common['version']}: TCB info of version 3 is read")
    return Collateral(
        **common,  # type: ignore[arg-type]
        levels=tuple(_platform_level(level) for level in fields.objects("tcbLevels")),
        fmspc=fields.hex("fmspc", 6),
        pce_id=fields.hex("pceId", 2),
        modules=_modules(fields),
    )


def _member_bytes(text: str, name: str, source: str) -> bytes:
    """The exact text of one member of the outer object: names inside other values do not count."""
    decoder = json.JSONDecoder()
    at = _skip(text, text.index("{") + 1)
    while at < len(text) and text[at] == '"':
        key, at = json.decoder.scanstring(text, at + 1)  # type: ignore[attr-defined]
        at = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, at)
        if key == name:
            return text[at:end].encode()
        at = _skip(text, end)
        at = _skip(text, at + 1)
    raise ParseError(source, 0, name, reason="not found in the outer object")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


class _Fields:
    """Typed reading of one JSON object."""

    def __init__(self, value: Mapping[str, object], name: str, source: str) -> None:
        self._value, self._name, self._source = value, name, source

    def _error(self, key: str, reason: str) -> ParseError:
        return ParseError(self._source, 0, f"{self._name}.{key}", reason=reason)

    def has(self, key: str) -> bool:
        return key in self._value

    def text(self, key: str) -> str:
        found = self._value.get(key)
        if not isinstance(found, str) or len(found) > 128:
            raise self._error(key, "need a short text")
        return found

    def number(self, key: str) -> int:
        found = self._value.get(key)
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 32:
            raise self._error(key, "need a number")
        return found

    def hex(self, key: str, size: int) -> bytes:
        found = hex_bytes(self._value.get(key), source=self._source, field=f"{self._name}.{key}")
        if len(found) != size:
            raise ParseError(self._source, 0, f"{self._name}.{key}", size, len(found), "wrong size")
        return found

    def time(self, key: str) -> datetime:
        text = self.text(key)
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            raise self._error(key, f"{text!r} is not a time") from error
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def one(self, key: str) -> _Fields:
        found = self._value.get(key)
        if not isinstance(found, dict):
            raise self._error(key, "need an object")
        return _Fields(found, f"{self._name}.{key}", self._source)

    def objects(self, key: str) -> list[_Fields]:
        found = self._value.get(key, [])
        if (
            not isinstance(found, list)
            or len(found) > MAX_LEVELS
            or not all(isinstance(f, dict) for f in found)
        ):
            raise self._error(key, f"need a list of at most {MAX_LEVELS} objects")
        return [_Fields(item, f"{self._name}.{key}[{n}]", self._source) for n, item in enumerate(found)]

    def texts(self, key: str) -> tuple[str, ...]:
        found = self._value.get(key, [])
        if (
            not isinstance(found, list)
            or len(found) > MAX_LEVELS
            or not all(isinstance(f, str) for f in found)
        ):
            raise self._error(key, "need a list of texts")
        return tuple(item[:64] for item in found)


def _components(fields: _Fields, key: str) -> tuple[int, ...]:
    found = tuple(item.number("svn") for item in fields.objects(key))
    if len(found) != COMPONENTS:
        raise fields._error(key, f"{len(found)} components, need {COMPONENTS}")
    return found


def _platform_level(level: _Fields) -> TcbLevel:
    tcb = level.one("tcb")
    return TcbLevel(
        sgx=_components(tcb, "sgxtcbcomponents"),
        tdx=_components(tcb, "tdxtcbcomponents") if tcb.has("tdxtcbcomponents") else (),
        pce_svn=tcb.number("pcesvn"),
        isv_svn=0,
        status=level.text("tcbStatus"),
        date=level.text("tcbDate") if level.has("tcbDate") else "",
        advisories=level.texts("advisoryIDs"),
    )


def _isv_level(level: _Fields) -> TcbLevel:
    return TcbLevel(
        sgx=(),
        tdx=(),
        pce_svn=0,
        isv_svn=level.one("tcb").number("isvsvn"),
        status=level.text("tcbStatus"),
        date=level.text("tcbDate") if level.has("tcbDate") else "",
        advisories=level.texts("advisoryIDs"),
    )


def _modules(fields: _Fields) -> tuple[ModuleIdentity, ...]:
    found = []
    if fields.has("tdxModule"):
        found.append(_module(fields.one("tdxModule"), ""))
    for item in fields.objects("tdxModuleIdentities"):
        found.append(_module(item, item.text("id")))
    return tuple(found)


def _module(fields: _Fields, name: str) -> ModuleIdentity:
    return ModuleIdentity(
        id=name,
        mr_signer=fields.hex("mrsigner", 48),
        attributes=fields.hex("attributes", 8),
        attributes_mask=fields.hex("attributesMask", 8),
        levels=tuple(_isv_level(level) for level in fields.objects("tcbLevels")),
    )
