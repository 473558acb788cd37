"""Files of tpm2-tools under any name: quotes, signatures, keys, register values, certificates, by content.

What a file is, its bytes say: TPMS_ATTEST or TPM2B_ATTEST, TPMT_SIGNATURE, TPM2B_PUBLIC or TPMT_PUBLIC, the
binary form of ``tpm2_quote -o``, the text of ``tpm2_pcrread`` and ``tpm2_readclock``, PEM and DER. Which
signature is of which quote, a key in the folder says that verifies it; where none does, what is left over
goes together, so that a signature that is wrong is judged and not overlooked. Source: tpm2-tools, ``man
tpm2_quote``, ``tpm2_checkquote``, ``tpm2_createak``; TPM 2.0 Library, Part 2, 10.12, 11.3.4 and 12.2.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from cvmlab.errors import CvmlabError, ParseError, VerificationError
from cvmlab.evidence.certificates import read_certificates
from cvmlab.tee.hcl import jwk_key, looks_like_hcl_report, parse_hcl_report
from cvmlab.tpm.attest import parse_attest, signed_bytes
from cvmlab.tpm.pcrs import looks_serialized, read_registers
from cvmlab.tpm.public import TpmPublic, load_public_key, parse_public, spki_sha256
from cvmlab.tpm.quote import pcr_digest
from cvmlab.tpm.signature import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509

    from cvmlab.tpm.signature import AttestationKey

MAX_SIZE: Final = 64 << 10
"""Largest file that is looked at; the TPM's structures have at most a few KB."""
MAX_TRIES: Final = 256
"""Most signatures verified to find what belongs together."""
_MAGIC: Final = b"\xff\x54\x43\x47"
_QUOTE: Final = 0x8018
_ATTESTATIONS: Final = range(0x8014, 0x801E)
_PLAIN_RSA: Final = frozenset({256, 384, 512})
_BANK_LINE: Final = re.compile(rb"^[ \t]*sha(?:1|256|384|512|3_256)[ \t]*:[ \t]*\r?$", re.MULTILINE)
_VALUE_LINE: Final = re.compile(rb"^[ \t]*\d{1,2}[ \t]*:[ \t]*0x[0-9A-Fa-f]{40}", re.MULTILINE)
_CLOCK: Final = re.compile(rb"^[ \t]*reset_count[ \t]*:", re.MULTILINE)
_IMA: Final = re.compile(rb"\s{0,2}10 [0-9a-f]{40} (?:ima|evm)[a-z0-9-]* ")
_EK_USE, _AK_USE = "2.23.133.8.1", "2.23.133.8.3"


class Placement(NamedTuple):
    """What a file is taken for: a name of the evidence directory, or only a remark on why it is not used."""

    name: str
    note: str


@dataclass(slots=True)
class _Found:
    """What the files are."""

    messages: dict[str, bytes] = field(default_factory=dict)
    signatures: dict[str, bytes] = field(default_factory=dict)
    publics: dict[str, TpmPublic] = field(default_factory=dict)
    bare: dict[str, AttestationKey] = field(default_factory=dict)
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    placed: dict[str, Placement] = field(default_factory=dict)


