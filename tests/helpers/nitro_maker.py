"""NitroTPM attestation documents of a test authority, after RFC 9052 and AWS's guide."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

MADE = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """Root, intermediate and the key that signs documents, P-384 throughout."""

    made: dt.datetime = MADE
    hours: float = 3
    keys: list[ec.EllipticCurvePrivateKey] = field(default_factory=list)
    certificates: list[x509.Certificate] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = ("aws.nitro-enclaves (test)", "region.aws.nitro-enclaves (test)", "i-0abc.region.aws (test)")
        for index, name in enumerate(names):
            key = ec.generate_private_key(ec.SECP384R1())
            last = index == len(names) - 1
            start = self.made - dt.timedelta(minutes=5)
            end = self.made + (dt.timedelta(hours=self.hours) if last else dt.timedelta(days=900))
            builder = (
                x509.CertificateBuilder()
                .subject_name(_name(name))
                .issuer_name(_name(names[max(index - 1, 0)]))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(start)
                .not_valid_after(end)
                .add_extension(x509.BasicConstraints(ca=not last, path_length=None), critical=True)
            )
            signer = self.keys[-1] if self.keys else key
            self.keys.append(key)
            self.certificates.append(builder.sign(signer, hashes.SHA384()))

    def root_pem(self) -> bytes:
        return self.certificates[0].public_bytes(serialization.Encoding.PEM)

    def der(self) -> list[bytes]:
        return [c.public_bytes(serialization.Encoding.DER) for c in self.certificates]


def payload(authority: Authority, registers: dict[int, bytes], **changes: Any) -> dict[str, Any]:
    """The fields of a document; a change to None leaves one out."""
    fields = {
        "module_id": "i-0abc-tpm0000000000000000",
        "digest": "SHA384",
        "timestamp": int(authority.made.timestamp() * 1000),
        "nitrotpm_pcrs": registers,
        "certificate": authority.der()[-1],
        "cabundle": authority.der()[:-1],
        "public_key": None,
        "user_data": b"what the guest gave",
        "nonce": b"n" * 20,
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not None or key == "public_key"}


def document(
    authority: Authority,
    fields: dict[str, Any],
    *,
    tag: bool = False,
    header: dict[int, Any] | None = None,
    unprotected: dict[Any, Any] | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """COSE_Sign1 by ES384."""
    protected, body = cbor2.dumps({1: -35} if header is None else header), cbor2.dumps(fields)
    signed = cbor2.dumps(["Signature1", protected, b"", body])
    r, s = utils.decode_dss_signature((key or authority.keys[-1]).sign(signed, ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    items = [protected, unprotected or {}, body, signature]
    return bytes(cbor2.dumps(cbor2.CBORTag(18, items) if tag else items))
