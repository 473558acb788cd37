r"""Device paths built by hand after UEFI 2.10, sections 10.3 (bytes) and 10.6 (text)."""

from __future__ import annotations

import contextlib
import struct
import time
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.devicepath import MAX_NODES, DevicePath, parse_device_path

END = bytes.fromhex("7fff0400")
END_INSTANCE = bytes.fromhex("7f010400")
GUID = uuid.UUID("11111111-2222-4333-8444-5555aaaa0002")
PCI_ROOT = bytes.fromhex("02010c00d041030a00000000")


def node(kind: int, subtype: int, data: bytes = b"") -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(data)) + data


def utf16(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


def file_node(text: str) -> bytes:
    return node(4, 4, utf16(text))


def read(*nodes: bytes) -> DevicePath:
    return parse_device_path(Cursor(b"".join(nodes) + END))


# A path of a measured boot. Origin of the text: libefivar 37 (efidp_format_device_path), which writes the
# file node in its long form, File(...); UEFI 2.10 table 10.67 allows the bare path.
REAL = bytes.fromhex(
    "02010c00d041030a0000000001010600000104012a0001000000000800000000000000c003000000000011111111222233438444"
    "5555aaaa00020202040434005c004500460049005c00640065006200690061006e005c007300680069006d007800360034002e00"
    "65006600690000007fff0400"
)


def test_real_path() -> None:
    path = parse_device_path(Cursor(REAL, base=50))
    assert path.text == (
        "PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,11111111-2222-4333-8444-5555aaaa0002,0x800,0x3c000)"
        r"/\EFI\debian\shimx64.efi"
    )
    assert path.file_path == r"\EFI\debian\shimx64.efi"
    assert path.partition_guid == GUID
    assert [each.offset for each in path.nodes] == [50, 62, 68, 110]


IP4_LOCAL, IP4_REMOTE = bytes([192, 168, 0, 2]), bytes([192, 168, 0, 1])
IP6_LOCAL, IP6_REMOTE = uuid.UUID(int=0xFE80 << 112 | 2).bytes, uuid.UUID(int=0xFE80 << 112 | 1).bytes
IP6_TEXT = "fe80:0000:0000:0000:0000:0000:0000:000"
VIRTUAL_CD = uuid.UUID("3d5abd30-4175-87ce-6d64-d2ade523c4bb").bytes_le
ACPI_EX = struct.pack("<III", 0x0A0341D0, 0, 0x0A0841D0)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (node(1, 1, bytes([2, 0x1F])), "Pci(0x1f,0x2)"),
        (node(1, 2, bytes([3])), "PcCard(0x3)"),
        (node(1, 3, struct.pack("<IQQ", 11, 0x1000, 0x1FFF)), "MemoryMapped(0xb,0x1000,0x1fff)"),
        (node(1, 4, GUID.bytes_le), f"VenHw({GUID})"),
        (node(1, 4, GUID.bytes_le + b"\x01\xab"), f"VenHw({GUID},01ab)"),
        (node(1, 5, struct.pack("<I", 7)), "Ctrl(0x7)"),
        (node(1, 6, struct.pack("<BQ", 1, 0xCA2)), "BMC(0x1,0xca2)"),
        (node(2, 1, struct.pack("<II", 0x0A0341D0, 1)), "PciRoot(0x1)"),
        (node(2, 1, struct.pack("<II", 0x0A0841D0, 0)), "PcieRoot(0x0)"),
        (node(2, 1, struct.pack("<II", 0x060441D0, 1)), "Floppy(0x1)"),
        (node(2, 1, struct.pack("<II", 0x030141D0, 0)), "Keyboard(0x0)"),
        (node(2, 1, struct.pack("<II", 0x050141D0, 1)), "Serial(0x1)"),
        (node(2, 1, struct.pack("<II", 0x040141D0, 1)), "ParallelPort(0x1)"),
        (node(2, 1, struct.pack("<II", 0x0C0F41D0, 2)), "Acpi(PNP0C0F,0x2)"),
        (node(2, 1, struct.pack("<II", 0x12345678, 2)), "Acpi(0x12345678,0x2)"),
        (node(2, 2, ACPI_EX + b"\0U1\0\0"), "AcpiExp(PNP0A03,PNP0A08,U1)"),
        (node(2, 2, ACPI_EX + b"HID\0U1\0CID\0"), "AcpiEx(PNP0A03,PNP0A08,U1)"),
        (node(2, 2, bytes(12) + b"HID\0U1\0CID\0"), "AcpiEx(HID,CID,U1)"),
        (node(2, 3, struct.pack("<II", 0x80010100, 5)), "AcpiAdr(0x80010100,0x5)"),
        (node(3, 1, struct.pack("<BBH", 1, 0, 2)), "Ata(Secondary,Master,0x2)"),
        (node(3, 1, struct.pack("<BBH", 0, 1, 0)), "Ata(Primary,Slave,0x0)"),
        (node(3, 2, struct.pack("<HH", 5, 1)), "Scsi(0x5,0x1)"),
        (node(3, 3, struct.pack("<IQQ", 0, 0xAB, 1)), "Fibre(0xab,0x1)"),
        (node(3, 4, struct.pack("<IQ", 0, 0x1234)), "I1394(0000000000001234)"),
        (node(3, 5, bytes([3, 0])), "USB(0x3,0x0)"),
        (node(3, 6, struct.pack("<I", 9)), "I2O(0x9)"),
        (node(3, 9, struct.pack("<I", 1) + GUID.bytes_le + struct.pack("<QQQ", 2, 3, 4)),
         f"Infiniband(0x1,{GUID},0x2,0x3,0x4)"),
        (node(3, 10, GUID.bytes_le), f"VenMsg({GUID})"),
        (node(3, 11, bytes.fromhex("525400123456") + bytes(26) + b"\x01"), "MAC(525400123456,0x1)"),
        (node(3, 12, IP4_LOCAL + IP4_REMOTE + struct.pack("<HHHB", 1, 2, 6, 1)),
         "IPv4(192.168.0.1,TCP,Static,192.168.0.2)"),
        (node(3, 12, IP4_LOCAL + IP4_REMOTE + struct.pack("<HHHB", 1, 2, 17, 0) + IP4_REMOTE
         + b"\xff\xff\xff\0"),
         "IPv4(192.168.0.1,UDP,DHCP,192.168.0.2,192.168.0.1,255.255.255.0)"),
        (node(3, 13, IP6_LOCAL + IP6_REMOTE + struct.pack("<HHHB", 1, 2, 6, 1)),
         f"IPv6({IP6_TEXT}1,TCP,StatelessAutoConfigure,{IP6_TEXT}2)"),
        (node(3, 13, IP6_LOCAL + IP6_REMOTE + struct.pack("<HHHBB", 1, 2, 99, 0, 64) + IP6_REMOTE),
         f"IPv6({IP6_TEXT}1,0x63,Static,{IP6_TEXT}2,0x40,{IP6_TEXT}1)"),
        (node(3, 14, struct.pack("<IQBBB", 0, 115200, 8, 1, 1)), "Uart(115200,8,N,1)"),
        (node(3, 14, struct.pack("<IQBBB", 0, 0, 0, 0, 2)), "Uart(DEFAULT,DEFAULT,D,1.5)"),
        (node(3, 14, struct.pack("<IQBBB", 0, 0, 0, 255, 255)), "Uart(DEFAULT,DEFAULT,x,x)"),
        (node(3, 15, struct.pack("<HHBBB", 1, 2, 8, 6, 80)), "UsbMassStorage(0x1,0x2,0x6,0x50)"),
        (node(3, 15, struct.pack("<HHBBB", 1, 2, 254, 1, 4)), "UsbDeviceFirmwareUpdate(0x1,0x2,0x4)"),
        (node(3, 15, struct.pack("<HHBBB", 1, 2, 255, 255, 255)), "UsbClass(0x1,0x2,0xff,0xff,0xff)"),
        (node(3, 16, struct.pack("<HHH", 0, 0x46D, 0xC0) + "S1".encode("utf-16-le")),
         'UsbWwid(0x46d,0xc0,0x0,"S1")'),
        (node(3, 17, bytes([4])), "Unit(0x4)"),
        (node(3, 18, struct.pack("<HHH", 1, 0xFFFF, 0)), "Sata(0x1,0xffff,0x0)"),
        (node(3, 19, struct.pack("<HH", 0, 0x1002) + bytes(7) + b"\x01" + struct.pack("<H", 1) + b"iqn.x\0"),
         "iSCSI(iqn.x,0x1,0x0000000000000001,CRC32C,None,CHAP_UNI,TCP)"),
        (node(3, 20, struct.pack("<H", 100)), "Vlan(100)"),
        (node(3, 21, bytes(4) + bytes(range(8)) + bytes(8)),
         "FibreEx(0x0001020304050607,0x0000000000000000)"),
        (node(3, 23, struct.pack("<I", 1) + bytes(range(8))), "NVMe(0x1,07-06-05-04-03-02-01-00)"),
        (node(3, 24, b"http://example/a.efi"), "Uri(http://example/a.efi)"),
        (node(3, 24), "Uri()"),
        (node(3, 25, bytes([1, 2])), "UFS(0x1,0x2)"),
        (node(3, 26, bytes([1])), "SD(0x1)"),
        (node(3, 27, bytes.fromhex("0102030405ff")), "Bluetooth(0102030405ff)"),
        (node(3, 28, b"net".ljust(32, b"\0")), "Wi-Fi(net)"),
        (node(3, 29, bytes([2])), "eMMC(0x2)"),
        (node(3, 30, bytes.fromhex("0102030405ff01")), "BluetoothLE(0102030405ff,0x01)"),
        (node(3, 31, b"\0" + IP4_REMOTE + bytes(12) + IP4_LOCAL + bytes(12)), "Dns(192.168.0.1,192.168.0.2)"),
        (node(3, 31, b"\x01" + IP6_LOCAL), f"Dns({IP6_TEXT}2)"),
        (node(4, 1, struct.pack("<IQQ", 2, 0x800, 0x10) + bytes.fromhex("efbeadde") + bytes(12)
         + b"\x01\x01"),
         "HD(2,MBR,0xdeadbeef,0x800,0x10)"),
        (node(4, 1, struct.pack("<IQQ", 2, 0x800, 0x10) + bytes(16) + b"\x01\x00"), "HD(2,0,0,0x800,0x10)"),
        (node(4, 2, struct.pack("<IQQ", 1, 0x20, 0x30)), "CDROM(0x1,0x20,0x30)"),
        (node(4, 3, GUID.bytes_le), f"VenMedia({GUID})"),
        (node(4, 5, GUID.bytes_le), f"Media({GUID})"),
        (node(4, 6, GUID.bytes_le), f"FvFile({GUID})"),
        (node(4, 7, GUID.bytes_le), f"Fv({GUID})"),
        (node(4, 8, struct.pack("<IQQ", 0, 0x10, 0x20)), "Offset(0x10,0x20)"),
        (node(4, 9, struct.pack("<QQ", 1, 2) + VIRTUAL_CD + b"\x03\0"), "VirtualCD(0x1,0x2,3)"),
        (node(4, 9, struct.pack("<QQ", 1, 2) + GUID.bytes_le + b"\x03\0"), f"RamDisk(0x1,0x2,3,{GUID})"),
        (node(5, 1, struct.pack("<HH", 2, 0x900) + b"disk\0"), "BBS(HD,disk,0x900)"),
        (node(5, 1, struct.pack("<HH", 0x80, 0) + b"nic\0"), "BBS(0x80,nic,0x0)"),
    ],
)  # fmt: skip
def test_text_of_node(raw: bytes, text: str) -> None:
    assert read(raw).text == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (node(1, 99, b"\xab\xcd"), "Path(1,99,abcd)"),
        (node(6, 1), "Path(6,1)"),
        (node(1, 1, b"\x00"), "Path(1,1,00)"),
        (node(1, 1, b"\x00\x01\x02"), "Path(1,1,000102)"),
        (node(4, 1, bytes(37)), f"Path(4,1,{'00' * 37})"),
        (node(2, 2, bytes(12) + b"a\0b\0c"), f"Path(2,2,{'00' * 12}6100620063)"),
        (node(2, 3), "Path(2,3)"),
        (node(4, 4, b"abc"), "Path(4,4,616263)"),
        (node(4, 4, b"\0\0"), ""),
    ],
    ids=[
        "unknown_subtype", "unknown_type", "pci_too_short", "pci_too_long", "hd_too_short",
        "acpi_ex_unterminated",
        "acpi_adr_empty", "file_path_odd", "file_path_empty",
    ],
)  # fmt: skip
def test_odd_nodes_hide_nothing(raw: bytes, text: str) -> None:
    assert read(PCI_ROOT, raw, node(1, 1, b"\0\1")).text == f"PciRoot(0x0)/{text}/Pci(0x1,0x0)"


