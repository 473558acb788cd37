"""``attest.Attestation`` from protobuf's binary, JSON and text forms, and from Go's ``encoding/json``.

Each gives the same tree: names of the schema to bytes, integers, texts, lists and trees. Source: Protocol
Buffers documentation, *Encoding*, *ProtoJSON* and *Text Format*.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.eventlog.formats.protobuf import read_message
from cvmlab.evidence.formats.attest_schema import BY_NAME, HASHES, SCHEMA
from cvmlab.evidence.formats.values import base64_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.evidence.formats.attest_schema import FieldKind

Tree = dict[str, object]
MAX_REPEATED: Final = 64
MAX_DEPTH: Final = 12
_TOKEN: Final = re.compile(
    rb"""[\s,;]*(?:\#[^\n]*[\s,;]*)*(?:
    (?P<name>[A-Za-z_][A-Za-z0-9_.]*) | (?P<number>-?(?:0[xX][0-9A-Fa-f]+|[0-9]+)) |
    (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*') | (?P<mark>[:{}<>\[\]]) )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_MAX_TOKENS: Final = 20_000


def from_binary(data: bytes, message: str, *, source: str, base: int = 0, path: str = "") -> Tree:
    """Read the wire form.

    Raises:
        ParseError: The bytes are no message, or a field is of another kind than the schema says.
    """
    if path.count(".") > MAX_DEPTH:
        raise ParseError(source, base, path, reason="nested too deeply")
    tree: Tree = {}
    for number, value, offset in read_message(data, source=source, base=base):
        kind = SCHEMA[message].get(number)
        if kind is None:
            tree.setdefault("", []).append(f"{path}field {number}")  # type: ignore[attr-defined]
            continue
        where = f"{path}{kind.name}"
        wants_bytes = kind.kind not in ("uint", "enum")
        if isinstance(value, bytes) != wants_bytes:
            raise ParseError(source, offset, where, reason="of another wire type than in the schema")
        if isinstance(value, int) or kind.kind == "bytes":
            _put(tree, kind, value, source, where, offset)
        elif kind.kind == "string":
            _put(tree, kind, value.decode("utf-8", "replace"), source, where, offset)
        elif kind.kind == "map":
            entry = {f.number: f.value for f in read_message(value, source=source, base=offset)}
            index, digest = entry.get(1, 0), entry.get(2, b"")
            if not isinstance(index, int) or not isinstance(digest, bytes):
                raise ParseError(source, offset, where, reason="an entry is no index with bytes")
            _entry(tree, kind, index, digest, source, where, offset)
        else:
            inner = from_binary(value, kind.kind, source=source, base=offset, path=f"{where}.")
            _put(tree, kind, inner, source, where, offset)
    return tree


def _put(tree: Tree, kind: FieldKind, value: object, source: str, where: str, offset: int = 0) -> None:
    if not kind.repeated:
        if kind.name in tree:
            raise ParseError(source, offset, where, reason="occurs twice")
        tree[kind.name] = value
        return
    held = tree.setdefault(kind.name, [])
    if isinstance(held, list):
        if len(held) >= MAX_REPEATED:
            raise ParseError(source, offset, where, MAX_REPEATED, len(held) + 1, "more than the limit")
        held.append(value)


def _entry(
    tree: Tree, kind: FieldKind, index: int, digest: bytes, source: str, where: str, offset: int = 0
) -> None:
    held = tree.setdefault(kind.name, {})
    if isinstance(held, dict):
        if index in held or len(held) >= MAX_REPEATED:
            raise ParseError(source, offset, f"{where}[{index}]", reason="occurs twice, or too many")
        held[index] = digest


def from_json(value: dict[str, object], message: str, *, source: str, path: str = "") -> Tree:
    """Read ProtoJSON (``akPub``) or the JSON that Go writes of the generated types (``ak_pub``).

    Raises:
        ParseError: A value is not of the kind that the schema says.
    """
    tree: Tree = {}
    for key, item in value.items():
        if key == "TeeAttestation" and isinstance(item, dict):
            # Go's interface for a oneof
            tree.update(from_json(item, message, source=source, path=f"{path}{key}."))
            continue
        kind = BY_NAME[message].get(key.replace("_", "").lower())
        if item is None:
            continue
        if kind is None:
            tree.setdefault("", []).append(f"{path}{key[:40]}")  # type: ignore[attr-defined]
            continue
        where = f"{path}{key}"
        if not kind.repeated:
            _json_field(tree, kind, item, source, where)
            continue
        if not isinstance(item, list):
            raise ParseError(source, 0, where, reason="need a list")
        for position, one in enumerate(item):
            _json_field(tree, kind, one, source, f"{where}[{position}]")
    return tree


def _json_field(tree: Tree, kind: FieldKind, item: object, source: str, where: str) -> None:
    if kind.kind == "bytes":
        _put(tree, kind, base64_bytes(item, source=source, path=where), source, where)
    elif kind.kind in ("uint", "enum"):
        _put(tree, kind, _number(item, source, where), source, where)
    elif kind.kind == "string":
        _put(tree, kind, str(item)[:256], source, where)
    elif not isinstance(item, dict):
        raise ParseError(source, 0, where, reason="need an object")
    elif kind.kind == "map":
        for key, digest in item.items():
            if not (key.isascii() and key.isdecimal() and len(key) <= 4):
                raise ParseError(source, 0, f"{where}.{key[:20]}", reason="not a register index")
            value = base64_bytes(digest, source=source, path=f"{where}.{key}")
            _entry(tree, kind, int(key), value, source, where)
    else:
        _put(tree, kind, from_json(item, kind.kind, source=source, path=f"{where}."), source, where)


def _number(item: object, source: str, where: str) -> int:
    if isinstance(item, str) and item in HASHES:
        return HASHES[item]
    if isinstance(item, str) and re.fullmatch(r"[0-9]{1,20}", item):
        # 64-bit integers are texts in ProtoJSON
        item = int(item)
    if type(item) is not int or not 0 <= item < 1 << 64:
        raise ParseError(source, 0, where, reason=f"{str(item)[:20]!r} is no number")
    return item


class _Tokens:
    """Tokens of the text form, with one to look ahead."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data, self.source, self.at, self.count = data, source, 0, 0
        self.kind, self.value, self.start = "", b"", 0
        self.next()

    def next(self) -> tuple[str, bytes]:
        """Return the current token and step to the one behind it."""
        current = self.kind, self.value
        self.count += 1
        match = _TOKEN.match(self.data, self.at)
        if match is None or self.count > _MAX_TOKENS:
            if self.data[self.at :].strip():
                raise self.error("not the text form of a message")
            self.kind, self.value, self.start = "", b"", self.at
        else:
            self.kind, self.at = str(match.lastgroup), match.end()
            self.value, self.start = match[match.lastgroup or 0], match.start(match.lastgroup or 0)
        return current

    def error(self, reason: str, field: str = "text") -> ParseError:
        return ParseError(self.source, self.at, field, reason=reason)


def from_text(data: bytes, message: str, *, source: str) -> Tree:
    """Read the text form (``.textproto``), of which evidence uses names, numbers, strings and braces.

    Raises:
        ParseError: It is none, or a value is not of the kind that the schema says.
    """
    tokens = _Tokens(data, source)
    tree = _text_message(tokens, message, "", b"")
    if tokens.kind:
        raise tokens.error("something follows the message")
    return tree


def _text_message(tokens: _Tokens, message: str, path: str, closing: bytes) -> Tree:
    if path.count(".") > MAX_DEPTH:
        raise tokens.error("nested too deeply", path)
    tree: Tree = {}
    while tokens.kind and tokens.value != closing:
        kind, name = tokens.next()
        if kind != "name":
            raise tokens.error("need the name of a field", path)
        if tokens.value == b":":
            tokens.next()
        field = BY_NAME[message].get(name.decode().replace("_", "").lower())
        where = f"{path}{name.decode()}"
        listed = tokens.value == b"["
        if listed:
            tokens.next()
        while not (listed and tokens.value == b"]"):
            _text_field(tokens, tree, field, where)
            if not listed:
                break
        if listed:
            tokens.next()
    return tree


def _text_field(tokens: _Tokens, tree: Tree, field: FieldKind | None, where: str) -> None:
    at = tokens.start
    if tokens.value in (b"{", b"<"):
        closing = b"}" if tokens.next()[1] == b"{" else b">"
        if field is None or (field.kind not in SCHEMA and field.kind != "map"):
            _skip(tokens, closing)
            tree.setdefault("", []).append(where[:80])  # type: ignore[attr-defined]
            return
        if field.kind == "map":
            entry = _map_entry(tokens, closing, where)
            _entry(tree, field, *entry, tokens.source, where, at)
        else:
            inner = _text_message(tokens, field.kind, f"{where}.", closing)
            _put(tree, field, inner, tokens.source, where, at)
        if tokens.next()[1] != closing:
            raise tokens.error(f"need {closing.decode()} behind it", where)
        return
    value = _scalar(tokens, where)
    if field is None:
        tree.setdefault("", []).append(where[:80])  # type: ignore[attr-defined]
    elif field.kind == "string" and isinstance(value, bytes):
        _put(tree, field, value.decode("utf-8", "replace"), tokens.source, where, at)
    elif isinstance(value, bytes) == (field.kind == "bytes") and field.kind in ("bytes", "uint", "enum"):
        _put(tree, field, value, tokens.source, where, at)
    else:
        raise tokens.error("of another kind than in the schema", where)


def _scalar(tokens: _Tokens, where: str) -> int | bytes:
    kind, value = tokens.next()
    if kind == "number":
        number = int(value, 0) if value[:2].lower() == b"0x" or value == b"0" else int(value)
        if not 0 <= number < 1 << 64:
            raise tokens.error("a number out of range", where)
        return number
    if kind == "name":
        return HASHES.get(value.decode(), 0)
    if kind != "text":
        raise tokens.error("need a value", where)
    parts = [value]
    while tokens.kind == "text":
        parts.append(tokens.next()[1])
    return b"".join(_ESCAPE.sub(_unescaped, part[1:-1]) for part in parts)


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = match.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _LETTERS.get(letter, letter)


def _map_entry(tokens: _Tokens, closing: bytes, where: str) -> tuple[int, bytes]:
    index, digest = 0, b""
    while tokens.kind and tokens.value != closing:
        _, name = tokens.next()
        if tokens.value == b":":
            tokens.next()
        value = _scalar(tokens, where)
        if name == b"key" and isinstance(value, int):
            index = value
        elif name == b"value" and isinstance(value, bytes):
            digest = value
        else:
            raise tokens.error("an entry is no key with a value", where)
    return index, digest


def _skip(tokens: _Tokens, closing: bytes) -> None:
    depth = 1
    for _, value in iter(tokens.next, ("", b"")):
        depth += (value in (b"{", b"<")) - (value in (b"}", b">"))
        if depth == 0:
            return
    raise tokens.error(f"need {closing.decode()}")


def lost_fields(tree: Tree) -> Iterator[str]:
    """Yield the names of fields, here and below, that the schema does not have."""
    for name, value in tree.items():
        if name == "":
            yield from (str(item) for item in value) if isinstance(value, list) else ()
            continue
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict) and all(isinstance(key, str) for key in item):
                yield from lost_fields(item)
