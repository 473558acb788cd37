"""The life of a baseline: accepting, merging, expiring, comparing two, migrating; each step recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cvmlab
from cvmlab.baseline import Baseline, load_baseline, save_baseline
from cvmlab.baseline.delta import diff_baselines
from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.baseline.edit import record, set_class, set_policy
from cvmlab.baseline.expire import expire
from cvmlab.baseline.merge import merge
from cvmlab.cli import app
from cvmlab.errors import BaselineError
from cvmlab.report.acceptance import accept

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"


def sample() -> Baseline:
    return load_baseline(cvmlab.sample_baseline())


def learn(*names: str) -> Baseline:
    return cvmlab.learn([BOOTS / name for name in names], trust_roots=ROOT)


def judge(name: str, baseline: Baseline) -> cvmlab.Investigation:
    return cvmlab.investigate(BOOTS / name, baseline=baseline, trust_roots=ROOT)


def verdicts(baseline: Baseline, *names: str) -> list[str]:
    return [judge(name, baseline).verdict for name in names]


# boots with one thing changed, and the cause that was written down when they were made
ONE_CHANGE = {
    "kernel_changed": "kernel-changed",
    "cmdline_changed": "kernel-command-line-changed",
    "initrd_tampered": "initrd-changed",
    "dbx_updated": "revocation-list-updated",
    "mok_enrolled": "mok-changed",
    "boot_order_changed": "boot-order-changed",
    "firmware_older": "firmware-changed",
    "boot_loader_changed": "boot-loader-changed",
    "partition_added": "partition-table-changed",
    "ima_tcb": "kernel-command-line-changed",
}


@pytest.mark.parametrize("name", sorted(ONE_CHANGE))
def test_accepted_cause_is_gone_and_everything_else_stays_as_it_was(name: str) -> None:
    before = sample()
    after = accept(
        before, judge(name, before), ONE_CHANGE[name], reason="planned", who="me", when="2026-02-03"
    )
    assert verdicts(after, name, "baseline", "baseline_machine_b") == ["trusted"] * 3
    others = [other for other in ONE_CHANGE if other != name and other != "secureboot_disabled"]
    # a change that contains this one may now pass; none of another kind does
    for other in others:
        if ONE_CHANGE[other] != ONE_CHANGE[name]:
            assert judge(other, after).verdict == "not-trusted", other
    (entry,) = after.history
    assert (entry.who, entry.when, entry.why) == ("me", "2026-02-03", "planned")
    assert ONE_CHANGE[name] in entry.codes
    assert entry.evidence == judge(name, before).evidence.evidence_hash
    assert before == sample()


def test_accepting_in_a_cohort_leaves_the_other_cohorts_alone() -> None:
    parted = cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)
    after = accept(parted, judge("initrd_tampered", parted), "initrd-changed", reason="ours")
    assert verdicts(after, "initrd_tampered", "baseline", "kernel_changed") == ["trusted"] * 3
    assert after.cohorts[1].registers == parted.cohorts[1].registers
    assert len(after.cohorts[0].sources) == 2


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("mix_nonce_replayed", "nonce-mismatch", "is no difference from the baseline"),
        ("mix_event_text_edited", "event-data-forged", "is no difference from the baseline"),
        ("stock_linux_cmd_sboff", "log-missing", "is no difference from the baseline"),
        (
            "cmdline_changed",
            "kernel-changed",
            "has no cause 'kernel-changed'; it has: kernel-command-line-changed",
        ),
    ],
)
def test_what_cannot_be_accepted_is_refused(name: str, code: str, said: str) -> None:
    with pytest.raises(BaselineError, match=said):
        accept(sample(), judge(name, sample()), code, reason="please")


def test_nothing_is_accepted_from_evidence_with_a_broken_link(tmp_path: Path) -> None:
    """A real difference in evidence whose nonce is not the one that was sent."""
    result = cvmlab.investigate(
        BOOTS / "cmdline_changed", baseline=sample(), trust_roots=ROOT, nonce="00" * 20
    )
    with pytest.raises(BaselineError, match="nonce is broken"):
        accept(sample(), result, "kernel-command-line-changed", reason="please")


def test_claims_without_a_quote_are_not_accepted(tmp_path: Path) -> None:
    for name in ("eventlog.bin", "pcrs.yaml"):
        (tmp_path / name).write_bytes((BOOTS / "cmdline_changed" / name).read_bytes())
    result = cvmlab.investigate(tmp_path, baseline=sample())
    with pytest.raises(BaselineError, match="only claimed"):
        accept(sample(), result, "kernel-command-line-changed", reason="please")


def test_accepting_needs_a_reason_and_the_same_baseline() -> None:
    result = judge("cmdline_changed", sample())
    with pytest.raises(BaselineError, match="reason"):
        accept(sample(), result, "kernel-command-line-changed", reason=" ")
    with pytest.raises(BaselineError, match="another baseline"):
        accept(learn("dbx_updated"), result, "kernel-command-line-changed", reason="x")
    with pytest.raises(BaselineError, match="without a baseline"):
        accept(sample(), cvmlab.investigate(BOOTS / "cmdline_changed"), "kernel-changed", reason="x")


def test_policy_is_never_relaxed_by_accepting() -> None:
    after = accept(sample(), judge("secureboot_disabled", sample()), "secure-boot-disabled", reason="lab")
    result = judge("secureboot_disabled", after)
    assert result.verdict == "not-trusted"
    assert next(link for link in result.chain if link.name == "policy").status == "broken"
    lifted = judge("secureboot_disabled", set_policy(after, secure_boot=None)).comparison
    assert lifted is not None
    assert "secure_boot" not in {rule.rule for rule in lifted.policy}


def test_accepting_a_file_lets_that_file_pass_and_no_other() -> None:
    base = learn("debian_ima")
    result = judge("debian_ima_tampered", base)
    after = accept(base, result, "runtime-file-unknown", reason="ours")
    assert judge("debian_ima_tampered", after).verdict == "trusted"
    assert base.files is not None
    assert after.files is not None
    new = {path for path in after.files if after.files[path] != base.files.get(path)}
    assert result.comparison is not None
    assert new == {row.path for row in result.comparison.files or ()}


def test_merge_allows_what_either_allows_and_no_more() -> None:
    a, b = learn("baseline"), learn("dbx_updated")
    both = merge(a, b, name="both")
    assert verdicts(both, "baseline", "baseline_repeat", "dbx_updated") == ["trusted"] * 3
    assert verdicts(both, "cmdline_changed", "firmware_older", "mok_enrolled") == ["not-trusted"] * 3
    assert [s.evidence for s in both.sources] == [s.evidence for s in (*a.sources, *b.sources)]
    # learned together they are the same
    assert both.registers == learn("baseline", "dbx_updated").registers


def test_merge_with_itself_changes_nothing() -> None:
    assert merge(sample(), sample()).registers == sample().registers
    assert not [p for p in diff_baselines(sample(), merge(sample(), sample())).parts if p.looser]


def test_merge_keeps_cohorts_of_both() -> None:
    parted = cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)
    both = merge(parted, learn("initrd_tampered"))
    assert len(both.cohorts) == 3
    assert verdicts(both, "baseline", "kernel_changed", "initrd_tampered") == ["trusted"] * 3
    assert judge("cmdline_changed", both).verdict == "not-trusted"


def test_merge_of_different_banks_is_refused() -> None:
    def only(bank: str, baseline: Baseline) -> Baseline:
        document = json.loads(baseline_to_json(baseline))
        for register in document["registers"]:
            for slot in register["slots"]:
                for allowed in slot["allowed"]:
                    allowed["digests"] = {bank: allowed["digests"][bank]}
        return baseline_from_json(json.dumps(document), source="b")

    with pytest.raises(BaselineError, match="no bank in common"):
        merge(only("sha256", learn("baseline")), only("sha384", learn("baseline")))


def test_stricter_policy_rules_of_one_side_stay() -> None:
    strict = set_policy(learn("baseline"), pinned_machines=True, authorities=("aa" * 32,))
    loose = set_policy(learn("baseline"), secure_boot=None, sbat_level={})
    merged = merge(strict, loose).policy
    assert merged.secure_boot is True
    assert merged.authorities == ("aa" * 32,)
    assert merged.sbat_level == strict.policy.sbat_level
    assert merged.pinned_machines is False


def _dated(baseline: Baseline, *times: str) -> Baseline:
    return replace(
        baseline,
        sources=tuple(replace(s, learned=t) for s, t in zip(baseline.sources, times, strict=True)),
    )


def test_values_no_longer_seen_expire_and_what_is_current_stays() -> None:
    both = _dated(learn("baseline", "dbx_updated"), "2026-01-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00")
    kept, gone = expire(both, "2026-03-01")
    assert verdicts(kept, "baseline", "dbx_updated") == ["not-trusted", "trusted"]
    assert len(gone) == 1
    assert "revocation-list" in gone[0]
    assert expire(kept, "2026-03-01") == (kept, ())
    same, none = expire(both, "2025-01-01")
    assert (same.registers, none) == (both.registers, ())
    with pytest.raises(BaselineError, match="no boot was learned since"):
        expire(both, "2027-01-01")
    with pytest.raises(BaselineError, match="no ISO 8601"):
        expire(both, "yesterday")


def test_old_cohort_expires_as_a_whole() -> None:
    parted = cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)
    dated = _dated(parted, "2026-01-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00")
    kept, gone = expire(dated, "2026-03-01")
    assert len(kept.cohorts) == 1
    assert any("cohort kernel 6.1" in line for line in gone)
    assert verdicts(kept, "baseline", "kernel_changed") == ["not-trusted", "trusted"]


def test_seen_again_is_not_old() -> None:
    both = _dated(learn("baseline", "dbx_updated"), "2026-01-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00")
    again = merge(both, _dated(learn("baseline_repeat"), "2026-07-01T00:00:00+00:00"))
    kept, _ = expire(again, "2026-06-15")
    assert verdicts(kept, "baseline", "dbx_updated") == ["trusted", "not-trusted"]


def test_class_is_set_by_slot_kind_and_rule() -> None:
    one = set_class(sample(), "optional", register=8, slot=0)
    assert [s.slot_class for r in one.registers if r.register == 8 for s in r.slots].count("optional") == 1
    kind = set_class(sample(), "ignored", kind="boot-order")
    assert {s.slot_class for r in kind.registers for s in r.slots if s.kind == "boot-order"} == {"ignored"}
    rule = set_class(sample(), "repeatable", rule=lambda register, slot: register.register == 9)
    assert {r.register for r in rule.registers for s in r.slots if s.slot_class == "repeatable"} == {9}
    assert judge("boot_order_changed", kind).verdict in ("trusted", "not-trusted")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("any",), "is no class"),
        (("ignored",), "say which slots"),
        (("ignored", {"slot": 1}), "named by its register"),
        (("ignored", {"kind": "no-such"}), "no slot is meant"),
        (("ignored", {"register": 8, "slot": 999}), "no slot is meant"),
    ],
)
def test_class_that_cannot_be_set_is_refused(arguments: tuple[Any, ...], said: str) -> None:
    slot_class, options = arguments[0], arguments[1] if len(arguments) > 1 else {}
    with pytest.raises(BaselineError, match=said):
        set_class(sample(), slot_class, **options)


def test_slot_of_several_events_cannot_be_fixed() -> None:
    with pytest.raises(BaselineError, match="it cannot be fixed"):
        set_class(learn("baseline", "dbx_updated"), "fixed", kind="revocation-list")


def test_policy_rule_that_does_not_exist_or_fit_is_refused() -> None:
    with pytest.raises(BaselineError, match="no rule allow_everything"):
        set_policy(sample(), allow_everything=True)
    with pytest.raises(BaselineError, match="secure_boot"):
        set_policy(sample(), secure_boot="yes")


def test_history_needs_a_reason() -> None:
    with pytest.raises(BaselineError, match="needs a reason"):
        record(sample(), "")


def test_difference_of_two_baselines_names_what_changed_and_whether_more_is_allowed() -> None:
    before = sample()
    after = accept(before, judge("kernel_changed", before), "kernel-changed", reason="update", who="me")
    delta = diff_baselines(before, after)
    text = delta.to_text()
    assert delta.looser
    assert "@@ register 9 (allows more)" in text
    assert "6.12.117+deb12-cloud-amd64" in text
    assert "me: update" in text
    assert not diff_baselines(before, before).parts
    back = diff_baselines(after, before)
    assert {p.title: p.looser for p in back.parts}["register 4"] is False
    assert (
        not diff_baselines(before, set_class(before, "ignored", kind="boot-order"))
        .to_text()
        .endswith("+++ sample\n")
    )


def test_difference_of_policies_files_and_cohorts_is_said() -> None:
    files = replace(sample(), files={"/bin/sh": frozenset({"sha256:" + "11" * 32})})
    more = replace(files, files={**(files.files or {}), "/bin/x": frozenset({"sha256:" + "22" * 32})})
    assert "+ /bin/x sha256:2222" in diff_baselines(files, more).to_text()
    assert not diff_baselines(more, files).looser
    assert diff_baselines(files, replace(files, files=None)).looser
    assert "secure_boot: null" in diff_baselines(sample(), set_policy(sample(), secure_boot=None)).to_text()
    parted = cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)
    assert "cohort kernel 6.12.117" in diff_baselines(sample(), parted).to_text()


def test_change_is_few_lines_of_the_text() -> None:
    before = sample()
    after = accept(before, judge("dbx_updated", before), "revocation-list-updated", reason="x", who="me")
    old, new = baseline_to_json(before).splitlines(), baseline_to_json(after).splitlines()
    import difflib

    changed = [line for line in difflib.ndiff(old, new) if line[0] in "+-" and '"from"' not in line]
    # the alternative, its class, the source, the history and the data; sources of shared slots beside
    assert len([line for line in changed if line[2:].strip().strip(",").isdigit() is False]) < 60


def test_documents_of_version_1_are_read_as_they_were() -> None:
    text = cvmlab.sample_baseline().read_text(encoding="utf-8")
    assert json.loads(text)["schema"] == "cvmlab.baseline/1"
    old = json.loads(text)
    del old["history"], old["data"]
    assert baseline_from_json(json.dumps(old), source="old.json").pins == sample().pins
    # what version 1 can say is written as version 1
    assert json.loads(baseline_to_json(sample()))["schema"] == "cvmlab.baseline/1"


@pytest.mark.parametrize("key", ["cohorts", "modules", "file_signers", "signatures", "x-unknown"])
def test_version_1_with_what_it_does_not_have_is_refused(key: str) -> None:
    document = json.loads(cvmlab.sample_baseline().read_text(encoding="utf-8"))
    document[key] = []
    with pytest.raises(BaselineError, match=f"has no '{key}'|signatures"):
        baseline_from_json(json.dumps(document), source="b.json")


def test_unknown_version_and_key_are_refused() -> None:
    document = json.loads(cvmlab.sample_baseline().read_text(encoding="utf-8"))
    with pytest.raises(BaselineError, match="newer cvmlab"):
        baseline_from_json(json.dumps({**document, "schema": "cvmlab.baseline/3"}), source="b.json")
    with pytest.raises(BaselineError, match="has no 'exceptions'"):
        baseline_from_json(
            json.dumps({**document, "schema": "cvmlab.baseline/2", "exceptions": []}), source="b.json"
        )


def run(*arguments: object) -> tuple[int, str]:
    import sys
    from unittest import mock

    from cvmlab.cli import main

    # exit codes are those of the program, errors included
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        with (
            mock.patch.object(sys, "argv", ["cvmlab", *map(str, arguments)]),
            pytest.raises(SystemExit) as stop,
        ):
            main()
        return int(stop.value.code or 0), str(done.exception)
    return done.exit_code, done.output


def test_commands_accept_merge_split_expire_and_diff(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    assert run("baseline", "learn", BOOTS / "baseline", "--trust-root", ROOT, "-o", good)[0] == 0
    save_baseline(load_baseline(good), tmp_path / "old.json")
    code, text = run(
        "baseline", "accept", good, BOOTS / "kernel_changed", "--cause", "kernel-changed", "--reason", "DSA",
        "--trust-root", ROOT,
    )  # fmt: skip
    assert code == 0
    assert "kernel" in text
    assert load_baseline(good).history[0].why == "DSA"
    assert run("investigate", BOOTS / "kernel_changed", "--baseline", good, "--trust-root", ROOT)[0] == 0
    code, text = run("baseline", "diff", tmp_path / "old.json", good)
    assert code == 1
    assert "allows more" in text
    code, text = run("baseline", "diff", tmp_path / "old.json", good, "--json")
    assert json.loads(text)["looser"] is True
    assert run("baseline", "diff", good, good)[0] == 0
    assert run("baseline", "diff", good, BOOTS / "kernel_changed", "--trust-root", ROOT)[0] == 0
    assert run("baseline", "split", good, "-o", tmp_path / "split.json")[0] == 0
    assert len(load_baseline(tmp_path / "split.json").cohorts) == 2
    assert run("baseline", "merge", good, tmp_path / "old.json", "-o", tmp_path / "m.json")[0] == 0
    assert run("baseline", "expire", good, "--before", "2020-01-01", "--reason", "old")[0] == 0
    assert run("baseline", "set-class", good, "ignored", "--kind", "boot-order", "--reason", "PXE")[0] == 0
    assert [change.why for change in load_baseline(good).history] == ["DSA", "PXE"]
    code, text = run("baseline", "accept", good, BOOTS / "mix_nonce_replayed", "--cause", "nonce-mismatch",
                     "--reason", "x")  # fmt: skip
    assert code == 2
    assert "no difference from the baseline" in text


def test_commands_sign_verify_and_require(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = tmp_path / "k.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public = tmp_path / "k.pub"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    path = tmp_path / "b.json"
    save_baseline(sample(), path)
    evidence = ("investigate", BOOTS / "baseline", "--baseline", path, "--trust-root", ROOT)
    code, text = run(*evidence, "--require-signed", public)
    assert (code, "is not signed" in text) == (2, True)
    assert run("baseline", "sign", path, "--key", pem)[0] == 0
    assert run(*evidence, "--require-signed", public)[0] == 0
    assert run("baseline", "verify", path, "--require-signed", public)[0] == 0
    path.write_text(path.read_text().replace('"class": "fixed"', '"class": "ignored"', 1))
    code, text = run(*evidence)
    assert (code, "does not verify" in text) == (2, True)
    assert run("baseline", "show", path)[0] == 2


def test_repeated_commands_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    merged = merge(learn("baseline"), learn("dbx_updated"))
    fixed = _dated(replace(merged, created=""), "2026-01-01", "2026-01-02")
    save_baseline(fixed, first)
    save_baseline(load_baseline(first), second)
    assert first.read_bytes() == second.read_bytes()
