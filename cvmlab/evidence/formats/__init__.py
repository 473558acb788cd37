"""Other tools' files as evidence: one module a tool, each telling its files by content.

A module turns bytes into files of the evidence directory (design, section 10); the one reader of that
directory reads these. Nothing is believed because a tool said it: what lay in the file is a claim as if it
had lain in the folder, and a nonce in it is none that the verifier knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cvmlab.evidence.formats import (
    bincode,
    constellation,
    go_attestation,
    go_tpm_tools,
    keylime,
    maa,
    nitro,
    trustee,
)
from cvmlab.evidence.formats.model import Part, Translation
from cvmlab.evidence.formats.values import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMATS", "Format", "Part", "Translation", "is_known", "translate"]


class Format(NamedTuple):
    """A tool's format.

    Attributes:
        name: The tool.
        recognise: Tells a file by its bytes and, where it is a JSON object, by its keys.
        translate: Reads a file that was recognised; raises `ParseError` where nothing of it can be used.
    """

    name: str
    recognise: Callable[[bytes, frozenset[str]], bool]
    translate: Callable[[bytes, str], Translation]


FORMATS: Final = (
    Format("Constellation", constellation.recognise, constellation.translate),
    Format("go-tpm-tools", go_tpm_tools.recognise, go_tpm_tools.translate),
    Format("go-attestation", go_attestation.recognise, go_attestation.translate),
    Format("Azure AttestationInfo", maa.recognise, maa.translate),
    Format("Trustee and attestation-rs", trustee.recognise, trustee.translate),
    Format("Keylime", keylime.recognise, keylime.translate),
    Format("AWS NitroTPM", nitro.recognise, nitro.translate),
    Format("az-cvm-vtpm", bincode.recognise, bincode.translate),
)
"""Every format, the more particular first; their marks exclude each other, and a test holds that."""


def is_known(data: bytes) -> bool:
    """Tell whether a file is of a tool that is known here, whether it can be read or not."""
    keys = keys_of(data)
    return any(one.recognise(data, keys) for one in FORMATS)


def translate(data: bytes, source: str) -> Translation | None:
    """Translate a file of another tool; None where it is none that is known here.

    Args:
        data: The file.
        source: Its name, for messages.

    Raises:
        ParseError: It is such a file, and nothing of it can be used.
    """
    keys = keys_of(data)
    for one in FORMATS:
        if one.recognise(data, keys):
            return one.translate(data, source)
    return None
