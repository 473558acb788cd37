"""Write ../edited: evidence, what must be said of it, and a README; check it with other programs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

from cases import CASES, Case, Maker
from chip import Files
from logs import ALGORITHMS
from publish import expected_entry
from settings import HERE, PUBLISHED, attempt
from verify import Registers, registers_in

EDITED = PUBLISHED.parent / "edited"
BANKS = {number: bank for bank, number in ALGORITHMS.items()}
FORBIDDEN = (b"PRIVATE KEY", b"/tmp/")


def _fails(folder: Path) -> set[str]:
    """Give the checks that fail: quote (signature and nonce), values (its digest), replay of the log."""
    found = set()
    values = registers_in((folder / "pcrs.yaml").read_text())
    nonce = (folder / "nonce.hex").read_text().strip()
    key = folder / ("ak.pem" if (folder / "ak.pem").exists() else "ak.pub")
    for message in folder.glob("quote*.msg"):
        words = ("-u", key, "-m", message, "-s", message.with_suffix(".sig"), "-g", "sha256", "-q", nonce)
        if attempt("tpm2_checkquote", *words).returncode:
            found.add("quote")
        if not _of_values(message, values):
            found.add("values")
    done = attempt("tpm2_eventlog", folder / "eventlog.bin")
    replayed = registers_in(done.stdout[done.stdout.rfind("\npcrs:") :]) if done.returncode == 0 else {}
    for bank, registers in values.items():
        for index, value in registers.items():
            if index != 10 and index < 15 and replayed.get(bank, {}).get(index, "0" * len(value)) != value:
                found.add("replay")
    return found


def _of_values(message: Path, values: Registers) -> bool:
    """Tell whether the digest of a quote of one bank is of the values (TPM 2.0 Part 2, 10.12.1)."""
    # TPML_PCR_SELECTION of one bank and three octets, and the digest behind it
    place = re.search(rb"\x00\x00\x00\x01(..)\x03(...)\x00\x20(.{32})", message.read_bytes(), re.S)
    if place is None:
        return False
    bank, bits, digest = BANKS[int.from_bytes(place[1])], place[2], place[3]
    mask = int.from_bytes(bits, "little")
    joined = "".join(value for index, value in sorted(values[bank].items()) if mask >> index & 1)
    return hashlib.sha256(bytes.fromhex(joined)).digest() == digest


def _label(name: str, case: Case) -> bytes:
    kind = "SIMULATED Windows" if case.synthetic else "EDITED"
    document = {"schema": "cvmlab.evidence/1", "machine": f"{kind}, {name.replace('_', ' ')}"}
    return json.dumps(document, indent=1).encode() + b"\n"


def _entry(name: str, case: Case) -> dict[str, object]:
    entry = {**expected_entry(case.expected), **case.given}
    if case.synthetic:
        entry |= {"synthetic": True, "note": "the events of Windows are written by windows.py of the lab"}
    return entry


def _readme() -> str:
    rows = ["| name | what | verdict | primary cause |", "|---|---|---|---|"]
    for name, case in CASES.items():
        where = case.given.get("evidence")
        note = f" (evidence of `{where}`)" if where else ""
        mark = "Simulated. " if case.synthetic else ""
        rows.append(
            f"| {name} | {mark}{case.what}{note} | {case.expected.verdict} | "
            f"{', '.join(case.expected.primary) or '–'} |"
        )
    return (HERE / "edited-readme.md").read_text().replace("{table}", "\n".join(rows))


def edit_all() -> list[str]:
    """Make every case anew, with new TPMs; give the names of those whose checks are not as they should be."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="bootlab-") as scratch:
        maker = Maker(Path(scratch))
        made: dict[str, Files] = {name: case.make(maker) for name, case in CASES.items() if case.make}
        roots = (PUBLISHED / "trust-root.pem").read_text() + maker.chip.root.read_text()
    shutil.rmtree(EDITED, ignore_errors=True)
    for name, files in made.items():
        folder = EDITED / name
        folder.mkdir(parents=True)
        for file, data in {**files, "evidence.json": _label(name, CASES[name])}.items():
            if any(word in data for word in FORBIDDEN):
                raise RuntimeError(f"{name}/{file} holds what must not be published")
            (folder / file).write_bytes(data)
        if (fails := _fails(folder)) != set(CASES[name].breaks):
            print(f"{name}: {sorted(fails)} fail, {sorted(CASES[name].breaks)} should")
            failed.append(name)
    (EDITED / "trust-root.pem").write_text(roots)
    document = {name: _entry(name, case) for name, case in CASES.items()}
    (EDITED / "expected.json").write_text(json.dumps(document, indent=1) + "\n")
    (EDITED / "README.md").write_text(_readme())
    size = sum(path.stat().st_size for path in EDITED.rglob("*") if path.is_file())
    print(f"{len(made)} cases, {size / 1e6:.2f} MB")
    return failed
