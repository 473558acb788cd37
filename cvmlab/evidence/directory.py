"""Files of one machine to claims: each file read by the reader of its role, damage kept as problems."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.errors import CvmlabError, EvidenceError, ParseError
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.ima import read_ima
from cvmlab.evidence.arrange import CONTAINER, arrange
from cvmlab.evidence.certificates import MAX_CERTIFICATES, read_certificates
from cvmlab.evidence.hardware import (
    HardwareFile,
    collapse,
    paravisor_keys,
    read_hardware,
    with_runtime_claims,
)
from cvmlab.evidence.model import (
    CertificateClaim,
    Evidence,
    EvidenceFile,
    KeyClaim,
    QuoteClaim,
)
from cvmlab.evidence.names import is_canonical, role_of, role_of_name
from cvmlab.findings import Problem
from cvmlab.tokens.jws import read_token
from cvmlab.tpm.clock import parse_clock
from cvmlab.tpm.pcrs import read_registers
from cvmlab.tpm.public import load_public_key, parse_public
from cvmlab.tpm.strict import decode_text, hex_bytes, load_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from cryptography import x509

    from cvmlab.eventlog.ima import ImaList
    from cvmlab.eventlog.model import EventLog
    from cvmlab.evidence.sources import RawFile
    from cvmlab.tokens.jws import Token
    from cvmlab.tpm.attest import PcrSelection
    from cvmlab.tpm.clock import ClockReading
    from cvmlab.tpm.pcrs import RegisterReading

MAX_REPORTS: Final = 8
"""Most hardware reports of one machine."""

MAX_TOKENS: Final = 8
"""Most attestation tokens taken from one evidence."""

DESCRIPTION_SCHEMA: Final = "cvmlab.evidence/1"


def evidence_of(files: Sequence[RawFile], *, source: str, default_name: str) -> Evidence:
    """Read the files of one machine.

    Args:
        files: The files as found.
        source: Path that the analyst gave, for messages.
        default_name: Name of the machine where ``evidence.json`` states none.

    Raises:
        EvidenceError: No file is known as evidence.
    """
    reading = _Reading()
    described = {file.name: file for file in files}
    aliases = reading.describe(described.get("evidence.json"), described.keys())
    arranged = arrange(files, aliases)
    reading.files += arranged.containers
    reading.problems += arranged.problems
    for item in arranged.files:
        reading.take(item.file, item.canonical, item.note)
    reading.files.sort(key=lambda found: found.name)
    for alias in aliases:
        if alias not in described:
            reading.problem("evidence.json", "files", f"names {alias!r}, which is not there")
    if not any(
        f.role not in ("other", "description", "verifier", CONTAINER) and f.status != "ignored"
        for f in reading.files
    ):
        names = ", ".join(repr(file.name) for file in files[:8]) or "nothing"
        raise EvidenceError(
            f"{source}: no file here is known as evidence (found {names}). Expected are eventlog.bin, "
            "quote.msg with quote.sig, pcrs.yaml and ak.pub; evidence.json can name them otherwise"
        )
    return reading.evidence(source, default_name)


class _Reading:
    """Gathers claims file by file."""

    def __init__(self) -> None:
        self.files: list[EvidenceFile] = []
        self.logs: list[EventLog] = []
        self.messages: dict[str, tuple[str, bytes]] = {}
        self.signatures: dict[str, tuple[str, bytes]] = {}
        self.registers: list[tuple[str, bytes]] = []
        self.ima: list[ImaList] = []
        self.userspace: EventLog | None = None
        self.keys: list[KeyClaim] = []
        self.certificates: list[CertificateClaim] = []
        self.clock: ClockReading | None = None
        self.hardware = HardwareFile()
        self.tokens: list[Token] = []
        self.problems: list[Problem] = []
        self.machine = ""
        self.collected = ""
        self._readers: dict[str, Callable[[str, str, bytes], None]] = {
            "event-log": self._log,
            "ima-list": self._ima,
            "userspace-log": self._userspace,
            "quote": self._message,
            "signature": self._signature,
            "registers": self._registers,
            "key": self._key,
            "certificate": self._certificate,
            "clock": self._clock,
            "hardware": self._hardware,
            "token": self._token,
        }

    def problem(self, source: str, field: str, message: str, *, fatal: bool = True) -> None:
        self.problems.append(Problem(source, 0, field, message, fatal))

    def describe(self, file: RawFile | None, present: Collection[str]) -> dict[str, str]:
        """Read ``evidence.json``: which file stands for which name of the evidence directory.

        A name whose own file is `present` keeps it: of two files for one name neither may hide the other.
        """
        if file is None or not file.data:
            return {}
        try:
            value = load_json(file.data, source=file.name)
        except ParseError as error:
            self.problems.append(Problem.of(error))
            return {}
        if not isinstance(value, dict) or value.get("schema") != DESCRIPTION_SCHEMA:
            self.problem(file.name, "schema", f"need {DESCRIPTION_SCHEMA}; the file is not used")
            return {}
        for name in ("machine", "collected"):
            text = value.get(name)
            if isinstance(text, str) and 0 < len(text) <= 256:
                setattr(self, name, text)
        named = value.get("files")
        aliases: dict[str, str] = {}
        for canonical, actual in (named if isinstance(named, dict) else {}).items():
            if not is_canonical(canonical) or not isinstance(actual, str):
                self.problem(file.name, "files", f"{canonical!r} is no name of an evidence file", fatal=False)
            elif role_of_name(canonical) == "verifier":
                message = f"{canonical!r} is the verifier's own file: it counts under this name only"
                self.problem(file.name, "files", message, fatal=False)
            elif canonical in present and actual != canonical:
                message = f"{canonical!r} is there itself; {actual!r} does not stand for it"
                self.problem(file.name, "files", message, fatal=False)
            elif actual in aliases:
                self.problem(file.name, "files", f"{actual!r} is named twice", fatal=False)
            else:
                aliases[actual] = canonical
        return aliases

    def take(self, file: RawFile, canonical: str, note: str = "") -> None:
        """Read one file under the name that tells its role; `note` says how that is known, or why not."""
        if file.data is None:
            role = role_of_name(canonical) or "other"
            self.files.append(EvidenceFile(file.name, file.size, "", role, "unreadable", file.note))
            if role != "other":
                self.problem(file.name, "file", file.note)
            return
        role = role_of(canonical, file.data)
        digest = hashlib.sha256(file.data).hexdigest()
        entry = EvidenceFile(file.name, len(file.data), digest, role, "read", note)
        if role == "other":
            why = note or "not a name of the evidence directory; never read"
            entry = replace(entry, status="ignored", note=why)
        elif not file.data.strip(b" \r\n\t") and role != "other":
            entry = replace(entry, status="empty", note="the file is empty: it counts as absent")
        elif role in self._readers:
            try:
                self._readers[role](file.name, canonical, file.data)
            except CvmlabError as error:
                entry = replace(entry, status="unreadable", note=str(error))
                self.problems.append(
                    Problem.of(error)
                    if isinstance(error, ParseError)
                    else Problem(file.name, 0, "file", str(error))
                )
        self.files.append(entry)

    def _log(self, name: str, canonical: str, data: bytes) -> None:
        log = read_event_log(data, name=name)
        self.logs.insert(0 if canonical == "eventlog.bin" else len(self.logs), log)
        self.problems.extend(problem for problem in log.problems if problem.fatal)

    def _ima(self, name: str, canonical: str, data: bytes) -> None:
        ima = read_ima(data, name=name)
        self.ima.insert(0 if canonical == "ima_binary.bin" else len(self.ima), ima)
        self.problems.extend(problem for problem in ima.problems if problem.fatal)

    def _userspace(self, name: str, canonical: str, data: bytes) -> None:
        if self.userspace is not None:
            raise ParseError(name, 0, "file", reason=f"{self.userspace.source} is such a log already")
        self.userspace = read_event_log(data, name=name)
        self.problems.extend(problem for problem in self.userspace.problems if problem.fatal)

    def _message(self, name: str, canonical: str, data: bytes) -> None:
        self.messages[canonical.removesuffix(".msg")] = (name, data)

    def _signature(self, name: str, canonical: str, data: bytes) -> None:
        self.signatures[canonical.removesuffix(".sig")] = (name, data)

    def _registers(self, name: str, canonical: str, data: bytes) -> None:
        self.registers.append((name, data))

    def _clock(self, name: str, canonical: str, data: bytes) -> None:
        self.clock = parse_clock(data, source=name)

    def _key(self, name: str, canonical: str, data: bytes) -> None:
        role: Literal["ak", "ek"] = "ak" if canonical.startswith("ak") else "ek"
        if canonical == "ak.name":
            self.keys.append(KeyClaim(role, name, None, None, tpm_name(data, name)))
        elif canonical.endswith(".pub"):
            public = parse_public(data, source=name)
            self.keys.append(KeyClaim(role, name, public, public.key))
        else:
            self.keys.append(KeyClaim(role, name, None, load_public_key(data, source=name)))
            if b"BEGIN CERTIFICATE" in data[:4096]:
                self._add_certificates(role, name, data)

    def _certificate(self, name: str, canonical: str, data: bytes) -> None:
        role: Literal["ak", "ek", "ca"] = "ca"
        if canonical.startswith(("ak", "ek")):
            role = "ak" if canonical.startswith("ak") else "ek"
        self._add_certificates(role, name, data)
        if role == "ak":
            self.keys.append(KeyClaim("ak", name, None, load_public_key(data, source=name)))

    def _add_certificates(self, role: Literal["ak", "ek", "ca"], name: str, data: bytes) -> None:
        if len(self.certificates) >= 4 * MAX_CERTIFICATES:
            raise ParseError(name, 0, "certificate", reason=f"more than {4 * MAX_CERTIFICATES} certificates")
        certificates = read_certificates(data, source=name)
        if role != "ca":
            # the key's own certificate comes first; what follows are intermediates
            self.certificates.append(_claim(role, name, certificates[0]))
            certificates = certificates[1:]
        self.certificates.extend(_claim("ca", name, certificate) for certificate in certificates)

    def _hardware(self, name: str, canonical: str, data: bytes) -> None:
        found = read_hardware(data, source=name)
        held = self.hardware
        for have, new, limit in (
            (held.reports, found.reports, MAX_REPORTS),
            (held.certificates, found.certificates, 4 * MAX_CERTIFICATES),
            (held.collateral, found.collateral, 4 * MAX_CERTIFICATES),
        ):
            if len(have) + len(new) > limit:
                raise ParseError(
                    name, 0, "file", limit, len(have) + len(new), "more of its kind than are read"
                )
        held.reports += found.reports
        held.certificates += found.certificates
        held.collateral += found.collateral
        held.claims += found.claims[: MAX_REPORTS - len(held.claims)]

    def _token(self, name: str, canonical: str, data: bytes) -> None:
        if len(self.tokens) >= MAX_TOKENS:
            raise ParseError(name, 0, "token", reason=f"more than {MAX_TOKENS} tokens")
        self.tokens.append(read_token(data, source=name))

    def evidence(self, source: str, default_name: str) -> Evidence:
        hardware = with_runtime_claims(self.hardware, self.problems)
        for claim in hardware:
            self.keys.extend(paravisor_keys(claim, self.problems))
        quotes = self._quotes()
        readings = self._readings(quotes)
        return Evidence(
            source=source,
            machine=self.machine or default_name,
            files=tuple(self.files),
            logs=tuple(self.logs),
            quotes=quotes,
            readings=readings,
            ima=tuple(self.ima),
            userspace=self.userspace,
            keys=tuple(self.keys),
            certificates=(*self.certificates, *collapse(self.hardware.certificates)),
            hardware=tuple(hardware),
            collateral=tuple(self.hardware.collateral),
            tokens=tuple(self.tokens),
            clock=self.clock,
            problems=tuple(self.problems),
            absent=self._absent(quotes, readings),
            collected=self.collected,
        )

    def _quotes(self) -> tuple[QuoteClaim, ...]:
        quotes = []
        for name in sorted(self.messages):  # "quote" sorts before "quote-…"
            source, message = self.messages[name]
            signature_source, signature = self.signatures.get(name, ("", None))
            quotes.append(QuoteClaim(name, source, message, signature, signature_source))
        for name in sorted(self.signatures.keys() - self.messages.keys()):
            source = self.signatures[name][0]
            self.problem(source, "signature", f"a signature without its message {name}.msg signs nothing")
        return tuple(quotes)

    def _readings(self, quotes: Sequence[QuoteClaim]) -> tuple[RegisterReading, ...]:
        from cvmlab.tpm.attest import parse_attest

        found: list[RegisterReading] = []
        selected: list[tuple[PcrSelection, ...] | None] = []
        for quote in quotes:
            try:
                selected.append(parse_attest(quote.message, source=quote.source).selections)
            except CvmlabError:
                continue
        for name, data in self.registers:
            reading = None
            failure: ParseError | None = None
            for selections in selected or [None]:
                try:
                    reading = read_registers(data, source=name, selections=selections)
                    break
                except ParseError as error:
                    failure = failure or error
            if reading is None:
                if failure is not None:
                    self.problems.append(Problem.of(failure))
                    self._mark(name, str(failure))
                continue
            found.append(reading)
            self.problems.extend(reading.problems)
        return tuple(found)

    def _mark(self, name: str, note: str) -> None:
        self.files = [replace(f, status="unreadable", note=note) if f.name == name else f for f in self.files]

    def _absent(self, quotes: Sequence[QuoteClaim], readings: Sequence[RegisterReading]) -> tuple[str, ...]:
        missing = []
        state = {
            f.role: f
            for f in self.files
            if f.status in ("empty", "unreadable") and f.name != "pcrs-tpm12.txt"
        }

        def why(role: str) -> str:
            file = state.get(role)
            return f" ({file.name} is {file.status})" if file is not None else ""

        if not any(log.events for log in self.logs):
            missing.append(f"boot event log: eventlog.bin{why('event-log')}")
        if not quotes and any(claim.kind == "td-quote" for claim in self.hardware.reports) and not self.keys:
            # the TD quote of a TD without a vTPM stands for quote, registers and key
            return tuple(missing)
        if not quotes:
            missing.append(f"quote: quote.msg and quote.sig{why('quote')}")
        elif any(quote.signature is None for quote in quotes):
            names = ", ".join(f"{quote.name}.sig" for quote in quotes if quote.signature is None)
            missing.append(f"signature of the quote: {names}{why('signature')}")
        if not readings:
            missing.append(f"register values: pcrs.yaml{why('registers')}")
        if not any(claim.role == "ak" and claim.key is not None for claim in self.keys):
            missing.append(f"attestation key: ak.pub{why('key')}")
        return tuple(missing)


def _claim(role: Literal["ak", "ek", "ca"], name: str, certificate: x509.Certificate) -> CertificateClaim:
    from cryptography.hazmat.primitives.serialization import Encoding

    return CertificateClaim(role, name, certificate, certificate.public_bytes(Encoding.DER))


def tpm_name(data: bytes, source: str) -> bytes:
    """A TPM name: raw (algorithm and digest, 22 to 66 bytes) or the same in hex."""
    if 22 <= len(data) <= 66 and data[:2] in (b"\0\x04", b"\0\x0b", b"\0\x0c", b"\0\x0d"):
        return data
    return hex_bytes(decode_text(data, source=source).strip(), source=source, field="name")
