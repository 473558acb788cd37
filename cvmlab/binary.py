"""The bounds-checked cursor through which all binary evidence is read."""

from __future__ import annotations

import uuid
from typing import Final

from cvmlab.errors import ParseError

MAX_COUNTED: Final = 16 << 20
"""Default cap, in bytes, for any length that evidence states about itself."""


class Cursor:
    """Read little- or big-endian fields from a slice of a byte buffer, never past its end.

    Every read names its field, so that an error says what was read, where (absolute offset in the
    source), how much was needed and how much there was.

    Args:
        data: The buffer. It is not copied.
        source: What the buffer is, for error messages: a file name.
        start: First byte of the slice.
        end: One past the last byte of the slice; the end of the buffer by default.
        base: Absolute offset of ``data[0]`` in ``source``.
        big_endian: True for TPM structures, False for UEFI and TCG event logs.

    Example:
        >>> cursor = Cursor(bytes.fromhex("0200abcd"), source="example")
        >>> cursor.counted(2, "blob", limit=8).hex()
        'abcd'
        >>> cursor.u8("more")
        Traceback (most recent call last):
        ...
        cvmlab.errors.ParseError: example: offset 4 (0x4): more: need 1, have 0
    """

    __slots__ = ("_base", "_data", "_end", "_order", "_pos", "source")

    def __init__(
        self,
        data: bytes,
        *,
        source: str = "<bytes>",
        start: int = 0,
        end: int | None = None,
        base: int = 0,
        big_endian: bool = False,
    ) -> None:
        self._data = data
        self._pos = start
        self._end = len(data) if end is None else end
        self._base = base
        self._order = big_endian
        self.source = source
        if not 0 <= start <= self._end <= len(data):
            raise ValueError(f"slice {start}:{self._end} is not inside a buffer of {len(data)} bytes")

    @property
    def offset(self) -> int:
        """Absolute offset of the next byte in the source."""
        return self._base + self._pos

    @property
    def remaining(self) -> int:
        """Bytes left."""
        return self._end - self._pos

    def error(self, field: str, reason: str, *, at: int | None = None) -> ParseError:
        """Make (not raise) a `ParseError` for a value that is well framed but wrong."""
        return ParseError(self.source, self.offset if at is None else at, field, reason=reason)

    def take(self, size: int, field: str) -> bytes:
        """Return the next `size` bytes.

        Raises:
            ParseError: Fewer bytes are left, or `size` is negative.
        """
        start = self._pos
        if size < 0 or size > self._end - start:
            raise ParseError(self.source, self._base + start, field, size, self._end - start)
        self._pos = start + size
        return bytes(self._data[start : start + size])

    def _uint(self, size: int, field: str) -> int:
        start = self._pos
        if size > self._end - start:
            raise ParseError(self.source, self._base + start, field, size, self._end - start)
        self._pos = start + size
        return int.from_bytes(self._data[start : start + size], "big" if self._order else "little")

    def u8(self, field: str) -> int:
        """Return an unsigned 8-bit integer."""
        return self._uint(1, field)

    def u16(self, field: str) -> int:
        """Return an unsigned 16-bit integer."""
        return self._uint(2, field)

    def u32(self, field: str) -> int:
        """Return an unsigned 32-bit integer."""
        return self._uint(4, field)

    def u64(self, field: str) -> int:
        """Return an unsigned 64-bit integer."""
        return self._uint(8, field)

    def guid(self, field: str) -> uuid.UUID:
        """Return an EFI_GUID: first three fields little-endian (UEFI 2.10, appendix A)."""
        return uuid.UUID(bytes_le=self.take(16, field))

    def _length(self, width: int, field: str, limit: int) -> int:
        at = self.offset
        size = self._uint(width, f"{field}.size")
        if size > limit:
            raise ParseError(self.source, at, f"{field}.size", limit, size, "more than the limit")
        return size

    def counted(self, width: int, field: str, *, limit: int = MAX_COUNTED) -> bytes:
        """Return the bytes behind a length of `width` bytes, at most `limit` of them."""
        return self.take(self._length(width, field, limit), field)

    def sub(self, size: int, field: str) -> Cursor:
        """Return a cursor over the next `size` bytes and step over them."""
        start = self._pos
        if size < 0 or size > self._end - start:
            raise ParseError(self.source, self._base + start, field, size, self._end - start)
        self._pos = start + size
        return Cursor(
            self._data,
            source=self.source,
            start=start,
            end=start + size,
            base=self._base,
            big_endian=self._order,
        )

    def rest(self) -> bytes:
        """Return all bytes that are left, possibly none."""
        return self.take(self._end - self._pos, "rest")

    def finish(self, field: str) -> None:
        """Check that nothing is left over.

        Raises:
            ParseError: Bytes follow the structure `field`.
        """
        if self._pos != self._end:
            raise ParseError(self.source, self.offset, field, 0, self._end - self._pos, "bytes left over")