def place(loose: Sequence[tuple[str, bytes]], known: Sequence[tuple[str, bytes]]) -> dict[str, Placement]:
    """Say what files without a known name are.

    A name that is there says what counts: beside ``quote.msg`` no other quote is taken, beside ``ak.pub`` no
    other key. What is not taken is remarked.

    Args:
        loose: Name and bytes of each such file.
        known: The same of files that have a name of the evidence directory: what is placed goes with them.

    Returns:
        File name to its place; files that are nothing of a TPM's are left out.
    """
    found = _Found()
    for name, data in loose:
        if 0 < len(data) <= MAX_SIZE or _IMA.match(data):
            _look(found, name, data)
    names = [name for name, _ in known]
    for name, placed in found.placed.items():
        if placed.name and _there(names, placed.name):
            found.placed[name] = Placement("", f"{placed.note}; {placed.name} is there, so it is not used")
    keys = [*_known_keys(known), *found.publics.values(), *found.bare.values()]
    keys += [key for c in found.certificates.values() if (key := _certified(c)) is not None]
    messages = {name[:-4]: data for name, data in known if _is_message(name)}
    waiting = {stem: data for stem, data in messages.items() if f"{stem}.sig" not in names}
    if messages:
        for name in found.messages:
            found.placed[name] = Placement(
                "", "a quote, by content; there are others by name, so it is not used"
            )
    else:
        taken: set[str] = set()
        for name, data in sorted(found.messages.items()):
            stem = free_stem(taken, name)
            taken.add(stem)
            waiting[stem] = data
            found.placed[name] = Placement(f"{stem}.msg", "a quote, by content")
    signers = _pair(found, waiting, keys)
    _place_keys(found, signers, known)
    _place_certificates(found, known, signers)
    if not _there(names, "pcrs.bin"):
        _place_values(found, loose, [*found.messages.values(), *messages.values()])
    return found.placed


def _is_message(name: str) -> bool:
    return name.startswith("quote") and name.endswith(".msg")


def _there(names: Iterable[str], name: str) -> bool:
    """Tell whether a file of a kind is there by name: ``pcrs.yaml`` is one of the kind of ``pcrs.bin``."""
    kind = name.partition(".")[0].partition("_")[0]
    return any(other.partition(".")[0].partition("_")[0] == kind for other in names)


def free_stem(taken: Iterable[str], name: str) -> str:
    """Return ``quote``, or where that is taken ``quote-NAME`` after a file, in the directory's characters."""
    held = set(taken)
    if "quote" not in held:
        return "quote"
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", name.rsplit(".", 1)[0])[:48].strip("-.") or "other"
    stem, count = f"quote-{label}", 1
    while stem in held:
        count += 1
        stem = f"quote-{label}-{count}"
    return stem


def _look(found: _Found, name: str, data: bytes) -> None:
    start = 0 if data[:4] == _MAGIC else 2 if data[2:6] == _MAGIC else -1
    if start >= 0:
        kind = int.from_bytes(data[start + 4 : start + 6], "big")
        if kind == _QUOTE or kind not in _ATTESTATIONS:
            found.messages[name] = data
        else:
            found.placed[name] = Placement("", "an attestation by a TPM of something else than registers")
    elif data.lstrip()[:10] == b"-----BEGIN":
        _look_at_pem(found, name, data)
    elif looks_serialized(data):
        found.placed[name] = Placement("pcrs.bin", "register values of tpm2-tools, by content")
    elif _BANK_LINE.search(data, 0, 4096) and _VALUE_LINE.search(data, 0, 8192):
        found.placed[name] = Placement("pcrs.yaml", "register values as tpm2_pcrread prints them, by content")
    elif _CLOCK.search(data, 0, 4096) and data[:4096].isascii():
        found.placed[name] = Placement("clock.yaml", "the clock as tpm2_readclock prints it, by content")
    elif _IMA.match(data):
        found.placed[name] = Placement("ima_ascii.log", "an IMA list, by content")
    else:
        _look_at_binary(found, name, data)


def _look_at_pem(found: _Found, name: str, data: bytes) -> None:
    try:
        if b"BEGIN CERTIFICATE" in data[:64]:
            found.certificates[name] = read_certificates(data, source=name)[0]
        elif b"BEGIN PUBLIC KEY" in data[:64]:
            found.bare[name] = load_public_key(data, source=name)
    except ParseError as error:
        found.placed[name] = Placement("", f"PEM that cannot be used: {error.message}")


