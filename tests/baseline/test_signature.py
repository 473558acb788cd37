"""Signatures of baselines, made here and checked by OpenSSL, and the other way round."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from needs import tools

import cvmlab
from cvmlab.baseline import load_baseline, save_baseline
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.baseline.edit import set_class
from cvmlab.baseline.signature import sign, signed_bytes, verify
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "ed25519": ["-algorithm", "ED25519"],
    "ecdsa-p256-sha256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ecdsa-p384-sha384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
}
REFUSED = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "p521": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    "ed448": ["-algorithm", "ED448"],
}


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools("openssl")
    folder = tmp_path_factory.mktemp("keys")
    for name, options in {**KINDS, **REFUSED, "other": KINDS["ed25519"]}.items():
        openssl("genpkey", *options, "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub")
    openssl(
        "pkey", "-in", folder / "ed25519.pem", "-aes256", "-passout", "pass:x", "-out", folder / "locked.pem"
    )
    openssl(
        "req",
        "-x509",
        "-new",
        "-key",
        folder / "ecdsa-p256-sha256.pem",
        "-subj",
        "/CN=r",
        "-out",
        folder / "r.crt",
    )
    return folder


@pytest.fixture
def signed(keys: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "signed.json"
    kind = getattr(request, "param", "ed25519")
    save_baseline(sign(load_baseline(cvmlab.sample_baseline()), keys / f"{kind}.pem"), path)
    return path


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_openssl_verifies_what_was_signed_here(kind: str, keys: Path, tmp_path: Path) -> None:
    signed = sign(load_baseline(cvmlab.sample_baseline()), keys / f"{kind}.pem")
    save_baseline(signed, tmp_path / "b.json")
    document = json.loads((tmp_path / "b.json").read_text())
    (one,) = document["signatures"]
    assert one["algorithm"] == kind
    (tmp_path / "message").write_bytes(signed_bytes(document, signed.signatures[0]))
    (tmp_path / "signature").write_bytes(base64.b64decode(one["value"]))
    digest = [] if kind == "ed25519" else ["-digest", kind.rpartition("-")[2]]
    openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", keys / f"{kind}.pub", "-rawin", *digest,
        "-in", tmp_path / "message", "-sigfile", tmp_path / "signature",
    )  # fmt: skip
    again = load_baseline(tmp_path / "b.json", require_signed=[keys / "other.pub", keys / f"{kind}.pub"])
    assert again == signed
    assert verify(again, [keys / f"{kind}.pub"]).algorithm == kind


def test_canonical_bytes_are_what_the_documentation_says(signed: Path) -> None:
    document = json.loads(signed.read_text())
    (one,) = document.pop("signatures")
    value = {
        "algorithm": one["algorithm"], "document": document, "key": base64.b64decode(one["key"]).hex(),
        "when": one["when"],
    }  # fmt: skip
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    expected = b"cvmlab.baseline signature\n" + text.encode()
    assert signed_bytes({**document, "signatures": [one]}, load_baseline(signed).signatures[0]) == expected


def test_another_program_may_write_the_text_anew(signed: Path, keys: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(signed.read_text()), sort_keys=True, ensure_ascii=False))
    assert load_baseline(other, require_signed=[keys / "ed25519.pub"]).signatures


def test_certificate_names_the_signer_too(keys: Path) -> None:
    signed = sign(load_baseline(cvmlab.sample_baseline()), keys / "ecdsa-p256-sha256.pem")
    assert verify(signed, [keys / "r.crt"])


def test_two_reviewers_sign_the_same_document(keys: Path, tmp_path: Path) -> None:
    once = sign(load_baseline(cvmlab.sample_baseline()), keys / "ed25519.pem")
    save_baseline(sign(once, keys / "ecdsa-p384-sha384.pem"), tmp_path / "b.json")
    for name in ("ed25519", "ecdsa-p384-sha384"):
        assert len(load_baseline(tmp_path / "b.json", require_signed=[keys / f"{name}.pub"]).signatures) == 2


TAMPERED = {
    "slot_made_ignored": lambda d: d["registers"][0]["slots"][0].__setitem__("class", "ignored"),
    "policy_rule_lifted": lambda d: d["policy"].__setitem__("secure_boot", None),
    "history_rewritten": lambda d: d["history"].append(
        {"who": "x", "when": "", "why": "y", "evidence": "", "codes": []}
    ),
    "register_gone": lambda d: d["registers"].pop(),
    "name_changed": lambda d: d.__setitem__("name", "other"),
    "time_of_signing_changed": lambda d: d["signatures"][0].__setitem__("when", "2020-01-01"),
    "signature_bit_flipped": lambda d: d["signatures"][0].__setitem__(
        "value", base64.b64encode(bytes(64)).decode()
    ),
}


@pytest.mark.parametrize("name", sorted(TAMPERED))
@pytest.mark.parametrize("signed", ["ed25519", "ecdsa-p256-sha256"], indirect=True)
def test_any_change_is_refused_even_where_no_signature_is_required(name: str, signed: Path) -> None:
    document = json.loads(signed.read_text())
    TAMPERED[name](document)
    with pytest.raises(BaselineError, match="does not verify: the baseline was changed"):
        baseline_from_json(json.dumps(document), source="b.json")


def test_unsigned_or_otherwise_signed_is_refused_where_required(signed: Path, keys: Path) -> None:
    with pytest.raises(BaselineError, match="is not signed, and a signature is required"):
        load_baseline(cvmlab.sample_baseline(), require_signed=[keys / "ed25519.pub"])
    with pytest.raises(BaselineError, match="by none of the keys that are required"):
        load_baseline(signed, require_signed=[keys / "other.pub"])
    document = json.loads(signed.read_text())
    del document["signatures"]
    with pytest.raises(BaselineError, match="is not signed"):
        baseline_from_json(json.dumps(document), source="b.json", require_signed=[keys / "ed25519.pub"])


def test_algorithm_is_the_keys_and_no_other(signed: Path) -> None:
    document = json.loads(signed.read_text())
    document["signatures"][0]["algorithm"] = "ecdsa-p256-sha256"
    with pytest.raises(BaselineError, match="its key is for ed25519"):
        baseline_from_json(json.dumps(document), source="b.json")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_other_keys_are_refused_for_signing(name: str, keys: Path) -> None:
    with pytest.raises(BaselineError, match="signed with Ed25519, or with ECDSA"):
        sign(load_baseline(cvmlab.sample_baseline()), keys / f"{name}.pem")


def test_keys_that_cannot_be_used_say_why(keys: Path, tmp_path: Path) -> None:
    sample = load_baseline(cvmlab.sample_baseline())
    with pytest.raises(BaselineError, match="encrypted"):
        sign(sample, keys / "locked.pem")
    with pytest.raises(BaselineError, match="not a private key"):
        sign(sample, keys / "ed25519.pub")
    with pytest.raises(BaselineError, match="cannot be read"):
        sign(sample, tmp_path / "none.pem")
    with pytest.raises(BaselineError, match="private key; give the public one"):
        verify(sample, [keys / "ed25519.pem"])
    with pytest.raises(BaselineError, match="not a public key"):
        verify(sample, [b"rubbish"])
    with pytest.raises(BaselineError, match="no key was given"):
        verify(sample, [])


def test_key_twice_in_an_object_is_refused(signed: Path) -> None:
    """Two readers could take different ones: one sees the signed value, the other the forged."""
    text = signed.read_text().replace('"secure_boot": true', '"secure_boot": true, "secure_boot": null', 1)
    with pytest.raises(BaselineError, match="'secure_boot' occurs twice"):
        baseline_from_json(text, source="b.json")


def test_edited_baseline_has_no_signature(signed: Path) -> None:
    assert not set_class(load_baseline(signed), "ignored", kind="boot-order").signatures
