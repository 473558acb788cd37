"""Boot entries that differ in hardware addresses alone: the same device in another slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.uefi.bootentry import LoadOption

if TYPE_CHECKING:
    from cvmlab.eventlog.model import Payload
    from cvmlab.uefi.devicepath import DevicePath, DevicePathNode

# UEFI 2.10, section 10.3: PCI, SCSI, USB, MAC, SATA, NVMe: where a device is plugged in, or its own address
_ADDRESSES: Final = frozenset({(1, 1), (3, 2), (3, 5), (3, 11), (3, 18), (3, 23)})
_MAC: Final = (3, 11)
_MAC_SIZE: Final = 6
# ACPI_HID: the kind of device (HID) stands before its number (UID)
_ACPI: Final = (2, 1)
_HID_SIZE: Final = 4


def only_addresses_differ(before: Payload | None, after: Payload | None) -> bool:
    """Tell whether two boot entries start the same kind of device, found at another address.

    What is started must be the same: description, attributes, options, partition and file. An entry of
    another shape, or one that names another file or partition, is another entry.
    """
    if before is None or after is None:
        return False
    old, new = before.value, after.value
    if not isinstance(old, LoadOption) or not isinstance(new, LoadOption):
        return False
    return (
        (old.attributes, old.optional_data) == (new.attributes, new.optional_data)
        and _described(old) == _described(new)
        and len(old.other_paths) == len(new.other_paths)
        and all(
            _same_but_addresses(one, other)
            for one, other in zip(
                (old.device_path, *old.other_paths), (new.device_path, *new.other_paths), strict=True
            )
        )
    )


def _described(option: LoadOption) -> str:
    """The description without the network address that firmware writes into it."""
    text = option.description
    for node in option.device_path.nodes:
        if (node.type, node.subtype) == _MAC:
            text = text.replace(node.data[:_MAC_SIZE].hex().upper(), "")
    return text


def _same_but_addresses(one: DevicePath, other: DevicePath) -> bool:
    return len(one.nodes) == len(other.nodes) and all(
        _same_node(a, b) for a, b in zip(one.nodes, other.nodes, strict=True)
    )


def _same_node(one: DevicePathNode, other: DevicePathNode) -> bool:
    kind = (one.type, one.subtype)
    if kind != (other.type, other.subtype):
        return False
    if one.data == other.data:
        return True
    if kind == _ACPI:
        return one.data[:_HID_SIZE] == other.data[:_HID_SIZE]
    return kind in _ADDRESSES
