"""Events of real logs, found by a walk of our own: no parser of the package takes part."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from needs import absent

if TYPE_CHECKING:
    from pathlib import Path

_DIGEST = {0x04: 20, 0x0B: 32, 0x0C: 48, 0x0D: 64, 0x12: 32}


def walk(log: bytes) -> list[tuple[int, bytes, int]]:
    """Return (event type, data, offset of the data) of each event up to the end or the first nonsense."""
    events: list[tuple[int, bytes, int]] = []
    agile = b"Spec ID Event03" in log[:64]
    position = 0
    while position + 32 <= len(log):
        if position == 0 or not agile:
            kind = struct.unpack_from("<I", log, position + 4)[0]
            position += 28
        else:
            kind, count = struct.unpack_from("<II", log, position + 4)
            position += 12
            if count > 8:
                break
            for _ in range(count):
                algorithm = struct.unpack_from("<H", log, position)[0] if position + 2 <= len(log) else 0
                if algorithm not in _DIGEST:
                    return events
                position += 2 + _DIGEST[algorithm]
        if position + 4 > len(log):
            break
        size = struct.unpack_from("<I", log, position)[0]
        position += 4
        if position + size > len(log):
            break
        events.append((kind, log[position : position + size], position))
        position += size
    return events


@pytest.fixture(scope="session")
def boot_events(boots: Path) -> dict[str, list[tuple[int, bytes, int]]]:
    """Events of each measured boot, by the name of the boot."""
    return {path.parent.name: walk(path.read_bytes()) for path in sorted(boots.glob("*/eventlog.bin"))}


@pytest.fixture(scope="session")
def corpus_events(corpus: Path) -> dict[str, list[tuple[int, bytes, int]]]:
    """Events of each log of the corpus, by its path."""
    logs = [path for path in sorted((corpus / "eventlogs").rglob("*")) if path.is_file()]
    return {str(path.relative_to(corpus)): walk(path.read_bytes()) for path in logs}


@pytest.fixture(scope="session")
def certificate_der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate made by openssl: subject CN=cvmlab test,O=Example, P-256, serial 0x1234."""
    openssl = shutil.which("openssl")
    if openssl is None:
        absent("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
        "-outform DER -out cert.der -days 3650 -set_serial 0x1234 -subj"
    )
    subprocess.run(
        [*command.split(), "/O=Example/CN=cvmlab test"], cwd=folder, check=True, capture_output=True
    )
    return (folder / "cert.der").read_bytes()
