from __future__ import annotations

import contextlib
import hashlib
import struct
import time
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.binary import Cursor
from cvmlab.errors import CvmlabError, ParseError
from cvmlab.uefi.siglist import (
    NO_OWNER,
    Signature,
    parse_signature_data,
    parse_signature_lists,
    parse_signature_lists_tolerant,
)

# UEFI 2.10, section 32.4.1, as bytes
SHA256 = bytes.fromhex("2616c4c14c509240aca941f936934328")
X509 = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
X509_SHA256 = bytes.fromhex("92a4d23bc0967940b420fcf98ef103ed")
OWNER = bytes.fromhex("bd9afa775903324dbd6028f4e78f784b")
MICROSOFT = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")


def siglist(
    kind: bytes,
    *entries: bytes,
    header: bytes = b"",
    list_size: int | None = None,
    header_size: int | None = None,
    size: int | None = None,
) -> bytes:
    body = header + b"".join(OWNER + entry for entry in entries)
    sizes = struct.pack(
        "<III",
        28 + len(body) if list_size is None else list_size,
        len(header) if header_size is None else header_size,
        (16 + len(entries[0]) if entries else 16) if size is None else size,
    )
    return kind + sizes + body


def test_two_lists_with_offsets() -> None:
    raw = siglist(SHA256, b"\x11" * 32, b"\x22" * 32) + siglist(X509, b"0123", b"4567")
    hashes, certificates = parse_signature_lists(Cursor(raw, base=1000))
    assert (hashes.type_name, hashes.offset, hashes.header) == ("SHA256", 1000, b"")
    assert [entry.data for entry in hashes.signatures] == [b"\x11" * 32, b"\x22" * 32]
    assert [entry.offset for entry in hashes.signatures] == [1028, 1076]
    assert {entry.owner for entry in hashes.signatures} == {MICROSOFT}
    assert certificates.type_name == "X509"
    assert [entry.data for entry in certificates.signatures] == [b"0123", b"4567"]
    assert certificates.signatures[0].certificate is None


def test_no_bytes_give_no_lists() -> None:
    assert parse_signature_lists(Cursor(b"")) == ()


def test_list_without_signatures() -> None:
    (only,) = parse_signature_lists(Cursor(siglist(SHA256)))
    assert only.signatures == ()


def test_header_is_kept() -> None:
    (only,) = parse_signature_lists(Cursor(siglist(uuid.UUID(int=7).bytes_le, b"ab", header=b"head")))
    assert (only.header, only.signatures[0].data) == (b"head", b"ab")
    assert only.type_name == "00000000-0000-0000-0000-000000000007"


def test_fingerprint_is_of_the_data() -> None:
    (only,) = parse_signature_lists(Cursor(siglist(X509, b"abc")))
    assert only.signatures[0].sha256 == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        (struct.pack("<HBBBBBBIhBB", 2024, 2, 29, 23, 59, 58, 0, 0, 0, 0, 0), "2024-02-29T23:59:58"),
        (bytes(16), "always"),
        (struct.pack("<HBBBBBBIhBB", 2023, 2, 29, 0, 0, 0, 0, 0, 0, 0, 0), "unreadable"),
        (b"\xff" * 16, "unreadable"),
    ],
)
def test_revocation_time(stamp: bytes, text: str) -> None:
    (only,) = parse_signature_lists(Cursor(siglist(X509_SHA256, b"\xaa" * 32 + stamp)))
    assert only.signatures[0].revocation_time == text


def test_no_revocation_time_where_the_type_has_none() -> None:
    assert Signature(MICROSOFT, "SHA256", bytes(32), 0).revocation_time is None


