"""Small PE images, built after the PE/COFF specification, and signed with a throw-away key by sbsign."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ALIGN = 512


def pe(sections: dict[str, bytes], *, machine: int = 0x8664) -> bytes:
    """Return a PE32+ image with an empty security directory."""
    headers = 0x80 + 4 + 20 + 240 + 40 * len(sections)
    size_of_headers = -(-headers // ALIGN) * ALIGN
    at, table, body, address = size_of_headers, b"", b"", 0x1000
    for name, data in sections.items():
        raw = -(-len(data) // ALIGN) * ALIGN
        table += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(data), address, raw, at if raw else 0, 0, 0, 0, 0, 0x60000020
        )
        body += data.ljust(raw, b"\0")
        at += raw
        address += -(-max(len(data), 1) // 0x1000) * 0x1000
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 0x80)
    coff = struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 240, 0x22E)
    optional = struct.pack("<HBBIIIII", 0x20B, 2, 0, 0x200, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 0x140000000, 0x1000, ALIGN, 0, 0, 0, 0, 0, 0, 0, address,
                            size_of_headers, 0, 10, 0)  # fmt: skip
    optional += struct.pack("<QQQQII", 0, 0, 0, 0, 0, 16) + bytes(16 * 8)
    head = dos.ljust(0x80, b"\0") + b"PE\0\0" + coff + optional + table
    return head.ljust(size_of_headers, b"\0") + body


def signed(folder: Path, image: bytes, *, name: str = "test signer") -> tuple[bytes, Path]:
    """Sign an image with a new key; return it with its certificate. The key stays in the folder."""
    key, certificate, plain = folder / "key.pem", folder / "cert.pem", folder / "plain.efi"
    plain.write_bytes(image)
    if not key.exists():
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        ]
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    out = folder / "signed.efi"
    command = ["sbsign", "--key", key, "--cert", certificate, "--output", out, plain]
    subprocess.run(command, check=True, capture_output=True)
    return out.read_bytes(), certificate
