"""The endorsement key of a live TPM, and the answer to a verifier's challenge.

Source: TPM 2.0 Library, Part 3, 12.5 (TPM2_ActivateCredential) and 23.4 (TPM2_PolicySecret); TCG EK
Credential Profile for TPM Family 2.0, annex B (templates).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import ParseError, TpmError
from cvmlab.tpm.challenge import ChallengeResponse, public_sha256
from cvmlab.tpm.constants import TPMA_OBJECT_USERWITHAUTH
from cvmlab.tpm.live_keys import LiveKey, persistent_key, primary_key, public_area, released
from cvmlab.tpm.live_nv import NvCertificate, nv_name, read_nv
from cvmlab.tpm.public import load_public_key, spki_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvmlab.tpm.challenge import Challenge
    from cvmlab.tpm.live import LiveTpm
    from cvmlab.tpm.public import TpmPublic

_EK_HANDLES: Final = (0x81010000, 0x810100FF)
_EK_TEMPLATES: Final[dict[int, str]] = {
    # names of tpm2-pytss for the templates that belong to the certificates' indexes
    0x01C00002: "EK-RSA2048",
    0x01C0000A: "EK-ECC256",
    0x01C00012: "EK-HIGH-RSA2048",
    0x01C00014: "EK-HIGH-ECC256",
    0x01C00016: "EK-HIGH-ECC384",
    0x01C00018: "EK-HIGH-ECC521",
    0x01C0001C: "EK-HIGH-RSA3072",
    0x01C0001E: "EK-HIGH-RSA4096",
}


@contextmanager
def endorsement_key(tpm: LiveTpm, certificates: Iterable[NvCertificate]) -> Iterator[LiveKey]:
    """Load the endorsement key, the one of a certificate if there is one, and unload it again.

    Persistent keys are looked at first; else the key is derived by the template that belongs to the
    certificate's index.

    Raises:
        TpmError: The TPM has none and refuses to derive one.
    """
    found = tuple(certificates)
    wanted = {spki for item in found if (spki := _certificate_spki(item))}
    key = _persistent_endorsement(tpm, wanted) or _derived_endorsement(tpm, found, wanted)
    with released(tpm, key):
        yield key


def _certificate_spki(item: NvCertificate) -> str:
    try:
        return spki_sha256(load_public_key(item.der, source=nv_name(item.index)))
    except ParseError:
        return ""


def _persistent_endorsement(tpm: LiveTpm, wanted: set[str]) -> LiveKey | None:
    for number in tpm.handles(*_EK_HANDLES):
        try:
            key = persistent_key(tpm, number)
        except TpmError:
            continue
        suits = key.public.decrypt and key.public.restricted
        if suits and (not wanted or key.public.spki_sha256 in wanted):
            return LiveKey(key.handle, key.public, f"persistent endorsement key 0x{number:08X}")
        tpm.esys.tr_close(key.handle)
    return None


def _derived_endorsement(tpm: LiveTpm, found: tuple[NvCertificate, ...], wanted: set[str]) -> LiveKey:
    indexes = [item.index for item in found if item.index in _EK_TEMPLATES]
    refused: TpmError | None = None
    for index in dict.fromkeys((*indexes, 0x01C00002, 0x01C0000A)):
        source = f"endorsement key by template {_EK_TEMPLATES[index]}"
        try:
            template = _endorsement_template(tpm, index)
            handle = primary_key(tpm, template, tpm.pytss.ESYS_TR.ENDORSEMENT, source)
        except TpmError as error:
            refused = refused or error
            continue
        public = public_area(tpm, handle, source)
        if not wanted or public.spki_sha256 in wanted or index not in indexes:
            return LiveKey(handle, public, source)
        tpm.call("flush_context", handle)
    raise refused or TpmError("endorsement key: no template gives a key")


def _endorsement_template(tpm: LiveTpm, index: int) -> Any:
    from tpm2_pytss.utils import NoSuchIndex, create_ek_template

    def read(number: int) -> bytes:
        data = read_nv(tpm, int(number))
        if data is None:
            raise NoSuchIndex(number)
        return data

    try:
        return create_ek_template(_EK_TEMPLATES[index], read)[1]
    except (tpm.pytss.TSS2_Exception, ValueError, RuntimeError) as error:
        raise TpmError(f"template {_EK_TEMPLATES[index]} of the endorsement key: {error}") from error


def activate(
    tpm: LiveTpm, attestation: LiveKey, endorsement: LiveKey, challenge: Challenge
) -> ChallengeResponse:
    """Answer a verifier's challenge: let the TPM take the secret out (TPM2_ActivateCredential).

    Raises:
        TpmError: The challenge was made for other keys, or the TPM refuses it.
    """
    for mine, asked, what, file in (
        (attestation.public.name, challenge.ak_name, "attestation key", "ak.pub"),
        (public_sha256(endorsement.public), challenge.ek_public_sha256, "endorsement key", "ek.pub"),
    ):
        if mine != asked:
            raise TpmError(
                f"the challenge was made for another {what}: {asked.hex()}, here is {mine.hex()}. "
                f"What to do: collect with the same key as before, or ask for a challenge to this {file}"
            )
    types = tpm.pytss
    blob = types.TPM2B_ID_OBJECT(credential=challenge.credential.blob)
    encrypted = types.TPM2B_ENCRYPTED_SECRET(secret=challenge.credential.encrypted_secret)
    with _endorsement_session(tpm, endorsement.public) as session:
        secret = tpm.call(
            "activate_credential", attestation.handle, endorsement.handle, blob, encrypted,
            session2=session, about="challenge",
        )  # fmt: skip
    return ChallengeResponse(challenge.id, attestation.public.name, challenge.ek_public_sha256, bytes(secret))


@contextmanager
def _endorsement_session(tpm: LiveTpm, public: TpmPublic) -> Iterator[Any]:
    """What authorizes the use of an EK: its empty password, or the policy of the low range templates."""
    types = tpm.pytss
    if public.attributes & TPMA_OBJECT_USERWITHAUTH:
        yield types.ESYS_TR.PASSWORD
        return
    session = tpm.call(
        "start_auth_session", types.ESYS_TR.NONE, types.ESYS_TR.NONE, types.TPM2_SE.POLICY, None,
        getattr(types.TPM2_ALG, public.name_alg.upper()), about="policy of the endorsement key",
    )  # fmt: skip
    try:
        tpm.call(
            "policy_secret",
            types.ESYS_TR.ENDORSEMENT,
            session,
            expiration=0,
            about="policy of the endorsement key",
        )
        yield session
    finally:
        tpm.call("flush_context", session)
