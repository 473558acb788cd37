"""The baseline document: what it keeps, and what it refuses to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cvmlab
from cvmlab.baseline import Baseline, load_baseline, save_baseline
from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.errors import BaselineError

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
TEXT = cvmlab.sample_baseline().read_text(encoding="utf-8")
Change = Callable[[dict[str, Any]], object]


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    baseline = load_baseline(cvmlab.sample_baseline())
    save_baseline(baseline, tmp_path / "again.json")
    assert load_baseline(tmp_path / "again.json") == baseline
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == TEXT


def test_sample_baseline_is_what_the_good_boots_give() -> None:
    learned = cvmlab.learn(
        [BOOTS / name for name in ("baseline", "baseline_repeat", "baseline_machine_b")],
        name="sample",
        trust_roots=BOOTS / "trust-root.pem",
    )
    kept = load_baseline(cvmlab.sample_baseline())
    assert learned.registers == kept.registers
    assert learned.policy == kept.policy
    assert learned.data == kept.data
    assert [source.evidence for source in learned.sources] == [source.evidence for source in kept.sources]


def _set(*path: object) -> Change:
    *way, last, value = path

    def run(document: dict[str, Any]) -> None:
        at: Any = document
        for step in way:
            at = at[step]
        if value is ...:
            del at[last]
        else:
            at[last] = value

    return run


SLOT = ("registers", 0, "slots", 0)
ALLOWED = (*SLOT, "allowed", 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(_set("schema", "cvmlab.baseline/9"), "schema", id="schema_unknown"),
        pytest.param(_set("name", 7), "name", id="name_is_a_number"),
        pytest.param(_set("registers", {}), "registers", id="registers_no_list"),
        pytest.param(_set("registers", 0, "register", 99), "no register 99", id="register_99"),
        pytest.param(_set("registers", 0, "set", "gpu"), "gpu", id="set_unknown"),
        pytest.param(_set("registers", 0, "register", True), "whole number", id="register_is_true"),
        pytest.param(_set("registers", 1, "register", 0), "twice", id="register_twice"),
        pytest.param(_set(*SLOT, "class", "any"), "any", id="class_unknown"),
        pytest.param(_set(*SLOT, "allowed", []), "allowed", id="nothing_allowed"),
        pytest.param(_set(*SLOT, "kind", ...), "kind", id="kind_missing"),
        pytest.param(_set(*ALLOWED, "digests", {"md5": "00"}), "no bank", id="bank_unknown"),
        pytest.param(_set(*ALLOWED, "digests", {"sha256": "00"}), "32 bytes", id="digest_short"),
        pytest.param(_set(*ALLOWED, "digests", {"sha256": "zz"}), "hex", id="digest_no_hex"),
        pytest.param(_set("policy", "allow_everything", True), "allow_everything", id="rule_unknown"),
        pytest.param(_set("policy", "secure_boot", "yes"), "secure_boot", id="rule_of_wrong_type"),
        pytest.param(_set("policy", "debugging", ...), "debugging", id="rule_missing"),
        pytest.param(_set("data", {"00" * 32: "AAAA"}), "SHA-256", id="data_of_another_name"),
        pytest.param(_set("data", {"00" * 32: "!"}), "base64", id="data_no_base64"),
        pytest.param(_set("files", {"/bin/sh": "sha256:00"}), "list", id="files_no_list"),
        pytest.param(_set("sources", [7]), "object", id="source_no_object"),
    ],
)
def test_wrong_document_is_refused_with_its_place(change: Change, said: str) -> None:
    document = json.loads(TEXT)
    change(document)
    with pytest.raises(BaselineError, match=said):
        baseline_from_json(json.dumps(document), source="b.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000])
def test_no_baseline_at_all_is_refused(text: str) -> None:
    with pytest.raises(BaselineError, match=r"b\.json"):
        baseline_from_json(text, source="b.json")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read"):
        load_baseline(tmp_path / "none.json")


def test_writing_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be written"):
        save_baseline(load_baseline(cvmlab.sample_baseline()), tmp_path / "no" / "b.json")


def _changed(change: Change) -> Baseline:
    document = json.loads(TEXT)
    change(document)
    return baseline_from_json(json.dumps(document), source="b.json")


def _judge(name: str, baseline: Baseline) -> str:
    return cvmlab.investigate(BOOTS / name, baseline=baseline, trust_roots=BOOTS / "trust-root.pem").verdict


def _slot(document: dict[str, Any], register: int, kind: str) -> dict[str, Any]:
    slots = next(r for r in document["registers"] if r["register"] == register)["slots"]
    found: dict[str, Any] = next(slot for slot in slots if slot["kind"] == kind)
    return found


def _class(register: int, kind: str, value: str) -> Change:
    return lambda document: _slot(document, register, kind).__setitem__("class", value)


def test_baseline_that_pins_nothing_never_makes_trusted() -> None:
    empty = _changed(_set("registers", []))
    assert _judge("baseline", empty) == "inconclusive"

    def ignore(document: dict[str, Any]) -> None:
        for register in document["registers"]:
            for slot in register["slots"]:
                slot["class"] = "ignored"

    assert _judge("baseline", _changed(ignore)) == "inconclusive"


def test_ignored_slot_takes_any_event_of_its_label() -> None:
    assert _judge("dbx_updated", _changed(_class(7, "revocation-list", "ignored"))) == "trusted"
    assert _judge("dbx_updated", _changed(lambda _: None)) == "not-trusted"


def test_per_machine_slot_binds_the_machines_it_was_learned_from() -> None:
    open_ = _changed(_class(1, "boot-order", "per-machine"))
    # the machine is one of the sources, so its own value counts
    assert _judge("boot_order_changed", open_) == "not-trusted"


def test_one_of_takes_each_alternative_and_no_other() -> None:
    other = cvmlab.learn(BOOTS / "dbx_updated", trust_roots=BOOTS / "trust-root.pem")
    both = cvmlab.learn([BOOTS / "baseline", BOOTS / "dbx_updated"], trust_roots=BOOTS / "trust-root.pem")
    slot = next(s for r in both.registers if r.register == 7 for s in r.slots if s.kind == "revocation-list")
    assert slot.slot_class == "one-of"
    assert len(slot.alternatives) == 2
    assert _judge("baseline", both) == _judge("dbx_updated", both) == "trusted"
    assert _judge("baseline", other) == "not-trusted"
    assert _judge("cmdline_changed", both) == "not-trusted"


def test_what_only_some_boots_have_is_optional() -> None:
    both = cvmlab.learn(
        [BOOTS / "baseline", BOOTS / "boot_order_changed"], trust_roots=BOOTS / "trust-root.pem"
    )
    classes = {slot.slot_class for r in both.registers if r.register == 1 for slot in r.slots}
    assert "optional" in classes
    assert _judge("baseline", both) == _judge("boot_order_changed", both) == "trusted"


def test_repeatable_slot_takes_the_event_again(tmp_path: Path) -> None:
    from cvmlab.baseline.values import allowed_values

    repeat = _changed(_class(8, "grub-command", "repeatable"))
    pinned = repeat.register("tpm", 8)
    assert pinned is not None
    # open in number, so its values cannot be listed
    assert allowed_values(pinned, "sha256") == ()
    assert _judge("baseline", repeat) == "trusted"


@pytest.mark.parametrize("name", ["mix_nonce_replayed", "mix_event_text_edited", "mix_log_truncated"])
def test_learning_refuses_evidence_with_a_broken_link(name: str) -> None:
    with pytest.raises(BaselineError, match="broken"):
        cvmlab.learn(BOOTS / name, trust_roots=BOOTS / "trust-root.pem")


def test_learning_needs_a_log_and_evidence() -> None:
    with pytest.raises(BaselineError, match="no boot event log"):
        cvmlab.learn(BOOTS / "stock_linux_cmd_sboff", trust_roots=BOOTS / "trust-root.pem")
    with pytest.raises(BaselineError, match="no evidence"):
        cvmlab.learn([])


def test_learning_records_links_that_were_not_checked() -> None:
    learned = cvmlab.learn(BOOTS / "baseline")
    assert learned.sources[0].unchecked == ("key-certificate",)
    assert cvmlab.learn(BOOTS / "tpm12").sources[0].unchecked


def test_only_banks_that_a_quote_covers_are_pinned() -> None:
    assert cvmlab.learn(BOOTS / "bank_sha256_only").banks == ("sha256",)
    assert "sha1" not in cvmlab.learn(BOOTS / "cmdline_changed").banks


def test_no_bank_in_common_is_not_a_match() -> None:
    def only_sha384(document: dict[str, Any]) -> None:
        for register in document["registers"]:
            for slot in register["slots"]:
                for allowed in slot["allowed"]:
                    allowed["digests"].pop("sha256", None)

    assert _judge("bank_sha256_only", _changed(only_sha384)) != "trusted"


def test_deterministic_text() -> None:
    baseline = load_baseline(cvmlab.sample_baseline())
    assert baseline_to_json(baseline) == baseline_to_json(baseline_from_json(TEXT, source="x"))
