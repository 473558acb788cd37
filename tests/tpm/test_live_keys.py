"""Keys of a live TPM: derived, kept, persistent, of a platform; the endorsement key; challenges."""

from __future__ import annotations

import contextlib
import stat
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tpm_platform import (
    AK,
    AZURE_AK,
    AZURE_CERTIFICATE,
    HCL_REPORT,
    READ_WRITE,
    certificate_of,
    make_persistent,
    nothing_left,
    put,
)

from cvmlab.errors import EvidenceError, ParseError, TpmError
from cvmlab.tpm.challenge import Challenge, make_challenge, public_sha256
from cvmlab.tpm.live import LiveTpm
from cvmlab.tpm.live_endorsement import activate, endorsement_key
from cvmlab.tpm.live_keys import AK_TYPES, attestation_key
from cvmlab.tpm.live_nv import MAX_CHAIN, ek_certificates, nv_certificate, nv_chain, read_nv
from cvmlab.tpm.make_credential import read_tools_credential
from cvmlab.tpm.public import parse_public

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from soft_tpm import SoftTpm

    from cvmlab.tpm.live_keys import LiveKey

SECRET = b"the verifier's secret, 32 bytes!"


@pytest.mark.parametrize("kind", AK_TYPES)
def test_a_derived_key_is_the_one_that_tpm2_tools_derive(fresh_tpm: SoftTpm, kind: str) -> None:
    algorithm, hash_name = AK_TYPES[kind]
    fresh_tpm("createprimary", "-Q", "-C", "e", "-g", hash_name.lower(), "-G", algorithm, "-a", f"{AK}|noda",
              "-c", "ak.ctx")  # fmt: skip
    fresh_tpm.flush()
    fresh_tpm("readpublic", "-Q", "-c", "ak.ctx", "-f", "tss", "-o", "ak.pub", "-n", "ak.name")
    fresh_tpm.flush()
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm, kind=kind) as key:
        made = key
    assert made.public_file == (fresh_tpm.folder / "ak.pub").read_bytes()
    assert made.public.name == (fresh_tpm.folder / "ak.name").read_bytes()
    assert nothing_left(fresh_tpm)


def test_a_kept_key_stays_the_same_and_is_its_owners_alone(fresh_tpm: SoftTpm, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    names = []
    for _ in range(2):
        with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm, context=folder) as key:
            names.append(key.public.name)
    assert names[0] == names[1]
    assert sorted(path.name for path in folder.iterdir()) == ["ak.priv", "ak.pub"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert nothing_left(fresh_tpm)


def test_a_kept_key_is_loaded_by_its_own_tpm_alone(
    fresh_tpm: SoftTpm, certified_tpm: SoftTpm, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm, context=folder):
        pass
    with (
        pytest.raises(TpmError, match=r"TPM_RC_INTEGRITY \(parameter 1\).*cleared or another TPM"),
        LiveTpm(certified_tpm.tcti) as tpm,
        attestation_key(tpm, context=folder),
    ):
        pass
    assert nothing_left(certified_tpm)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "ak.priv").unlink(),
        lambda folder: (folder / "ak.priv").write_bytes(b""),
        lambda folder: (folder / "ak.pub").write_bytes(b"\xff" * 40),
        lambda folder: (folder / "ak.pub").write_bytes((folder / "ak.pub").read_bytes() + b"\0"),
        lambda folder: (folder / "ak.priv").write_bytes(bytes(100000)),
        lambda folder: [(folder / "ak.pub").unlink(), (folder / "ak.pub").mkdir()],
    ],
    ids=["no_private", "empty", "no_public_area", "left_over", "large", "a_folder"],
)
def test_a_damaged_key_folder_says_so(
    fresh_tpm: SoftTpm, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = tmp_path / "keys"
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm, context=folder):
        pass
    damage(folder)
    with (
        pytest.raises(EvidenceError, match="key"),
        LiveTpm(fresh_tpm.tcti) as tpm,
        attestation_key(tpm, context=folder),
    ):
        pass
    assert nothing_left(fresh_tpm)


