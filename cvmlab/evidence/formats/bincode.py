"""az-cvm-vtpm's ``quote.bin``: a quote by bincode, as ``cargo run --example`` and its users store it.

Three vectors, each behind a 64-bit little-endian length: signature, message, then 32-byte SHA-256 register
values in ascending order (bincode 1, fixed-width integers; facts on Azure, section A.6).
"""

from __future__ import annotations

from typing import Final

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import registers
from cvmlab.tpm.attest import parse_attest

_MAX_PART: Final = 4096
_MAGIC: Final = b"\xff\x54\x43\x47"
_DIGEST: Final = 32
_MAX_VALUES: Final = 32


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by the two lengths in front and the TPM's magic behind the second."""
    if keys or len(data) < 32:
        return False
    size = int.from_bytes(data[:8], "little")
    return 8 <= size <= _MAX_PART and data[16 + size : 20 + size] == _MAGIC


def translate(data: bytes, source: str) -> Translation:
    """Read the file; the quote is taken even where the register values behind it are cut.

    Raises:
        ParseError: Signature or message end early.
    """
    found = Translation("quote of az-cvm-vtpm (bincode)", source)
    cursor = Cursor(data, source=source)
    found_signature = cursor.counted(8, "signature", limit=_MAX_PART)
    message = cursor.counted(8, "message", limit=_MAX_PART)
    found.add("quote.msg", "message", message)
    found.add("quote.sig", "signature", found_signature)
    values: list[bytes] = []
    count = 0
    try:
        at = cursor.offset
        count = cursor.u64("pcrs.count")
        if count > _MAX_VALUES:
            raise cursor.error("pcrs.count", f"{count} is more than {_MAX_VALUES}", at=at)
        for index in range(count):
            values.append(cursor.take(_DIGEST, f"pcrs[{index}]"))
        cursor.finish("quote")
    except ParseError as error:
        found.fail(error)
    indices = _indices(message, source, count)
    registers(found, (("sha256", *pair) for pair in zip(indices, values, strict=False)), "pcrs")
    return found


def _indices(message: bytes, source: str, count: int) -> tuple[int, ...]:
    """The values are of the registers that the quote selects, in its order."""
    try:
        selections = parse_attest(message, source=source).selections
    except CvmlabError:
        selections = ()
    selected = tuple(register for item in selections if item.bank == "sha256" for register in item.registers)
    return selected if len(selected) == count else tuple(range(min(count, _MAX_VALUES)))
