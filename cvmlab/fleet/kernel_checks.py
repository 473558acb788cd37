"""What an event's digest is probably of, found without decoding it.

For the types that vary between machines the first thing that a digest may be of is known from a few bytes.
Where it is that thing in every bank, the answer of `cvmlab.eventlog.digest_check.check_digest` is certain; in
every other case the event is decoded and checked as a single one is. A test holds each rule to the decoders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cvmlab.fleet.compiled import compiled
from cvmlab.fleet.lanes import load32

if TYPE_CHECKING:
    from cvmlab.fleet.compiled import Bytes, Ints, Words

DECODE, NOT_EXTENDED, DESCRIBES, DATA, VARIABLE, TEXT = range(6)
"""How an event is checked: by decoding it; not at all; nothing in it can be what its digest is of; its digest
is of its data; of a variable's data; of a text without the NUL behind it."""
COVERED: Final = ("", "", "", "data", "variable data only", "text without NUL")
"""What the digest covers where the rule's guess is right."""

_MAX_NAME: Final = 1 << 10
_MAX_VARIABLE: Final = 1 << 20
_LONGEST_LABEL: Final = 48
_NO_ACTION: Final = 3
_EVENT_TAG: Final = 6
_INITRD_TAG: Final = 0x8F3B22EC
_LOAD_OPTIONS_TAG: Final = 0x8F3B22ED
_COMPACT_HASH: Final = 0xC
_IPL: Final = 0xD
_VARIABLE_BOOT: Final = 0x80000002
_BLOB: Final = 0x80000008
# images, tables and named blobs: their decoders name nothing in the log that the digest could be of
_OUTSIDE: Final = (0x80000003, 0x80000004, 0x80000005, 0x80000009, 0x8000000A, 0x8000000B)
# the data themselves come first for: separators, actions, versions, variables, partition tables, authorities
_OF_DATA: Final = (4, 5, 8, 0x12, 0x80000001, 0x80000006, 0x80000007, 0x8000000C, 0x8000000D, 0x800000E0)
_PREFIXES: Final = (
    np.frombuffer(b"grub_cmd: ", np.uint8),
    np.frombuffer(b"kernel_cmdline: ", np.uint8),
    np.frombuffer(b"module_cmdline: ", np.uint8),
    np.frombuffer(b"grub_cmd ", np.uint8),
    np.frombuffer(b"grub_kernel_cmdline ", np.uint8),
)
_UUID: Final = np.frombuffer(b"UUID: xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", np.uint8)


@compiled
def guess_covered(
    buffer: Bytes,
    types: Ints,
    registers: Ints,
    cc: Bytes,
    offsets: Ints,
    sizes: Ints,
    rules: Bytes,
    part_offsets: Ints,
    part_sizes: Ints,
) -> None:
    """Choose a rule for each event and the part that its digest is probably of.

    Args:
        buffer: The bytes of all logs.
        types: Event type numbers.
        registers: Register indices.
        cc: 1 for events of logs of CC registers.
        offsets: Offset of the data of each event.
        sizes: Their size.
        rules: Out: rule of each event.
        part_offsets: Out: offset of the part.
        part_sizes: Out: its size.
    """
    for event in range(len(types)):
        kind = types[event]
        at = offsets[event]
        size = sizes[event]
        rule = DECODE
        part = at
        part_size = size
        if kind == _NO_ACTION:
            rule = NOT_EXTENDED
        elif kind == _VARIABLE_BOOT:
            if size >= 32:
                name = _u64(buffer, at + 16)
                data = _u64(buffer, at + 24)
                if 0 <= name <= _MAX_NAME and 0 <= data <= _MAX_VARIABLE and 32 + 2 * name + data <= size:
                    rule = VARIABLE
                    part = at + 32 + 2 * name
                    part_size = data
        elif kind == _BLOB:
            if size == 16:
                rule = DESCRIBES
        elif kind == _COMPACT_HASH:
            if _is_uuid(buffer, at, size):
                rule = TEXT
                part_size = len(_UUID)
        elif kind == _IPL:
            if cc[event] == 0 and (registers[event] == 8 or registers[event] == 9):
                text = _text_size(buffer, at, size)
                prefix = _prefix_size(buffer, at, text)
                if prefix > 0:
                    rule = TEXT
                    part = at + prefix
                    part_size = text - prefix
                elif text > 0 and (buffer[at] == 40 or buffer[at] == 47):
                    rule = DESCRIBES
            wide = cc[event] == 0 and (registers[event] == 8 or registers[event] == 12)
            if wide and _is_long_wide_text(buffer, at, size):
                rule = DATA
            shim = cc[event] == 0 and registers[event] == 14
            if shim and _is_shim_variable(buffer, at, _text_size(buffer, at, size)):
                rule = DESCRIBES
        elif kind == _EVENT_TAG:
            if size >= 8 and _u32(buffer, at + 4) <= size - 8:
                tag = _u32(buffer, at)
                if tag in (_INITRD_TAG, _LOAD_OPTIONS_TAG):
                    rule = DESCRIBES
        else:
            for known in _OUTSIDE:
                if kind == known:
                    rule = DESCRIBES
            for known in _OF_DATA:
                if kind == known:
                    rule = DATA
        rules[event] = rule
        part_offsets[event] = part
        part_sizes[event] = part_size