def test_a_persistent_key_is_used_and_stays(fresh_tpm: SoftTpm) -> None:
    public = make_persistent(fresh_tpm, 0x81010099, "ecc256:ecdsa-sha256:null", AK)
    for _ in range(2):
        with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm, handle=0x81010099) as key:
            assert key.public.name == public.name
    assert "0x81010099" in fresh_tpm("getcap", "handles-persistent")


def test_no_key_at_a_handle_is_said_with_the_code(fresh_tpm: SoftTpm) -> None:
    with (
        pytest.raises(TpmError, match=r"0x81010042.*0x18B TPM_RC_HANDLE \(handle 1\).*handles-persistent"),
        LiveTpm(fresh_tpm.tcti) as tpm,
        attestation_key(tpm, handle=0x81010042),
    ):
        pass


@pytest.mark.parametrize("handle", [0, 0x01C00002, 0x80000000, 0x82000000])
def test_what_is_no_persistent_handle_is_refused(certified_tpm: SoftTpm, handle: int) -> None:
    with (
        pytest.raises(EvidenceError, match="no persistent handle"),
        LiveTpm(certified_tpm.tcti) as tpm,
        attestation_key(tpm, handle=handle),
    ):
        pass


def test_a_key_that_signs_anything_is_not_used(fresh_tpm: SoftTpm) -> None:
    make_persistent(fresh_tpm, 0x81010050, "ecc256:ecdsa-sha256:null", AK.replace("restricted|", ""))
    with (
        pytest.raises(TpmError, match="not restricted"),
        LiveTpm(fresh_tpm.tcti) as tpm,
        attestation_key(tpm, handle=0x81010050),
    ):
        pass


def test_an_unknown_kind_of_key_is_refused(certified_tpm: SoftTpm) -> None:
    with (
        pytest.raises(EvidenceError, match="rsa2048, ecc256, ecc384"),
        LiveTpm(certified_tpm.tcti) as tpm,
        attestation_key(tpm, kind="rsa1024"),
    ):
        pass


def test_azures_key_and_certificate_are_taken(fresh_tpm: SoftTpm) -> None:
    public = make_persistent(fresh_tpm, AZURE_AK, "rsa2048:rsassa-sha256:null", AK)
    der = certificate_of(public.key)
    put(fresh_tpm, AZURE_CERTIFICATE, der, size=2048)
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm) as key:
        assert key.public.name == public.name
        assert key.certificate is not None
        assert key.certificate.der == der
        assert "Azure" in key.source


def test_azures_key_is_taken_without_its_certificate(fresh_tpm: SoftTpm) -> None:
    public = make_persistent(fresh_tpm, AZURE_AK, "rsa2048:rsassa-sha256:null", AK)
    put(fresh_tpm, HCL_REPORT, b"HCLA")
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm) as key:
        assert key.public.name == public.name
        assert key.certificate is None
        assert "there is none" in key.problem


def test_an_unfilled_certificate_index_is_said_as_azures_documents_say_it(fresh_tpm: SoftTpm) -> None:
    make_persistent(fresh_tpm, AZURE_AK, "rsa2048:rsassa-sha256:null", AK)
    fresh_tpm("nvdefine", "-Q", hex(AZURE_CERTIFICATE), "-C", "o", "-s", 512, "-a", READ_WRITE)
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm) as key:
        assert "0x14A TPM_RC_NV_UNINITIALIZED: the platform has not filled the index" in key.problem


def test_a_key_at_azures_handle_elsewhere_is_left_alone(fresh_tpm: SoftTpm) -> None:
    public = make_persistent(fresh_tpm, AZURE_AK, "ecc256:ecdsa-sha256:null", AK)
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm) as key:
        assert key.public.name != public.name
        assert "derived" in key.source


