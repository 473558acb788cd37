"""The lab's machines: each has its own TPM, made and certified once, and its own SMBIOS identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from settings import LAB, run

CA = LAB / "ca"
ROOT_CERT = CA / "swtpm-localca-rootca-cert.pem"
ISSUER_CERT = CA / "issuercert.pem"


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine that keeps its TPM from boot to boot."""

    name: str
    uuid: str
    banks: str = "sha1,sha256,sha384"
    key_type: str = "rsa rsassa"
    tpm: str = "2.0"

    @property
    def state(self) -> Path:
        """The folder of the TPM's state."""
        return LAB / "tpm" / self.name

    @property
    def device(self) -> str:
        """QEMU's device by which the guest reaches the TPM; version 1.2 has no CRB interface."""
        return "tpm-crb" if self.tpm == "2.0" else "tpm-tis"


MACHINES = {
    machine.name: machine
    for machine in (
        Machine("alder", "3f0a91c6-7d25-4e8b-9b14-c2607e5fa801"),
        Machine("birch", "3f0a91c6-7d25-4e8b-9b14-c2607e5fa802", key_type="ecc ecdsa"),
        Machine("cedar", "3f0a91c6-7d25-4e8b-9b14-c2607e5fa803", banks="sha256"),
        Machine("douglas", "3f0a91c6-7d25-4e8b-9b14-c2607e5fa804", banks="sha1", tpm="1.2"),
        Machine("elder", "3f0a91c6-7d25-4e8b-9b14-c2607e5fa805"),
        Machine("fir", "3f0a91c6-7d25-4e8b-9b14-c2607e5fa806", banks="sha384"),
    )
}


def _authority() -> Path:
    """Write the configuration of swtpm's local certificate authority; its keys are made at first use."""
    CA.mkdir(parents=True, exist_ok=True)
    (CA / "authority.conf").write_text(
        f"statedir = {CA}\nsigningkey = {CA}/signkey.pem\n"
        f"issuercert = {ISSUER_CERT}\ncertserial = {CA}/certserial\n"
    )
    (CA / "authority.options").write_text(
        "--platform-manufacturer cvmlab\n--platform-version 1\n--platform-model bootlab\n"
    )
    setup = CA / "setup.conf"
    setup.write_text(
        "create_certs_tool = /usr/bin/swtpm_localca\n"
        f"create_certs_tool_config = {CA}/authority.conf\n"
        f"create_certs_tool_options = {CA}/authority.options\n"
        "active_pcr_banks = sha256\n"
    )
    return setup


def make_tpm(machine: Machine) -> None:
    """Make and certify a machine's TPM unless it exists.

    Raises:
        RuntimeError: swtpm_setup failed; the half-made state is left for a look.
    """
    done = machine.state / "made"
    if done.exists():
        return
    machine.state.mkdir(parents=True, exist_ok=True)
    words: list[object] = [
        "--tpmstate", machine.state, "--create-ek-cert", "--create-platform-cert", "--overwrite",
        "--config", _authority(), "--vmid", f"bootlab-{machine.name}",
        "--logfile", machine.state / "setup.log",
    ]  # fmt: skip
    if machine.tpm == "2.0":
        words += ["--tpm2", "--pcr-banks", machine.banks, "--lock-nvram"]
    else:
        words += ["--take-ownership"]
    run("swtpm_setup", *words)
    done.touch()
