"""What a platform puts into a TPM: persistent keys, NV indexes, certificates; by tpm2-tools."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cvmlab.tpm.public import parse_public

if TYPE_CHECKING:
    from soft_tpm import SoftTpm

    from cvmlab.tpm.public import PublicKey, TpmPublic

AK = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
READ_WRITE = "ownerread|ownerwrite|authread"
# Azure's handles, as OpenHCL's vTPM defines them
AZURE_AK, AZURE_CERTIFICATE, HCL_REPORT = 0x81000003, 0x01C101D0, 0x01400001


def nothing_left(soft: SoftTpm) -> bool:
    """Tell whether the TPM holds no transient object and no session."""
    kinds = ("transient", "loaded-session", "saved-session")
    return not any(soft("getcap", f"handles-{kind}").strip() for kind in kinds)


def put(soft: SoftTpm, index: int, data: bytes, *, size: int | None = None) -> None:
    """Define an index and fill it; behind the data of a larger one come zeros."""
    soft("nvdefine", "-Q", hex(index), "-C", "o", "-s", size or len(data), "-a", READ_WRITE)
    (soft.folder / "nv").write_bytes(data.ljust(size or 0, b"\0"))
    soft("nvwrite", "-Q", hex(index), "-C", "o", "-i", "nv")


def make_persistent(
    soft: SoftTpm, handle: int, algorithm: str, attributes: str, name_alg: str = "sha256"
) -> TpmPublic:
    """Make a primary key with tpm2-tools and keep it at a handle."""
    soft("createprimary", "-Q", "-C", "e", "-g", name_alg, "-G", algorithm, "-a", attributes, "-c", "p.ctx")
    soft.flush()
    soft("evictcontrol", "-Q", "-C", "o", "-c", "p.ctx", hex(handle))
    soft.flush()
    soft("readpublic", "-Q", "-c", hex(handle), "-f", "tss", "-o", "p.pub")
    return parse_public((soft.folder / "p.pub").read_bytes(), source="p.pub")


def certified(key: PublicKey, name: str = "simulated vTPM") -> tuple[bytes, bytes]:
    """A certificate of a TPM's key in DER, and in PEM the root of an authority made for it."""
    now, signer = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())

    def sign(subject: str, public: PublicKey, *, ca: bool) -> x509.Certificate:
        names = [
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("simulated root", subject)
        ]
        serial, start, end = x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=30)
        builder = x509.CertificateBuilder(*names, public, serial, start, end)
        return builder.add_extension(x509.BasicConstraints(ca, None), critical=True).sign(
            signer, hashes.SHA256()
        )

    leaf, root = sign(name, key, ca=False), sign("simulated root", signer.public_key(), ca=True)
    return leaf.public_bytes(serialization.Encoding.DER), root.public_bytes(serialization.Encoding.PEM)


def certificate_of(key: PublicKey, name: str = "simulated vTPM") -> bytes:
    """A certificate of a TPM's key in DER, by an authority that nobody trusts."""
    return certified(key, name)[0]