def test_googles_key_is_derived_by_its_template(fresh_tpm: SoftTpm) -> None:
    # TPMT_PUBLIC of an RSA signing key without a modulus (Part 2, 12.2.4)
    template = struct.pack(">HHIHHHHHIH", 1, 0xB, 0x00050072, 0, 0x10, 0x14, 0xB, 2048, 0, 0)
    fresh_tpm("createprimary", "-Q", "-C", "e", "-G", "rsa2048:rsassa-sha256:null", "-a", AK, "-c", "g.ctx")
    fresh_tpm.flush()
    fresh_tpm("readpublic", "-Q", "-c", "g.ctx", "-f", "tss", "-o", "g.pub")
    fresh_tpm.flush()
    public = parse_public((fresh_tpm.folder / "g.pub").read_bytes(), source="g.pub")
    put(fresh_tpm, 0x01C10001, template)
    put(fresh_tpm, 0x01C10000, certificate_of(public.key), size=1600)
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm) as key:
        assert key.public.name == public.name
        assert key.certificate is not None
        assert "Google" in key.source


def test_a_template_that_is_none_is_said_and_another_key_taken(fresh_tpm: SoftTpm) -> None:
    put(fresh_tpm, 0x01C10001, b"\xff" * 30)
    with LiveTpm(fresh_tpm.tcti) as tpm, attestation_key(tpm) as key:
        assert "derived" in key.source
        assert "0x01C10001" in key.problem
    assert nothing_left(fresh_tpm)


def test_a_missing_index_is_none_and_others_say_why(fresh_tpm: SoftTpm) -> None:
    fresh_tpm("nvdefine", "-Q", "0x01800001", "-C", "o", "-s", 8, "-a", "ownerwrite|policyread")
    fresh_tpm("nvdefine", "-Q", "0x01800002", "-C", "o", "-s", 8, "-a", READ_WRITE)
    put(fresh_tpm, 0x01800003, bytes(range(250)) * 8)
    with LiveTpm(fresh_tpm.tcti) as tpm:
        assert read_nv(tpm, 0x01800000) is None
        with pytest.raises(TpmError, match="only be read by its policy"):
            read_nv(tpm, 0x01800001)
        with pytest.raises(TpmError, match=r"NV index 0x01800002.*0x14A") as caught:
            read_nv(tpm, 0x01800002)
        assert caught.value.code == 0x14A
        assert read_nv(tpm, 0x01800003) == bytes(range(250)) * 8


def test_an_owner_with_a_password_does_not_keep_public_indexes_away(fresh_tpm: SoftTpm) -> None:
    put(fresh_tpm, 0x01800003, b"public")
    fresh_tpm("nvdefine", "-Q", "0x01800004", "-C", "o", "-s", 8, "-a", "ownerread|ownerwrite")
    fresh_tpm("changeauth", "-c", "o", "password")
    with LiveTpm(fresh_tpm.tcti) as tpm:
        assert read_nv(tpm, 0x01800003) == b"public"
        with pytest.raises(TpmError, match=r"TPM_RC_BAD_AUTH \(session 1\)"):
            read_nv(tpm, 0x01800004)


def test_an_endorsement_hierarchy_with_a_password_is_said(fresh_tpm: SoftTpm) -> None:
    fresh_tpm("changeauth", "-c", "e", "password")
    with (
        pytest.raises(TpmError, match=r"TPM_RC_BAD_AUTH.*--ak-handle"),
        LiveTpm(fresh_tpm.tcti) as tpm,
        attestation_key(tpm),
    ):
        pass


@pytest.mark.parametrize("filler", [b"\0", b"\xff"], ids=["zeros", "ones"])
def test_padding_behind_a_certificate_is_taken_off(filler: bytes) -> None:
    der = certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    for padding in (b"", filler, filler * 700):
        assert nv_certificate(der + padding, 1).der == der


@pytest.mark.parametrize(
    "change",
    [
        lambda der: der[:-1],
        lambda der: der + b"\0\0\1",
        lambda der: der + b"\0\xff",
        lambda der: b"\0" + der,
        lambda der: b"\x30\x80" + der[2:],
        lambda der: b"\xff" * 64,
        lambda der: b"\x30\x03\x02\x01\x01",
    ],
    ids=[
        "cut",
        "other_bytes",
        "mixed_padding",
        "padding_before",
        "indefinite_length",
        "erased",
        "no_certificate",
    ],
)
def test_what_is_no_certificate_and_padding_is_refused(change: Callable[[bytes], bytes]) -> None:
    der = certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(ParseError):
        nv_certificate(change(der), 1)


