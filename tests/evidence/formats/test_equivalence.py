"""Evidence in a tool's container gets the verdict of the same evidence in a folder, good and broken alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import containers
import pytest
from quoting import NONCE, Machine, ima_list, template

from cvmlab import investigate

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvmlab.report.investigation import Investigation

SAMPLES = Path(__file__).resolve().parents[3] / "sample_data" / "azure"
ROOTS = tuple(sorted((SAMPLES / "roots").glob("*.pem")))
CORE = ("quote.msg", "quote.sig", "pcrs.json", "pcrs.yaml")


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _answer(result: Investigation) -> dict[str, Any]:
    """The verdict without the words that name files."""
    found = json.loads(result.to_json())
    return {
        "verdict": found["verdict"],
        "causes": sorted((c["code"], c["primary"], tuple(c["registers"])) for c in found["causes"]),
        "chain": [(link["link"], link["status"]) for link in found["chain"]],
        "registers": found["registers"],
    }


# tool, how it writes, what of the folder it carries
PLAIN: dict[str, tuple[Callable[[containers.Files], object], tuple[str, ...]]] = {
    "az_cvm_vtpm": (containers.bincode, CORE),
    "trustee_tpm": (containers.trustee_tpm, (*CORE, "ak.pem")),
    "go_attestation_platform": (containers.go_platform, (*CORE, "ak.pub", "eventlog.bin")),
    "go_attestation_dump": (containers.go_dump, (*CORE, "ak.pub", "eventlog.bin")),
    "go_tpm_tools_binary": (containers.gotpm_binary, (*CORE, "ak.pub", "eventlog.bin")),
    "go_tpm_tools_json": (containers.gotpm_json, (*CORE, "ak.pub", "eventlog.bin")),
    "go_tpm_tools_text": (containers.gotpm_text, (*CORE, "ak.pub", "eventlog.bin")),
    "keylime_answer": (containers.keylime, (*CORE, "eventlog.bin", "ima_ascii.log")),
    "keylime_results": (
        lambda files: containers.keylime(files, wrap=False), (*CORE, "eventlog.bin", "ima_ascii.log"),
    ),
    "keylime_text": (lambda files: containers.keylime_quote(files).encode(), CORE),
    "keylime_zlib": (lambda files: containers.keylime_quote(files, compressed=True).encode(), CORE),
    "constellation_qemu": (containers.constellation, (*CORE, "ak.pub", "eventlog.bin")),
    "constellation_go_names": (
        lambda files: containers.constellation(files, go_names=True), (*CORE, "ak.pub", "eventlog.bin"),
    ),
}  # fmt: skip
BREAKS: dict[str, Callable[[Machine], None]] = {
    "nothing": lambda machine: None,
    "signature": lambda machine: _flip(machine, "quote.sig", 60),
    "message": lambda machine: _flip(machine, "quote.msg", 70),
    "register": lambda machine: _swap_value(machine),
    "log": lambda machine: _flip(machine, "eventlog.bin", -10),
}


def _flip(machine: Machine, name: str, at: int) -> None:
    data = bytearray(machine.files[name])
    data[at] ^= 1
    machine.files[name] = bytes(data)


def _swap_value(machine: Machine) -> None:
    values = json.loads(machine.files["pcrs.json"])
    values["sha256"]["8"] = "11" * 32
    machine.files["pcrs.json"] = json.dumps(values).encode()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine()
    made.quote()
    made.read_registers()
    entries = [template("/usr/bin/true"), template("/usr/bin/false")]
    made.files["ima_binary.bin"] = ima_list(entries)
    made.write(tmp_path / "whole")
    made.files["ak.pem"] = containers.spki(made.files["ak.pub"])
    (tmp_path / "enrolled.pub").write_bytes(made.files["ak.pub"])
    return made


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("tool", PLAIN)
def test_plain_tpm_evidence(machine: Machine, tmp_path: Path, tool: str, broken: str) -> None:
    write, carried = PLAIN[tool]
    BREAKS[broken](machine)
    folder, file = tmp_path / "folder", tmp_path / "evidence.any"
    folder.mkdir()
    for name in carried:
        if name in machine.files:
            (folder / name).write_bytes(machine.files[name])
    file.write_bytes(_bytes(write(machine.files)))
    options: dict[str, Any] = {"nonce": NONCE, "enrolled_keys": [tmp_path / "enrolled.pub"]}
    want, have = investigate(folder, **options), investigate(file, **options)
    assert _answer(have) == _answer(want)
    if broken == "nothing" and any(name.startswith("ak.") for name in carried):
        assert have.assessment.link("quote").status == "holds"
        assert have.assessment.link("register-values").status == "holds"


@pytest.mark.parametrize("tool", PLAIN)
def test_container_in_a_folder_or_archive_beside_other_files(
    machine: Machine, tmp_path: Path, tool: str
) -> None:
    import zipfile

    write, _ = PLAIN[tool]
    data = _bytes(write(machine.files))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "what-the-agent-said").write_bytes(data)
    (folder / "README.md").write_text("prose")
    (folder / "nonce.hex").write_text(NONCE.hex())
    alone = tmp_path / "alone.x"
    alone.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"machine/{path.name}")
    answers = [
        _answer(investigate(alone, nonce=NONCE)),
        _answer(investigate(folder)),
        _answer(investigate(tmp_path / "e.zip")),
    ]
    assert answers[0] == answers[1] == answers[2]


AZURE: dict[str, tuple[Callable[[containers.Files], object], tuple[str, ...]]] = {
    "trustee_v0": (containers.trustee_v0, ()),
    "trustee_v1": (containers.trustee_v1, ()),
    "trustee_v2": (lambda files: containers.trustee_v1(files, 2), ()),
    "trustee_as_request": (
        lambda files: {"tee": "az-snp-vtpm", "tee-evidence": containers.trustee_v1(files)}, (),
    ),
    "attestation_rs": (lambda files: {"platform": "az-snp", "evidence": containers.trustee_v1(files)}, ()),
    "maa": (containers.maa, ("ak.pub", "ak.crt", "eventlog.bin")),
    "maa_unwrapped": (lambda files: containers.maa(files, wrap=False), ("ak.pub", "ak.crt", "eventlog.bin")),
    "constellation_azure": (
        lambda files: containers.constellation(files, containers.azure_instance_info(files)),
        ("ak.pub", "ak.crt", "eventlog.bin", "ca-vtpm.pem"),
    ),
}  # fmt: skip
ONE_CERTIFICATE = ("trustee_v1", "trustee_v2", "trustee_as_request", "attestation_rs")


@pytest.mark.parametrize("case", sorted(path.parent.name for path in SAMPLES.glob("*/hcl_report.bin")))
@pytest.mark.parametrize("tool", AZURE)
def test_confidential_vm(tmp_path: Path, tool: str, case: str) -> None:
    files = containers.files_of(SAMPLES / case)
    write, carried = AZURE[tool]
    folder, file = tmp_path / "folder", tmp_path / "evidence.any"
    folder.mkdir()
    for name in (*CORE, "hcl_report.bin", "vcek.pem", *carried):
        if name in files:
            (folder / name).write_bytes(files[name])
    if tool in ONE_CERTIFICATE:
        (folder / "vcek.pem").write_bytes(containers.der(files["vcek.pem"]))
    file.write_bytes(_bytes(write(files)))
    nonce = files["nonce.hex"].decode().strip()
    options: dict[str, Any] = {
        "nonce": nonce,
        "trust_roots": ROOTS,
        "baseline": SAMPLES.parent / "baseline.json",
    }
    want, have = investigate(folder, **options), investigate(file, **options)
    assert _answer(have) == _answer(want)
    if case == "good" and tool not in ONE_CERTIFICATE:
        assert have.assessment.link("key-binding").status == "holds"
        assert have.assessment.link("hardware-report").status == "holds"
