"""EFI device paths: where an image or a boot entry lies, as bytes and as UEFI text."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.uefi.devicenodes import node_text
from cvmlab.uefi.text import decode_utf16, until_nul

if TYPE_CHECKING:
    from cvmlab.binary import Cursor

MAX_NODES: Final = 256
"""Most nodes in one device path."""
_HEADER_SIZE: Final = 4
_END: Final = 0x7F
_END_INSTANCE: Final = 0x01
_END_ENTIRE: Final = 0xFF
_HARD_DRIVE: Final = (4, 1)
_FILE: Final = (4, 4)
_GPT_SIGNATURE: Final = 2


# UEFI 2.10, section 10.3.1 (EFI_DEVICE_PATH_PROTOCOL)
@dataclass(frozen=True, slots=True)
class DevicePathNode:
    """One node.

    Attributes:
        type: Type (1 hardware, 2 ACPI, 3 messaging, 4 media, 5 BIOS boot, 0x7F end).
        subtype: Sub-Type.
        data: Bytes after the four-byte header.
        text: UEFI text of the node; ``,`` for the end of an instance. Not escaped.
        offset: Absolute offset of the node in the source.
    """

    type: int
    subtype: int
    data: bytes
    text: str
    offset: int


# UEFI 2.10, sections 10.3 and 10.6
@dataclass(frozen=True, slots=True)
class DevicePath:
    r"""A device path without its last end node.

    Attributes:
        nodes: The nodes, in order, ends of instances included.
        text: UEFI text form, such as ``PciRoot(0x0)/Pci(0x1,0x0)/\EFI\BOOT\BOOTX64.EFI``. Not escaped.
    """

    nodes: tuple[DevicePathNode, ...]
    text: str

    @property
    def file_path(self) -> str | None:
        r"""The file nodes of the first instance that has any, joined with ``\``; None without one."""
        path: str | None = None
        for node in self.nodes:
            if (node.type, node.subtype) == _FILE:
                part = until_nul(decode_utf16(node.data))
                if path is None:
                    path = part
                elif path.endswith("\\") or part.startswith("\\"):
                    path += part
                else:
                    path += "\\" + part
            elif node.type == _END and path is not None:
                break
        return path

    @property
    def partition_guid(self) -> uuid.UUID | None:
        """GUID of the GPT partition in the first hard drive node; None without one."""
        for node in self.nodes:
            if (node.type, node.subtype) == _HARD_DRIVE and len(node.data) == 38:
                if node.data[37] != _GPT_SIGNATURE:
                    return None
                return uuid.UUID(bytes_le=node.data[20:36])
        return None


def parse_device_path(cursor: Cursor) -> DevicePath:
    """Read one device path up to and with its end node; no bytes at all give an empty path.

    A node whose contents do not fit its type keeps its bytes and is shown as
    ``Path(type,subtype,hex)``: it hides no other node.

    Args:
        cursor: Positioned at the first node; left behind the end node.

    Raises:
        ParseError: A node is shorter than its header or past the end, an end node has contents or an
            unknown sub-type, there is no end node, or there are more than `MAX_NODES` nodes.
    """
    nodes: list[DevicePathNode] = []
    if not cursor.remaining:
        return DevicePath((), "")
    while True:
        at = cursor.offset
        kind = cursor.u8("DevicePath.Type")
        subtype = cursor.u8("DevicePath.SubType")
        length = cursor.u16("DevicePath.Length")
        if length < _HEADER_SIZE:
            raise ParseError(cursor.source, at + 2, "DevicePath.Length", _HEADER_SIZE, length, "too small")
        body = cursor.sub(length - _HEADER_SIZE, "DevicePath")
        if kind == _END:
            if body.remaining or subtype not in (_END_INSTANCE, _END_ENTIRE):
                raise cursor.error("DevicePath", "malformed end node", at=at)
            if subtype == _END_ENTIRE:
                return DevicePath(tuple(nodes), _join(nodes))
        if len(nodes) == MAX_NODES:
            raise cursor.error("DevicePath", f"more than {MAX_NODES} nodes", at=at)
        data = body.rest()
        text = "," if kind == _END else node_text(kind, subtype, data)
        nodes.append(DevicePathNode(kind, subtype, data, text, at))


def _join(nodes: list[DevicePathNode]) -> str:
    parts: list[str] = []
    for index, node in enumerate(nodes):
        if index and node.type != _END and nodes[index - 1].type != _END:
            parts.append("/")
        parts.append(node.text)
    return "".join(parts)
