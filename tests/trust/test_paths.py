"""Certificate paths made here and judged twice: by us and by ``openssl verify``."""

from __future__ import annotations

import subprocess
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cvmlab.errors import VerificationError
from cvmlab.trust.paths import MAX_CANDIDATES, verify_path

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 6, 1, tzinfo=UTC)
CODES = {"untrusted_code": "untrusted", "expired_code": "expired"}
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def make(
    subject: str,
    issuer: Made | None = None,
    *,
    ca: bool = True,
    length: int | None = None,
    sign: bool | None = True,
    start: datetime = AT - timedelta(days=100),
    end: datetime = AT + timedelta(days=100),
    key: Key | None = None,
    critical: str = "",
    digest: hashes.HashAlgorithm | None = None,
    issuer_name: str = "",
) -> Made:
    """Make one certificate."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else own
    parent = _name(issuer_name) if issuer_name else (issuer.certificate.subject if issuer else _name(subject))
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(parent)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=length if ca else None), critical=True)
    )
    if sign is not None:
        usage = x509.KeyUsage(
            digital_signature=not ca, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=sign and ca, crl_sign=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    if critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(critical), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return Made(builder.sign(signer, digest or hashes.SHA256()), own)


def openssl(folder: Path, leaf: Made, intermediates: list[Made], roots: list[Made]) -> bool:
    """Ask ``openssl verify`` the same."""

    def write(name: str, made: list[Made]) -> str:
        path = folder / name
        path.write_bytes(b"".join(m.certificate.public_bytes(Encoding.PEM) for m in made))
        return str(path)

    command = ["openssl", "verify", "-attime", str(int(AT.timestamp())), "-CAfile", write("roots.pem", roots)]
    command += ["-no-CApath", "-no-CAstore", "-auth_level", "2"]
    if intermediates:
        command += ["-untrusted", write("ca.pem", intermediates)]
    done = subprocess.run([*command, write("leaf.pem", [leaf])], capture_output=True, check=False)
    return done.returncode == 0


def ours(leaf: Made, intermediates: list[Made], roots: list[Made]) -> str:
    """Return ``ok`` or the code of the refusal."""
    try:
        verify_path(
            leaf.certificate,
            [m.certificate for m in intermediates],
            [m.certificate for m in roots],
            at=AT,
            **CODES,
        )
    except VerificationError as error:
        return error.code
    return "ok"


ROOT = make("root")
MIDDLE = make("middle", ROOT)
LEAF = make("leaf", MIDDLE, ca=False)
OLD = AT - timedelta(days=10)


def _cases() -> dict[str, tuple[Made, list[Made], list[Made], str]]:
    impostor = make("root")
    no_sign = make("middle", ROOT, sign=False)
    not_ca = make("middle", ROOT, ca=False)
    short_root = make("root", length=0)
    middle_of_short = make("middle", short_root)
    under_short = make("under", middle_of_short)
    past = make("middle", ROOT, end=OLD)
    future = make("middle", ROOT, start=AT + timedelta(days=1))
    old_root = make("root", end=OLD)
    odd = make("middle", ROOT, critical="1.3.6.1.4.1.99999.1")
    weak_key = make("middle", ROOT, key=rsa.generate_private_key(65537, 1024))
    without_usage = make("middle", ROOT, sign=None)
    forged = make("leaf", impostor, ca=False, issuer_name="middle")
    return {
        "good": (LEAF, [MIDDLE], [ROOT], "ok"),
        "good_without_key_usage": (make("leaf", without_usage, ca=False), [without_usage], [ROOT], "ok"),
        "direct": (make("leaf", ROOT, ca=False), [], [ROOT], "ok"),
        "rsa": (make("leaf", ROOT, ca=False, key=rsa.generate_private_key(65537, 2048)), [], [ROOT], "ok"),
        "intermediate_missing": (LEAF, [], [ROOT], "untrusted"),
        "root_missing": (LEAF, [MIDDLE], [impostor], "untrusted"),
        "root_only_among_intermediates": (LEAF, [MIDDLE, ROOT], [impostor], "untrusted"),
        "wrong_signature": (forged, [MIDDLE], [ROOT], "untrusted"),
        "leaf_expired": (make("leaf", MIDDLE, ca=False, end=OLD), [MIDDLE], [ROOT], "expired"),
        "leaf_not_yet_valid": (
            make("leaf", MIDDLE, ca=False, start=AT + timedelta(days=1)), [MIDDLE], [ROOT], "expired",
        ),
        "intermediate_expired": (make("leaf", past, ca=False), [past], [ROOT], "expired"),
        "intermediate_not_yet_valid": (make("leaf", future, ca=False), [future], [ROOT], "expired"),
        "root_expired": (make("leaf", old_root, ca=False), [], [old_root], "expired"),
        "issuer_is_no_authority": (make("leaf", not_ca, ca=False), [not_ca], [ROOT], "untrusted"),
        "issuer_may_not_sign": (make("leaf", no_sign, ca=False), [no_sign], [ROOT], "untrusted"),
        "path_length_exceeded": (
            make("leaf", under_short, ca=False), [under_short, middle_of_short], [short_root], "untrusted",
        ),
        "unknown_critical_extension": (make("leaf", odd, ca=False), [odd], [ROOT], "untrusted"),
        "small_rsa_key": (make("leaf", weak_key, ca=False), [weak_key], [ROOT], "untrusted"),
        "itself_as_root": (make("lonely"), [], [ROOT], "untrusted"),
    }  # fmt: skip


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
def test_path_is_judged_as_openssl_does(tmp_path: Path, name: str) -> None:
    leaf, intermediates, roots, expected = CASES[name]
    assert ours(leaf, intermediates, roots) == expected
    assert openssl(tmp_path, leaf, intermediates, roots) == (expected == "ok")


def test_sha1_signature_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    root = make("root", key=key)
    der = bytearray(make("leaf", root, ca=False).certificate.public_bytes(Encoding.DER))
    sha256_with_rsa, sha1_with_rsa = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert der.count(sha256_with_rsa) == 2
    leaf = x509.load_der_x509_certificate(bytes(der.replace(sha256_with_rsa, sha1_with_rsa)))
    with pytest.raises(VerificationError, match="sha1"):
        verify_path(leaf, [], [root.certificate], at=AT, **CODES)


def test_loop_of_intermediates_ends() -> None:
    a = make("a", issuer_name="b")
    b = make("b", a)
    a = make("a", b, key=a.key)
    leaf = make("leaf", a, ca=False)
    assert ours(leaf, [a, b], [ROOT]) == "untrusted"


def test_a_folder_full_of_look_alikes_costs_little() -> None:
    fakes = [make("middle") for _ in range(3 * MAX_CANDIDATES)]
    assert ours(LEAF, fakes, [ROOT]) == "untrusted"


def test_endorsement_certificates_of_real_tpms_have_oddities_that_are_no_fault() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours(LEAF, [MIDDLE], [ROOT]) == "ok"


def test_path_says_its_validity() -> None:
    path = verify_path(LEAF.certificate, [MIDDLE.certificate], [ROOT.certificate], at=AT, **CODES)
    assert path.root == ROOT.certificate
    assert path.valid_from <= AT <= path.valid_until
    assert path.describe() == "leaf ← middle ← root"
