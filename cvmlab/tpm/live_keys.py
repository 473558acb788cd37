"""Attestation keys of a live TPM. Nothing private leaves it.

An attestation key of our own is by default a primary key: the TPM derives it anew each time from its
endorsement seed, so nothing has to be kept. On request a key is kept in a folder, as a blob that only this
TPM can load.

Source: TPM 2.0 Library, Part 3, 24.1 (TPM2_CreatePrimary), 12.1 and 12.2 (TPM2_Create, TPM2_Load).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cvmlab.errors import EvidenceError, ParseError, TpmError, VerificationError
from cvmlab.tpm.live_nv import HCL_REPORT, NvCertificate, nv_certificate, nv_name, read_nv
from cvmlab.tpm.public import check_key_attributes, parse_public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cvmlab.tpm.live import LiveTpm
    from cvmlab.tpm.public import TpmPublic

AK_TYPES: Final[dict[str, tuple[str, str]]] = {
    "rsa2048": ("rsa2048:rsassa-sha256:null", "SHA256"),
    "ecc256": ("ecc256:ecdsa-sha256:null", "SHA256"),
    "ecc384": ("ecc384:ecdsa-sha384:null", "SHA384"),
}
"""Kinds of attestation keys that are made: the template as tpm2-tools write it, and the name's hash."""

AZURE_AK, AZURE_AK_CERTIFICATE = 0x81000003, 0x01C101D0
"""Azure: the platform's attestation key and the index of its certificate."""

GOOGLE_KEYS: Final = ((0x01C10001, 0x01C10000), (0x01C10003, 0x01C10002))
"""Google Compute Engine: indexes of the template and of the certificate, RSA and ECC."""

_PARENTS: Final = ("ecc256:aes128cfb", "rsa2048:aes128cfb")
_CONTEXT_FILES: Final = ("ak.pub", "ak.priv")
_MAX_BLOB: Final = 4096


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key that is loaded in the TPM.

    Attributes:
        handle: pytss' handle.
        public: Its public area.
        source: Where it came from, in words.
        certificate: The platform's certificate of it, where it has one.
        problem: Why that certificate, or the platform's key, could not be used.
    """

    handle: Any
    public: TpmPublic
    source: str
    certificate: NvCertificate | None = None
    problem: str = ""

    @property
    def public_file(self) -> bytes:
        """TPM2B_PUBLIC."""
        return len(self.public.raw).to_bytes(2, "big") + self.public.raw


@contextmanager
def attestation_key(
    tpm: LiveTpm, *, handle: int | None = None, context: Path | None = None, kind: str = "rsa2048"
) -> Iterator[LiveKey]:
    """Load an attestation key, and unload it again.

    Args:
        tpm: The TPM.
        handle: A persistent key to use.
        context: A folder with a key that is kept there, or an empty or new one to keep a new key in.
        kind: One of `AK_TYPES`, for a key that is made.

    Without `handle` and `context` the platform's own key is taken where there is one (Azure, Google),
    else a primary key is derived.

    Raises:
        TpmError: The TPM refuses, or there is no such key.
        EvidenceError: The folder cannot be used, or `kind` is none.
    """
    if kind not in AK_TYPES:
        raise EvidenceError(f"{kind!r} is no kind of attestation key: choose {', '.join(AK_TYPES)}")
    if handle is not None:
        key = persistent_key(tpm, handle)
    elif context is not None:
        key = _kept(tpm, context, kind)
    else:
        key = _platform(tpm, kind)
    with released(tpm, key):
        try:
            check_key_attributes(key.public)
        except VerificationError as error:
            raise TpmError(f"{key.source}: {error}. What to do: use another key") from error
        yield key


@contextmanager
def released(tpm: LiveTpm, key: LiveKey) -> Iterator[LiveKey]:
    """Hold a key and unload it in the end; a persistent one stays where it is."""
    try:
        yield key
    finally:
        number = int(tpm.call("tr_get_tpm_handle", key.handle))
        # Part 2, 7.2: TPM_HT_PERSISTENT; all other keys here are transient
        if number >> 24 == 0x81:
            tpm.esys.tr_close(key.handle)
        else:
            tpm.call("flush_context", key.handle)


def public_area(tpm: LiveTpm, handle: Any, source: str) -> TpmPublic:
    """Read the public area of a loaded key.

    Raises:
        TpmError: The TPM refuses, or gives what is no key.
    """
    data = tpm.call("read_public", handle, about=source)[0].marshal()
    try:
        return parse_public(data, source=source)
    except ParseError as error:
        raise TpmError(
            f"{source}: the TPM gave a public area that cannot be used: {error.message}"
        ) from error


def persistent_key(tpm: LiveTpm, number: int) -> LiveKey:
    """Take a persistent key.

    Raises:
        TpmError: There is none at this handle.
        EvidenceError: The number is no persistent handle.
    """
    source = f"persistent key 0x{number:08X}"
    if number >> 24 != 0x81:
        raise EvidenceError(f"0x{number:08X} is no persistent handle: these are 0x81000000 to 0x81FFFFFF")
    handle = tpm.call("tr_from_tpmpublic", number, about=source)
    return LiveKey(handle, public_area(tpm, handle, source), source)


def _platform_certificate(tpm: LiveTpm, index: int) -> tuple[NvCertificate | None, str]:
    try:
        data = read_nv(tpm, index)
        if data is None:
            return None, f"{nv_name(index)}: there is none; the platform has not put a certificate there"
        return nv_certificate(data, index), ""
    except (TpmError, ParseError) as error:
        return None, str(error)


def _platform(tpm: LiveTpm, kind: str) -> LiveKey:
    """The platform's key, or one of our own where there is none or it cannot be used."""
    try:
        key = _azure(tpm) or _google(tpm)
    except TpmError as error:
        return replace(_derived(tpm, kind), problem=f"the platform's key cannot be used: {error}")
    return key or _derived(tpm, kind)


