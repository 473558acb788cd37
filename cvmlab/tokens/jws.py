"""Attestation tokens as text: compact JSON Web Signatures, read strictly and without believing anything.

Sources: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best current practice). A token that two readers could take
for two different things is refused here: padding, whitespace, a key named twice, left-over bits.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.tpm.strict import MAX_TEXT, load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKEN: Final = MAX_TEXT
"""Largest token, in bytes. Tokens of Azure have 5 to 20 KB; claims that repeat a boot log are larger."""

MAX_HEADER: Final = 64 << 10
MAX_SIGNATURE: Final = 2 << 10
"""RSA-16384 signs with 2 KiB."""

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 20_000

_SEGMENT: Final = re.compile(rb"[A-Za-z0-9_-]*")
_REFUSED_PARAMETERS: Final[Mapping[str, str]] = {
    "crit": "extensions that must be understood are not understood here",
    "b64": "an unencoded payload is not read",
    "zip": "a compressed payload is not read",
    "enc": "the token is encrypted",
}
_RESPONSE_MEMBERS: Final = ("token", "AttestationToken")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was read. Every claim in it is unproven before its signature is verified.

    Attributes:
        source: File.
        header: JOSE header (RFC 7515, section 4).
        claims: Claims set (RFC 7519, section 4).
        signing_input: The bytes that the signature covers.
        signature: The signature; empty where there is none.
    """

    source: str
    header: Mapping[str, object]
    claims: Mapping[str, object]
    signing_input: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        """The header's ``alg``."""
        return str(self.header["alg"])

    @property
    def kid(self) -> str | None:
        """The header's ``kid``; None where it names no key."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else None

    @property
    def issuer(self) -> str:
        """The claim ``iss``, unproven; empty where there is none."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""


def looks_like_token(data: bytes) -> bool:
    """Tell by content: a compact JWS, or the answer of an attestation service that carries one."""
    return _TOKEN_START.match(data[:4096]) is not None


_TOKEN_START: Final = re.compile(rb'\s*(\{\s*"(token|AttestationToken)"\s*:\s*")?eyJ[A-Za-z0-9_-]{8,}(\.|\Z)')


def read_token(data: bytes, *, source: str) -> Token:
    """Read a file with a token: the token alone, or the JSON answer of a service, ``{"token": "eyJ…"}``.

    Raises:
        ParseError: It is neither, or the token is not one that may be believed after verification.
    """
    if len(data) > MAX_TOKEN:
        raise ParseError(source, 0, "token", MAX_TOKEN, len(data), "more than the limit")
    text = data.strip(b" \t\r\n")  # files end with a line break; a token has none
    if text.startswith(b"{"):
        text = _from_response(text, source)
    return parse_token(text, source=source)


def _from_response(data: bytes, source: str) -> bytes:
    value = load_json(data, source=source)
    if not isinstance(value, dict):
        raise ParseError(source, 0, "token", reason="need a JSON object")
    if "signatures" in value or ("payload" in value and "signature" in value):
        reason = "a JSON serialization, which may carry several signatures, is not read: need a compact token"
        raise ParseError(source, 0, "token", reason=reason)
    found = [value[name] for name in _RESPONSE_MEMBERS if name in value]
    if len(found) != 1 or not isinstance(found[0], str):
        raise ParseError(source, 0, "token", reason=f"need one of the members {', '.join(_RESPONSE_MEMBERS)}")
    return found[0].encode("utf-8", "replace")


