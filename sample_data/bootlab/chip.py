"""A software TPM without a machine around it: measures a log as a boot would have, and quotes.

Its endorsement certificate is by an authority that is made for the run and thrown away with its keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from logs import Measurement
from settings import HERE, run

sys.path.append(str(HERE.parents[1] / "tests" / "helpers"))

from soft_tpm import SoftTpm

Files = dict[str, bytes]
ALL_BANKS = "sha1,sha256,sha384"
QUOTED = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14"
HANDLE, UNRESTRICTED = "0x81010020", "0x81010021"
EK_CERTIFICATE = "0x01c00002"
ANY_DATA = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"


class Chip:
    """One TPM that keeps its state from boot to boot; start it with `boot`."""

    def __init__(self, folder: Path, authority: Path) -> None:
        """Make and certify it, and make its keys."""
        self.folder, self.authority = folder, authority
        folder.mkdir(parents=True)
        self.tpm = SoftTpm(folder, authority=authority, banks=ALL_BANKS)
        self("nvread", EK_CERTIFICATE, "-C", "o", "-o", "ek_rsa.crt.der")
        self("createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub")
        self.tpm.flush()
        self("createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "rsa", "-g", "sha256", "-s", "rsassa",
             "-u", "ak.tmp")  # fmt: skip
        self.tpm.flush()
        self("evictcontrol", "-C", "o", "-c", "ak.ctx", HANDLE)
        self("createprimary", "-C", "e", "-G", "rsa2048:rsassa-sha256:null", "-a", ANY_DATA, "-c", "free.ctx")
        self.tpm.flush()
        self("evictcontrol", "-C", "o", "-c", "free.ctx", UNRESTRICTED)
        self.tpm.flush()
        self.stop()

    def __call__(self, tool: str, *arguments: object) -> str:
        """Run one of tpm2-tools in the TPM's folder."""
        return self.tpm(tool, "-Q", *arguments) if tool != "pcrread" else self.tpm(tool, *arguments)

    @property
    def root(self) -> Path:
        """The certificate that a verifier must trust for this TPM."""
        return self.authority / "swtpm-localca-rootca-cert.pem"

    def stop(self) -> None:
        """Shut it down in order."""
        self("shutdown", "-c")
        self.tpm.close()

    def snapshot(self) -> Path:
        """Copy the state of the TPM while it is off, as a snapshot of its machine would."""
        target = self.folder.parent / f"{self.folder.name}-snapshot"
        shutil.copytree(self.folder / "state", target)
        return target

    def restore(self, snapshot: Path) -> None:
        """Go back to a snapshot."""
        shutil.rmtree(self.folder / "state")
        shutil.copytree(snapshot, self.folder / "state")

    def start(self, events: Sequence[Measurement] = ()) -> None:
        """Reset it and measure."""
        self.tpm = SoftTpm(self.folder)
        if words := [event.extension() for event in events if event.type != 0x3]:
            self("pcrextend", *words)

    def identity(self, nonce: str, handle: str = HANDLE) -> Files:
        """Give keys, certificates, and the record that shows attestation and endorsement key in one TPM."""
        self("createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub")
        self.tpm.flush()
        self("readpublic", "-c", handle, "-f", "tss", "-o", "ak.pub", "-n", "ak.name")
        name, secret = self.read("ak.name").hex(), hashlib.sha256(nonce.encode()).digest()
        (self.folder / "secret").write_bytes(secret)
        run("tpm2", "makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", name,
            "-o", "credential", cwd=self.folder, env=os.environ)  # fmt: skip
        self("startauthsession", "--policy-session", "-S", "session.ctx")
        self("policysecret", "-S", "session.ctx", "-c", "e")
        self("activatecredential", "-c", handle, "-C", "ek.ctx", "-i", "credential", "-o", "returned",
             "-P", "session:session.ctx")  # fmt: skip
        self("flushcontext", "session.ctx")
        self.tpm.flush()
        record = {
            "secret_sent": secret.hex(),
            "secret_returned": self.read("returned").hex(),
            "ak_name": name,
            "ek_public_sha256": hashlib.sha256(self.read("ek.pub")).hexdigest(),
        }
        return {
            **{file: self.read(file) for file in ("ak.pub", "ek.pub", "ek_rsa.crt.der")},
            "ca-issuercert.pem": (self.authority / "issuercert.pem").read_bytes(),
            "credential_activation.json": json.dumps(record, indent=1).encode() + b"\n",
        }

    def quote(
        self, nonce: str, *, bank: str = "sha256", registers: str = QUOTED, handle: str = HANDLE
    ) -> Files:
        """Quote registers of one bank, and read them."""
        suffix = "" if bank == "sha256" else f"-{bank}"
        files = [f"quote{suffix}.msg", f"quote{suffix}.sig"]
        self("quote", "-c", handle, "-l", f"{bank}:{registers}", "-q", nonce, "-g", "sha256", "-m", files[0],
             "-s", files[1], "-o", "quote.pcrs")  # fmt: skip
        return {file: self.read(file) for file in files}

    def values(self, *banks: str) -> bytes:
        """Read registers as text."""
        return self("pcrread", "+".join(f"{bank}:{QUOTED}" for bank in banks)).encode()

    def boot_aggregate(self) -> bytes:
        """Measure what Linux measures first of its files: the registers before it (IMA, template ima-sig).

        Returns:
            The kernel's binary list with this one entry.
        """
        self("pcrread", "sha256:0,1,2,3,4,5,6,7,8,9", "-o", "values")
        digest = hashlib.sha256(self.read("values")).digest()
        return self.measure_file(b"boot_aggregate\0", b"sha256:\0" + digest)

    def measure_file(self, path: bytes, digest: bytes) -> bytes:
        """Extend register 10 for one entry of the list, and give the entry."""
        fields = (digest, path, b"")
        data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
        values = ",".join(f"{bank}={hashlib.new(bank, data).hexdigest()}" for bank in ALL_BANKS.split(","))
        self("pcrextend", f"10:{values}")
        return _entry(hashlib.sha1(data, usedforsecurity=False).digest(), data)

    def violate(self, path: bytes) -> bytes:
        """Extend register 10 as the kernel does for a file being written: by ones. The list has zeros."""
        sizes = {"sha1": 20, "sha256": 32, "sha384": 48}
        self("pcrextend", "10:" + ",".join(f"{bank}={'ff' * size}" for bank, size in sizes.items()))
        fields = (b"sha256:\0" + bytes(32), path, b"")
        data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
        return _entry(bytes(20), data)

    def read(self, file: str) -> bytes:
        """Read a file that a tool wrote."""
        return (self.folder / file).read_bytes()


def _entry(template_hash: bytes, data: bytes) -> bytes:
    name = b"ima-sig"
    return (
        struct.pack("<I", 10)
        + template_hash
        + struct.pack("<I", len(name))
        + name
        + (struct.pack("<I", len(data)) + data)
    )
