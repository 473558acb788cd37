"""Baselines in other tools' formats: what is read, written, lost and refused."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import cvmlab
from cvmlab.baseline import Baseline, load_baseline
from cvmlab.baseline.document_json import baseline_to_json
from cvmlab.baseline.document_reader import baseline_from_json
from cvmlab.baseline.exchange import FORMATS, export_baseline, import_baseline, write_files
from cvmlab.baseline.merge import merge
from cvmlab.cli import app
from cvmlab.errors import BaselineError, CvmlabError
from cvmlab.tpm.pcrs import read_registers

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
ROOT = BOOTS / "trust-root.pem"


def sample() -> Baseline:
    return load_baseline(cvmlab.sample_baseline())


@pytest.fixture(scope="module")
def cohorts() -> Baseline:
    return cvmlab.learn([BOOTS / "baseline", BOOTS / "kernel_changed"], trust_roots=ROOT, cohorts=True)


def through(baseline: Baseline, form: str, folder: Path) -> tuple[Baseline, tuple[str, ...], tuple[str, ...]]:
    """Write a baseline, read it again; the losses of both ways."""
    exported = export_baseline(baseline, form)
    target = folder / f"out{FORMATS[form].suffix.rstrip('/')}"
    write_files(exported, target)
    imported = import_baseline(target, form)
    # what was read is a document like any other
    text = baseline_to_json(imported.baseline)
    assert baseline_from_json(text, source="b") == imported.baseline
    return imported.baseline, exported.losses, imported.losses


def judge(name: str, baseline: Baseline) -> cvmlab.Investigation:
    return cvmlab.investigate(BOOTS / name, baseline=baseline, trust_roots=ROOT)


EVENTS = ("pcrlock", "compute-pcrs")
VALUES = ("golden", "pcrread", "keylime-tpm", "corim")
TAMPERED = (
    "cmdline_changed",
    "initrd_tampered",
    "firmware_older",
    "boot_loader_changed",
    "secureboot_disabled",
)


@pytest.mark.parametrize("form", [*EVENTS, *VALUES])
def test_round_trip_accepts_the_same_boots_and_rejects_the_same(form: str, tmp_path: Path) -> None:
    again, losses, _ = through(sample(), form, tmp_path)
    assert any("policy" in loss for loss in losses)
    for name in ("baseline", "baseline_repeat", "baseline_machine_b"):
        assert judge(name, again).verdict == "trusted"
    for name in TAMPERED:
        assert judge(name, again).verdict == "not-trusted"


@pytest.mark.parametrize("form", EVENTS)
def test_events_keep_the_cause(form: str, tmp_path: Path) -> None:
    again, _, _ = through(sample(), form, tmp_path)
    wanted = {"cmdline_changed": "kernel-command-line-changed", "firmware_older": "firmware-changed"}
    for name, code in wanted.items():
        primary = judge(name, again).primary
        assert primary is not None
        assert primary.code == code


@pytest.mark.parametrize("form", VALUES)
def test_values_name_the_register_and_say_that_they_know_no_more(form: str, tmp_path: Path) -> None:
    again, _, losses = through(sample(), form, tmp_path)
    assert any("values say nothing of single events" in loss for loss in losses)
    result = judge("firmware_older", again)
    status = {row.register: row.status for row in result.explanation.registers if row.bank == "sha256"}
    assert status[0] == "differs"
    assert status[1] == "matches"
    link = next(link for link in result.chain if link.name == "baseline")
    assert link.status == "broken"


def test_values_are_those_that_the_machine_quoted(tmp_path: Path) -> None:
    """The reading of tpm2_pcrread in the guest is the oracle of what slots unfold to."""
    (tmp_path / "out.yaml").write_bytes(export_baseline(sample(), "pcrread").files[""])
    ours = read_registers((tmp_path / "out.yaml").read_bytes(), source="ours").values
    theirs = read_registers((BOOTS / "baseline" / "pcrs.yaml").read_bytes(), source="theirs").values
    assert set(ours["sha256"]) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14}
    for bank, values in ours.items():
        assert {register: theirs[bank][register] for register in values} == values


def test_file_of_tpm2_pcrread_is_a_golden_list(tmp_path: Path) -> None:
    imported = import_baseline(BOOTS / "baseline" / "pcrs.yaml", "golden", name="golden")
    assert {r.register for r in imported.baseline.registers} == set(range(24))
    result = judge("baseline_repeat", replace(imported.baseline, registers=imported.baseline.registers[:10]))
    assert result.verdict == "trusted"
    assert judge("dbx_updated", imported.baseline).verdict == "not-trusted"
    # registers that software may reset pin nothing
    only = replace(
        imported.baseline,
        registers=tuple(r for r in imported.baseline.registers if r.register in (16, 23)),
    )
    assert only.pins == 0


D = {"sha1": "11" * 20, "sha256": "22" * 32, "sha384": "33" * 48}
SHA1, SHA256 = ("sha1", D["sha1"]), ("sha256", D["sha256"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{"0": "{}"}}'.format(D["sha256"]), {0: [("sha256", D["sha256"])]}),
        ('{{"pcr7": "0x{}", "PCR_4": "{}"}}'.format(D["sha1"], D["sha256"]), {7: [SHA1], 4: [SHA256]}),
        (
            '{{"7": ["{}", "{}"], "mask": "0x80"}}'.format(D["sha256"], "44" * 32),
            {7: [SHA256, ("sha256", "44" * 32)]},
        ),
        ('{{"sha384": {{"7": ["{}"]}}}}'.format(D["sha384"]), {7: [("sha384", D["sha384"])]}),
        ('{{"sha256": {{"7": "{}"}}}}'.format(D["sha256"]), {7: [("sha256", D["sha256"])]}),
        ("sha256:\n  7 : 0x{}\n".format(D["sha256"].upper()), {7: [("sha256", D["sha256"])]}),
    ],
    ids=["by_register", "pcr_names", "keylime_mask", "by_bank_lists", "by_bank", "pcrread"],
)
def test_golden_lists_of_every_form(text: str, expected: dict[int, Any], tmp_path: Path) -> None:
    (tmp_path / "g").write_text(text)
    found = import_baseline(tmp_path / "g", "golden").baseline
    got = {
        r.register: [(bank, value.hex()) for v in r.values for bank, value in v.digests.items()]
        for r in found.registers
    }
    assert got == expected
    assert all(r.by_value for r in found.registers)


def test_mask_that_quotes_more_than_it_judges_is_said(tmp_path: Path) -> None:
    (tmp_path / "g").write_text(json.dumps({"7": [D["sha256"]], "mask": "0x408080"}))
    assert any("15, 22 are quoted" in loss for loss in import_baseline(tmp_path / "g", "golden").losses)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "register"),
        ('{"7": "zz"}', "not hex"),
        ('{"7": "1122"}', "size of no digest"),
        ('{"7": []}', "values"),
        ('{{"99": "{}"}}'.format(D["sha256"]), "no register"),
        ('{"7": 7}', "need a digest"),
        ('{{"7": ["{}"], "mask": "x"}}'.format(D["sha256"]), "no mask"),
        ('{{"sha256": {{"7": ["{}"]}}}}'.format(D["sha1"]), "are no sha256"),
        ('{{"md5": {{"7": ["{}"]}}}}'.format(D["sha1"]), "no bank"),
        ("", "empty"),
        ('{{"7": "{}", "7": "{}"}}'.format(D["sha256"], D["sha1"]), "occurs twice"),
    ],
)
def test_golden_list_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "g").write_text(text)
    with pytest.raises(BaselineError, match=said):
        import_baseline(tmp_path / "g", "golden")


def test_compute_pcrs_of_its_authors(corpus: Path) -> None:
    """Their own fixture: its events must give its values, and its registers are those of a Fedora boot."""
    path = next(corpus.glob("azure/trusted-execution-clusters__compute-pcrs/**/all-pcrs.json"))
    stated = {one["id"]: one["value"] for one in json.loads(path.read_text())["pcrs"]}
    imported = import_baseline(path, "compute-pcrs", name="fedora")
    assert {r.register for r in imported.baseline.registers} == set(stated)
    from cvmlab.baseline.values import allowed_values

    for register in imported.baseline.registers:
        assert [v.hex() for v in allowed_values(register, "sha256")] == [stated[register.register]]
    kinds = [slot.kind for slot in imported.baseline.registers[1].slots]
    assert kinds[:6] == [
        "secure-boot",
        "platform-key",
        "key-exchange-keys",
        "signature-database",
        "revocation-list",
        "separator",
    ]
    again = export_baseline(imported.baseline, "compute-pcrs").files[""]
    theirs = json.loads(path.read_text())
    assert json.loads(again) == theirs
    assert judge("baseline", imported.baseline).verdict == "not-trusted"


def test_compute_pcrs_with_an_event_changed_is_refused(corpus: Path, tmp_path: Path) -> None:
    path = next(corpus.glob("azure/trusted-execution-clusters__compute-pcrs/**/pcr4.json"))
    value = json.loads(path.read_text())
    value["events"][0]["hash"] = "00" * 32
    (tmp_path / "p.json").write_text(json.dumps(value))
    with pytest.raises(BaselineError, match="do not give the value"):
        import_baseline(tmp_path / "p.json", "compute-pcrs")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"pcrs": []}, "no register"),
        ({"pcrs": [{"id": 4}]}, "events"),
        ({"id": 99, "value": "", "events": []}, "no register"),
        ({"id": 4, "value": D["sha256"], "events": [{"hash": D["sha1"]}]}, "SHA-256"),
        ({"id": 4, "value": D["sha256"], "events": [{"hash": D["sha256"], "pcr": 5}]}, "event of register 4"),
        ([1], "need an object"),
    ],
)
def test_compute_pcrs_of_another_shape_is_refused(value: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(value))
    with pytest.raises(BaselineError, match=said):
        import_baseline(tmp_path / "p.json", "compute-pcrs")


def test_pcrlock_holds_cohorts_and_choices(cohorts: Baseline, tmp_path: Path) -> None:
    exported = export_baseline(cohorts, "pcrlock")
    variants = [name for name in exported.files if "-cohort.pcrlock.d/" in name]
    assert len(variants) == 6
    assert {name[:3] for name in variants} == {"604", "608", "609"}
    two = cvmlab.learn([BOOTS / "baseline", BOOTS / "dbx_updated"], trust_roots=ROOT)
    again, _, _ = through(two, "pcrlock", tmp_path)
    for name in ("baseline", "dbx_updated"):
        assert judge(name, again).verdict == "trusted"
    assert judge("firmware_older", again).verdict == "not-trusted"
    optional = cvmlab.learn([BOOTS / "baseline", BOOTS / "boot_order_changed"], trust_roots=ROOT)
    names = [name for name in export_baseline(optional, "pcrlock").files if "600-absent" in name]
    assert names


def test_pcrlock_names_what_it_cannot_say() -> None:
    from cvmlab.baseline.edit import set_class

    losses = export_baseline(set_class(sample(), "ignored", kind="boot-order"), "pcrlock").losses
    assert "register 1 is left out: it has ignored slots" in losses
    moved = replace(
        sample(),
        registers=tuple(replace(r, locality=3) if r.register == 0 else r for r in sample().registers),
    )
    assert any("locality 3" in loss for loss in export_baseline(moved, "pcrlock").losses)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "list of records"),
        ({"records": [1]}, "need an object"),
        ({"records": [{"pcr": 99, "digests": []}]}, "no register"),
        ({"records": [{"pcr": 7, "digests": []}]}, "no digest"),
        ({"records": [{"pcr": 7, "digests": [{"digest": "00"}]}]}, "no hashAlg"),
        ({"records": [{"pcr": 7, "digests": [{"hashAlg": "sha256", "digest": D["sha1"]}]}]}, "no sha256"),
    ],
)
def test_pcrlock_of_another_shape_is_refused(value: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "1.pcrlock").write_text(json.dumps(value))
    with pytest.raises(BaselineError, match=said):
        import_baseline(tmp_path / "1.pcrlock", "pcrlock")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaselineError, match=r"no \*\.pcrlock"):
        import_baseline(tmp_path / "empty", "pcrlock")


def test_reference_state_finds_what_it_names_and_never_makes_trusted(tmp_path: Path) -> None:
    again, losses, read = through(sample(), "keylime-mb", tmp_path)
    assert judge("baseline", again).verdict == "inconclusive"
    for name, code in {
        "kernel_changed": "kernel-changed",
        "initrd_tampered": "initrd-changed",
        "mok_enrolled": "mok-changed",
        "firmware_older": "firmware-changed",
    }.items():
        result = judge(name, again)
        assert result.verdict == "not-trusted", name
        assert code in {cause.code for cause in result.causes}, name
    # the command line is a rule about text, which slots do not hold
    assert judge("cmdline_changed", again).verdict == "inconclusive"
    assert any("kernel_cmdline" in loss for loss in read)
    assert any("boot entries" in loss for loss in losses)


def test_reference_state_keeps_revocations_as_a_rule(tmp_path: Path) -> None:
    dbx = cvmlab.learn([BOOTS / "dbx_updated"], trust_roots=ROOT)
    again, _, _ = through(dbx, "keylime-mb", tmp_path)
    assert again.policy.revocation_list in again.data
    rules = {r.rule: r.status for r in judge("baseline", again).comparison.policy}  # type: ignore[union-attr]
    assert rules["revocation_list"] == "broken"
    rules = {r.rule: r.status for r in judge("dbx_updated", again).comparison.policy}  # type: ignore[union-attr]
    assert rules["revocation_list"] == "holds"


def test_each_cohort_is_a_kernel_of_the_reference_state(cohorts: Baseline) -> None:
    state = json.loads(export_baseline(cohorts, "keylime-mb").files[""])
    assert len(state["kernels"]) == 2
    assert len(state["scrtm_and_bios"]) == 1


def test_baseline_without_boot_loaders_has_no_reference_state() -> None:
    with pytest.raises(BaselineError, match="firmware"):
        export_baseline(replace(sample(), registers=()), "keylime-mb")


def test_runtime_policy_round_trip_and_merge(tmp_path: Path) -> None:
    base = cvmlab.learn([BOOTS / "debian_ima"], trust_roots=ROOT)
    again, _, losses = through(base, "keylime-ima", tmp_path)
    assert again.files == base.files
    assert again.pins == 0
    assert any("merge it" in loss for loss in losses)
    assert judge("debian_ima", again).verdict == "inconclusive"
    both = merge(replace(base, files=None), again)
    assert judge("debian_ima", both).verdict == "trusted"
    assert judge("debian_ima_tampered", both).verdict == "not-trusted"
    with pytest.raises(BaselineError, match="no set of runtime files"):
        export_baseline(replace(base, files=None), "keylime-ima")


def test_older_allow_lists_and_envelopes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "list"
    wanted = {"/bin/sh": frozenset({"sha256:" + D["sha256"], "sha1:" + D["sha1"]})}
    path.write_text(f"{D['sha256']}  /bin/sh\n# text\n{D['sha1']} */bin/sh\n")
    assert import_baseline(path, "keylime-ima").baseline.files == wanted
    inner = {"meta": {"version": 1}, "hashes": {"/bin/sh": [D["sha256"], D["sha1"]]}, "exclude": ["/tmp/.*"]}
    path.write_text(
        json.dumps({"payload": base64.b64encode(json.dumps(inner).encode()).decode(), "signatures": []})
    )
    imported = import_baseline(path, "keylime-ima")
    assert imported.baseline.files == wanted
    assert any("signature of the envelope was not checked" in loss for loss in imported.losses)
    assert any("exclude" in loss for loss in imported.losses)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "neither digests nor hashes"),
        ('{"digests": {"/a": "x"}}', "list of digests"),
        ('{"digests": {"/a": ["x"]}}', "not hex"),
        ('{"digests": {}, "verification-keys": {"pubkeys": ["!"]}}', "not base64"),
        ('{"payload": "!"}', "not base64"),
        ("/bin/sh\n", "line 1"),
        ("", "no digest"),
    ],
)
def test_runtime_policy_of_another_shape_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(BaselineError, match=said):
        import_baseline(tmp_path / "p", "keylime-ima")


def test_attestation_policy_text(tmp_path: Path) -> None:
    again, losses, read = through(sample(), "maa", tmp_path)
    assert again.pins == 0
    assert again.policy.secure_boot is True
    assert again.policy.required_registers == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14)
    assert judge("baseline", again).verdict == "inconclusive"
    assert any("every digest" in loss for loss in losses)
    assert any("pins nothing" in loss for loss in read)
    text = (tmp_path / "out.txt").read_text()
    # each section once, in the order of the grammar, braces closed
    order = [
        text.index(part)
        for part in ("version=1.2;", "configurationrules{", "authorizationrules{", "issuancerules{")
    ]
    assert order == sorted(order)
    assert text.count("{") == text.count("};")
    assert f'type="required_pcr_mask", value={sum(1 << r for r in again.policy.required_registers)}' in text


@pytest.mark.parametrize("text", ["", "version=1.2;", "version=2.0; authorizationrules{}; issuancerules{};"])
def test_text_that_is_no_attestation_policy_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(BaselineError, match=r"policy|version"):
        import_baseline(tmp_path / "p.txt", "maa")


def test_policy_of_version_1_0_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(
        'version=1.0;\nauthorizationrules { => permit(); };\nissuancerules {\n// [type=="x"]\n'
        '[type=="aikValidated", value==true] && [type=="secureBootEnabled", value==true] => '
        'issue(type="PlatformAttested", value=true);\n};\n'
    )
    assert import_baseline(tmp_path / "p.txt", "maa").baseline.policy.secure_boot is True


def test_go_tpm_tools_policy(tmp_path: Path) -> None:
    again, losses, read = through(sample(), "go-tpm-tools", tmp_path)
    assert again.pins == 0
    assert any("pins nothing" in loss for loss in read)
    assert any("no other rule" in loss for loss in losses)
    (tmp_path / "p").write_text(
        '# text\nplatform: { allowed_scrtm_version_ids: ["G\\000C\\x00E" "\\000", \'b\']\n'
        "  minimum_gce_firmware_version: 1; minimum_technology: AMD_SEV_SNP }\n"
    )
    read = import_baseline(tmp_path / "p", "go-tpm-tools").losses
    assert any("'GCE'" in loss for loss in read)
    assert any("AMD_SEV_SNP" in loss for loss in read)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secure_boot {}",
        "platform { x: 1 }",
        "platform { minimum_technology }",
        "platform { minimum_technology: 1",
        "platform } {",
        'platform { minimum_technology: "',
    ],
)
def test_text_that_is_no_go_tpm_tools_policy_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(BaselineError):
        import_baseline(tmp_path / "p", "go-tpm-tools")


def test_corim_has_the_tags_and_keys_of_the_draft() -> None:
    data = export_baseline(sample(), "corim").files[""]
    outer = cbor2.loads(data)
    assert outer.tag == 501
    (tag,) = outer.value[1]
    assert tag.tag == 506
    comid = cbor2.loads(tag.value)
    ((environment, measurements),) = comid[4][0]
    assert environment[0][1] == "TPM 2.0"
    registers = measurements[0][1][14]
    theirs = read_registers((BOOTS / "baseline" / "pcrs.yaml").read_bytes(), source="t").values
    assert {r: dict(digests)[1] for r, digests in registers.items()} == {
        r: theirs["sha256"][r] for r in registers
    }


def test_signed_corim_is_read_and_its_signature_said_unchecked(tmp_path: Path) -> None:
    inner = export_baseline(sample(), "corim").files[""]
    (tmp_path / "s.cbor").write_bytes(cbor2.dumps(cbor2.CBORTag(18, [b"", {}, inner, b"\0" * 64])))
    imported = import_baseline(tmp_path / "s.cbor", "corim")
    assert len(imported.baseline.registers) == 14
    assert "the signature was not checked" in imported.losses


@pytest.mark.parametrize(
    "value",
    [
        1,
        [],
        cbor2.CBORTag(501, 1),
        cbor2.CBORTag(501, {1: []}),
        cbor2.CBORTag(501, {1: [cbor2.CBORTag(506, b"")]}),
        cbor2.CBORTag(501, {1: [cbor2.CBORTag(506, cbor2.dumps({4: {0: [[1]]}}))]}),
        cbor2.CBORTag(
            501, {1: [cbor2.CBORTag(506, cbor2.dumps({4: {0: [[{}, [{1: {14: {7: [[1, b"x"]]}}}]]]}}))]}
        ),
        cbor2.CBORTag(18, [b"", {}, b"", b""]),
        cbor2.CBORTag(505, b""),
    ],
)
def test_cbor_that_is_no_corim_is_refused(value: object, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(cbor2.dumps(value))
    with pytest.raises(BaselineError):
        import_baseline(tmp_path / "c", "corim")


def test_reference_event_log_pins_every_event_of_it(tmp_path: Path) -> None:
    imported = import_baseline(BOOTS / "baseline" / "eventlog.bin", "tcg-rim", name="maker")
    assert judge("baseline_repeat", imported.baseline).verdict == "trusted"
    result = judge("initrd_tampered", imported.baseline)
    assert result.primary is not None
    assert result.primary.code == "initrd-changed"
    assert any("base RIM" in loss for loss in imported.losses)
    (tmp_path / "cut").write_bytes((BOOTS / "baseline" / "eventlog.bin").read_bytes()[:-5])
    for path in (
        tmp_path / "cut",
        BOOTS / "mix_event_text_edited" / "eventlog.bin",
        BOOTS / "baseline" / "ak.pub",
    ):
        with pytest.raises(BaselineError):
            import_baseline(path, "tcg-rim")
    with pytest.raises(BaselineError, match="cannot be written"):
        export_baseline(sample(), "tcg-rim")


def test_unknown_format_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="no format known here: pcrlock"):
        import_baseline(tmp_path, "tripwire")
    with pytest.raises(BaselineError, match="no format"):
        export_baseline(sample(), "tripwire")
    for form, one in FORMATS.items():
        if one.read is not None:
            with pytest.raises(BaselineError):
                import_baseline(tmp_path / "none", form)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=300))
def test_rubbish_is_an_error_of_ours(form: str, data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pcrlock"
        path.write_bytes(data)
        with contextlib.suppress(CvmlabError):
            import_baseline(path, form)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(set(FORMATS) - {"corim", "tcg-rim"})),
    st.recursive(
        st.none() | st.booleans() | st.integers(-2, 99) | st.sampled_from([*D.values(), "7", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "7",
                        "sha256",
                        "mask",
                        "pcrs",
                        "id",
                        "events",
                        "value",
                        "hash",
                        "records",
                        "pcr",
                        "digests",
                        "hashAlg",
                        "digest",
                        "kernels",
                        "scrtm_and_bios",
                        "dbx",
                        "mokdig",
                        "payload",
                        "verification-keys",
                        "pubkeys",
                        "hashes",
                        "shim_authcode_sha256",
                        "grub_authcode_sha256",
                        "platform_firmware",
                        "scrtm",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)
def test_json_of_any_shape_is_an_error_of_ours(form: str, value: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pcrlock"
        path.write_text(json.dumps(value))
        with contextlib.suppress(CvmlabError):
            import_baseline(path, form)


def test_commands_say_what_is_lost(tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(
        app,
        [
            "baseline",
            "export",
            str(cvmlab.sample_baseline()),
            "--format",
            "golden",
            "-o",
            str(tmp_path / "g"),
        ],
    )
    assert done.exit_code == 0
    assert "Not carried over" in done.output
    done = run(
        app, ["baseline", "import", str(tmp_path / "g"), "--format", "golden", "-o", str(tmp_path / "b.json")]
    )
    assert done.exit_code == 0
    assert "pins 14" in done.output
    assert load_baseline(tmp_path / "b.json").history[0].why == "imported from golden: g"
    done = run(
        app,
        ["baseline", "export", str(cvmlab.sample_baseline()), "--format", "maa", "-o", str(tmp_path / "m")],
    )
    done = run(
        app, ["baseline", "import", str(tmp_path / "m"), "--format", "maa", "-o", str(tmp_path / "n.json")]
    )
    assert "pins nothing" in done.output + (done.stderr if done.stderr_bytes is not None else "")
