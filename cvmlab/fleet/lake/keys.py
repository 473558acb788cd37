"""Where a table has a key: few rows are found among millions without reading all of it, in bounded memory.

Keys are digests, so a file's least and greatest say nothing. What is kept instead is one filter of fixed size
over all keys, which says of nearly every new key that it is new (Bloom, Communications of the ACM 13, 7,
1970), and of each row group a hash of its keys, the longest unused forgotten first. Files of a Delta table
never change, so each is read once, by its column of keys alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow as pa
    import pyarrow.dataset as ds

    Words = np.ndarray[Any, np.dtype[np.uint64]]

FILTER_BITS: Final = 1 << 27
"""Size of a filter: of 5,000,000 keys it takes one new one in 30,000 for known, and that one is looked up."""
MAX_HASHES: Final = 32 << 20
"""Most bytes of hashes kept; beyond it columns of keys are read again where a key may be known."""
_PROBES: Final = 8
_HALF: Final = np.uint64(32)
_DIGEST: Final = 64
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
"""Spreads bits: 2**64 divided by the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files that a table has, none of them opened.

    Attributes:
        schema: The table's schema.
        paths: Where they are.
        fragment: Opens one; columns that the table is laid out by are not in it.
    """

    schema: pa.Schema
    paths: Sequence[str]
    fragment: Callable[[str], ds.Fragment]


class Keys:
    """The first column of a table's key, by file; safe to use from many threads.

    Args:
        column: Name of the column; text.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._lock = Lock()
        self._filter: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self._seen: set[str] = set()
        self._hashes: OrderedDict[str, list[Words]] = OrderedDict()
        self._size = 0

    def maybe(self, files: Files, values: pa.Array) -> pa.Array:
        """Return those of the values that the table may have; what is left out it has not."""
        with self._lock:
            if self._filter is None:
                self._filter = np.zeros(FILTER_BITS // 8, np.uint8)
            for path in set(files.paths) - self._seen:
                for words in self._of(files, path):
                    for places in _places(words):
                        np.bitwise_or.at(self._filter, places >> 3, _bit(places))
            self._seen = set(files.paths)
            there = np.ones(len(values), bool)
            for places in _places(_hashes(values)):
                there &= (self._filter[places >> 3] & _bit(places)) != 0
        return values.filter(there)

    def rows(self, files: Files, values: pa.Array, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows that have one of the values, those of one file at a time.

        Args:
            files: The table.
            values: Values of the key's first column, each once.
            columns: Columns to read, the key's first among them.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not len(values):
            return
        wanted = np.sort(_hashes(values))
        texts = values.cast(pa.string())
        for path in files.paths:
            with self._lock:
                groups = self._of(files, path)
            hit = [number for number, words in enumerate(groups) if _meet(wanted, words)]
            if not hit:
                continue
            part = files.fragment(path).subset(row_group_ids=hit)
            read = part.to_table(schema=files.schema, columns=list(columns), use_threads=False)
            found = read.filter(pc.is_in(read.column(self._column).cast(pa.string()), value_set=texts))
            if len(found):
                yield found

    def _of(self, files: Files, path: str) -> list[Words]:
        """Return the sorted hashes of each row group of a file."""
        known = self._hashes.get(path)
        if known is not None:
            self._hashes.move_to_end(path)
            return known
        groups = []
        for part in files.fragment(path).split_by_row_group():
            read = part.to_table(schema=files.schema, columns=[self._column], use_threads=False)
            groups.append(np.sort(_hashes(read.column(0).combine_chunks())))
        self._hashes[path] = groups
        self._size += _bytes(groups)
        while self._size > MAX_HASHES and len(self._hashes) > 1:
            self._size -= _bytes(self._hashes.popitem(last=False)[1])
        return groups


def _bytes(groups: Iterable[Words]) -> int:
    return sum(words.nbytes for words in groups)


def _hashes(values: pa.Array) -> Words:
    """Hash texts: digests in hex by their words, which are random as they are; any other text by pandas."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pandas.util import hash_array

    texts = values.cast(pa.string())
    digest = pc.equal(pc.binary_length(texts), _DIGEST).fill_null(False).to_numpy(zero_copy_only=False)
    found = np.zeros(len(texts), np.uint64)
    if digest.any():
        whole = texts if digest.all() else pa.concat_arrays([texts.filter(pa.array(digest))])
        first = np.frombuffer(whole.buffers()[1], np.int32)[whole.offset]
        words = np.frombuffer(whole.buffers()[2], np.uint8)[first : first + len(whole) * _DIGEST]
        total = np.zeros(len(whole), np.uint64)
        for column in words.reshape(-1, _DIGEST).view(np.uint64).T:
            total = (total ^ column) * _MIX
            total ^= total >> _HALF
        found[digest] = total
    if not digest.all():
        rest = texts.filter(pa.array(~digest)).fill_null("")
        found[~digest] = hash_array(rest.to_numpy(zero_copy_only=False), categorize=False)
    return found


def _meet(wanted: Words, words: Words) -> bool:
    """Whether two sorted arrays have a value in common."""
    if not len(words):
        return False
    few, many = (wanted, words) if len(wanted) < len(words) else (words, wanted)
    places = np.searchsorted(many, few).clip(max=len(many) - 1)
    return bool((many[places] == few).any())


def _places(words: Words) -> Iterator[Words]:
    """Yield the bits of a filter that each hash has; two halves of a hash give them all."""
    low, high = words & np.uint64(0xFFFFFFFF), (words >> _HALF) | np.uint64(1)
    for probe in range(_PROBES):
        yield (low + np.uint64(probe) * high) % np.uint64(FILTER_BITS)


def _bit(places: Words) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8)).astype(np.uint8)
