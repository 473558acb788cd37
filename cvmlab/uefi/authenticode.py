"""Who signed a PE image: PKCS#7 SignedData with SpcIndirectDataContent, verified.

Sources: RFC 2315, sections 9 and 10; Windows Authenticode Portable Executable Signature Format (2008). If a
signer is *trusted* is not said here: that takes a database of allowed keys.
"""

from __future__ import annotations

import hashlib
import hmac
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cvmlab.errors import ParseError
from cvmlab.uefi import der
from cvmlab.uefi.certificates import CertificateInfo, read_certificate

if TYPE_CHECKING:
    from cvmlab.uefi.pe import PeImage

SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
SPC_INDIRECT_DATA: Final = "1.3.6.1.4.1.311.2.1.4"
CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
DIGESTS: Final = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    # old images are signed so; whether that is enough is for a policy to say
    "sha1": hashes.SHA1(),  # noqa: S303
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
MAX_CHAIN: Final = 16


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature of an image.

    Attributes:
        digest_name: Hash of the image that was signed.
        digest: That hash, as signed.
        digest_holds: True where it is the image's Authenticode digest.
        signature_holds: True where the signature verifies with the signer's certificate.
        problem: Why one of the two does not hold or could not be checked; empty where both hold.
        certificate: The signer's certificate; None where the signature does not carry it.
        chain: The signer's certificate and those above it that the signature carries, as far as each
            verifiably issued the one before.
    """

    digest_name: str
    digest: bytes
    digest_holds: bool
    signature_holds: bool
    problem: str
    certificate: CertificateInfo | None
    chain: tuple[CertificateInfo, ...]

    @property
    def holds(self) -> bool:
        """True where image and signature fit: this certificate's key signed this image."""
        return self.digest_holds and self.signature_holds


def signers(image: PeImage, *, source: str) -> tuple[Signer, ...]:
    """Return the signatures of an image, each verified against the image and its own certificate.

    A signature that cannot be read is left out by an entry whose `Signer.problem` says why.
    """
    found = []
    for number, blob in enumerate(image.signatures):
        name = f"{source} (signature {number})"
        try:
            found.append(_signer(image, blob, name))
        except ParseError as error:
            found.append(Signer("", b"", False, False, str(error), None, ()))
    return tuple(found)


def _signer(image: PeImage, blob: bytes, source: str) -> Signer:
    outer, _ = der.read(blob, source=source)
    content_info = der.children(outer, source=source)
    if len(content_info) != 2 or der.oid(content_info[0], "contentType", source=source) != SIGNED_DATA:
        raise ParseError(source, 0, "contentType", reason="not PKCS#7 signed data")
    signed_data = der.children(
        der.one(content_info[1].body, der.SEQUENCE, "signedData", source=source, base=content_info[1].offset),
        source=source,
    )
    if len(signed_data) < 4:
        raise ParseError(source, 0, "signedData", 4, len(signed_data), "fields missing")
    content = der.children(signed_data[2], source=source)
    if len(content) != 2 or der.oid(content[0], "contentType", source=source) != SPC_INDIRECT_DATA:
        raise ParseError(source, signed_data[2].offset, "contentType", reason="not SpcIndirectDataContent")
    indirect = der.one(content[1].body, der.SEQUENCE, "SpcIndirectDataContent", source=source)
    name, digest = _message_digest(indirect, source)
    certificates = [item for item in signed_data[3:] if item.tag == 0xA0]
    carried = _certificates(certificates[0], source) if certificates else []
    infos = der.children(signed_data[-1], source=source)
    if signed_data[-1].tag != der.SET or len(infos) != 1:
        raise ParseError(source, signed_data[-1].offset, "signerInfos", reason="need exactly one signer")
    fits = name in _HASHES and hmac.compare_digest(image.authenticode(name), digest)
    problem = "" if fits else "the image is not the one that was signed"
    certificate, failure = _verify(infos[0], indirect.body, carried, source)
    chain = _chain(certificate, carried) if certificate is not None else ()
    return Signer(
        digest_name=name,
        digest=digest,
        digest_holds=fits,
        signature_holds=not failure,
        problem=problem or failure,
        certificate=chain[0] if chain else None,
        chain=chain,
    )


