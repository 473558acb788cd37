"""TPMS_ATTEST: fields against the specification's layout, and every way in which bytes can lie."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.tpm.attest import ClockInfo, PcrSelection, parse_attest, quoted_registers, signed_bytes


def test_reads_every_field(build_attest, nonce):
    built = build_attest()
    attest = parse_attest(built.data, source="q")
    assert attest.magic == 0xFF544347
    assert attest.type == 0x8018
    assert attest.qualified_signer == b"\x00\x0b" + bytes(range(32))
    assert attest.extra_data == nonce
    assert attest.clock_info == ClockInfo(123456789, 17, 3, True)
    assert attest.firmware_version == 0x2020031200120003
    assert attest.selections == (PcrSelection("sha256", (0, 7)), PcrSelection("sha1", (0,)))
    assert len(attest.pcr_digest) == 32
    assert attest.raw == built.data
    assert quoted_registers(attest) == {("sha256", 0), ("sha256", 7), ("sha1", 0)}


def test_strips_the_header_of_tpm2b_attest(build_attest):
    data = build_attest().data
    wrapped = len(data).to_bytes(2, "big") + data
    assert parse_attest(wrapped, source="q") == parse_attest(data, source="q")
    assert parse_attest(wrapped, source="q").raw == data
    assert signed_bytes(wrapped) == data == signed_bytes(data)


def test_register_31_is_the_last(build_attest):
    attest = parse_attest(build_attest(selections=((0x0B, b"\0\0\0\x80"),)).data, source="q")
    assert attest.selections == (PcrSelection("sha256", (31,)),)


@pytest.mark.parametrize(
    "signer", [b"", b"\x81\x01\x00\x03", b"\x00\x04" + bytes(20), b"\x00\x0d" + bytes(64)]
)
def test_names_of_every_kind(build_attest, signer):
    assert parse_attest(build_attest(signer=signer).data, source="q").qualified_signer == signer


@pytest.mark.parametrize("magic", [0, 0xFF544346, 0x4743_54FF, 0xFFFFFFFF])
@pytest.mark.parametrize("wrapped", [False, True])
def test_magic_wrong(build_attest, magic, wrapped):
    data = build_attest(magic=magic).data
    data = len(data).to_bytes(2, "big") + data if wrapped else data
    with pytest.raises(VerificationError, match="TPM_GENERATED_VALUE") as caught:
        parse_attest(data, source="q")
    assert caught.value.code == "quote-not-tpm-generated"


@pytest.mark.parametrize("kind", [0, 0x8014, 0x8015, 0x8016, 0x8017, 0x8019, 0x801A, 0x801C, 0xFFFF])
def test_type_relabelled(build_attest, kind):
    with pytest.raises(VerificationError) as caught:
        parse_attest(build_attest(kind=kind).data, source="q")
    assert caught.value.code == "quote-wrong-type"


@pytest.mark.parametrize("extra", [b"\0", b"\xff" * 100])
def test_trailing_bytes(build_attest, extra):
    data = build_attest().data
    size = len(data).to_bytes(2, "big")
    inside = (len(data) + len(extra)).to_bytes(2, "big")
    for bad in (data + extra, size + data + extra, inside + data + extra):
        with pytest.raises(VerificationError, match="follow the quote") as caught:
            parse_attest(bad, source="q")
        assert caught.value.code == "quote-trailing-data"


def test_every_truncation_point(build_attest):
    data = build_attest().data
    for end in range(len(data)):
        with pytest.raises(ParseError) as caught:
            parse_attest(data[:end], source="q")
        assert 0 <= caught.value.offset <= end
    wrapped = len(data).to_bytes(2, "big") + data
    for end in range(len(wrapped)):
        with pytest.raises(CvmlabError):
            parse_attest(wrapped[:end], source="q")


@pytest.mark.parametrize(
    "field", ["qualifiedSigner.size", "extraData.size", "pcrDigest.size", "pcrSelect.count"]
)
def test_length_field_at_its_edges(build_attest, field):
    built = build_attest()
    start, width = built.at[field]
    right = int.from_bytes(built.data[start : start + width], "big")
    past = len(built.data) - start - width + 1
    for value in {0, 1, right - 1, right + 1, past, (1 << 8 * width) - 1} - {right}:
        with pytest.raises(CvmlabError):
            parse_attest(built.patched(field, value), source="q")


@pytest.mark.parametrize("size", [0, 5, 0xFF])
def test_sizeof_select_out_of_range(build_attest, size):
    built = build_attest()
    with pytest.raises(ParseError, match="sizeofSelect") as caught:
        parse_attest(built.patched("sizeofSelect[0]", size), source="q")
    assert caught.value.offset == built.at["sizeofSelect[0]"][0]


def test_seventeen_selections(build_attest):
    sixteen = build_attest(selections=((0x0B, b"\1\0\0"),) * 16)
    assert len(parse_attest(sixteen.data, source="q").selections) == 16
    seventeen = build_attest(selections=((0x0B, b"\1\0\0"),) * 17)
    with pytest.raises(ParseError, match="more than a TPM can select") as caught:
        parse_attest(seventeen.data, source="q")
    assert caught.value.offset == seventeen.at["pcrSelect.count"][0]


@pytest.mark.parametrize("algorithm", [0, 0x0010, 0x0005, 0xFFFF])
def test_bank_unknown(build_attest, algorithm):
    with pytest.raises(ParseError, match=r"pcrSelections\[0\]\.hash"):
        parse_attest(build_attest(selections=((algorithm, b"\1\0\0"),)).data, source="q")


@pytest.mark.parametrize(
    "signer", [b"\0", b"\0\x0b", b"\0\x0b" + bytes(31), b"\0\x0b" + bytes(33), b"\0\x10" + bytes(32)]
)
def test_signer_name_of_wrong_form(build_attest, signer):
    with pytest.raises(ParseError, match="qualifiedSigner"):
        parse_attest(build_attest(signer=signer).data, source="q")


def test_nonce_too_long_for_a_tpm(build_attest):
    assert len(parse_attest(build_attest(extra=bytes(66)).data, source="q").extra_data) == 66
    with pytest.raises(ParseError, match="extraData"):
        parse_attest(build_attest(extra=bytes(67)).data, source="q")


def test_safe_neither_yes_nor_no(build_attest):
    built = build_attest()
    assert parse_attest(built.patched("safe", 0), source="q").clock_info.safe is False
    with pytest.raises(ParseError, match="safe"):
        parse_attest(built.patched("safe", 2), source="q")


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", b"\xffTCG", b"\xffTCG\x80\x18"]))
def test_hostile_bytes_only_raise_our_errors(data, prefix):
    try:
        attest = parse_attest(prefix + data, source="q")
    except CvmlabError:
        return
    assert attest.raw in prefix + data


@settings(deadline=None, max_examples=300)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_byte_matters(build_attest, position, flip):
    data = bytearray(build_attest().data)
    data[position % len(data)] ^= flip
    try:
        changed = parse_attest(bytes(data), source="q")
    except CvmlabError:
        return
    original = parse_attest(build_attest().data, source="q")
    fields = ("qualified_signer", "extra_data", "clock_info", "firmware_version", "selections", "pcr_digest")
    assert any(getattr(changed, name) != getattr(original, name) for name in fields)


def test_azure_quotes_have_the_fields_read_elsewhere(corpus):
    # az-cvm-vtpm's bincode: u64le size and signature, u64le size and message, registers.
    expected = json.loads((corpus / "azure/EXPECTED.json").read_text())
    seen = 0
    for name, item in expected.items():
        if not name.endswith(("/quote.bin", "/tpm-quote.msg")) or "attest" not in item:
            continue
        data, want = (corpus / "azure" / name).read_bytes(), item["attest"]
        if name.endswith("quote.bin"):
            size = int.from_bytes(data[:8], "little")
            start = 16 + size
            data = data[start : start + int.from_bytes(data[8 + size : start], "little")]
        attest = parse_attest(data, source=name)
        assert attest.extra_data.hex() == want["extra"]
        assert attest.qualified_signer.hex() == want["qs"]
        assert attest.pcr_digest.hex() == want["digest"]
        assert attest.clock_info == ClockInfo(
            want["clock"], want["reset"], want["restart"], bool(want["safe"])
        )
        assert hex(attest.firmware_version) == want["fw"]
        assert [["0xb", list(item.registers)] for item in attest.selections] == want["sel"]
        seen += 1
    assert seen == 4