def _azure(tpm: LiveTpm) -> LiveKey | None:
    """The platform's key, where the indexes that only Azure has are there too."""
    if not tpm.handles(AZURE_AK, AZURE_AK):
        return None
    if not any(tpm.handles(index, index) for index in (HCL_REPORT, AZURE_AK_CERTIFICATE)):
        return None
    key = persistent_key(tpm, AZURE_AK)
    certificate, problem = _platform_certificate(tpm, AZURE_AK_CERTIFICATE)
    return LiveKey(key.handle, key.public, f"Azure's attestation key 0x{AZURE_AK:08X}", certificate, problem)


def _google(tpm: LiveTpm) -> LiveKey | None:
    for template_index, certificate_index in GOOGLE_KEYS:
        template = read_nv(tpm, template_index) if tpm.handles(template_index, template_index) else None
        if not template:
            continue
        source = f"Google's attestation key by the template in {nv_name(template_index)}"
        area = len(template).to_bytes(2, "big") + template
        try:
            public = tpm.pytss.TPM2B_PUBLIC.unmarshal(area)[0]
        except (tpm.pytss.TSS2_Exception, ValueError, RuntimeError) as error:
            raise TpmError(f"{nv_name(template_index)}: not a template of a key") from error
        handle = primary_key(tpm, public, tpm.pytss.ESYS_TR.ENDORSEMENT, source)
        certificate, problem = _platform_certificate(tpm, certificate_index)
        return LiveKey(handle, public_area(tpm, handle, source), source, certificate, problem)
    return None


def primary_key(tpm: LiveTpm, template: Any, hierarchy: Any, about: str) -> Any:
    """Derive a primary key of a hierarchy by a template and return its handle.

    Raises:
        TpmError: The TPM refuses.
    """
    return tpm.call("create_primary", None, template, hierarchy, about=about)[0]


def _template(tpm: LiveTpm, kind: str) -> Any:
    algorithm, name_alg = AK_TYPES[kind]
    bits = tpm.pytss.TPMA_OBJECT
    # without NODA a TPM in lockout would refuse the key, which has no password to guess
    attributes = (
        bits.FIXEDTPM | bits.FIXEDPARENT | bits.SENSITIVEDATAORIGIN | bits.USERWITHAUTH | bits.NODA
        | bits.RESTRICTED | bits.SIGN_ENCRYPT
    )  # fmt: skip
    return tpm.pytss.TPM2B_PUBLIC.parse(
        algorithm, objectAttributes=attributes, nameAlg=getattr(tpm.pytss.TPM2_ALG, name_alg)
    )


def _derived(tpm: LiveTpm, kind: str) -> LiveKey:
    source = f"attestation key ({kind}) derived from the endorsement seed"
    handle = primary_key(tpm, _template(tpm, kind), tpm.pytss.ESYS_TR.ENDORSEMENT, source)
    return LiveKey(handle, public_area(tpm, handle, source), source)


def _kept(tpm: LiveTpm, folder: Path, kind: str) -> LiveKey:
    source = f"attestation key kept in {folder}"
    parent = _storage_parent(tpm)
    try:
        public, private = _context_files(tpm, folder, kind, parent, source)
        handle = tpm.call("load", parent, private, public, about=source)
    finally:
        tpm.call("flush_context", parent)
    return LiveKey(handle, public_area(tpm, handle, source), source)


def _storage_parent(tpm: LiveTpm) -> Any:
    bits = tpm.pytss.TPMA_OBJECT
    attributes = (
        bits.FIXEDTPM | bits.FIXEDPARENT | bits.SENSITIVEDATAORIGIN | bits.USERWITHAUTH | bits.NODA
        | bits.RESTRICTED | bits.DECRYPT
    )  # fmt: skip
    refused: TpmError | None = None
    for algorithm in _PARENTS:
        template = tpm.pytss.TPM2B_PUBLIC.parse(algorithm, objectAttributes=attributes)
        try:
            return primary_key(tpm, template, tpm.pytss.ESYS_TR.OWNER, "storage parent")
        except TpmError as error:
            refused = refused or error
    raise refused or TpmError("storage parent: no kind of key is known")


def _context_files(tpm: LiveTpm, folder: Path, kind: str, parent: Any, source: str) -> tuple[Any, Any]:
    """Return public and private part; make and keep them where the folder has none."""
    types = (tpm.pytss.TPM2B_PUBLIC, tpm.pytss.TPM2B_PRIVATE)
    paths = [folder / name for name in _CONTEXT_FILES]
    try:
        if not any(path.exists() for path in paths):
            made = tpm.call("create", parent, None, _template(tpm, kind), about=source)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path, part in zip(paths, (made[1], made[0]), strict=True):
                write_private(path, part.marshal())
        blobs = [path.read_bytes()[: _MAX_BLOB + 1] for path in paths]
    except OSError as error:
        raise EvidenceError(f"{folder}: no key can be kept there: {error.strerror or error}") from error
    parts = []
    for path, kind_of, blob in zip(paths, types, blobs, strict=True):
        try:
            part, size = kind_of.unmarshal(blob)
        except (tpm.pytss.TSS2_Exception, ValueError, RuntimeError) as error:
            raise EvidenceError(f"{path}: not a key of the TPM: name an empty folder to make one") from error
        if size != len(blob):
            raise EvidenceError(f"{path}: not a key of the TPM: name an empty folder to make one")
        parts.append(part)
    return parts[0], parts[1]


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read.

    Raises:
        OSError: It exists already, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
