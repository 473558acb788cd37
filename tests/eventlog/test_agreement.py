"""Decoding held to independent readings of the same bytes.

`tpm2_eventlog` wrote the YAML beside the boots, and the one that is installed reads the public logs. Expected
JSON of Trustee and compute-pcrs is in the corpus. sbsiglist makes signature lists, virt-fw-sigdb reads them.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvmlab.artifacts import identify, known_digests
from cvmlab.banks import available
from cvmlab.binary import Cursor
from cvmlab.eventlog import read_event_log
from cvmlab.eventlog.digest_check import check_digest
from cvmlab.eventlog.producers import decode
from cvmlab.eventlog.types import EVENT_TYPES
from cvmlab.uefi.siglist import parse_signature_lists

BOOTS = Path(os.environ.get("CVMLAB_BOOTS", "/nonexistent"))
NAMES = sorted(path.parent.name for path in BOOTS.glob("*/eventlog.yaml"))
TYPES = {name: number for number, name in EVENT_TYPES.items()}
# what tpm2-tools 5.4 has no name for
UNNAMED = "Unknown event type"


def _document(text: str) -> dict[str, Any]:
    """Read YAML with every value as text: `0x00` must not become a number.

    Events of TPM 1.2 logs are printed without the marks of a list, so each would replace the one before.
    """
    if "\n- EventNum" not in text:
        text = re.sub(r"(?m)^  PCRIndex:", "- PCRIndex:", text)
    found = yaml.load(text, Loader=yaml.CBaseLoader)
    assert isinstance(found, dict)
    return found


def _digests(event: dict[str, Any]) -> dict[str, str]:
    if "Digests" in event:
        return {one["AlgorithmId"]: one["Digest"] for one in event["Digests"]}
    return {"sha1": event["Digest"]}


def _compare(log: Any, said: dict[str, Any]) -> collections.Counter[str]:
    """Compare every event with what tpm2_eventlog says of it; return how often each field was compared."""
    seen = collections.Counter[str]()
    theirs = said["events"] or []
    assert len(log.events) == len(theirs)
    for event, other in zip(log.events, theirs, strict=True):
        assert event.index == int(other.get("EventNum", event.index))
        assert event.register == int(other["PCRIndex"])
        if not other["EventType"].startswith(UNNAMED):
            assert event.type_name == other["EventType"]
        assert len(event.data) == int(other["EventSize"])
        if event.index or "Digests" in other:
            assert {bank: value.hex() for bank, value in event.digests.items()} == _digests(other)
        seen["event"] += 1
        _compare_fields(event, other.get("Event"), seen)
    return seen


def _compare_fields(event: Any, other: object, seen: collections.Counter[str]) -> None:
    fields = event.payload.fields
    if not isinstance(other, dict) or "error" in fields:
        return
    if "UnicodeName" in other:
        assert fields["variable"] == other["UnicodeName"]
        assert fields["guid"] == other["VariableName"]
        assert fields["size"] == int(other["VariableDataLength"])
        seen["variable"] += 1
    data = other.get("VariableData")
    if isinstance(data, dict) and "Description" in data and event.payload.kind == "boot-entry":
        assert fields["description"] == data["Description"]
        assert fields["active"] == (data["Enabled"] == "Yes")
        seen["boot entry"] += 1
    if event.payload.kind == "boot-order" and isinstance(data, list):
        assert [f"Boot{item}".lower() for item in fields["order"]] == [item.lower() for item in data]
        seen["boot order"] += 1
    if "DevicePath" in other and "ImageLengthInMemory" in other:
        assert fields["length"] == int(other["ImageLengthInMemory"])
        assert fields["location"] == int(other["ImageLocationInMemory"], 16)
        name = fields["path"]
        if name and name.isascii():
            # the text of the tool is the path's bytes, or a reading of them where it was built with efivar
            written = "".join(name.split("\\")).encode("utf-16-le").hex()
            told = other["DevicePath"].replace("5c00", "").lower()
            assert written in told or name.lower() in other["DevicePath"].lower().replace("/", "\\")
        seen["image"] += 1
    # the tool takes texts such as "Boot Guard Measured S-CRTM" for addresses too
    if "BlobBase" in other and "text" not in fields:
        assert fields["base"] == int(other["BlobBase"], 16)
        assert fields["length"] == int(other["BlobLength"], 16)
        seen["blob"] += 1
    if event.payload.kind == "partition-table" and "Header" in other:
        assert fields["disk_guid"] == other["Header"]["DiskGUID"]
        assert fields["count"] == int(other["NumberOfPartitions"])
        seen["partition table"] += 1


@pytest.mark.parametrize("name", NAMES)
def test_every_boot_reads_as_the_yaml_beside_it(boots: Path, name: str) -> None:
    said = _document((boots / name / "eventlog.yaml").read_text())
    log = read_event_log(boots / name / "eventlog.bin")
    seen = _compare(log, said)
    assert seen["event"] >= 20
    assert seen["variable"] >= 5
    assert seen["image"] >= 1
    replayed = log.replay()
    compared = 0
    for bank, values in said["pcrs"].items():
        for index, value in values.items():
            assert replayed[bank][int(index)].hex() == value.removeprefix("0x"), (bank, index)
            compared += 1
    assert compared >= 8


def test_public_logs_read_as_tpm2_eventlog_reads_them(corpus: Path) -> None:
    """Every log that the tool reads to its end; it crashes on some and refuses others."""
    seen = collections.Counter[str]()
    rows = json.loads((corpus / "eventlogs.json").read_text())
    for row in rows:
        if row["tpm2_eventlog_5_4"] != "ok" or not row["events"]:
            continue
        path = corpus / "eventlogs" / row["file"]
        command = ["tpm2_eventlog", "--eventlog-version=2", path]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        if done.returncode:
            continue
        try:
            said = _document(done.stdout.decode("utf-8", "replace"))
        except yaml.YAMLError:
            continue
        seen["log"] += 1
        seen += _compare(read_event_log(path), said)
    assert seen["log"] >= 55
    assert seen["event"] > 3000
    assert seen["variable"] > 500
    assert seen["boot entry"] > 100
    assert seen["image"] > 100
    assert seen["partition table"] > 20


def test_td_shim_log_reads_as_trustee_expects(corpus: Path) -> None:
    name = "azure/confidential-containers__trustee/deps/verifier/test_data/parse_tdx_claims_expected.json"
    rows = json.loads((corpus / name).read_text())["uefi_event_logs"]
    assert len(rows) == 5
    checks = []
    for row in rows:
        data, number = base64.b64decode(row["event"]), TYPES[row["type_name"]]
        payload = decode(number, row["index"], data, set="cc")
        digests = {"sha384": bytes.fromhex(row["digests"][0]["digest"])}
        check, _ = check_digest(number, row["index"], digests, payload)
        checks.append(check)
        if row["digest_matches_event"]:
            assert check == "covers-data"
        text = row["details"].get("string") or ""
        assert payload.name in text or payload.name == "td_hob"
        if text.startswith("td_payload_info "):
            assert payload.kind == "kernel-command-line"
            assert text == f"td_payload_info {payload.fields['command_line']}"
    # Trustee compares with all data; the td-shim specification says that the digest is of Info alone
    assert checks == ["covers-data", "covers-data", "covers-data", "describes", "covers-data"]


def _predicted(corpus: Path) -> list[dict[str, Any]]:
    folder = corpus / "azure" / "trusted-execution-clusters__compute-pcrs" / "test-fixtures"
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    return [pcr for document in found for pcr in document.get("pcrs", [document])]


def test_predicted_registers_of_compute_pcrs_follow_from_their_events(corpus: Path) -> None:
    known = known_digests()
    named = 0
    registers = _predicted(corpus)
    assert len(registers) >= 4
    for register in registers:
        value = bytes(32)
        for event in register["events"]:
            digest = bytes.fromhex(event["hash"])
            value = hashlib.sha256(value + digest).digest()
            meaning = known.get(digest, "")
            if event["name"] == "EV_SEPARATOR":
                assert meaning.startswith("separator")
                named += 1
            elif event["id"] == "Pcr7SecureBoot":
                assert meaning == "UEFI variable SecureBoot: on"
                named += 1
            elif event["id"] == "Pcr4EfiCall":
                assert "calls a boot option" in meaning
                named += 1
        assert value.hex() == register["value"]
    assert named >= 4


MICROSOFT_OWNER = "77fa9abd-0359-4d32-bd60-28f4e78f784b"


def _list_of(name: str, folder: Path) -> Path:
    """A signature list that sbsiglist made of a published certificate."""
    pem = resources.files("virt.firmware").joinpath(f"certs/microsoft.com/{name}.pem").read_bytes()
    der, made = folder / f"{name}.der", folder / f"{name}.list"
    subprocess.run(["openssl", "x509", "-outform", "DER", "-out", der], input=pem, check=True)
    command = ["sbsiglist", "--owner", MICROSOFT_OWNER, "--type", "x509", "--output", made, der]
    subprocess.run(command, check=True, capture_output=True)
    return made


def test_authority_of_shim_is_found_in_a_list_that_sbsiglist_made(corpus: Path, tmp_path: Path) -> None:
    """compute-pcrs predicts what the firmware measures when Microsoft's key vouches for shim."""
    wanted = next(
        bytes.fromhex(event["hash"])
        for register in _predicted(corpus)
        for event in register["events"]
        if event["id"] == "Pcr7ShimCert"
    )
    (tmp_path / "db.esl").write_bytes(_list_of("ms-uefi-2011", tmp_path).read_bytes())
    match = identify([wanted], [tmp_path / "db.esl"])[wanted][0]
    assert match.form == "entry 0 of variable db"


