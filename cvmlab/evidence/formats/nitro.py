"""AWS NitroTPM: the document of ``nitro-tpm-attest``, as it is or in base64.

Source: Amazon EC2 User Guide, *Get the NitroTPM Attestation Document*; `cvmlab.tee.nitro` reads it.
"""

from __future__ import annotations

from typing import Final

from cvmlab.errors import ParseError
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import base64_bytes
from cvmlab.tee.nitro import MAX_DOCUMENT, looks_like_nitro_document

_BASE64: Final = (b"hE", b"0o")
"""How the base64 of a COSE_Sign1 starts, without its tag and with it."""


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by the head of a COSE_Sign1, plain or in base64."""
    if keys:
        return False
    return looks_like_nitro_document(data) or (
        data[:2] in _BASE64 and len(data) <= 2 * MAX_DOCUMENT and looks_like_nitro_document(_decoded(data))
    )


def _decoded(data: bytes) -> bytes:
    try:
        return base64_bytes(data.decode("ascii", "replace"), source="", path="")
    except ParseError:
        return b""


def translate(data: bytes, source: str) -> Translation:
    """Take the document; its reader says what is wrong with it."""
    found = Translation("attestation document of AWS NitroTPM", source)
    if looks_like_nitro_document(data):
        found.add("nitro_tpm.cbor", "document", data)
    else:
        found.add("nitro_tpm.cbor", "base64", _decoded(data))
    return found
