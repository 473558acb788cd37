"""Fields of IMA measurement templates: binary and text form to values, and the bytes that are hashed.

A template is a list of fields. In the binary list each field is a 32-bit length and its bytes; these, lengths
included, are what the template hash covers. Lengths are little-endian; a big-endian kernel that was not told
``ima_canonical_fmt`` writes and hashes big-endian ones. The legacy template ``ima`` has no lengths and hashes
its file name padded with zeros to 256 bytes.

Source: Linux, security/integrity/ima/ima_template.c, ima_template_lib.c, ima_fs.c and ima_crypto.c
(``ima_calc_field_array_hash_tfm``); Documentation/security/IMA-templates.rst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import DIGEST_SIZE
from cvmlab.binary import Cursor
from cvmlab.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "ima": ("d", "n"),
    "ima-ng": ("d-ng", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
    "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    "evm-sig": (
        "d-ng",
        "n-ng",
        "evmsig",
        "xattrnames",
        "xattrlengths",
        "xattrvalues",
        "iuid",
        "igid",
        "imode",
    ),
}
"""Fields of each template the kernel defines, in order (``builtin_templates``)."""

FIELDS: Final = frozenset(field for fields in TEMPLATES.values() for field in fields)
MAX_FIELDS: Final = 16
"""Fields a template may have (``TEMPLATE_NUM_FIELDS_MAX`` is 15)."""
MAX_PATH: Final = 8192
"""Bytes of a path, its terminating zero included; the kernel's ``PATH_MAX`` is 4096."""
MAX_FIELD: Final = 16 << 20
LEGACY_NAME_SIZE: Final = 256
"""``IMA_EVENT_NAME_LEN_MAX`` + 1: the size to which the legacy template pads its file name."""
LEGACY: Final = "ima"
LEGACY_SIZE: Final = 20 + LEGACY_NAME_SIZE
"""Bytes that the hash of the legacy template covers: a digest and the padded name."""

_INTEGERS: Final = {"iuid": 4, "igid": 4, "imode": 2}
"""Bytes of the fields that the text form shows as numbers (``ima_eventinodeuid_init`` and the like)."""
_TEXT_BLOBS: Final = frozenset({"sig", "evmsig", "buf", "modsig", "xattrlengths", "xattrvalues"})
_DIGEST_SIZES: Final[dict[str, int]] = {
    **DIGEST_SIZE,
    # Kernel spelling of names that the TCG registry writes otherwise, and hashes that no bank has
    # (include/uapi/linux/hash_info.h).
    "md5": 16,
    "rmd160": 20,
    "sha224": 28,
    "sm3": 32,
    "sm3-256": 32,
    "sha3-256": 32,
    "sha3-384": 48,
    "sha3-512": 64,
}


@dataclass(frozen=True, slots=True)
class Fields:
    r"""What the fields of one entry say.

    Attributes:
        hash_algorithm: Algorithm of the file digest in the kernel's spelling; empty where unknown.
        file_digest: Digest of the file, empty where unknown.
        path: Path or event name as the list has it; bytes that are not UTF-8 show as ``\xNN``.
        signature: Signature or null where the template has none or it is empty.
        data: The exact bytes that the template hash covers, of the legacy template without the zeros that
            pad its name; null where they cannot be rebuilt.
    """

    hash_algorithm: str = ""
    file_digest: bytes = b""
    path: str = ""
    signature: bytes | None = None
    data: bytes | None = None


def template_fields(template: str) -> tuple[str, ...] | None:
    """Return the field names of a template, null where it is unknown.

    A custom template (``ima_template_fmt=``) is named by its fields: ``d-ng|n-ng|sig``.
    """
    known = TEMPLATES.get(template)
    if known is not None:
        return known
    parts = tuple(template.split("|"))
    if len(parts) <= MAX_FIELDS and all(part in FIELDS for part in parts):
        return parts
    return None


def path_text(raw: bytes) -> str:
    r"""Return a path as text: UTF-8, other bytes as ``\xNN``."""
    return raw.decode("utf-8", "backslashreplace")


def _digest_ng(raw: bytes, source: str, offset: int, field: str) -> tuple[str, bytes]:
    """Split ``[type:]algorithm:`` NUL digest (``ima_eventdigest_init_common``)."""
    label, separator, value = raw.partition(b"\0")
    if not separator or not label.endswith(b":") or len(label) > 64:
        raise ParseError(source, offset, field, reason="no algorithm name ending in a colon and a zero byte")
    algorithm = label[:-1].rsplit(b":", 1)[-1].decode("ascii", "replace").lower()
    _check_size(algorithm, value, source, offset, field)
    return algorithm, value


def _check_size(algorithm: str, value: bytes, source: str, offset: int, field: str) -> None:
    need = _DIGEST_SIZES.get(algorithm)
    if need is not None and len(value) != need:
        raise ParseError(source, offset, field, need, len(value), f"size of a {algorithm} digest")


