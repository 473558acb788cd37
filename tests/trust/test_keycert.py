"""Certificates of attestation keys: chains, roots that count, times, and what they say of the instance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hardware import judge
from processors import NOW, certificate, der, number, pem
from quoting import public_area, software_key

from cvmlab.errors import EvidenceError, ParseError, VerificationError
from cvmlab.evidence.certificates import read_certificates
from cvmlab.evidence.trustfolder import VARIABLE, read_trust
from cvmlab.trust import roots
from cvmlab.trust.gce import INSTANCE_INFO, gce_instance
from cvmlab.trust.paths import verify_path
from cvmlab.trust.roots import Pin, pin_of, pinned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cvmlab.findings import Link

ROOT_KEY, CA_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ROOT = certificate("Test vTPM Root", ROOT_KEY, None, authority=True)
CA = certificate("Test vTPM CA 01", CA_KEY, (ROOT, ROOT_KEY), authority=True)


def leaf(common: str = "vm.TrustedVM.test", **options: object) -> x509.Certificate:
    return certificate(common, software_key(0), (CA, CA_KEY), **options)  # type: ignore[arg-type]


def files(*chain: x509.Certificate) -> dict[str, bytes]:
    found = {"ak.pub": public_area(software_key(0)), "ak.crt": pem(chain[0])}
    return found | {f"ca-{n}.pem": pem(c) for n, c in enumerate(chain[1:])}


def link(
    tmp_path: Path, found: dict[str, bytes], given: list[x509.Certificate] | None = None, **o: object
) -> Link:
    return judge(tmp_path, found, given, **o).link("key-certificate")


@pytest.fixture
def pinned_test_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    spki = ROOT.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    pin = Pin("Test", "Test vTPM Root", "vtpm", "", "00" * 32, digest.finalize().hex(), "2036-01-01", "")
    pin_of.cache_clear()
    monkeypatch.setattr(roots, "pins", lambda: (pin,))
    yield
    pin_of.cache_clear()


def test_chain_to_a_given_root_holds(tmp_path: Path) -> None:
    assert link(tmp_path, files(leaf(), CA), [ROOT]).status == "holds"


def test_root_beside_the_evidence_counts_only_where_it_is_pinned(
    tmp_path: Path, pinned_test_root: None
) -> None:
    found = link(tmp_path, files(leaf(), CA, ROOT))
    assert found.status == "holds"
    assert "pinned root 'Test'" in found.why


def test_root_beside_the_evidence_without_pin_is_no_root(tmp_path: Path) -> None:
    found = link(tmp_path, files(leaf(), CA, ROOT))
    assert found.status == "not-checked"
    assert "its chain ends in 'Test vTPM Root'" in found.why


def test_key_of_a_pinned_root_in_a_certificate_that_it_did_not_sign_is_no_pin(pinned_test_root: None) -> None:
    other = rsa.generate_private_key(65537, 2048)
    forged = (
        x509.CertificateBuilder()
        .subject_name(ROOT.subject).issuer_name(ROOT.subject).public_key(ROOT_KEY.public_key())
        .serial_number(7).not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(other, hashes.SHA256())
    )  # fmt: skip
    assert pin_of(forged) is None
    again = certificate("Test vTPM Root", ROOT_KEY, None, authority=True)
    assert again != ROOT
    assert pin_of(again) is not None


def test_pin_for_another_use_does_not_count(pinned_test_root: None) -> None:
    assert pinned([ROOT], "vtpm") == [ROOT]
    assert pinned([ROOT], "snp") == pinned([ROOT], "tdx") == []


def test_missing_issuer_is_named(tmp_path: Path) -> None:
    assert "Test vTPM CA 01" in link(tmp_path, files(leaf())).why
    broken = link(tmp_path, files(leaf()), [ROOT])
    assert broken.status == "broken"
    assert "Test vTPM CA 01" in broken.why


def test_several_chains_are_tried(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    other_root = certificate("Other Root", key, None, authority=True)
    cross = certificate("Test vTPM CA 01", CA_KEY, (other_root, key), authority=True)
    for given in (ROOT, other_root):
        assert link(tmp_path, files(leaf(), CA, cross), [given]).status == "holds"


def test_several_certificates_of_the_key_are_tried(tmp_path: Path) -> None:
    old = leaf(until=datetime(2025, 6, 1, tzinfo=UTC))
    found = files(old, CA) | {"ak-new.crt": pem(leaf())}
    assert link(tmp_path, found, [ROOT]).status == "holds"


def test_certificate_of_another_key_breaks_the_binding(tmp_path: Path) -> None:
    other = certificate("x", software_key(1), (CA, CA_KEY))
    result = judge(tmp_path, files(leaf(), CA) | {"ak-other.crt": pem(other)}, [ROOT])
    assert result.link("key-binding").status == "broken"
    assert "attestation-key-differs" in {finding.code for finding in result.findings}


def test_validity_then_and_now_are_said_apart(tmp_path: Path) -> None:
    old = leaf(until=datetime(2025, 6, 1, tzinfo=UTC))
    result = judge(tmp_path, files(old, CA), [ROOT])
    assert {f.code for f in result.findings if f.link == "key-certificate"} == {
        "attestation-key-certificate-expired"
    }
    then = link(tmp_path, files(old, CA), [ROOT], at="2025-03-01")
    assert then.status == "holds"
    assert "but not now (valid from 2025-01-01 to 2025-06-01)" in then.why
    described = b'{"schema": "cvmlab.evidence/1", "collected": "2025-03-01T00:00:00Z"}'
    now = link(tmp_path, files(old, CA) | {"evidence.json": described}, [ROOT])
    assert now.status == "broken"
    assert "it held at 2025-03-01, when the evidence says that it was collected" in now.why


def test_confidential_vm_without_its_report_is_said(tmp_path: Path) -> None:
    ak = leaf("5dc2ba9ad190.ConfidentialVM.Azure.windows.net")
    result = judge(tmp_path, files(ak, CA), [ROOT])
    assert result.link("hardware-report").status == "not-checked"
    assert "confidential VM" in result.link("hardware-report").why
    launch = judge(tmp_path, files(leaf("f859864a6a31.TrustedVM.Azure.windows.net"), CA), [ROOT])
    assert launch.link("hardware-report").status == "not-applicable"


def gce(**changed: bytes) -> bytes:
    """GCE instance info; server/instance_info.go of go-tpm-tools."""
    parts = {
        "zone": der(0x0C, b"us-west1-b"), "project": number(1 << 40), "id": der(0x0C, b"my-project"),
        "instance": number((1 << 63) + 5), "name": der(0x0C, b"web-1"),
        "security": der(0xA0, der(0x30, der(0xA0, number(0)) + der(0xA1, b"\x01\x01\xff"))),
    }  # fmt: skip
    return der(0x30, b"".join((parts | changed).values()))


def test_instance_of_a_google_certificate_is_shown(tmp_path: Path) -> None:
    ak = leaf(extensions={INSTANCE_INFO: gce()})
    why = link(tmp_path, files(ak, CA), [ROOT]).why
    assert "GCE instance 'web-1' (9223372036854775813) of project 'my-project'" in why


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x00",
        der(0x30, number(1) * 5),
        gce()[:-4],
        gce(zone=der(0x0C, b"x" * 300)),
        gce(project=b""),
    ],
    ids=["empty", "no_fields", "numbers_for_texts", "cut", "zone_too_long", "field_missing"],
)
def test_damaged_instance_information_is_refused_and_said(tmp_path: Path, data: bytes) -> None:
    ak = leaf(extensions={INSTANCE_INFO: data})
    with pytest.raises(ParseError):
        gce_instance(ak, source="ak.crt")
    found = link(tmp_path, files(ak, CA), [ROOT])
    assert found.status == "holds"
    assert "cannot be read" in found.why


# --- Azure's own authorities


def _azure(corpus: Path, name: str) -> x509.Certificate:
    path = corpus / "azure" / "_derived" / "azure-vtpm-ca" / name
    return read_certificates(path.read_bytes(), source=name)[0]


@pytest.mark.parametrize(
    ("name", "at", "code"),
    [("global-virtual-tpm-ca-01.pem", "2024-01-01", ""),
     ("global-virtual-tpm-ca-01.pem", "2026-01-01", "expired"),
     ("global-virtual-tpm-ca-03.pem", "2026-01-01", ""), ("ame-root-ca.pem", "2025-01-01", "untrusted")],
)  # fmt: skip
def test_azure_s_authorities_lead_to_the_pinned_root(corpus: Path, name: str, at: str, code: str) -> None:
    root = _azure(corpus, "azure-virtual-tpm-root-ca-2023.pem")
    given = pinned([root, _azure(corpus, "ame-root-ca.pem")], "vtpm")
    assert given == [root]
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)

    def path() -> None:
        verify_path(
            _azure(corpus, name), [], given, at=when, untrusted_code="untrusted", expired_code="expired"
        )

    if not code:
        path()
        return
    with pytest.raises(VerificationError) as caught:
        path()
    assert caught.value.code == code


# --- the trust folder


def test_folder_of_roots_counts_whole(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "root.pem").write_bytes(pem(ROOT))
    (folder / "README").write_text("roots of the lab")
    assert read_trust([folder]).roots == [ROOT]


def test_folder_named_by_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "root.der").write_bytes(ROOT.public_bytes(Encoding.DER))
    monkeypatch.setenv(VARIABLE, str(folder))
    assert link(tmp_path, files(leaf(), CA)).status == "holds"
    assert not read_trust([], environment=False).roots


def test_certificates_among_collateral_are_no_roots(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(pem(ROOT))
    found = read_trust([], [tmp_path / "root.pem"])
    assert (found.roots, found.certificates) == ([], [ROOT])


@pytest.mark.parametrize("content", [b"", b"text"], ids=["empty", "no_certificate"])
def test_root_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "root.pem").write_bytes(content)
    with pytest.raises(EvidenceError, match="trust root"):
        read_trust([tmp_path / "root.pem"])
    with pytest.raises(EvidenceError, match="trust root"):
        read_trust([tmp_path / "absent.pem"])


def test_what_the_verifier_brings_along_is_part_of_the_context_s_hash(tmp_path: Path) -> None:
    from processors import revocation_list

    from cvmlab.evidence import load_context

    (tmp_path / "crl.der").write_bytes(revocation_list((ROOT, ROOT_KEY), 5))
    (tmp_path / "ca.pem").write_bytes(pem(CA))
    paths = [[], [tmp_path / "crl.der"], [tmp_path / "ca.pem"], [tmp_path / "ca.pem", tmp_path / "crl.der"]]
    assert len({load_context(collateral=path).context_hash for path in paths}) == 4
