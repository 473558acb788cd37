"""A connection to a TPM by its TCTI: commands with errors in words, register values, the clock.

Needs tpm2-pytss (extra ``tpm``). Source: TPM 2.0 Library, Part 3, 22.4 (TPM2_PCR_Read), 29.1
(TPM2_ReadClock), 30.2 (TPM2_GetCapability).
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cvmlab.banks import BANK_BY_ALGORITHM, DIGEST_SIZE
from cvmlab.errors import MissingExtraError, TpmError
from cvmlab.tpm.response_codes import base_code, explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INSTALL_LINES: Final = (
    "sudo apt install libtss2-dev pkg-config gcc python3-dev    (Debian, Ubuntu)",
    "sudo dnf install tpm2-tss-devel pkgconf gcc python3-devel    (Fedora, RHEL)",
)
"""What tpm2-pytss needs of the system, by distribution."""

_RESOURCE_MANAGER, _DEVICE = "/dev/tpmrm0", "/dev/tpm0"
# TPM_RC_YIELDED, _TESTING, _NV_RATE, _RETRY: the command was not started and may be sent again
_SEND_AGAIN: Final = frozenset({0x908, 0x90A, 0x920, 0x922})
_ATTEMPTS: Final = 5
_PAUSE: Final = 0.2
_SWITCH_ON: Final = (
    "switch on the vTPM of the virtual machine (or the TPM in the firmware setup) and load its driver "
    "(modprobe tpm_crb or tpm_tis)"
)
_MAX_HANDLES: Final = 4096
_DEFAULT_NV_BUFFER: Final = 512


@dataclass(frozen=True, slots=True)
class Bank:
    """A PCR bank of the TPM.

    Attributes:
        name: Name of `cvmlab.banks`.
        registers: Registers that are allocated in it, ascending; possibly none.
    """

    name: str
    registers: tuple[int, ...]


class LiveTpm:
    """A TPM, or a virtual or simulated one. Use it as a context manager.

    Args:
        tcti: How to reach it, as tpm2-tools write it: ``device:/dev/tpmrm0``, ``swtpm:port=2321``,
            ``tabrmd``; None for the machine's own device.

    Raises:
        MissingExtraError: tpm2-pytss is not installed, or its libraries are not.
        TpmError: There is no TPM, it may not be used, is in use, or does not answer.
    """

    def __init__(self, tcti: str | None = None) -> None:
        # its libraries would write each error to stderr, where this module says it in words
        os.environ.setdefault("TSS2_LOG", "all+none")
        self.pytss = _pytss()
        self.tcti = tcti if tcti else _own_device()
        _check_device(self.tcti)
        try:
            self.esys = self.pytss.ESAPI(self.tcti)
        except (self.pytss.TSS2_Exception, RuntimeError, ValueError) as error:
            raise _tpm_error(f"cannot connect to the TPM {self.tcti!r}", error) from error
        self._nv_buffer = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.esys.close()

    def call(self, command: str, *arguments: Any, about: str = "", **named: Any) -> Any:
        """Send one command.

        Args:
            command: Name of the method of ESAPI, ``quote`` for example.
            arguments: Its arguments.
            about: What the command is about, for the message of an error.
            named: Its arguments by name.

        Raises:
            TpmError: The TPM or what lies between refused it, with the code and what to do.
        """
        method = getattr(self.esys, command)
        for attempt in range(_ATTEMPTS):
            try:
                return method(*arguments, **named)
            except self.pytss.TSS2_Exception as error:
                if base_code(int(error.rc)) in _SEND_AGAIN and attempt + 1 < _ATTEMPTS:
                    time.sleep(_PAUSE * (attempt + 1))
                    continue
                what = f"{about}: {command}" if about else command
                raise _tpm_error(what, error) from error
        raise AssertionError  # the last attempt returns or raises

    def _capability(self, kind: str, start: int) -> list[tuple[int, int]]:
        """Return number and value of each property of a capability, from the property `start` on.

        The value of a handle is 0, that of a PCR bank its registers as bits.
        """
        values: list[tuple[int, int]] = []
        while len(values) < _MAX_HANDLES:
            more, data = self.call("get_capability", getattr(self.pytss.TPM2_CAP, kind), start, 128)
            # plain numbers at once: pytss' items lie in the memory of `data`
            if kind == "HANDLES":
                found = [(int(handle), 0) for handle in data.data.handles]
            elif kind == "PCRS":
                found = [(int(item.hash), _bits(item)) for item in data.data.assignedPCR]
            else:
                found = [(int(item.property), int(item.value)) for item in data.data.tpmProperties]
            values += found
            if not more or not found:
                break
            start = found[-1][0] + 1
        return values

    def handles(self, first: int, last: int) -> list[int]:
        """Return the handles that exist between two numbers, both included."""
        return [handle for handle, _ in self._capability("HANDLES", first) if first <= handle <= last]

    @property
    def nv_buffer(self) -> int:
        """Most bytes that one TPM2_NV_Read returns."""
        if not self._nv_buffer:
            wanted = int(self.pytss.TPM2_PT_NV.BUFFER_MAX)
            found = dict(self._capability("TPM_PROPERTIES", wanted)).get(wanted, 0)
            self._nv_buffer = found or _DEFAULT_NV_BUFFER
        return self._nv_buffer

    def banks(self) -> tuple[Bank, ...]:
        """Return the PCR banks in the TPM's order; those whose hash is not known here are left out."""
        return tuple(
            Bank(BANK_BY_ALGORITHM[number], tuple(i for i in range(bits.bit_length()) if bits >> i & 1))
            for number, bits in self._capability("PCRS", 0)
            if number in BANK_BY_ALGORITHM
        )

    def selection(self, bank: str, registers: Iterable[int]) -> Any:
        """Return pytss' TPML_PCR_SELECTION of registers of one bank."""
        return self.pytss.TPML_PCR_SELECTION.parse(f"{bank}:{','.join(map(str, sorted(registers)))}")

    def read_registers(self, bank: str, registers: Iterable[int]) -> dict[int, bytes]:
        """Read registers of one bank; a TPM gives eight at most at a time.

        Raises:
            TpmError: The TPM refused, gave none of those asked, or a value of a wrong size.
        """
        left, values = sorted(set(registers)), dict[int, bytes]()
        while left:
            _, chosen, digests = self.call("pcr_read", self.selection(bank, left), about=bank)
            bits = _bits(chosen[0]) if len(chosen) else 0
            given = [register for register in left if bits >> register & 1]
            found = [bytes(digest) for digest in digests]
            if not given or len(found) != len(given):
                raise TpmError(f"{bank}: the TPM gave {len(found)} register values, {len(given)} were named")
            if any(len(value) != DIGEST_SIZE[bank] for value in found):
                raise TpmError(f"{bank}: the TPM gave a register value of a wrong size")
            values |= dict(zip(given, found, strict=True))
            left = [register for register in left if register not in values]
        return dict(sorted(values.items()))

    def clock(self) -> str:
        """Return the clock in the form that ``tpm2_readclock`` prints."""
        now = self.call("read_clock")
        info = now.clockInfo
        return (
            f"time: {int(now.time)}\nclock_info:\n  clock: {int(info.clock)}\n"
            f"  reset_count: {int(info.resetCount)}\n  restart_count: {int(info.restartCount)}\n"
            f"  safe: {'yes' if int(info.safe) else 'no'}\n"
        )