def decode_binary(
    template: str, data: bytes, *, source: str, offset: int, big_endian: bool = False
) -> Fields:
    """Decode the template data of one entry of a binary list.

    Args:
        template: Name of the template; not the legacy ``ima``, which has no field lengths.
        data: Template data, as hashed.
        source: File name for errors.
        offset: Absolute offset of `data`.
        big_endian: True where the lengths are big-endian.

    Returns:
        The fields; of an unknown template only `Fields.data`.

    Raises:
        ParseError: A field runs past the data, bytes are left over, or a digest has the wrong size.
    """
    names = template_fields(template)
    if names is None:
        return Fields(data=data)
    cursor = Cursor(data, source=source, base=offset, big_endian=big_endian)
    algorithm, digest, path, signature = "", b"", "", None
    for name in names:
        limit = MAX_PATH if name in {"n", "n-ng"} else MAX_FIELD
        raw = cursor.counted(4, name, limit=limit)
        at = cursor.offset - len(raw)
        if name in {"d-ng", "d-ngv2"}:
            algorithm, digest = _digest_ng(raw, source, at, name)
        elif name == "d":
            algorithm, digest = {16: "md5", 20: "sha1"}.get(len(raw), ""), raw
        elif name in {"n", "n-ng"}:
            text = raw[:-1] if raw.endswith(b"\0") else raw
            if b"\0" in text:
                raise ParseError(source, at + text.index(0), name, reason="zero byte inside a path")
            path = path_text(text)
        elif name == "sig":
            signature = raw or None
    cursor.finish(template)
    return Fields(algorithm, digest, path, signature, data)


def decode_legacy(digest: bytes, name: bytes, *, source: str, offset: int) -> Fields:
    """Build the fields of the legacy template ``ima``: a 20-byte digest and a file name, not padded.

    Raises:
        ParseError: The name does not fit into the 256 bytes that are hashed.
    """
    name = name.rstrip(b"\0")
    if len(name) >= LEGACY_NAME_SIZE or b"\0" in name:
        raise ParseError(source, offset, "n", LEGACY_NAME_SIZE - 1, len(name), "not a file name")
    return Fields("sha1", digest, path_text(name), None, digest + name)


def _hex(text: bytes, source: str, offset: int, field: str) -> bytes:
    try:
        # The length check refuses the blanks that fromhex would skip.
        value = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise ParseError(source, offset, field, reason="not hexadecimal") from None
    if len(value) * 2 != len(text):
        raise ParseError(source, offset, field, reason="not hexadecimal")
    return value


def _field_from_text(
    name: str, text: bytes, source: str, offset: int, order: Literal["little", "big"]
) -> tuple[bytes | None, str, bytes]:
    """Return (binary field or null, algorithm, digest) of one field of a text line."""
    if name in {"d-ng", "d-ngv2", "d-modsig"}:
        if name == "d-modsig" and not text:
            return b"", "", b""
        label, _, digits = text.rpartition(b":")
        if not label or len(label) > 63:
            raise ParseError(source, offset, name, reason="no algorithm name before the digest")
        algorithm = label.rsplit(b":", 1)[-1].decode("ascii", "replace").lower()
        value = _hex(digits, source, offset + len(label) + 1, name)
        _check_size(algorithm, value, source, offset, name)
        return label + b":\0" + value, algorithm, value
    if name == "d":
        value = _hex(text, source, offset, name)
        if len(value) not in {16, 20}:
            raise ParseError(source, offset, name, 20, len(value), "size of a digest")
        return value, {16: "md5", 20: "sha1"}[len(value)], value
    if name in {"n", "n-ng"}:
        if len(text) >= MAX_PATH or b"\0" in text:
            raise ParseError(source, offset, name, MAX_PATH - 1, len(text), "not a path")
        return text + b"\0", "", b""
    if name in _TEXT_BLOBS:
        return _hex(text, source, offset, name), "", b""
    if name == "xattrnames":
        return text + b"\0" if text else b"", "", b""
    width = _INTEGERS.get(name)
    if width is None or not text:
        return b"" if width else None, "", b""
    if not text.isdigit() or len(text) > 10 or int(text) >> 8 * width:
        raise ParseError(source, offset, name, reason=f"not a number of {width} bytes")
    return int(text).to_bytes(width, order), "", b""


def decode_text(
    template: str, words: Sequence[bytes], *, source: str, offset: int, big_endian: bool = False
) -> Fields:
    """Decode the fields of one line of a text list and rebuild the bytes that were hashed.

    Args:
        template: Name of the template.
        words: The words behind the template name, split at single blanks. Current kernels write
            blanks in paths as underscores; more words than fields are taken as a path with blanks.
        source: File name for errors.
        offset: Absolute offset of the first word.
        big_endian: True where the kernel hashed big-endian lengths.

    Raises:
        ParseError: A field is missing or is not what its template says.
    """
    names = template_fields(template)
    if names is None:
        return Fields()
    words = list(words)
    path_at = next((i for i, name in enumerate(names) if name in {"n", "n-ng"}), None)
    extra = len(words) - len(names)
    if extra > 0 and path_at is not None:
        # An editor may have stripped or doubled blanks at the end; only a path may hold some.
        words[path_at : path_at + extra + 1] = [b" ".join(words[path_at : path_at + extra + 1])]
    needed = (path_at or 0) + 1
    if len(words) < needed:
        raise ParseError(source, offset, names[len(words)], reason="missing from the line")
    words += [b""] * (len(names) - len(words))
    algorithm, digest, path, signature = "", b"", "", None
    parts: list[bytes] | None = []
    order: Literal["little", "big"] = "big" if big_endian else "little"
    at = offset
    for name, word in zip(names, words, strict=False):
        raw, field_algorithm, value = _field_from_text(name, word, source, at, order)
        if name in {"d", "d-ng", "d-ngv2"}:
            algorithm, digest = field_algorithm, value
        elif name in {"n", "n-ng"}:
            path = path_text(word)
            if template == "ima":
                return decode_legacy(digest.ljust(20, b"\0"), word, source=source, offset=at)
        elif name == "sig":
            signature = raw or None
        if raw is None:
            parts = None
        elif parts is not None:
            parts.append(len(raw).to_bytes(4, order) + raw)
        at += len(word) + 1
    return Fields(algorithm, digest, path, signature, None if parts is None else b"".join(parts))
