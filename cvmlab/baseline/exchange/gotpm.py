"""The policy of go-tpm-tools (``attest.Policy``) as text: which firmware may have started the machine.

Source: google/go-tpm-tools, proto/attest.proto (``PlatformPolicy``); the text format is that of protocol
buffers (protobuf.dev, text-format-spec).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.exchange.maa import NOTHING
from cvmlab.baseline.exchange.model import Exported, Imported, common_losses, new_baseline, read_bytes, views
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cvmlab.baseline.document import Baseline

_TOKEN: Final = re.compile(
    r"""\s*(?:\#[^\n]*|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>[\w.+-]+)|(?P<mark>[{}\[\]<>:;,]))"""
)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_SIMPLE: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_FIELDS: Final = ("allowed_scrtm_version_ids", "minimum_gce_firmware_version", "minimum_technology")
MAX_TOKENS: Final = 100_000


def write_gotpm(baseline: Baseline) -> Exported:
    """Write the firmware versions (EV_S_CRTM_VERSION) that the baseline allows.

    Raises:
        BaselineError: The baseline holds no firmware version with its data: the policy would allow any.
    """
    found: dict[bytes, None] = {}
    for _, view in views(baseline):
        pinned = view.register("tpm", 0)
        for slot in pinned.slots if pinned is not None else ():
            if slot.type == "EV_S_CRTM_VERSION":
                found.update(
                    (baseline.data[a.data], None) for a in slot.alternatives if a.data in baseline.data
                )
    if not found:
        raise BaselineError(
            f"{baseline.name}: it holds no firmware version (EV_S_CRTM_VERSION) with its text: the policy "
            "would allow any firmware"
        )
    lines = ["platform {"]
    lines += [f'  allowed_scrtm_version_ids: "{_quoted(data)}"' for data in found]
    lines += ["}", ""]
    losses = [
        *common_losses(baseline),
        "everything but the version text of the firmware: attest.Policy has no other rule about a boot",
    ]
    return Exported({"": "\n".join(lines).encode()}, tuple(losses))


def _quoted(data: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\"'\\" else f"\\{byte:03o}" for byte in data
    )


def read_gotpm(path: Path, name: str) -> Imported:
    """Read a policy. Its rules name texts, not digests, so the baseline that comes of it pins nothing.

    Raises:
        BaselineError: It is not this message in text form.
    """
    text = read_bytes(path).decode("utf-8", "replace")
    fields = list(_fields(text, str(path)))
    versions = [value for key, value in fields if key == "allowed_scrtm_version_ids"]
    losses = [NOTHING]
    losses += [
        f"allowed firmware version {_scrtm(value)!r}: learn a boot of it to pin its digest"
        for value in versions[:20]
    ]
    losses += [f"{key}: {value!r}" for key, value in fields if key != "allowed_scrtm_version_ids"]
    return Imported(new_baseline(name), tuple(losses))


def _scrtm(data: bytes) -> str:
    """A version as text: UTF-16 where it reads so, as most firmware logs it."""
    if len(data) % 2 == 0 and data[1::2].count(0) * 2 == len(data):
        return data.decode("utf-16-le", "replace").rstrip("\0")
    return data.decode("utf-8", "replace")


def _tokens(text: str, where: str) -> Iterator[tuple[str, str]]:
    position = count = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if not text[position:].strip():
                return
            raise BaselineError(f"{where}: character {position}: not the text form of a message")
        position = match.end()
        count += 1
        if count > MAX_TOKENS:
            raise BaselineError(f"{where}: more than {MAX_TOKENS} words")
        if match.lastgroup:
            yield match.lastgroup, match[match.lastgroup]


def _fields(text: str, where: str) -> Iterator[tuple[str, bytes]]:
    """Yield the fields of ``platform``."""
    tokens = [*_tokens(text, where), ("end", "")]
    at = 0
    depth = 0
    if not any(value == "platform" for _, value in tokens):
        raise BaselineError(f"{where}: there is no platform in it: no attest.Policy")
    while tokens[at][0] != "end":
        kind, value = tokens[at]
        at += 1
        if value == "platform" and depth == 0:
            continue
        if kind == "mark":
            depth += value in "{<"
            depth -= value in "}>"
            if depth not in (0, 1):
                raise BaselineError(f"{where}: the braces do not match")
            continue
        if kind != "word" or value not in _FIELDS or depth != 1:
            raise BaselineError(f"{where}: {value[:60]!r} is no field of attest.Policy")
        if tokens[at] != ("mark", ":"):
            raise BaselineError(f"{where}: {value} needs a value")
        at += 1
        several = tokens[at] == ("mark", "[")
        at += several
        while True:
            kind, item = tokens[at]
            if kind not in ("text", "word"):
                raise BaselineError(f"{where}: {value} needs a value")
            at += 1
            whole = _unquoted(item) if kind == "text" else item.encode()
            while kind == "text" and tokens[at][0] == "text":
                whole += _unquoted(tokens[at][1])
                at += 1
            yield value, whole
            if not several or tokens[at] == ("mark", "]"):
                break
            at += tokens[at] == ("mark", ",")
        at += several
    if depth:
        raise BaselineError(f"{where}: the braces do not match")


def _unquoted(token: str) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes([int(match[1], 8) & 0xFF])
        if match[2]:
            return bytes([int(match[2], 16)])
        return _SIMPLE.get(match[3], match[3])

    return _ESCAPE.sub(one, token[1:-1].encode())