def _look_at_binary(found: _Found, name: str, data: bytes) -> None:
    try:
        found.publics[name] = parse_public(data, source=name)
    except ParseError:
        pass
    else:
        return
    try:
        signature = parse_signature(data, source=name)
    except CvmlabError:
        signature = None
    if signature is not None and not signature.plain:
        found.signatures[name] = data
        return
    if data[:2] in (b"\x30\x82", b"\x30\x81"):
        try:
            found.certificates[name] = read_certificates(data, source=name)[0]
        except ParseError:
            pass
        else:
            return
        try:
            found.bare[name] = load_public_key(data, source=name)
        except ParseError:
            pass
        else:
            return
    if len(data) in _PLAIN_RSA or signature is not None:
        found.plain[name] = data


def _known_keys(known: Iterable[tuple[str, bytes]]) -> list[AttestationKey]:
    """Attestation keys of files with a known name, and the one that an HCL report names."""
    keys: list[AttestationKey] = []
    for name, data in known:
        try:
            if name.startswith("ak") and name.endswith(".pub"):
                keys.append(parse_public(data, source=name))
            elif name.startswith("ak") and not name.endswith(".name"):
                keys.append(load_public_key(data, source=name))
            elif looks_like_hcl_report(data):
                jwk = parse_hcl_report(data, source=name).key("HCLAkPub")
                if jwk is not None:
                    keys.append(jwk_key(jwk, source=name))
        except ParseError:
            continue
    return keys


def _certified(certificate: x509.Certificate) -> AttestationKey | None:
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return load_public_key(certificate.public_bytes(Encoding.DER), source="")
    except ParseError:
        return None


def _pair(found: _Found, waiting: dict[str, bytes], keys: Sequence[AttestationKey]) -> set[str]:
    """Give each quote its signature; return the fingerprints of the keys that verify one."""
    signers: set[str] = set()
    tries = 0
    for candidates, what in ((found.signatures, "a signature"), (found.plain, "a plain signature")):
        for name, data in sorted(candidates.items()):
            for stem, message in sorted(waiting.items()):
                for key in keys:
                    tries += 1
                    if tries > MAX_TRIES or not _verifies(key, data, message):
                        continue
                    found.placed[name] = Placement(f"{stem}.sig", f"{what} that a key here verifies")
                    signers.add(_spki(key))
                    break
                if name in found.placed:
                    del waiting[stem]
                    break
    left = [name for name in sorted(found.signatures) if name not in found.placed]
    if not left:
        left = [name for name in sorted(found.plain) if name not in found.placed]
    for name in left:
        if len(left) == 1 and len(waiting) == 1:
            stem = next(iter(waiting))
            found.placed[name] = Placement(f"{stem}.sig", "the only signature left, for the only quote left")
            del waiting[stem]
        elif name in found.signatures:
            found.placed[name] = Placement(
                "", "a signature, and no key here says of which quote; evidence.json can"
            )
    return signers


def _verifies(key: AttestationKey, data: bytes, message: bytes) -> bool:
    try:
        attest = parse_attest(message, source="")
        size = {20: "sha1", 48: "sha384", 64: "sha512"}.get(len(attest.pcr_digest), "sha256")
    except CvmlabError:
        size = "sha256"
    try:
        signature = parse_signature(data, source="", key=key, default_hash=size)
        verify_signature(key, signature, signed_bytes(message))
    except CvmlabError:
        return False
    return True


def _spki(key: AttestationKey) -> str:
    return spki_sha256(key.key if isinstance(key, TpmPublic) else key)


