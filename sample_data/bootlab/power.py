"""One boot: start the TPM and the machine, answer the guest on its second serial port, keep the evidence."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import secrets
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from machines import Machine
from settings import ACCELERATOR, TIMEOUT, run

PROMPT = "lab:"
MAX_LINE = 1 << 20


class BootError(RuntimeError):
    """A boot that did not deliver evidence; the message names the step at which it stopped."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What QEMU is started with, apart from the machine's own TPM and identity."""

    code: Path
    variables: Path
    disk: Path
    memory_mib: int = 512
    secure: bool = True
    disk_slot: str = ""
    tpm_device: str = ""
    extra: Sequence[str] = ()


@dataclass(slots=True)
class Session:
    """One conversation with the guest's collector (guest/collect says the other half)."""

    line: socket.socket
    out: Path
    nonce: str
    settings: Sequence[str]
    deadline: float
    alive: subprocess.Popen[bytes]
    seconds: dict[str, float] = field(default_factory=dict)
    _buffer: bytes = b""

    def lines(self) -> Iterator[str]:
        """Yield the guest's lines until it closes the port.

        Raises:
            BootError: Time is up, or a line has no end.
        """
        self.line.settimeout(1)
        while True:
            if time.monotonic() > self.deadline:
                raise BootError("no answer from the guest in time")
            try:
                data = self.line.recv(1 << 16)
            except TimeoutError:
                if self.alive.poll() is not None:
                    return
                continue
            except ConnectionResetError:
                return
            if not data:
                return
            self._buffer += data
            if len(self._buffer) > MAX_LINE:
                raise BootError("the guest sent a line without end")
            *whole, self._buffer = self._buffer.split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r").decode("latin1")

    def send(self, *lines: str) -> None:
        """Send lines to the guest."""
        self.line.sendall("".join(f"{line}\n" for line in lines).encode())

    def run(self) -> None:
        """Hold the conversation and unpack the evidence.

        Raises:
            BootError: The conversation ended before the evidence was complete.
        """
        start, step = time.monotonic(), "boot"
        ek, ak_name, secret = b"", "", b""
        wanted, archive = "", []
        for line in self.lines():
            word, _, value = line[line.find(PROMPT) + len(PROMPT) :].partition(" ")
            if PROMPT not in line:
                if step == "archive":
                    archive.append(line)
            elif word == "ready":
                self.seconds["guest_ready"] = round(time.monotonic() - start, 1)
                step = "collect"
                self.send(f"nonce {self.nonce}", *self.settings, "go")
            elif word == "ek":
                ek = base64.b64decode(value)
            elif word == "akname":
                ak_name, secret = value, secrets.token_bytes(32)
                self.send("credential " + base64.b64encode(_make_credential(ek, ak_name, secret)).decode())
            elif word == "activated":
                self._record_activation(secret, value, ak_name, ek)
            elif word == "archive":
                wanted, step = value, "archive"
            elif word == "end":
                self._unpack("".join(archive), wanted)
                step = "done"
                self.seconds["evidence"] = round(time.monotonic() - start, 1)
        if step != "done":
            raise BootError(f"the guest stopped at step {step!r}; see console.log")

    def _record_activation(self, secret: bytes, returned: str, ak_name: str, ek: bytes) -> None:
        record = {
            "secret_sent": secret.hex(),
            "secret_returned": returned,
            "ak_name": ak_name,
            "ek_public_sha256": hashlib.sha256(ek).hexdigest(),
        }
        (self.out / "credential_activation.json").write_text(json.dumps(record, indent=1) + "\n")

    def _unpack(self, text: str, wanted: str) -> None:
        try:
            blob = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise BootError(f"the evidence arrived damaged: {error}") from error
        if hashlib.sha256(blob).hexdigest() != wanted:
            raise BootError("the evidence arrived damaged: its SHA-256 differs")
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            for member in tar.getmembers():
                if member.isfile() and (source := tar.extractfile(member)):
                    (self.out / Path(member.name).name).write_bytes(source.read())


def _make_credential(ek: bytes, ak_name: str, secret: bytes) -> bytes:
    """Wrap a secret so that only the TPM that holds both keys opens it (TPM2_MakeCredential, in software)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ek").write_bytes(ek)
        (folder / "secret").write_bytes(secret)
        run("tpm2", "makecredential", "-T", "none", "-u", folder / "ek", "-s", folder / "secret",
            "-n", ak_name, "-o", folder / "blob")  # fmt: skip
        return (folder / "blob").read_bytes()


def qemu_words(machine: Machine, hardware: Hardware, tpm: Path, serial: Path, console: Path) -> list[str]:
    """Write QEMU's command line: a q35 machine with OVMF in flash, a virtio disk and a TPM, no network."""
    smm = "on" if hardware.secure else "off"
    disk = f"virtio-blk-pci,drive=disk,bootindex=0{hardware.disk_slot and ',addr=' + hardware.disk_slot}"
    words = [
        "qemu-system-x86_64", "-machine", f"q35,smm={smm},accel={ACCELERATOR}", "-cpu", "max",
        "-m", str(hardware.memory_mib), "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none",
        "-uuid", machine.uuid, "-rtc", "base=utc", "-global", "ICH9-LPC.disable_s3=1",
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={hardware.code}",
        "-drive", f"if=pflash,format=raw,unit=1,file={hardware.variables}",
        "-drive", f"if=none,id=disk,format=raw,file={hardware.disk},snapshot=on",
        "-device", disk,
        "-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
        "-device", f"{hardware.tpm_device or machine.device},tpmdev=tpm0",
        "-serial", f"file:{console}",
        "-chardev", f"socket,id=collect,path={serial},server=on,wait=off", "-serial", "chardev:collect",
    ]  # fmt: skip
    if hardware.secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return [*words, *hardware.extra]


@contextmanager
def _process(words: Sequence[str], log: Path, patience: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside us; on the way out give it time to end, then end it."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
            process.wait(patience)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 20
    while not path.exists():
        if process.poll() is not None or time.monotonic() > limit:
            raise BootError(f"{process.args!r} did not open {path.name}")
        time.sleep(0.02)


def boot(
    machine: Machine, hardware: Hardware, out: Path, *, nonce: str | None = None, settings: Sequence[str] = ()
) -> dict[str, float]:
    """Boot a machine once and store what its guest collected.

    Args:
        machine: The machine; its TPM keeps what the boot changes.
        hardware: Firmware, variables, disk.
        out: The folder for the evidence, beside console.log and the other logs.
        nonce: Hex; a random one by default.
        settings: Further lines for the collector.

    Returns:
        Seconds to the guest's first line and to the evidence.

    Raises:
        BootError: No complete evidence came.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bootlab-") as name:
        tpm, serial = Path(name) / "tpm", Path(name) / "serial"
        words = ["swtpm", "socket", "--tpmstate", f"dir={machine.state}", "--ctrl", f"type=unixio,path={tpm}"]
        words += ["--terminate", *(["--tpm2"] if machine.tpm == "2.0" else [])]
        with _process(words, out / "swtpm.log", 10) as chip:
            _wait_for(tpm, chip)
            words = qemu_words(machine, hardware, tpm, serial, out / "console.log")
            with _process(words, out / "qemu.log", 60) as computer:
                _wait_for(serial, computer)
                with closing(socket.socket(socket.AF_UNIX)) as line:
                    line.connect(str(serial))
                    deadline = time.monotonic() + TIMEOUT
                    session = Session(line, out, nonce or secrets.token_hex(20), settings, deadline, computer)
                    session.run()
    return session.seconds
