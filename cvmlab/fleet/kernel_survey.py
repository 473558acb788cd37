"""Compiled passes that look over framed logs: which are regular, and what decides their registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cvmlab.eventlog.framing_codes import FORMAT_AGILE, FORMAT_TCG12
from cvmlab.fleet.compiled import compiled

if TYPE_CHECKING:
    from cvmlab.fleet.compiled import Bytes, Ints

BANK_NUMBERS: Final = (0x0004, 0x000B, 0x000C, 0x000D)
"""TPM_ALG_ID of the banks of `cvmlab.fleet.kernel_hash`, in its order."""

# values a register starts from
ZEROS, ONES, LOCALITY_3, LOCALITY_4 = range(4)

_SPEC_ID: Final = np.frombuffer(b"Spec ID Event0", np.uint8)
_LOCALITY: Final = np.frombuffer(b"StartupLocality\0", np.uint8)
_NO_ACTION: Final = 3
_SEPARATOR: Final = 4
_HCRTM: Final = 0x80000010
_DRIVER_CONFIG: Final = 0x80000001


@compiled
def padding_starts(buffer: Bytes, starts: Ints, ends: Ints, zero_from: Ints, ones_from: Ints) -> None:
    """Find for each log the offset from which it holds only zeros, and only ones (`framing.tail`)."""
    for log in range(len(starts)):
        for byte, out in ((0, zero_from), (255, ones_from)):
            at = ends[log]
            while at > starts[log] and buffer[at - 1] == byte:
                at -= 1
            out[log] = at


@compiled
def _starts_log(buffer: Bytes, at: int, end: int) -> bool:
    """True where the header of another crypto-agile log may stand (`cvmlab.eventlog.resync.log_starts`)."""
    if at + 48 > end or buffer[at + 32] != _SPEC_ID[0]:
        return False
    differ = 0
    for k in range(len(_SPEC_ID)):
        differ |= buffer[at + 32 + k] ^ _SPEC_ID[k]
    return bool(differ == 0)


@compiled
def survey(
    buffer: Bytes,
    starts: Ints,
    ends: Ints,
    formats: Ints,
    firsts: Ints,
    regular: Bytes,
    e_offset: Ints,
    e_register: Ints,
    e_type: Ints,
    e_first: Ints,
    e_count: Ints,
    e_data: Ints,
    e_size: Ints,
    d_algorithm: Ints,
    sets: Bytes,
    banks: Bytes,
    localities: Ints,
    starting: Bytes,
    launched: Bytes,
    phases: Bytes,
) -> None:
    """Look at each log that was framed without a note: is it regular, and what decides its registers?

    A log is irregular, and left to the reader of single logs, where it does not start with a Spec ID event,
    may hold another log, names registers that do not exist, or uses algorithms other than `BANK_NUMBERS`.

    Args:
        buffer: The bytes of all logs.
        starts: First byte of each log.
        ends: One past the last byte of each log.
        formats: Format of each log.
        firsts: First event row of each log, and one past the last of all.
        regular: In and out: 1 for each log that may be read the fast way.
        e_offset: Event columns, as framed.
        e_register: The same.
        e_type: The same.
        e_first: The same.
        e_count: The same.
        e_data: The same.
        e_size: The same.
        d_algorithm: Digest column, as framed.
        sets: Out: 1 for each log of CC registers.
        banks: Out: banks of each log, bits by place.
        localities: Out: locality of the StartupLocality event of each log, -1 for none.
        starting: Out: start of register 0 of each log.
        launched: Out: 1 where a dynamic launch ran.
        phases: Out: 1 for each event behind the separator of its register.
    """
    for log in range(len(starts)):
        if regular[log] == 0:
            continue
        first, last = firsts[log], firsts[log + 1]
        begin = starts[log]
        good = (
            last > first
            and ends[log] - begin >= 46
            and (formats[log] == FORMAT_AGILE or formats[log] == FORMAT_TCG12)
        )
        if good:
            for k in range(len(_SPEC_ID)):
                if buffer[begin + 32 + k] != _SPEC_ID[k]:
                    good = False
        if good:
            mask = 1
            count = np.int64(1)
            if formats[log] == FORMAT_AGILE:
                mask = 0
                at = e_data[first] + 24
                count = np.int64(buffer[at]) | np.int64(buffer[at + 1]) << 8
                for k in range(count):
                    place = at + 4 + 4 * k
                    algorithm = np.int64(buffer[place]) | np.int64(buffer[place + 1]) << 8
                    known = False
                    for bank in range(len(BANK_NUMBERS)):
                        if BANK_NUMBERS[bank] == algorithm:
                            mask |= 1 << bank
                            known = True
                    good = good and known
                good = good and count > 0
            used = 0
            driver_config = 0
            hcrtm = False
            drtm = False
            closed = 0
            locality = np.int64(-1)
            for row in range(first, last):
                register = e_register[row]
                kind = e_type[row]
                if register > 23:
                    good = False
                    break
                if row > first and _starts_log(buffer, e_offset[row], ends[log]):
                    good = False
                    break
                if kind == _NO_ACTION:
                    if locality < 0 and e_size[row] > 16:
                        same = True
                        for k in range(16):
                            if buffer[e_data[row] + k] != _LOCALITY[k]:
                                same = False
                        if same:
                            locality = np.int64(buffer[e_data[row] + 16])
                else:
                    used |= 1 << register
                    if e_count[row] != count:
                        good = False
                    if 17 <= register <= 22:
                        drtm = True
                if kind == _DRIVER_CONFIG:
                    driver_config |= 1 << register
                if kind == _HCRTM and register == 0:
                    hcrtm = True
                phases[row] = closed >> register & 1
                if kind == _SEPARATOR:
                    closed |= 1 << register
            cc = used != 0 and used < 32 and driver_config == 2
            if cc:
                for row in range(first, last):
                    if e_register[row] > 4:
                        good = False
            sets[log] = 1 if cc else 0
            banks[log] = mask
            localities[log] = locality if locality == 0 or locality == 3 or locality == 4 else -1
            launched[log] = 1 if drtm else 0
            starting[log] = ZEROS
            if not cc:
                if hcrtm or locality == 4:
                    starting[log] = LOCALITY_4
                elif locality == 3:
                    starting[log] = LOCALITY_3
        regular[log] = 1 if good else 0
