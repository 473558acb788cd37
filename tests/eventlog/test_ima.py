"""IMA lists.

Expected values: the kernel sources named in `cvmlab.eventlog.ima_fields`, hashlib by hand, and the
register values that tpm2_pcrread printed on the shared boots (with the counts of their summary.json).
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import EvidenceError
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.ima import boot_aggregate_entry, read_ima
from cvmlab.eventlog.ima_replay import (
    boot_aggregate,
    check_entries,
    extend_values,
    match_prefix,
    modes,
    prefix_values,
)

if TYPE_CHECKING:
    from pathlib import Path


def lv(data: bytes) -> bytes:
    """A field as the kernel writes it: 32-bit little-endian length, bytes."""
    return struct.pack("<I", len(data)) + data


def ng_data(path: bytes, digest: bytes, algorithm: bytes = b"sha256", *more: bytes) -> bytes:
    return lv(algorithm + b":\0" + digest) + lv(path + b"\0") + b"".join(lv(item) for item in more)


def binary(template: bytes, data: bytes, *, value: bytes | None = None, register: int = 10) -> bytes:
    value = hashlib.sha1(data).digest() if value is None else value
    return struct.pack("<I", register) + value + lv(template) + lv(data)


A = hashlib.sha256(b"a").digest()
B = hashlib.sha256(b"b").digest()
SMALL = (
    binary(b"ima-sig", ng_data(b"boot_aggregate", A, b"sha256", b""))
    + binary(b"ima-ng", ng_data(b"/bin/sh", B))
    + binary(b"ima-sig", ng_data(b"/bin/signed", B, b"sha256", b"\x03\x02\x04sig"))
)


def text_line(template: str, data: bytes, rest: str, register: int = 10) -> bytes:
    return f"{register} {hashlib.sha1(data).hexdigest()} {template} {rest}\n".encode()


TEXT = (
    text_line("ima-sig", ng_data(b"boot_aggregate", A, b"sha256", b""), f"sha256:{A.hex()} boot_aggregate ")
    + text_line("ima-ng", ng_data(b"/bin/sh", B), f"sha256:{B.hex()} /bin/sh")
    + text_line(
        "ima-sig",
        ng_data(b"/bin/signed", B, b"sha256", b"\x03\x02\x04sig"),
        f"sha256:{B.hex()} /bin/signed 030204736967",
    )
)


def test_binary_list_reads_every_field() -> None:
    ima = read_ima(SMALL, name="ima_binary.bin")
    assert (ima.format, ima.bank, ima.problems, ima.size) == ("binary", "sha1", (), len(SMALL))
    assert [entry.path for entry in ima.entries] == ["boot_aggregate", "/bin/sh", "/bin/signed"]
    assert ima.entries[1].offset == SMALL.index(b"ima-ng") - 4 - 20 - 4
    assert ima.entries[2].signature == b"\x03\x02\x04sig"
    assert ima.entries[0].signature is None
    assert ima.entries[2].file_digest == B
    assert ima.entries[2].hash_algorithm == "sha256"


def test_text_list_rebuilds_the_hashed_bytes() -> None:
    text, raw = read_ima(TEXT), read_ima(SMALL)
    assert text.format == "ascii"
    assert not text.problems
    for ours, theirs in zip(text.entries, raw.entries, strict=True):
        assert ours.template_data == theirs.template_data
        assert ours.template_hash == theirs.template_hash
        assert (ours.path, ours.file_digest, ours.signature) == (
            theirs.path,
            theirs.file_digest,
            theirs.signature,
        )
    assert check_entries(text).forged == ()


def test_digests_by_path_leaves_out_aggregate_and_violations() -> None:
    raw = SMALL + binary(b"ima-ng", ng_data(b"/var/log/x", bytes(32)), value=bytes(20))
    assert read_ima(raw).digests_by_path() == {
        "/bin/sh": frozenset({f"sha256:{B.hex()}"}),
        "/bin/signed": frozenset({f"sha256:{B.hex()}"}),
    }


def test_legacy_template_hashes_the_name_padded_to_256_bytes() -> None:
    digest = hashlib.sha1(b"x").digest()
    hashed = digest + b"/sbin/init".ljust(256, b"\0")
    value = hashlib.sha1(hashed).digest()
    raw = struct.pack("<I", 10) + value + lv(b"ima") + digest + lv(b"/sbin/init")
    line = f"10 {value.hex()} ima {digest.hex()} /sbin/init\n".encode()
    for source in (raw, line):
        ima = read_ima(source)
        assert not ima.problems
        assert ima.entries[0].template_data == hashed
        assert check_entries(ima).forged == ()
        assert (ima.entries[0].path, ima.entries[0].hash_algorithm) == ("/sbin/init", "sha1")


def test_legacy_name_with_blank_in_text() -> None:
    digest = hashlib.sha1(b"x").digest()
    hashed = digest + b"/a b".ljust(256, b"\0")
    ima = read_ima(f"10 {hashlib.sha1(hashed).hexdigest()} ima {digest.hex()} /a b\n".encode())
    assert ima.entries[0].path == "/a b"
    assert check_entries(ima).forged == ()


@pytest.mark.parametrize(
    ("template", "data"),
    [
        (b"ima-ngv2", lv(b"verity:sha256:\0" + B) + lv(b"/v\0")),
        (b"ima-buf", ng_data(b"kexec-cmdline", B, b"sha256", b"root=/dev/sda1")),
        (b"d-ng|n-ng|sig", ng_data(b"/v", B, b"sha256", b"s")),
        (b"ima-modsig", ng_data(b"/v", B, b"sha256", b"s", b"sha256:\0" + A, b"modsig")),
    ],
)
def test_other_templates_read(template: bytes, data: bytes) -> None:
    ima = read_ima(binary(template, data))
    assert not ima.problems
    assert ima.entries[0].file_digest == B
    assert ima.entries[0].hash_algorithm == "sha256"


def test_unknown_template_stays_opaque_and_replays() -> None:
    raw = binary(b"ima-future", b"\x01\x02\x03")
    ima = read_ima(raw)
    assert not ima.problems
    assert ima.entries[0].template_data == b"\x01\x02\x03"
    assert ima.entries[0].path == ""
    value = hashlib.sha256(bytes(32) + hashlib.sha256(b"\x01\x02\x03").digest()).digest()
    assert match_prefix(ima, "sha256", {value}) is not None


def test_unknown_template_in_text_is_unchecked() -> None:
    ima = read_ima(b"10 " + b"ab" * 20 + b" ima-future some words here\n" + TEXT)
    assert len(ima.entries) == 4
    assert ima.entries[0].template_data is None
    assert check_entries(ima).unchecked == (0,)
    assert list(extend_values(ima, "sha256", "template-per-bank")) == []
    assert len(list(extend_values(ima, "sha1", "listed"))) == 4


def test_per_bank_list_of_newer_kernels() -> None:
    data = ng_data(b"/bin/sh", B)
    raw = binary(b"ima-ng", data, value=hashlib.sha256(data).digest())
    line = f"10 {hashlib.sha256(data).hexdigest()} ima-ng sha256:{B.hex()} /bin/sh\n".encode()
    for source in (raw, line):
        ima = read_ima(source)
        assert ima.bank == "sha256"
        assert not ima.problems
        assert check_entries(ima).forged == ()
        assert modes(ima, "sha256") == ("listed",)
        padded = hashlib.sha1(data).digest() + bytes(28)
        assert list(extend_values(ima, "sha384", "sha1-padded")) == [padded]


def test_violation_is_extended_as_all_ones() -> None:
    ima = read_ima(binary(b"ima-ng", ng_data(b"/var/log/x", bytes(32)), value=bytes(20)))
    assert ima.entries[0].violation
    assert check_entries(ima).violations == (0,)
    for bank, size in (("sha1", 20), ("sha256", 32), ("sha384", 48)):
        for mode in modes(ima, bank):
            assert list(extend_values(ima, bank, mode)) == [b"\xff" * size]
    value = hashlib.sha256(bytes(32) + b"\xff" * 32).digest()
    match = match_prefix(ima, "sha256", [value])
    assert match is not None
    assert match.count == 1


def test_match_prefers_the_longest_prefix() -> None:
    ima = read_ima(SMALL)
    values = dict(prefix_values(ima, "sha256", "template-per-bank"))
    one = hashlib.sha256(bytes(32) + hashlib.sha256(ima.entries[0].template_data or b"").digest()).digest()
    assert values[1] == one
    match = match_prefix(ima, "sha256", {one, values[3], bytes(32)})
    assert match is not None
    assert (match.count, match.mode) == (3, "template-per-bank")
    empty = match_prefix(ima, "sha256", {bytes(32)})
    assert empty is not None
    assert empty.count == 0
    assert match_prefix(ima, "sha256", {b"\x01" * 32}) is None


def test_match_from_an_initial_value() -> None:
    ima = read_ima(binary(b"ima-ng", ng_data(b"/x", B)))
    start = hashlib.sha256(b"before").digest()
    data = ima.entries[0].template_data or b""
    padded = hashlib.sha1(data).digest() + bytes(12)
    match = match_prefix(ima, "sha256", {hashlib.sha256(start + padded).digest()}, initial=start)
    assert match is not None
    assert (match.count, match.mode) == (1, "sha1-padded")


def test_other_registers_are_not_replayed() -> None:
    raw = binary(b"ima-ng", ng_data(b"/y", A), register=11) + binary(b"ima-ng", ng_data(b"/x", B))
    ima = read_ima(raw)
    assert len(list(extend_values(ima, "sha1", "listed"))) == 1
    assert [count for count, _ in prefix_values(ima, "sha1", "listed")] == [0, 2]


def test_unknown_bank_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown bank"):
        match_prefix(read_ima(SMALL), "md5", {bytes(16)})


def test_edited_path_is_forged() -> None:
    edited = SMALL.replace(b"/bin/sh\0", b"/bin/xx\0")
    ima = read_ima(edited)
    assert not ima.problems
    assert check_entries(ima).forged == (1,)
    assert check_entries(read_ima(TEXT.replace(b"/bin/sh\n", b"/bin/xx\n"))).forged == (1,)


def test_boot_aggregate_by_hand() -> None:
    values = {index: hashlib.sha256(bytes([index])).digest() for index in range(10)}
    joined = b"".join(values[index] for index in range(10))
    assert list(boot_aggregate(values, "sha256").items()) == [
        ("pcr-0-9", hashlib.sha256(joined).digest()),
        ("pcr-0-7", hashlib.sha256(joined[: 8 * 32]).digest()),
    ]
    del values[9]
    assert list(boot_aggregate(values, "sha256")) == ["pcr-0-7"]
    assert boot_aggregate({}, "sha256") == {}


def test_boot_aggregate_counts_only_as_first_entry() -> None:
    entry = binary(b"ima-ng", ng_data(b"boot_aggregate", A))
    assert boot_aggregate_entry(read_ima(entry)) is not None
    assert boot_aggregate_entry(read_ima(binary(b"ima-ng", ng_data(b"/x", A)) + entry)) is None
    assert boot_aggregate_entry(read_ima(b"")) is None


# What the files of the shared boots say.


def _registers(folder: Path) -> dict[str, bytes]:
    text = yaml.load((folder / "pcrs.yaml").read_text(), Loader=yaml.BaseLoader)
    return {
        bank: bytes.fromhex(values["10"].removeprefix("0x"))
        for bank, values in text.items()
        if "10" in values
    }


def _lists(boots: Path) -> list[Path]:
    return sorted(path.parent for path in boots.glob("*/ima_binary.bin"))


def test_boots_text_and_binary_agree(boots: Path) -> None:
    folders = _lists(boots)
    assert len(folders) >= 15
    for folder in folders:
        raw, text = read_ima(folder / "ima_binary.bin"), read_ima(folder / "ima_ascii.log")
        assert (raw.format, text.format) == ("binary", "ascii")
        assert not raw.problems + text.problems
        assert check_entries(raw).forged == check_entries(text).forged == ()
        common = min(len(raw.entries), len(text.entries))
        assert common > 0
        for ours, theirs in zip(raw.entries[:common], text.entries[:common], strict=True):
            assert ours.template_data == theirs.template_data
            assert (ours.path, ours.file_digest) == (theirs.path, theirs.file_digest)


@pytest.mark.parametrize("file", ["ima_binary.bin", "ima_ascii.log"])
def test_boots_replay_to_the_register_read(boots: Path, file: str) -> None:
    checked = 0
    for folder in _lists(boots):
        expected = json.loads((folder / "summary.json").read_text()).get("ima_replay", {})
        registers = _registers(folder)
        ima = read_ima(folder / file)
        for bank, text in expected.items():
            found = re.match(r"(\S+): pcrread after entry (\d+) of", text)
            if found is None:
                continue
            mode, count = found.groups()
            match = match_prefix(ima, bank, {registers[bank]})
            assert match is not None, (folder.name, bank)
            assert match.count == int(count), (folder.name, bank)
            assert match.mode == ("listed" if mode == "sha1" else mode), (folder.name, bank)
            checked += 1
    assert checked >= 40


def test_boots_aggregate_is_of_the_registers(boots: Path) -> None:
    checked = 0
    for folder in _lists(boots):
        entry = boot_aggregate_entry(read_ima(folder / "ima_binary.bin"))
        assert entry is not None
        text = yaml.load((folder / "pcrs.yaml").read_text(), Loader=yaml.BaseLoader)
        values = {
            int(index): bytes.fromhex(value.removeprefix("0x"))
            for index, value in text[entry.hash_algorithm].items()
        }
        assert entry.file_digest in boot_aggregate(values, entry.hash_algorithm).values(), folder.name
        checked += 1
    assert checked >= 15


# Damage.

NO_DATA = binary(b"ima-ng", b"")[:-4]
HEAD = struct.pack("<I", 10) + bytes(20)


def test_truncated_at_every_byte_keeps_what_is_whole() -> None:
    starts = [entry.offset for entry in read_ima(SMALL).entries]
    ends = [*starts[1:], len(SMALL)]
    for size in range(len(SMALL)):
        ima = read_ima(SMALL[:size])
        assert len(ima.entries) == sum(end <= size for end in ends), size
        if size > 1 and size not in ends:
            assert not ima.complete, size
            assert all(problem.offset <= size for problem in ima.problems)


def test_text_truncated_at_every_byte_never_shortens_a_path() -> None:
    whole = [entry.path for entry in read_ima(TEXT).entries]
    for size in range(len(TEXT)):
        ima = read_ima(TEXT[:size])
        assert [entry.path for entry in ima.entries] == whole[: len(ima.entries)], size
        assert check_entries(ima).forged == ()


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        pytest.param(NO_DATA + b"\xff\xff\xff\xff", "template_data.size", id="data_size_max"),
        pytest.param(NO_DATA + b"\x05\0\0\0abcd", "template_data", id="data_size_past_end"),
        pytest.param(HEAD + lv(b"") + lv(b""), "template_name", id="name_size_zero"),
        pytest.param(
            HEAD + struct.pack("<I", 256),
            "template_name.size",
            id="name_size_256",
        ),
        pytest.param(HEAD + b"\xff\xff\xff\xff", "template_name.size", id="name_size_max"),
        pytest.param(
            HEAD + lv(b"ima\x1b[0m") + lv(b""),
            "template_name",
            id="name_control",
        ),
        pytest.param(struct.pack(">I", 10) + SMALL[4:], "pcr", id="big_endian_register"),
        pytest.param(struct.pack("<I", 24) + SMALL[4:], "pcr", id="register_24"),
        pytest.param(b"99 " + b"ab" * 20 + b" ima-ng x y\n", "pcr", id="text_register_99"),
        pytest.param(b"10 " + b"ab" * 20 + b" ima-ng\n", "line", id="text_no_fields"),
        pytest.param(b"10 " + b"ab" * 20 + b" ima-ng sha256:zz /x\n", "d-ng", id="text_digest_not_hex"),
        pytest.param(b"10 " + b"ab" * 20 + b" ima-ng sha256:abcd /x\n", "d-ng", id="text_digest_short"),
        pytest.param(
            b"10 " + b"ab" * 20 + b" ima-ng " + A.hex().encode() + b" /x\n", "d-ng", id="text_no_algorithm"
        ),
        pytest.param(b"10 " + b"ab" * 20 + b" ima-ng sha1:" + b"ab" * 20 + b"\n", "n-ng", id="text_no_path"),
        pytest.param(
            b"10 " + b"ab" * 20 + b" ima-ng sha1:" + b"ab" * 20 + b" /" + b"x" * 9000 + b"\n",
            "n-ng",
            id="text_path_too_long",
        ),
    ],
)
def test_damage_ends_the_list_and_names_the_field(raw: bytes, field: str) -> None:
    for before, count in ((b"", 0), (TEXT if raw[:1].isdigit() else SMALL, 3)):
        ima = read_ima(before + raw)
        assert len(ima.entries) == count
        assert [problem.field for problem in ima.problems] == [field]
        assert ima.problems[0].offset >= len(before)
        assert not ima.complete


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"", "d-ng.size", id="no_fields"),
        pytest.param(lv(b"sha256:\0" + A), "n-ng.size", id="no_path"),
        pytest.param(b"\xff\xff\xff\xff" + A, "d-ng.size", id="digest_size_max"),
        pytest.param(ng_data(b"/x", A[:31]), "d-ng", id="digest_short"),
        pytest.param(lv(A) + lv(b"/x\0"), "d-ng", id="no_algorithm"),
        pytest.param(ng_data(b"/x\0/y", A), "n-ng", id="zero_inside_path"),
        pytest.param(ng_data(b"/" + b"x" * 9000, A), "n-ng.size", id="path_too_long"),
        pytest.param(ng_data(b"/x", A, b"sha256", b"left"), "ima-ng", id="bytes_left_over"),
    ],
)
def test_wrong_fields_in_a_sound_frame_leave_the_entry_opaque(data: bytes, field: str) -> None:
    ima = read_ima(binary(b"ima-ng", data) + SMALL)
    assert len(ima.entries) == 4
    assert ima.complete
    assert [problem.field for problem in ima.problems] == [field]
    assert (ima.entries[0].path, ima.entries[0].file_digest, ima.entries[0].template_data) == ("", b"", data)


def test_legacy_name_too_long_stays_unchecked() -> None:
    raw = struct.pack("<I", 10) + b"\x01" * 20 + lv(b"ima") + bytes(20) + lv(b"x" * 300)
    ima = read_ima(raw + SMALL)
    assert len(ima.entries) == 4
    assert ima.complete
    assert [problem.field for problem in ima.problems] == ["n"]
    assert check_entries(ima).unchecked == (0,)


def test_path_that_is_not_utf8_is_shown_and_still_hashes() -> None:
    raw = binary(b"ima-ng", ng_data(b"/\xff\xfe", B))
    line = TEXT + text_line("ima-ng", ng_data(b"/\xff\xfe", B), "@").replace(
        b"@", b"sha256:" + B.hex().encode() + b" /\xff\xfe"
    )
    for source in (raw, line):
        ima = read_ima(source)
        assert ima.entries[-1].path == "/\\xff\\xfe"
        assert check_entries(ima).forged == ()


def test_empty_list_has_no_entries_and_no_format() -> None:
    for raw in (b"", b"\n\n"):
        ima = read_ima(raw)
        assert (ima.format, ima.entries, ima.problems) == ("unknown", (), ())


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot read the IMA list"):
        read_ima(tmp_path / "none")


def test_problems_are_bounded() -> None:
    ima = read_ima(binary(b"ima-ng", b"") * 3000)
    assert len(ima.entries) == 3000
    assert len(ima.problems) == 1000


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_never_raises_on_bytes(raw: bytes) -> None:
    ima = read_ima(raw)
    check_entries(ima)
    match_prefix(ima, "sha256", {bytes(32)})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([SMALL, TEXT]), st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
def test_never_raises_on_changed_bytes(raw: bytes, at: int, patch: bytes) -> None:
    at %= len(raw)
    ima = read_ima(raw[:at] + patch + raw[at + len(patch) :])
    check_entries(ima)
    for bank in ("sha1", "sha256", "sha384"):
        match_prefix(ima, bank, {bytes(32)})
        ima.digests_by_path()


_names = st.text(
    alphabet=st.characters(blacklist_characters="\0\n\r ", blacklist_categories=("Cs",)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(_names, st.binary(min_size=32, max_size=32), st.binary(max_size=12)), max_size=6))
def test_round_trip_of_both_forms(items: list[tuple[str, bytes, bytes]]) -> None:
    raw, text = b"", b""
    for path, digest, signature in items:
        data = ng_data(path.encode(), digest, b"sha256", signature)
        raw += binary(b"ima-sig", data)
        text += text_line("ima-sig", data, f"sha256:{digest.hex()} {path} {signature.hex()}")
    for source in (raw, text):
        ima = read_ima(source)
        assert not ima.problems
        assert [(e.path, e.file_digest, e.signature or b"") for e in ima.entries] == items
        assert check_entries(ima).forged == ()


def big(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def big_data(path: bytes, digest: bytes, *more: bytes) -> bytes:
    """ima_template_lib.c: a kernel without ``ima_canonical_fmt`` writes lengths in its own order."""
    return b"".join(big(part) for part in (b"sha256:\0" + digest, path + b"\0", *more))


BIG_DATA = [big_data(b"boot_aggregate", A), big_data(b"/bin/sh", B), big_data(b"/usr/bin/ls", A)]
BIG = b"".join(
    struct.pack(">I", 10) + hashlib.sha1(data).digest() + big(b"ima-ng") + big(data) for data in BIG_DATA
)
BIG_TEXT = b"".join(
    f"10 {hashlib.sha1(data).hexdigest()} ima-ng sha256:{digest.hex()} {path}\n".encode()
    for data, digest, path in zip(
        BIG_DATA, (A, B, A), ("boot_aggregate", "/bin/sh", "/usr/bin/ls"), strict=True
    )
)


@pytest.mark.parametrize("data", [BIG, BIG_TEXT], ids=["binary", "text"])
def test_list_of_a_big_endian_kernel_is_whole_and_unforged(data: bytes) -> None:
    ima = read_ima(data)
    assert ima.complete
    assert [entry.path for entry in ima.entries] == ["boot_aggregate", "/bin/sh", "/usr/bin/ls"]
    assert [entry.template_data for entry in ima.entries] == BIG_DATA
    assert check_entries(ima).forged == ()
    value = bytes(32)
    for item in BIG_DATA:
        value = hashlib.sha256(value + hashlib.sha256(item).digest()).digest()
    found = match_prefix(ima, "sha256", {value})
    assert found is not None
    assert found.count == 3


def test_edited_path_in_a_big_endian_text_list_is_forged() -> None:
    ima = read_ima(BIG_TEXT.replace(b"/usr/bin/ls", b"/usr/bin/lz"))
    assert check_entries(ima).forged == (2,)


def test_evm_signature_in_text_gives_the_hashed_bytes() -> None:
    """Widths: ``ima_eventinodeuid_init``, ``ima_eventinodemode_init``, ``evm_read_protected_xattrs``."""
    names, lengths, values = (
        b"security.selinux|security.ima\0",
        struct.pack("<II", 3, 2),
        b"\x01\x02\x03\x04\x05",
    )
    data = ng_data(
        b"/bin/sh", B, b"sha256", b"\x05\x02", names, lengths, values,
        struct.pack("<I", 1000), struct.pack("<I", 0), struct.pack("<H", 0o100755),
    )  # fmt: skip
    rest = f"sha256:{B.hex()} /bin/sh 0502 {names[:-1].decode()} {lengths.hex()} {values.hex()} 1000 0 33261"
    text = read_ima(text_line("evm-sig", data, rest))
    raw = read_ima(binary(b"evm-sig", data))
    assert text.entries[0].template_data == raw.entries[0].template_data == data
    assert check_entries(text).forged == check_entries(text).unchecked == ()


def test_evm_signature_of_no_file_has_empty_fields() -> None:
    data = ng_data(b"boot_aggregate", A, b"sha256", b"", b"", b"", b"", b"", b"", b"")
    text = read_ima(text_line("evm-sig", data, f"sha256:{A.hex()} boot_aggregate       "))
    assert text.entries[0].template_data == data
    assert check_entries(text).forged == ()


@pytest.mark.parametrize("number", ["4294967296", "-1", "0x10", "1e3"])
def test_number_that_does_not_fit_its_field_is_refused(number: str) -> None:
    line = text_line("d-ng|n-ng|iuid", b"", f"sha256:{A.hex()} /x {number}")
    assert [problem.field for problem in read_ima(line).problems] == ["iuid"]


def test_events_of_a_list_are_a_sequence() -> None:
    log = read_event_log(SMALL)
    assert [event.index for event in log.events] == [0, 1, 2]
    assert [event.index for event in log.events[1:]] == [1, 2]
    assert log.events[-1].payload.name == "/bin/signed"
    with pytest.raises(IndexError):
        _ = log.events[3]


def test_a_long_list_stays_small_as_a_log() -> None:
    data = b"".join(binary(b"ima-ng", ng_data(b"/lib/%06d.so" % n, B)) for n in range(40_000))
    tracemalloc.start()
    log = read_event_log(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log.events) == 40_000
    assert peak < 5 * len(data)
