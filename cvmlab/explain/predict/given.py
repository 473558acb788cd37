"""What a planned update brings: a file, or a record of its digests in place of it."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from cvmlab.artifacts.product import product
from cvmlab.artifacts.sources import MAX_FILE
from cvmlab.banks import DIGEST_SIZE, available, digest
from cvmlab.errors import EvidenceError
from cvmlab.uefi.authenticode import signers
from cvmlab.uefi.pe import looks_like_pe, parse_pe

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = "cvmlab.artifacts/1"
MAX_RECORDS: Final = 16 << 20
_BANKS: Final = ("sha1", "sha256", "sha384", "sha512")
_TEXT_SECTIONS: Final = (".cmdline", ".sdmagic", ".sbatlevel", ".vendor_cert")
_LINUX: Final = "Linux "


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a PE image.

    Attributes:
        digests: Bank to the digest of its contents.
        text: Contents of a section that is looked into; None where they are not known.
        image: Bank to the Authenticode digest, where the contents are an image themselves.
    """

    digests: Mapping[str, bytes]
    text: bytes | None = None
    image: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """One file of the update.

    Attributes:
        name: What it is called in messages.
        digests: Bank to the digest of the file.
        image: Bank to its Authenticode digest; empty where it is no PE image.
        sections: The image's sections by name, each once.
        certificates: DER certificates of the chains of the image's verified signatures; empty where the image
            is not signed or only its record is there.
        signed_by: Hex SHA-256 of the certificates in its signature and distinguished names of their issuers,
            as a record states them.
        release: The kernel's release name as its image states it; empty where it does not.
        data: Contents, of files that are looked into; None where only digests are known.
    """

    name: str
    digests: Mapping[str, bytes]
    image: Mapping[str, bytes] = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)
    certificates: tuple[bytes, ...] = ()
    signed_by: tuple[str, ...] = ()
    release: str = ""
    data: bytes | None = None


def read_given(value: str | Path | Given) -> Given:
    """Read a file of the update, or its record where the name is ``RECORDS.json#NAME``.

    Raises:
        EvidenceError: It cannot be read, is no image although it says so, or there is no such record.
    """
    if isinstance(value, Given):
        return value
    path, mark, name = str(value).rpartition("#")
    if mark and path.endswith(".json") and not Path(value).exists():
        return _record(Path(path), name)
    source = Path(value)
    return given(_read(source, MAX_FILE), source.name)


def given(data: bytes, name: str) -> Given:
    """Take a file's contents.

    Raises:
        EvidenceError: It says that it is a PE image and is none.
    """
    digests = _digests(data)
    if not looks_like_pe(data):
        return Given(name, digests, data=data)
    try:
        image = parse_pe(data, source=name)
    except ValueError as error:
        raise EvidenceError(str(error)) from error
    signed = {
        certificate.sha256 for one in signers(image, source=name) if one.holds for certificate in one.chain
    }
    sections: dict[str, Section] = {}
    for section in image.sections:
        if section.name in sections:
            continue
        contents = image.contents(section)
        inner: Mapping[str, bytes] = {}
        if looks_like_pe(contents):
            inner = given(contents, f"{name} {section.name}").image
        text = contents if section.name in _TEXT_SECTIONS else None
        sections[section.name] = Section(_digests(contents), text, inner)
    made = product(image)
    return Given(
        name,
        digests,
        {bank: image.authenticode(bank) for bank in _BANKS},
        sections,
        tuple(der for der in _carried(image.signatures) if hashlib.sha256(der).hexdigest() in signed),
        release=made.removeprefix(_LINUX) if made.startswith(_LINUX) else "",
        data=data,
    )


def _carried(signatures: tuple[bytes, ...]) -> list[bytes]:
    """The certificates that signatures carry, as DER."""
    found: dict[bytes, None] = {}
    for blob in signatures:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                certificates = load_der_pkcs7_certificates(blob)
            except (ValueError, UnsupportedAlgorithm):
                continue
        found.update((one.public_bytes(Encoding.DER), None) for one in certificates)
    return list(found)


def _digests(data: bytes) -> dict[str, bytes]:
    return {bank: digest(bank, data) for bank in DIGEST_SIZE if available(bank)}


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise EvidenceError(f"{path}: more than {limit >> 20} MiB")
    return data


def _record(path: Path, name: str) -> Given:
    try:
        document = json.loads(_read(path, MAX_RECORDS))
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{path}: no JSON: {error}") from error
    records = document.get("artifacts") if isinstance(document, dict) else None
    if not isinstance(records, dict) or document.get("schema") != SCHEMA:
        raise EvidenceError(f"{path}: not a record of digests ({SCHEMA})")
    entry = records.get(name)
    if not isinstance(entry, dict):
        raise EvidenceError(f"{path}: holds no {name!r}; it has {', '.join(map(str, list(records)[:40]))}")
    where = f"{path.name}#{name}"
    sections = entry.get("sections", {})
    if not isinstance(sections, dict):
        raise EvidenceError(f"{where}: sections is no object")
    signed = entry.get("signed_by", [])
    release = entry.get("release", "")
    if not (isinstance(signed, list) and all(isinstance(one, str) for one in signed)):
        raise EvidenceError(f"{where}: signed_by is no list of texts")
    if not isinstance(release, str):
        raise EvidenceError(f"{where}: release is no text")
    return Given(
        where,
        _hex_digests(entry.get("digests"), f"{where}: digests"),
        _hex_digests(entry.get("authenticode", {}), f"{where}: authenticode"),
        {str(key): _section(value, f"{where}: section {key}") for key, value in sections.items()},
        signed_by=tuple(signed),
        release=release,
    )


def _section(value: object, where: str) -> Section:
    if not isinstance(value, dict):
        raise EvidenceError(f"{where}: no object")
    return Section(
        _hex_digests(value.get("digests"), where),
        _contents(value, where),
        _hex_digests(value.get("authenticode", {}), where),
    )


def _contents(value: dict[str, object], where: str) -> bytes | None:
    """What a record says of a section's contents: as text, or in hex where they are none."""
    text, raw = value.get("text"), value.get("hex")
    if text is not None and raw is not None:
        raise EvidenceError(f"{where}: text and hex both")
    if raw is not None:
        try:
            return bytes.fromhex(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise EvidenceError(f"{where}: hex is not in hex") from None
    if text is not None and not isinstance(text, str):
        raise EvidenceError(f"{where}: text is no text")
    return text.encode() if text is not None else None


def _hex_digests(value: object, where: str) -> dict[str, bytes]:
    if not isinstance(value, dict):
        raise EvidenceError(f"{where}: no object of digests by bank")
    found: dict[str, bytes] = {}
    for bank, text in value.items():
        size = DIGEST_SIZE.get(bank)
        try:
            raw = bytes.fromhex(text)
        except (TypeError, ValueError):
            raw = b""
        if size is None or len(raw) != size:
            raise EvidenceError(f"{where}: {bank}: not a digest of that bank in hex")
        found[bank] = raw
    return found
