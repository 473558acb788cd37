"""Binary containers of event logs: what firmware and Windows put around them.

Sources: Intel TXT Software Development Guide, appendix C (event log container of TPM 1.2); TCG EFI Protocol
Specification 1.0, section 7 (EFI_TCG2_FINAL_EVENTS_TABLE); the header ``TpmAtt.h`` of Microsoft's platform
crypto provider toolkit (PCP_PLATFORM_ATTESTATION_BLOB); Linux, drivers/char/tpm/eventlog/tpm1.c (logs that
POWER firmware writes big-endian).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.eventlog import framing
from cvmlab.eventlog import framing_codes as codes
from cvmlab.eventlog.resync import frame_from
from cvmlab.eventlog.types import EVENT_TYPES

if TYPE_CHECKING:
    from cvmlab.eventlog.framing import Frames

TXT_SIGNATURE: Final = b"TXT Event Container\0"
PCP_SIGNATURES: Final = {b"PADS": 28, b"PAD2": 32}
"""Magic of an attestation blob to the least size of its header: seven or eight 32-bit fields."""

_LAST_REGISTER: Final = 23
_MAX_FINAL: Final = 4096
"""Most events of a final events table that is taken for one."""


@dataclass(frozen=True, slots=True)
class Contained:
    """A log found in a container.

    Attributes:
        what: What holds it.
        frames: Its columns; offsets are those of the file.
        end: One past its last byte.
        field: Field at which the container contradicts itself; empty where it does not.
        message: What is wrong there.
    """

    what: str
    frames: Frames
    end: int
    field: str = ""
    message: str = ""


def contained(data: bytes) -> Contained | None:
    """Return the log in a container that is known by its content; None where it is none of those here."""
    if data.startswith(TXT_SIGNATURE):
        return _txt(data)
    if data[:4] in PCP_SIGNATURES:
        return _attestation_blob(data)
    return _final_events(data) or _big_endian(data)


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _slice(what: str, field: str, data: bytes, start: int, end: int) -> Contained:
    """A log between offsets that the container states; they may lie outside it."""
    message = ""
    if not start <= end <= len(data):
        message = f"states a log from {start} to {end} in {len(data)} bytes"
        start = min(start, len(data))
        end = max(min(end, len(data)), start)
    return Contained(what, framing.frame(data, [start], [end]), end, field if message else "", message)


def _txt(data: bytes) -> Contained | None:
    """Signature[20], reserved[12], four version bytes, then size, offset of events, offset behind them."""
    if len(data) < 48:
        return None
    return _slice("TXT event container", "NextEventOffset", data, max(_u32(data, 40), 48), _u32(data, 44))


def _attestation_blob(data: bytes) -> Contained | None:
    """Magic, platform, size of the header, then sizes of PCR values, quote, signature and log."""
    size = _u32(data, 8)
    if len(data) < 28 or size < PCP_SIGNATURES[data[:4]]:
        return None
    start = size + sum(_u32(data, at) for at in (12, 16, 20))
    return _slice("Windows attestation blob", "cbLog", data, start, start + _u32(data, 24))


def _final_events(data: bytes) -> Contained | None:
    """Version 1, a number of events, and that many TCG_PCR_EVENT2: no Spec ID event says which banks."""
    count = int.from_bytes(data[8:16], "little")
    if data[:8] != b"\1" + bytes(7) or not 0 < count <= _MAX_FINAL:
        return None
    algorithms: list[tuple[int, int]] = []
    listed, at = _u32(data, 24), 28
    if _u32(data, 16) > _LAST_REGISTER or not 0 < listed <= framing.MAX_DIGESTS:
        return None
    for _ in range(listed):
        number = int.from_bytes(data[at : at + 2], "little")
        if number not in BANK_BY_ALGORITHM:
            return None
        algorithms.append((number, DIGEST_SIZE[BANK_BY_ALGORITHM[number]]))
        at += 2 + algorithms[-1][1]
    frames = frame_from(data, 16, len(data), codes.FORMAT_AGILE, algorithms, count=1)
    found = len(frames.events[0])
    message = f"states {count} events, and there are {found}" if found != count else ""
    field = "NumberOfEvents" if message else ""
    return Contained("final events table", frames, len(data), field, message) if found else None


def _big_endian(data: bytes) -> Contained | None:
    """A TCG 1.2 log whose integers are big-endian: turned into a little-endian one of the same offsets."""
    turned = bytearray(data)
    at = events = 0
    while at + 32 <= len(data):
        register, kind = (int.from_bytes(data[i : i + 4], "big") for i in (at, at + 4))
        size = int.from_bytes(data[at + 28 : at + 32], "big")
        if register > _LAST_REGISTER or kind not in EVENT_TYPES or size > len(data) - at - 32:
            break
        if not events and _u32(data, at) == register and _u32(data, at + 4) == kind:
            return None
        for start in (at, at + 4, at + 28):
            turned[start : start + 4] = data[start : start + 4][::-1]
        at += 32 + size
        events += 1
    # a little-endian log read this way breaks at its first event of another register or type
    if events < 2 or (_u32(data, 0) <= _LAST_REGISTER and _u32(data, 4) in EVENT_TYPES):
        return None
    return Contained("big-endian log", framing.frame(bytes(turned)), len(data))
