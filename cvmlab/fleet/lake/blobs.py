"""Contents, each stored once: whole, or relative to another one of the same shape.

Logs of machines that boot alike differ in a few events. Zstandard takes one of them as its dictionary, so
that of every other only what differs is stored (RFC 8878, section 5: a raw content dictionary). What comes
back is held to its SHA-256.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import EvidenceError, MissingExtraError
from cvmlab.evidence.sources import MAX_FILE
from cvmlab.fleet.lake.schema import arrow_table
from cvmlab.tables_lake import BLOBS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from cvmlab.fleet.lake.store import Lake

MAX_BASE: Final = 1 << 20
"""Largest content that others are stored relative to, bytes."""
MAX_BASES: Final = 256
"""Most bases of one packing; contents of further shapes are stored whole."""
MAX_DEPTH: Final = 8
"""Longest chain of bases: a content may be a base in one commit and relative to another in an earlier."""
_LEVEL: Final = 3


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("The lake", "fleet") from error
    return zstandard


@dataclass(slots=True)
class Packer:
    """Gathers contents for one commit; what is given twice is kept once."""

    _rows: dict[str, dict[str, object]] = field(default_factory=dict)
    _bases: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def add(self, content: bytes, kind: str, shape: str) -> str:
        """Add a content.

        Args:
            content: The bytes.
            kind: File name, for people.
            shape: What contents have in common that resemble each other; any text.

        Returns:
            SHA-256 of the content, hex.
        """
        name = sha256(content).hexdigest()
        if name in self._rows:
            return name
        zstandard = _zstandard()
        row: dict[str, object] = {"sha256": name, "kind": kind, "size": len(content)}
        base = self._bases.get(shape)
        if base is not None:
            row |= {"base": base[0], "data": base[1].compress(content)}
        else:
            row["data"] = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
            if 0 < len(content) <= MAX_BASE and len(self._bases) < MAX_BASES:
                dictionary = _dictionary(content)
                dictionary.precompute_compress(level=_LEVEL)
                compressor = zstandard.ZstdCompressor(dict_data=dictionary, level=_LEVEL)
                self._bases[shape] = (name, compressor)
                row["shape"] = sha256(shape.encode("utf-8", "surrogatepass")).hexdigest()
        self._rows[name] = row
        return name

    def table(self) -> pa.Table:
        """Return what was added, as rows of the table of blobs, bases first."""
        now = datetime.now(UTC)
        return arrow_table(BLOBS, [{**row, "written": now} for row in self._rows.values()])


def _dictionary(content: bytes) -> Any:
    zstandard = _zstandard()
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


class Blobs:
    """Reads contents of a lake; keeps the bases it needed last."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._bases: OrderedDict[str, bytes] = OrderedDict()

    def get(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return contents by their SHA-256.

        Raises:
            EvidenceError: One is not in the lake, or is not what was stored.
        """
        return self._get(set(names), 0)

    def _get(self, names: set[str], depth: int) -> dict[str, bytes]:
        import pyarrow as pa

        if not names:
            return {}
        if depth > MAX_DEPTH:
            raise EvidenceError(f"{self._lake.address(BLOBS)}: contents rest on each other without end")
        columns = ("sha256", "size", "base", "data")
        keys, files = self._lake.keys(BLOBS, "sha256"), self._lake.files(BLOBS)
        rows: dict[str, dict[str, Any]] = {}
        for found in keys.rows(files, pa.array(sorted(names)), columns):
            rows |= {row["sha256"]: row for row in found.to_pylist()}
        missing = sorted(names - rows.keys())
        if missing:
            raise EvidenceError(f"{self._lake.address(BLOBS)}: {len(missing)} missing, such as {missing[0]}")
        wanted = {row["base"] for row in rows.values() if row["base"] is not None}
        bases = {name: self._bases[name] for name in wanted if name in self._bases}
        bases |= self._get(wanted - bases.keys(), depth + 1)
        for name, content in bases.items():
            self._bases[name] = content
            self._bases.move_to_end(name)
        while len(self._bases) > MAX_BASES:
            self._bases.popitem(last=False)
        decompressors: dict[str, Any] = {}
        return {name: self._unpacked(row, bases, decompressors) for name, row in rows.items()}

    def _unpacked(
        self, row: Mapping[str, Any], bases: Mapping[str, bytes], decompressors: dict[str, Any]
    ) -> bytes:
        zstandard = _zstandard()
        base = row["base"]
        if base not in decompressors:
            dictionary = _dictionary(bases[base]) if base is not None else None
            decompressors[base] = zstandard.ZstdDecompressor(dict_data=dictionary)
        where = f"{self._lake.address(BLOBS)}: {row['sha256']}"
        if not 0 <= row["size"] <= MAX_FILE:
            raise EvidenceError(f"{where}: says that it has {row['size']} bytes, which no evidence has")
        try:
            content: bytes = decompressors[base].decompress(row["data"], max_output_size=row["size"])
        except zstandard.ZstdError as error:
            raise EvidenceError(f"{where}: cannot be unpacked: {error}") from error
        if sha256(content).hexdigest() != row["sha256"]:
            raise EvidenceError(f"{where}: the content is not what was stored; restore the table")
        return content
