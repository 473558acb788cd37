"""Write ../boots: the evidence of each boot, where it comes from, and what the product must say of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import archive
from expected import Expected
from machines import ISSUER_CERT, MACHINES, ROOT_CERT
from mixes import MIXES
from power import Hardware, qemu_words
from scenarios import SCENARIOS, Scenario
from settings import HERE, LAB, PUBLISHED, RAW, RECORDS, SMALL, UPDATES, attempt
from verify import CHECKS, unexpected

EVIDENCE = (
    "eventlog.bin", "quote*.msg", "quote*.sig", "pcrs.yaml", "pcrs-tpm12.txt", "ak.pub", "ak.pem", "ak.name",
    "ek.pub", "ek.pem", "ek_*.crt.der", "nonce.hex", "credential_activation.json", "ima_ascii.log",
    "ima_binary.bin", "clock.yaml", "cmdline.txt", "uname.txt",
)  # fmt: skip
BOOT_ROLES = ("shim", "shim_helpers", "grub", "kernel")
LIMIT_BYTES = 6 << 20


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _package(item: archive.Component) -> dict[str, str]:
    return {"package": item.package, "version": item.version, "sha256": item.sha256}


def _parts(scenario: Scenario, found: dict[str, archive.Component], tools: dict[str, str]) -> dict[str, Any]:
    """List the packages whose code ran before and in the guest."""
    code = scenario.code(found)
    version = found[scenario.firmware].version if scenario.firmware else tools["ovmf"]
    parts: dict[str, Any] = {
        "firmware": {"package": "ovmf", "version": version, "image": code.name, "image_sha256": _digest(code)}
    }
    if scenario.own_db:
        parts["systemd"] = {"package": "systemd-boot-efi", "version": tools["systemd-boot-efi"]}
        parts["kernel"] = _package(found["kernel"])
        return parts
    for role in BOOT_ROLES:
        parts[role] = _package(found[role])
    if "kernel_updated" in scenario.needs:
        parts["kernel"] = _package(found["kernel_updated"])
    return parts


def _origin(name: str, scenario: Scenario, tools: dict[str, str]) -> dict[str, Any]:
    found = archive.components()
    record = json.loads((RAW / name / "boot.json").read_text())
    machine = MACHINES[scenario.machine]
    names = [Path(word) for word in ("variables.fd", "disk.img", "tpm.sock", "collect.sock", "console.log")]
    code = Path(scenario.code(found).name)
    hardware = Hardware(code, names[0], names[1], scenario.memory_mib, **scenario.hardware)
    return {
        "schema": "cvmlab.sample-origin/1",
        "name": name,
        "kind": "boot",
        "what": scenario.what,
        "reference": (scenario.expected.baseline or ("baseline",))[0],
        "changed": scenario.changed,
        "made": record["made"],
        "seconds": record["seconds"],
        "machine": {"name": machine.name, "tpm": machine.tpm, "banks": machine.banks.split(","),
                    "attestation_key": machine.key_type if machine.tpm == "2.0" else None},
        "components": _parts(scenario, found, tools),
        "tools": tools,
        "qemu": qemu_words(machine, hardware, *names[2:]),
    }  # fmt: skip


def _mix_origin(name: str) -> dict[str, Any]:
    mix = MIXES[name]
    return {
        "schema": "cvmlab.sample-origin/1",
        "name": name,
        "kind": "mix",
        "what": mix.what,
        "derived_from": list(mix.sources),
        "edited_by": "sample_data/bootlab/mixes.py",
    }


def expected_entry(item: Expected) -> dict[str, Any]:
    """Write the fields of expected.json that are filled."""
    verdict = item.verdict if isinstance(item.verdict, str) else list(item.verdict)
    entry: dict[str, Any] = {"verdict": verdict}
    for key in ("baseline", "primary", "any", "independent", "info"):
        if words := getattr(item, key):
            entry[key] = list(words)
    if item.consequences:
        entry["consequences"] = {code: list(under) for code, under in item.consequences.items()}
    return entry


def _copy(name: str, into: Path) -> None:
    into.mkdir(parents=True)
    for pattern in EVIDENCE:
        for source in sorted((RAW / name).glob(pattern)):
            if source.stat().st_size:
                shutil.copyfile(source, into / source.name)
    if (into / "ek.pub").exists():
        shutil.copyfile(ISSUER_CERT, into / "ca-issuercert.pem")


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")


def _guard(folder: Path) -> None:
    """Refuse to publish private keys, paths of the host, or more than the size limit.

    Raises:
        RuntimeError: Something is there that must not be published.
    """
    forbidden = [b"PRIVATE KEY", str(LAB).encode(), str(HERE.parent.parent).encode()]
    forbidden += [host.encode() for host in _archive_hosts()]
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            total += len(data)
            if found := [word for word in forbidden if word in data]:
                raise RuntimeError(f"{path.relative_to(folder)} holds {found[0]!r}")
    if total > LIMIT_BYTES:
        raise RuntimeError(f"{total} bytes are more than the limit of {LIMIT_BYTES}")
    print(f"{total / 1e6:.2f} MB")


def _archive_hosts() -> set[str]:
    return set(re.findall(r"https?://([^/\s]+)", attempt("apt-cache", "policy").stdout))


def _readme(names: list[str]) -> str:
    lines = ["| folder | what | verdict |", "|---|---|---|"]
    for name in names:
        item = SCENARIOS.get(name) or MIXES[name]
        verdict = item.expected.verdict
        lines.append(
            f"| {name} | {item.what} | {verdict if isinstance(verdict, str) else ' or '.join(verdict)} |"
        )
    return (HERE / "boots-readme.md").read_text().replace("{table}", "\n".join(lines))


def publish_all(*, add: bool = False) -> list[str]:
    """Replace the published boots by those that were made and checked.

    Args:
        add: Keep published boots that this run did not make, with the authorities of their machines.

    Returns:
        The names of boots that are not published because a check was not run or did not hold.
    """
    tools = archive.installed_versions()
    fresh = LAB / "published"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    names, refused, expected = [], [], {}
    for name in (*SCENARIOS, *MIXES):
        checks_file = RAW / name / "checks.json"
        if not (RAW / name / "boot.json").exists():
            continue
        checks = (
            json.loads(checks_file.read_text()) if checks_file.exists() else dict.fromkeys(CHECKS, "not run")
        )
        if unexpected(name, checks):
            refused.append(name)
            continue
        _copy(name, fresh / name)
        origin = _origin(name, SCENARIOS[name], tools) if name in SCENARIOS else _mix_origin(name)
        _write(fresh / name / "origin.json", origin | {"checks": checks})
        item = SCENARIOS.get(name) or MIXES[name]
        expected[name] = expected_entry(item.expected)
        names.append(name)
    roots = ROOT_CERT.read_text()
    if add:
        known = json.loads((PUBLISHED / "expected.json").read_text())
        for name in known.keys() - expected.keys():
            shutil.copytree(PUBLISHED / name, fresh / name)
        expected = {name: expected.get(name, known.get(name)) for name in (*SCENARIOS, *MIXES)
                    if name in expected or name in known}  # fmt: skip
        before = (PUBLISHED / "trust-root.pem").read_text()
        roots = before if roots in before else before + roots
    _write(fresh / "expected.json", expected)
    (fresh / "trust-root.pem").write_text(roots)
    (fresh / "README.md").write_text(_readme(list(expected)))
    shutil.copyfile(RECORDS, fresh / "artifacts.json")
    _guard(fresh)
    _guard(SMALL)
    shutil.rmtree(PUBLISHED, ignore_errors=True)
    shutil.copytree(fresh, PUBLISHED)
    shutil.rmtree(UPDATES, ignore_errors=True)
    shutil.copytree(SMALL, UPDATES)
    print(f"published {len(names)} boots")
    return refused