def parse_token(text: bytes, *, source: str) -> Token:
    """Read a compact JWS.

    Args:
        text: ``header.payload.signature``, each base64url without padding.
        source: File, for messages. Offsets are within `text`, or within a decoded part where one is named.

    Raises:
        ParseError: It is not three parts, a part is not canonical base64url or not a JSON object, the
            header asks for what is not done here (``crit``, ``b64``, ``zip``), or a limit is passed.
    """
    if len(text) > MAX_TOKEN:
        raise ParseError(source, 0, "token", MAX_TOKEN, len(text), "more than the limit")
    parts = text.split(b".")
    if len(parts) == 5:
        raise ParseError(
            source, 0, "token", reason="five parts: it is encrypted, and only its receiver reads it"
        )
    if len(parts) != 3:
        reason = "not header.payload.signature"
        if len(parts) == 1 and b"EncryptedInnerKey" in decode_loosely(text):
            reason = "the service's encrypted answer to a guest; only the guest's TPM decrypts the token"
        raise ParseError(source, 0, "token", 3, len(parts), reason)
    header_at, payload_at = 0, len(parts[0]) + 1
    signature_at = payload_at + len(parts[1]) + 1
    if len(parts[0]) > MAX_HEADER:
        raise ParseError(source, 0, "header", MAX_HEADER, len(parts[0]), "more than the limit")
    header = _object(decode_segment(parts[0], "header", header_at, source), f"{source}, header")
    claims = _object(decode_segment(parts[1], "payload", payload_at, source), f"{source}, payload")
    signature = decode_segment(parts[2], "signature", signature_at, source)
    if len(signature) > MAX_SIGNATURE:
        raise ParseError(
            source, signature_at, "signature", MAX_SIGNATURE, len(signature), "more than the limit"
        )
    _check_header(header, f"{source}, header")
    return Token(source, header, claims, b".".join(parts[:2]), signature)


def decode_segment(text: bytes, field: str, offset: int, source: str) -> bytes:
    """Decode base64url without padding, of which each value has one spelling (RFC 7515, section 2).

    Raises:
        ParseError: Another alphabet, padding, whitespace, a length that cannot be, or bits left over.
    """
    if not _SEGMENT.fullmatch(text):
        bad = next(i for i, byte in enumerate(text) if not _SEGMENT.fullmatch(bytes([byte])))
        reason = f"character {chr(text[bad])!r} is not base64url"
        raise ParseError(source, offset + bad, field, reason=reason)
    if len(text) % 4 == 1:
        raise ParseError(source, offset, field, reason="a length that base64url cannot have")
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text:
        reason = "bits are left over: two spellings of one value"
        raise ParseError(source, offset + len(text) - 1, field, reason=reason)
    return data


def decode_loosely(text: bytes) -> bytes:
    """Decode base64 or base64url, padded or not, to say what something is; empty where it is neither."""
    text = text.translate(bytes.maketrans(b"+/", b"-_")).rstrip(b"=")
    if len(text) % 4 == 1 or not _SEGMENT.fullmatch(text):
        return b""
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _object(data: bytes, source: str) -> Mapping[str, object]:
    if data.startswith(b"\xef\xbb\xbf"):
        raise ParseError(source, 0, "json", reason="a byte order mark is no JSON")
    value = load_json(data, source=source)
    if not isinstance(value, dict):
        raise ParseError(source, 0, "json", reason="need a JSON object")
    _check_values(value, source)
    return value


def _check_values(value: object, source: str) -> None:
    """Refuse what JSON can spell and no claim needs: deep nesting, endless numbers, half characters."""
    todo: list[tuple[object, int]] = [(value, 1)]
    count = 0
    while todo:
        item, depth = todo.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise ParseError(source, 0, "json", MAX_DEPTH, depth, "nested deeper than the limit")
        if count > MAX_VALUES:
            raise ParseError(source, 0, "json", MAX_VALUES, count, "more values than the limit")
        if isinstance(item, dict):
            todo += [(name, depth + 1) for name in item]
            todo += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            todo += [(inner, depth + 1) for inner in item]
        elif isinstance(item, float) and not math.isfinite(item):
            raise ParseError(source, 0, "json", reason="a number beyond any use")
        elif isinstance(item, str) and not item.isascii():
            try:
                item.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ParseError(source, 0, "json", reason="text with half a character") from error


def _check_header(header: Mapping[str, object], source: str) -> None:
    for name, why in _REFUSED_PARAMETERS.items():
        if name in header:
            raise ParseError(source, 0, name, reason=why)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or not 0 < len(algorithm) <= 64:
        raise ParseError(source, 0, "alg", reason="need the name of an algorithm")
    for name in ("kid", "jku", "x5t", "x5t#S256", "typ"):
        value = header.get(name)
        if value is not None and not (isinstance(value, str) and len(value) <= 2048):
            raise ParseError(source, 0, name, reason="need a short text")