def test_a_chain_is_read_across_indexes_and_padding() -> None:
    ders = [certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key(), f"ca {n}") for n in range(3)]
    joined = b"".join(ders)
    assert nv_chain([joined[:100], joined[100:700], joined[700:]]) == (ders, "")
    assert nv_chain([ders[0] + bytes(40), ders[1] + b"\xff" * 9, ders[2]]) == (ders, "")
    assert nv_chain([]) == ([], "")


def test_what_was_read_before_damage_in_a_chain_is_kept() -> None:
    der = certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    found, why = nv_chain([der, der[:-5]])
    assert found == [der]
    assert "cut" in why
    found, why = nv_chain([der * (MAX_CHAIN + 1)])
    assert len(found) == MAX_CHAIN
    assert "more than" in why


@given(data=st.binary(max_size=80))
def test_any_bytes_of_an_index_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        nv_certificate(data, 1)
    assert isinstance(nv_chain([data])[0], list)


def test_certificates_of_endorsement_keys_are_found(fresh_tpm: SoftTpm) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    ders = {
        index: certificate_of(key, hex(index)) for index in (0x01C00002, 0x01C0000A, 0x01C00014, 0x01C00044)
    }
    for index, der in ders.items():
        put(fresh_tpm, index, der, size=800)
    put(fresh_tpm, 0x01C00003, b"a nonce")
    put(fresh_tpm, 0x01C00016, b"no certificate")
    put(fresh_tpm, 0x01C00100, certificate_of(key, "issuer") + certificate_of(key, "root"))
    with LiveTpm(fresh_tpm.tcti) as tpm:
        found, chain, problems = ek_certificates(tpm)
    assert {item.index: item.der for item in found} == ders
    assert len(chain) == 2
    assert len(problems) == 1
    assert "0x01C00016" in problems[0]


def test_the_endorsement_key_is_the_one_of_its_certificate(certified_tpm: SoftTpm) -> None:
    with LiveTpm(certified_tpm.tcti) as tpm:
        found = ek_certificates(tpm)[0]
        assert {item.index for item in found} == {0x01C00002, 0x01C00016}
        for item in found:
            with endorsement_key(tpm, [item]) as key:
                assert key.public.key == item.certificate.public_key()
                assert "persistent" in key.source


def test_the_endorsement_key_is_derived_where_none_is_kept(authority: Path, tmp_path: Path) -> None:
    from soft_tpm import SoftTpm as Start

    soft = Start(tmp_path, authority=authority, banks="sha256")
    try:
        for handle in ("0x81010001", "0x81010016"):
            soft("evictcontrol", "-Q", "-C", "p", "-c", handle)
        with LiveTpm(soft.tcti) as tpm:
            # RSA by the low range's template, P-384 by the high range's
            for item in ek_certificates(tpm)[0]:
                with endorsement_key(tpm, [item]) as key:
                    assert key.public.key == item.certificate.public_key()
                    assert "template" in key.source
        assert nothing_left(soft)
    finally:
        soft.close()


def test_without_certificates_it_is_the_one_that_tpm2_createek_makes(fresh_tpm: SoftTpm) -> None:
    fresh_tpm("createek", "-Q", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub", "-f", "tss")
    fresh_tpm.flush()
    with LiveTpm(fresh_tpm.tcti) as tpm, endorsement_key(tpm, []) as key:
        assert key.public_file == (fresh_tpm.folder / "ek.pub").read_bytes()
    assert nothing_left(fresh_tpm)


def test_a_certificate_of_another_key_gives_the_key_that_is_there(fresh_tpm: SoftTpm) -> None:
    put(fresh_tpm, 0x01C00002, certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key()))
    with LiveTpm(fresh_tpm.tcti) as tpm:
        with endorsement_key(tpm, ek_certificates(tpm)[0]) as key:
            assert key.public.decrypt
        assert nothing_left(fresh_tpm)


