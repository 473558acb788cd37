"""Files of a FAT file system in a disk image, read only: where firmware loads boot loaders from.

Source: Microsoft FAT specification (fatgen103); UEFI 2.10, section 13.3 and 5.3 (GPT).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cvmlab.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE: Final = 512 << 20
MAX_ENTRIES: Final = 100_000
MAX_DEPTH: Final = 16
EFI_SYSTEM_PARTITION: Final = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_ENTRY: Final = 32
_SECTORS: Final = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class _Volume:
    """Geometry of one FAT volume, in bytes from the start of the image."""

    file: BinaryIO
    bits: int
    cluster: int
    clusters: int
    fat: bytes
    root_at: int
    root_size: int
    root_cluster: int
    data_at: int

    def next(self, cluster: int) -> int:
        if self.bits == 12:
            at = cluster + cluster // 2
            pair = int.from_bytes(self.fat[at : at + 2], "little")
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        width = self.bits // 8
        value = int.from_bytes(self.fat[cluster * width : (cluster + 1) * width], "little")
        return value & 0x0FFFFFFF if self.bits == 32 else value

    def chain(self, cluster: int, limit: int) -> bytes:
        """Read a chain of clusters, at most `limit` bytes; a loop ends at the volume's number of clusters."""
        parts: list[bytes] = []
        size = steps = 0
        while 2 <= cluster < self.clusters + 2 and size < limit and steps <= self.clusters:
            self.file.seek(self.data_at + (cluster - 2) * self.cluster)
            parts.append(self.file.read(self.cluster))
            size += self.cluster
            steps += 1
            cluster = self.next(cluster)
        return b"".join(parts)[:limit]


def read_image(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path, contents) of every file on the EFI system partition, or of an image that is one volume.

    Raises:
        EvidenceError: No FAT volume is found.
    """
    with path.open("rb") as file:
        found = False
        for start in _starts(file):
            volume = _volume(file, start)
            if volume is None:
                continue
            found = True
            root = (
                volume.chain(volume.root_cluster, MAX_ENTRIES * _ENTRY)
                if volume.bits == 32
                else _at(file, volume.root_at, volume.root_size)
            )
            yield from _walk(volume, root, "", 0, [0])
        if not found:
            raise EvidenceError(
                f"{path}: no FAT volume in this image (an EFI system partition is looked for)"
            )


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _starts(file: BinaryIO) -> list[int]:
    """Offsets of EFI system partitions by GPT; 0 where there is no partition table."""
    for sector in _SECTORS:
        header = _at(file, sector, 92)
        if header[:8] != b"EFI PART":
            continue
        first = int.from_bytes(header[72:80], "little")
        count = min(int.from_bytes(header[80:84], "little"), 1024)
        size = int.from_bytes(header[84:88], "little")
        if not 128 <= size <= 4096:
            return []
        table = _at(file, first * sector, count * size)
        return [
            int.from_bytes(entry[32:40], "little") * sector
            for entry in (table[at : at + size] for at in range(0, len(table) - size + 1, size))
            if entry[:16] == EFI_SYSTEM_PARTITION.bytes_le
        ]
    return [0]


def _volume(file: BinaryIO, start: int) -> _Volume | None:
    boot = _at(file, start, 512)
    if len(boot) < 512 or boot[510:512] != b"\x55\xaa":
        return None
    sector, per_cluster = int.from_bytes(boot[11:13], "little"), boot[13]
    reserved, fats = int.from_bytes(boot[14:16], "little"), boot[16]
    if sector not in _SECTORS or per_cluster & (per_cluster - 1) or not per_cluster or not 1 <= fats <= 4:
        return None
    entries = int.from_bytes(boot[17:19], "little")
    total = int.from_bytes(boot[19:21], "little") or int.from_bytes(boot[32:36], "little")
    fat_sectors = int.from_bytes(boot[22:24], "little") or int.from_bytes(boot[36:40], "little")
    root_sectors = (entries * _ENTRY + sector - 1) // sector
    data_sector = reserved + fats * fat_sectors + root_sectors
    if not reserved or not fat_sectors or data_sector >= total or fat_sectors * sector > 256 << 20:
        return None
    clusters = (total - data_sector) // per_cluster
    # the number of clusters alone says which kind of FAT it is (fatgen103, "FAT Type Determination")
    bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    fat = _at(file, start + reserved * sector, fat_sectors * sector)
    return _Volume(
        file=file,
        bits=bits,
        cluster=per_cluster * sector,
        clusters=min(clusters, len(fat) * 8 // bits),
        fat=fat,
        root_at=start + (reserved + fats * fat_sectors) * sector,
        root_size=entries * _ENTRY,
        root_cluster=int.from_bytes(boot[44:48], "little"),
        data_at=start + data_sector * sector,
    )


def _walk(
    volume: _Volume, table: bytes, folder: str, depth: int, seen: list[int]
) -> Iterator[tuple[str, bytes]]:
    long_name: list[str] = []
    for at in range(0, len(table) - _ENTRY + 1, _ENTRY):
        entry = table[at : at + _ENTRY]
        seen[0] += 1
        if entry[0] == 0 or seen[0] > MAX_ENTRIES:
            return
        attributes = entry[11]
        if entry[0] == 0xE5:
            long_name.clear()
            continue
        if attributes == 0x0F:
            long_name.insert(0, (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le", "replace"))
            continue
        name = "".join(long_name).split("\0", 1)[0] or _short(entry)
        long_name.clear()
        if attributes & 0x08 or name in (".", ".."):
            continue
        cluster = int.from_bytes(entry[20:22], "little") << 16 | int.from_bytes(entry[26:28], "little")
        size = int.from_bytes(entry[28:32], "little")
        path = f"{folder}/{name}"
        if attributes & 0x10:
            if depth < MAX_DEPTH:
                yield from _walk(volume, volume.chain(cluster, MAX_ENTRIES * _ENTRY), path, depth + 1, seen)
        elif size <= MAX_FILE:
            yield path, volume.chain(cluster, size)


def _short(entry: bytes) -> str:
    stem = entry[:8].decode("cp437", "replace").rstrip()
    suffix = entry[8:11].decode("cp437", "replace").rstrip()
    return f"{stem}.{suffix}" if suffix else stem
