"""Whose key signed: every way that binds a key, every claim that contradicts it, every unfit key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from quoting import (
    ATTESTATION,
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
    USER_WITH_AUTH,
    Machine,
    key_name,
    public_area,
    software_key,
)

from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import rsa
    from soft_tpm import SoftTpm

Judge = Callable[..., Assessment]
AT = datetime(2026, 6, 1, tzinfo=UTC)
ENDORSEMENT = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT
AK, OTHER, EK, ROOT = (software_key(number) for number in range(4))
AK_PUB, OTHER_PUB = public_area(AK), public_area(OTHER)
EK_PUB = public_area(EK, ENDORSEMENT, scheme="null")
SECRET = "5a" * 32


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate(
    key: rsa.RSAPrivateKey,
    name: str,
    issuer: str = "maker",
    signer: rsa.RSAPrivateKey = ROOT,
    *,
    days: int = 100,
) -> x509.Certificate:
    """A certificate by `signer`, an authority where it is its own."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    builder = x509.CertificateBuilder(named(issuer), named(name), key.public_key(), 7)
    builder = builder.not_valid_before(AT - timedelta(days=200)).not_valid_after(AT + timedelta(days=days))
    authority = x509.BasicConstraints(ca=key is signer, path_length=None)
    return builder.add_extension(authority, critical=True).sign(signer, hashes.SHA256())


def record(**changes: str) -> bytes:
    """The record of an activation that binds AK and EK."""
    made = {
        "secret_sent": SECRET,
        "secret_returned": SECRET,
        "ak_name": key_name(AK_PUB).hex(),
        "ek_public_sha256": hashlib.sha256(EK_PUB).hexdigest(),
    }
    return json.dumps({**made, **changes}).encode()


