from __future__ import annotations

import hashlib
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import absent

from cvmlab.uefi.certificates import MAX_CERTIFICATE_SIZE, CertificateInfo, display_name, read_certificate

if TYPE_CHECKING:
    from pathlib import Path


def openssl_x509(der: bytes, *arguments: str) -> str:
    openssl = shutil.which("openssl")
    if openssl is None:
        absent("openssl is not installed")
    command = [openssl, "x509", "-inform", "DER", "-noout", *arguments]
    return subprocess.run(command, input=der, capture_output=True, check=True).stdout.decode()


def when(text: str) -> datetime:
    return datetime.strptime(text.partition("=")[2], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


def test_fields_against_openssl(certificate_der: bytes) -> None:
    info = read_certificate(certificate_der)
    assert info is not None
    lines = openssl_x509(
        certificate_der, "-subject", "-issuer", "-serial", "-startdate", "-enddate", "-fingerprint",
        "-sha256", "-nameopt", "RFC2253",
    ).splitlines()  # fmt: skip
    said = {line.partition("=")[0].lower(): line for line in lines}
    assert said["subject"] == f"subject={info.subject}"
    assert said["issuer"] == f"issuer={info.issuer}"
    assert int(said["serial"].partition("=")[2], 16) == int(info.serial_hex, 16) == 0x1234
    assert (when(said["notbefore"]), when(said["notafter"])) == (info.not_before, info.not_after)
    assert said["sha256 fingerprint"].partition("=")[2].replace(":", "").lower() == info.sha256
    assert (info.common_name, info.public_key) == ("cvmlab test", "EC-secp256r1")
    assert display_name(info) == "cvmlab test"


def test_padding_is_not_part_of_the_certificate(certificate_der: bytes) -> None:
    assert read_certificate(certificate_der + bytes(100)) == read_certificate(certificate_der)


def test_cut_short(certificate_der: bytes) -> None:
    for size in (0, 1, 2, 3, 4, 5, 100, len(certificate_der) - 1):
        assert read_certificate(certificate_der[:size]) is None


@pytest.mark.parametrize(
    "der",
    [b"\x30\x80", b"\x30\x00", b"\x30\x85\x01\x00\x00\x00\x00", b"\x30\x84\xff\xff\xff\xff",
     b"\x31\x00", b"\x30\x03abc"],
    ids=["indefinite", "empty", "length_of_five_bytes", "length_max", "not_a_sequence", "nonsense"],
)  # fmt: skip
def test_no_certificate(der: bytes) -> None:
    assert read_certificate(der) is None


def test_longer_than_the_limit() -> None:
    der = b"\x30\x83" + MAX_CERTIFICATE_SIZE.to_bytes(3, "big") + bytes(MAX_CERTIFICATE_SIZE)
    assert read_certificate(der) is None


@pytest.mark.parametrize("serial", ["00", "ff", "80"], ids=["zero", "minus_one", "negative"])
def test_odd_serial_numbers_neither_warn_nor_raise(certificate_der: bytes, serial: str) -> None:
    """The serial 02 02 12 34 becomes one byte wide in place, 02 01 xx, with shorter TBS and outer length."""
    at = certificate_der.index(bytes.fromhex("02021234"))
    patched = bytearray(certificate_der)
    patched[at : at + 4] = bytes.fromhex("0201" + serial)
    for header in (2, 6):  # both SEQUENCE headers are 30 82 hh ll
        length = int.from_bytes(patched[header : header + 2], "big") - 1
        patched[header : header + 2] = length.to_bytes(2, "big")
    info = read_certificate(bytes(patched))
    assert info is None or info.sha256 == hashlib.sha256(patched).hexdigest()


def test_name_falls_back_to_subject_then_hash() -> None:
    def info(common_name: str, subject: str) -> CertificateInfo:
        return CertificateInfo(subject, "", "1", None, None, "ab" * 32, common_name, "RSA-2048")

    assert display_name(info("CN text", "CN=CN text")) == "CN text"
    assert display_name(info("", "O=Example")) == "O=Example"
    assert display_name(info("", "")) == "certificate abababababab"


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_flipped_bytes_never_crash(certificate_der: bytes, data: st.DataObject) -> None:
    patched = bytearray(certificate_der)
    for _ in range(data.draw(st.integers(1, 4))):
        patched[data.draw(st.integers(0, len(patched) - 1))] = data.draw(st.integers(0, 255))
    info = read_certificate(bytes(patched))
    assert info is None or len(info.sha256) == 64


def test_microsoft_certificate_of_a_real_db(
    boot_events: dict[str, list[tuple[int, bytes, int]]], tmp_path: Path
) -> None:
    """The db of the OVMF boots holds Microsoft's two 2011 authorities; openssl reads the same bytes."""
    db = next(
        data for kind, data, _ in boot_events["baseline"] if kind == 0x80000001 and data[32:36] == b"d\0b\0"
    )
    der = db[36 + 28 + 16 : 36 + 1543]
    info = read_certificate(der)
    assert info is not None
    assert display_name(info) == "Microsoft Windows Production PCA 2011"
    assert info.public_key == "RSA-2048"
    serial = openssl_x509(der, "-serial").strip().partition("=")[2]
    assert int(serial, 16) == int(info.serial_hex, 16)
