"""Batches of logs are read as single logs are: field by field, whatever was done to the logs."""

from __future__ import annotations

import contextlib
import pickle
import random
import struct
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvmlab.banks import ALGORITHM_BY_BANK, DIGEST_SIZE, digest
from cvmlab.errors import CvmlabError, EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.fleet import batch as batch_module
from cvmlab.fleet.batch import batch_schema, process_logs
from cvmlab.fleet.batch_columns import BANKS
from cvmlab.fleet.batch_fast import read_fast
from cvmlab.fleet.kernel_logs import intern_rows
from cvmlab.fleet.vary import vary_log

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"


def expected(data: bytes, source: str = "<batch>") -> dict[str, object]:
    """What the reader of single logs says, in the shape of a row."""
    log = read_event_log(data, name=source)
    return {
        "format": log.format,
        "set": log.set,
        "banks": ",".join(log.banks),
        "size": log.size,
        "end": log.end,
        "startup_locality": log.startup_locality,
        "resumed": log.resumed,
        "complete": log.complete,
        "events": [
            {
                "offset": event.offset,
                "register": event.register,
                "phase": event.phase,
                "type": event.type_name,
                "type_number": event.type,
                "digest_check": event.digest_check,
                "covered": event.covered,
                "data_size": len(event.data),
                "data_sha256": sha256(event.data).digest(),
                **{bank: event.digests.get(bank) for bank in BANKS},
            }
            for event in log.events
        ],
        "registers": [
            {"register": register, "bank": bank, "value": value}
            for bank, registers in log.replay().items()
            for register, value in registers.items()
        ],
        "problems": [
            {
                "offset": problem.offset,
                "field": problem.field,
                "message": problem.message,
                "fatal": problem.fatal,
                "need": problem.need,
                "have": problem.have,
            }
            for problem in log.problems
        ],
    }


def batch_of(logs: Sequence[bytes | None]) -> pa.RecordBatch:
    names = pa.array([f"m{i}" for i in range(len(logs))], pa.string())
    return pa.record_batch({"machine": names, "log": pa.array(logs, pa.binary())})


def assert_same(logs: Sequence[bytes]) -> None:
    rows = process_logs(batch_of(logs)).to_pylist()
    for number, (row, data) in enumerate(zip(rows, logs, strict=True)):
        wanted = {"machine": f"m{number}", **expected(data)}
        assert row == wanted, f"log {number} of {len(logs)}"


def sample_logs() -> list[bytes]:
    return [path.read_bytes() for path in sorted((SAMPLES / "boots").glob("*/eventlog.bin"))]


def test_every_sample_in_one_batch() -> None:
    assert_same(sample_logs() * 2)


def test_every_log_of_the_corpus_in_one_batch(corpus: Path) -> None:
    logs = []
    for path in sorted((corpus / "eventlogs").rglob("*")):
        if path.is_file() and path.stat().st_size < 1 << 20:
            data = path.read_bytes()
            try:
                read_event_log(data)
            except CvmlabError:
                continue
            logs.append(data)
    assert len(logs) > 50
    assert_same(logs)


def test_schema_is_the_same_for_any_batch() -> None:
    wanted = pa.schema([pa.field("machine", pa.string()), *batch_schema()])
    for logs in ([], [b""], [None], sample_logs()[:1], [sample_logs()[0][:500]]):
        result = process_logs(batch_of(logs))
        assert result.schema.equals(wanted)
        assert result.num_rows == len(logs)
        result.validate(full=True)


def test_column_without_logs_is_refused() -> None:
    with pytest.raises(EvidenceError, match="one column 'log' of bytes"):
        process_logs(pa.record_batch({"machine": ["a"]}))
    with pytest.raises(EvidenceError, match="this has string"):
        process_logs(pa.record_batch({"log": ["text"]}))


def _mutated(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    out = bytearray(data)
    for how, place, new in edits:
        at = place % (len(out) + 1)
        if how == "overwrite":
            out[at : at + len(new)] = new[: len(out) - at]
        elif how == "insert":
            out[at:at] = new
        elif how == "remove":
            del out[at : at + len(new)]
        elif how == "cut":
            del out[at:]
        else:
            out += new * 40
    return bytes(out)


_EDIT = st.tuples(
    st.sampled_from(["overwrite", "insert", "remove", "cut", "append"]),
    st.integers(0, 40_000),
    st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from([b"\0", b"\xff", b"\0\0\0\0", b"Spec ID Event03\0"]),
    ),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_logs_among_whole_ones(data: st.DataObject) -> None:
    models = sample_logs()
    logs = []
    for _ in range(data.draw(st.integers(1, 4))):
        log = data.draw(st.sampled_from(models))
        if data.draw(st.booleans()):
            with contextlib.suppress(EvidenceError):
                log = vary_log(
                    log, data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.1, 0.6, 1.0]))
                )
        logs.append(_mutated(log, data.draw(st.lists(_EDIT, max_size=3))))
    assert_same(logs)


