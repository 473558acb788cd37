"""The same evidence in each tool's own container, written out here after the tools' sources."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

from attest_messages import message, snp_report_message
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf import json_format, text_format

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Files = dict[str, bytes]
Values = dict[int, bytes]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def files_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def sha256_values(files: Mapping[str, bytes]) -> Values:
    """The SHA-256 register values of an evidence folder's own reading."""
    if "pcrs.json" in files:
        return {int(k): bytes.fromhex(v) for k, v in json.loads(files["pcrs.json"])["sha256"].items()}
    section = files["pcrs.yaml"].decode().split("sha256:")[1].split("sha384:")[0]
    pairs = (line.split(":") for line in section.splitlines() if " : 0x" in line or ": 0x" in line)
    return {int(k): bytes.fromhex(v.strip()[2:]) for k, v in pairs}


def plain_signature(tpmt: bytes) -> bytes:
    """The signature alone, as ``tpm2_quote -f plain`` and Azure's tools store it (RSA)."""
    return tpmt[6:]


def spki(public: bytes) -> bytes:
    """DER SubjectPublicKeyInfo of the RSA key in a TPM2B_PUBLIC."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    size = struct.unpack(">H", public[-258:-256])[0]
    assert size == 256
    key = rsa.RSAPublicNumbers(65537, int.from_bytes(public[-256:], "big")).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)


def der(pem: bytes) -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        certificate = x509.load_pem_x509_certificate(pem)
    return certificate.public_bytes(serialization.Encoding.DER)


def bincode(files: Files) -> bytes:
    signature, values = plain_signature(files["quote.sig"]), sha256_values(files)
    return b"".join((
        struct.pack("<Q", len(signature)), signature,
        struct.pack("<Q", len(files["quote.msg"])), files["quote.msg"],
        struct.pack("<Q", 24), *(values[index] for index in range(24)),
    ))  # fmt: skip


def trustee_v0(files: Files) -> dict[str, Any]:
    values = sha256_values(files)
    return {
        "quote": {
            "signature": list(plain_signature(files["quote.sig"])),
            "message": list(files["quote.msg"]),
            "pcrs": [list(values[index]) for index in range(24)],
        },
        "report": list(files["hcl_report.bin"]),
        "vcek": files["vcek.pem"].decode(),
    }


def trustee_v1(files: Files, version: int = 1) -> dict[str, Any]:
    values = sha256_values(files)
    return {
        "version": version,
        "hcl_report": b64url(files["hcl_report.bin"]),
        "tpm_quote": {
            "signature": plain_signature(files["quote.sig"]).hex(),
            "message": files["quote.msg"].hex(),
            "pcrs": [values[index].hex() for index in range(24)],
        },
        "vcek": b64url(der(files["vcek.pem"])),
    }


def trustee_tpm(files: Files) -> dict[str, Any]:
    values = sha256_values(files)
    return {
        "svn": "1",
        "report_data": b64(b"what the caller asked for"),
        "tpm_quote": {
            "message": b64(files["quote.msg"]),
            "signature": b64(files["quote.sig"]),
            "pcrs": [values[index].hex() for index in range(24)],
        },
        "ak_public": b64(spki(files["ak.pub"])),
    }


def maa(files: Files, *, wrap: bool = True) -> dict[str, Any]:
    values = sha256_values(files)
    report = files["hcl_report.bin"]
    size = int.from_bytes(report[0x4D0:0x4D4], "little")
    proof = {"SnpReport": b64url(report[0x20:0x4C0]), "VcekCertChain": b64url(files["vcek.pem"])}
    info = {
        "AttestationProtocolVersion": "2.0",
        "OSType": b64(b"Linux"),
        "TcgLogs": b64(files["eventlog.bin"]),
        "ClientPayload": b64(b""),
        "TpmInfo": {
            "AikCert": b64(files["ak.crt"] + bytes(4096 - len(files["ak.crt"]))),
            "AikPub": b64(files["ak.pub"]),
            "PcrQuote": b64(files["quote.msg"]),
            "PcrSignature": b64(files["quote.sig"]),
            "EncKeyPub": b64(b"an ephemeral key"),
            "PcrSet": list(range(24)),
            "PCRs": [{"Index": index, "Digest": b64(values[index])} for index in range(24)],
        },
        "IsolationInfo": {
            "Type": "SevSnp",
            "Evidence": {
                "Proof": b64url(json.dumps(proof).encode()),
                "RunTimeData": b64url(report[0x4D4 : 0x4D4 + size]),
            },
        },
    }
    return {"attestationInfo": b64url(json.dumps(info).encode())} if wrap else info


def attestation(files: Files) -> Any:
    """``attest.Attestation`` of a folder: every quote with the register values of its bank."""
    quotes = []
    for name in sorted(files):
        if name.startswith("quote") and name.endswith(".msg"):
            pcrs = message("PCRs", hash=0x000B, pcrs=sha256_values(files))
            quotes.append(message("Quote", quote=files[name], raw_sig=files[name[:-3] + "sig"], pcrs=pcrs))
    found = message(
        "Attestation",
        ak_pub=files["ak.pub"][2:],
        quotes=quotes,
        event_log=files["eventlog.bin"],
        instance_info=message("GCEInstanceInfo", zone="a-zone", instance_id=7),
        ak_cert=files.get("ak.crt", b""),
        intermediate_certs=[der(files[name]) for name in sorted(files) if name.startswith("ca-")],
    )
    if "snp_report.bin" in files:
        found.sev_snp_attestation.report.CopyFrom(snp_report_message(files["snp_report.bin"]))
        found.sev_snp_attestation.certificate_chain.vcek_cert = der(files["vcek.pem"])
    return found


def public(machine: Any) -> bytes:
    """TPM2B_PUBLIC of a made-up machine's key."""
    from quoting import public_area

    return public_area(machine.key, machine.attributes)


