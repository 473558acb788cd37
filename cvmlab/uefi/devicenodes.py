"""UEFI text of single device path nodes (UEFI 2.10, sections 10.3 and 10.6.1.6).

The display form is the one that firmware prints, with GUIDs in lower case as Linux tools print them. A
node that does not have exactly the size of its type is not forced into its form: it becomes
``Path(type,subtype,hex)``.
"""

from __future__ import annotations

import ipaddress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor
from cvmlab.errors import ParseError
from cvmlab.uefi.text import decode_utf8, decode_utf16, short_hex, until_nul

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    NodeFormatter = Callable[[Cursor], str]


def node_text(kind: int, subtype: int, data: bytes) -> str:
    """Return the text of one node.

    Args:
        kind: Type of the node.
        subtype: Sub-Type of the node.
        data: The node without its four-byte header.
    """
    formatter = _FORMATTERS.get((kind, subtype))
    if formatter is not None:
        cursor = Cursor(data)
        try:
            text = formatter(cursor)
            cursor.finish("node")
        except ParseError:
            pass
        else:
            return text
    contents = f",{short_hex(data)}" if data else ""
    return f"Path({kind},{subtype}{contents})"


def _fields(name: str, *widths: int) -> NodeFormatter:
    """Make the formatter of a node that is just numbers: ``Name(0x1,0x2)``."""

    def format_node(cursor: Cursor) -> str:
        values = (int.from_bytes(cursor.take(width, name), "little") for width in widths)
        return f"{name}({','.join(f'{value:#x}' for value in values)})"

    return format_node


def _guid_node(name: str) -> NodeFormatter:
    return lambda cursor: f"{name}({cursor.guid(name)})"


# Hardware and ACPI: UEFI 2.10, sections 10.3.2 and 10.3.3


def _pci(cursor: Cursor) -> str:
    function = cursor.u8("Function")
    return f"Pci({cursor.u8('Device'):#x},{function:#x})"


def _vendor(name: str) -> NodeFormatter:
    def format_node(cursor: Cursor) -> str:
        guid = cursor.guid("Vendor_GUID")
        data = cursor.rest()
        return f"{name}({guid},{short_hex(data)})" if data else f"{name}({guid})"

    return format_node


_PNP_NAMES: Final = {
    0x0A03: "PciRoot",
    0x0A08: "PcieRoot",
    0x0604: "Floppy",
    0x0301: "Keyboard",
    0x0501: "Serial",
    0x0401: "ParallelPort",
}
_PNP_VENDOR: Final = 0x41D0


def _acpi(cursor: Cursor) -> str:
    hid, uid = cursor.u32("_HID"), cursor.u32("_UID")
    if hid & 0xFFFF != _PNP_VENDOR:
        return f"Acpi(0x{hid:08x},{uid:#x})"
    name = _PNP_NAMES.get(hid >> 16)
    return f"{name}({uid:#x})" if name else f"Acpi(PNP{hid >> 16:04X},{uid:#x})"


def _eisa_id(value: int) -> str:
    # Compressed EISA ID: three letters of five bits and four hex digits (ACPI 6.5, section 19.3.4)
    if not value:
        return "0"
    letters = "".join(chr((value >> shift & 0x1F) + 0x40) for shift in (10, 5, 0))
    return f"{letters}{value >> 16:04X}"


def _acpi_expanded(cursor: Cursor) -> str:
    hid, uid, cid = cursor.u32("_HID"), cursor.u32("_UID"), cursor.u32("_CID")
    texts = cursor.rest().split(b"\0")
    if len(texts) != 4 or texts[3]:
        raise cursor.error("AcpiEx", "is not three strings")
    hid_text, uid_text, cid_text = (decode_utf8(text) for text in texts[:3])
    if not (hid_text or cid_text or uid):
        return f"AcpiExp({_eisa_id(hid)},{_eisa_id(cid)},{uid_text})"
    return (
        f"AcpiEx({_eisa_id(hid) if hid else hid_text},"
        f"{_eisa_id(cid) if cid else cid_text},{f'{uid:#x}' if uid else uid_text})"
    )


