"""The simulated VM's vTPM: a real software TPM that a real sample boot's log is measured into."""

from __future__ import annotations

import hashlib
import struct
import sys
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from processor import FROM, UNTIL, name

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from soft_tpm import SoftTpm  # noqa: E402

from cvmlab.eventlog import read_event_log  # noqa: E402

ATTESTATION_KEY = "0x81000003"
ALGORITHMS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
COMPACT_HASH = 0x0000000C
SEPARATOR = 0x00000004


def provision(tpm: SoftTpm) -> None:
    """Make the attestation key and keep it at the handle that Azure uses."""
    tpm("createek", "-Q", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub", "-f", "tpmt")
    tpm.flush()
    tpm("readpublic", "-Q", "-c", "ek.ctx", "-f", "pem", "-o", "ek.pem")
    tpm.flush()
    tpm("createak", "-Q", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "rsa", "-g", "sha256", "-s", "rsassa",
        "-u", "ak.pub", "-n", "ak.name")  # fmt: skip
    tpm.flush()
    tpm("evictcontrol", "-Q", "-C", "o", "-c", "ak.ctx", ATTESTATION_KEY)
    tpm.flush()
    tpm("readpublic", "-Q", "-c", ATTESTATION_KEY, "-f", "pem", "-o", "ak.pem")


def public_key(tpm: SoftTpm, file: str) -> rsa.RSAPublicKey:
    """A public key that the TPM wrote."""
    key = load_pem_public_key((tpm.folder / file).read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def log_of(boot: str, vm: str) -> bytes:
    """A sample boot's log, with the event by which Azure's firmware names the VM."""
    data = (ROOT / "sample_data" / "boots" / boot / "eventlog.bin").read_bytes()
    log = read_event_log(data)
    place = next(event for event in log.events if event.register == 6 and event.type == SEPARATOR)
    text = f"UUID: {vm.upper()}".encode()
    digests = b"".join(
        struct.pack("<H", ALGORITHMS[bank]) + hashlib.new(bank, text).digest() for bank in log.banks
    )
    event = struct.pack("<III", 6, COMPACT_HASH, len(log.banks)) + digests
    event += struct.pack("<I", len(text)) + text
    return data[: place.offset] + event + data[place.offset :]


def measure(tpm: SoftTpm, data: bytes) -> None:
    """Extend every event of a log, as firmware and boot loaders would have."""
    for event in read_event_log(data).events:
        if event.extends and event.register < 24:
            values = ",".join(f"{bank}={value.hex()}" for bank, value in event.digests.items())
            tpm("pcrextend", f"{event.register}:{values}")


def quote(tpm: SoftTpm, nonce: str) -> dict[str, bytes]:
    """Quote all registers of the SHA-256 bank, as guests on Azure do, and read them."""
    every = ",".join(map(str, range(24)))
    tpm("quote", "-Q", "-c", ATTESTATION_KEY, "-l", f"sha256:{every}", "-q", nonce, "-g", "sha256",
        "-m", "quote.msg", "-s", "quote.sig")  # fmt: skip
    return {
        "quote.msg": (tpm.folder / "quote.msg").read_bytes(),
        "quote.sig": (tpm.folder / "quote.sig").read_bytes(),
        "pcrs.yaml": tpm("pcrread").encode(),
        "nonce.hex": f"{nonce}\n".encode(),
    }


class Authority:
    """The authority that certifies vTPM keys, in two steps as on Azure."""

    def __init__(self) -> None:
        self.root = self._make("SIMULATED Virtual TPM Root", None)
        self.issuing = self._make("SIMULATED Virtual TPM CA 01", self.root)

    def _make(
        self, common: str, issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None
    ) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        key = rsa.generate_private_key(65537, 3072)
        above = issuer[0].subject if issuer else name(common)
        certificate = (
            self._builder(common, above, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(issuer[1] if issuer else key, hashes.SHA256())
        )
        return certificate, key

    def _builder(
        self, common: str, issuer: x509.Name, key: rsa.RSAPublicKey, until: datetime = UNTIL
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(FROM)
            .not_valid_after(until)
        )

    def certify(self, key: rsa.RSAPublicKey, until: datetime = UNTIL) -> bytes:
        """The certificate of an attestation key, DER. Real ones are valid for a year, this one for long."""
        purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.133.8.3")])
        common = "simulated.ConfidentialVM.SIMULATED.invalid"
        return (
            self._builder(common, self.issuing[0].subject, key, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(purposes, critical=False)
            .sign(self.issuing[1], hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