@pytest.mark.parametrize(
    ("name", "raw", "offset", "field"),
    [
        ("siglist_size_zero", siglist(SHA256, bytes(32), list_size=0), 16, "SignatureListSize"),
        ("siglist_size_one", siglist(SHA256, bytes(32), list_size=1), 16, "SignatureListSize"),
        ("siglist_size_27", siglist(SHA256, bytes(32), list_size=27), 16, "SignatureListSize"),
        ("siglist_size_past_end", siglist(SHA256, bytes(32), list_size=77), 16, "SignatureListSize"),
        ("siglist_size_max", siglist(SHA256, bytes(32), list_size=0xFFFFFFFF), 16, "SignatureListSize"),
        ("siglist_size_one_short", siglist(SHA256, bytes(32), list_size=75), 28, "Signatures"),
        ("header_size_past_list", siglist(SHA256, bytes(32), header_size=49), 20, "SignatureHeaderSize"),
        ("header_size_max", siglist(SHA256, bytes(32), header_size=0xFFFFFFFF), 20, "SignatureHeaderSize"),
        ("header_eats_entries", siglist(SHA256, bytes(32), header_size=1), 29, "Signatures"),
        ("signature_size_zero", siglist(X509, bytes(32), size=0), 24, "SignatureSize"),
        ("signature_size_one", siglist(X509, bytes(32), size=1), 24, "SignatureSize"),
        ("signature_size_15", siglist(X509, bytes(32), size=15), 24, "SignatureSize"),
        ("signature_size_zero_no_entries", siglist(X509, size=0), 24, "SignatureSize"),
        ("signature_size_max", siglist(X509, bytes(32), size=0xFFFFFFFF), 28, "Signatures"),
        ("sha256_entry_of_wrong_size", siglist(SHA256, bytes(31)), 24, "SignatureSize"),
        ("leftover_after_list", siglist(SHA256, bytes(32)) + b"\0", 76, "SignatureType"),
        ("leftover_in_list", siglist(X509, bytes(32), list_size=77) + b"\0", 76, "Signatures"),
        ("header_cut_short", siglist(SHA256)[:27], 24, "SignatureSize"),
    ],
)
def test_malformed(name: str, raw: bytes, offset: int, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_signature_lists(Cursor(raw))
    assert (caught.value.offset, caught.value.field) == (offset, field), name


def test_tolerant_keeps_the_lists_before_the_damage() -> None:
    raw = siglist(SHA256, b"\x11" * 32) + siglist(SHA256, bytes(32), list_size=0)
    lists, error = parse_signature_lists_tolerant(Cursor(raw, base=10))
    assert [entry.data for each in lists for entry in each.signatures] == [b"\x11" * 32]
    assert error is not None
    assert error.offset == 10 + 76 + 16


def test_tolerant_without_damage() -> None:
    assert parse_signature_lists_tolerant(Cursor(siglist(SHA256, bytes(32))))[1] is None


def test_limit_counts_signatures_over_all_lists() -> None:
    raw = siglist(X509, b"a") * 3
    assert len(parse_signature_lists(Cursor(raw), limit=3)) == 3
    with pytest.raises(ParseError):
        parse_signature_lists(Cursor(raw), limit=2)
    with pytest.raises(ParseError):
        parse_signature_lists(Cursor(siglist(X509) * 3), limit=2)


def test_one_mebibyte_of_smallest_entries_and_of_empty_lists_is_linear() -> None:
    def seconds(raw: bytes) -> float:
        start = time.process_time()
        parse_signature_lists_tolerant(Cursor(raw))
        return time.process_time() - start

    entries = [siglist(X509, *[b""] * count) for count in (32_768, 65_535)]
    assert all(len(parse_signature_lists(Cursor(raw))[0].signatures) >= 32_768 for raw in entries)
    empty = [siglist(X509) * count for count in (18_000, 37_000)]
    for half, whole in (entries, empty):
        assert min(seconds(whole) for _ in range(3)) < 6 * min(seconds(half) for _ in range(3)) + 0.1


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (bytes(20), "SHA1"),
        (b"\x30" * 32, "SHA256"),
        (bytes(48), "SHA384"),
        (bytes(64), "SHA512"),
        (b"\x30" * 100, "unknown"),
        (b"x", "unknown"),
    ],
)
def test_bare_signature_type_is_inferred(data: bytes, name: str) -> None:
    result = parse_signature_data(Cursor(OWNER + data, base=5))
    assert (result.owner, result.type_name, result.data, result.offset) == (MICROSOFT, name, data, 5)


@pytest.mark.parametrize("size", [0, 1, 15, 16])
def test_bare_signature_without_data(size: int) -> None:
    with pytest.raises(ParseError):
        parse_signature_data(Cursor(OWNER[:size]))