def test_long_unknown_node_is_cut_in_the_text_only() -> None:
    path = read(node(1, 99, bytes(60_000)))
    assert path.text == f"Path(1,99,{'00' * 128}...)"
    assert len(path.nodes[0].data) == 60_000


def test_empty_paths() -> None:
    assert parse_device_path(Cursor(b"")) == DevicePath((), "")
    assert read() == DevicePath((), "")
    assert read().file_path is None
    assert read().partition_guid is None


def test_instances_are_parted_by_a_comma() -> None:
    path = read(file_node("A"), END_INSTANCE, file_node("B"))
    assert path.text == "A,B"
    assert path.file_path == "A"


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (["\\EFI", "a.efi"], "\\EFI\\a.efi"),
        (["\\EFI\\", "a.efi"], "\\EFI\\a.efi"),
        (["\\EFI", "\\a"], "\\EFI\\a"),
    ],
)
def test_file_nodes_are_joined(parts: list[str], joined: str) -> None:
    assert read(*map(file_node, parts)).file_path == joined


def test_text_behind_a_nul_is_not_part_of_the_file_path() -> None:
    assert read(file_node("\\a.efi\0\\b.efi")).file_path == "\\a.efi"


def test_lone_surrogate_in_file_path_is_printable_text() -> None:
    read(node(4, 4, b"\x00\xd8\0\0")).text.encode()