def _bits(selection: Any) -> int:
    """The registers of a TPMS_PCR_SELECTION as bits."""
    return int.from_bytes(bytes(selection.pcrSelect)[: int(selection.sizeofSelect)], "little")


def pcrread_text(values: Mapping[str, Mapping[int, bytes]]) -> str:
    """Return register values in the form that ``tpm2_pcrread`` prints.

    Args:
        values: By bank and register.
    """
    lines = []
    for bank, registers in values.items():
        lines.append(f"  {bank}:")
        lines += [f"    {register:<2d}: 0x{value.hex().upper()}" for register, value in registers.items()]
    return "".join(f"{line}\n" for line in lines)


def _pytss() -> Any:
    try:
        import tpm2_pytss
    except (ImportError, OSError) as error:
        raise MissingExtraError("Talking to a TPM", "tpm", system=INSTALL_LINES) from error
    return tpm2_pytss


def _own_device() -> str:
    for device in (_RESOURCE_MANAGER, _DEVICE):
        if Path(device).exists():
            return f"device:{device}"
    raise TpmError(
        f"this machine has no TPM: there is neither {_RESOURCE_MANAGER} nor {_DEVICE}. What to do: "
        f"{_SWITCH_ON}; name a TPM elsewhere with --tcti"
    )


def _check_device(tcti: str) -> None:
    """Open the device once: the TSS tells all that can be wrong with it by one number."""
    name, _, device = tcti.partition(":")
    if name not in ("device", "libtss2-tcti-device.so.0", "libtss2-tcti-device.so") or not device:
        return
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hints = {
            errno.ENOENT: f"there is no such device: {_SWITCH_ON}",
            errno.EACCES: "it may not be opened: run this as root, or add the user to the group tss "
            "(usermod -aG tss USER) and log in again",
            errno.EBUSY: f"another program has it open: use the kernel's resource manager (--tcti "
            f"device:{_RESOURCE_MANAGER}), or stop tpm2-abrmd",
            errno.ENODEV: "its driver found no TPM behind it: see the kernel's messages (dmesg)",
        }
        hints[errno.EPERM], hints[errno.ENXIO] = hints[errno.EACCES], hints[errno.ENODEV]
        why = hints.get(error.errno or 0, "check the path, and the kernel's messages (dmesg)")
        raise TpmError(f"cannot use the TPM {device}: {error.strerror}. What to do: {why}") from error


def _tpm_error(what: str, error: Exception) -> TpmError:
    code = int(getattr(error, "rc", 0))
    if not code:
        return TpmError(f"{what}: {error}")
    return TpmError(f"{what}: {explain(code)}", code=code)
