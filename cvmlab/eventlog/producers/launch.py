"""Events of a dynamic launch (Intel TXT, AMD, Arm; PCR 17 to 22) and of AMD's security processor (PCR 0).

Source: Intel TXT Software Development Guide, appendix G; TPM 2.0 Library Specification, part 2, section 13.6
(TPMS_NV_PUBLIC). Where such an event has data, its digest is of them in every log seen so far; where it has
none, the digest is of what its type names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cvmlab.binary import Cursor
from cvmlab.eventlog import vendor_types as types
from cvmlab.eventlog.model import Opaque, Payload
from cvmlab.eventlog.producers.registry import EventData, decoder
from cvmlab.eventlog.producers.wording import any_text, bounded_name, one_line, summary_hex
from cvmlab.eventlog.types import event_type_name
from cvmlab.uefi.text import short_hex

if TYPE_CHECKING:
    from collections.abc import Callable

_ACM_ID_SIZE: Final = 20
_MAX_POLICY: Final = 64
_MAX_INDICES: Final = 16
_NAMED: Final = tuple(number for table in (types.INTEL, types.AMD, types.ARM) for number in table)


@dataclass(frozen=True, slots=True)
class HashStart:
    """What the processor hashed first: the digest of the SINIT module and the flags of GETSEC[SENTER]."""

    module_digest: bytes
    flags: int


@dataclass(frozen=True, slots=True)
class ModuleRegisters:
    """BIOS ACM id, and the registers that the module read behind it (not taken apart)."""

    acm_id: bytes
    registers: bytes


# TPM 2.0 Library Specification, part 2, section 13.6
@dataclass(frozen=True, slots=True)
class NvIndex:
    """Public area of one NV index: what may be read or written there, and by whom."""

    index: int
    name_algorithm: int
    attributes: int
    auth_policy: bytes
    data_size: int


@decoder("firmware", *_NAMED, kind="drtm")
def _launch(event: EventData) -> Payload:
    name = event_type_name(event.type)
    kind = "drtm" if event.type in types.LAUNCH_TYPES else "firmware-blob"
    candidates = (("data", event.data),) if event.data else ()
    relation = "unknown" if event.data else "outside"
    read = _FORMS.get(event.type)
    if read is None or not event.data:
        text = any_text(event.data)
        shown = text if text is not None else summary_hex(event.data) if event.data else "not logged"
        fields: dict[str, object] = {} if text is None else {"text": bounded_name(text)}
        value: object = Opaque(event.data) if text is None else text
    else:
        value, shown, fields = read(event.cursor())
    summary = one_line(f"{name.removeprefix('EV_')}: {shown}")
    return Payload("firmware", kind, name, summary, value, fields, candidates, relation)


_Read = tuple[object, str, dict[str, object]]


def _hash_start(cursor: Cursor) -> _Read:
    value = HashStart(cursor.take(max(0, cursor.remaining - 4), "SinitHash"), cursor.u32("EdxSenterFlags"))
    fields: dict[str, object] = {"module_digest": short_hex(value.module_digest), "flags": value.flags}
    shown = f"SINIT module {short_hex(value.module_digest, 64)}, flags 0x{value.flags:x}"
    return value, shown, fields


def _module_registers(cursor: Cursor) -> _Read:
    value = ModuleRegisters(cursor.take(_ACM_ID_SIZE, "BiosAcmId"), cursor.rest())
    fields: dict[str, object] = {"acm_id": value.acm_id.hex(), "registers": short_hex(value.registers)}
    return value, f"BIOS module {value.acm_id.hex()}", fields


def _flags(label: str) -> Callable[[Cursor], _Read]:
    def read(cursor: Cursor) -> _Read:
        number = cursor.u32(label)
        cursor.finish(label)
        return number, f"0x{number:08x}", {"value": number}

    return read


def _nv_info(cursor: Cursor) -> _Read:
    """Read the indices that the launch looked at: for each a byte that says if it exists, then its area."""
    big = Cursor(cursor.rest(), source=cursor.source, base=cursor.offset, big_endian=True)
    found: list[NvIndex] = []
    absent = 0
    while big.remaining:
        if not big.u8("exists"):
            absent += 1
            continue
        if len(found) == _MAX_INDICES:
            raise big.error("nvIndex", f"more than {_MAX_INDICES} indices")
        index, algorithm, attributes = big.u32("nvIndex"), big.u16("nameAlg"), big.u32("attributes")
        policy = big.counted(2, "authPolicy", limit=_MAX_POLICY)
        found.append(NvIndex(index, algorithm, attributes, policy, big.u16("dataSize")))
    rows: list[dict[str, object]] = [
        {
            "index": f"0x{one.index:08x}",
            "name_algorithm": f"0x{one.name_algorithm:04x}",
            "attributes": f"0x{one.attributes:08x}",
            "auth_policy": one.auth_policy.hex(),
            "data_size": one.data_size,
        }
        for one in found
    ]
    shown = f"NV {', '.join(str(row['index']) for row in rows) or 'index absent'}"
    return tuple(found), shown, {"indices": rows, "absent": absent}


_FORMS: Final[dict[int, Callable[[Cursor], _Read]]] = {
    types.EV_TXT_HASH_START: _hash_start,
    types.EV_TXT_BIOSAC_REG_DATA: _module_registers,
    types.EV_TXT_CPU_SCRTM_STAT: _flags("CpuScrtmStatus"),
    types.EV_TXT_LCP_CONTROL_HASH: _flags("PolicyControl"),
    types.EV_TXT_OSSINITDATA_CAP_HASH: _flags("Capabilities"),
    types.EV_TXT_NV_INFO_HASH: _nv_info,
}
