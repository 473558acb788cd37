"""What a machine says of itself. Every type here is a claim: nothing in it has been checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.tpm.public import spki_sha256
from cvmlab.view import Cell, Document, Note, Paragraph, Table

if TYPE_CHECKING:
    from cryptography import x509

    from cvmlab.eventlog.ima import ImaList
    from cvmlab.eventlog.model import EventLog
    from cvmlab.findings import Problem
    from cvmlab.tee import HclReport, SnpReport, TdQuote, TdReport
    from cvmlab.tee.collateral import Collateral
    from cvmlab.tee.nitro import NitroDocument
    from cvmlab.tokens.jws import Token
    from cvmlab.tpm.clock import ClockReading
    from cvmlab.tpm.pcrs import RegisterReading
    from cvmlab.tpm.public import PublicKey, TpmPublic

FileStatus = Literal["read", "empty", "unreadable", "ignored"]
VERIFIER_ROLE: Final = "verifier"
"""Role of files that the verifier wrote; they are no part of the claims."""


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """One file of the evidence.

    Attributes:
        name: File name, with the place in it in brackets where it is a part of a file; unescaped.
        size: Bytes.
        sha256: Hex SHA-256 of the content; empty where it was not read.
        role: What it was taken for: ``event-log``, ``ima-list``, ``quote``, ``signature``, ``registers``,
            ``key``, ``certificate``, ``clock``, ``verifier``, ``hardware``, ``token``, ``description``,
            ``container`` (another tool's file, whose parts have rows of their own) or ``other``.
        status: ``read``, ``empty``, ``unreadable`` or ``ignored``.
        note: Why, where the status is not ``read``; else how the role is known, where not by name.
    """

    name: str
    size: int
    sha256: str
    role: str
    status: FileStatus
    note: str = ""


@dataclass(frozen=True, slots=True)
class QuoteClaim:
    """A message that is said to be a quote, and its signature.

    Attributes:
        name: ``quote``, or the part that tells one quote from others.
        source: File of the message.
        message: TPMS_ATTEST or TPM2B_ATTEST as it lay in the file.
        signature: TPMT_SIGNATURE or a plain signature; None where the file is absent or empty.
        signature_source: File of the signature; empty where there is none.
    """

    name: str
    source: str
    message: bytes
    signature: bytes | None
    signature_source: str


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """A key that is said to be the attestation key (``ak``) or an endorsement key (``ek``).

    Attributes:
        role: ``ak`` or ``ek``.
        source: File.
        public: TPM public area; None where the file has only the bare key or the name.
        key: The key; None where the file has only the name.
        name: TPM name that the file states (``ak.name``); None otherwise.
    """

    role: Literal["ak", "ek"]
    source: str
    public: TpmPublic | None
    key: PublicKey | None
    name: bytes | None = None


@dataclass(frozen=True, slots=True)
class CertificateClaim:
    """A certificate that came with the evidence.

    Attributes:
        role: ``ak`` or ``ek``: of that key; ``processor``: of a processor's reporting key or an authority
            above it; ``ca``: of another authority. None of them is a root because it is here: a root counts
            only where its fingerprint is pinned or the verifier gave it.
        source: File.
        certificate: The certificate.
        der: Its DER form.
    """

    role: Literal["ak", "ek", "ca", "processor"]
    source: str
    certificate: x509.Certificate
    der: bytes

    @property
    def spki_sha256(self) -> str:
        """Hex SHA-256 of the key's SubjectPublicKeyInfo; empty where the key is of no TPM's kind."""
        try:
            return spki_sha256(self.certificate.public_key())  # type: ignore[arg-type]
        except (ValueError, TypeError, AttributeError):
            return ""


@dataclass(frozen=True, slots=True)
class HardwareClaim:
    """What is said to be a hardware report, by its content.

    Attributes:
        kind: ``hcl-report`` (Azure: a report and what it binds), ``snp-report``, ``td-report``, ``td-quote``
            or ``nitro-document`` (AWS: registers that the hypervisor signs).
        source: File.
        report: The report; nothing in it is proven before its signature and chain are.
        data: Its bytes as they lay in the file.
    """

    kind: Literal["hcl-report", "snp-report", "td-report", "td-quote", "nitro-document"]
    source: str
    report: HclReport | SnpReport | TdReport | TdQuote | NitroDocument
    data: bytes


@dataclass(frozen=True, slots=True)
class CollateralClaim:
    """A signed statement of a processor's maker: TCB info, QE identity or a revocation list."""

    kind: Literal["tcb-info", "qe-identity", "crl"]
    source: str
    value: Collateral | x509.CertificateRevocationList

    @property
    def signed(self) -> bytes:
        """The bytes that its signature covers."""
        from cvmlab.tee.collateral import Collateral

        return self.value.signed if isinstance(self.value, Collateral) else self.value.tbs_certlist_bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that one machine handed in, read but not believed.

    Attributes:
        source: Path of the directory or archive, as the analyst gave it.
        machine: Name of the machine: of ``evidence.json``, else the folder's name. A claim.
        files: Every file found.
        logs: Boot event logs, the one named ``eventlog.bin`` first.
        quotes: Quotes, the one named ``quote`` first.
        readings: Register readings.
        ima: IMA lists, binary form first.
        userspace: systemd's log of what userspace measured after the boot log; None where absent.
        keys: Keys that the evidence names.
        certificates: Certificates of keys, processors and authorities.
        hardware: Hardware reports.
        collateral: Signed statements of processors' makers.
        tokens: Attestation tokens.
        clock: The TPM's clock as read beside the quote, unsigned; None where absent.
        problems: What could not be read.
        absent: What an investigation needs and the evidence lacks, in words.
        collected: Time of collection that ``evidence.json`` states; a claim, empty where it states none.
    """

    source: str
    machine: str
    files: tuple[EvidenceFile, ...] = ()
    logs: tuple[EventLog, ...] = ()
    quotes: tuple[QuoteClaim, ...] = ()
    readings: tuple[RegisterReading, ...] = ()
    ima: tuple[ImaList, ...] = ()
    userspace: EventLog | None = None
    keys: tuple[KeyClaim, ...] = ()
    certificates: tuple[CertificateClaim, ...] = ()
    hardware: tuple[HardwareClaim, ...] = ()
    collateral: tuple[CollateralClaim, ...] = ()
    tokens: tuple[Token, ...] = ()
    clock: ClockReading | None = None
    problems: tuple[Problem, ...] = ()
    absent: tuple[str, ...] = ()
    collected: str = ""

    @property
    def evidence_hash(self) -> str:
        """Hex SHA-256 over the names and contents of all claims, in order of name."""
        total = hashlib.sha256()
        for file in sorted(self.files, key=lambda f: f.name):
            if file.status == "read" and file.role != VERIFIER_ROLE:
                total.update(f"{len(file.name)}:{file.name}:{file.sha256}\n".encode())
        return total.hexdigest()

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from cvmlab.view import mimebundle

        return mimebundle(evidence_view(self))


def evidence_view(evidence: Evidence) -> Document:
    """Return the document that shows what was found in an evidence."""
    rows = tuple(
        (
            Cell(file.name, kind="claimed"),
            file.role,
            f"{file.size:,}",
            file.status,
            file.note or None,
            Cell(file.sha256, kind="digest") if file.sha256 else None,
        )
        for file in evidence.files
    )
    return Document(
        title=f"Evidence of {evidence.machine}",
        blocks=(
            Paragraph(
                "These files are claims of the machine: `cvmlab.investigate` says what they are worth."
            ),
            *(Note("warning", f"Not in the evidence: {text}") for text in evidence.absent),
            *(Note("warning", str(problem)) for problem in evidence.problems[:20]),
            Table(
                columns=("file", "taken for", "bytes", "status", "why", "SHA-256"),
                rows=rows,
                total=len(rows),
                caption="Files",
                numeric=frozenset({"bytes"}),
            ),
        ),
    )