def encoded(found: Any, form: str) -> bytes:
    """A message in one of protobuf's forms."""
    if form == "binary":
        return bytes(found.SerializeToString())
    if form == "json":
        return json_format.MessageToJson(found).encode()
    return text_format.MessageToString(found).encode()


def gotpm_binary(files: Files) -> bytes:
    return encoded(attestation(files), "binary")


def gotpm_json(files: Files) -> bytes:
    return encoded(attestation(files), "json")


def gotpm_text(files: Files) -> bytes:
    return encoded(attestation(files), "text")


def go_platform(files: Files) -> dict[str, Any]:
    values = sha256_values(files)
    return {
        "TPMVersion": 2,
        "Public": b64(files["ak.pub"][2:]),
        "Quotes": [{"Version": 2, "Quote": b64(files["quote.msg"]), "Signature": b64(files["quote.sig"])}],
        "PCRs": [{"Index": i, "Digest": b64(values[i]), "DigestAlg": 5} for i in range(24)],
        "EventLog": b64(files["eventlog.bin"]),
    }


def go_dump(files: Files) -> dict[str, Any]:
    platform = go_platform(files)
    return {
        "Static": {"TPMVersion": 2, "EKPem": None},
        "AK": {
            "Public": platform["Public"],
            "UseTCSDActivationFormat": False,
            "CreateData": b64(b"creation"),
            "CreateAttestation": b64(b"attestation"),
            "CreateSignature": b64(b"signature"),
        },
        "Quote": {
            "Nonce": "",
            "Alg": 11,
            "Quote": b64(files["quote.msg"]),
            "Signature": b64(files["quote.sig"]),
        },
        "Log": {"PCRs": platform["PCRs"], "PCRAlg": 11, "Raw": platform["EventLog"]},
    }


def serialized_pcrs(values: Values, algorithm: int = 0x000B) -> bytes:
    """tpm2-tools 5, ``-o`` with ``-F serialized``: TPML_PCR_SELECTION and TPML_DIGEST as C lays them out."""
    bits = sum(1 << index for index in values).to_bytes(3, "little")
    slots = struct.pack("<HB3s2x", algorithm, 3, bits) + bytes(8) * 15
    ordered = [values[index] for index in sorted(values)]
    blocks = b""
    for start in range(0, len(ordered), 8):
        part = ordered[start : start + 8]
        filled = b"".join(struct.pack("<H", len(value)) + value.ljust(64, b"\0") for value in part)
        blocks += struct.pack("<I", len(part)) + filled.ljust(8 * 66, b"\0")
    return struct.pack("<I", 1) + slots + struct.pack("<I", -(-len(ordered) // 8)) + blocks


def keylime_quote(files: Files, *, compressed: bool = False) -> str:
    parts = (files["quote.msg"], files["quote.sig"], serialized_pcrs(sha256_values(files)))
    return "r" + ":".join(b64(zlib.compress(part) if compressed else part) for part in parts)


def keylime(files: Files, *, wrap: bool = True) -> dict[str, Any]:
    answer = {
        "quote": keylime_quote(files),
        "hash_alg": "sha256",
        "enc_alg": "rsa",
        "sign_alg": "rsassa",
        "pubkey": "-----BEGIN PUBLIC KEY-----\n",
        "mb_measurement_list": b64(files["eventlog.bin"]),
        "ima_measurement_list_entry": 0,
    }
    if "ima_ascii.log" in files:
        answer["ima_measurement_list"] = files["ima_ascii.log"].decode()
    return {"code": 200, "status": "Success", "results": answer} if wrap else answer


def constellation(
    files: Files, info: dict[str, Any] | None = None, *, go_names: bool = False
) -> dict[str, Any]:
    found = attestation(files)
    inner = json_format.MessageToDict(found, preserving_proto_field_name=go_names)
    if go_names:
        for quote in inner["quotes"]:
            quote["pcrs"]["hash"] = 11
    return {
        "Attestation": inner,
        "InstanceInfo": b64(json.dumps(info or {}).encode()),
        "UserData": b64(b"user data"),
    }


def azure_instance_info(files: Files) -> dict[str, Any]:
    report = files["hcl_report.bin"]
    size = int.from_bytes(report[0x4D0:0x4D4], "little")
    leaf, _, chain = files["vcek.pem"].decode().partition("-----END CERTIFICATE-----\n")
    return {
        "ReportSigner": b64(f"{leaf}-----END CERTIFICATE-----\n".encode()),
        "CertChain": b64(chain.encode()),
        "AttestationReport": b64(report[0x20:0x4C0]),
        "Azure": {"RuntimeData": b64(report[0x4D4 : 0x4D4 + size]), "MAAToken": ""},
        "GCP": None,
    }
