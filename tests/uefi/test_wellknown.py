"""Names of keys by fingerprint and revisions of revocation lists, held to the bytes that they are of."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from cvmlab.baseline.difference import difference
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.producers import decode
from cvmlab.uefi.certificates import read_certificate
from cvmlab.uefi.siglist import Signature, SignatureList
from cvmlab.uefi.wellknown import impersonates, known_key, known_keys, revocation_markers

if TYPE_CHECKING:
    from pathlib import Path

MICROSOFT = {
    "Microsoft Windows Production PCA 2011",
    "Microsoft Corporation UEFI CA 2011",
    "Microsoft Corporation KEK CA 2011",
    "Windows UEFI CA 2023",
    "Microsoft UEFI CA 2023",
    "Microsoft Option ROM UEFI CA 2023",
    "Microsoft Corporation KEK 2K CA 2023",
}


def _openssl(data: bytes, form: str) -> tuple[str, str]:
    """SHA-256 fingerprint and subject as openssl prints them."""
    said = subprocess.run(
        ["openssl", "x509", "-inform", form, "-noout", "-fingerprint", "-sha256", "-subject",
         "-nameopt", "utf8,sep_comma_plus"],
        input=data, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    fingerprint = re.search(r"=([0-9A-F:]{95})", said)
    assert fingerprint is not None
    return fingerprint[1].replace(":", "").lower(), said


@pytest.fixture(scope="module")
def certificates(corpus: Path) -> dict[str, bytes]:
    """Every certificate of the corpus's logs, by the fingerprint that openssl computes on demand."""
    found: dict[bytes, None] = {}
    for path in sorted((corpus / "eventlogs").rglob("*")):
        if not path.is_file():
            continue
        for event in read_event_log(path).events:
            value = event.payload.value
            if isinstance(value, Signature):
                found[value.data] = None
            elif isinstance(value, tuple):
                for one in value:
                    if isinstance(one, SignatureList) and one.type_name == "X509":
                        found.update((signature.data, None) for signature in one.signatures)
    infos = ((read_certificate(der), der) for der in found)
    return {info.sha256: der for info, der in infos if info is not None}


def test_every_known_key_is_that_of_the_certificate_it_names(certificates: dict[str, bytes]) -> None:
    """Published certificates of virt-firmware, and those in public logs; fingerprints by openssl."""
    package = resources.files("virt.firmware")
    checked = 0
    for key in known_keys().values():
        if key.source.startswith("virt-firmware"):
            data = package.joinpath(key.source.split(": ", 1)[1]).read_bytes()
            fingerprint, said = _openssl(data, "PEM")
        else:
            fingerprint, said = _openssl(certificates[key.sha256], "DER")
        assert fingerprint == key.sha256
        assert key.name in said
        checked += 1
    assert checked == len(known_keys()) >= 50


def test_certificates_of_microsoft_debian_canonical_red_hat_and_suse_are_known() -> None:
    names = {key.name: key.vendor for key in known_keys().values()}
    assert {name for name, vendor in names.items() if vendor == "Microsoft"} >= MICROSOFT
    assert {"Debian", "Canonical", "Red Hat", "SUSE"} <= set(names.values())
    assert all(key.purpose and key.source for key in known_keys().values())


def test_debians_package_has_debians_certificate(sample_data: Path) -> None:
    """The certificate that shim carries is the one that the boot's log says vouched for GRUB."""
    log = read_event_log(sample_data / "boots" / "baseline" / "eventlog.bin")
    rows = log.table("signatures")
    known = set(rows["known"].dropna())
    assert "Debian: signs Debian's boot loaders and kernels" in known
    assert any(text.startswith("Microsoft: signs boot loaders and option ROMs of others") for text in known)


def test_certificate_that_only_bears_a_well_known_name_is_said(tmp_path: Path) -> None:
    der = tmp_path / "false.der"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=Microsoft Corporation UEFI CA 2011", "-keyout", tmp_path / "key",
         "-outform", "DER", "-out", der],
        check=True, capture_output=True,
    )  # fmt: skip
    data = der.read_bytes()
    info = read_certificate(data)
    assert info is not None
    assert known_key(info) is None
    key = impersonates(info)
    assert key is not None
    assert key.vendor == "Microsoft"
    text = "db".encode("utf-16-le")
    entry = bytes(16) + data
    head = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
    event = head + (2).to_bytes(8, "little") + len(entry).to_bytes(8, "little") + text + entry
    assert "not the well-known key of that name" in decode(0x800000E0, 7, event).summary


def test_known_keys_do_not_impersonate_and_others_are_left_alone(certificates: dict[str, bytes]) -> None:
    for fingerprint, der in certificates.items():
        info = read_certificate(der)
        assert info is not None
        assert impersonates(info) is None, info.subject
        assert (known_key(info) is not None) == (fingerprint in known_keys())


def _revocations(path: Path) -> str | None:
    for event in read_event_log(path).events:
        if event.payload.kind == "revocation-list":
            value = event.payload.fields["revision"]
            assert value is None or isinstance(value, str)
            return value
    return None


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        # Microsoft's list of January 2025 dates the newest entries of these lists so
        ("t14s_eventlog", "2018-04-01"),
        ("ideapad1.bin", "2018-06-01"),
        ("rhcos.bin", "2020-07-01"),
        ("ubuntu-2404-amd-sevsnp.bin", "2023-05-01"),
        ("uefi_log.bin", "2025-05-07"),
        # a list of the vendor's own, and an empty one
        ("cos-101-amd-sev.bin", None),
        ("t480s_eventlog", None),
    ],
)
def test_revision_of_real_revocation_lists(corpus: Path, name: str, revision: str | None) -> None:
    path = next((corpus / "eventlogs").rglob(name))
    assert _revocations(path) == revision


def test_markers_are_sha256_and_dates() -> None:
    assert all(len(value) == 32 for value in revocation_markers())
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", text) for text in revocation_markers().values())


def test_difference_of_revocation_lists_names_both_revisions(corpus: Path) -> None:
    def payload(name: str) -> object:
        path = next((corpus / "eventlogs").rglob(name))
        return next(e.payload for e in read_event_log(path).events if e.payload.kind == "revocation-list")

    lines = difference(payload("rhcos.bin"), payload("ubuntu-2404-amd-sevsnp.bin")).lines  # type: ignore[arg-type]
    assert lines[0] == ("", "revision: 2020-07-01 → 2023-05-01")


def test_entries_before_the_damage_of_a_list_are_in_the_table() -> None:
    x509 = bytes.fromhex("2616c4c14c509240aca941f936934328")
    good = (
        x509 + (76).to_bytes(4, "little") + bytes(4) + (48).to_bytes(4, "little") + bytes(16) + b"\x11" * 32
    )
    body = good + bytes(28)
    head = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f") + (3).to_bytes(8, "little")
    event = head + len(body).to_bytes(8, "little") + "dbx".encode("utf-16-le") + body
    size = len(event).to_bytes(4, "little")
    header = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + b"\1\0\0\0\x0b\0\x20\0" + b"\0"
    log = bytes(4) + b"\3\0\0\0" + bytes(20) + len(header).to_bytes(4, "little") + header
    log += b"\7\0\0\0\1\0\0\x80" + b"\1\0\0\0\x0b\0" + bytes(32) + size + event
    rows = read_event_log(log).table("signatures")
    assert list(rows["hash"]) == ["11" * 32]