def _message_digest(indirect: der.Der, source: str) -> tuple[str, bytes]:
    parts = der.children(indirect, source=source)
    if len(parts) != 2:
        raise ParseError(source, indirect.offset, "SpcIndirectDataContent", 2, len(parts), "fields")
    info = der.children(parts[1], source=source)
    algorithm = der.children(info[0], source=source) if len(info) == 2 else []
    if not algorithm or info[1].tag != der.OCTET_STRING:
        raise ParseError(source, parts[1].offset, "DigestInfo", reason="malformed")
    number = der.oid(algorithm[0], "digestAlgorithm", source=source)
    return DIGESTS.get(number, number), info[1].body


def _certificates(element: der.Der, source: str) -> list[x509.Certificate]:
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in der.children(element, source=source)[:MAX_CHAIN]:
            try:
                certificate = x509.load_der_x509_certificate(item.whole)
                # names are parsed on first use: a certificate with a broken one is none
                certificate.subject.public_bytes()
                certificate.issuer.public_bytes()
            except (ValueError, TypeError):
                continue
            found.append(certificate)
    return found


def _verify(
    info: der.Der, content: bytes, carried: list[x509.Certificate], source: str
) -> tuple[x509.Certificate | None, str]:
    """Verify SignerInfo (RFC 2315, 9.2 to 9.4); return the signer's certificate and why it fails."""
    fields = der.children(info, source=source)
    if len(fields) < 5 or fields[1].tag != der.SEQUENCE:
        raise ParseError(source, info.offset, "signerInfo", 5, len(fields), "fields missing")
    issuer = der.children(fields[1], source=source)
    if len(issuer) != 2:
        raise ParseError(source, fields[1].offset, "issuerAndSerialNumber", reason="malformed")
    serial = int.from_bytes(issuer[1].body, "big", signed=True)
    certificate = next(
        (c for c in carried if c.serial_number == serial and c.issuer.public_bytes() == issuer[0].whole), None
    )
    algorithm = der.children(fields[2], source=source)
    name = DIGESTS.get(der.oid(algorithm[0], "digestAlgorithm", source=source)) if algorithm else None
    attributes = fields[3] if fields[3].tag == 0xA0 else None
    signature = next((f.body for f in fields[4 if attributes else 3 :] if f.tag == der.OCTET_STRING), b"")
    if certificate is None:
        return None, "the signature does not carry its signer's certificate"
    if name is None:
        return certificate, "the hash of the signature is not known"
    signed = content
    if attributes is not None:
        values = _attributes(attributes, source)
        kind = values.get(CONTENT_TYPE)
        if kind is None or der.oid(kind, "contentType", source=source) != SPC_INDIRECT_DATA:
            return certificate, "the signed attributes name another content type"
        digest = values.get(MESSAGE_DIGEST)
        if digest is None or not hmac.compare_digest(digest.body, hashlib.new(name, content).digest()):
            return certificate, "the signed attributes are of other content"
        # the attributes are signed as a SET, not with the implicit tag they are stored under
        signed = b"\x31" + attributes.whole[1:]
    return certificate, _check(certificate, signature, signed, name)


def _attributes(element: der.Der, source: str) -> dict[str, der.Der]:
    found: dict[str, der.Der] = {}
    for item in der.children(element, source=source):
        parts = der.children(item, source=source)
        values = der.children(parts[1], source=source) if len(parts) == 2 else []
        name = der.oid(parts[0], "attribute", source=source) if parts else ""
        if len(values) == 1:
            if name in found:
                raise ParseError(source, item.offset, "authenticatedAttributes", reason=f"{name} twice")
            found[name] = values[0]
    return found


def _check(certificate: x509.Certificate, signature: bytes, signed: bytes, name: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            key = certificate.public_key()
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, signed, padding.PKCS1v15(), _HASHES[name])
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, signed, ec.ECDSA(_HASHES[name]))
            else:
                return "the signer's key is of a kind not known here"
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return "the signature does not verify"
    return ""


def _chain(leaf: x509.Certificate, carried: list[x509.Certificate]) -> tuple[CertificateInfo, ...]:
    """The certificates above the signer's, as far as the signature carries them and each verifies."""
    found = [leaf]
    while len(found) < MAX_CHAIN:
        last = found[-1]
        issuer = next((c for c in carried if c.subject == last.issuer and c not in found), None)
        if issuer is None:
            break
        try:
            last.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            break
        found.append(issuer)
    read = [read_certificate(certificate.public_bytes(Encoding.DER)) for certificate in found]
    return tuple(info for info in read if info is not None)
