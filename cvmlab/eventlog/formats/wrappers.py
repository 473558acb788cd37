"""Logs inside other tools' files: text encodings, JSON, Windows registry exports, protobuf.

A log is known by its own bytes wherever it lies; names of keys are only remembered for messages. So the
dumps of go-attestation and go-tpm-tools, Azure's AttestationInfo, and the JSON of Keylime and Trustee need no
rules of their own.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH: Final = 24
MAX_NODES: Final = 200_000
MAX_LAYERS: Final = 4
"""Most encodings inside one another: base64 of JSON that holds base64, and one more."""
MIN_LOG: Final = 32
"""Fewest bytes of a log inside another file."""
MAX_FOUND: Final = 16
"""Most logs taken from one file."""

_HEX: Final = re.compile(rb"[0-9A-Fa-f\s:,]+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\s-]+={0,2}")
_REGISTRY: Final = re.compile(
    rb'"[^"\r\n]{1,128}"=hex(?:\([0-9a-f]{1,2}\))?:((?:[0-9a-fA-F]{2}|[,\\\r\n ])+)'
)
_SPEC_ID: Final = b"Spec ID Event0"
_BYTES_OF_TEXT: Final = bytes(range(32, 127)) + b"\t\r\n"


def unwrapped(data: bytes, *, layers: int = MAX_LAYERS) -> Iterator[tuple[str, bytes]]:
    """Yield (where, bytes) of what a file may hold inside, the most direct first.

    Args:
        data: The file.
        layers: How many encodings to look through.

    Yields:
        Candidates; whoever asks tells by content whether one is a log. At most `MAX_FOUND` of each layer.
    """
    if layers <= 0 or len(data) < MIN_LOG:
        return
    text = _text(data)
    if text is None:
        yield from _protobuf(data)
        return
    if b"Windows Registry Editor" in text[:64] or text[:8] == b"REGEDIT4":
        yield from _registry(text)
        return
    if text.lstrip()[:1] in (b"{", b"["):
        yield from _json(text)
        return
    decoded = _decoded(text)
    if decoded is not None:
        yield "hex or base64", decoded


def _decoded(text: bytes) -> bytes | None:
    """Bytes of hex or base64 text; None where it is neither."""
    text = text.strip().removeprefix(b"0x")
    if _HEX.fullmatch(text) and (found := _unhex(text)) is not None:
        return found
    return _unbase64(text) if _BASE64.fullmatch(text) else None


def _text(data: bytes) -> bytes | None:
    """The file as ASCII text; None where it is none. Windows writes registry exports in UTF-16."""
    if data[:2] == b"\xff\xfe":
        try:
            return data.decode("utf-16").encode("ascii")
        except UnicodeError:
            return None
    head = data[:4096]
    return None if head.translate(None, _BYTES_OF_TEXT) else data


def _unhex(text: bytes) -> bytes | None:
    digits = re.sub(rb"[\s:,]", b"", text)
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None


def _unbase64(text: bytes) -> bytes | None:
    packed = re.sub(rb"\s", b"", text).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _registry(text: bytes) -> Iterator[tuple[str, bytes]]:
    for count, match in enumerate(_REGISTRY.finditer(text)):
        if count >= MAX_FOUND:
            return
        name = match[0].split(b'"', 2)[1].decode("ascii", "replace")
        try:
            yield f"registry value {name}", bytes.fromhex(re.sub(rb"[,\\\s]", b"", match[1]).decode("ascii"))
        except ValueError:
            continue


def _json(text: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    found = 0
    for path, leaf in _leaves(value):
        data = _leaf_bytes(leaf)
        if data is not None and len(data) >= MIN_LOG:
            yield path, data
            found += 1
            if found >= MAX_FOUND * 8:
                return


def _leaves(value: object) -> Iterator[tuple[str, object]]:
    """Walk JSON breadth-first, bounded: strings, and lists of small integers, as some tools write bytes."""
    queue: deque[tuple[str, object, int]] = deque([("", value, 0)])
    nodes = 0
    while queue:
        path, node, depth = queue.popleft()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            return
        if isinstance(node, str):
            yield path, node
        elif isinstance(node, list):
            if len(node) >= MIN_LOG and all(type(item) is int and 0 <= item < 256 for item in node):
                yield path, node
            else:
                queue.extend(
                    (f"{path}[{number}]", item, depth + 1) for number, item in enumerate(node[:4096])
                )
        elif isinstance(node, dict):
            queue.extend((f"{path}.{key}"[:256].lstrip("."), item, depth + 1) for key, item in node.items())


def _leaf_bytes(leaf: object) -> bytes | None:
    if isinstance(leaf, list):
        return bytes(leaf)
    if not isinstance(leaf, str) or len(leaf) < MIN_LOG:
        return None
    raw = leaf.encode("utf-8", "surrogatepass")
    if raw.lstrip()[:1] in (b"{", b"["):
        return raw
    return _decoded(raw) or raw


def _protobuf(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Length-delimited fields of a message, where all of it has the form of one (protobuf encoding)."""
    at, fields = 0, []
    while at < len(data):
        tag, at = _varint(data, at)
        if at < 0 or tag == 0:
            return
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            if at < 0 or at + size > len(data):
                return
            fields.append((tag >> 3, data[at : at + size]))
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return
        if at < 0 or at > len(data) or len(fields) > 4096:
            return
    for number, body in fields:
        if len(body) >= MIN_LOG and _SPEC_ID in body[:64]:
            yield f"field {number}", body
    for number, body in fields:
        if len(body) >= MIN_LOG and _SPEC_ID not in body[:64]:
            yield f"field {number}", body


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint and the offset behind it; -1 where it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, -1
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    return 0, -1
