"""Events of systemd-boot and systemd-stub (PCR 5, 11, 12, 13), and of systemd-pcrphase.

Source: systemd, docs/TPM2_PCR_MEASUREMENTS.md. Texts are UTF-16; an event of type EV_IPL has only its
description in the log, which for command lines is what was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cvmlab.eventlog import types
from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.grub import KernelCommandLine, command_line_fields
from cvmlab.eventlog.producers.linux import parse_tagged, peek_tag
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.wording import any_text, bounded_name, byte_text, one_line, wide_text

LOADER_CONF_EVENT_TAG: Final = 0xF5BC582A
DEVICETREE_ADDON_EVENT_TAG: Final = 0x6C46F751
INITRD_ADDON_EVENT_TAG: Final = 0x49DFFE0F
UCODE_ADDON_EVENT_TAG: Final = 0xDAC08E1A
UKI_PROFILE_EVENT_TAG: Final = 0x13AED6DB
_TAGS: Final = {
    LOADER_CONF_EVENT_TAG: ("boot-configuration", "boot loader configuration"),
    DEVICETREE_ADDON_EVENT_TAG: ("boot-extension", "device tree add-on"),
    INITRD_ADDON_EVENT_TAG: ("boot-extension", "initial ramdisk add-on"),
    UCODE_ADDON_EVENT_TAG: ("boot-extension", "microcode add-on"),
    UKI_PROFILE_EVENT_TAG: ("boot-extension", "unified kernel image profile"),
}
# PE section names have eight characters (Microsoft PE/COFF, section table); .pcrpkey is the longest
_SECTION: Final = re.compile(r"\.[a-z0-9]{1,15}")
_EXTENSION: Final = re.compile(
    r"(?:Global )?(?:(?:System|Configuration) extension|Credentials?) initrd", re.I
)
_PHASES: Final = frozenset({"enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"})


@dataclass(frozen=True, slots=True)
class UkiSection:
    """A section of a unified kernel image. Its name is measured first, then its contents."""

    name: str


@decoder("systemd", types.EV_IPL, kind="unknown")
def _ipl(event: EventData) -> Payload | None:
    text = wide_text(event.data)
    if text is None:
        return _phase(event)
    if event.set == "tpm" and event.register not in (8, 11, 12, 13):
        return None
    if _SECTION.fullmatch(text):
        return _section(text)
    if _EXTENSION.fullmatch(text):
        summary = f"{text}: contents measured, not logged"
        fields: dict[str, object] = {"description": text}
        return Payload("systemd", "boot-extension", text, summary, text, fields, (), "outside")
    if event.set == "tpm" and event.register not in (8, 12):
        return None
    candidates = (
        ("data", event.data),
        ("data and NUL", event.data + b"\0"),
        ("text without NUL", text.encode("utf-16-le")),
    )
    value = KernelCommandLine("", text)
    fields = command_line_fields(text)
    return Payload("systemd", "kernel-command-line", "", one_line(text), value, fields, candidates, "data")


def _section(text: str) -> Payload:
    # Two events carry the same data: the digest of one is of the name, that of the other of the contents.
    # So a match tells them apart, and its absence contradicts nothing.
    candidates = (("section name", text.encode() + b"\0"),)
    fields: dict[str, object] = {"section": text}
    summary = f"section {text} of the unified kernel image"
    return Payload("systemd", "uki-section", text, summary, UkiSection(text), fields, candidates, "outside")


def _phase(event: EventData) -> Payload | None:
    text = byte_text(event.data)
    if text is None or len(text) > 128 or not _PHASES.issuperset(text.split(":")):
        return None
    candidates = (("text without NUL", text.encode()), ("data", event.data))
    fields: dict[str, object] = {"phase": text}
    return Payload("systemd", "boot-phase", text, f"boot phase {text}", text, fields, candidates, "data")


@decoder("systemd", types.EV_EVENT_TAG, kind="event-tag")
def _tagged(event: EventData) -> Payload | None:
    tag = peek_tag(event.data)
    if tag not in _TAGS:
        return None
    kind, what = _TAGS[tag]
    value = parse_tagged(event.cursor())
    description = any_text(value.data) or ""
    fields: dict[str, object] = {"tag": f"0x{tag:08x}", "description": bounded_name(description)}
    summary = one_line(f"{what} {description}".rstrip() + ": contents measured, not logged")
    return Payload("systemd", kind, bounded_name(description), summary, value, fields, (), "outside")
