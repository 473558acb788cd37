"""What the boots started and read, as digests by other programs: coreutils, osslsigncode, objcopy, openssl.

The files themselves are too large to publish. Predictions are tested with these records in their place.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archive
from artifacts import kernel_image
from disks import make_variables
from scenarios import FACTORY_VARIABLES, INSTALLED_VARIABLES, SCENARIOS
from settings import BUILD, EPOCH, LAB, OWNER_GUID, RAW, RECORDS, SMALL, WORK, attempt, run

SCHEMA = "cvmlab.artifacts/1"
BANKS = ("sha1", "sha256", "sha384", "sha512")
# what systemd's stub or shim keeps in sections, and those whose contents are looked into
SECTIONS = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".sdmagic", ".sbatlevel", ".vendor_cert",
)  # fmt: skip
MAX_SIGNATURES = 8
TEXTS = (".cmdline", ".sdmagic")
SHORT = (".sbatlevel", ".vendor_cert")
MENU = "boot/grub/grub.cfg"
CERTIFICATES = (
    "microsoft.com/ms-uefi-2011", "microsoft.com/windows-2011", "microsoft.com/ms-uefi-2023",
    "microsoft.com/windows-2023", "debian.org/debian-2016",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a boot.

    Attributes:
        path: Where it is.
        package: The package that it comes from, with its version; None where the lab made it.
    """

    path: Path
    package: archive.Component | None = None


def known_certificates() -> dict[str, Path]:
    """Give the certificates that may vouch for an image, by short name."""
    folder = next((LAB / "venv/lib").glob("python3*/site-packages/virt/firmware/certs"))
    found = {Path(name).name: folder / f"{name}.pem" for name in CERTIFICATES}
    return found | {"lab-db": BUILD / "db.crt", "lab-mok": BUILD / "mok.crt"}


def artifacts(small: Path) -> dict[str, Artifact]:
    """List the files of all boots by the name of their record.

    Args:
        small: The folder of the small files that are published themselves.
    """
    found = archive.components()
    made: dict[str, Artifact] = {}
    for role in ("shim", "shim_helpers", "grub", "grub_older"):
        if role in found:
            for path in sorted(found[role].root.rglob("*64.efi.signed")):
                made[f"{role}/{path.name}"] = Artifact(path, found[role])
    for role in ("kernel", "kernel_updated"):
        if role in found:
            path, _ = kernel_image(found[role])
            made[f"{role}/{path.name}"] = Artifact(path, found[role])
    for path in sorted((*BUILD.glob("*.efi"), *BUILD.glob("initrd*.img"))):
        made[f"build/{path.name}"] = Artifact(path)
    for path in sorted(small.iterdir()):
        made[f"updates/{path.name}"] = Artifact(path)
    return made


def digests(path: Path) -> dict[str, str]:
    """Digest a file with coreutils."""
    return {bank: run(f"{bank}sum", "--", path).stdout.split()[0].removeprefix("\\") for bank in BANKS}


def authenticode(path: Path) -> dict[str, str]:
    """Give a PE image's Authenticode digests as osslsigncode makes them for a signature.

    Raises:
        RuntimeError: openssl does not find the digest, or it is not what the present signature states.
    """
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for bank in BANKS:
            out = Path(name) / bank
            run("osslsigncode", "extract-data", "-h", bank, "-in", path, "-out", out)
            text = run("openssl", "asn1parse", "-inform", "DER", "-in", out).stdout
            values = re.findall(r"OCTET STRING +\[HEX DUMP\]:([0-9A-F]+)", text)
            if not values:
                raise RuntimeError(f"{path.name}: no {bank} digest in what osslsigncode made")
            found[bank] = values[-1].lower()
    said = attempt("osslsigncode", "verify", "-in", path)
    match = re.search(r"Calculated message digest *: *([0-9A-F]+)", said.stdout + said.stderr)
    if match and match[1].lower() not in found.values():
        raise RuntimeError(f"{path.name}: osslsigncode calculates another digest while it verifies")
    return found


