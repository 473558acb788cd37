"""What Hypothesis writes after a format's specification is read back as it was written."""

from __future__ import annotations

import json
import struct
import uuid
from typing import TYPE_CHECKING, Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.banks import ALGORITHM_BY_BANK, DIGEST_SIZE
from cvmlab.binary import Cursor
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.sipa import SipaEvent, parse_sipa
from cvmlab.tpm.attest import parse_attest
from cvmlab.uefi.devicepath import parse_device_path
from cvmlab.uefi.siglist import parse_signature_lists
from cvmlab.uefi.variables import parse_variable

if TYPE_CHECKING:
    from collections.abc import Sequence

BANKS = st.lists(st.sampled_from(["sha1", "sha256", "sha384", "sha512", "sm3_256"]), min_size=1, unique=True)
TYPES = st.sampled_from([0x1, 0x4, 0x5, 0x6, 0xD, 0x80000001, 0x80000003, 0x80000007, 0x800000E0, 0x1234])
Parts = list[tuple[int, int, dict[str, bytes], bytes]]


@st.composite
def events(draw: st.DrawFn, banks: Sequence[str]) -> Parts:
    """(register, type, digests, data) of a few events; the last one's data do not look like padding."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        digests = {
            bank: draw(st.binary(min_size=DIGEST_SIZE[bank], max_size=DIGEST_SIZE[bank])) for bank in banks
        }
        found.append((draw(st.integers(0, 23)), draw(TYPES), digests, draw(st.binary(max_size=40)) + b"."))
    return found


def _read(data: bytes) -> Parts:
    log = read_event_log(data)
    assert log.complete, log.problems
    return [(e.register, e.type, dict(e.digests), e.data) for e in log.events]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_crypto_agile_log(draw: st.DataObject) -> None:
    """PFP 1.06, 10.2.2 and 10.4.5.1."""
    banks = draw.draw(BANKS)
    parts = draw.draw(events(banks))
    table = b"".join(struct.pack("<HH", ALGORITHM_BY_BANK[b], DIGEST_SIZE[b]) for b in banks)
    vendor = draw.draw(st.binary(max_size=20))
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(banks)) + table
    spec += bytes([len(vendor)]) + vendor
    data = struct.pack("<II20xI", 0, 3, len(spec)) + spec
    for register, kind, digests, body in parts:
        data += struct.pack("<III", register, kind, len(digests))
        data += b"".join(struct.pack("<H", ALGORITHM_BY_BANK[b]) + d for b, d in digests.items())
        data += struct.pack("<I", len(body)) + body
    padding = draw.draw(st.sampled_from([b"", bytes(100), b"\xff" * 100]))
    assert _read(data + padding)[1:] == parts
    assert read_event_log(data).banks == tuple(banks)


@settings(max_examples=80, deadline=None)
@given(parts=events(["sha1"]))
def test_old_log(parts: Parts) -> None:
    """TCG PC Client Implementation for BIOS 1.21, 11.1."""
    data = b"".join(
        struct.pack("<II", register, kind) + digests["sha1"] + struct.pack("<I", len(body)) + body
        for register, kind, digests, body in parts
    )
    assert _read(data) == parts


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack(">I", len(value)) + value


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_canonical_log_in_each_encoding(draw: st.DataObject) -> None:
    """CEL 1.0, section 5: TLV, JSON, and CBOR with names or numbers."""
    parts = draw.draw(events(draw.draw(BANKS)))
    tlv = b"".join(
        _tlv(0, struct.pack(">Q", number))
        + _tlv(1, bytes([register]))
        + _tlv(3, b"".join(_tlv(ALGORITHM_BY_BANK[b], d) for b, d in digests.items()))
        + _tlv(5, _tlv(0, struct.pack(">I", kind)) + _tlv(1, body))
        for number, (register, kind, digests, body) in enumerate(parts)
    )
    named: list[dict[str, Any]] = [
        {
            "recnum": number,
            "pcr": register,
            "digests": [{"hashAlg": b, "digest": d.hex()} for b, d in digests.items()],
            "content_type": "pcclient_std",
            "content": {"event_type": kind, "event_data": body.hex()},
        }
        for number, (register, kind, digests, body) in enumerate(parts)
    ]
    numbered = [
        {
            0: number,
            1: register,
            3: [{0: ALGORITHM_BY_BANK[b], 1: d} for b, d in digests.items()],
            5: {0: kind, 1: body},
        }
        for number, (register, kind, digests, body) in enumerate(parts)
    ]
    forms = {
        "cel-tlv": [tlv],
        "cel-json": [json.dumps(named).encode(), json.dumps({"log": named}, indent=1).encode()],
        "cel-cbor": [cbor2.dumps(named), cbor2.dumps(numbered), b"".join(map(cbor2.dumps, numbered))],
        "systemd-userspace": [b"".join(b"\x1e" + json.dumps(r).encode() + b"\n" for r in named)],
    }
    for form, logs in forms.items():
        for data in logs:
            assert read_event_log(data).format == form
            assert _read(data) == parts, form


LEAF = st.tuples(st.sampled_from([0x10001, 0x20001, 0x50001, 0x70004, 0xC0001]), st.binary(max_size=12))
TREE: Any = st.recursive(
    LEAF, lambda inner: st.tuples(st.just(0x40010001), st.lists(inner, max_size=3)), max_leaves=8
)


def _write_sipa(node: Any) -> bytes:
    kind, inside = node
    body = inside if isinstance(inside, bytes) else b"".join(map(_write_sipa, inside))
    return struct.pack("<II", kind, len(body)) + body


def _sipa(event: SipaEvent) -> Any:
    return (event.id, list(map(_sipa, event.children)) if event.container else event.payload)


@settings(max_examples=80, deadline=None)
@given(st.lists(TREE, max_size=4))
def test_windows_tree(trees: list[Any]) -> None:
    """``wbcl.h``: id, size, payload; containers hold further events."""
    data = b"".join(map(_write_sipa, trees))
    found, error = parse_sipa(Cursor(data, source="tree"))
    assert error is None
    assert list(map(_sipa, found)) == trees


HASHES = {
    uuid.UUID("c1c41626-504c-4092-aca9-41f936934328"): 32,  # EFI_CERT_SHA256_GUID
    uuid.UUID("826ca512-cf10-4ac9-b187-be01496631bd"): 20,  # EFI_CERT_SHA1_GUID
    uuid.UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): 48,  # EFI_CERT_SHA384_GUID
    uuid.UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): 48,  # EFI_CERT_X509_SHA256_GUID: hash and EFI_TIME
}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_signature_lists(draw: st.DataObject) -> None:
    """UEFI 2.10, 32.4.1: type, list size, header size, signature size, then owner and data of each."""
    lists = []
    for guid in draw.draw(st.lists(st.sampled_from(list(HASHES)), max_size=3)):
        entry = st.tuples(st.uuids(), st.binary(min_size=HASHES[guid], max_size=HASHES[guid]))
        lists.append((guid, draw.draw(st.lists(entry, min_size=1, max_size=4))))
    data = b""
    for guid, entries in lists:
        body = b"".join(owner.bytes_le + value for owner, value in entries)
        data += guid.bytes_le + struct.pack("<III", 28 + len(body), 0, 16 + HASHES[guid]) + body
    found = parse_signature_lists(Cursor(data, source="db"))
    assert [(one.type_guid, [(s.owner, s.data) for s in one.signatures]) for one in found] == lists


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40), st.binary(max_size=24)), max_size=6))
def test_device_path(nodes: list[tuple[int, int, bytes]]) -> None:
    """UEFI 2.10, 10.2: type, subtype, length with its header; an end node closes it."""
    data = b"".join(bytes([kind, sub]) + struct.pack("<H", 4 + len(body)) + body for kind, sub, body in nodes)
    found = parse_device_path(Cursor(data + b"\x7f\xff\x04\0", source="path"))
    assert [(node.type, node.subtype, node.data) for node in found.nodes] == nodes


NAMES = st.text(
    st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1, max_size=20
)


@settings(max_examples=80, deadline=None)
@given(guid=st.uuids(), name=NAMES, value=st.binary(max_size=64))
def test_variable(guid: uuid.UUID, name: str, value: bytes) -> None:
    """UEFI_VARIABLE_DATA (PFP 1.06, 10.4.2.5): GUID, length of the name in characters, of the data, both."""
    head = guid.bytes_le + struct.pack("<QQ", len(name), len(value))
    found = parse_variable(Cursor(head + name.encode("utf-16-le") + value, source="variable"))
    assert (found.guid, found.name, found.data) == (guid, name, value)


@settings(max_examples=80, deadline=None)
@given(
    signer=st.one_of(
        st.just(b""),
        st.binary(min_size=4, max_size=4),
        st.binary(min_size=32, max_size=32).map(lambda digest: b"\0\x0b" + digest),
    ),
    extra=st.binary(max_size=64),
    clock=st.tuples(st.integers(0, (1 << 64) - 1), *[st.integers(0, (1 << 32) - 1)] * 2, st.booleans()),
    firmware=st.integers(0, (1 << 64) - 1),
    registers=st.sets(st.integers(0, 23), min_size=1),
    digest=st.binary(min_size=32, max_size=32),
)
def test_quote(
    signer: bytes,
    extra: bytes,
    clock: tuple[int, int, int, bool],
    firmware: int,
    registers: set[int],
    digest: bytes,
) -> None:
    """TPM 2.0 Part 2, 10.12.8 (TPMS_ATTEST) and 10.12.1 (TPMS_QUOTE_INFO)."""

    def sized(value: bytes) -> bytes:
        return struct.pack(">H", len(value)) + value

    bits = sum(1 << register for register in registers).to_bytes(3, "little")
    data = b"\xffTCG\x80\x18" + sized(signer) + sized(extra) + struct.pack(">QII?Q", *clock, firmware)
    data += struct.pack(">IHB", 1, 0x0B, 3) + bits + sized(digest)
    found = parse_attest(data, source="quote.msg")
    assert (found.qualified_signer, found.extra_data, found.pcr_digest) == (signer, extra, digest)
    info = found.clock_info
    assert (info.clock, info.reset_count, info.restart_count, info.safe) == clock
    assert found.firmware_version == firmware
    assert [(s.bank, s.registers) for s in found.selections] == [("sha256", tuple(sorted(registers)))]
