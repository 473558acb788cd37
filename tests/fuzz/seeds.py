"""Inputs that coverage-guided runs start from, built here after the formats' specifications.

The sample boots have firmware and IMA logs; what they lack (Windows trees, canonical logs, hardware reports)
is made here, so that a run starts behind the first checks.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
from pathlib import Path

import cbor2

HASH = bytes(range(32))
P256_X = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"
P256_Y = "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
"""The base point of the curve (NIST SP 800-186, 3.2.1.3)."""


def _tlv(kind: int, value: bytes) -> bytes:
    """CEL 1.0, section 5.1."""
    return bytes([kind]) + struct.pack(">I", len(value)) + value


def _ima_template() -> bytes:
    """Template ``ima-ng``: each field behind its length (IMA-templates.rst)."""
    digest, path = b"sha256:\0" + HASH, b"/usr/bin/true\0"
    return b"".join(struct.pack("<I", len(part)) + part for part in (digest, path))


def cel() -> list[bytes]:
    """One log of every content type in each encoding."""
    head = _tlv(0, bytes(8)) + _tlv(1, b"\0\0\0\x0a") + _tlv(3, _tlv(11, HASH) + _tlv(4, HASH[:20]))
    contents = (
        _tlv(5, _tlv(0, b"\0\0\0\x05") + _tlv(1, b"text")),
        _tlv(7, _tlv(0, b"ima-ng") + _tlv(1, _ima_template())),
        _tlv(8, _tlv(0, b"/bin\0") + _tlv(1, HASH)),
        _tlv(4, _tlv(1, b"\1\0")),
        _tlv(9, b"phase"),
        _tlv(80, _tlv(0, b"image")),
    )
    digests = [{"hashAlg": "sha256", "digest": HASH.hex()}]
    records: list[dict[object, object]] = [
        {"recnum": 0, "pcr": 4, "digests": digests, "content_type": kind, "content": content}
        for kind, content in (
            ("pcclient_std", {"event_type": "EV_ACTION", "event_data": "74657874"}),
            ("ima_template", {"template_name": "ima-ng", "template_data": _ima_template().hex()}),
            ("systemd", {"string": "enter-initrd", "eventType": "phase"}),
            ("cel", [{"type": "cel_version", "data": {"major": 1, "minor": 0}}]),
        )
    ]
    numbers = [{0: 0, 1: 4, 3: [{0: 11, 1: HASH}], 5: {0: 5, 1: b"text"}}]
    return [
        b"".join(head + content for content in contents),
        json.dumps(records).encode(),
        cbor2.dumps(records),
        cbor2.dumps(numbers),
        b"".join(b"\x1e" + json.dumps(record).encode() + b"\n" for record in records),
    ]


def _sipa(kind: int, payload: bytes) -> bytes:
    """Tagged event of ``wbcl.h``: id, size, payload."""
    return struct.pack("<II", kind, len(payload)) + payload


def sipa() -> list[bytes]:
    """A trust boundary with settings and a loaded module, and pieces of it."""
    module = (
        _sipa(0x00070001, "\\Windows\\System32\\ntoskrnl.exe\0".encode("utf-16-le"))
        + _sipa(0x00070002, (1 << 20).to_bytes(8, "little"))
        + _sipa(0x00070003, (0x800C).to_bytes(4, "little"))
        + _sipa(0x00070004, HASH)
        + _sipa(0x00070005, "Microsoft\0".encode("utf-16-le"))
        + _sipa(0x00070009, b"\1")
    )
    inside = (
        _sipa(0x00020001, b"\1")
        + _sipa(0x00040001, b"\0")
        + _sipa(0x00050001, (1).to_bytes(4, "little"))
        + _sipa(0x40010003, module)
        + _sipa(0x40010002, _sipa(0x00090001, HASH))
    )
    return [_sipa(0x40010001, inside), module, _sipa(0xC0010004, inside)]


def wrapped(log: bytes) -> list[bytes]:
    """The first events of a log in text, JSON, protobuf and registry exports."""
    short = log[:1500]
    packed = base64.b64encode(short)
    reg = ",".join(f"{byte:02x}" for byte in short)
    return [
        packed,
        short.hex().encode(),
        json.dumps({"TcgLogs": packed.decode(), "Pcrs": [0, 1]}).encode(),
        b"\x1a" + bytes([len(short) & 127 | 128, len(short) >> 7]) + short,
        f'Windows Registry Editor Version 5.00\r\n\r\n[HKEY]\r\n"WBCL"=hex:{reg}\r\n'.encode(),
    ]


def ccel(log: bytes) -> list[bytes]:
    """ACPI table and area (ACPI 6.5, section 5.2.34)."""
    table = bytearray(b"CCEL" + struct.pack("<I", 56) + b"\1\0" + bytes(26) + b"\2\0\0\0")
    table += struct.pack("<QQ", 65536, 0x7F000000)
    table[9] = -sum(table) % 256
    return [bytes(table) + log[:2000], bytes(table)]


def snp_report() -> bytes:
    """Version 3 of an SNP report (SEV-SNP ABI, table 23): bit 17 of the policy is one."""
    return struct.pack("<IIQ", 3, 0, 1 << 17) + bytes(0x4A0 - 16)


def td_quote() -> bytes:
    """Version 4 of a TD quote (Intel TDX DCAP, appendix A)."""
    chain = struct.pack("<HI", 5, 4) + b"none"
    inner = bytes(384 + 64) + struct.pack("<H", 2) + b"au" + chain
    area = bytes(128) + struct.pack("<HI", 6, len(inner)) + inner
    return struct.pack("<HHI", 4, 2, 0x81) + bytes(40) + bytes(584) + struct.pack("<I", len(area)) + area


def hcl_report() -> bytes:
    """An HCL report around an SNP report."""
    claims = b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"AQAB"}],"user-data":"00"}'
    size = 20 + len(claims)
    head = b"HCLA" + struct.pack("<IIII", 2, 32 + 1184 + size, 2, 0) + bytes(12)
    return head + snp_report() + struct.pack("<IIIII", size, 1, 2, 1, len(claims)) + claims


def _token(claims: dict[str, object], **header: object) -> bytes:
    """A token that nobody signed."""
    parts = [
        json.dumps({"alg": "RS256", "kid": "k1", **header}).encode(),
        json.dumps(claims).encode(),
        bytes(256),
    ]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def tokens() -> list[bytes]:
    """A guest token with nested claims of the hardware, a platform token, and a service's answer."""
    key = {"kid": "HCLAkPub", "kty": "RSA", "n": "AQAB", "e": "AQAB"}
    runtime = {"keys": [key], "vm-configuration": {"vmUniqueId": "id"}}
    times = {"iss": "https://x.attest.azure.net", "exp": 1896105600, "iat": 1896076800, "nbf": 1896076800}
    snp = {"x-ms-attestation-type": "sevsnpvm", "x-ms-runtime": runtime, "x-ms-sevsnpvm-vmpl": 0}
    tdx = {"x-ms-attestation-type": "tdxvm", "tdx_td_attributes": "00" * 8, "dbgstat": "disabled", **times}
    nonce = {"client-payload": {"nonce": "MTIzNA=="}}
    guest = {"x-ms-attestation-type": "azurevm", "x-ms-isolation-tee": snp, "x-ms-runtime": nonce, **times}
    answer = json.dumps({"token": _token(tdx).decode()}).encode()
    return [
        _token(guest, jku="https://x.attest.azure.net/certs"),
        _token({**tdx, "x-ms-policy-hash": "x"}),
        answer,
    ]


