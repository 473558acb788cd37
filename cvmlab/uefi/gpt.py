"""UEFI_GPT_DATA: the partition table of the boot disk, the data of EV_EFI_GPT_EVENT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.uefi.guids import guid_name
from cvmlab.uefi.text import decode_utf16, until_nul

if TYPE_CHECKING:
    import uuid

    from cvmlab.binary import Cursor

MAX_PARTITIONS: Final = 1024
"""Most partitions read from one event."""
MAX_ENTRY_SIZE: Final = 4096
"""Largest SizeOfPartitionEntry, in bytes."""
_MIN_ENTRY_SIZE: Final = 128
_PADDING: Final = 4


# UEFI 2.10, section 5.3.2, table 5.5
@dataclass(frozen=True, slots=True)
class GptHeader:
    """The GPT header, all sizes in bytes and addresses in logical blocks."""

    revision: int
    header_size: int
    header_crc32: int
    my_lba: int
    alternate_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_guid: uuid.UUID
    partition_entry_lba: int
    number_of_partition_entries: int
    size_of_partition_entry: int
    partition_entry_array_crc32: int


# UEFI 2.10, section 5.3.3, table 5.6
@dataclass(frozen=True, slots=True)
class GptPartition:
    """One partition: first and last block are both part of it.

    Attributes:
        type_guid: PartitionTypeGUID.
        type_name: What the type is, or the GUID's text.
        unique_guid: UniquePartitionGUID: PARTUUID on Linux.
        first_lba: StartingLBA.
        last_lba: EndingLBA.
        attributes: Attributes.
        name: PartitionName up to its NUL.
    """

    type_guid: uuid.UUID
    type_name: str
    unique_guid: uuid.UUID
    first_lba: int
    last_lba: int
    attributes: int
    name: str


# TCG PC Client Platform Firmware Profile 1.06, section 10.2.5 (UEFI_GPT_DATA)
@dataclass(frozen=True, slots=True)
class UefiGptData:
    """The GPT header and the partitions in use.

    Attributes:
        header: UEFIPartitionHeader.
        partitions: The entries, in order.
        trailing: Bytes after the structure.
    """

    header: GptHeader
    partitions: tuple[GptPartition, ...]
    trailing: bytes = b""

    @property
    def disk_guid(self) -> uuid.UUID:
        """DiskGUID of the header."""
        return self.header.disk_guid


def parse_gpt_event(cursor: Cursor) -> UefiGptData:
    """Read one UEFI_GPT_DATA and everything behind it.

    Raises:
        ParseError: It is cut short, does not start with ``EFI PART``, states an entry size that is no
            multiple of 8 from 128 to `MAX_ENTRY_SIZE`, or more than `MAX_PARTITIONS` partitions.
    """
    entry_size_at = cursor.offset + 84
    header = _parse_header(cursor)
    size = header.size_of_partition_entry
    if not _MIN_ENTRY_SIZE <= size <= MAX_ENTRY_SIZE or size % 8:
        reason = f"{size} is no multiple of 8 from {_MIN_ENTRY_SIZE} to {MAX_ENTRY_SIZE}"
        raise cursor.error("SizeOfPartitionEntry", reason, at=entry_size_at)
    if _is_padded(cursor.remaining, size):
        cursor.take(_PADDING, "Padding")
    at = cursor.offset
    count = cursor.u64("NumberOfPartitions")
    if count > MAX_PARTITIONS:
        raise ParseError(
            cursor.source, at, "NumberOfPartitions", MAX_PARTITIONS, count, "more than the limit"
        )
    partitions = tuple(_parse_partition(cursor.sub(size, "Partitions")) for _ in range(count))
    return UefiGptData(header, partitions, cursor.rest())


def _is_padded(remaining: int, entry_size: int) -> bool:
    """Tell whether the firmware padded the header from 92 to 96 bytes (HP Compaq, TPM 1.2 logs).

    Only the size of the event tells: packed, whole entries follow a count of eight bytes.
    """
    return remaining >= _PADDING + 8 and (remaining - 8) % entry_size == _PADDING


def _parse_header(cursor: Cursor) -> GptHeader:
    at = cursor.offset
    if cursor.take(8, "Signature") != b"EFI PART":
        raise cursor.error("Signature", "is not 'EFI PART'", at=at)
    revision = cursor.u32("Revision")
    header_size = cursor.u32("HeaderSize")
    header_crc32 = cursor.u32("HeaderCRC32")
    cursor.u32("Reserved")
    return GptHeader(
        revision,
        header_size,
        header_crc32,
        my_lba=cursor.u64("MyLBA"),
        alternate_lba=cursor.u64("AlternateLBA"),
        first_usable_lba=cursor.u64("FirstUsableLBA"),
        last_usable_lba=cursor.u64("LastUsableLBA"),
        disk_guid=cursor.guid("DiskGUID"),
        partition_entry_lba=cursor.u64("PartitionEntryLBA"),
        number_of_partition_entries=cursor.u32("NumberOfPartitionEntries"),
        size_of_partition_entry=cursor.u32("SizeOfPartitionEntry"),
        partition_entry_array_crc32=cursor.u32("PartitionEntryArrayCRC32"),
    )


def _parse_partition(cursor: Cursor) -> GptPartition:
    type_guid = cursor.guid("PartitionTypeGUID")
    return GptPartition(
        type_guid,
        guid_name(type_guid),
        unique_guid=cursor.guid("UniquePartitionGUID"),
        first_lba=cursor.u64("StartingLBA"),
        last_lba=cursor.u64("EndingLBA"),
        attributes=cursor.u64("Attributes"),
        name=until_nul(decode_utf16(cursor.take(72, "PartitionName"))),
    )
