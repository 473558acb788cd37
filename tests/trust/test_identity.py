"""PCR 6 names the VM: the rule held against the values that vTPMs of real confidential VMs signed."""

from __future__ import annotations

import hashlib

import pytest
from quoting import Machine, boot_log

from cvmlab.eventlog import read_event_log
from cvmlab.trust.identity import check_identity, identity_findings, identity_value

# public evidence of two confidential VMs: runtime claim vmUniqueId, quoted PCR 6 of the SHA-256 bank
VM = "390CBCF5-6C67-4D9B-98EF-C3F1699CC8FC"
VALUE = bytes.fromhex("8e83187e775b190528592363c2aae49a69050516bbbe5a96fce1d66ff58aaa07")
COMPACT_HASH = 0x0000000C
SEPARATOR = 0x00000004


def quoted(value: bytes, bank: str = "sha256") -> dict[tuple[int, str], bytes]:
    return {(6, bank): value}


@pytest.mark.parametrize("text", [VM, VM.lower()])
def test_quoted_register_of_a_real_vm_is_that_of_its_id(text: str) -> None:
    assert identity_value(text, "sha256") == VALUE
    assert check_identity(text, quoted(VALUE), None).status == "holds"


@pytest.mark.parametrize("bank", ["sha1", "sha384"])
def test_rule_is_the_same_in_every_bank(bank: str) -> None:
    value = b""
    for data in (f"UUID: {VM}".encode(), bytes(4)):
        measured = hashlib.new(bank, data).digest()
        value = hashlib.new(bank, (value or bytes(len(measured))) + measured).digest()
    assert check_identity(VM, quoted(value, bank), None).status == "holds"


@pytest.mark.parametrize("position", range(0, 36, 5))
def test_id_of_another_vm_breaks_the_binding(position: int) -> None:
    other = VM[:position] + ("A" if VM[position] != "A" else "B") + VM[position + 1 :]
    if other.count("-") != 4:
        return
    check = check_identity(other, quoted(VALUE), None)
    assert check.status == "broken"
    assert [f.code for f in identity_findings(check)] == ["vm-identity-differs"]


def test_log_names_the_vm_that_was_measured_instead() -> None:
    events = ((6, COMPACT_HASH, f"UUID: {VM}".encode()), (6, SEPARATOR, bytes(4)))
    log = read_event_log(boot_log(events))
    check = check_identity("DDDDDDDD" + VM[8:], quoted(Machine(events=events).values["sha256"][6]), log)
    assert check.status == "broken"
    assert VM in check.why


def test_register_with_more_than_the_id_is_judged_by_the_log() -> None:
    events = ((6, COMPACT_HASH, f"UUID: {VM}".encode()), (6, COMPACT_HASH, b"more"), (6, SEPARATOR, bytes(4)))
    log = read_event_log(boot_log(events))
    check = check_identity(VM, quoted(Machine(events=events).values["sha256"][6]), log)
    assert check.status == "holds"


@pytest.mark.parametrize(
    ("values", "vm"),
    [
        ({}, VM),
        (quoted(bytes(32)), VM),
        (quoted(hashlib.sha256(bytes(32) + hashlib.sha256(bytes(4)).digest()).digest()), VM),
        (quoted(VALUE), ""),
        (quoted(VALUE), "00000000"),
        ({(6, "sm9"): VALUE}, VM),
    ],
    ids=["not_quoted", "never_extended", "separator_only", "no_id", "id_too_short", "unknown_bank"],
)
def test_what_cannot_be_compared_is_not_checked(values: dict[tuple[int, str], bytes], vm: str) -> None:
    check = check_identity(vm, values, None)
    assert check.status == "not-checked"
    assert not identity_findings(check)