def _acpi_adr(cursor: Cursor) -> str:
    values = [cursor.u32("_ADR")]
    while cursor.remaining:
        values.append(cursor.u32("_ADR"))
    return f"AcpiAdr({','.join(f'{value:#x}' for value in values)})"


# Messaging: UEFI 2.10, section 10.3.4


def _ata(cursor: Cursor) -> str:
    secondary, slave, lun = cursor.u8("PrimarySecondary"), cursor.u8("SlaveMaster"), cursor.u16("LUN")
    channel = "Secondary" if secondary == 1 else "Primary"
    return f"Ata({channel},{'Slave' if slave == 1 else 'Master'},{lun:#x})"


def _fibre(cursor: Cursor) -> str:
    cursor.u32("Reserved")
    return f"Fibre({cursor.u64('WWN'):#x},{cursor.u64('LUN'):#x})"


def _fibre_ex(cursor: Cursor) -> str:
    cursor.u32("Reserved")
    return f"FibreEx(0x{cursor.take(8, 'WWN').hex()},0x{cursor.take(8, 'LUN').hex()})"


def _firewire(cursor: Cursor) -> str:
    cursor.u32("Reserved")
    return f"I1394({cursor.u64('GUID'):016x})"


def _usb_wwid(cursor: Cursor) -> str:
    interface, vendor, product = cursor.u16("Interface"), cursor.u16("VendorId"), cursor.u16("ProductId")
    serial = until_nul(decode_utf16(cursor.rest()))
    return f'UsbWwid({vendor:#x},{product:#x},{interface:#x},"{serial}")'


_USB_CLASSES: Final = {
    1: "UsbAudio",
    2: "UsbCDCControl",
    3: "UsbHID",
    6: "UsbImage",
    7: "UsbPrinter",
    8: "UsbMassStorage",
    9: "UsbHub",
    10: "UsbCDCData",
    11: "UsbSmartCard",
    14: "UsbVideo",
    220: "UsbDiagnostic",
    224: "UsbWireless",
}
_USB_APPLICATIONS: Final = {1: "UsbDeviceFirmwareUpdate", 2: "UsbIrdaBridge", 3: "UsbTestAndMeasurement"}


def _usb_class(cursor: Cursor) -> str:
    vendor, product = cursor.u16("VendorId"), cursor.u16("ProductId")
    kind, sub, protocol = cursor.u8("DeviceClass"), cursor.u8("DeviceSubClass"), cursor.u8("DeviceProtocol")
    if kind in _USB_CLASSES:
        return f"{_USB_CLASSES[kind]}({vendor:#x},{product:#x},{sub:#x},{protocol:#x})"
    if kind == 254 and sub in _USB_APPLICATIONS:
        return f"{_USB_APPLICATIONS[sub]}({vendor:#x},{product:#x},{protocol:#x})"
    return f"UsbClass({vendor:#x},{product:#x},{kind:#x},{sub:#x},{protocol:#x})"


def _mac(cursor: Cursor) -> str:
    address, interface = cursor.take(32, "MAC"), cursor.u8("IfType")
    size = 6 if interface in (0, 1) else 32
    return f"MAC({address[:size].hex()},{interface:#x})"


def _ip4(cursor: Cursor) -> str:
    return str(ipaddress.IPv4Address(cursor.take(4, "IPv4")))


def _ip6(cursor: Cursor) -> str:
    return ipaddress.IPv6Address(cursor.take(16, "IPv6")).exploded


def _protocol(number: int) -> str:
    return {6: "TCP", 17: "UDP"}.get(number, f"{number:#x}")


def _ipv4(cursor: Cursor) -> str:
    local, remote = _ip4(cursor), _ip4(cursor)
    cursor.take(4, "Ports")
    protocol = _protocol(cursor.u16("Protocol"))
    origin = "Static" if cursor.u8("StaticIpAddress") else "DHCP"
    gateway = f",{_ip4(cursor)},{_ip4(cursor)}" if cursor.remaining else ""
    return f"IPv4({remote},{protocol},{origin},{local}{gateway})"


