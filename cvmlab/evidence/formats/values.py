"""Bytes as JSON carries them: lists of integers, hex, base64 and base64url; every error names its path."""

from __future__ import annotations

import base64
import binascii
import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from cvmlab.banks import DIGEST_SIZE
from cvmlab.errors import ParseError
from cvmlab.tpm.strict import load_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cvmlab.evidence.formats.model import Translation

MAX_JSON: Final = 32 << 20
"""Cap for one JSON file: a boot log and an IMA list in base64, or lists of integers."""
MAX_BYTES: Final = 16 << 20
"""Cap for one value."""
MAX_REGISTERS: Final = 32
_HEX: Final = re.compile(r"(?:0[xX])?((?:[0-9A-Fa-f]{2})+)")
_NAME: Final = re.compile(rb'"([A-Za-z_-]{1,40})"\s*:')
_SPACE: Final = re.compile(r"[\r\n\t ]+")


def looks_like_object(data: bytes) -> bool:
    """Tell whether a file may be a JSON object, by its first character."""
    return data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"


def json_object(data: bytes, *, source: str) -> dict[str, object]:
    """Read a JSON object in which no key occurs twice.

    Raises:
        ParseError: It is none, or larger than `MAX_JSON`.
    """
    value = load_json(data, source=source, limit=MAX_JSON)
    if not isinstance(value, dict):
        raise ParseError(source, 0, "json", reason=f"need an object, have {type(value).__name__}")
    return value


def keys_of(data: bytes) -> frozenset[str]:
    """Return the keys of a JSON object, for telling formats apart only; empty for anything else.

    Of an object that is damaged, every name before a colon near its start: its reader then says what is
    wrong.
    """
    if not looks_like_object(data) or len(data) > MAX_JSON:
        return frozenset()
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return frozenset(name.decode() for name in _NAME.findall(data, 0, 1 << 16))
    return frozenset(value) if isinstance(value, dict) else frozenset()


def octets(value: object, *, source: str, path: str) -> bytes:
    """Return the bytes of a JSON value: a list of integers, hex, base64 or base64url.

    A text of hex digits alone is hex. That is only for formats that write register values in hex: 48 zero
    bytes in base64 are 64 letters A.

    Raises:
        ParseError: It is none of these, or too long. The path stands in `ParseError.field`.
    """
    if isinstance(value, list):
        if len(value) > MAX_BYTES:
            raise ParseError(source, 0, path, MAX_BYTES, len(value), "more than the limit")
        if not all(type(item) is int and 0 <= item <= 255 for item in value):
            raise ParseError(source, 0, path, reason="a list of something else than integers from 0 to 255")
        return bytes(value)
    if not isinstance(value, str):
        raise ParseError(source, 0, path, reason=f"need bytes as text or list, have {type(value).__name__}")
    if len(value) > 2 * MAX_BYTES:
        raise ParseError(source, 0, path, 2 * MAX_BYTES, len(value), "more than the limit")
    if match := _HEX.fullmatch(value):
        return bytes.fromhex(match[1])
    return base64_bytes(value, source=source, path=path)


def base64_bytes(value: object, *, source: str, path: str) -> bytes:
    """Return the bytes of base64 or base64url text, with its padding or without (RFC 4648, 4 and 5).

    Raises:
        ParseError: It is no such text.
    """
    if not isinstance(value, str):
        raise ParseError(source, 0, path, reason=f"need base64 text, have {type(value).__name__}")
    packed = _SPACE.sub("", value).rstrip("=")
    if {"-", "_"} & set(packed) and {"+", "/"} & set(packed):
        raise ParseError(source, 0, path, reason="base64 and base64url in one text")
    if len(packed) % 4 == 1:
        raise ParseError(source, 0, path, reason=f"{len(packed)} characters are no whole bytes of base64")
    padded = packed + "=" * (-len(packed) % 4)
    try:
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ParseError(source, 0, path, reason=f"not base64: {error}") from error


def member(value: object, path: str, *, source: str) -> dict[str, object]:
    """Return a value that must be an object.

    Raises:
        ParseError: It is none.
    """
    if not isinstance(value, dict):
        raise ParseError(source, 0, path, reason=f"need an object, have {type(value).__name__}")
    return value


def take(
    found: Translation,
    holder: Mapping[str, object],
    key: str,
    name: str,
    *,
    prefix: str = "",
    decode: Callable[..., bytes] = octets,
) -> bytes | None:
    """Take the bytes at a key as a file of the evidence directory; a damaged value is a problem.

    Args:
        found: Gathers.
        holder: The object.
        key: Its key; an absent one, null or an empty text is no part.
        name: Name in the evidence directory.
        prefix: Path of the object.
        decode: `octets` or `base64_bytes`.

    Returns:
        The bytes, or None.
    """
    value = holder.get(key)
    if value is None or value in ("", []):
        return None
    path = f"{prefix}.{key}" if prefix else key
    try:
        data = decode(value, source=found.source, path=path)
    except ParseError as error:
        found.fail(error)
        return None
    found.add(name, path, data)
    return data


def registers(found: Translation, values: Iterable[tuple[str, int, bytes]], where: str) -> None:
    """Take register values as a reading of (bank, index, value); its reader refuses what fits no bank."""
    items = [
        {"bank": bank, "index": index, "value": value.hex()}
        for bank, index, value in islice(values, MAX_REGISTERS * len(DIGEST_SIZE))
    ]
    if items:
        found.add("pcrs.json", where, json.dumps(items).encode())


def der_to_pem(der: bytes) -> bytes:
    """Return a DER certificate as PEM; PEM as it is."""
    if der.lstrip().startswith(b"-----BEGIN"):
        return der
    lines = re.findall(rb".{1,64}", base64.b64encode(der))
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])
