"""Register values in every form, as tpm2-tools and the kernel write them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import CvmlabError, ParseError
from cvmlab.tpm.attest import PcrSelection, parse_attest
from cvmlab.tpm.pcrs import read_registers

ONE, TWO = "11" * 32, "22" * 32
GOOD = {"sha256": {0: bytes.fromhex(ONE), 7: bytes.fromhex(TWO)}}


def test_text_and_binary_forms_agree(soft_tpm):
    text = soft_tpm("pcrread").encode()
    reading = read_registers(text, source="pcrs.yaml")
    assert reading.problems == ()
    assert set(reading.values) == {"sha1", "sha256", "sha384", "sha512"}
    assert all(sorted(registers) == list(range(24)) for registers in reading.values.values())
    # The tool's own lines, read by a pattern of the test's own.
    lines = re.findall(r"^    (\d+) *: 0x([0-9A-F]{64})$", text.decode(), re.MULTILINE)
    assert {int(index): bytes.fromhex(value) for index, value in lines} == reading.values["sha256"]
    selection = "sha1:0,7+sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,23+sha512:16"
    soft_tpm("pcrread", "-Q", selection, "-o", "serialized.bin", "-F", "serialized")
    soft_tpm("pcrread", "-Q", selection, "-o", "values.bin", "-F", "values")
    serialized = read_registers((soft_tpm.folder / "serialized.bin").read_bytes(), source="pcrs.bin")
    selections = (
        PcrSelection("sha1", (0, 7)),
        PcrSelection("sha256", (*range(17), 23)),
        PcrSelection("sha512", (16,)),
    )
    bare = (soft_tpm.folder / "values.bin").read_bytes()
    values = read_registers(bare, source="pcrs.bin", selections=selections)
    want = {
        item.bank: {index: reading.values[item.bank][index] for index in item.registers}
        for item in selections
    }
    assert serialized.values == values.values == want
    with pytest.raises(ParseError):
        read_registers(bare, source="pcrs.bin")
    with pytest.raises(ParseError):
        read_registers(bare[:-1], source="pcrs.bin", selections=selections)


def test_values_beside_a_quote(made):
    for item in made.values():
        serialized = read_registers(item.serialized, source="pcrs.bin").values
        selections = parse_attest(item.plain_message, source="q").selections
        assert read_registers(item.plain_values, source="p", selections=selections).values == serialized


def test_bank_without_values_is_left_out():
    reading = read_registers(f"  sha1:\n  sha256:\n    0 : 0x{ONE}\n    7 : 0x{TWO}\n".encode(), source="p")
    assert reading.values == GOOD


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:\n    0 : 0x{ONE}\n    7: 0x{TWO}\n",
        f"sha256 :\n  0  : 0x{ONE}\n  7  : 0x{TWO}\n",
        f"\ufeff---\r\npcrs:\r\n  sha256:\r\n    0 : 0x{ONE}\r\n\r\n    7 : 0x{TWO}\r\n",
        f"SHA256:\n  0 : {ONE}\n  7 : {TWO.upper()}\n",
        f'Sha256:\n  "0": "0x{ONE}"\n  \'7\': \'{TWO}\'\n',
        f"sha256:\n  PCR0: 0x{ONE}\n  pcr-07: 0X{TWO}\n",
        json.dumps({"sha256": {"0": ONE, "7": "0x" + TWO.upper()}}),
        json.dumps({"SHA256": {"0": ONE, "7": TWO}}),
        json.dumps({"sha256": [ONE, *[None] * 6, TWO]}),
        json.dumps(
            {"schema": "cvmlab.registers/1", "set": "tpm", "registers": {"sha256": {"0": ONE, "7": TWO}}}
        ),
        json.dumps(
            [{"bank": "sha256", "index": 0, "value": ONE}, {"bank": "SHA256", "index": "7", "value": TWO}]
        ),
        json.dumps({"pcrs": [{"id": 0, "value": ONE}, {"id": 7, "value": TWO, "events": []}]}),
        json.dumps({"sha256": [{"register": 7, "digest": TWO}, {"pcr": 0, "digest": ONE}]}),
    ],
)  # fmt: skip
def test_spellings_of_the_same(text):
    reading = read_registers(text.encode(), source="p")
    assert reading.values == GOOD
    assert reading.problems == ()


def test_time_that_json_states():
    text = json.dumps({"time": "2024-05-01T00:00:00Z", "registers": {"sha256": {"0": ONE}}})
    assert read_registers(text.encode(), source="p").time == "2024-05-01T00:00:00Z"


def test_digits_are_text_and_not_numbers():
    zeros = read_registers(f"sha256:\n  0 : 0x{'00' * 32}\n".encode(), source="p")
    assert zeros.values["sha256"][0] == bytes(32)


def test_kernel_text_of_tpm_1_2(boots):
    reading = read_registers((boots / "tpm12/pcrs-tpm12.txt").read_bytes(), source="pcrs")
    assert sorted(reading.values["sha1"]) == list(range(24))
    assert reading.values["sha1"][0].hex() == "732c403b1a0835cf6fd49faeb6ee40f3dfdac6bc"
    assert reading.problems == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"sha256:\n  0 : 0x{ONE}\n  7 : 0x{TWO[:-2]}\n", "need 32 bytes, have 31"),
        (f"sha256:\n  0 : 0x{ONE}\n  7 : 0x{TWO[:-1]}\n", "even number"),
        (f"sha256:\n  0 : 0x{ONE}\n  7 : {TWO[:-2]}\n", "need 32 bytes, have 31"),
        (f"sha256:\n  0 : 0x{ONE}\n  7 : '0x{TWO}\"\n", "neither a bank nor a register"),
        (f"sha256:\n  0 : 0x{ONE}\n  32 : 0x{TWO}\n", "no such register"),
        (f"sha256:\n  0 : 0x{ONE}\n  7 : 0x{TWO}\n  7 : 0x{ONE}\n  7 : 0x{TWO}\n", "given twice"),
        (f"sha256:\n  0 : 0x{ONE}\nmd5:\n  7 : 0x{TWO}\n", "md5 is not a bank"),
        (f"sha256:\n  0 : 0x{ONE}\n&a [*a, *a]\n", "neither a bank nor a register"),
        (json.dumps({"sha256": {"0": ONE, "7": "22"}}), "need 32 bytes, have 1"),
        (json.dumps({"sha256": {"0": ONE, "x": TWO}}), "not a register index"),
        (json.dumps({"sha256": {"0": ONE, "-1": TWO}}), "not a register index"),
        (json.dumps({"sha256": {"0": ONE, "7": 17}}), "need a hex string"),
        (json.dumps({"sha256": {"0": ONE}, "md5": {"7": TWO}}), "not a bank"),
        (json.dumps([{"bank": "sha256", "index": 0, "value": ONE}, 7]), "need an object"),
        (
            json.dumps(
                [{"bank": "sha256", "index": 0, "value": ONE}, {"bank": [], "index": 7, "value": TWO}],
            ),
            "no bank",
        ),
        (
            json.dumps(
                [
                    {"bank": "sha256", "index": 0, "value": ONE},
                    {"bank": "sha256", "index": True, "value": TWO},
                ],
            ),
            "index",
        ),
    ],
)  # fmt: skip
def test_wrong_value_is_left_out_and_said(text, words):
    reading = read_registers(text.encode(), source="p")
    assert reading.values == {"sha256": {0: bytes.fromhex(ONE)}}
    assert any(words in problem.message for problem in reading.problems)
    assert all(not problem.fatal for problem in reading.problems)


def test_problem_has_the_offset_of_its_line():
    text = f"sha256:\n  0 : 0x{ONE}\nwrong\n".encode()
    assert read_registers(text, source="p").problems[0].offset == text.index(b"wrong")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"no registers here",
        b"sha256:\n",
        b"{}",
        b"[]",
        b'"text"',
        b"{",
        b'{"sha256": {"0": ',
        b'{"sha256": {"0": "' + ONE.encode() + b'", "0": "' + TWO.encode() + b'"}}',
        b'{"set": "cc", "registers": {"sha256": {"0": "' + ONE.encode() + b'"}}}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[" + b"9" * 5000 + b"]",
        b"\xff\xfe\xfd",
        b"\0" * 668,
        b" " * ((1 << 20) + 1),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_file_that_holds_nothing(data):
    with pytest.raises(ParseError):
        read_registers(data, source="p")


def test_problems_are_bounded():
    text = f"sha256:\n  0 : 0x{ONE}\n" + "wrong\n" * 10_000
    assert len(read_registers(text.encode(), source="p").problems) == 64


def patched(data: bytes, at: int, value: int, width: int) -> bytes:
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


@pytest.mark.parametrize(
    ("name", "at", "width", "values"),
    [
        ("selection_count", 0, 4, (0, 2, 17, 0xFFFFFFFF)),
        ("hash", 4, 2, (0, 0x10, 0xFFFF)),
        ("sizeof_select", 6, 1, (0, 1, 5, 0xFF)),
        ("select_bits", 7, 1, (0, 1, 0xFE)),
        ("block_count", 132, 4, (0, 1, 3, 0xFFFFFFFF)),
        ("digest_count", 136, 4, (0, 7, 9, 0xFFFFFFFF)),
        ("digest_size", 140, 2, (0, 1, 31, 33, 65, 0xFFFF)),
    ],
)
def test_serialized_length_at_its_edges(made, name, at, width, values):
    data = made["rsassa-sha256"].serialized
    whole = read_registers(data, source="p").values
    assert len(whole["sha256"]) == 12
    for value in values:
        try:
            reading = read_registers(patched(data, at, value, width), source="p")
        except ParseError:
            continue
        # One digest of a wrong size leaves out one register and says so.
        assert name == "digest_size"
        assert len(reading.values["sha256"]) == 11
        assert reading.problems


def test_serialized_cut_or_longer(made):
    data = made["rsassa-sha256"].serialized
    for end in (*range(0, len(data), 7), len(data) - 1):
        with pytest.raises(ParseError):
            read_registers(data[:end], source="p")
    with pytest.raises(ParseError):
        read_registers(data + b"\0", source="p")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=800) | st.text(alphabet='sha256:10x ABCPR-\n{}[]",', max_size=300).map(str.encode))
def test_hostile_bytes_only_raise_our_errors(data):
    try:
        reading = read_registers(data, source="p", selections=(PcrSelection("sha1", (0, 1)),))
    except CvmlabError:
        return
    assert reading.values


@settings(deadline=None, max_examples=100)
@given(where=st.integers(0, 2000), value=st.integers(0, 255))
def test_hostile_serialized_only_raises_our_errors(made, where, value):
    data = bytearray(made["rsassa-sha256"].serialized)
    data[where % len(data)] = value
    try:
        read_registers(bytes(data), source="p")
    except CvmlabError:
        return
