"""Containers that are cut, swapped, extended or of another version: named, and what is sound is kept."""

from __future__ import annotations

import contextlib
import copy
import json
import struct
from typing import TYPE_CHECKING, Any

import containers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nitro_maker import Authority, document, payload
from quoting import NONCE, Machine

from cvmlab import investigate
from cvmlab.errors import CvmlabError, EvidenceError, ParseError
from cvmlab.evidence import load_context, load_evidence
from cvmlab.evidence.formats import FORMATS, translate
from cvmlab.evidence.formats.keylime import MAX_UNPACKED
from cvmlab.evidence.formats.values import base64_bytes, keys_of, octets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _machine() -> Machine:
    made = Machine()
    made.quote()
    made.read_registers()
    made.files["ak.pub"] = containers.public(made)
    made.files["hcl_report.bin"] = b"HCLA" + bytes(1300)
    made.files["vcek.pem"] = _certificate()
    return made


def _certificate() -> bytes:
    return Authority().root_pem()


FILES = _machine().files
AUTHORITY = Authority()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


SOUND: dict[str, bytes] = {
    "bincode": containers.bincode(FILES),
    "trustee_v0": _json(containers.trustee_v0(FILES)),
    "trustee_v1": _json(containers.trustee_v1(FILES)),
    "trustee_tpm": _json(containers.trustee_tpm(FILES)),
    "attestation_rs": _json({"platform": "az-snp", "evidence": containers.trustee_v1(FILES)}),
    "go_platform": _json(containers.go_platform(FILES)),
    "go_dump": _json(containers.go_dump(FILES)),
    "gotpm_binary": containers.gotpm_binary(FILES),
    "gotpm_json": containers.gotpm_json(FILES),
    "gotpm_text": containers.gotpm_text(FILES),
    "keylime": _json(containers.keylime(FILES)),
    "keylime_text": containers.keylime_quote(FILES).encode(),
    "constellation": _json(containers.constellation(FILES)),
    "maa": _json(
        {"AttestationProtocolVersion": "2.0", "TpmInfo": {"PcrQuote": containers.b64(FILES["quote.msg"])}}
    ),
    "nitro": document(AUTHORITY, payload(AUTHORITY, {0: bytes(48)})),
}


def _where(data: bytes) -> list[str]:
    keys = keys_of(data)
    return [one.name for one in FORMATS if one.recognise(data, keys)]


@pytest.mark.parametrize("name", SOUND)
def test_each_file_is_of_one_tool_only(name: str) -> None:
    assert len(_where(SOUND[name])) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b"\x0a\x00", b"r:::", b"\x84", _json({"quote": 1}),
        b"\x0a\0\0\0" + bytes(60), FILES["eventlog.bin"], FILES["quote.msg"], FILES["quote.sig"],
        FILES["ak.pub"], FILES["pcrs.json"], b"-----BEGIN CERTIFICATE-----\n", b"\xff" * 100, b"{" * 5000,
        _json({"keys": [{"kid": "HCLAkPub"}], "vm-configuration": {}}), _json({"vcekCert": "", "tcbm": ""}),
        _json({"results": {}}), _json({"evidence": {}}), _json({"version": 1}),
    ],
)  # fmt: skip
def test_other_files_are_of_no_tool(data: bytes) -> None:
    assert _where(data) == []
    assert translate(data, "x") is None


