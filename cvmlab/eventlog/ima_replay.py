"""From an IMA list to register values: what was extended, which prefix fits, whether entries are sound.

The kernel extends each bank by one of two rules, and the list does not say by which: with the hash of
the template data in the bank's own algorithm, or, where it could not allocate that hash, with the SHA-1
template hash padded with zeros (``ima_calc_field_array_hash``). Both are tried.

Source: Linux, security/integrity/ima/ima_crypto.c and ima_queue.c (``ima_pcr_extend``,
``ima_init_digests``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.banks import DIGEST_SIZE, digest, extend

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from cvmlab.eventlog.ima import ImaEntry, ImaList

Mode = Literal["listed", "template-per-bank", "sha1-padded"]

IMA_REGISTER: Final = 10
AGGREGATED: Final[Mapping[str, int]] = {"pcr-0-9": 10, "pcr-0-7": 8}
"""Registers that ``boot_aggregate`` covers, by label: 0–9 since Linux 5.8 but for SHA-1, 0–7 before."""


@dataclass(frozen=True, slots=True)
class ImaMatch:
    """A prefix of a list that gives a wanted register value.

    Attributes:
        count: Entries of the list in the prefix, those for other registers included; 0 where the
            register's initial value matched.
        mode: The rule by which the kernel extended.
        value: The register value.
    """

    count: int
    mode: Mode
    value: bytes


@dataclass(frozen=True, slots=True)
class ImaCheck:
    """Which entries agree with their own template hash, by index.

    Attributes:
        forged: The template hash is not the hash of the template data: the text of the entry is not
            what was extended.
        unchecked: The template data are not known, or this Python lacks the hash.
        violations: The kernel could not vouch for the file; no hash is listed.
    """

    forged: tuple[int, ...]
    unchecked: tuple[int, ...]
    violations: tuple[int, ...]


def modes(ima: ImaList, bank: str) -> tuple[Mode, ...]:
    """Return the rules by which the kernel may have extended `bank`, the usual first."""
    if bank == ima.bank:
        return ("listed",)
    return ("template-per-bank",) if bank == "sha1" else ("template-per-bank", "sha1-padded")


def _extended(entry: ImaEntry, bank: str, mode: Mode, listed: str) -> bytes | None:
    size = DIGEST_SIZE[bank]
    if entry.violation:
        return b"\xff" * size
    if mode == "listed":
        return entry.template_hash
    if mode == "sha1-padded" and listed == "sha1":
        return entry.template_hash.ljust(size, b"\0")
    if entry.template_data is None:
        return None
    if mode == "sha1-padded":
        return hashlib.sha1(entry.template_data, usedforsecurity=False).digest().ljust(size, b"\0")
    return digest(bank, entry.template_data)


def extend_values(ima: ImaList, bank: str, mode: Mode, *, register: int = IMA_REGISTER) -> Iterator[bytes]:
    """Yield the digests that were extended into `register`, in order.

    Stops early at an entry whose digest in this mode cannot be known (an unknown template in text
    form).

    Args:
        ima: The list.
        bank: Bank that is replayed.
        mode: One of `modes`.
        register: Register index.

    Raises:
        ValueError: The bank is unknown.
    """
    for _, value in _numbered(ima, bank, mode, register):
        yield value


def _numbered(ima: ImaList, bank: str, mode: Mode, register: int) -> Iterator[tuple[int, bytes]]:
    for entry in ima.entries:
        if entry.register != register:
            continue
        value = _extended(entry, bank, mode, ima.bank)
        if value is None:
            return
        yield entry.index, value


def prefix_values(
    ima: ImaList,
    bank: str,
    mode: Mode,
    *,
    initial: bytes | None = None,
    register: int = IMA_REGISTER,
) -> Iterator[tuple[int, bytes]]:
    """Yield (entries, register value) for every prefix, the empty one first.

    Args:
        ima: The list.
        bank: Bank that is replayed.
        mode: One of `modes`.
        initial: Register value before the list (what the boot log extended); zeros by default.
        register: Register index.

    Raises:
        ValueError: The bank is unknown.
    """
    if bank not in DIGEST_SIZE:
        raise ValueError(f"unknown bank {bank!r}; known are {', '.join(DIGEST_SIZE)}")
    value = bytes(DIGEST_SIZE[bank]) if initial is None else initial
    yield 0, value
    for index, item in _numbered(ima, bank, mode, register):
        value = extend(bank, value, item)
        yield index + 1, value


def match_prefix(
    ima: ImaList,
    bank: str,
    targets: Collection[bytes],
    *,
    initial: bytes | None = None,
    register: int = IMA_REGISTER,
) -> ImaMatch | None:
    """Return the longest prefix of the list whose register value is one of `targets`.

    The list may be longer than what was quoted: the register moves between quote and reading. An
    empty prefix (`ImaMatch.count` 0) says only that the register still has its initial value.

    Args:
        ima: The list.
        bank: Bank of the targets.
        targets: Wanted values.
        initial: Register value before the list; zeros by default.
        register: Register index.

    Raises:
        ValueError: The bank is unknown, or this Python's OpenSSL lacks it.
    """
    wanted = frozenset(targets)
    best: ImaMatch | None = None
    for mode in modes(ima, bank):
        for count, value in prefix_values(ima, bank, mode, initial=initial, register=register):
            if value in wanted and (best is None or count > best.count):
                best = ImaMatch(count, mode, value)
    return best


def check_entries(ima: ImaList) -> ImaCheck:
    """Check each listed template hash against the template data.

    An entry that fails carries a path or digest that was edited: what the register holds is the hash,
    not this text.
    """
    forged: list[int] = []
    unchecked: list[int] = []
    violations: list[int] = []
    for entry in ima.entries:
        if entry.violation:
            violations.append(entry.index)
        elif entry.template_data is None:
            unchecked.append(entry.index)
        elif digest(ima.bank, entry.template_data) != entry.template_hash:
            forged.append(entry.index)
    return ImaCheck(tuple(forged), tuple(unchecked), tuple(violations))


def boot_aggregate(values: Mapping[int, bytes], bank: str) -> dict[str, bytes]:
    """Return what ``boot_aggregate`` can be for these register values.

    The kernel hashes the values of one bank with that bank's algorithm: SHA-1 over PCR 0–7, others over
    PCR 0–9 since Linux 5.8 (``ima_calc_boot_aggregate_tfm``).

    Args:
        values: Register index to value in `bank`.
        bank: The bank, which is also the algorithm of the entry's digest.

    Returns:
        Label of the covered registers (``pcr-0-9``, ``pcr-0-7``) to digest, the usual first. A
        candidate for which a value is missing is left out: absent is not zero.

    Raises:
        ValueError: The bank is unknown, or this Python's OpenSSL lacks it.
    """
    labels = sorted(AGGREGATED, reverse=bank != "sha1")
    found: dict[str, bytes] = {}
    for label in labels:
        parts = [values.get(index) for index in range(AGGREGATED[label])]
        if all(part is not None for part in parts):
            found[label] = digest(bank, b"".join(part for part in parts if part is not None))
    return found


def only_boot_aggregate(quoted: Mapping[tuple[int, str], bytes], bank: str, start: bytes) -> frozenset[bytes]:
    """Return the values of register 10 that a lone ``boot_aggregate`` entry gives.

    Linux extends this one entry even without an IMA policy. It follows from PCR 0–9, so where these are
    quoted register 10 is explained without a list.

    Args:
        quoted: (register, bank) to value, from verified quotes.
        bank: Bank of register 10.
        start: Value of register 10 before.
    """
    found: set[bytes] = set()
    for algorithm in ("sha256", "sha1", "sha384", "sha512"):
        known = {register: value for (register, b), value in quoted.items() if b == algorithm}
        for aggregate in boot_aggregate(known, algorithm).values():
            # d-ng and n-ng, each behind its length; ima-sig has an empty signature behind them
            hashed = f"{algorithm}:".encode() + b"\0" + aggregate
            fields = (
                len(hashed).to_bytes(4, "little") + hashed + (15).to_bytes(4, "little") + b"boot_aggregate\0"
            )
            for data in (fields, fields + bytes(4)):
                found.add(extend(bank, start, digest(bank, data)))
                # before Linux 5.8 every bank got the SHA-1 digest, padded
                padded = digest("sha1", data).ljust(len(start), b"\0")
                found.add(extend(bank, start, padded))
    return frozenset(found)
