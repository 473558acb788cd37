"""Quotes by a key outside any TPM over registers computed here: what they vouch for, and what not."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quoting import (
    IPL,
    NONCE,
    Machine,
    boot_log,
    extended,
    ima_list,
    public_area,
    template,
    template_of,
)

from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess

if TYPE_CHECKING:
    from pathlib import Path

Judge = Callable[[Machine], Assessment]
TEMPLATES = [template(f"/usr/bin/{number}", b"%d" % number) for number in range(20)]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Assess a machine whose key is enrolled."""

    def run(machine: Machine) -> Assessment:
        folder = machine.write(tmp_path / "machine")
        (tmp_path / "enrolled").write_bytes(public_area(machine.key, machine.attributes))
        return assess(load_evidence(folder), load_context(folder, enrolled_keys=[tmp_path / "enrolled"]))

    return run


def statuses(boot: Assessment) -> dict[str, str]:
    return {link.name: link.status for link in boot.links if link.status != "not-applicable"}


def codes(boot: Assessment) -> list[str]:
    return [finding.code for finding in boot.findings]


def running(templates: list[bytes] = TEMPLATES, after_quote: int = 5) -> Machine:
    """A machine that measured files, some of them between its quote and its reading of the registers."""
    machine = Machine()
    for number, data in enumerate(templates):
        if number == len(templates) - after_quote:
            machine.quote()
        machine.extend(10, data)
    if not after_quote:
        machine.quote()
    machine.files["ima_binary.bin"] = ima_list(templates)
    return machine


def test_every_link_of_a_sound_machine_holds(judge: Judge) -> None:
    boot = judge(Machine())
    assert set(statuses(boot).values()) == {"holds"}
    assert not boot.findings
    assert boot.quotes.values == {(i, "sha256"): value for i, value in Machine().values["sha256"].items()}


@pytest.mark.parametrize("register", [0, 4, 7, 8, 14, 23])
def test_reading_that_differs_in_one_register_is_contradicted(judge: Judge, register: int) -> None:
    machine = Machine()
    machine.quote()
    machine.extend(register, b"after the quote")
    boot = judge(machine)
    assert boot.link("register-values").status == "broken"
    assert "register-values-mismatch" in codes(boot)
    assert "proven" not in boot.event_trust.values()


def test_register_that_the_reading_lacks_comes_from_the_log_alone(judge: Judge) -> None:
    machine = Machine()
    machine.files["pcrs.json"] = json.dumps({"sha256": {"0": machine.values["sha256"][0].hex()}}).encode()
    assert boot_holds(judge(machine))


def test_no_reading_and_a_log_that_does_not_fit_is_not_checked(judge: Judge) -> None:
    machine = Machine()
    machine.extend(8, b"never logged")
    machine.quote()
    machine.files["pcrs.json"] = b""
    boot = judge(machine)
    assert boot.link("register-values").status == "not-checked"
    assert "evidence-incomplete" in codes(boot)
    assert not boot.quotes.values


def boot_holds(boot: Assessment) -> bool:
    return boot.link("register-values").status == boot.link("log-replay").status == "holds"


@pytest.mark.parametrize("after_quote", [0, 1, 5, 20])
def test_register_10_may_move_between_quote_and_reading(judge: Judge, after_quote: int) -> None:
    machine = running(after_quote=after_quote)
    count = len(TEMPLATES) - after_quote
    boot = judge(machine)
    assert boot_holds(boot)
    digests = [hashlib.sha256(data).digest() for data in TEMPLATES[:count]]
    assert boot.quotes.values[10, "sha256"] == extended("sha256", digests)
    assert (boot.replay.ima_match.count if boot.replay.ima_match else 0) == count


def test_another_register_may_not_move_along(judge: Judge) -> None:
    machine = running()
    machine.extend(4, b"after the quote")
    assert judge(machine).link("register-values").status == "broken"


def test_kernel_without_the_hash_of_a_bank_pads_sha1(judge: Judge) -> None:
    """Linux, ima_calc_field_array_hash: a bank without its hash gets the SHA-1 digest and zeros."""
    machine = Machine()
    padded = [hashlib.sha1(data).digest().ljust(32, b"\0") for data in TEMPLATES]
    machine.values["sha256"][10] = extended("sha256", padded[:12])
    machine.quote()
    machine.values["sha256"][10] = extended("sha256", padded)
    machine.files["ima_binary.bin"] = ima_list(TEMPLATES)
    boot = judge(machine)
    assert boot_holds(boot)
    assert boot.quotes.values[10, "sha256"] == extended("sha256", padded[:12])


