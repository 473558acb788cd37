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

from cvmlab.errors import ParseError
from cvmlab.eventlog.formats.hexdump import read_hexdump
from cvmlab.eventlog.formats.protobuf import read_message

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
_ARMOUR: Final = re.compile(rb"-----(?:BEGIN|END) [A-Z0-9 ]{1,64}-----")
_REGISTRY: Final = re.compile(
    rb'"[^"\r\n]{1,128}"=hex(?:\([0-9a-f]{1,2}\))?:((?:[0-9a-fA-F]{2}|[,\\\r\n ])+)'
)
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-](?:[A-Za-z0-9+/_=-]|\\[nr]|\r?\n[ \t]*){63,}")
_QUOTED: Final = re.compile(rb'"((?:[^"\\\n]|\\.){32,})"')
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_SPEC_ID: Final = b"Spec ID Event0"
_CONTROL: Final = bytes(sorted(set(range(32)) - {9, 10, 13}))
_BOM: Final = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb": "utf-8-sig"}
_JSON_MEMORY: Final = 48 << 20


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
    dumped = read_hexdump(text)
    if dumped is not None:
        yield "hex dump", dumped
        return
    if text.lstrip()[:1] in (b"{", b"["):
        value = _json_value(text)
        if value is not None:
            yield from _json(value)
            return
    decoded = _decoded(text)
    if decoded is not None:
        yield "hex or base64", decoded
        return
    yield from _quoted(text)
    yield from _runs(text)


def _decoded(text: bytes) -> bytes | None:
    """Bytes of hex or base64 text; None where it is neither."""
    text = _ARMOUR.sub(b"", text).strip().removeprefix(b"0x")
    if _HEX.fullmatch(text) and (found := _unhex(text)) is not None:
        return found
    return _unbase64(text) if _BASE64.fullmatch(text) else None


def _text(data: bytes) -> bytes | None:
    """The file as text in UTF-8; None where it is none. Windows writes UTF-16, or a mark before UTF-8."""
    encoding = _BOM.get(data[:2])
    if encoding is not None:
        try:
            return data.decode(encoding).encode("utf-8")
        except UnicodeError:
            return None
    head = data[:4096]
    if head != head.translate(None, _CONTROL):
        return None
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # a character may be cut at the end of what is looked at
        return data if error.start > len(head) - 4 else None
    return data


def _unhex(text: bytes) -> bytes | None:
    digits = re.sub(rb"[\s:,]", b"", text)
    try:
        # text that was cut inside a byte keeps the bytes before it
        return bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))
    except ValueError:
        return None


def _unbase64(text: bytes) -> bytes | None:
    packed = re.sub(rb"\s", b"", text).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    # text that was cut inside a byte keeps the bytes before it
    packed = packed[: len(packed) - (len(packed) % 4 == 1)]
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _runs(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Long runs of hex or base64 in any text: tool output, XML, YAML, JSON that is damaged."""
    for count, match in enumerate(_RUN.finditer(text)):
        if count >= MAX_FOUND:
            return
        run = re.sub(rb"\\[nr]", b"", match[0])
        decoded = _decoded(run.partition(b"=")[0])
        if decoded is not None and len(decoded) >= MIN_LOG:
            yield f"text at offset {match.start()}", decoded


def _quoted(text: bytes) -> Iterator[tuple[str, bytes]]:
    r"""Strings in which bytes stand as ``\ooo`` or ``\xhh``, as the text form of protobuf writes them."""
    if b"\\0" not in text and b"\\x" not in text:
        return
    for count, match in enumerate(_QUOTED.finditer(text)):
        if count >= MAX_FOUND:
            return
        yield f"string at offset {match.start()}", _ESCAPE.sub(_escaped, match[1])


def _escaped(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes([int(match[1], 8) & 0xFF])
    if match[2]:
        return bytes([int(match[2], 16)])
    return _LETTERS.get(match[3], match[3])


def _registry(text: bytes) -> Iterator[tuple[str, bytes]]:
    for count, match in enumerate(_REGISTRY.finditer(text)):
        if count >= MAX_FOUND:
            return
        name = match[0].split(b'"', 2)[1].decode("ascii", "replace")
        try:
            yield f"registry value {name}", bytes.fromhex(re.sub(rb"[,\\\s]", b"", match[1]).decode("ascii"))
        except ValueError:
            continue


def json_cost(text: bytes) -> int | None:
    """Estimate the bytes that JSON takes once read; None where that is more than it is worth.

    A list or object of few bytes takes many in memory: counted before reading, hostile text costs nothing.
    """
    wide = 4 if max(text, default=0) >= 0xF0 else 2 if max(text, default=0) >= 0xC4 else 1
    counts = ((b",", 64), (b"[", 72), (b"{", 240), (b":", 60))
    cost = wide * len(text) + sum(text.count(mark) * size for mark, size in counts)
    return cost if cost <= 3 * len(text) + _JSON_MEMORY else None


def _json_value(text: bytes) -> object:
    """What JSON holds; None where it is none."""
    if json_cost(text) is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json(value: object) -> Iterator[tuple[str, bytes]]:
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
    """Length-delimited fields of a message, where all of it has the form of one; those with a log first."""
    try:
        fields = read_message(data, source="")
    except ParseError:
        return
    bodies = [(field.number, field.value) for field in fields if isinstance(field.value, bytes)]
    for number, body in sorted(bodies, key=lambda item: _SPEC_ID not in item[1][:64]):
        if len(body) >= MIN_LOG:
            yield f"field {number}", body