def test_lists_of_sbsiglist_read_as_virt_fw_sigdb_reads_them(tmp_path: Path) -> None:
    names = ("ms-uefi-2011", "ms-uefi-2023", "windows-2011", "ms-kek-2023")
    data = b"".join(_list_of(name, tmp_path).read_bytes() for name in names)
    digest = tmp_path / "hash"
    digest.write_bytes(hashlib.sha256(b"image").digest())
    made = tmp_path / "hash.list"
    subprocess.run(
        ["sbsiglist", "--owner", MICROSOFT_OWNER, "--type", "sha256", "--output", made, digest],
        check=True, capture_output=True,
    )  # fmt: skip
    path = tmp_path / "all.esl"
    path.write_bytes(data + made.read_bytes())
    said = subprocess.run(
        [sys.executable, "-m", "virt.firmware.sigdb", "--input", path, "--print"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lists = parse_signature_lists(Cursor(path.read_bytes()))
    assert [one.type_name for one in lists] == ["X509"] * 4 + ["SHA256"]
    assert all(str(s.owner) == MICROSOFT_OWNER for one in lists for s in one.signatures)
    for one in lists:
        for signature in one.signatures:
            if signature.certificate is not None:
                assert re.search(rf"\b{re.escape(signature.certificate.common_name)}\b", said)
    assert said.lower().count("x509") >= 4
    assert lists[-1].signatures[0].data == digest.read_bytes()


@pytest.mark.parametrize("name", ["baseline", "dbx_updated", "uki_signed"])
def test_databases_of_real_boots_read_as_virt_fw_sigdb_reads_them(
    boots: Path, tmp_path: Path, name: str
) -> None:
    log = read_event_log(boots / name / "eventlog.bin")
    compared = 0
    for event in log.events:
        if event.payload.name not in ("PK", "KEK", "db", "dbx") or event.type != 0x80000001:
            continue
        size = event.payload.fields["size"]
        assert isinstance(size, int)
        if not size:
            continue
        path = tmp_path / f"{event.payload.name}.esl"
        path.write_bytes(event.data[-size:])
        said = subprocess.run(
            [sys.executable, "-m", "virt.firmware.sigdb", "--input", path, "--print"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        value = event.payload.value
        assert isinstance(value, tuple)
        for one in value:
            for signature in one.signatures:
                if signature.certificate is not None:
                    assert signature.certificate.common_name in said
                    compared += 1
    assert compared >= 3


def test_banks_that_this_python_lacks_are_not_compared() -> None:
    """The comparisons above rest on hashes being there."""
    assert all(available(bank) for bank in ("sha1", "sha256", "sha384", "sha512"))