ENDORSEMENT = {
    "rsa": ("createek", "-G", "rsa"),
    "ecc": ("createek", "-G", "ecc"),
    "ecc384-sha384": (
        "createprimary", "-C", "e", "-g", "sha384", "-G", "ecc384:aes256cfb", "-a",
        "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|adminwithpolicy|restricted|decrypt",
    ),
}  # fmt: skip


@pytest.fixture(params=ENDORSEMENT)
def endorsed(request: pytest.FixtureRequest, fresh_tpm: SoftTpm) -> SoftTpm:
    """A TPM whose endorsement key, made by tpm2-tools, is persistent."""
    fresh_tpm(*ENDORSEMENT[request.param], "-Q", "-c", "ek.ctx")
    fresh_tpm.flush()
    fresh_tpm("evictcontrol", "-Q", "-C", "o", "-c", "ek.ctx", "0x81010002")
    fresh_tpm.flush()
    return fresh_tpm


def _answer(soft: SoftTpm, kind: str, make: Callable[[LiveKey, LiveKey], Challenge]) -> bytes:
    with (
        LiveTpm(soft.tcti) as tpm,
        attestation_key(tpm, kind=kind) as attestation,
        endorsement_key(tpm, []) as endorsement,
    ):
        return activate(tpm, attestation, endorsement, make(attestation, endorsement)).secret


@pytest.mark.parametrize("kind", ["rsa2048", "ecc384"])
def test_our_own_challenge_is_answered(endorsed: SoftTpm, kind: str) -> None:
    kept = []

    def make(attestation: LiveKey, endorsement: LiveKey) -> Challenge:
        challenge, record = make_challenge(endorsement.public, attestation.public)
        kept.append(record.secret)
        return challenge

    assert _answer(endorsed, kind, make) == kept[0]
    assert nothing_left(endorsed)


@pytest.mark.parametrize("kind", ["rsa2048", "ecc384"])
def test_a_challenge_of_tpm2_makecredential_is_answered(endorsed: SoftTpm, kind: str) -> None:
    def make(attestation: LiveKey, endorsement: LiveKey) -> Challenge:
        (endorsed.folder / "e.pub").write_bytes(endorsement.public_file)
        (endorsed.folder / "secret").write_bytes(SECRET)
        endorsed("makecredential", "-Q", "-T", "none", "-u", "e.pub", "-s", "secret",
                 "-n", attestation.public.name.hex(), "-o", "made")  # fmt: skip
        credential = read_tools_credential((endorsed.folder / "made").read_bytes(), source="made")
        return Challenge(bytes(16), attestation.public.name, public_sha256(endorsement.public), credential)

    assert _answer(endorsed, kind, make) == SECRET


def test_a_challenge_for_other_keys_is_refused_before_the_tpm_sees_it(endorsed: SoftTpm) -> None:
    def other_ak(attestation: LiveKey, endorsement: LiveKey) -> Challenge:
        return replace(
            make_challenge(endorsement.public, attestation.public)[0], ak_name=b"\0\x0b" + bytes(32)
        )

    def other_ek(attestation: LiveKey, endorsement: LiveKey) -> Challenge:
        return replace(make_challenge(endorsement.public, attestation.public)[0], ek_public_sha256=bytes(32))

    for make, what in ((other_ak, "another attestation key"), (other_ek, "another endorsement key")):
        with pytest.raises(TpmError, match=f"{what}.*What to do"):
            _answer(endorsed, "rsa2048", make)
    assert nothing_left(endorsed)


def test_a_changed_challenge_is_refused_by_the_tpm(endorsed: SoftTpm) -> None:
    def make(attestation: LiveKey, endorsement: LiveKey) -> Challenge:
        good = make_challenge(endorsement.public, attestation.public)[0]
        blob = bytearray(good.credential.blob)
        blob[-1] ^= 1
        return replace(good, credential=replace(good.credential, blob=bytes(blob)))

    with pytest.raises(TpmError, match=r"TPM_RC_INTEGRITY.*ask for one"):
        _answer(endorsed, "rsa2048", make)
    assert nothing_left(endorsed)
