"""Folders of tpm2-tools under any name, made by tpm2-tools, judged as they would be by name."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING

import containers
import pytest
from quoting import ATTESTATION, NONCE, Machine, attest, public_area, sign, software_key

from cvmlab import investigate
from cvmlab.evidence import load_evidence
from cvmlab.evidence.formats.tpm2_tools import MAX_SIZE, free_stem, place

if TYPE_CHECKING:
    from pathlib import Path

    from soft_tpm import SoftTpm

MADE = {
    "rsassa": ("rsa", "rsassa"),
    "rsapss": ("rsa", "rsapss"),
    "ecdsa": ("ecc", "ecdsa"),
}


@pytest.fixture(scope="module")
def made(soft_tpm: SoftTpm) -> SoftTpm:
    """Keys, quotes in each form and readings, as the tools' manual pages make them."""
    tpm = soft_tpm
    tpm("createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
    for name, (group, scheme) in MADE.items():
        tpm.flush()
        tpm(
            "createak", "-C", "ek.ctx", "-c", f"{name}.ctx", "-G", group, "-g", "sha256", "-s", scheme,
            "-u", f"{name}.pub", "-n", f"{name}.name",
        )  # fmt: skip
        tpm.flush()
        tpm("readpublic", "-c", f"{name}.ctx", "-f", "pem", "-o", f"{name}.pem")
        tpm.flush()
        for form in ("tss", "plain"):
            for values in ("serialized", "values"):
                tpm(
                    "quote", "-c", f"{name}.ctx", "-l", "sha256:0,7,16,23", "-q", NONCE.hex(),
                    "-m", f"{name}-{form}.msg", "-s", f"{name}-{form}.sig", "-f", form,
                    "-o", f"{name}-{form}-{values}.pcrs", "-F", values, "-g", "sha256", "--scheme", scheme,
                )  # fmt: skip
                tpm.flush()
                shutil.copy(tpm.folder / f"{name}-{form}.msg", tpm.folder / f"{name}-{form}-{values}.msg")
                shutil.copy(tpm.folder / f"{name}-{form}.sig", tpm.folder / f"{name}-{form}-{values}.sig")
    (tpm.folder / "pcrread.yaml").write_text(tpm("pcrread"))
    (tpm.folder / "clock.yaml").write_text(tpm("readclock"))
    tpm("createprimary", "-C", "o", "-c", "srk.ctx", "-G", "rsa")
    tpm("readpublic", "-c", "srk.ctx", "-f", "tss", "-o", "srk.pub")
    tpm.flush()
    return tpm


def _names(count: int, seed: str) -> list[str]:
    """Names that say nothing, in an order that says nothing."""
    names = [f"output.{number:02d}" for number in range(count)]
    random.Random(seed).shuffle(names)
    return names


@pytest.mark.parametrize("key", ["pub", "pem"])
@pytest.mark.parametrize("values", ["serialized", "values", "yaml"])
@pytest.mark.parametrize("form", ["tss", "plain"])
@pytest.mark.parametrize("scheme", MADE)
def test_folder_is_judged_as_by_name(
    made: SoftTpm, tmp_path: Path, scheme: str, form: str, values: str, key: str
) -> None:
    stored = "serialized" if values == "yaml" else values
    quote = f"{scheme}-{form}-{stored}"
    files = {
        "quote.msg": f"{quote}.msg",
        "quote.sig": f"{quote}.sig",
        "pcrs.bin": f"{quote}.pcrs",
        f"ak.{key}": f"{scheme}.{key}",
        "ek.pub": "ek.pub",
        "clock.yaml": "clock.yaml",
    }
    if values == "yaml":
        del files["pcrs.bin"]
        files["pcrs.yaml"] = "pcrread.yaml"
    named, unnamed = tmp_path / "named", tmp_path / "unnamed"
    named.mkdir()
    unnamed.mkdir()
    for (canonical, source), other in zip(
        files.items(), _names(len(files), f"{scheme}{form}{values}{key}"), strict=True
    ):
        shutil.copy(made.folder / source, named / canonical)
        shutil.copy(made.folder / source, unnamed / other)
    (unnamed / "srk").write_bytes((made.folder / "srk.pub").read_bytes())
    (unnamed / "notes.txt").write_text("reset: done\n")
    enrolled = [made.folder / f"{scheme}.pub"]
    want = investigate(named, nonce=NONCE, enrolled_keys=enrolled)
    have = investigate(unnamed, nonce=NONCE, enrolled_keys=enrolled)
    assert [(link.name, link.status) for link in have.chain] == [
        (link.name, link.status) for link in want.chain
    ]
    status = {link.name: link.status for link in have.chain}
    if form == "tss" or scheme != "rsapss" or key == "pub":
        # a plain signature and a bare key do not say that the scheme is RSAPSS
        assert status["quote"] == status["nonce"] == status["register-values"] == "holds"
    assert have.evidence.clock == want.evidence.clock or have.evidence.clock is not None
    roles = {file.name: (file.role, file.status) for file in have.evidence.files}
    assert roles["srk"] == ("other", "ignored")
    assert roles["notes.txt"] == ("other", "ignored")


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_wrong_signature_is_judged_not_overlooked(tmp_path: Path) -> None:
    machine = Machine()
    machine.quote()
    machine.read_registers()
    broken = bytearray(machine.files["quote.sig"])
    broken[100] ^= 1
    folder = _write(tmp_path / "e", {
        "a": machine.files["quote.msg"], "b": bytes(broken), "c": containers.public(machine),
    })  # fmt: skip
    result = investigate(folder, nonce=NONCE)
    assert result.assessment.link("quote").status == "broken"
    assert "quote-signature-invalid" in {cause.code for cause in result.causes}


def test_two_quotes_find_their_own_signatures(tmp_path: Path) -> None:
    machine = Machine()
    machine.quote(("sha256", range(8)), name="quote")
    machine.quote(("sha256", range(8, 16)), name="quote-b")
    folder = _write(tmp_path / "e", {
        "1-signature": machine.files["quote-b.sig"], "2-signature": machine.files["quote.sig"],
        "later": machine.files["quote-b.msg"], "earlier": machine.files["quote.msg"],
        "key": containers.public(machine),
    })  # fmt: skip
    evidence = load_evidence(folder)
    assert {(q.name, q.source, q.signature_source) for q in evidence.quotes} == {
        ("quote", "earlier", "2-signature"),
        ("quote-later", "later", "1-signature"),
    }


def test_named_quote_and_key_are_not_joined_by_others(tmp_path: Path) -> None:
    """Of what lies about beside named files nothing counts: an old quote breaks nothing."""
    machine, other = Machine(), Machine(key=software_key(7))
    machine.write(tmp_path / "e")
    other.quote()
    plain = investigate(tmp_path / "e")
    _write(tmp_path / "e", {
        "old.msg": other.files["quote.msg"], "old.sig": other.files["quote.sig"],
        "old.pub": containers.public(other), "old.bin": containers.serialized_pcrs(other.values["sha256"]),
    })  # fmt: skip
    result = investigate(tmp_path / "e")
    assert result.chain == plain.chain
    notes = {file.name: file.note for file in result.evidence.files}
    assert all("not used" in notes[name] for name in ("old.msg", "old.pub", "old.bin"))
    assert "signature" in notes["old.sig"]


def test_evidence_json_outranks_content(tmp_path: Path) -> None:
    machine = Machine()
    machine.quote()
    folder = _write(tmp_path / "e", {
        "m": machine.files["quote.msg"], "s": machine.files["quote.sig"], "k": containers.public(machine),
        "evidence.json": json.dumps({
            "schema": "cvmlab.evidence/1", "files": {"quote-named.msg": "m", "quote-named.sig": "s"},
        }).encode(),
    })  # fmt: skip
    evidence = load_evidence(folder)
    assert [(q.name, q.source, q.signature_source) for q in evidence.quotes] == [("quote-named", "m", "s")]
    assert evidence.keys[0].source == "k"


def test_container_beside_a_named_quote_keeps_both(tmp_path: Path) -> None:
    """Of two quotes of one name neither hides the other."""
    machine = Machine()
    folder = machine.write(tmp_path / "e")
    (folder / "agent.bin").write_bytes(containers.bincode(machine.files))
    (folder / "agent-2.bin").write_bytes(containers.bincode(machine.files))
    evidence = load_evidence(folder)
    assert [quote.name for quote in evidence.quotes] == ["quote", "quote-agent", "quote-agent-2"]
    assert [q.source for q in evidence.quotes] == [
        "quote.msg",
        "agent.bin (message)",
        "agent-2.bin (message)",
    ]
    assert all(quote.signature for quote in evidence.quotes)


KEY = software_key()
MESSAGE = attest([("sha256", [0])], {"sha256": {0: bytes(32)}})
LOOSE = [
    pytest.param(MESSAGE, "quote.msg", "", id="attest"),
    pytest.param(len(MESSAGE).to_bytes(2, "big") + MESSAGE, "quote.msg", "", id="tpm2b_attest"),
    pytest.param(MESSAGE + b"\0", "quote.msg", "", id="attest_with_trailing_byte_is_judged"),
    pytest.param(MESSAGE[:40], "quote.msg", "", id="attest_cut_short_is_judged"),
    pytest.param(MESSAGE[:4] + b"\x80\x17" + MESSAGE[6:], "", "something else", id="certify"),
    pytest.param(public_area(KEY), "ak.pub", "", id="attestation_key"),
    pytest.param(public_area(KEY)[2:], "ak.pub", "", id="attestation_key_without_size"),
    pytest.param(public_area(KEY, ATTESTATION & ~(1 << 16)), "ak.pub", "", id="unrestricted_key_is_judged"),
    pytest.param(public_area(KEY, 0x00030072, scheme="null"), "", "storage", id="storage_key"),
    pytest.param(sign(KEY, b"x"), "", "signature", id="signature_of_nothing"),
    pytest.param(b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "", "PEM", id="pem_cut_short"),
    pytest.param(b"-----BEGIN PRIVATE KEY-----\nAAAA\n", None, "", id="private_key_is_nothing"),
]


@pytest.mark.parametrize(("data", "name", "word"), LOOSE)
def test_content_says_what_a_file_is(data: bytes, name: str | None, word: str) -> None:
    found = place([("x", data)], [])
    if name is None:
        assert not found
        return
    assert found["x"].name == name
    assert word in found["x"].note


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 256, b"\xff" * 64, b"plain text\n", bytes(MAX_SIZE + 1), b"\x30\x82\x00", b"10 x"],
)  # fmt: skip
def test_other_bytes_are_nothing(data: bytes) -> None:
    assert not place([("x", data)], [])


def test_stems_fit_the_directorys_names() -> None:
    assert free_stem((), "any") == "quote"
    assert free_stem(("quote",), "a b/ü.msg") == "quote-a-b"
    assert free_stem(("quote",), "...") == "quote-other"
    assert free_stem(("quote", "quote-x", "quote-x-2"), "x.bin") == "quote-x-3"
    assert len(free_stem(("quote",), "y" * 500)) < 64