def signers(path: Path) -> list[str]:
    """Give fingerprints of an image's certificates and of the known ones that issued one, and issuers' names.

    openssl checks who issued whom; sbverify takes any certificate for an image that carries its own chain.
    """
    found: dict[str, None] = {}
    for number in range(MAX_SIGNATURES):
        blocks = _certificates(path, number)
        if not blocks:
            break
        for block in blocks:
            found[_fingerprint(block)] = None
            issuer = run("openssl", "x509", "-noout", "-issuer", "-nameopt", "RFC2253", input=block).stdout
            found[issuer.strip().removeprefix("issuer=")] = None
            for known in known_certificates().values():
                words = ("-partial_chain", "-no_check_time", "-purpose", "any", "-trusted", known)
                if attempt("openssl", "verify", *words, input=block).returncode == 0:
                    found[_fingerprint(known.read_text())] = None
    return list(found)


def _certificates(path: Path, number: int) -> list[str]:
    """The certificates that one of an image's signatures carries, as PEM."""
    with tempfile.TemporaryDirectory() as name:
        copy, blob = Path(name) / "image", Path(name) / "signature"
        shutil.copyfile(path, copy)
        done = attempt("sbattach", "--signum", number, "--detach", blob, copy)
        if done.returncode or not blob.exists():
            return []
        text = run("openssl", "pkcs7", "-inform", "DER", "-in", blob, "-print_certs").stdout
    return re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.S)


def _fingerprint(pem: str) -> str:
    said = run("openssl", "x509", "-noout", "-fingerprint", "-sha256", input=pem).stdout
    return said.strip().rpartition("=")[2].replace(":", "").lower()


def sections(path: Path) -> dict[str, Any]:
    """Cut an image's sections out with objcopy and digest them."""
    listed = attempt("objdump", "-h", path).stdout
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for section in SECTIONS:
            if not re.search(rf"^ +\d+ {re.escape(section)} ", listed, re.M):
                continue
            out = Path(name) / section.strip(".")
            run("objcopy", "--dump-section", f"{section}={out}", path, Path(name) / "copy")
            entry: dict[str, Any] = {"digests": digests(out)}
            if section in TEXTS:
                entry["text"] = out.read_text()
            if section in SHORT:
                entry["hex"] = out.read_bytes().hex()
            if section == ".linux":
                entry["authenticode"] = authenticode(out)
            found[section] = entry
    return found


def _release(path: Path) -> str:
    match = re.match(r"Linux kernel x86 boot executable.*?, version (\S+)", run("file", "-b", path).stdout)
    return match[1] if match else ""


def record(artifact: Artifact) -> dict[str, Any]:
    """Describe one file."""
    path = artifact.path
    entry: dict[str, Any] = {"file": path.name, "size": path.stat().st_size, "digests": digests(path)}
    if artifact.package is not None:
        entry |= {"package": artifact.package.package, "version": artifact.package.version}
    if path.read_bytes()[:2] == b"MZ":
        entry |= {"authenticode": authenticode(path), "signed_by": signers(path)}
        if found := sections(path):
            entry["sections"] = found
        if release := _release(path):
            entry["release"] = release
    elif path.suffix in (".pem", ".der"):
        entry["fingerprint"] = _fingerprint(run("openssl", "x509", "-in", path).stdout)
    return entry


def _variable(edits: object, name: str) -> bytes:
    """Give the contents of a variable as the firmware's store has it after some edits, by virt-firmware."""
    store, out = WORK / "records.fd", WORK / "records.json"
    base = INSTALLED_VARIABLES if INSTALLED_VARIABLES.exists() else FACTORY_VARIABLES
    make_variables(store, base, edits)  # type: ignore[arg-type]
    run(LAB / "venv/bin/virt-fw-vars", "--input", store, "--output-json", out)
    rows = json.loads(out.read_text())["variables"]
    return bytes.fromhex(next(row["data"] for row in rows if row["name"] == name))