def _place_keys(found: _Found, signers: set[str], known: Sequence[tuple[str, bytes]]) -> None:
    """A key that signs is the attestation key, one that decrypts under a policy the endorsement key."""
    names = [name for name, _ in known]
    has_ak, has_ek = _there(names, "ak.pub"), _there(names, "ek.pub")
    for name, public in sorted(found.publics.items()):
        if (has_ak and public.signing) or (has_ek and public.decrypt):
            found.placed[name] = Placement("", "a key, by content; one is there by name, so it is not used")
        elif public.spki_sha256 in signers:
            found.placed[name] = Placement("ak.pub", "the key that signed a quote, by content")
        elif public.restricted and public.decrypt and public.auth_policy:
            found.placed[name] = Placement("ek.pub", "an endorsement key, by its attributes")
        elif public.signing and not signers:
            found.placed[name] = Placement("ak.pub", "a signing key, by its attributes")
        else:
            kind = "a signing key that signed no quote here" if public.signing else "a storage key"
            found.placed[name] = Placement("", kind)
    placed = {found.publics[n].spki_sha256 for n, p in found.placed.items() if n in found.publics and p.name}
    for name, key in sorted(found.bare.items()):
        alone = not signers and not any(public.signing for public in found.publics.values())
        if has_ak:
            found.placed[name] = Placement("", "a key, by content; one is there by name, so it is not used")
        elif _spki(key) in signers or (alone and len(found.bare) == 1):
            found.placed[name] = Placement("ak.pem", "the attestation key, by content")
        elif _spki(key) in placed:
            found.placed[name] = Placement("", "a key that is here with its attributes too")
        else:
            found.placed[name] = Placement("", "a key that signed no quote here")


def _place_certificates(found: _Found, known: Sequence[tuple[str, bytes]], signers: set[str]) -> None:
    """A certificate is of the key that it certifies; what signs itself is no intermediate."""
    own = {found.publics[n].spki_sha256: p.name[:2] for n, p in found.placed.items() if n in found.publics}
    own |= {_spki(found.bare[n]): p.name[:2] for n, p in found.placed.items() if n in found.bare}
    own |= {_spki(key): "ak" for key in _known_keys(known)} | dict.fromkeys(signers, "ak")
    crt = {name[:2] for name, _ in known if ".crt" in name}
    for name, certificate in sorted(found.certificates.items()):
        key = _certified(certificate)
        uses = _uses(certificate)
        role = own.get(_spki(key), "") if key is not None else ""
        role = role or ("ek" if _EK_USE in uses else "ak" if _AK_USE in uses else "")
        if role and role not in crt:
            what = "endorsement" if role == "ek" else "attestation"
            found.placed[name] = Placement(f"{role}.crt", f"a certificate of an {what} key, by content")
        elif role:
            found.placed[name] = Placement("", f"a certificate; {role}.crt is there, so it is not used")
        elif certificate.subject == certificate.issuer:
            note = "a certificate that signs itself: only the verifier can give a root (--trust-root)"
            found.placed[name] = Placement("", note)
        elif _is_authority(certificate):
            label = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:64]
            found.placed[name] = Placement(f"ca-{label}.pem", "a certificate of an authority, by content")


def _uses(certificate: x509.Certificate) -> set[str]:
    from cryptography import x509 as library

    try:
        usage = certificate.extensions.get_extension_for_class(library.ExtendedKeyUsage).value
    except (library.ExtensionNotFound, ValueError):
        return set()
    return {oid.dotted_string for oid in usage}


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509 as library

    try:
        return certificate.extensions.get_extension_for_class(library.BasicConstraints).value.ca
    except (library.ExtensionNotFound, ValueError):
        return False


def _place_values(found: _Found, loose: Sequence[tuple[str, bytes]], messages: Sequence[bytes]) -> None:
    """Bare register values (``tpm2_quote -F values``) are those that hash to a quote's digest."""
    quotes = []
    for message in messages:
        try:
            quotes.append(parse_attest(message, source=""))
        except CvmlabError:
            continue
    for name, data in loose:
        if name in found.placed or len(data) > 24 * 64 * 4 or len(data) % 4:
            continue
        for attest in quotes:
            try:
                reading = read_registers(data, source=name, selections=attest.selections)
                size = {20: "sha1", 48: "sha384", 64: "sha512"}.get(len(attest.pcr_digest), "sha256")
                if pcr_digest(attest.selections, reading.values, size) == attest.pcr_digest:
                    found.placed[name] = Placement("pcrs.bin", "the register values of a quote, by content")
                    break
            except (ParseError, VerificationError):
                continue