@pytest.mark.parametrize("banks", [("sha256",), ("sha1", "sha256", "sha384")], ids=len)
def test_list_of_a_server_is_searched_in_seconds(judge: Judge, banks: tuple[str, ...]) -> None:
    templates = [template(f"/usr/lib/{number}", b"%d" % number) for number in range(100_000)]
    machine = Machine(banks=banks)
    machine.files["ima_binary.bin"] = ima_list(templates)
    for bank in banks:
        digests = [hashlib.new(bank, data).digest() for data in templates[:99_000]]
        machine.values[bank][10] = extended(bank, digests, machine.values[bank][10])
    machine.quote(*((bank, range(24)) for bank in banks))
    for bank in banks:
        machine.extend(10, templates[99_000], bank)
    start = time.monotonic()
    boot = judge(machine)
    assert boot_holds(boot)
    assert time.monotonic() - start < 20


def test_lone_boot_aggregate_needs_no_list(judge: Judge) -> None:
    """Linux, ima_add_boot_aggregate: the digest of PCR 0 to 9, measured even without a policy."""
    machine = Machine()
    joined = b"".join(machine.values["sha256"][register] for register in range(10))
    machine.extend(10, template_of(hashlib.sha256(joined).digest(), "boot_aggregate"))
    boot = judge(machine)
    assert boot_holds(boot)
    assert "boot_aggregate" in next(s.why for s in boot.replay.states if s.register == 10)


@pytest.mark.parametrize(
    "digest", [bytes(32), hashlib.sha256(bytes(320)).digest()], ids=["zeros", "of_no_boot"]
)
def test_aggregate_of_another_boot_is_not_explained_without_a_list(judge: Judge, digest: bytes) -> None:
    machine = Machine()
    machine.extend(10, template_of(digest, "boot_aggregate"))
    boot = judge(machine)
    assert boot.link("log-replay").status == "not-checked"
    assert "PCR 10" in boot.link("log-replay").why


def test_list_that_lacks_an_entry_breaks_the_replay(judge: Judge) -> None:
    machine = running(after_quote=0)
    machine.files["ima_binary.bin"] = ima_list(TEMPLATES[:7] + TEMPLATES[8:])
    assert judge(machine).link("log-replay").status == "broken"


def test_edited_text_of_an_entry_is_found_even_where_its_hash_replays(judge: Judge) -> None:
    machine = Machine()
    padded = [hashlib.sha1(data).digest().ljust(32, b"\0") for data in TEMPLATES]
    machine.values["sha256"][10] = extended("sha256", padded)
    machine.files["ima_binary.bin"] = ima_list(TEMPLATES, forged={3: template("/usr/bin/harmless")})
    boot = judge(machine)
    assert boot.link("log-replay").status == "holds"
    assert boot.link("event-data").status == "broken"
    assert "event-data-forged" in codes(boot)


def test_edited_entry_behind_the_quoted_prefix_is_not_judged(judge: Judge) -> None:
    machine = running(after_quote=5)
    machine.files["ima_binary.bin"] = ima_list(TEMPLATES, forged={18: template("/usr/bin/later")})
    boot = judge(machine)
    assert "event-data-forged" not in codes(boot)


@pytest.mark.parametrize("fill", [b"\x00", b"\x5a"], ids=["zeros", "values"])
@pytest.mark.parametrize("files", ["all", "no_reading", "no_log", "no_log_no_reading"])
def test_register_that_no_pc_has_is_not_checked(judge: Judge, fill: bytes, files: str) -> None:
    machine = Machine()
    machine.values["sha256"][24] = machine.values["sha256"][31] = fill * 32
    machine.quote(("sha256", [*range(25), 31]))
    if "no_reading" in files:
        machine.files["pcrs.json"] = b""
    if "no_log" in files:
        machine.files["eventlog.bin"] = b""
    boot = judge(machine)
    assert boot.link("log-replay").status == "not-checked"
    assert not [s for s in boot.replay.states if s.register > 23 and s.status != "not-checked"]


def test_log_of_other_registers_does_not_speak_of_the_tpms(judge: Judge) -> None:
    """A confidential-computing log (UEFI 2.10, 38.4.1) closes MR 1 with the Secure Boot variables."""
    events = tuple((register, 0x80000001 if register == 1 else 4, bytes(4)) for register in (1, 2, 3))
    machine = Machine(events=events)
    boot = judge(machine)
    assert boot.log is not None
    assert boot.log.set == "cc"
    assert boot.link("log-replay").status == "not-checked"
    assert set(boot.event_trust.values()) <= {"unproven"}


def _appended(log: bytes, data: bytes, banks: dict[int, bytes]) -> bytes:
    digests = b"".join(struct.pack("<H", number) + value for number, value in banks.items())
    return log + struct.pack("<III", 8, IPL, len(banks)) + digests + struct.pack("<I", len(data)) + data


def test_event_without_a_digest_of_a_quoted_bank_is_not_proven(judge: Judge) -> None:
    """Whoever writes the log can list anything in a bank that no quote covers."""
    machine = Machine(banks=("sha1", "sha256"))
    data = b"grub_cmd: all is well\0"
    log = _appended(machine.files["eventlog.bin"], data, {0x0004: hashlib.sha1(data).digest()})
    machine.files["eventlog.bin"] = log
    machine.quote(("sha256", range(24)))
    boot = judge(machine)
    assert boot.log is not None
    last = boot.log.events[-1]
    assert last.data == data
    assert boot.event_trust[last.index] == "unproven"
    assert "proven" in boot.event_trust.values()


