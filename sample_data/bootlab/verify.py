"""Check every boot with other tools (tpm2-tools, evmctl, openssl); nothing of the product is used."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from machines import ISSUER_CERT, MACHINES, ROOT_CERT
from mixes import MIXES
from scenarios import SCENARIOS
from settings import RAW, attempt, run

Registers = dict[str, dict[int, str]]
CHECKS = ("quote", "replay", "ima", "aggregate", "chain", "keys")
OK, ABSENT = "ok", "absent"
QUOTED = range(15)
IMA_REGISTER = 10
# What a boot cannot show because of what it is.
WITHOUT = {
    "tpm12": {"quote", "ima", "aggregate", "chain", "keys"},
    "stock_linux_cmd_sboff": {"replay"},
}
# What is broken in a boot on purpose. The kernel took the boot aggregate before register 9 was extended.
# evmctl is asked for the aggregate of the SHA-256 bank, which the machine with SHA-384 alone does not have.
BREAKS = {"extended_after_log": {"replay", "aggregate"}, "bank_sha384_only": {"aggregate"}}


def registers_in(text: str) -> Registers:
    """Read register values as tpm2-tools prints them (`sha256:` lines, then `  7 : 0x…` lines)."""
    found: Registers = {}
    bank: dict[int, str] = {}
    for line in text.splitlines():
        if match := re.match(r"\s+(sha\d+):\s*$", line):
            bank = found.setdefault(match[1], {})
        elif match := re.match(r"\s+(\d+)\s*:\s*0x([0-9A-Fa-f]+)\s*$", line):
            bank[int(match[1])] = match[2].lower()
    return found


def _quote(folder: Path, nonce: str) -> tuple[str, Registers]:
    """Check every quote; give the register values that the main one signs."""
    if not (folder / "quote.msg").exists():
        return ABSENT, {}
    values: Registers = {}
    for message in sorted(folder.glob("quote*.msg"), reverse=True):
        done = attempt(
            "tpm2_checkquote", "-u", folder / "ak.pem", "-m", message, "-s", message.with_suffix(".sig"),
            "-f", message.with_suffix(".pcrs"), "-g", "sha256", "-q", nonce,
        )  # fmt: skip
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "ERROR" in line), "no reason given")
            return f"{message.name}: {reason.removeprefix('ERROR: ')}", {}
        for bank, registers in registers_in(done.stdout).items():
            values.setdefault(bank, {}).update(registers)
    return OK, values


def _replay(folder: Path, quoted: Registers) -> str:
    """Compare tpm2_eventlog's replay with quoted registers; with readings where no quote covers a bank."""
    log = folder / "eventlog.bin"
    if not log.exists() or not log.stat().st_size:
        return ABSENT
    done = attempt("tpm2_eventlog", log)
    if done.returncode:
        return f"tpm2_eventlog: exit {done.returncode}"
    replayed = registers_in(done.stdout[done.stdout.rindex("\npcrs:") :])
    truth = _readings(folder) | quoted
    for bank, registers in truth.items():
        for index in QUOTED:
            if index == IMA_REGISTER or index not in registers:
                continue
            value = replayed.get(bank, {}).get(index, "0" * len(registers[index]))
            if value != registers[index]:
                return f"register {index} ({bank}): the log gives {value[:12]}, not {registers[index][:12]}"
    return OK if truth else "no register values to compare with"


def _readings(folder: Path) -> Registers:
    old = folder / "pcrs-tpm12.txt"
    if old.exists() and old.stat().st_size:
        pairs = re.findall(r"PCR-(\d+): ([0-9A-F ]+)", old.read_text())
        return {"sha1": {int(index): value.replace(" ", "").lower() for index, value in pairs}}
    reading = folder / "pcrs.yaml"
    return registers_in(reading.read_text()) if reading.exists() else {}


def _ima(folder: Path, quoted: Registers) -> tuple[str, str]:
    """Let evmctl replay the file list against the quoted register 10, and compute the boot aggregate."""
    binary, text = folder / "ima_binary.bin", folder / "ima_ascii.log"
    if not binary.exists() or not binary.stat().st_size or "sha256" not in quoted:
        return ABSENT, ABSENT
    with tempfile.NamedTemporaryFile("w", suffix=".pcrs") as file:
        file.writelines(f"PCR-{index:02d}: {value}\n" for index, value in sorted(quoted["sha256"].items()))
        file.flush()
        listed = attempt("evmctl", "ima_measurement", "--pcrs", f"sha256,{file.name}", binary)
        aggregate = attempt("evmctl", "ima_boot_aggregate", "--pcrs", f"sha256,{file.name}")
    first = text.read_text().splitlines()[0]
    wanted = aggregate.stdout.strip()
    return (
        OK if listed.returncode == 0 else "evmctl: the list does not give register 10",
        OK if wanted and wanted in first else f"evmctl: {wanted[:20]} is not in the list's first line",
    )