def test_bare_certificate_with_and_without_owner(certificate_der: bytes) -> None:
    owned = parse_signature_data(Cursor(OWNER + certificate_der))
    bare = parse_signature_data(Cursor(certificate_der))
    assert (owned.owner, owned.type_name) == (MICROSOFT, "X509")
    assert (bare.owner, bare.type_name) == (NO_OWNER, "X509")
    assert owned.data == bare.data == certificate_der


def test_several_certificates_in_one_list_with_padding(certificate_der: bytes) -> None:
    padded = certificate_der + bytes(7)
    (only,) = parse_signature_lists(Cursor(siglist(X509, padded, padded)))
    for entry in only.signatures:
        assert entry.certificate is not None
        assert entry.certificate.sha256 == hashlib.sha256(certificate_der).hexdigest()


@settings(deadline=None)
@given(
    st.sampled_from([b"", SHA256, X509, X509_SHA256]),
    st.tuples(*[st.one_of(st.integers(0, 120), st.integers(0, 2**32 - 1))] * 3),
    st.binary(max_size=200),
)
def test_never_crashes(kind: bytes, sizes: tuple[int, int, int], data: bytes) -> None:
    raw = kind + struct.pack("<III", *sizes) + data
    lists, error = parse_signature_lists_tolerant(Cursor(raw))
    assert error is not None or sum(28 + len(each.header) for each in lists) <= len(raw)
    for each in lists:
        for entry in each.signatures:
            assert entry.certificate is None
            assert entry.revocation_time is None or isinstance(entry.revocation_time, str)
    with contextlib.suppress(CvmlabError):
        parse_signature_data(Cursor(data))


# UEFI 2.11, section 32.4.1: GUID and size of SignatureData of every type where the size is fixed
TYPES = {
    "SHA1": ("826ca512-cf10-4ac9-b187-be01496631bd", 20),
    "SHA224": ("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd", 28),
    "SHA256": ("c1c41626-504c-4092-aca9-41f936934328", 32),
    "SHA384": ("ff3e5307-9fd0-48c9-85f1-8ad56c701e01", 48),
    "SHA512": ("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a", 64),
    "SM3": ("57347f87-7a9b-403a-b93c-dc4afb7a0ebc", 32),
    "RSA2048": ("3c5766e8-269c-4e34-aa14-ed776e85b3b6", 256),
    "RSA2048_SHA1": ("67f8444f-8743-48f1-a328-1eaab8736080", 256),
    "RSA2048_SHA256": ("e2b36190-879b-4a3d-ad8d-f2e7bba32784", 256),
    "X509_SHA256": ("3bd2a492-96c0-4079-b420-fcf98ef103ed", 48),
    "X509_SHA384": ("7076876e-80c2-4ee6-aad2-28b349a6865b", 64),
    "X509_SHA512": ("446dbf63-2502-4cda-bcfa-2465d2b0fe9d", 80),
    "X509_SM3": ("60d807e5-10b4-49a9-9331-e40437888d37", 48),
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_fixed_size_is_read_and_other_sizes_are_refused(name: str) -> None:
    text, size = TYPES[name]
    kind = uuid.UUID(text).bytes_le
    (found,) = parse_signature_lists(Cursor(siglist(kind, bytes(range(size % 256)).ljust(size, b"\1"))))
    assert found.type_name == name
    assert len(found.signatures[0].data) == size
    assert (found.signatures[0].revocation_time is not None) == name.startswith("X509_")
    for wrong in (size - 1, size + 1):
        with pytest.raises(ParseError, match="SignatureSize"):
            parse_signature_lists(Cursor(siglist(kind, bytes(wrong))))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a5c059a1-94e4-4aa7-87b5-ab155c2bf072", "X509"),
        ("4aafd29d-68df-49ee-8aa9-347d375665a7", "TYPE_PKCS7"),
        ("452e8ced-dfff-4b8c-ae01-5118862e682c", "EXTERNAL_MANAGEMENT"),
    ],
)
def test_types_of_any_size_are_named(text: str, name: str) -> None:
    (found,) = parse_signature_lists(Cursor(siglist(uuid.UUID(text).bytes_le, b"any")))
    assert found.type_name == name