def token_keys() -> bytes:
    """A set with a certificate alone, as Azure's are, and with numbers alone."""
    boots = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
    der = (boots / "baseline" / "ek_rsa.crt.der").read_bytes()
    certified = {"kid": "k1", "kty": "RSA", "x5c": [base64.b64encode(der).decode()]}
    point = {"kid": "k2", "kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y}
    return json.dumps({"keys": [certified, point]}).encode()


def token_policies() -> list[bytes]:
    """A policy as text and as it is uploaded."""
    text = b"version= 1.0;\nauthorizationrules\n{\n=> permit();\n};\n"
    return [text, _token({"AttestationPolicy": base64.urlsafe_b64encode(text).decode()})]


def _helpers() -> None:
    """Runs outside pytest find the writers of containers too."""
    folder = str(Path(__file__).resolve().parents[1] / "helpers")
    if folder not in sys.path:
        sys.path.append(folder)


def containers(folder: Path) -> list[bytes]:
    """A confidential VM's evidence in every tool's container."""
    _helpers()
    import containers as c

    files = c.files_of(folder)
    objects = (
        c.trustee_v0(files), c.trustee_v1(files), c.trustee_tpm(files),
        c.maa(files, wrap=False), c.maa(files),
        {"platform": "az-snp", "evidence": c.trustee_v1(files)}, c.go_platform(files), c.go_dump(files),
        c.keylime(files), c.constellation(files, c.azure_instance_info(files)),
    )  # fmt: skip
    plain = (c.bincode(files), c.gotpm_binary(files), c.gotpm_text(files), c.keylime_quote(files).encode())
    return [*plain, *(json.dumps(value).encode() for value in objects)]


def loose(folder: Path) -> list[bytes]:
    """Files of tpm2-tools without their names."""
    names = (
        "quote.msg",
        "quote.sig",
        "ak.pub",
        "ek.pub",
        "ak.pem",
        "pcrs.yaml",
        "clock.yaml",
        "ek_rsa.crt.der",
    )
    return [(folder / name).read_bytes() for name in names]


def nitro() -> list[bytes]:
    """A NitroTPM document with a signature that is none."""
    payload = {
        "module_id": "i-0-tpm0", "digest": "SHA384", "timestamp": 1_760_093_815_777,
        "nitrotpm_pcrs": {0: bytes(48)}, "certificate": b"c", "cabundle": [b"r"], "nonce": b"n",
    }  # fmt: skip
    return [cbor2.dumps([cbor2.dumps({1: -35}), {}, cbor2.dumps(payload), bytes(96)])]
