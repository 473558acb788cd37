"""The trust chain of real boots, and of the same boots with one thing wrong."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from edits import BOOTS, written
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmlab.evidence import load_context, load_evidence
from cvmlab.trust.assess import Assessment, assess

if TYPE_CHECKING:
    from pathlib import Path

Assess = Callable[..., Assessment]
GOOD = "bank_sha256_only"


def codes(boot: Assessment) -> list[str]:
    return [finding.code for finding in boot.findings]


@pytest.mark.parametrize(
    "name", ["baseline", "baseline_machine_b", "bank_sha256_only", "debian_ima", "uki_signed"]
)
def test_every_link_of_a_good_boot_holds(assessed: Assess, name: str) -> None:
    boot = assessed(name)
    assert {
        link.name: link.status for link in boot.links if link.status != "not-applicable"
    } == dict.fromkeys(
        ("key-binding", "key-certificate", "quote", "nonce", "register-values", "log-replay", "event-data"),
        "holds",
    )
    assert boot.believed
    assert boot.binding.way == "credential-activation"
    assert not boot.findings


def test_registers_are_those_that_tpm2_pcrread_printed(assessed: Assess) -> None:
    boot = assessed("baseline")
    text = (BOOTS / "baseline" / "pcrs.yaml").read_text()
    bank = ""
    printed: dict[tuple[int, str], bytes] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(":")
        if not value.strip():
            bank = name.strip()
        else:
            printed[int(name), bank] = bytes.fromhex(value.strip().removeprefix("0x"))
    for pair, value in boot.quotes.values.items():
        assert printed[pair] == value


def test_trust_of_an_event_needs_every_link_before_it(assessed: Assess) -> None:
    boot = assessed(GOOD)
    worth = set(boot.event_trust.values())
    assert worth == {"proven", "digest-only", "unproven"}
    assert boot.log is not None
    for event in boot.log.events:
        if boot.event_trust[event.index] == "proven":
            assert event.digest_check == "covers-data"


@pytest.mark.parametrize(
    "name", ["nonce.hex", "credential_activation.json", "quote.msg", "quote.sig", "ak.pub", "ek.pub"]
)
def test_without_any_of_these_nothing_is_proven(assessed: Assess, name: str) -> None:
    boot = assessed(GOOD, lambda folder: [(folder / n).unlink() for n in (name, *_also(name))])
    assert "proven" not in boot.event_trust.values()
    assert not boot.believed


def _also(name: str) -> tuple[str, ...]:
    return ("ak.pem",) if name == "ak.pub" else ("ek.pem",) if name == "ek.pub" else ()


def test_without_a_trust_root_nothing_is_proven(assessed: Assess) -> None:
    boot = assessed(GOOD, trust_roots=[])
    assert "proven" not in boot.event_trust.values()


def _attest(change: Callable[[bytearray], object]) -> Callable[[Path], object]:
    def run(folder: Path) -> None:
        data = bytearray((folder / "quote.msg").read_bytes())
        change(data)
        (folder / "quote.msg").write_bytes(bytes(data))

    return run


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(
            lambda d: d.__setitem__(slice(0, 4), b"\0\0\0\0"), "quote-not-tpm-generated", id="magic"
        ),
        pytest.param(lambda d: d.__setitem__(slice(4, 6), b"\x80\x17"), "quote-wrong-type", id="certify"),
        pytest.param(lambda d: d.extend(b"\0"), "quote-trailing-data", id="trailing"),
        pytest.param(lambda d: d.__setitem__(-1, d[-1] ^ 1), "quote-signature-invalid", id="digest_bit"),
    ],
)
def test_each_fault_of_a_quote_has_its_code(
    assessed: Assess, change: Callable[[bytearray], object], code: str
) -> None:
    boot = assessed(GOOD, _attest(change))
    assert boot.link("quote").status == "broken"
    assert code in codes(boot)


def test_message_and_signature_of_two_quotes_do_not_fit(assessed: Assess) -> None:
    other = (BOOTS / "cmdline_changed" / "quote.sig").read_bytes()
    assert "quote-signature-invalid" in codes(assessed("baseline", written("quote.sig", other)))


def _only_sha1(folder: Path) -> None:
    for path in folder.glob("quote*"):
        if "sha1" not in path.name:
            path.unlink()


def test_quote_over_sha1_alone_is_weak(assessed: Assess) -> None:
    boot = assessed("baseline", _only_sha1)
    assert "weak-hash-only" in codes(boot)
    assert boot.link("quote").status != "holds"
    assert not boot.believed


def _record(**changes: str) -> Callable[[Path], object]:
    def run(folder: Path) -> None:
        path = folder / "credential_activation.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return run


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"secret_returned": "00" * 32}, id="other_secret"),
        pytest.param({"secret_returned": ""}, id="no_secret"),
        pytest.param({"ak_name": "000b" + "00" * 32}, id="other_attestation_key"),
        pytest.param({"ek_public_sha256": "00" * 32}, id="other_endorsement_key"),
    ],
)
def test_record_that_binds_something_else_does_not_bind(assessed: Assess, changes: dict[str, str]) -> None:
    boot = assessed(GOOD, _record(**changes))
    assert boot.link("key-binding").status == "broken"
    assert "attestation-key-not-bound" in codes(boot)


def test_record_is_recomputed_not_believed(assessed: Assess) -> None:
    boot = assessed(GOOD, _record(ok="true", verified="true", secret_returned="11" * 32))
    assert boot.link("key-binding").status == "broken"


def test_short_secret_binds_nothing(assessed: Assess) -> None:
    boot = assessed(GOOD, _record(secret_sent="00", secret_returned="00"))
    assert boot.link("key-binding").status != "holds"


def test_certificate_of_another_machines_key_is_not_used(assessed: Assess) -> None:
    other = (BOOTS / "baseline_machine_b" / "ek_rsa.crt.der").read_bytes()
    boot = assessed(
        GOOD, lambda folder: [(folder / "ek_ecc.crt.der").unlink(), written("ek_rsa.crt.der", other)(folder)]
    )
    assert boot.link("key-certificate").status == "not-checked"


def test_endorsement_certificate_under_an_unknown_root_breaks(assessed: Assess, tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x"
    made = [*command.split(), "-keyout", "/dev/null", "-out", str(tmp_path / "root.pem")]
    subprocess.run(made, check=True, capture_output=True)
    boot = assessed(GOOD, trust_roots=[tmp_path / "root.pem"])
    assert boot.link("key-certificate").status == "broken"
    assert "endorsement-certificate-untrusted" in codes(boot)


def test_list_that_moved_on_after_the_quote_still_explains_register_10(assessed: Assess) -> None:
    def grow(folder: Path) -> None:
        path = folder / "ima_binary.bin"
        data = b"\x05\x00\x00\x00path\0"
        template = struct.pack("<I", len("sha256:") + 1 + 32) + b"sha256:\0" + bytes(32) + data
        entry = (
            struct.pack("<I", 10)
            + hashlib.sha1(template).digest()
            + struct.pack("<I", 6)
            + b"ima-ng"
            + struct.pack("<I", len(template))
            + template
        )
        path.write_bytes(path.read_bytes() + entry)
        (folder / "ima_ascii.log").unlink()

    boot = assessed("debian_ima", grow)
    assert boot.link("log-replay").status == "holds"
    assert boot.replay.ima is not None
    assert boot.replay.ima_match is not None
    assert boot.replay.ima_match.count == len(boot.replay.ima.entries) - 1


def test_edited_text_of_the_list_is_forged(assessed: Assess) -> None:
    def edit(folder: Path) -> None:
        path = folder / "ima_binary.bin"
        path.write_bytes(path.read_bytes().replace(b"/init\0", b"/inix\0", 1))
        (folder / "ima_ascii.log").unlink()

    boot = assessed("debian_ima", edit)
    assert "event-data-forged" in codes(boot)


def test_removed_entry_of_the_list_breaks_the_replay(assessed: Assess) -> None:
    def edit(folder: Path) -> None:
        path = folder / "ima_ascii.log"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:3] + lines[4:]))
        (folder / "ima_binary.bin").unlink()

    boot = assessed("debian_ima", edit)
    assert boot.link("log-replay").status == "broken"


MESSAGE = (BOOTS / GOOD / "quote.msg").read_bytes()
SIGNATURE = (BOOTS / GOOD / "quote.sig").read_bytes()


@pytest.mark.parametrize("name", ["quote.msg", "quote.sig"])
@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_quote_holds(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, bit: int
) -> None:
    data = bytearray(MESSAGE if name == "quote.msg" else SIGNATURE)
    data[at % len(data)] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flip")
    for file in ("ak.pub", "eventlog.bin", "pcrs.yaml", "nonce.hex", "quote.msg", "quote.sig"):
        (folder / file).write_bytes((BOOTS / GOOD / file).read_bytes())
    (folder / name).write_bytes(bytes(data))
    boot = assess(load_evidence(folder), load_context(folder))
    assert boot.link("quote").status == "broken"
    assert not boot.quotes.values
