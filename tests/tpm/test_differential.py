"""The same bytes read by tpm2-pytss, the binding of the TCG software stack."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.banks import ALGORITHM_BY_BANK
from cvmlab.errors import CvmlabError
from cvmlab.tpm.attest import parse_attest
from cvmlab.tpm.public import parse_public
from cvmlab.tpm.signature import parse_signature

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tpm2_pytss import TPM2B_PUBLIC, TPMS_ATTEST, TPMT_SIGNATURE, TSS2_Exception


def fields(attest) -> tuple:
    """A TPMS_ATTEST of tpm2-pytss in the shape of ours."""
    quote, clock = attest.attested.quote, attest.clockInfo
    selections = tuple(
        (
            int(item.hash),
            tuple(i for i in range(8 * item.sizeofSelect) if bytes(item.pcrSelect)[i // 8] >> i % 8 & 1),
        )
        for item in quote.pcrSelect
    )
    return (
        bytes(attest.qualifiedSigner), bytes(attest.extraData),
        int(clock.clock), int(clock.resetCount), int(clock.restartCount), bool(clock.safe),
        int(attest.firmwareVersion), selections, bytes(quote.pcrDigest),
    )  # fmt: skip


def ours(attest) -> tuple:
    clock = attest.clock_info
    selections = tuple((ALGORITHM_BY_BANK[item.bank], item.registers) for item in attest.selections)
    return (
        attest.qualified_signer, attest.extra_data,
        clock.clock, clock.reset_count, clock.restart_count, clock.safe,
        attest.firmware_version, selections, attest.pcr_digest,
    )  # fmt: skip


def test_quotes(made):
    for item in made.values():
        theirs, used = TPMS_ATTEST.unmarshal(item.message)
        assert used == len(item.message)
        assert ours(parse_attest(item.message, source="q")) == fields(theirs)


def test_keys(made):
    for item in made.values():
        theirs, used = TPM2B_PUBLIC.unmarshal(item.public)
        public = parse_public(item.public, source="ak")
        assert used == len(item.public)
        assert public.name == bytes(theirs.get_name())
        assert public.attributes == int(theirs.publicArea.objectAttributes)
        assert ALGORITHM_BY_BANK[public.name_alg] == int(theirs.publicArea.nameAlg)
        assert public.key.public_numbers() == _numbers(theirs.to_pem())


def _numbers(pem: bytes):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return load_pem_public_key(pem).public_numbers()


def test_signatures(made):
    for item in made.values():
        theirs, used = TPMT_SIGNATURE.unmarshal(item.signature)
        parsed = parse_signature(item.signature, source="s")
        assert used == len(item.signature)
        if isinstance(parsed.signature, bytes):
            assert parsed.signature == bytes(theirs.signature.rsassa.sig)
        else:
            ecdsa = theirs.signature.ecdsa
            pair = (bytes(ecdsa.signatureR), bytes(ecdsa.signatureS))
            assert parsed.signature == tuple(int.from_bytes(part, "big") for part in pair)
        assert ALGORITHM_BY_BANK[parsed.hash] == int(theirs.signature.any.hashAlg)


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(["rsassa-sha256", "rsapss-sha256", "ecdsa-p256"]),
    where=st.integers(6, 10_000),
    value=st.integers(0, 255),
)
def test_what_we_accept_the_stack_reads_the_same_way(made, name, where, value):
    data = bytearray(made[name].message)
    data[where % len(data)] = value
    try:
        attest = parse_attest(bytes(data), source="q")
    except CvmlabError:
        return  # ours is the stricter one
    theirs, used = TPMS_ATTEST.unmarshal(bytes(data))
    assert used == len(data)
    assert ours(attest) == fields(theirs)


def test_we_refuse_what_the_stack_lets_through(made):
    good = made["rsassa-sha256"].message
    for bad in (b"\0" + good[1:], good + b"\0"):
        TPMS_ATTEST.unmarshal(bad)
        with pytest.raises(CvmlabError):
            parse_attest(bad, source="q")
    with pytest.raises(TSS2_Exception):
        TPMS_ATTEST.unmarshal(good[:-1])