_IPV6_ORIGINS: Final = {0: "Static", 1: "StatelessAutoConfigure", 2: "StatefulAutoConfigure"}


def _ipv6(cursor: Cursor) -> str:
    local, remote = _ip6(cursor), _ip6(cursor)
    cursor.take(4, "Ports")
    protocol = _protocol(cursor.u16("Protocol"))
    number = cursor.u8("IpAddressOrigin")
    origin = _IPV6_ORIGINS.get(number, f"{number:#x}")
    gateway = f",{cursor.u8('PrefixLength'):#x},{_ip6(cursor)}" if cursor.remaining else ""
    return f"IPv6({remote},{protocol},{origin},{local}{gateway})"


def _infiniband(cursor: Cursor) -> str:
    flags, gid = cursor.u32("Flags"), cursor.guid("PortGid")
    numbers = ",".join(f"{cursor.u64('Infiniband'):#x}" for _ in range(3))
    return f"Infiniband({flags:#x},{gid},{numbers})"


def _uart(cursor: Cursor) -> str:
    cursor.u32("Reserved")
    baud, bits, parity, stop = cursor.u64("Baud"), cursor.u8("Bits"), cursor.u8("Parity"), cursor.u8("Stop")
    return (
        f"Uart({baud or 'DEFAULT'},{bits or 'DEFAULT'},{'DNEOMS'[parity] if parity < 6 else 'x'},"
        f"{('D', '1', '1.5', '2')[stop] if stop < 4 else 'x'})"
    )


def _iscsi(cursor: Cursor) -> str:
    protocol, options = cursor.u16("Protocol"), cursor.u16("Options")
    lun, group = cursor.take(8, "LUN"), cursor.u16("TargetPortalGroup")
    target = until_nul(decode_utf8(cursor.rest()))
    header = "CRC32C" if options & 0x2 else "None"
    data = "CRC32C" if options & 0x8 else "None"
    authentication = "None" if options & 0x800 else "CHAP_UNI" if options & 0x1000 else "CHAP_BI"
    transport = "reserved" if protocol else "TCP"
    return f"iSCSI({target},{group:#x},0x{lun.hex()},{header},{data},{authentication},{transport})"


def _nvme(cursor: Cursor) -> str:
    namespace, eui = cursor.u32("NamespaceId"), cursor.take(8, "EUI-64")
    return f"NVMe({namespace:#x},{eui[::-1].hex('-')})"


def _uri(cursor: Cursor) -> str:
    return f"Uri({until_nul(decode_utf8(cursor.rest()))})"


def _dns(cursor: Cursor) -> str:
    ipv6 = cursor.u8("IsIPv6")
    servers: list[str] = []
    while cursor.remaining:
        slot = cursor.sub(16, "DnsServerIp")
        servers.append(_ip6(slot) if ipv6 else _ip4(slot))
    return f"Dns({','.join(servers)})"


def _wifi(cursor: Cursor) -> str:
    return f"Wi-Fi({until_nul(decode_utf8(cursor.take(32, 'SSID')))})"


def _bluetooth(cursor: Cursor) -> str:
    return f"Bluetooth({cursor.take(6, 'Address').hex()})"


def _bluetooth_le(cursor: Cursor) -> str:
    return f"BluetoothLE({cursor.take(6, 'Address').hex()},0x{cursor.u8('AddressType'):02x})"


def _vlan(cursor: Cursor) -> str:
    return f"Vlan({cursor.u16('VlanId')})"


# Media and BIOS boot: UEFI 2.10, sections 10.3.5 and 10.3.6


def _hard_drive(cursor: Cursor) -> str:
    number, start, size = cursor.u32("PartitionNumber"), cursor.u64("Start"), cursor.u64("Size")
    signature = cursor.sub(16, "Signature")
    cursor.u8("MBRType")
    kind = cursor.u8("SignatureType")
    if kind == 1:
        label = f"MBR,0x{signature.u32('Signature'):08x}"
    elif kind == 2:
        label = f"GPT,{signature.guid('Signature')}"
    else:
        label = f"{kind},0"
    return f"HD({number},{label},{start:#x},{size:#x})"


