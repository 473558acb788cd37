"""The logs that the running machine keeps, copied as they are and never read here.

Files of securityfs state a size of 0 and may grow: they are read to their end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MAX_LOG: Final = 64 << 20
"""Largest log that is copied, in bytes: evidence is not read beyond."""

_SECURITY: Final = "sys/kernel/security"
_LOCK_TRIES: Final = 10
_LOCK_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Source:
    """Where a log lies.

    Attributes:
        target: Name in the evidence directory.
        paths: Where to look, below the root; patterns are allowed, the first that matches counts.
        what: What it is.
        locked: True where its writer locks it while it writes.
    """

    target: str
    paths: tuple[str, ...]
    what: str
    locked: bool = False


SOURCES: Final = (
    Source("eventlog.bin", (f"{_SECURITY}/tpm[0-9]*/binary_bios_measurements",), "boot event log"),
    Source("ima_binary.bin", (f"{_SECURITY}/ima/binary_runtime_measurements",), "IMA list, binary"),
    Source("ima_ascii.log", (f"{_SECURITY}/ima/ascii_runtime_measurements",), "IMA list, text"),
    Source(
        "userspace.log",
        ("run/log/systemd/tpm2-measure.log", "var/log/systemd/tpm2-measure.log"),
        "systemd's log of what userspace measured",
        locked=True,
    ),
)


def read_log(source: Source, root: Path) -> tuple[bytes | None, str]:
    """Copy one log.

    Args:
        source: Which.
        root: Root of the file system, ``/`` on a live machine.

    Returns:
        The bytes and the path that they came from; or None and why there are none.
    """
    for pattern in source.paths:
        for path in sorted(root.glob(pattern)):
            return _copy(path, locked=source.locked)
    places = " or ".join(str(root / pattern) for pattern in source.paths)
    security = root / _SECURITY
    if source.paths[0].startswith(_SECURITY) and not (security.is_dir() and any(security.iterdir())):
        return None, f"{security} is empty: mount it (mount -t securityfs securityfs /{_SECURITY})"
    return None, f"there is no {places}"


def _copy(path: Path, *, locked: bool) -> tuple[bytes | None, str]:
    try:
        with path.open("rb") as file:
            if locked:
                _wait_for_writer(file)
            data = file.read(MAX_LOG + 1)
    except PermissionError:
        return None, f"{path} may not be read: run this as root"
    except OSError as error:
        return None, f"{path} cannot be read: {error.strerror or error}"
    if len(data) > MAX_LOG:
        return None, f"{path} is larger than {MAX_LOG >> 20} MiB"
    if not data:
        return None, f"{path} is empty"
    return data, str(path)


def _wait_for_writer(file: IO[bytes]) -> None:
    """Share the writer's lock, so as not to read half a record; a lock that never ends is not waited for."""
    import fcntl

    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
        else:
            return
