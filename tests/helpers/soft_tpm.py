"""A software TPM with tpm2-tools that talk to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ("swtpm", "tpm2_startup", "tpm2_quote", "tpm2_checkquote", "openssl")


class SoftTpm:
    """swtpm on a free pair of ports, and tpm2-tools that talk to it."""

    def __init__(self, folder: Path, *, authority: Path | None = None, banks: str = "sha256") -> None:
        """Start a TPM by its state, or one whose endorsement keys the `authority` has certified."""
        self.folder = folder
        (folder / "state").mkdir(exist_ok=True)
        if authority is not None:
            _certified(folder / "state", authority, banks)
        for _ in range(20):
            port = _free_pair()
            self.process = subprocess.Popen(
                [
                    *("swtpm", "socket", "--tpm2", "--flags", "not-need-init"),
                    *("--tpmstate", f"dir={folder / 'state'}"),
                    *("--server", f"type=tcp,port={port},bindaddr=127.0.0.1"),
                    *("--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._answers(port + 1):
                break
            self.close()
        self.tcti = f"swtpm:host=127.0.0.1,port={port}"
        self("startup", "-c")

    def _answers(self, port: int) -> bool:
        for _ in range(100):
            if self.process.poll() is not None:
                return False
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return True
        return False

    def __call__(self, tool: str, *arguments: object) -> str:
        """Run one tool in the folder and return what it printed."""
        done = subprocess.run(
            [f"tpm2_{tool}", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "TPM2TOOLS_TCTI": self.tcti},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"tpm2_{tool} {arguments}: {done.stderr}"
        return done.stdout

    def flush(self) -> None:
        self("flushcontext", "-t")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


def _certified(state: Path, authority: Path, banks: str) -> None:
    """Endorsement keys and certificates by swtpm's local authority, whose files lie in `authority`."""
    authority.mkdir(exist_ok=True)
    local, setup = authority / "local.conf", authority / "setup.conf"
    local.write_text(
        f"statedir = {authority}\nsigningkey = {authority}/signkey.pem\n"
        f"issuercert = {authority}/issuercert.pem\ncertserial = {authority}/certserial\n"
    )
    (authority / "local.options").write_text(
        "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n"
    )
    setup.write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\ncreate_certs_tool_config = {local}\n"
        f"create_certs_tool_options = {authority}/local.options\n"
    )
    done = subprocess.run(
        [
            *("swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert", "--overwrite"),
            *("--pcr-banks", banks, "--config", setup),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _free_pair() -> int:
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
