"""Missing, empty, damaged and contradicting input: a verdict, never better than the evidence allows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from edits import (
    log_of,
    without,
    written,
)

from cvmlab.explain.rank import causes
from cvmlab.findings import Finding, Link
from cvmlab.report.investigation import Investigation

BOOTS = Path(__file__).resolve().parents[2] / "sample_data" / "boots"
Judge = Callable[..., Investigation]


@pytest.mark.parametrize(
    ("names", "verdict", "code"),
    [
        (("eventlog.bin",), "inconclusive", "log-missing"),
        (("nonce.hex",), "inconclusive", "nonce-missing"),
        (("credential_activation.json",), "inconclusive", "attestation-key-not-bound"),
        (("ak.pub", "ak.pem", "ak.name"), "inconclusive", "evidence-incomplete"),
        (("quote.sig",), "inconclusive", "evidence-incomplete"),
        (("ek_rsa.crt.der", "ek_ecc.crt.der"), "inconclusive", "attestation-key-not-bound"),
        (("ek.pub",), "inconclusive", "attestation-key-not-bound"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_a_missing_file_is_said_and_never_trusted(
    judge: Judge, names: tuple[str, ...], verdict: str, code: str
) -> None:
    present = tuple(name for name in names if (BOOTS / "cmdline_changed" / name).exists())
    result = judge("baseline", without(*present))
    assert result.verdict == verdict
    assert result.primary is not None
    assert result.primary.code == code


@pytest.mark.parametrize("name", ["eventlog.bin", "quote.msg", "quote.sig", "ak.pub", "nonce.hex"])
def test_an_empty_file_counts_as_absent_and_is_said(judge: Judge, name: str) -> None:
    result = judge("bank_sha256_only", written(name, b""))
    assert result.verdict == "inconclusive"
    file = next(file for file in result.evidence.files if file.name == name)
    assert file.status == "empty"


@pytest.mark.parametrize(
    ("name", "data", "verdicts"),
    [
        ("eventlog.bin", b"not a log at all, whatever its name", {"inconclusive", "not-trusted"}),
        ("quote.msg", b"\xffTCG garbage", {"not-trusted"}),
        ("quote.sig", b"\x00\x14\x00\x0b\x00\x02ab", {"not-trusted"}),
        ("ak.pub", b"\x00\x02\x00\x01", {"inconclusive"}),
        ("nonce.hex", b"no hex here", {"inconclusive"}),
        ("credential_activation.json", b"{", {"inconclusive"}),
        ("ek.pub", b"\xff" * 40, {"inconclusive"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_gives_a_verdict_and_a_place(
    judge: Judge, name: str, data: bytes, verdicts: set[str]
) -> None:
    changes = without(*[p.name for p in (BOOTS / "baseline").glob("ak.pem")]) if name == "ak.pub" else None

    def change(folder: Path) -> None:
        if changes is not None:
            changes(folder)
        (folder / name).write_bytes(data)

    result = judge("baseline", change)
    assert result.verdict in verdicts
    assert result.primary is not None
    said = [str(p) for p in (*result.evidence.problems, *result.context.problems)]
    said += [link.why for link in result.chain]
    assert any(name in text or "quote" in text for text in said)


def test_values_that_a_quote_contradicts_break_the_chain(judge: Judge) -> None:
    def change(folder: Path) -> None:
        path = folder / "pcrs.yaml"
        text = path.read_text()
        at = text.index("sha256")
        at = text.index("0x", at) + 10
        path.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])

    result = judge("baseline", change)
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == "register-values-mismatch"


def test_unreadable_values_are_replaced_by_a_replay_that_meets_the_quote(judge: Judge) -> None:
    result = judge("baseline", written("pcrs.yaml", b"\xff\xfe nothing"))
    assert result.verdict == "trusted"
    assert [cause.severity for cause in result.causes] == ["info"]


def test_lone_boot_aggregate_explains_register_10_without_a_list(judge: Judge) -> None:
    result = judge("baseline", without("ima_ascii.log", "ima_binary.bin"))
    assert result.verdict == "trusted"


def test_missing_list_of_runtime_files_is_no_cause_of_register_10(judge: Judge) -> None:
    import cvmlab

    learned = cvmlab.learn(BOOTS / "debian_ima", trust_roots=BOOTS / "trust-root.pem")
    names = [p.name for p in (BOOTS / "debian_ima").glob("ima_*")]
    result = judge("debian_ima", without(*names), baseline=learned)
    assert result.verdict == "inconclusive"
    assert result.primary is not None
    assert 10 not in result.primary.registers
    rows = [row for row in result.explanation.registers if row.register == 10 and row.quoted]
    assert {row.status for row in rows} == {"not-checked"}


def test_deviation_that_nothing_vouches_for_is_only_claimed(judge: Judge) -> None:
    result = judge("cmdline_changed", without("credential_activation.json"))
    assert result.verdict == "inconclusive"
    cause = next(c for c in result.causes if c.code == "kernel-command-line-changed")
    assert cause.claimed
    assert not cause.primary


def test_no_trust_root_no_trust(judge: Judge) -> None:
    result = judge("baseline", trust_roots=())
    assert result.verdict == "inconclusive"


def test_no_baseline_no_trust(judge: Judge) -> None:
    result = judge("baseline", baseline=None)
    assert result.verdict == "inconclusive"
    assert result.primary is not None
    assert result.primary.link == "baseline"


def test_intermediates_of_the_evidence_are_no_roots(judge: Judge) -> None:
    def change(folder: Path) -> None:
        for path in folder.glob("ca-*.pem"):
            shutil.copy(path, folder / f"ca-copy-{path.name}")

    result = judge("baseline", change, trust_roots=())
    link = next(link for link in result.chain if link.name == "key-certificate")
    assert link.status == "not-checked"


def test_other_nonce_breaks(judge: Judge) -> None:
    result = judge("baseline", nonce="00" * 20)
    assert result.primary is not None
    assert result.primary.code == "nonce-mismatch"


def test_key_of_another_machine_differs(judge: Judge) -> None:
    result = judge(
        "baseline", lambda folder: shutil.copy(BOOTS / "bank_sha256_only" / "ak.pub", folder / "ak.pub")
    )
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == "attestation-key-differs"


def test_enrolled_key_needs_no_certificate(judge: Judge) -> None:
    def change(folder: Path) -> None:
        for path in [*folder.glob("ek*"), *folder.glob("ca-*"), folder / "credential_activation.json"]:
            path.unlink()

    result = judge("baseline", change, trust_roots=(), enrolled_keys=BOOTS / "baseline" / "ak.pub")
    assert result.verdict == "trusted"


def test_enrolled_key_of_another_machine_breaks(judge: Judge) -> None:
    result = judge("baseline", enrolled_keys=BOOTS / "bank_sha256_only" / "ak.pub")
    assert result.verdict == "not-trusted"
    assert result.primary is not None
    assert result.primary.code == "attestation-key-differs"


def test_forged_secure_boot_log_never_says_on(judge: Judge, corpus: Path) -> None:
    forged = (corpus / "eventlogs" / "secure_boot_byte_forged.bin").read_bytes()
    result = judge("baseline", written("eventlog.bin", forged))
    assert "event-data-forged" in [cause.code for cause in result.causes]
    assert result.comparison is not None
    assert result.comparison.facts.secure_boot is not True
    frame = result.events()
    row = frame[frame["kind"] == "secure-boot"].iloc[0]
    assert row["trust"] == "unproven"
    assert row["digest_check"] == "mismatch"


def test_log_of_another_boot_with_all_quotes_removed_is_inconclusive(judge: Judge) -> None:
    def change(folder: Path) -> None:
        log_of("secureboot_disabled")(folder)
        for path in folder.glob("quote*"):
            path.unlink()

    result = judge("baseline", change)
    assert result.verdict == "inconclusive"
    assert all(row.status in ("not-quoted", "not-checked") for row in result.explanation.registers)


def test_what_is_missing_beside_a_broken_link_of_the_same_name_is_not_the_cause() -> None:
    """Two reports: of one the certificate is of another chip, of the other the TD quote is missing."""
    links = {name: Link(name, "broken", "") for name in ("hardware-report", "key-binding")}
    links["hardware-root"] = Link("hardware-root", "not-checked", "")
    missing = [
        Finding("evidence-incomplete", link, "a TD quote is needed")
        for link in ("hardware-root", "hardware-report")
    ]
    wrong = Finding("hardware-report-signature-invalid", "hardware-report", "of another chip")
    found = causes([*missing, wrong], links)
    assert [cause.code for cause in found if cause.primary] == ["hardware-report-signature-invalid"]
    assert not next(cause for cause in found if cause.code == "evidence-incomplete").broken
    assert next(c.broken for c in causes(missing, links)), "a link that only this broke stays its own"
