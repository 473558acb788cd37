"""Events of GRUB: commands and kernel command lines (PCR 8), files (PCR 9).

Source: GNU GRUB, grub-core/commands/tpm.c (``grub_cmd: ``, ``kernel_cmdline: ``, ``module_cmdline: ``),
and the forms of the distributions that came before it (``grub_cmd ``, ``grub_kernel_cmdline ``,
``grub_linuxefi ``, ``grub_module ``). Where registers are those of a TDX guest both go to one register,
so the text tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cvmlab.eventlog import types
from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.wording import (
    MAX_TEXT,
    bounded_name,
    byte_text,
    kernel_words,
    one_line,
    split_words,
)

_COMMAND_PREFIXES: Final = ("grub_cmd: ", "grub_cmd ")
_KERNEL_PREFIXES: Final = ("kernel_cmdline: ", "grub_kernel_cmdline ")
_MODULE_PREFIX: Final = "module_cmdline: "
_OLD_FILE_PREFIXES: Final = ("grub_linuxefi ", "grub_linux ", "grub_module ", "grub_initrd ")
_PATH_COMMANDS: Final = frozenset(
    [
        "linux",
        "linux16",
        "linuxefi",
        "initrd",
        "initrd16",
        "initrdefi",
        "multiboot",
        "multiboot2",
        "module",
        "module2",
        "xen_hypervisor",
        "xen_module",
        "chainloader",
        "devicetree",
        "configfile",
        "source",
        "insmod",
        "loadfont",
        "normal",
    ]
)
_KERNEL: Final = re.compile(
    r"(?:vmlinu[xz]|bzImage|linux|kernel|Image)(?:[-._].*)?|grub_linux(?:efi)? Kernel"
)
_INITRD: Final = re.compile(r"(?:initrd|initramfs)(?:[-._].*)?|grub_linux(?:efi)? Initrd")
_CONFIGURATION: Final = re.compile(r"grub\.cfg.*|.*\.(?:cfg|conf)")


@dataclass(frozen=True, slots=True)
class GrubCommand:
    """A command that GRUB ran, its words joined by single spaces as GRUB logs it."""

    text: str


@dataclass(frozen=True, slots=True)
class KernelCommandLine:
    """A kernel's (or hypervisor's module's) command line.

    Attributes:
        path: Where the kernel lies, as the loader states it; empty where it does not.
        arguments: The rest.
    """

    path: str
    arguments: str


@dataclass(frozen=True, slots=True)
class BootFile:
    """A file that was read. The digest is of its contents, which the log does not have."""

    path: str


@decoder("grub", types.EV_IPL, kind="grub-command")
def _ipl(event: EventData) -> Payload | None:
    if event.set == "tpm" and event.register not in (8, 9):
        return None
    text = byte_text(event.data)
    if text is None:
        return None
    for prefix in _COMMAND_PREFIXES:
        if text.startswith(prefix):
            return _command(event, prefix)
    for prefix in _KERNEL_PREFIXES:
        if text.startswith(prefix):
            return _command_line(event, prefix, "")
    if text.startswith(_MODULE_PREFIX):
        return _command_line(event, _MODULE_PREFIX, "module")
    if event.register == 9 or text.startswith(("(", "/", *_OLD_FILE_PREFIXES)):
        return _file(text)
    return None


def _measured(event: EventData, prefix: str) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """Return the text behind a prefix and what its digest may be of: with and without the NUL."""
    body = event.data[len(prefix) :].partition(b"\0")[0]
    candidates = (("text without NUL", body), ("text with NUL", body + b"\0"), ("data", event.data))
    return body.decode("utf-8"), candidates


def _command(event: EventData, prefix: str) -> Payload:
    text, candidates = _measured(event, prefix)
    words = split_words(text)
    command = words[0] if words else ""
    fields: dict[str, object] = {"command": bounded_name(command), "text": text[:MAX_TEXT]}
    if command in _PATH_COMMANDS:
        path = next((word for word in words[1:] if not word.startswith("--")), "")
        fields["path"] = path
        if path:
            del words[words.index(path, 1)]
    fields["arguments"] = words[1:]
    # An unset variable leaves a blank before the first word: [  = 1 ]
    name = bounded_name(command)
    value = GrubCommand(text)
    return Payload("grub", "grub-command", name, one_line(text), value, fields, candidates, "data")


def _command_line(event: EventData, prefix: str, name: str) -> Payload:
    text, candidates = _measured(event, prefix)
    path, _, arguments = text.partition(" ")
    fields = {**command_line_fields(arguments), "path": path[:MAX_TEXT]}
    value = KernelCommandLine(path, arguments)
    return Payload("grub", "kernel-command-line", name, one_line(text), value, fields, candidates, "data")


def command_line_fields(arguments: str) -> dict[str, object]:
    """Return the fields of a kernel command line: the text, and its words at most `MAX_WORDS`."""
    return {"command_line": arguments[:MAX_TEXT], "words": kernel_words(arguments)}


def _file(text: str) -> Payload:
    path = text
    for prefix in ("grub_module ", "grub_initrd "):
        path = path.removeprefix(prefix)
    kind = file_kind(path)
    name = bounded_name(path)
    return Payload("grub", kind, name, one_line(path), BootFile(path), {"path": name}, (), "outside")


def file_kind(path: str) -> str:
    """Return the kind of a file that a boot loader read, by its name."""
    base = path.rpartition("/")[2]
    if base.endswith(".mod"):
        return "grub-module"
    if _CONFIGURATION.fullmatch(base):
        return "boot-configuration"
    if _KERNEL.fullmatch(base):
        return "kernel"
    return "initrd" if _INITRD.fullmatch(base) else "boot-file"