def test_event_appended_to_the_log_breaks_the_replay(judge: Judge) -> None:
    machine = Machine()
    machine.files["eventlog.bin"] = boot_log([*machine.events, (8, IPL, b"grub_cmd: more\0")])
    boot = judge(machine)
    assert boot.link("log-replay").status == "broken"
    assert next(s.status for s in boot.replay.states if s.register == 8) == "not-replayed"
    assert all(boot.event_trust[e.index] == "unproven" for e in boot.log.events if e.register == 8)  # type: ignore[union-attr]


def test_log_missing_is_said_and_the_quote_still_holds(judge: Judge) -> None:
    machine = Machine()
    machine.files["eventlog.bin"] = b""
    boot = judge(machine)
    assert codes(boot) == ["log-missing"]
    assert boot.link("log-replay").status == "not-checked"
    assert boot.link("register-values").status == "holds"


def test_registers_outside_the_selection_decide_nothing(judge: Judge) -> None:
    machine = Machine()
    machine.quote(("sha256", range(8)))
    machine.extend(8, b"after the quote")
    machine.extend(23, b"after the quote")
    boot = judge(machine)
    assert boot_holds(boot)
    assert {register for register, _ in boot.quotes.values} == set(range(8))
    trust = {boot.event_trust[e.index] for e in boot.log.events if e.register == 8}  # type: ignore[union-attr]
    assert trust == {"unproven"}


def test_bank_that_the_firmware_left_empty_breaks_the_replay(judge: Judge) -> None:
    machine = Machine(banks=("sha256",))
    machine.values["sha384"] = {register: bytes(48) for register in range(24)}
    machine.quote(("sha256", range(24)), ("sha384", range(24)))
    boot = judge(machine)
    assert "bank-not-extended" in codes(boot)
    assert boot.link("log-replay").status == "broken"


@pytest.mark.parametrize("nonce", [b"", bytes(20), NONCE[:-1], NONCE + b"\0"])
def test_quote_for_another_nonce_is_of_another_time(judge: Judge, nonce: bytes) -> None:
    machine = Machine()
    machine.quote(nonce=nonce)
    boot = judge(machine)
    assert boot.link("nonce").status == "broken"
    assert "nonce-mismatch" in codes(boot)
    assert not boot.believed


def test_one_old_quote_among_new_ones_breaks_the_nonce(judge: Judge) -> None:
    machine = Machine()
    machine.quote()
    machine.quote(nonce=bytes(20), name="quote-old")
    assert judge(machine).link("nonce").status == "broken"


def test_quote_of_no_register_says_nothing(judge: Judge) -> None:
    machine = Machine()
    machine.quote(("sha256", ()))
    boot = judge(machine)
    assert boot.link("quote").status == "broken"
    assert "proven" not in boot.event_trust.values()


def test_hash_that_this_python_lacks_is_not_checked(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = running()
    machine.values["sm3_256"] = {register: bytes([register + 1]) * 32 for register in range(24)}
    machine.quote(("sha256", range(24)), ("sm3_256", range(24)))
    made = hashlib.new

    def lacking(name: str, *rest: bytes) -> object:
        if name == "sm3":
            raise ValueError("unsupported hash type sm3")
        return made(name, *rest)

    monkeypatch.setattr(hashlib, "algorithms_available", hashlib.algorithms_available - {"sm3"})
    monkeypatch.setattr(hashlib, "new", lacking)
    boot = judge(machine)
    assert boot.link("log-replay").status != "holds"


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    """The machine of the next test before anything is changed."""
    folder = running().write(tmp_path_factory.mktemp("sound"))
    return assess(load_evidence(folder), load_context(folder, enrolled_keys=[folder / "ak.pub"]))


FLIPPED = ("quote.msg", "quote.sig", "pcrs.json", "ak.pub", "eventlog.bin", "ima_binary.bin")


@pytest.mark.parametrize("name", FLIPPED)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 100_000), mask=st.integers(1, 255))
def test_no_changed_byte_leaves_every_link_holding_with_another_meaning(
    judge: Judge, sound: Assessment, name: str, at: int, mask: int
) -> None:
    assert set(statuses(sound).values()) == {"holds"}
    machine = running()
    machine.read_registers()
    machine.files["ak.pub"] = public_area(machine.key)
    data = bytearray(machine.files[name])
    data[at % len(data)] ^= mask
    machine.files[name] = bytes(data)
    boot = judge(machine)
    if set(statuses(boot).values()) != {"holds"}:
        return
    assert boot.quotes.values == sound.quotes.values
    proven = [e for e in boot.log.events if boot.event_trust[e.index] == "proven"]  # type: ignore[union-attr]
    known = {(e.register, e.data) for e in sound.log.events}  # type: ignore[union-attr]
    assert {(e.register, e.data) for e in proven} <= known