@compiled
def _u64(buffer: Bytes, at: int) -> int:
    """A length of 64 bits, or -1 where it is past any limit."""
    for k in range(4, 8):
        if buffer[at + k] != 0:
            return -1
    return _u32(buffer, at)


@compiled
def _u32(buffer: Bytes, at: int) -> int:
    value = 0
    for k in range(3, -1, -1):
        value = value << 8 | buffer[at + k]
    return value


@compiled
def _text_size(buffer: Bytes, at: int, size: int) -> int:
    """Bytes before the first NUL where they are printable ASCII, which is text in every reading; else 0."""
    for k in range(size):
        value = buffer[at + k]
        if value == 0:
            return k
        blank = value == 9 or value == 10 or value == 13
        if (value < 0x20 or value > 0x7E) and not blank:
            return 0
    return size


@compiled
def _is_shim_variable(buffer: Bytes, at: int, size: int) -> bool:
    """True for the name of a variable of shim, whose contents are measured and not logged."""
    if size < 4 or size > 35:
        return False
    mok = buffer[at] == 77 and buffer[at + 1] == 111 and buffer[at + 2] == 107
    sbat = buffer[at] == 83 and buffer[at + 1] == 98 and buffer[at + 2] == 97 and buffer[at + 3] == 116
    if not mok and (not sbat or size < 5):
        return False
    for k in range(size):
        value = buffer[at + k]
        if not (65 <= value <= 90 or 97 <= value <= 122):
            return False
    return True


@compiled
def _is_long_wide_text(buffer: Bytes, at: int, size: int) -> bool:
    """True for a text in UTF-16 of printable ASCII alone, too long to name a section or an extension."""
    if size < 2 * _LONGEST_LABEL or size % 2:
        return False
    length = 0
    for k in range(0, size, 2):
        if buffer[at + k + 1] != 0:
            return False
        value = buffer[at + k]
        if value == 0:
            break
        if value < 0x20 or value > 0x7E:
            return False
        length += 1
    return length >= _LONGEST_LABEL


@compiled
def _prefix_size(buffer: Bytes, at: int, size: int) -> int:
    """Size of the prefix by which GRUB marks a text; 0 where there is none."""
    for prefix in _PREFIXES:
        if size >= len(prefix):
            same = True
            for k in range(len(prefix)):
                if buffer[at + k] != prefix[k]:
                    same = False
                    break
            if same:
                return len(prefix)
    return 0


@compiled
def _is_uuid(buffer: Bytes, at: int, size: int) -> bool:
    """True for the text that Hyper-V measures, alone or with one NUL behind it."""
    if size == len(_UUID) + 1:
        if buffer[at + len(_UUID)] != 0:
            return False
    elif size != len(_UUID):
        return False
    for k in range(len(_UUID)):
        value = buffer[at + k]
        if _UUID[k] == 120:
            digit = 48 <= value <= 57
            letter = 65 <= value <= 70 or 97 <= value <= 102
            if not digit and not letter:
                return False
        elif value != _UUID[k]:
            return False
    return True


@compiled
def confirm(events: Ints, digests: Bytes, found: Bytes, fits: Bytes) -> None:
    """Clear `fits` of each event whose digest is not the one found.

    Args:
        events: Events that were hashed; rows of `digests` and `fits`.
        digests: Digest of every event.
        found: Digest of the part of each of `events`.
        fits: In and out.
    """
    for place in range(len(events)):
        event = events[place]
        for k in range(digests.shape[1]):
            if digests[event, k] != found[place, k]:
                fits[event] = 0
                break


@compiled
def copy_digests(
    buffer: Bytes,
    models: Ints,
    e_first: Ints,
    e_count: Ints,
    d_algorithm: Ints,
    d_offset: Ints,
    numbers: Ints,
    out: tuple[Words, Words, Words, Words],
    present: Bytes,
) -> None:
    """Copy the digests of events into rows, an array a bank.

    Args:
        buffer: The bytes of all logs.
        models: Row of each event in the event columns.
        e_first: Event column.
        e_count: Event column.
        d_algorithm: Digest column.
        d_offset: Digest column.
        numbers: TPM_ALG_ID of each bank.
        out: Out: digests in each bank, as words of 32 bits in the machine's order; rows of events without one
            are left alone.
        present: Out: 1 for each event that has one, a row a bank.
    """
    for event in range(len(models)):
        row = models[event]
        for place in range(e_first[row], e_first[row] + e_count[row]):
            for bank in range(len(numbers)):
                if d_algorithm[place] == numbers[bank]:
                    rows = out[bank]
                    present[bank, event] = 1
                    start = d_offset[place]
                    for word in range(rows.shape[1]):
                        rows[event, word] = load32(buffer, start + 4 * word)
