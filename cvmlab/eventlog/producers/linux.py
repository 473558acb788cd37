"""Tagged events: those of the Linux EFI stub (PCR 9), and the form that all tagged events share.

Source: Linux, drivers/firmware/efi/libstub/efi-stub-helper.c; TCG PC Client Specific Implementation
Specification for Conventional BIOS 1.21, section 11.3.2.1 (TCG_PCClientTaggedEvent).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog import types
from cvmlab.eventlog.model import Opaque, Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.wording import any_text, bounded_name, one_line, summary_hex

if TYPE_CHECKING:
    from cvmlab.binary import Cursor

INITRD_EVENT_TAG: Final = 0x8F3B22EC
LOAD_OPTIONS_EVENT_TAG: Final = 0x8F3B22ED
_LINUX: Final = {
    INITRD_EVENT_TAG: ("initrd", "Linux initrd"),
    LOAD_OPTIONS_EVENT_TAG: ("kernel-command-line", "LOADED_IMAGE::LoadOptions"),
}
_HEADER_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class TaggedEvent:
    """A tagged event.

    Attributes:
        tag: taggedEventID.
        data: taggedEventData.
        trailing: Bytes behind it: more tagged events in the same event, for some writers.
    """

    tag: int
    data: bytes
    trailing: bytes = b""


def peek_tag(data: bytes) -> int | None:
    """Return the tag of a tagged event without reading the rest; None where there is none."""
    return int.from_bytes(data[:4], "little") if len(data) >= _HEADER_SIZE else None


def parse_tagged(cursor: Cursor) -> TaggedEvent:
    """Read one tagged event and everything behind it.

    Raises:
        ParseError: It is cut short.
    """
    tag = cursor.u32("taggedEventID")
    return TaggedEvent(tag, cursor.counted(4, "taggedEventData"), cursor.rest())


@decoder("linux", types.EV_EVENT_TAG, kind="event-tag")
def _efi_stub(event: EventData) -> Payload | None:
    tag = peek_tag(event.data)
    if tag in _LINUX:
        kind, text = _LINUX[tag]
        value: object = parse_tagged(event.cursor())
    else:
        # With confidential-computing registers the stub logs the description alone.
        bare = event.data.removesuffix(b"\0")
        found = [(kind, text) for kind, text in _LINUX.values() if bare == text.encode()]
        if not found:
            return None
        kind, text = found[0]
        value = Opaque(event.data)
    what = "initial ramdisk" if kind == "initrd" else "load options"
    summary = f"Linux EFI stub: {what} measured, not logged"
    fields: dict[str, object] = {"description": text}
    if tag in _LINUX:
        fields["tag"] = f"0x{tag:08x}"
    return Payload("linux", kind, "", summary, value, fields, (), "outside")


@decoder("firmware", types.EV_EVENT_TAG, kind="event-tag")
def _tagged(event: EventData) -> Payload:
    # Others than Windows hash what they describe, so only a match tells.
    value = parse_tagged(event.cursor())
    tag = f"0x{value.tag:08x}"
    text = any_text(value.data)
    fields: dict[str, object] = {"tag": tag, "size": len(value.data)}
    if text is not None:
        fields["text"] = bounded_name(text)
    summary = one_line(f"tagged event {tag}: {text if text is not None else summary_hex(value.data)}")
    candidates = (("data", event.data),)
    return Payload("firmware", "event-tag", tag, summary, value, fields, candidates)