def _file(cursor: Cursor) -> str:
    if cursor.remaining % 2:
        raise cursor.error("PathName", "odd number of bytes")
    return until_nul(decode_utf16(cursor.rest()))


def _offset_range(cursor: Cursor) -> str:
    cursor.u32("Reserved")
    return f"Offset({cursor.u64('StartingOffset'):#x},{cursor.u64('EndingOffset'):#x})"


_RAM_DISKS: Final = {
    "77ab535a-45fc-624b-5560-f7b281d1f96e": "VirtualDisk",
    "3d5abd30-4175-87ce-6d64-d2ade523c4bb": "VirtualCD",
    "5cea02c9-4d07-69d3-269f-4496fbe096f9": "PersistentVirtualDisk",
    "08018188-42cd-bb48-100f-5387d53ded3d": "PersistentVirtualCD",
}


def _ram_disk(cursor: Cursor) -> str:
    start, end, guid = cursor.u64("Start"), cursor.u64("End"), str(cursor.guid("DiskType"))
    instance = cursor.u16("Instance")
    if guid in _RAM_DISKS:
        return f"{_RAM_DISKS[guid]}({start:#x},{end:#x},{instance})"
    return f"RamDisk({start:#x},{end:#x},{instance},{guid})"


_BBS_TYPES: Final = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}


def _bbs(cursor: Cursor) -> str:
    kind, status = cursor.u16("DeviceType"), cursor.u16("StatusFlag")
    description = until_nul(decode_utf8(cursor.rest()))
    return f"BBS({_BBS_TYPES.get(kind, f'{kind:#x}')},{description},{status:#x})"


_FORMATTERS: Final[Mapping[tuple[int, int], NodeFormatter]] = MappingProxyType(
    {
        (1, 1): _pci,
        (1, 2): _fields("PcCard", 1),
        (1, 3): _fields("MemoryMapped", 4, 8, 8),
        (1, 4): _vendor("VenHw"),
        (1, 5): _fields("Ctrl", 4),
        (1, 6): _fields("BMC", 1, 8),
        (2, 1): _acpi,
        (2, 2): _acpi_expanded,
        (2, 3): _acpi_adr,
        (3, 1): _ata,
        (3, 2): _fields("Scsi", 2, 2),
        (3, 3): _fibre,
        (3, 4): _firewire,
        (3, 5): _fields("USB", 1, 1),
        (3, 6): _fields("I2O", 4),
        (3, 9): _infiniband,
        (3, 10): _vendor("VenMsg"),
        (3, 11): _mac,
        (3, 12): _ipv4,
        (3, 13): _ipv6,
        (3, 14): _uart,
        (3, 15): _usb_class,
        (3, 16): _usb_wwid,
        (3, 17): _fields("Unit", 1),
        (3, 18): _fields("Sata", 2, 2, 2),
        (3, 19): _iscsi,
        (3, 20): _vlan,
        (3, 21): _fibre_ex,
        (3, 23): _nvme,
        (3, 24): _uri,
        (3, 25): _fields("UFS", 1, 1),
        (3, 26): _fields("SD", 1),
        (3, 27): _bluetooth,
        (3, 28): _wifi,
        (3, 29): _fields("eMMC", 1),
        (3, 30): _bluetooth_le,
        (3, 31): _dns,
        (4, 1): _hard_drive,
        (4, 2): _fields("CDROM", 4, 8, 8),
        (4, 3): _vendor("VenMedia"),
        (4, 4): _file,
        (4, 5): _guid_node("Media"),
        (4, 6): _guid_node("FvFile"),
        (4, 7): _guid_node("Fv"),
        (4, 8): _offset_range,
        (4, 9): _ram_disk,
        (5, 1): _bbs,
    }
)