def test_mbr_partition_has_no_guid() -> None:
    assert read(node(4, 1, bytes(36) + b"\x01\x01")).partition_guid is None


def test_reader_stops_behind_the_end_node() -> None:
    cursor = Cursor(PCI_ROOT + END + b"more")
    parse_device_path(cursor)
    assert cursor.rest() == b"more"


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (bytes.fromhex("01010000") + END, 2),
        (bytes.fromhex("01010100") + END, 2),
        (bytes.fromhex("01010300") + END, 2),
        (bytes.fromhex("0101ffff") + END, 4),
        (bytes.fromhex("01010600") + b"\0", 4),
        (PCI_ROOT, 12),
        (b"\x7f", 1),
        (bytes.fromhex("7fff"), 2),
        (bytes.fromhex("7fff0500") + b"\0", 0),
        (bytes.fromhex("7f020400") + END, 0),
        (PCI_ROOT * (MAX_NODES + 1) + END, 12 * MAX_NODES),
        (END_INSTANCE * (MAX_NODES + 1) + END, 4 * MAX_NODES),
    ],
    ids=[
        "length_zero", "length_one", "length_three", "length_max", "length_past_end", "end_node_missing",
        "header_one_byte", "header_two_bytes", "end_node_with_contents", "end_node_of_unknown_subtype",
        "too_many_nodes", "too_many_instances",
    ],
)  # fmt: skip
def test_malformed(raw: bytes, offset: int) -> None:
    with pytest.raises(ParseError) as caught:
        parse_device_path(Cursor(raw))
    assert caught.value.offset == offset


def test_most_nodes_are_read() -> None:
    assert len(read(PCI_ROOT * MAX_NODES).nodes) == MAX_NODES


@pytest.mark.parametrize(
    ("kind", "subtype"), [(2, 2), (2, 3), (3, 16), (3, 24), (3, 31), (4, 4), (5, 1), (9, 9)]
)
def test_time_of_largest_nodes(kind: int, subtype: int) -> None:
    raw = node(kind, subtype, bytes(65_528)) * 16
    start = time.process_time()
    read(raw)
    assert time.process_time() - start < 2


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 32), st.binary(max_size=50)), max_size=5),
    st.binary(max_size=9),
)
def test_never_crashes(nodes: list[tuple[int, int, bytes]], tail: bytes) -> None:
    raw = b"".join(node(*each) for each in nodes)
    path = read(raw)
    path.text.encode()
    assert [each.data for each in path.nodes] == [data for _, _, data in nodes]
    assert path.file_path is None or isinstance(path.file_path, str)
    assert path.partition_guid is None or isinstance(path.partition_guid, uuid.UUID)
    with contextlib.suppress(CvmlabError):
        parse_device_path(Cursor(raw + tail))