ACTIVATED = {"ek.pub": EK_PUB, "credential_activation.json": record()}
ROOT_PEM = certificate(ROOT, "maker").public_bytes(Encoding.PEM)
EK_CRT = certificate(EK, "endorsement").public_bytes(Encoding.DER)
AK_CRT = certificate(AK, "key").public_bytes(Encoding.PEM)


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Assess a machine with some files and what the verifier knows."""

    def run(
        files: dict[str, bytes] | None = None,
        *,
        enrolled: bytes = b"",
        root: bytes = b"",
        attributes: int = ATTESTATION,
        key: rsa.RSAPrivateKey = AK,
    ) -> Assessment:
        machine = Machine(key=key, attributes=attributes)
        machine.files.update(files or {})
        if machine.files.get("ak.pub") == b"":
            machine.files["ak.pub"] = b"\n"  # counts as absent
        folder = machine.write(tmp_path / "machine")
        known: dict[str, list[Path]] = {"enrolled_keys": [], "trust_roots": []}
        for option, data in (("enrolled_keys", enrolled), ("trust_roots", root)):
            if data:
                (tmp_path / option).write_bytes(data)
                known[option].append(tmp_path / option)
        return assess(load_evidence(folder), load_context(folder, at=AT, **known))  # type: ignore[arg-type]

    return run


def codes(boot: Assessment) -> set[str]:
    return {finding.code for finding in boot.findings}


@pytest.mark.parametrize(
    "enrolled",
    [
        pytest.param(AK_PUB, id="tpm2b_public"),
        pytest.param(AK_PUB[2:], id="tpmt_public"),
        pytest.param(pem(AK), id="pem"),
        pytest.param(AK.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), id="der"),
        pytest.param(AK_CRT, id="certificate"),
        pytest.param(key_name(AK_PUB), id="name"),
        pytest.param(key_name(AK_PUB).hex().encode() + b"\n", id="name_as_hex"),
    ],
)
def test_enrolled_key_binds_in_every_form(judge: Judge, enrolled: bytes) -> None:
    boot = judge(enrolled=enrolled)
    assert boot.binding.way == "enrolment"
    assert boot.believed
    assert boot.link("key-certificate").status == "not-applicable"


@pytest.mark.parametrize(
    "enrolled",
    [OTHER_PUB, pem(OTHER), key_name(OTHER_PUB), EK_PUB],
    ids=["public", "pem", "name", "endorsement"],
)
def test_another_enrolled_key_breaks(judge: Judge, enrolled: bytes) -> None:
    boot = judge(enrolled=enrolled)
    assert boot.link("key-binding").status == "broken"
    assert "attestation-key-differs" in codes(boot)


def test_nothing_known_binds_nothing(judge: Judge) -> None:
    boot = judge()
    assert boot.link("key-binding").status == "not-checked"
    assert "attestation-key-not-bound" in codes(boot)
    assert "proven" not in boot.event_trust.values()


def test_activation_needs_a_certificate_or_an_enrolled_endorsement_key(judge: Judge) -> None:
    boot = judge(ACTIVATED)
    assert boot.binding.way == "credential-activation"
    assert boot.link("key-certificate").status == "not-checked"
    assert not boot.believed
    boot = judge({**ACTIVATED, "ek_rsa.crt.der": EK_CRT}, root=ROOT_PEM)
    assert boot.link("key-certificate").status == "holds"
    assert boot.believed
    boot = judge(ACTIVATED, enrolled=EK_PUB)
    assert boot.binding.way == "enrolment"
    assert boot.believed


def test_activation_by_an_endorsement_key_that_is_not_the_enrolled_one(judge: Judge) -> None:
    boot = judge(ACTIVATED, enrolled=OTHER_PUB)
    assert boot.link("key-binding").status == "broken"
    assert "attestation-key-differs" in codes(boot)


@pytest.mark.parametrize("form", [EK_PUB, EK_PUB[2:]], ids=["tpm2b_public", "tpmt_public"])
def test_record_names_the_endorsement_key_in_any_of_its_forms(judge: Judge, form: bytes) -> None:
    activation = record(ek_public_sha256=hashlib.sha256(form).hexdigest())
    boot = judge({"ek.pub": EK_PUB, "credential_activation.json": activation}, enrolled=EK_PUB)
    assert boot.believed


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ak_name": key_name(OTHER_PUB).hex()}, id="other_attestation_key"),
        pytest.param({"ek_public_sha256": hashlib.sha256(OTHER_PUB).hexdigest()}, id="other_endorsement_key"),
        pytest.param({"secret_returned": "5b" + SECRET[2:]}, id="other_secret"),
        pytest.param({"secret_returned": SECRET[:-2]}, id="secret_cut_short"),
        pytest.param({"secret_returned": ""}, id="no_secret"),
    ],
)
def test_record_of_something_else_breaks(judge: Judge, changes: dict[str, str]) -> None:
    files = {**ACTIVATED, "credential_activation.json": record(**changes), "ek_rsa.crt.der": EK_CRT}
    boot = judge(files, root=ROOT_PEM)
    assert boot.link("key-binding").status == "broken"
    assert "attestation-key-not-bound" in codes(boot)
    assert not boot.believed


def test_bare_key_is_not_bound_by_a_record_that_names_a_tpm_object(judge: Judge) -> None:
    boot = judge({**ACTIVATED, "ak.pub": b"", "ak.pem": pem(AK), "ek_rsa.crt.der": EK_CRT}, root=ROOT_PEM)
    assert boot.link("key-binding").status == "not-checked"
    assert not boot.believed


def test_certificate_of_the_key_itself_binds(judge: Judge) -> None:
    boot = judge({"ak.crt": AK_CRT}, root=ROOT_PEM)
    assert boot.binding.way == "certificate"
    assert boot.believed


@pytest.mark.parametrize(
    ("made", "root", "code"),
    [
        pytest.param(
            certificate(AK, "key", days=-1), ROOT_PEM, "attestation-key-certificate-expired", id="expired"
        ),
        pytest.param(
            certificate(AK, "key", signer=OTHER), ROOT_PEM, "attestation-key-certificate-untrusted",
            id="signed_by_another",
        ),
        pytest.param(
            certificate(AK, "key", issuer="elsewhere"), ROOT_PEM, "attestation-key-certificate-untrusted",
            id="issuer_unknown",
        ),
    ],
)  # fmt: skip
def test_certificate_that_leads_nowhere_does_not_bind(
    judge: Judge, made: x509.Certificate, root: bytes, code: str
) -> None:
    boot = judge({"ak.crt": made.public_bytes(Encoding.PEM)}, root=root)
    assert boot.link("key-certificate").status == "broken"
    assert code in codes(boot)
    assert not boot.believed


def test_root_among_the_evidence_is_no_root(judge: Judge) -> None:
    other_root = certificate(OTHER, "another maker", "another maker", OTHER).public_bytes(Encoding.PEM)
    boot = judge({"ak.crt": AK_CRT, "ca-root.pem": ROOT_PEM}, root=other_root)
    assert boot.link("key-certificate").status == "broken"
    boot = judge({"ak.crt": AK_CRT, "ca-root.pem": ROOT_PEM})
    assert boot.link("key-certificate").status == "not-checked"
    assert not boot.believed


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"ak.name": key_name(OTHER_PUB)}, id="name_of_another_key"),
        pytest.param({"ak.name": key_name(OTHER_PUB).hex().encode()}, id="name_of_another_key_as_hex"),
        pytest.param({"ak.pem": pem(OTHER)}, id="pem_of_another_key"),
        pytest.param(
            {"ak.crt": certificate(OTHER, "key").public_bytes(Encoding.PEM)}, id="certificate_of_another_key"
        ),
    ],
)
def test_claims_that_contradict_each_other_break_even_an_enrolled_key(
    judge: Judge, files: dict[str, bytes]
) -> None:
    boot = judge(files, enrolled=AK_PUB, root=ROOT_PEM)
    assert boot.link("key-binding").status == "broken"
    assert "attestation-key-differs" in codes(boot)
    assert "proven" not in boot.event_trust.values()


def test_certificate_of_an_endorsement_key_says_nothing_without_a_record(judge: Judge) -> None:
    boot = judge({"ek.pub": EK_PUB, "ek_rsa.crt.der": EK_CRT}, root=ROOT_PEM)
    assert boot.link("key-binding").status == "not-checked"
    assert not boot.believed


def test_certificate_of_another_tpm_does_not_vouch_for_this_one(judge: Judge) -> None:
    foreign = certificate(OTHER, "endorsement").public_bytes(Encoding.DER)
    boot = judge({**ACTIVATED, "ek_rsa.crt.der": foreign}, root=ROOT_PEM)
    assert boot.link("key-certificate").status == "not-checked"
    assert not boot.believed


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        pytest.param(ATTESTATION & ~RESTRICTED, "restricted", id="unrestricted"),
        pytest.param(ATTESTATION | DECRYPT, "decrypt", id="decrypt"),
        pytest.param(ATTESTATION & ~FIXED_TPM, "fixedTPM", id="can_be_copied"),
        pytest.param(ATTESTATION & ~FIXED_PARENT, "fixedParent", id="can_be_moved"),
        pytest.param(ATTESTATION & ~SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin", id="made_outside"),
        pytest.param(USER_WITH_AUTH | SIGN, "restricted", id="none_of_all"),
    ],
)
def test_unfit_key_breaks_though_it_is_enrolled(judge: Judge, attributes: int, word: str) -> None:
    boot = judge(attributes=attributes, enrolled=public_area(AK, attributes))
    assert boot.link("key-binding").status == "broken"
    assert "attestation-key-unsuitable" in codes(boot)
    assert word in boot.link("key-binding").why
    assert boot.link("quote").status == "holds"
    assert "proven" not in boot.event_trust.values()


def test_small_key_breaks_though_it_is_enrolled(judge: Judge) -> None:
    small = software_key(0, 1024)
    boot = judge(key=small, enrolled=public_area(small))
    assert "attestation-key-unsuitable" in codes(boot)
    assert not boot.believed


def test_quote_by_another_key_than_the_bound_one(judge: Judge) -> None:
    boot = judge({"ak.pub": AK_PUB}, key=OTHER, enrolled=AK_PUB)
    assert boot.link("key-binding").status == "holds"
    assert boot.link("quote").status == "broken"
    assert "quote-signature-invalid" in codes(boot)


FIT = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"


@pytest.mark.parametrize(
    ("attributes", "algorithm", "word"),
    [
        pytest.param(FIT, "rsa2048:rsassa-sha256:null", "", id="fit"),
        pytest.param(
            FIT.replace("|restricted", ""), "rsa2048:rsassa-sha256:null", "restricted", id="unrestricted"
        ),
        pytest.param(
            FIT.replace("restricted", "decrypt"), "rsa2048:null:null", "decrypt", id="signs_and_decrypts"
        ),
        pytest.param(
            FIT.replace("fixedtpm|fixedparent|", ""), "rsa2048:rsassa-sha256:null", "fixedTPM",
            id="can_be_copied",
        ),
    ],
)  # fmt: skip
def test_key_of_a_tpm_is_judged_by_its_attributes_though_its_quotes_verify(
    soft_tpm: SoftTpm, tmp_path: Path, attributes: str, algorithm: str, word: str
) -> None:
    """The quote is one that ``tpm2_checkquote`` accepts: it does not look at what else the key may sign."""
    soft_tpm("createprimary", "-Q", "-C", "e", "-g", "sha256", "-G", algorithm, "-a", attributes,
             "-c", f"{tmp_path}/ctx")  # fmt: skip
    soft_tpm.flush()
    soft_tpm("readpublic", "-Q", "-c", f"{tmp_path}/ctx", "-f", "tss", "-o", f"{tmp_path}/ak.pub",
             "-n", f"{tmp_path}/ak.name")  # fmt: skip
    soft_tpm.flush()
    soft_tpm("quote", "-Q", "-c", f"{tmp_path}/ctx", "-l", "sha256:0,7", "-q", "00ff" * 10,
             "-g", "sha256", "--scheme", "rsassa", "-m", f"{tmp_path}/quote.msg",
             "-s", f"{tmp_path}/quote.sig", "-o", f"{tmp_path}/pcrs.bin")  # fmt: skip
    soft_tpm.flush()
    soft_tpm("checkquote", "-Q", "-u", f"{tmp_path}/ak.pub", "-m", f"{tmp_path}/quote.msg",
             "-s", f"{tmp_path}/quote.sig", "-f", f"{tmp_path}/pcrs.bin", "-q", "00ff" * 10)  # fmt: skip
    context = load_context(tmp_path, nonce="00ff" * 10, enrolled_keys=[tmp_path / "ak.pub"])
    boot = assess(load_evidence(tmp_path), context)
    assert boot.link("quote").status == boot.link("nonce").status == "holds"
    assert boot.link("register-values").status == "holds"
    assert boot.link("key-binding").status == ("broken" if word else "holds")
    assert word in boot.link("key-binding").why
    assert boot.believed == (not word)
