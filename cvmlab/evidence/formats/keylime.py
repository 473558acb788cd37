"""What a Keylime agent answers: an identity or integrity quote; and what its registrar keeps.

The quote is text: ``r``, then message, signature and register values in base64 with colons between; early
agents compress each by zlib. The values are tpm2-tools' form. Source: keylime/rust-keylime, ``quote.rs`` and
``tpm.rs`` (``encode_quote_string``); keylime/keylime, ``tpm_main.py``, ``docs/rest_apis.rst``.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from cvmlab.errors import ParseError
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import base64_bytes, json_object, looks_like_object

MAX_UNPACKED: Final = 1 << 20
_QUOTE: Final = re.compile(r"[rdc][A-Za-z0-9+/=]{32,65536}:[A-Za-z0-9+/=]{8,65536}:[A-Za-z0-9+/=]{8,131072}")
_MARKS: Final = {"hash_alg", "enc_alg", "sign_alg"}
_PARTS: Final = (("quote.msg", "message"), ("quote.sig", "signature"), ("pcrs.bin", "pcrs"))
_REGISTRAR: Final = (("aik_tpm", "ak.pub"), ("ek_tpm", "ek.pub"), ("ekcert", "ek.crt.der"))
_TAKEN: Final = {
    "quote",
    "ima_measurement_list",
    "ima_measurement_list_entry",
    "mb_measurement_list",
    *_MARKS,
}


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell a quote's text, an answer of the agent, or of the registrar, by content."""
    if data[:1] in b"rdc" and len(data) < 300_000:
        return _QUOTE.fullmatch(data.strip().decode("ascii", "replace")) is not None
    if "results" in keys:
        return (b'"quote"' in data and b'"hash_alg"' in data) or b'"aik_tpm"' in data
    return ("quote" in keys and bool(keys & _MARKS)) or "aik_tpm" in keys


def translate(data: bytes, source: str) -> Translation:
    """Read the answer.

    Raises:
        ParseError: It is neither such a text nor a JSON object.
    """
    found = Translation("answer of a Keylime agent", source)
    if not looks_like_object(data):
        _quote(found, data.strip().decode("ascii", "replace"), "quote")
        return found
    value, prefix = json_object(data, source=source), ""
    if isinstance(value.get("results"), dict):
        value, prefix = value["results"], "results."  # type: ignore[assignment]
    if "aik_tpm" in value:
        found.tool = "record of a Keylime registrar"
        for key, name in _REGISTRAR:
            _base64(found, value.get(key), f"{prefix}{key}", name)
        found.lost += [key[:40] for key in value if key not in {name for name, _ in _REGISTRAR}]
        return found
    quote = value.get("quote")
    if isinstance(quote, str) and quote:
        _quote(found, quote, f"{prefix}quote")
    else:
        found.problem(f"{prefix}quote", "need the text of a quote")
    _base64(found, value.get("mb_measurement_list"), f"{prefix}mb_measurement_list", "eventlog.bin")
    _ima(found, value, prefix)
    found.lost += [key[:40] for key in value if key not in _TAKEN]
    return found


def _base64(found: Translation, value: object, path: str, name: str) -> None:
    if value in (None, ""):
        return
    if value == "emulator":
        found.problem(path, "a TPM emulator has no such certificate", fatal=False)
        return
    try:
        found.add(name, path, base64_bytes(value, source=found.source, path=path))
    except ParseError as error:
        found.fail(error)


def _quote(found: Translation, text: str, path: str) -> None:
    parts = text[1:].split(":")
    if text[:1] != "r" or len(parts) != len(_PARTS):
        kind = {"d": "a deep quote of a TPM 1.2", "c": "a quote of a TPM 1.2"}.get(text[:1])
        found.problem(
            path, f"{kind}: not read here" if kind else f"need r and three parts, have {len(parts)}"
        )
        return
    for part, (name, label) in zip(parts, _PARTS, strict=True):
        where = f"{path}:{label}"
        try:
            data = base64_bytes(part, source=found.source, path=where)
            found.add(name, where, _unpacked(data, found.source, where))
        except ParseError as error:
            found.fail(error)


def _unpacked(data: bytes, source: str, where: str) -> bytes:
    """Undo zlib (RFC 1950), which no message, signature or count of selections starts like."""
    if data[:1] != b"\x78" or len(data) < 3 or int.from_bytes(data[:2], "big") % 31:
        return data
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, MAX_UNPACKED)
    except zlib.error as error:
        raise ParseError(source, 0, where, reason=f"damaged zlib data: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ParseError(source, 0, where, reason="zlib data that are cut, too long, or followed by others")
    return plain


def _ima(found: Translation, value: dict[str, object], prefix: str) -> None:
    text, path = value.get("ima_measurement_list"), f"{prefix}ima_measurement_list"
    if not text:
        return
    if not isinstance(text, str):
        found.problem(path, "need the text of an IMA list")
        return
    start = value.get("ima_measurement_list_entry", 0)
    if start not in (0, None):
        message = f"the list starts at entry {str(start)[:20]}: the entries before are needed to replay it"
        found.problem(path, message)
        found.lost.append("ima_measurement_list, a part of a list")
        return
    found.add("ima_ascii.log", path, text.encode("utf-8", "surrogatepass"))