@pytest.mark.parametrize("name", SOUND)
def test_any_cut_is_an_error_a_problem_or_unknown_and_never_wrong(name: str, tmp_path: Path) -> None:
    """What a cut file still gives is a part of what the whole gives, byte for byte."""
    data = SOUND[name]
    whole = translate(data, "x")
    assert whole is not None
    bodies = {part.data for part in whole.parts}
    for size in {*range(1, len(data), max(len(data) // 40, 1)), len(data) - 1}:
        found = None
        with contextlib.suppress(ParseError):
            found = translate(data[:size], "x")
        if found is not None and name not in ("keylime_text", "nitro"):
            assert {part.data for part in found.parts if part.name != "pcrs.json"} <= bodies


@pytest.mark.parametrize("name", [name for name, data in SOUND.items() if data[:1] == b"{"])
def test_key_twice_is_refused(name: str, tmp_path: Path) -> None:
    value = json.loads(SOUND[name])
    key = next(iter(value))
    twice = SOUND[name].rstrip()[:-1] + b"," + _json({key: value[key]})[1:]
    file = tmp_path / "evidence"
    file.write_bytes(twice)
    with pytest.raises(EvidenceError, match="twice"):
        load_evidence(file)
    (tmp_path / "folder").mkdir()
    _machine_folder(tmp_path / "folder")
    (tmp_path / "folder" / "agent").write_bytes(twice)
    evidence = load_evidence(tmp_path / "folder")
    assert {f.name: f.status for f in evidence.files}["agent"] == "unreadable"
    assert [p.source for p in evidence.problems] == ["agent"]


def _machine_folder(folder: Path) -> None:
    Machine().write(folder)


def _edit(value: Any, path: str, new: object) -> Any:
    value = copy.deepcopy(value)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    holder = value
    for step in steps:
        holder = holder[step]
    if new is KeyError:
        del holder[last]
    else:
        holder[last] = new
    return value


# container, path in it, new value, field that the problem or error names
EDITS: dict[str, tuple[Callable[[containers.Files], Any], str, object, str]] = {
    "trustee_int_256": (containers.trustee_v0, "quote/message", [1, 256], "quote.message"),
    "trustee_int_negative": (containers.trustee_v0, "quote/message", [1, -1], "quote.message"),
    "trustee_booleans": (containers.trustee_v0, "quote/message", [True, False], "quote.message"),
    "trustee_short_register": (containers.trustee_v0, "quote/pcrs/3", [0] * 31, "quote.pcrs[3]"),
    "trustee_registers_object": (containers.trustee_v0, "quote/pcrs", {"0": "00"}, "quote.pcrs"),
    "trustee_quote_a_list": (containers.trustee_v0, "quote", [], "quote"),
    "trustee_version_3": (containers.trustee_v1, "version", 3, "version"),
    "trustee_version_a_text": (containers.trustee_v1, "version", "1", "version"),
    "trustee_version_true": (containers.trustee_v1, "version", True, "version"),
    "trustee_one_character": (containers.trustee_v1, "hcl_report", "a", "hcl_report"),
    "trustee_two_alphabets": (containers.trustee_v1, "hcl_report", "a+b_", "hcl_report"),
    "trustee_not_ascii": (containers.trustee_v1, "hcl_report", "ü" * 8, "hcl_report"),
    "trustee_number": (containers.trustee_v1, "tpm_quote/signature", 7, "tpm_quote.signature"),
    "go_tpm12": (containers.go_platform, "TPMVersion", 1, "TPMVersion"),
    "go_quotes_object": (containers.go_platform, "Quotes", {}, "Quotes"),
    "go_quote_a_text": (containers.go_platform, "Quotes/0", "x", "Quotes[0]"),
    "go_quote_of_tpm12": (containers.go_platform, "Quotes/0/Version", 1, "Quotes[0].Version"),
    "go_register_no_base64": (containers.go_platform, "PCRs/2/Digest", "A", "PCRs[2].Digest"),
    "go_index_a_text": (containers.go_platform, "PCRs/2/Index", "2", "PCRs[2]"),
    "go_log_no_base64": (containers.go_platform, "EventLog", "***", "EventLog"),
    "keylime_two_parts": (containers.keylime, "results/quote", "rAAAA:BBBB", "results.quote"),
    "keylime_number": (containers.keylime, "results/quote", 5, "results.quote"),
    "keylime_log": (containers.keylime, "results/mb_measurement_list", "*", "results.mb_measurement_list"),
    "constellation_quote": (containers.constellation, "Attestation/quotes/0", 1, "Attestation.quotes[0]"),
    "constellation_attestation": (containers.constellation, "Attestation", [], "Attestation"),
    "constellation_info": (containers.constellation, "InstanceInfo", "*", "InstanceInfo"),
    "constellation_register_name": (
        containers.constellation, "Attestation/quotes/0/pcrs/pcrs/x", "AA==",
        "Attestation.quotes[0].pcrs.pcrs.x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EDITS)
def test_wrong_value_is_named_by_its_path(case: str) -> None:
    make, path, new, field = EDITS[case]
    data = _json(_edit(make(FILES), path, new))
    failure = None
    try:
        found = translate(data, "agent.json")
    except ParseError as error:
        found, failure = None, (error.source, error.field)
    if found is None:
        assert failure == ("agent.json", field)
        return
    assert field in {problem.field for problem in found.problems}
    assert {problem.source for problem in found.problems} == {"agent.json"}
    # the other parts are kept
    assert len(found.parts) >= 1


@pytest.mark.parametrize("name", ["trustee_tpm", "go_platform", "keylime"])
def test_message_and_signature_swapped_is_no_quote(name: str, tmp_path: Path) -> None:
    swapped = {**FILES, "quote.msg": FILES["quote.sig"], "quote.sig": FILES["quote.msg"]}
    make: dict[str, Callable[[containers.Files], Any]] = {
        "trustee_tpm": containers.trustee_tpm,
        "go_platform": containers.go_platform,
        "keylime": containers.keylime,
    }
    (tmp_path / "e").write_bytes(_json(make[name](swapped)))
    result = investigate(tmp_path / "e", nonce=NONCE)
    assert result.assessment.link("quote").status == "broken"
    assert result.verdict == "not-trusted"


@pytest.mark.parametrize("name", [name for name, data in SOUND.items() if data[:1] == b"{"])
def test_further_members_are_said_and_change_nothing(name: str) -> None:
    whole = translate(SOUND[name], "x")
    more = json.loads(SOUND[name])
    more["and-more"] = {"nonce": "00", "trusted": True}
    found = translate(_json(more), "x")
    assert found is not None
    assert whole is not None
    assert found.parts == whole.parts
    assert found.problems == whole.problems


BINCODE = SOUND["bincode"]


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        pytest.param(BINCODE + b"\0", 3, id="trailing_byte"),
        pytest.param(BINCODE[:-1], 3, id="last_register_cut"),
        pytest.param(BINCODE[: -24 * 32 - 8], 2, id="no_registers"),
        pytest.param(BINCODE[: -24 * 32 - 8] + struct.pack("<Q", 1 << 60), 2, id="count_of_2_to_60"),
        pytest.param(BINCODE[: -24 * 32 - 8] + struct.pack("<Q", 0), 2, id="count_of_zero"),
    ],
)
def test_bincode_keeps_the_quote_before_damage(data: bytes, parts: int) -> None:
    found = translate(data, "q")
    assert found is not None
    assert len(found.parts) == parts
    assert bool(found.problems) == (not data.endswith(struct.pack("<Q", 0)) or len(data) > 1000)


def test_bincode_whose_message_is_cut_is_an_error() -> None:
    with pytest.raises(ParseError, match="message"):
        translate(BINCODE[: 8 + 256 + 8 + 20], "q")


def test_keylime_zlib_bomb_is_refused() -> None:
    import zlib

    bomb = containers.b64(zlib.compress(bytes(64 << 20)))
    text = containers.keylime_quote(FILES).split(":")
    found = translate(f"{text[0]}:{text[1]}:{bomb}".encode(), "q")
    assert found is not None
    assert [part.name for part in found.parts] == ["quote.msg", "quote.sig"]
    assert "zlib" in found.problems[0].message
    assert MAX_UNPACKED < 64 << 20


def test_keylime_part_of_an_ima_list_is_not_taken_for_the_list(tmp_path: Path) -> None:
    answer = containers.keylime(FILES)
    answer["results"]["ima_measurement_list"] = "10 " + "0" * 40 + " ima-ng sha256:" + "0" * 64 + " /x\n"
    answer["results"]["ima_measurement_list_entry"] = 512
    found = translate(_json(answer), "q")
    assert found is not None
    assert "ima_ascii.log" not in {part.name for part in found.parts}
    assert any("512" in problem.message for problem in found.problems)
    assert "a part of a list" in found.note()


def test_keylime_registrar_record(tmp_path: Path) -> None:
    record = {"results": {"aik_tpm": containers.b64(FILES["ak.pub"]), "ekcert": "emulator", "regcount": 1}}
    (tmp_path / "registrar").write_bytes(_json(record))
    (tmp_path / "agent").write_bytes(SOUND["keylime"])
    result = investigate(tmp_path, nonce=NONCE)
    assert result.assessment.link("quote").status == "holds"
    # what a registrar's record says is a claim here as any other
    assert result.assessment.link("key-binding").status == "not-checked"


def test_deep_quote_of_tpm12_is_said() -> None:
    found = translate(b"d" + containers.keylime_quote(FILES).encode()[1:], "q")
    assert found is not None
    assert "TPM 1.2" in found.problems[0].message


def test_ima_list_of_an_agent_is_read(tmp_path: Path) -> None:
    answer = containers.keylime(FILES)
    digest = "b" * 64
    answer["results"]["ima_measurement_list"] = f"10 {'a' * 40} ima-ng sha256:{digest} /usr/bin/true\n"
    (tmp_path / "agent").write_bytes(_json(answer))
    evidence = load_evidence(tmp_path)
    assert len(evidence.ima) == 1
    assert len(evidence.ima[0].entries) == 1


@pytest.mark.parametrize("name", SOUND)
def test_single_file_has_no_verifier_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(SOUND[name])
    context = load_context(tmp_path / "e")
    assert context.nonce is None
    assert context.activation is None


def test_verifiers_files_are_never_looked_into(tmp_path: Path) -> None:
    Machine().write(tmp_path)
    (tmp_path / "nonce.hex").write_bytes(SOUND["trustee_tpm"])
    evidence = load_evidence(tmp_path)
    assert [quote.name for quote in evidence.quotes] == ["quote"]
    assert load_context(tmp_path).nonce is None


def test_extra_that_is_absent_is_a_problem_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    Machine().write(tmp_path)
    (tmp_path / "document").write_bytes(SOUND["nitro"])
    monkeypatch.setitem(sys.modules, "cbor2", None)
    evidence = load_evidence(tmp_path)
    assert evidence.quotes
    assert any("pip install" in problem.message for problem in evidence.problems)


@given(st.lists(st.integers(0, 255), max_size=80))
def test_bytes_round_trip_in_every_encoding(values: list[int]) -> None:
    import base64

    raw = bytes(values)
    assert octets(values, source="x", path="p") == raw
    if raw:
        assert (
            octets(raw.hex(), source="x", path="p")
            == octets("0x" + raw.hex().upper(), source="x", path="p")
            == raw
        )
    for text in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        assert base64_bytes(text.decode(), source="x", path="p") == raw
        assert base64_bytes(text.decode().rstrip("="), source="x", path="p") == raw


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SOUND)), st.data())
def test_no_edit_raises_anything_but_our_errors(name: str, draw: st.DataObject) -> None:
    data = bytearray(SOUND[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data[at] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(CvmlabError):
        translate(bytes(data), "x")
