"""Checks of whole quotes: real ones against tpm2_checkquote, and one thing wrong at a time."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.errors import VerificationError
from cvmlab.tpm.attest import PcrSelection, parse_attest, quoted_registers
from cvmlab.tpm.pcrs import read_registers
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.quote import check_quote, pcr_digest, verify_quote


def sign(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    return b"\0\x14\0\x0b\1\0" + key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def checkquote(folder, nonce: bytes, hash_name: str, *, message="quote.msg", pcrs="quote.pcrs") -> bool:
    command = [
        "tpm2_checkquote",
        "-u",
        "ak.pem",
        "-m",
        message,
        "-s",
        "quote.sig",
        "-f",
        pcrs,
        "-g",
        hash_name,
        "-q",
        nonce.hex(),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def test_quotes_of_every_scheme_hold_as_tpm2_checkquote_says(made, nonce):
    for item in made.values():
        if item.scheme == "rsassa":
            assert checkquote(item.folder, nonce, item.hash), item.name
        values = read_registers(item.serialized, source="pcrs").values
        for key in (parse_public(item.public, source="ak"), load_public_key(item.pem, source="ak")):
            report = check_quote(
                item.message, item.signature, key, nonce=nonce, values=values, source=item.name
            )
            assert report.holds, report.checks
            assert [check.name for check in report.checks] == [
                "structure",
                "signature",
                "nonce",
                "registers",
                "hash",
            ]
            assert all(check.code == "" for check in report.checks)
            assert (
                verify_quote(item.message, item.signature, key, nonce=nonce, values=values) == report.attest
            )
            wrapped = len(item.message).to_bytes(2, "big") + item.message
            assert check_quote(wrapped, item.signature, key, nonce=nonce, values=values).holds


def test_plain_signatures_and_bare_values_hold(made, nonce):
    for item in made.values():
        attest = parse_attest(item.plain_message, source="q")
        values = read_registers(item.plain_values, source="pcrs", selections=attest.selections).values
        keys = [parse_public(item.public, source="ak")]
        if item.scheme != "rsapss":  # a bare key does not say that its plain signatures are PSS
            keys.append(load_public_key(item.pem, source="ak"))
        for key in keys:
            report = check_quote(item.plain_message, item.plain_signature, key, nonce=nonce, values=values)
            assert report.holds, (item.name, report.checks)


def test_selection_is_the_one_asked_for(made):
    for item in made.values():
        asked = {
            (part.split(":")[0], int(register))
            for part in item.selection.split("+")
            for register in part.split(":")[1].split(",")
        }
        assert quoted_registers(parse_attest(item.message, source="q")) == asked


@pytest.fixture
def good(build_attest, rsa_key, nonce, register_values):
    message = build_attest().data
    return {
        "message": message,
        "signature": sign(rsa_key, message),
        "key": rsa_key.public_key(),
        "nonce": nonce,
        "values": register_values,
    }


def statuses(report) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.code) for check in report.checks}


def test_good_quote_holds(good):
    assert check_quote(**good).holds
    assert verify_quote(**good).extra_data == good["nonce"]


HOLDS = ("holds", "")
BROKEN = {
    "magic_wrong": ("structure", "quote-not-tpm-generated"),
    "type_relabelled": ("structure", "quote-wrong-type"),
    "trailing_byte": ("structure", "quote-trailing-data"),
    "message_cut": ("structure", "quote-not-tpm-generated"),
    "message_empty": ("structure", "quote-not-tpm-generated"),
    "signature_of_other_key": ("signature", "quote-signature-invalid"),
    "signature_flipped": ("signature", "quote-signature-invalid"),
    "signature_hmac": ("signature", "quote-signature-invalid"),
    "signature_unreadable": ("signature", "quote-signature-invalid"),
    "nonce_off_by_one": ("nonce", "nonce-mismatch"),
    "nonce_prefix": ("nonce", "nonce-mismatch"),
    "value_flipped": ("registers", "register-values-mismatch"),
    "values_swapped": ("registers", "register-values-mismatch"),
    "value_boundary_moved": ("registers", "register-values-mismatch"),
    "digest_of_other_hash": ("registers", "register-values-mismatch"),
    "selection_empty": ("hash", "weak-hash-only"),
    "selection_of_no_register": ("hash", "weak-hash-only"),
    "selection_sha1_only": ("hash", "weak-hash-only"),
}


@pytest.mark.parametrize("sized", [False, True])
def test_bytes_behind_a_signed_quote_are_all_that_is_wrong(sized, good, rsa_key, register_values, nonce):
    body = good["message"]
    head = len(body).to_bytes(2, "big") if sized else b""
    longer = {**good, "message": head + body + b"junk"}
    found = statuses(check_quote(**longer))
    assert found["structure"] == ("broken", "quote-trailing-data")
    assert found["signature"] == ("not-checked", "")
    forged = {**longer, "message": longer["message"][:-5] + b"!junk"}
    assert statuses(check_quote(**forged))["signature"] == ("broken", "quote-signature-invalid")
    with pytest.raises(VerificationError, match="follow"):
        verify_quote(**longer)


@pytest.mark.parametrize("name", BROKEN)
def test_one_thing_wrong(name, good, build_attest, rsa_key, register_values, nonce):
    built, values = build_attest(), register_values
    first, second = values["sha256"][0], values["sha256"][7]
    other = rsa.generate_private_key(65537, 2048)

    def signed(message: bytes) -> dict:
        return {"message": message, "signature": sign(rsa_key, message)}

    def with_values(zero: bytes, seven: bytes) -> dict:
        return {"values": {**values, "sha256": {0: zero, 7: seven}}}

    sha1 = hashlib.sha256(values["sha1"][0]).digest()
    change = {
        "magic_wrong": lambda: signed(build_attest(magic=0xFF544346).data),
        "type_relabelled": lambda: signed(build_attest(kind=0x8017).data),
        "trailing_byte": lambda: signed(built.data + b"\0"),
        "message_cut": lambda: signed(built.data[:-1]),
        "message_empty": lambda: signed(b""),
        "signature_of_other_key": lambda: {"signature": sign(other, built.data)},
        "signature_flipped": lambda: {
            "signature": good["signature"][:-1] + bytes([good["signature"][-1] ^ 1])
        },
        "signature_hmac": lambda: {"signature": b"\0\5\0\x0b" + bytes(32)},
        "signature_unreadable": lambda: {"signature": b"not a signature"},
        "nonce_off_by_one": lambda: {"nonce": nonce[:-1] + bytes([nonce[-1] ^ 1])},
        "nonce_prefix": lambda: {"nonce": nonce[:-1]},
        "value_flipped": lambda: with_values(first, second[:-1] + b"\0"),
        "values_swapped": lambda: with_values(second, first),
        "value_boundary_moved": lambda: with_values(first + second[:1], second[1:]),
        "digest_of_other_hash": lambda: signed(
            build_attest(digest=hashlib.sha384(first + second + values["sha1"][0]).digest()).data
        ),
        "selection_empty": lambda: signed(build_attest(selections=(), digest=hashlib.sha256().digest()).data),
        "selection_of_no_register": lambda: signed(
            build_attest(selections=((0x0B, bytes(3)),), digest=hashlib.sha256().digest()).data
        ),
        "selection_sha1_only": lambda: signed(
            build_attest(selections=((4, b"\1\0\0"), (0x0B, bytes(3))), digest=sha1).data
        ),
    }[name]()
    report = check_quote(**{**good, **change})
    check, code = BROKEN[name]
    assert statuses(report)[check] == ("broken", code)
    assert [item.name for item in report.broken] == [check]
    for item in report.checks:
        if item.name != check and check != "structure" and not name.startswith("selection_"):
            assert (item.status, item.code) == HOLDS
    assert not report.holds
    with pytest.raises(VerificationError) as caught:
        verify_quote(**{**good, **change})
    assert caught.value.code == code


def test_empty_selection_never_holds(good, build_attest, rsa_key):
    for selections in ((), ((0x0B, bytes(3)), (0x0C, bytes(3)))):
        message = build_attest(selections=selections, digest=hashlib.sha256().digest()).data
        report = check_quote(**{**good, "message": message, "signature": sign(rsa_key, message)})
        assert report["registers"].status == "not-checked"
        assert report["registers"].code == "register-not-quoted"


@pytest.mark.parametrize(
    ("change", "check", "code"),
    [
        ({"nonce": None}, "nonce", "nonce-missing"),
        ({"nonce": b""}, "nonce", "nonce-missing"),
        ({"signature": None}, "signature", "evidence-incomplete"),
        ({"signature": b""}, "signature", "evidence-incomplete"),
        ({"key": None}, "signature", "evidence-incomplete"),
        ({"values": None}, "registers", "evidence-incomplete"),
        ({"values": {}}, "registers", "evidence-incomplete"),
        ({"values": {"sha256": {0: bytes(32)}}}, "registers", "evidence-incomplete"),
    ],
    ids=str,
)
def test_what_is_not_checked_is_not_good(good, change, check, code):
    report = check_quote(**{**good, **change})
    assert statuses(report)[check] == ("not-checked", code)
    assert not report.broken
    assert not report.holds
    with pytest.raises(VerificationError) as caught:
        verify_quote(**{**good, **change})
    assert caught.value.code == code


def test_empty_nonce_in_quote_is_no_nonce(good, build_attest, rsa_key):
    message = build_attest(extra=b"").data
    report = check_quote(**{**good, "message": message, "signature": sign(rsa_key, message), "nonce": b""})
    assert statuses(report)["nonce"] == ("not-checked", "nonce-missing")


def test_values_that_are_not_quoted_do_not_matter(good, register_values):
    more = {**register_values, "sha384": {0: b"?"}, "sha256": {**register_values["sha256"], 9: b""}}
    assert check_quote(**{**good, "values": more}).holds


def test_broken_structure_leaves_the_rest_unchecked(good, build_attest, rsa_key):
    message = build_attest(magic=0).data
    report = check_quote(**{**good, "message": message, "signature": sign(rsa_key, message)})
    assert statuses(report)["signature"] == HOLDS  # a key that signs forged quotes: worth knowing
    assert {report[name].status for name in ("nonce", "registers", "hash")} == {"not-checked"}
    assert report.attest is None
    with pytest.raises(KeyError):
        report["no such check"]


def test_pcr_digest_follows_the_order_of_the_selection(register_values):
    one, two = PcrSelection("sha1", (0,)), PcrSelection("sha256", (0, 7))
    sha1, first, second = (
        register_values["sha1"][0],
        register_values["sha256"][0],
        register_values["sha256"][7],
    )
    assert pcr_digest([one, two], register_values, "sha384") == hashlib.sha384(sha1 + first + second).digest()
    assert pcr_digest([two, one], register_values, "sha256") == hashlib.sha256(first + second + sha1).digest()
    with pytest.raises(KeyError):
        pcr_digest([PcrSelection("sha512", (0,))], register_values, "sha256")


@settings(deadline=None, max_examples=150)
@given(where=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_change_of_a_real_quote_breaks_it(made, nonce, where, flip):
    item = made["rsassa-sha256"]
    message = bytearray(item.message)
    message[where % len(message)] ^= flip
    values = read_registers(item.serialized, source="pcrs").values
    key = load_public_key(item.pem, source="ak")
    report = check_quote(bytes(message), item.signature, key, nonce=nonce, values=values)
    assert report.broken
    assert not report.holds


@settings(deadline=None, max_examples=150)
@given(message=st.binary(max_size=200), signature=st.none() | st.binary(max_size=300), keep=st.booleans())
def test_never_raises_and_never_holds_for_hostile_bytes(
    rsa_key, register_values, nonce, message, signature, keep
):
    message = b"\xffTCG\x80\x18" + message if keep else message
    report = check_quote(message, signature, rsa_key.public_key(), nonce=nonce, values=register_values)
    assert len(report.checks) == 5
    assert not report.holds


def test_quotes_of_the_boots(boots, tmp_path):
    """Registers other than 10 do not move between quote and reading, so most quotes hold outright."""
    seen, held = 0, 0
    for folder in sorted(boots.iterdir()):
        if not (folder / "quote.msg").exists():
            continue
        nonce = bytes.fromhex((folder / "nonce.hex").read_text().strip())
        key = parse_public((folder / "ak.pub").read_bytes(), source="ak.pub")
        values = read_registers((folder / "pcrs.yaml").read_bytes(), source="pcrs.yaml").values
        report = check_quote(
            (folder / "quote.msg").read_bytes(),
            (folder / "quote.sig").read_bytes(),
            key,
            nonce=nonce,
            values=values,
        )
        seen += 1
        found = statuses(report)
        assert found["structure"] == HOLDS
        command = ["tpm2_checkquote", "-u", "ak.pem", "-m", "quote.msg", "-s", "quote.sig", "-q", nonce.hex()]
        accepted = subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
        assert accepted == (found["signature"] == HOLDS and found["nonce"] == HOLDS), folder.name
        if folder.name == "mix_nonce_replayed":
            assert found["nonce"] == ("broken", "nonce-mismatch")
        elif folder.name == "mix_other_vm_quote":
            assert found["signature"] == ("broken", "quote-signature-invalid")
        else:
            held += report.holds
            ima = 10 in parse_attest((folder / "quote.msg").read_bytes(), source="q").selections[0].registers
            assert report.holds or ima, (folder.name, report.checks)
    assert seen >= 20
    assert held >= 14


def test_simulator_quotes_of_every_scheme(corpus):
    # agentrust agent-manifest: quotes of the TPM 2.0 reference implementation, with their AK certificates.
    folder = next(corpus.glob("azure/*/python/tests/fixtures/reference/ms-tpm-20-ref-v183"))
    nonce = bytes.fromhex((folder / "nonce.hex").read_text())
    for name in ("rsassa-sha256", "rsassa-sha384", "rsapss-sha256", "ecdsa-sha384"):
        key = load_public_key((folder / f"{name}-ak-chain.pem").read_bytes(), source=name)
        message = (folder / f"{name}-attest.bin").read_bytes()
        signature = (folder / f"{name}-tpmt-signature.bin").read_bytes()
        report = check_quote(message, signature, key, nonce=nonce, values=None)
        assert (
            statuses(report)["structure"]
            == statuses(report)["signature"]
            == statuses(report)["nonce"]
            == HOLDS
        )
        scheme, hash_name = name.split("-")
        assert (report.signature.scheme, report.signature.hash) == (scheme, hash_name)


def _key_of_hcl_report(report: bytes):
    start = report.index(b'{"keys"')
    claims = json.JSONDecoder().raw_decode(report[start:].decode("latin1"))[0]
    jwk = next(item for item in claims["keys"] if item["kid"] == "HCLAkPub")
    number = {name: int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "=="), "big") for name in "ne"}
    return rsa.RSAPublicNumbers(number["e"], number["n"]).public_key()


def test_azure_quotes_with_plain_signatures(corpus):
    data = next(corpus.glob("azure/*/deps/verifier/test_data"))
    for kind in (
        "az-snp-vtpm/evidence-v1.json",
        "az-snp-vtpm/evidence-v2.json",
        "az-tdx-vtpm/evidence-v1.json",
    ):
        evidence = json.loads((data / kind).read_text())
        text = evidence["hcl_report"]
        key = _key_of_hcl_report(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        quote = evidence["tpm_quote"]
        values = {"sha256": {index: bytes.fromhex(value) for index, value in enumerate(quote["pcrs"])}}
        message, signature = bytes.fromhex(quote["message"]), bytes.fromhex(quote["signature"])
        nonce = parse_attest(message, source=kind).extra_data
        assert check_quote(message, signature, key, nonce=nonce, values=values).holds
    # Recorded as not verifying under this report's key.
    folder = data / "az-snp-vtpm"
    key = _key_of_hcl_report((folder / "hcl-report.bin").read_bytes())
    report = check_quote(
        (folder / "tpm-quote.msg").read_bytes(),
        (folder / "tpm-quote.sig").read_bytes(),
        key,
        nonce=b"challenge",
        values=None,
    )
    assert statuses(report)["signature"] == ("broken", "quote-signature-invalid")
    assert statuses(report)["nonce"] == HOLDS