def _chain(folder: Path) -> str:
    """Verify the endorsement certificates up to the root, and that the RSA one is of the key in ek.pem."""
    certificates = sorted(folder.glob("ek_*.crt.der"))
    if not certificates:
        return ABSENT
    for certificate in certificates:
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            run("openssl", "x509", "-inform", "der", "-in", certificate, "-out", file.name)
            # The subject alternative name is critical and openssl does not know its attributes.
            done = attempt("openssl", "verify", "-CAfile", ROOT_CERT, "-untrusted", ISSUER_CERT,
                           "-ignore_critical", file.name)  # fmt: skip
            key = run("openssl", "x509", "-in", file.name, "-noout", "-pubkey").stdout
        if done.returncode:
            return f"{certificate.name}: {done.stderr.strip()[-80:]}"
        if certificate.name.startswith("ek_rsa") and key.strip() != (folder / "ek.pem").read_text().strip():
            return f"{certificate.name} is of another key than ek.pem"
    return OK


def _keys(folder: Path) -> str:
    """Check that the key files agree with each other and with the record of the credential activation."""
    record_file = folder / "credential_activation.json"
    if not record_file.exists():
        return ABSENT
    record = json.loads(record_file.read_text())
    for key in ("ak", "ek"):
        done = attempt("tpm2_print", "-t", "TPM2B_PUBLIC", "-f", "pem", folder / f"{key}.pub")
        if (
            done.stdout[done.stdout.find("-----BEGIN") :].strip()
            != (folder / f"{key}.pem").read_text().strip()
        ):
            return f"{key}.pub and {key}.pem differ"
    public = (folder / "ak.pub").read_bytes()[2:]
    name = "000b" + hashlib.sha256(public).hexdigest()
    ek = hashlib.sha256((folder / "ek.pub").read_bytes()).hexdigest()
    if not name == record["ak_name"] == (folder / "ak.name").read_bytes().hex():
        return "the AK's name differs from the activation's"
    if ek != record["ek_public_sha256"]:
        return "the EK differs from the activation's"
    return OK if record["secret_sent"] == record["secret_returned"] else "the secret differs"


def verify(folder: Path) -> dict[str, str]:
    """Check one boot.

    Args:
        folder: The boot as it was collected or mixed.

    Returns:
        For each of `CHECKS`: "ok", "absent", or what is wrong.
    """
    quote, quoted = _quote(folder, (folder / "nonce.hex").read_text().strip())
    ima, aggregate = _ima(folder, quoted)
    results = (quote, _replay(folder, quoted), ima, aggregate, _chain(folder), _keys(folder))
    return dict(zip(CHECKS, results, strict=True))


def unexpected(name: str, results: Mapping[str, str]) -> list[str]:
    """List the checks of a boot that did not turn out as they should."""
    if mix := MIXES.get(name):
        return [check for check in CHECKS if (results[check] not in (OK, ABSENT)) != (check in mix.breaks)]
    absent, broken = WITHOUT.get(name, set()), BREAKS.get(name, set())
    wrong = [
        check
        for check in CHECKS
        if check not in broken and results[check] != (ABSENT if check in absent else OK)
    ]
    return wrong + [check for check in broken if results[check] in (OK, ABSENT)]


def verify_all() -> list[str]:
    """Check everything that was made, print a table, and give the names of the boots that fail.

    Raises:
        RuntimeError: Two machines have the same keys, so one TPM was used for both.
    """
    made = [name for name in (*SCENARIOS, *MIXES) if (RAW / name / "boot.json").exists()]
    failed = []
    keys: dict[str, bytes] = {}
    print(f"{'boot':24s}" + "".join(f"{check:10s}" for check in CHECKS))
    for name in made:
        folder = RAW / name
        results = verify(folder)
        (folder / "checks.json").write_text(json.dumps(results, indent=1) + "\n")
        wrong = unexpected(name, results)
        short = {check: word if word in (OK, ABSENT) else "broken" for check, word in results.items()}
        print(
            f"{name:24s}" + "".join(f"{short[check]:10s}" for check in CHECKS) + ("  WRONG" if wrong else "")
        )
        for check in CHECKS:
            if check in wrong or short[check] == "broken":
                print(f"{'':26s}{check}: {results[check]}")
        if wrong:
            failed.append(name)
        if name in SCENARIOS and (folder / "ak.pub").exists():
            machine = SCENARIOS[name].machine
            if keys.setdefault(machine, (folder / "ak.pub").read_bytes()) != (folder / "ak.pub").read_bytes():
                raise RuntimeError(f"{name}: the attestation key of {machine} changed between its boots")
    if len(set(keys.values())) != len(keys):
        raise RuntimeError("two machines have the same attestation key")
    print(f"{len(made)} boots on {len(MACHINES)} machines, {len(failed)} not as they should be")
    return failed
