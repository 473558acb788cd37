"""Makes attestation tokens and key sets like Azure's: self-signed certificates in x5c, no n and e.

Signatures are made with the primitives of ``cryptography``, written out here, so that neither the product nor
the library it verifies with has a part in them.
"""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

ISSUER = "https://sharedeus.eus.attest.azure.net"
ISSUED = datetime(2030, 1, 31, 12, tzinfo=UTC)
AT = ISSUED + timedelta(hours=1)
VM_ID = "2DEDC52A-6832-46CE-9910-E8C9980BF5A7"
HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@cache
def private_key(kind: str = "rsa"):
    """One key a kind for all tests of a process: making RSA keys is slow."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=1024 if kind == "rsa-short" else 2048)
    return ec.generate_private_key({"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}[kind]())


def certificate(key, *, start=ISSUED - timedelta(days=30), end=ISSUED + timedelta(days=365)) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def jwk(key, kid: str | None = "k1", *, bare: bool = False, certified: bytes | None = None, **more) -> dict:
    """A JWK: with a certificate alone, as Azure's are, or `bare`, with numbers alone."""
    found: dict[str, object] = {"kty": "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC"}
    if kid is not None:
        found["kid"] = kid
    if bare:
        found |= numbers(key)
    else:
        found["x5c"] = [base64.b64encode(certified or certificate(key)).decode()]
    return found | more


def numbers(key) -> dict:
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"n": number(public.n), "e": number(public.e)}
    size = (key.curve.key_size + 7) // 8
    curve = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
    return {"crv": curve, "x": number(public.x, size), "y": number(public.y, size)}


def jwks(*keys: dict) -> bytes:
    return json.dumps({"keys": list(keys or (jwk(private_key()),))}).encode()


def signature(key, algorithm: str, data: bytes) -> bytes:
    digest = HASHES[algorithm[2:]]()
    if algorithm.startswith("RS"):
        return key.sign(data, padding.PKCS1v15(), digest)
    if algorithm.startswith("PS"):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def token(claims: dict | None = None, *, key=None, header: dict | None = None, alg: str = "RS256") -> bytes:
    """A signed token. `header` replaces members; None removes one."""
    members = {"alg": alg, "jku": f"{ISSUER}/certs", "kid": "k1", "typ": "JWT", **(header or {})}
    members = {name: value for name, value in members.items() if value is not None}
    return signed(json.dumps(members).encode(), json.dumps(claims or guest()).encode(), key=key, alg=alg)


def signed(header: bytes, payload: bytes, *, key=None, alg: str = "RS256") -> bytes:
    """Sign header and payload as they are, JSON or not."""
    text = f"{b64(header)}.{b64(payload)}".encode()
    return text + b"." + b64(signature(key or private_key(), alg, text)).encode()


def times() -> dict:
    start = int(ISSUED.timestamp())
    return {"iat": start, "nbf": start, "exp": start + 8 * 3600}


def snp() -> dict:
    """Claims of a SEV-SNP report: names of Azure Attestation's published token examples."""
    return {
        "x-ms-attestation-type": "sevsnpvm",
        "x-ms-compliance-status": "azure-compliant-cvm",
        "x-ms-runtime": {
            "keys": [
                {"kid": "HCLAkPub", "kty": "RSA", "key_ops": ["sign"], **numbers(private_key("rsa-ak"))}
            ],
            "vm-configuration": {"secure-boot": True, "tpm-enabled": True, "vmUniqueId": VM_ID.lower()},
        },
        "x-ms-sevsnpvm-is-debuggable": False,
        "x-ms-sevsnpvm-migration-allowed": False,
        "x-ms-sevsnpvm-vmpl": 0,
        "x-ms-sevsnpvm-launchmeasurement": "fe" * 48,
    }


def tdx() -> dict:
    """Claims of a TD quote: names of the EAT profile for TDX."""
    return {
        "x-ms-attestation-type": "tdxvm",
        "x-ms-compliance-status": "azure-compliant-cvm",
        "attester_tcb_status": "UpToDate",
        "dbgstat": "disabled",
        "eat_profile": "https://aka.ms/maa-eat-profile-tdxvm",
        "tdx_td_attributes": "00" * 8,
        "tdx_td_attributes_debug": False,
        "tdx_seam_attributes": "00" * 8,
        "tdx_mrsignerseam": "00" * 48,
        "tdx_mrtd": "5b" * 48,
    }


def platform(claims: dict) -> dict:
    return {"iss": ISSUER, "x-ms-ver": "1.0", **times(), **claims}


def guest(isolation: dict | None = None, **changes) -> dict:
    """Claims of a guest token (azurevm) with the hardware's nested; `changes` go to the top."""
    off = dict.fromkeys(
        ("bootdebug", "kerneldebug", "hypervisordebug", "testsigning", "flightsigning"), False
    )
    on = (
        "dbvalidated",
        "dbxvalidated",
        "debuggersdisabled",
        "signingdisabled",
        "default-securebootkeysvalidated",
    )
    claims = {
        "iss": ISSUER,
        "jti": "1",
        "x-ms-ver": "1.0",
        **times(),
        "secureboot": True,
        "x-ms-attestation-type": "azurevm",
        "x-ms-azurevm-attested-pcrs": [0, 1, 2, 3, 4, 5, 6, 7],
        **{f"x-ms-azurevm-{name}-enabled": value for name, value in off.items()},
        **{f"x-ms-azurevm-{name}": True for name in on},
        "x-ms-azurevm-vmid": VM_ID,
        "x-ms-isolation-tee": isolation or snp(),
        "x-ms-policy-hash": "wm9mHlvTU82e8UqoOy1Yj1FBRSNkfe99-69IYDq9eWs",
        "x-ms-runtime": {"client-payload": {"nonce": "MTIzNA=="}, "keys": []},
    }
    return copy.deepcopy({**claims, **changes})
