"""PE images: digests and signatures against sbsign, sbverify and openssl; hostile headers are refused."""

from __future__ import annotations

import re
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pe_builder import pe, signed

from cvmlab.errors import ParseError
from cvmlab.uefi.authenticode import signers
from cvmlab.uefi.pe import looks_like_pe, parse_pe

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = pe({".text": b"\xc3" * 700, ".sbat": b"sbat,1\nshim,4\n", ".data": b"x" * 5})
_START = 0x80
_OPTIONAL = _START + 24
_SECURITY = _OPTIONAL + 112 + 8 * 4


def test_signed_digest_is_the_one_that_sbsign_computed(tmp_path: Path) -> None:
    data, certificate = signed(tmp_path, PLAIN)
    image = parse_pe(data, source="signed.efi")
    (signer,) = signers(image, source="signed.efi")
    assert signer.holds
    assert signer.problem == ""
    assert signer.digest == image.authenticode(signer.digest_name)
    assert signer.certificate is not None
    assert signer.certificate.common_name == "test signer"
    said = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert signer.certificate.sha256 == said.split("=")[1].strip().replace(":", "").lower()
    done = subprocess.run(
        ["sbverify", "--cert", certificate, tmp_path / "signed.efi"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_signing_does_not_change_the_digest(tmp_path: Path) -> None:
    data, _ = signed(tmp_path, PLAIN)
    before, after = parse_pe(PLAIN, source="a"), parse_pe(data, source="b")
    for bank in ("sha1", "sha256", "sha384"):
        assert before.authenticode(bank) == after.authenticode(bank)


@pytest.mark.parametrize("at", [_START + 24, 0x400, len(PLAIN) - 3])
def test_changed_image_does_not_fit_its_signature(tmp_path: Path, at: int) -> None:
    data, _ = signed(tmp_path, PLAIN)
    changed = bytearray(data)
    changed[at + 2] ^= 1
    try:
        image = parse_pe(bytes(changed), source="x")
    except ParseError:
        return
    (signer,) = signers(image, source="x")
    assert not signer.holds
    assert signer.signature_holds
    assert "not the one that was signed" in signer.problem


def test_changed_signature_does_not_verify(tmp_path: Path) -> None:
    data, _ = signed(tmp_path, PLAIN)
    image = parse_pe(data, source="x")
    blob = bytearray(image.signatures[0])
    blob[-5] ^= 1
    changed = bytearray(data)
    at = data.index(image.signatures[0])
    changed[at : at + len(blob)] = blob
    (signer,) = signers(parse_pe(bytes(changed), source="x"), source="x")
    assert signer.digest_holds
    assert not signer.signature_holds
    assert not signer.holds


def test_every_flipped_byte_of_a_signature_is_noticed_or_means_nothing(tmp_path: Path) -> None:
    data, _ = signed(tmp_path, PLAIN)
    image = parse_pe(data, source="x")
    at = data.index(image.signatures[0])
    original = signers(image, source="x")[0]
    for offset in range(0, len(image.signatures[0]), 7):
        changed = bytearray(data)
        changed[at + offset] ^= 0xFF
        for signer in signers(parse_pe(bytes(changed), source="x"), source="x"):
            if signer.holds:
                # what is not signed may change: unused certificates' bytes, unauthenticated attributes
                assert signer.digest == original.digest
                assert signer.certificate is not None


def test_unsigned_image_has_no_signers() -> None:
    assert signers(parse_pe(PLAIN, source="x"), source="x") == ()


def test_sections_are_read_as_long_as_they_are_in_memory() -> None:
    image = parse_pe(PLAIN, source="x")
    assert image.section(".sbat") == b"sbat,1\nshim,4\n"
    assert image.section(".data") == b"x" * 5
    assert image.section(".none") is None


def _with(offset: int, form: str, value: int) -> bytes:
    data = bytearray(PLAIN)
    struct.pack_into(form, data, offset, value)
    return bytes(data)


_SECTION = _OPTIONAL + 240


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"", "e_magic", id="empty"),
        pytest.param(b"MZ" + bytes(100), "e_magic", id="no_pe_header"),
        pytest.param(_with(60, "<I", 0xFFFFFFFF), "e_magic", id="header_offset_maximum"),
        pytest.param(_with(_START + 6, "<H", 0xFFFF), "NumberOfSections", id="sections_maximum"),
        pytest.param(_with(_START + 20, "<H", 0), "Magic", id="optional_header_empty"),
        pytest.param(_with(_START + 20, "<H", 0xFFFF), "OptionalHeader", id="optional_header_past_end"),
        pytest.param(_with(_OPTIONAL, "<H", 0x10C), "Magic", id="magic_unknown"),
        pytest.param(_with(_OPTIONAL + 60, "<I", 0), "SizeOfHeaders", id="headers_size_zero"),
        pytest.param(_with(_OPTIONAL + 60, "<I", 0xFFFFFFFF), "SizeOfHeaders", id="headers_size_maximum"),
        pytest.param(_with(_SECTION + 16, "<I", 0xFFFFFF00), "SizeOfRawData", id="section_past_end"),
        pytest.param(_with(_SECTION + 40 + 20, "<I", 0x400), "PointerToRawData", id="sections_overlap"),
        pytest.param(
            _with(_SECURITY, "<Q", 8 << 32 | len(PLAIN)), "Security.Size", id="certificate_table_past_end"
        ),
        pytest.param(
            _with(_SECURITY, "<Q", 8 << 32 | 0x400), "Security.VirtualAddress", id="table_inside_a_section"
        ),
    ],
)
def test_hostile_headers_are_refused_with_their_place(data: bytes, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_pe(data, source="x")
    assert caught.value.field == field


def _table(*entries: bytes) -> bytes:
    table = b"".join(entries)
    data = bytearray(PLAIN + table)
    struct.pack_into("<II", data, _SECURITY, len(PLAIN), len(table))
    return bytes(data)


@pytest.mark.parametrize("length", [0, 7, 0xFFFFFFFF])
def test_certificate_entry_of_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(ParseError):
        parse_pe(_table(struct.pack("<IHH", length, 0x200, 2) + bytes(8)), source="x")


def test_certificate_that_is_no_pkcs7_is_said() -> None:
    image = parse_pe(_table(struct.pack("<IHH", 24, 0x200, 2) + b"garbage in there"), source="x")
    (signer,) = signers(image, source="x")
    assert not signer.holds
    assert signer.problem


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 3000)
)
def test_changed_and_cut_images_never_crash(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(PLAIN)
    for at, value in changes:
        data[at] = value
    del data[len(data) - min(cut, len(data)) :]
    looks_like_pe(bytes(data))
    try:
        parse_pe(bytes(data), source="x").authenticode("sha256")
    except ParseError as error:
        said = str(error)
    else:
        return
    assert re.search(r"offset \d+", said)


def test_long_section_names_are_those_of_the_string_table() -> None:
    """As objcopy lists them; a name that leads past the end or nowhere stays as it is."""
    from cvmlab.uefi.pe import _long_name

    table = bytes(18) + (24).to_bytes(4, "little") + b".vendor_cert\0" + b".cut"
    assert _long_name(table, "/4", 18) == ".vendor_cert"
    for name in ("/17", "/400", "/x", "/", ".text"):
        assert _long_name(table, name, 18) == name
    assert _long_name(table, "/4", 0) == "/4"
