"""Evidence of a live machine: a folder that `cvmlab investigate` reads.

What goes into the folder is public: quotes, register values, logs, certificates and public keys. The nonce
is not written as the verifier's ``nonce.hex``: what the machine says of it proves nothing.
"""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cvmlab.errors import EvidenceError, TpmError
from cvmlab.tpm.challenge import RESPONSE_FILE
from cvmlab.tpm.live import LiveTpm, pcrread_text
from cvmlab.tpm.live_endorsement import activate, endorsement_key
from cvmlab.tpm.live_keys import attestation_key, write_private
from cvmlab.tpm.live_logs import SOURCES, read_log
from cvmlab.tpm.live_nv import EK_CERTIFICATE_NAMES, HCL_REPORT, ek_certificates, nv_name, read_nv
from cvmlab.tpm.live_quote import quote_bank

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.tpm.challenge import Challenge
    from cvmlab.tpm.live import Bank
    from cvmlab.tpm.live_keys import LiveKey
    from cvmlab.tpm.live_nv import NvCertificate

SCHEMA: Final = "cvmlab.evidence/1"
NONCE_SIZE: Final = 32
"""Bytes of a nonce that is made here; Azure's vTPM takes 50 at most."""
MAX_NONCE: Final = 64
_QUOTED_FIRST: Final = ("sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "sm3_256", "sha1")
_MAX_ID: Final = 256


@dataclass(frozen=True, slots=True)
class CollectedItem:
    """What became of one thing that was to be collected.

    Attributes:
        what: The thing.
        status: ``collected``, ``absent`` (there is none) or ``failed``.
        why: Where it came from, or why it is not there and what to do.
    """

    what: str
    status: str
    why: str


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder of evidence that was written.

    Attributes:
        folder: Where.
        machine: Name of the machine.
        nonce: The nonce of the quotes.
        own_nonce: True where it was made here, because the verifier gave none.
        ak_name: TPM name of the attestation key; empty where there was none.
        files: Names and sizes in bytes of what was written.
        items: What became of each thing.
    """

    folder: Path
    machine: str
    nonce: bytes
    own_nonce: bool
    ak_name: bytes
    files: tuple[tuple[str, int], ...]
    items: tuple[CollectedItem, ...]

    @property
    def quoted(self) -> bool:
        """True where at least one quote was collected."""
        return any(name == "quote.msg" or name.startswith("quote-") for name, _ in self.files)

    @property
    def answered(self) -> bool:
        """True where a challenge was answered."""
        return any(name == RESPONSE_FILE for name, _ in self.files)


def collect(
    output: str | Path,
    *,
    tcti: str | None = None,
    nonce: bytes | None = None,
    ak_handle: int | None = None,
    ak_context: str | Path | None = None,
    ak_type: str = "rsa2048",
    challenge: Challenge | None = None,
    root: str | Path = "/",
    between: Callable[[], None] | None = None,
) -> Collection:
    """Collect the evidence of this machine into a new folder.

    Args:
        output: The folder; it must not exist, or be empty.
        tcti: How to reach the TPM, as tpm2-tools write it; None for the machine's own.
        nonce: The verifier's nonce, 1 to 64 bytes; None for a fresh one.
        ak_handle: Persistent attestation key to use.
        ak_context: Folder with an attestation key that is kept, or to keep a new one in; not in `output`.
        ak_type: Kind of a key that is made: ``rsa2048``, ``ecc256`` or ``ecc384``.
        challenge: A verifier's challenge to answer.
        root: Root of the file system with the logs.
        between: Called between each quote and the reading of its registers, for tests.

    Raises:
        MissingExtraError: tpm2-pytss is not there.
        TpmError: There is no TPM that can be used, or the attestation key that was named cannot.
        EvidenceError: An argument cannot be used, or the folder cannot be written.
    """
    folder = Path(output)
    _check_arguments(folder, nonce, ak_context)
    work = _Work(nonce if nonce is not None else secrets.token_bytes(NONCE_SIZE), Path(root))
    kept = Path(ak_context) if ak_context is not None else None
    with LiveTpm(tcti) as tpm, ExitStack() as loaded:
        key = None
        try:
            key = loaded.enter_context(attestation_key(tpm, handle=ak_handle, context=kept, kind=ak_type))
        except TpmError as error:
            if ak_handle is not None or kept is not None:
                raise
            work.note("attestation key", "failed", str(error))
        work.take_registers(tpm, key, between)
        if key is not None:
            work.take_key(key)
        work.take_endorsement(tpm, key, challenge)
        work.take_platform(tpm)
        work.attempt("clock", lambda: work.add("clock.yaml", "clock", tpm.clock().encode(), "TPM2_ReadClock"))
    work.take_logs()
    machine = _machine_name(work.root)
    work.describe(machine)
    _write(folder, work.files)
    return Collection(
        folder=folder,
        machine=machine,
        nonce=work.nonce,
        own_nonce=nonce is None,
        ak_name=work.ak_name,
        files=tuple((name, len(data)) for name, data in work.files.items()),
        items=tuple(work.items),
    )


def _check_arguments(folder: Path, nonce: bytes | None, ak_context: str | Path | None) -> None:
    if nonce is not None and not 0 < len(nonce) <= MAX_NONCE:
        raise EvidenceError(f"a nonce has 1 to {MAX_NONCE} bytes, this one {len(nonce)}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise EvidenceError(f"{folder}: there is something already; name a folder that is new or empty")
    except OSError as error:
        raise EvidenceError(f"{folder}: cannot be used: {error.strerror or error}") from error
    if ak_context is not None and Path(ak_context).resolve().is_relative_to(folder.resolve()):
        raise EvidenceError(
            f"{ak_context}: the key must not lie in the evidence, which is handed on; name another folder"
        )


class _Work:
    """Gathers the files; nothing is written before all is there."""

    def __init__(self, nonce: bytes, root: Path) -> None:
        self.nonce = nonce
        self.root = root
        self.files: dict[str, bytes] = {}
        self.items: list[CollectedItem] = []
        self.ak_name = b""

    def note(self, what: str, status: str, why: str) -> None:
        self.items.append(CollectedItem(what, status, why))

    def add(self, name: str, what: str, data: bytes, why: str) -> None:
        self.files[name] = data
        self.note(what, "collected", why)

    def attempt(self, what: str, step: Callable[[], None]) -> None:
        """Do one step; a refusal of the TPM is noted, and the next goes on."""
        try:
            step()
        except TpmError as error:
            self.note(what, "failed", str(error))

    def take_key(self, key: LiveKey) -> None:
        self.ak_name = key.public.name
        self.files["ak.name"] = key.public.name
        self.add("ak.pub", "attestation key", key.public_file, key.source)
        what = "certificate of the attestation key"
        if key.certificate is not None:
            self.add("ak.crt", what, key.certificate.der, nv_name(key.certificate.index))
        elif key.problem:
            self.note(what, "failed", key.problem)

    def take_registers(self, tpm: LiveTpm, key: LiveKey | None, between: Callable[[], None] | None) -> None:
        """Read every bank and quote it; the quote of the strongest usual bank is ``quote``."""
        banks = tpm.banks()
        values: dict[str, dict[int, bytes]] = {}
        order = sorted((bank for bank in banks if bank.registers), key=lambda b: _QUOTED_FIRST.index(b.name))
        for number, bank in enumerate(order):
            stem = "quote" if number == 0 else f"quote-{bank.name}"
            try:
                quoted = key is not None and self._quote(tpm, key, bank, stem, between)
                values[bank.name] = quoted or tpm.read_registers(bank.name, bank.registers)
            except TpmError as error:
                self.note(f"registers of {bank.name}", "failed", str(error))
        if values:
            ordered = {bank.name: values.get(bank.name, {}) for bank in banks}
            self.add("pcrs.yaml", "registers", pcrread_text(ordered).encode(), "TPM2_PCR_Read")
        if not order:
            self.note("registers", "failed", "the TPM has no bank of registers with a hash known here")

    def _quote(
        self, tpm: LiveTpm, key: LiveKey, bank: Bank, stem: str, between: Callable[[], None] | None
    ) -> dict[int, bytes] | None:
        what = f"quote of {bank.name}"
        try:
            quote = quote_bank(tpm, key, bank, self.nonce, between=between)
        except TpmError as error:
            self.note(what, "failed", str(error))
            return None
        self.files[f"{stem}.msg"] = quote.message
        tries = "" if quote.attempts == 1 else f", taken {quote.attempts} times because registers moved"
        self.add(f"{stem}.sig", what, quote.signature, f"{len(quote.registers)} registers{tries}")
        self._moving(bank.name, quote.fits, sorted(quote.moved), set(quote.registers))
        return quote.values

    def _moving(self, bank: str, fits: bool, moved: list[int], covered: set[int]) -> None:
        names = ", ".join(map(str, moved))
        if not fits:
            self.note(
                f"registers of {bank}", "failed",
                f"register {names} moved between quote and reading at every attempt: the values are not "
                "those that were quoted; the IMA list may tell them. What to do: collect again when the "
                "machine is quiet",
            )  # fmt: skip
        elif left := [register for register in moved if register not in covered]:
            self.note(
                f"registers of {bank}", "failed",
                f"register {', '.join(map(str, left))} moved at every attempt and is left out of the quote. "
                "What to do: collect again when the machine is quiet",
            )  # fmt: skip

    def take_endorsement(self, tpm: LiveTpm, key: LiveKey | None, challenge: Challenge | None) -> None:
        what = "certificate of the endorsement key"
        certificates: list[NvCertificate] = []

        def read() -> None:
            found, chain, problems = ek_certificates(tpm)
            certificates.extend(found)
            for item in found:
                name = EK_CERTIFICATE_NAMES.get(item.index, f"{item.index:08x}")
                self.add(f"ek-{name}.crt.der", what, item.der, nv_name(item.index))
            if chain:
                pem = b"".join(
                    x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain
                )
                self.add(
                    "ca-ek.pem", "certificates of its issuers", pem, f"{len(chain)} of the EK chain in NV"
                )
            for problem in problems:
                self.note(what, "failed", problem)
            if not found and not problems:
                self.note(what, "absent", "the TPM's NV storage holds none")

        self.attempt(what, read)
        try:
            with endorsement_key(tpm, certificates) as endorsement:
                self.add("ek.pub", "endorsement key", endorsement.public_file, endorsement.source)
                if challenge is not None and key is not None:
                    response = activate(tpm, key, endorsement, challenge).to_json().encode()
                    self.add(RESPONSE_FILE, "answer to the challenge", response, "TPM2_ActivateCredential")
        except TpmError as error:
            failed = "answer to the challenge" if "ek.pub" in self.files else "endorsement key"
            self.note(failed, "failed", str(error))

    def take_platform(self, tpm: LiveTpm) -> None:
        def read() -> None:
            data = read_nv(tpm, HCL_REPORT)
            if data:
                self.add("hcl_report.bin", "Azure's HCL report", data, nv_name(HCL_REPORT))

        self.attempt("Azure's HCL report", read)

    def take_logs(self) -> None:
        for source in SOURCES:
            data, why = read_log(source, self.root)
            if data is None:
                self.note(source.what, "absent", why)
            else:
                self.add(source.target, source.what, data, why)

    def describe(self, machine: str) -> None:
        ids = {
            name: text
            for name, path in (
                ("boot_id", "proc/sys/kernel/random/boot_id"),
                ("product_uuid", "sys/class/dmi/id/product_uuid"),
            )
            if (text := _small_text(self.root / path))
        }
        description = {
            "schema": SCHEMA,
            "machine": machine,
            "collected": datetime.now(UTC).isoformat(timespec="seconds"),
            "ids": ids,
            "nonce": self.nonce.hex(),
            "not_collected": [
                {"what": item.what, "status": item.status, "why": item.why}
                for item in self.items
                if item.status != "collected"
            ],
        }
        self.files["evidence.json"] = (json.dumps(description, indent=2) + "\n").encode()


def _machine_name(root: Path) -> str:
    return _small_text(root / "etc/hostname") or socket.gethostname()[:_MAX_ID] or "unnamed"


def _small_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_ID + 1).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return text if text.isprintable() and len(text) <= _MAX_ID else ""


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in files.items():
            write_private(folder / name, data)
    except OSError as error:
        raise EvidenceError(f"{folder}: the evidence cannot be written: {error.strerror or error}") from error
