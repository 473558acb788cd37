"""Events of td-shim, the small firmware of TDX guests that boots a kernel without UEFI.

Source: td-shim specification, table 3.5-4 (TD_SHIM_PLATFORM_CONFIG_INFO) and section "Measurement": the
digest is of Info alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.eventlog.model import Payload
from cvmlab.eventlog.producers.grub import KernelCommandLine, command_line_fields
from cvmlab.eventlog.producers.wording import byte_text, one_line, plural

if TYPE_CHECKING:
    from cvmlab.eventlog.producers.registry import EventData

PAYLOAD: Final = "td_payload"
"""Description of the blob that is the kernel."""
_DESCRIPTOR_SIZE: Final = 16
_PARAMETERS: Final = b"td_payload_info\0"
_WHAT: Final = {
    b"td_hob\0": "memory and devices that the host described (TD HOB)",
    _PARAMETERS: "kernel command line",
    b"secure_policy_db": "keys that may sign the kernel",
    b"secure_authority": "key that signed the kernel",
    b"td_payload_svn\0": "security version of the kernel",
}


@dataclass(frozen=True, slots=True)
class ShimInfo:
    """Configuration that td-shim measured: which, and its bytes."""

    descriptor: str
    info: bytes


def shim_payload(event: EventData) -> Payload | None:
    """Return the payload of td-shim's configuration, None for any other data.

    Raises:
        ParseError: The descriptor is td-shim's and Info is cut, or bytes follow it.
    """
    descriptor = next((name for name in _WHAT if event.data.startswith(name)), None)
    if descriptor is None:
        return None
    cursor = event.cursor()
    cursor.take(_DESCRIPTOR_SIZE, "Descriptor")
    info = cursor.counted(4, "Info")
    cursor.finish("TD_SHIM_PLATFORM_CONFIG_INFO")
    name = descriptor.rstrip(b"\0").decode()
    candidates = (("info", info),)
    if descriptor == _PARAMETERS:
        text = byte_text(info) or ""
        fields = command_line_fields(text)
        line = KernelCommandLine("", text)
        return Payload(
            "firmware", "kernel-command-line", name, one_line(text), line, fields, candidates, "data"
        )
    fields = {"descriptor": name, "size": len(info)}
    summary = f"{_WHAT[descriptor]}, {plural(len(info), 'byte')}"
    value = ShimInfo(name, info)
    return Payload("firmware", "platform-config", name, summary, value, fields, candidates, "data")