def event(
    register: int, kind: int, data: bytes, *, digest_of: bytes | None = None, banks: str = "sha1 sha256"
) -> bytes:
    """An event of a crypto-agile log (PFP 1.06, section 10.2.2)."""
    listed = banks.split()
    digests = b"".join(
        ALGORITHM_BY_BANK[bank].to_bytes(2, "little") + digest(bank, data if digest_of is None else digest_of)
        for bank in listed
    )
    head = struct.pack("<III", register, kind, len(listed))
    return head + digests + struct.pack("<I", len(data)) + data


def header(banks: str = "sha1 sha256") -> bytes:
    """The Spec ID event (PFP 1.06, section 10.4.5.1)."""
    listed = banks.split()
    table = b"".join(struct.pack("<HH", ALGORITHM_BY_BANK[bank], DIGEST_SIZE[bank]) for bank in listed)
    data = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(listed)) + table + b"\0"
    return struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", len(data)) + data


def locality(value: int) -> bytes:
    return event(0, 3, b"StartupLocality\0" + bytes([value]))


_SPECIAL = {
    "locality_3": header() + locality(3) + event(0, 8, b"v\0") + event(0, 4, bytes(4)),
    "locality_of_no_meaning": header() + locality(2) + event(0, 8, b"v\0"),
    "locality_twice": header() + locality(0) + locality(3) + event(0, 8, b"v\0"),
    "h_crtm": header() + locality(3) + event(0, 0x80000010, b"HCRTM\0") + event(0, 8, b"v\0"),
    "h_crtm_elsewhere": header() + event(1, 0x80000010, b"HCRTM\0") + event(0, 8, b"v\0"),
    "dynamic_launch": header() + event(17, 0x401, b"x") + event(18, 0x402, b"y") + event(0, 8, b"v\0"),
    "no_action_in_17": header() + event(17, 3, b"x") + event(0, 8, b"v\0"),
    "cc_registers": header("sha384")
    + event(1, 0x80000001, bytes(40), banks="sha384")
    + event(1, 4, bytes(4), banks="sha384")
    + event(2, 6, b"LOADED_IMAGE::LoadOptions\0", banks="sha384"),
    "cc_registers_past_the_last": header() + event(1, 0x80000001, bytes(40)) + event(5, 3, b"x"),
    "register_24": header() + event(24, 5, b"x"),
    "trailer": header() + event(0, 8, b"v\0") + event(0xFFFFFFFF, 5, b"x"),
    "another_log": header() + event(0, 8, b"v\0") + header() + event(0, 8, b"w\0"),
    "four_banks": header("sha512 sha1 sha384 sha256")
    + event(7, 0x80000007, b"Exit", banks="sha512 sha1 sha384 sha256"),
    "sm3": header("sha256 sm3_256") + struct.pack("<IIIHIH", 0, 8, 2, 0x0B, 0, 0),
    "sha3": header("sha3_256") + event(0, 8, b"v", banks="sha3_256"),
    "fewer_digests": header() + event(0, 8, b"v", banks="sha1") + event(0, 8, b"v"),
    "digest_not_listed": header() + event(0, 8, b"v", banks="sha1 sha256 sha512"),
    "banks_contradict": header()
    + event(7, 0x80000007, b"Exit").replace(digest("sha1", b"Exit"), bytes(20)),
    "no_banks": header("") + struct.pack("<IIII", 0, 8, 0, 1) + b"v",
    "only_header": header(),
    "header_and_padding": header() + bytes(4000),
    "empty": b"",
    "text": b"hello, this is not a log at all, whatever anyone may say about it",
}  # fmt: skip


@pytest.mark.parametrize("name", _SPECIAL)
def test_log_made_for_one_rule(name: str) -> None:
    assert_same([_SPECIAL[name]])
    assert_same([*_SPECIAL.values(), *_SPECIAL.values()])


def _variable(name: str, data: bytes, lie: int) -> bytes:
    return bytes(16) + struct.pack("<QQ", len(name), len(data) + lie) + name.encode("utf-16-le") + data