def write_small_files(into: Path) -> None:
    """Write the small files of updates: certificates, lists, signed updates of them, menus.

    Args:
        into: An empty folder.
    """
    found = archive.components()
    certificates = known_certificates()
    for name in ("lab-db", "lab-mok", "ms-uefi-2023", "windows-2023"):
        run("openssl", "x509", "-in", certificates[name], "-outform", "DER", "-out", into / f"{name}.der")
    (into / "dbx.esl").write_bytes(_variable(SCENARIOS["dbx_updated"].edits(found), "dbx"))
    run("cert-to-efi-sig-list", "-g", OWNER_GUID, BUILD / "db.crt", into / "lab-db.esl")
    if "grub_older" in found:
        image = found["grub_older"].file("grubx64.efi.signed")
        run("hash-to-efi-sig-list", image, into / "dbx-more.esl")
        run("sign-efi-sig-list", "-a", "-g", OWNER_GUID, "-t", _stamp(), "-k", BUILD / "db.key",
            "-c", BUILD / "db.crt", "dbx", into / "dbx-more.esl", into / "dbx-more.auth")  # fmt: skip
    run("sign-efi-sig-list", "-a", "-g", OWNER_GUID, "-t", _stamp(), "-k", BUILD / "db.key",
        "-c", BUILD / "db.crt", "db", into / "lab-db.esl", into / "lab-db.auth")  # fmt: skip
    for name, text in _menus(found):
        (into / f"grub-{name}.cfg").write_text(text)


def _stamp() -> str:
    return run("date", "-u", "-d", f"@{EPOCH}", "+%Y-%m-%d %H:%M:%S").stdout.strip()


def _menus(found: Mapping[str, archive.Component]) -> Iterator[tuple[str, str]]:
    """Each menu that differs, by the first scenario that has it."""
    seen = set()
    for name, scenario in SCENARIOS.items():
        if any(role not in found for role in scenario.needs):
            continue
        text = scenario.tree(found).get(MENU)
        if isinstance(text, str) and text not in seen:
            seen.add(text)
            yield name, text


def record_all() -> list[str]:
    """Write the record of every file that the boots used, and the small files of updates.

    Returns:
        Nothing: what cannot be recorded ends the step.
    """
    shutil.rmtree(SMALL, ignore_errors=True)
    SMALL.mkdir(parents=True)
    write_small_files(SMALL)
    for path in SMALL.iterdir():
        path.chmod(0o644)
    made = {name: record(artifact) for name, artifact in artifacts(SMALL).items()}
    RECORDS.write_text(json.dumps({"schema": SCHEMA, "artifacts": made}, indent=1) + "\n")
    print(f"recorded {len(made)} files")
    return []


def check_all() -> list[str]:
    """Compare the records with the files that are here, and every started image of a boot with the records.

    Returns:
        The names of records and boots that do not agree.
    """
    made = json.loads(RECORDS.read_text())["artifacts"]
    here = artifacts(SMALL)
    wrong = [name for name, entry in made.items() if name in here and record(here[name]) != entry]
    images = {value for entry in made.values() for value in _images(entry)}
    for log in sorted(RAW.glob("*/eventlog.bin")):
        if unknown := started(log) - images:
            print(f"{log.parent.name}: started images without a record: {', '.join(sorted(unknown))}")
            wrong.append(log.parent.name)
    return wrong


def _images(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from entry.get("authenticode", {}).values()
    for section in entry.get("sections", {}).values():
        yield from section.get("authenticode", {}).values()


def started(log: Path) -> set[str]:
    """Give the SHA-256 digests of the images that a log says were started, as tpm2_eventlog reads it."""
    found = set()
    for event in re.split(r"^- EventNum:", attempt("tpm2_eventlog", log).stdout, flags=re.M):
        if "EventType: EV_EFI_BOOT_SERVICES_APPLICATION" in event:
            found |= set(re.findall(r'AlgorithmId: sha256\s+Digest: "([0-9a-f]+)"', event))
    return found
