"""What is made of each distinct event of a batch, once: hash of its data, digest check, digests by number."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.framing_codes import FORMAT_TCG12
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EV_NO_ACTION, event_type_name
from cvmlab.fleet import kernel_checks as checks
from cvmlab.fleet.batch_columns import BANKS
from cvmlab.fleet.kernel_hash import BANKS as HASHED
from cvmlab.fleet.kernel_hash import SIZES, hash_messages
from cvmlab.fleet.kernel_logs import intern_rows
from cvmlab.fleet.kernel_survey import BANK_NUMBERS

if TYPE_CHECKING:
    from cvmlab.fleet.batch_framing import Framed
    from cvmlab.fleet.compiled import Bytes, Ints, Small

SEED: Final = np.uint64(secrets.randbits(64))
"""Of the tables of this process, so that nobody knows beforehand what collides."""
_CHECKS: Final = ("covers-data", "describes", "mismatch", "unknown", "not-extended")
_BY_RULE: Final = np.array([3, 4, 1, 0, 0, 0], np.int64)


def new_table(count: int) -> Small:
    """Return an empty table for up to `count` numbers."""
    return np.full(1 << (2 * count + 1).bit_length(), -1, np.int32)


def number_rows(rows: Bytes, wanted: Bytes) -> tuple[Small, Ints]:
    """Number the rows of an array by their bytes.

    Returns:
        The number of each row, -1 where it is not wanted, and the first row of each number.
    """
    count = len(rows)
    ids, models = np.empty(count, np.int32), np.empty(count, np.int64)
    found, _ = intern_rows(
        rows.reshape(-1),
        rows.shape[1],
        wanted,
        SEED,
        new_table(count),
        np.empty(count, np.uint64),
        models,
        ids,
    )
    return ids, models[:found]


@dataclass(frozen=True, slots=True)
class Pool:
    """Values of a column, and which of them each distinct event has; -1 for none."""

    values: pa.Array
    places: Small


class Distinct:
    """The distinct events of a batch.

    Args:
        buffer: The bytes of all logs.
        framed: The logs.
        models: Event row of each distinct event.
        kinds: Set (bit 0) and format (from bit 1) of its log.
    """

    def __init__(self, buffer: Bytes, framed: Framed, models: Ints, kinds: Bytes) -> None:
        _, _, e_register, e_type, e_first, e_count, e_data, e_size = framed.events
        self._buffer = buffer
        self._cc: Bytes = kinds & np.uint8(1)
        self._formats = kinds >> 1 & 3
        self._registers, self._types = e_register[models], e_type[models]
        self._data, self._sizes = e_data[models], e_size[models]
        count = len(models)
        sha1, sha256, sha384, sha512 = (np.zeros((count, size // 4), np.uint32) for size in SIZES)
        words = (sha1, sha256, sha384, sha512)
        self._digests = tuple(rows.view(np.uint8) for rows in words)
        self._present = np.zeros((len(SIZES), count), np.uint8)
        checks.copy_digests(
            buffer, models, e_first, e_count, framed.digests[0], framed.digests[1], np.array(BANK_NUMBERS),
            words, self._present,
        )  # fmt: skip
        every = np.arange(count)
        self._hashes = self._hash(1, every, self._data, self._sizes)
        self._covered: list[str] = list(checks.COVERED)
        check_codes, covered_codes = self._check()
        self.pools = {
            "type": self._type_pool(),
            "digest_check": Pool(pa.array(_CHECKS), check_codes.astype(np.int32)),
            "covered": self._covered_pool(covered_codes),
            "data_sha256": self._pool(self._hashes, np.ones(count, np.uint8)),
        }
        for bank in BANKS:
            if bank in HASHED:
                number = HASHED.index(bank)
                self.pools[bank] = self._pool(self._digests[number], self._present[number])
            else:
                self.pools[bank] = Pool(pa.array([], pa.binary()), np.full(count, -1, np.int32))
        self.digest_ids, self._digest_models = self._number_digests()

    def _type_pool(self) -> Pool:
        numbers = self._types.view(np.uint8).reshape(-1, self._types.itemsize)
        ids, models = number_rows(numbers, np.ones(len(numbers), np.uint8))
        names = [event_type_name(int(number)) for number in self._types[models]]
        return Pool(pa.array(names, pa.string()), ids)

    def _covered_pool(self, codes: Ints) -> Pool:
        labels = list(dict.fromkeys(self._covered))
        places = np.array([labels.index(label) for label in self._covered])
        return Pool(pa.array(labels, pa.string()), places[codes].astype(np.int32))

    def _pool(self, rows: Bytes, present: Bytes) -> Pool:
        if not present.any():
            return Pool(pa.array([], pa.binary()), np.full(len(rows), -1, np.int32))
        ids, models = number_rows(rows, present)
        return Pool(fixed_rows(rows[models]), ids)

    def _number_digests(self) -> tuple[Small, Ints]:
        """Number the digests of all banks together; -1 for events that extend nothing."""
        columns = [self.pools[bank].places for bank in HASHED]
        together = np.ascontiguousarray(np.stack(columns, axis=1)).view(np.uint8)
        return number_rows(together, (self._types != EV_NO_ACTION).astype(np.uint8))

    def digests(self, bank: int) -> Bytes:
        """Return the digests of one bank (a place in `kernel_hash.BANKS`) by `digest_ids`."""
        return self._digests[bank][self._digest_models]

    def _hash(self, bank: int, events: Ints, offsets: Ints, sizes: Ints) -> Bytes:
        return hash_messages(bank, self._buffer, offsets[events], sizes[events])

    def _check(self) -> tuple[Ints, Ints]:
        """Check each event: by its rule where that is certain, else as a single one is."""
        count = len(self._types)
        rules = np.empty(count, np.uint8)
        offsets, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
        checks.guess_covered(
            self._buffer,
            self._types,
            self._registers,
            self._cc,
            self._data,
            self._sizes,
            rules,
            offsets,
            sizes,
        )
        fits = (rules >= checks.DATA).astype(np.uint8)
        of_data = np.flatnonzero(rules == checks.DATA)
        self._confirm(of_data, self._data, self._sizes, fits)
        self._confirm(np.flatnonzero(rules > checks.DATA), offsets, sizes, fits)
        # some firmware hashes all of a boot variable: the second thing that its digest may be of
        whole = np.flatnonzero((rules == checks.VARIABLE) & (fits == 0))
        rules[whole], fits[whole] = checks.DATA, 1
        self._confirm(whole, self._data, self._sizes, fits)
        rules[(rules >= checks.DATA) & (fits == 0)] = checks.DECODE
        check_codes, covered_codes = _BY_RULE[rules], rules.astype(np.int64)
        for event in np.flatnonzero(rules == checks.DECODE).tolist():
            check_codes[event], covered_codes[event] = self._decoded(event)
        return check_codes, covered_codes

    def _confirm(self, events: Ints, offsets: Ints, sizes: Ints, fits: Bytes) -> None:
        """Clear `fits` of the events whose digests are not of their parts in every bank."""
        for bank in (1, 0, 2, 3):
            events = events[fits[events] == 1]
            own = events[self._present[bank, events] == 1]
            if not len(own):
                continue
            known = bank == 1 and offsets is self._data
            found = self._hashes[own] if known else self._hash(bank, own, offsets, sizes)
            checks.confirm(own, self._digests[bank], found, fits)

    def _decoded(self, event: int) -> tuple[int, int]:
        """Decode an event and check it as the reader of single logs does."""
        start, size = int(self._data[event]), int(self._sizes[event])
        data = self._buffer[start : start + size].tobytes()
        kind, register = int(self._types[event]), int(self._registers[event])
        digests = {
            bank: rows[event].tobytes()
            for bank, rows, present in zip(HASHED, self._digests, self._present, strict=True)
            if present[event]
        }
        payload = decode(kind, register, data, set="cc" if self._cc[event] else "tpm", base=start)
        check, covered = check_digest(kind, register, digests, payload)
        if covered not in self._covered:
            self._covered.append(covered)
        return _CHECKS.index(check), self._covered.index(covered)

    def banks(self, event: int) -> tuple[str, ...]:
        """Return the banks that a log of this first event has, in its order."""
        if self._formats[event] == FORMAT_TCG12:
            return ("sha1",)
        at = int(self._data[event]) + 24
        pairs = self._buffer[at + 4 : at + 4 + 4 * int(self._buffer[at])].tobytes()
        numbers = [int.from_bytes(pairs[k : k + 2], "little") for k in range(0, len(pairs), 4)]
        return tuple(BANK_BY_ALGORITHM[number] for number in numbers)


def fixed_rows(rows: Bytes) -> pa.Array:
    """Return rows of bytes as an Arrow array, without a Python object for each."""
    count, size = rows.shape
    offsets = np.arange(count + 1, dtype=np.int32) * size
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), data])