_RULED = (
    *(0, 1, 4, 5, 6, 7, 8, 0xC, 0xD, 0x12, 0x800000E0),
    *(0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006, 0x80000007),
    *(0x80000008, 0x80000009, 0x8000000A, 0x8000000B, 0x8000000C, 0x8000000D),
)
_WORDS = st.sampled_from(
    [
        *("grub_cmd: ", "grub_cmd ", "kernel_cmdline: ", "/boot/vmlinuz", "(hd0)/x", "a=b", "é", "\x01"),
        *(
            "sysinit",
            "ready:final",
            "MokList",
            "Mok",
            "SbatLevel",
            ".linux",
            "Linux initrd",
            "LOADED_IMAGE::LoadOptions",
        ),
        *("UUID: 0f8fad5b-d9cb-469f-a165-70867728950e", "UUID: 0f8fad5b-d9cb-469f-a165-70867728950"),
    ]
)
_DATA = st.one_of(
    st.binary(max_size=60),
    st.lists(_WORDS, max_size=3).map(lambda words: "".join(words).encode()),
    st.tuples(st.lists(_WORDS, max_size=2), st.binary(max_size=3)).map(
        lambda pair: "".join(pair[0]).encode() + b"\0" + pair[1]
    ),
    st.lists(_WORDS, max_size=2).map(lambda words: "".join(words).encode("utf-16-le")),
    st.builds(
        _variable,
        st.sampled_from(["Boot0001", "BootOrder", "db", "SecureBoot", "SbatLevel", ""]),
        st.binary(max_size=30),
        st.sampled_from([0, 0, 0, 1, 1 << 40]),
    ),
    st.builds(
        lambda tag, size, rest: struct.pack("<II", tag, size) + rest,
        st.sampled_from([0x8F3B22EC, 0x8F3B22ED, 0xF5BC582A, 0x00010002, 0x00100001]),
        st.integers(0, 12),
        st.binary(max_size=12),
    ),
    st.sampled_from([40, 47, 48, 60]).map(lambda size: ("root=" + "x" * size)[:size].encode("utf-16-le")),
)


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 4, 5, 7, 8, 9, 11, 12, 14]),
            st.sampled_from(_RULED),
            _DATA,
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_rule_about_covered_data(events: list[tuple[int, int, bytes, int]]) -> None:
    log = header()
    for register, kind, data, choice in events:
        text = data.partition(b"\0")[0]
        name = int.from_bytes(data[16:18], "little") if len(data) > 32 else 0
        of = (data, data[32 + 2 * name :], text, text.partition(b" ")[2], data[:-1], b"other")[choice]
        log += event(register, kind, data, digest_of=of)
    assert_same([log])


def test_whole_logs_are_read_together_and_others_alone() -> None:
    # a log of BIOS firmware has no Spec ID event, so that more than its start tells what it is
    logs = [log for log in sample_logs() if log[32:46] == b"Spec ID Event0"]
    whole = [log for log in logs if not read_event_log(log).problems]
    logs = [*whole, *(vary_log(log, 5, 1.0) for log in whole), whole[0][:-9], b"", header() * 2]
    offsets = np.cumsum([0, *map(len, logs)])
    part, chosen = read_fast(np.frombuffer(b"".join(logs), np.uint8), offsets[:-1], offsets[1:])
    assert chosen.tolist() == list(range(2 * len(whole)))
    assert len(part.counts["events"]) == len(chosen)


def test_large_batches_are_read_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "CHUNK_LOGS", 3)
    monkeypatch.setattr(batch_module, "CHUNK_BYTES", 50_000)
    logs = sample_logs()
    assert_same([*logs, b"", *logs[:4], logs[1][:700]])


def test_slices_nulls_and_wide_columns() -> None:
    logs = [*sample_logs()[:4], None, b""]
    wanted = process_logs(batch_of(logs)).to_pylist()
    wide = pa.record_batch({"log": pa.array(logs, pa.large_binary())})
    assert [{**row, "machine": f"m{i}"} for i, row in enumerate(process_logs(wide).to_pylist())] == wanted
    assert process_logs(batch_of(logs).slice(2, 3)).to_pylist() == wanted[2:5]


def test_without_numba_the_rows_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = batch_of([*sample_logs(), *_SPECIAL.values()])
    wanted = process_logs(logs).to_pylist()
    monkeypatch.setattr(batch_module, "_can_compile", lambda: False)
    assert process_logs(logs).to_pylist() == wanted


def test_the_function_travels_to_other_processes() -> None:
    batch = batch_of(sample_logs()[:2])
    assert pickle.loads(pickle.dumps(process_logs))(batch).equals(process_logs(batch))


def old_log(events: int, seed: int) -> bytes:
    """A TCG 1.2 log of the smallest events there are, none like another (PFP 1.06, section 10.2.1)."""
    data = b"Spec ID Event02\0" + struct.pack("<IBBBBB", 0, 2, 1, 0, 2, 0)
    source = random.Random(seed)
    return struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", len(data)) + data + b"".join(
        struct.pack("<II", source.randrange(8), 5) + source.randbytes(20) + bytes(4) for _ in range(events)
    )  # fmt: skip


def test_hostile_events_cost_time_and_bounded_memory() -> None:
    logs = [old_log(3000, seed) for seed in range(20)]
    batch = batch_of(logs)
    process_logs(batch_of(logs[:1]))
    tracemalloc.start()
    try:
        process_logs(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * sum(map(len, logs))
    assert_same(logs[:1])


def test_rows_that_collide_without_end_are_numbered_anew() -> None:
    rows = np.arange(40, dtype=np.uint8).reshape(-1, 2) // 4
    ids, models = np.empty(20, np.int32), np.empty(20, np.int64)
    full = np.full(2, -1, np.int32)
    found, repeated = intern_rows(
        rows.reshape(-1), 2, np.ones(20, np.uint8), np.uint64(1), full, np.empty(20, np.uint64), models, ids
    )
    assert repeated == found - 2
    assert (rows[models[ids]] == rows).all()
