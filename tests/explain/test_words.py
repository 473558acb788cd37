"""The table of command line words: its form, its direction, and how words are told apart.

Meaning and direction of each word follow Documentation/admin-guide/kernel-parameters.txt and hw-vuln/ of
Linux, dracut.cmdline(7) and kernel-command-line(7).
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remeasure import Boot, enrolled_key, events_of, write_boot

import cvmlab
from cvmlab.eventlog.producers.wording import MAX_TEXT, MAX_WORDS, kernel_words
from cvmlab.explain.meaning.words import words_changed

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.explain.model import Cause

TABLE = tomllib.loads(
    resources.files("cvmlab.explain.meaning").joinpath("words.toml").read_text(encoding="utf-8")
)["word"]
PATTERNS = [pattern for row in TABLE for pattern in row["match"]]


def test_every_row_has_patterns_a_text_and_a_direction() -> None:
    for row in TABLE:
        assert set(row) <= {"match", "does", "worth", "gone"}
        assert row["match"]
        assert row["worth"] in ("worse", "better", "neutral")
        for text in (row["does"], row.get("gone", "x")):
            assert text
            assert not text.endswith(".")
            assert text == text.strip()


def test_no_pattern_comes_twice() -> None:
    assert sorted(PATTERNS) == sorted(set(PATTERNS))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row["match"][0]))
def test_each_pattern_is_reached(row: dict[str, str]) -> None:
    """No earlier row speaks for a word that a later row names."""
    for pattern in row["match"]:
        if "[" in pattern or "?" in pattern:
            continue
        word = pattern.replace("*", "") if pattern.startswith("*") else pattern.replace("*", "q")
        (found,) = words_changed([], [word if word else "q"])
        assert (found.does, found.worth) == (row["does"], row["worth"]), pattern


@pytest.mark.parametrize(
    ("word", "worth"),
    [
        ("lockdown=integrity", "better"),
        ("spectre_v2=off", "worse"),
        ("spectre_v2=retpoline", "neutral"),
        ("nopti", "worse"),
        ("nosmap", "worse"),
        ("nosmep", "worse"),
        ("kpti=0", "worse"),
        ("kpti=1", "better"),
        ("slab_nomerge", "better"),
        ("init_on_alloc=0", "worse"),
        ("init_on_free=1", "better"),
        ("iommu=off", "worse"),
        ("intel_iommu=on", "better"),
        ("intel_iommu=on,igfx_off", "worse"),
        ("amd_iommu=force_isolation", "better"),
        ("amd_iommu=on", "neutral"),
        ("iommu.strict=0", "worse"),
        ("efi=disable_early_pci_dma", "better"),
        ("efi=no_disable_early_pci_dma", "worse"),
        ("efi=debug", "neutral"),
        ("efivar_ssdt=evil", "worse"),
        ("efi_pstore.pstore_disable=0", "neutral"),
        ("acpi_enforce_resources=strict", "neutral"),
        ("ima_policy=tcb", "better"),
        ("ima_policy=tcb|appraise_tcb|secure_boot", "better"),
        ("ima_hash=sha1", "worse"),
        ("ima_hash=sha512", "neutral"),
        ("tpm.disable_pcr_integrity=1", "worse"),
        ("rdinit=/bin/sh", "worse"),
        ("emergency", "worse"),
        ("single", "worse"),
        ("1", "worse"),
        ("-b", "worse"),
        ("3", "neutral"),
        ("systemd.unit=multi-user.target", "neutral"),
        ("systemd.unit=rescue.target", "worse"),
        ("systemd.debug-shell=ttyS0", "worse"),
        ("modprobe.blacklist=tpm_tis", "worse"),
        ("enforcing=0", "worse"),
        ("selinux=0", "worse"),
        ("security=", "worse"),
        ("lsm=", "worse"),
        ("lsm=landlock,lockdown,yama", "neutral"),
        ("earlyprintk=ttyS0", "neutral"),
        ("ignore_loglevel", "neutral"),
        ("kgdbwait", "worse"),
        ("crashkernel=256M", "neutral"),
        ("swiotlb=force", "neutral"),
        ("sev=debug", "neutral"),
        ("sev=nosnp", "worse"),
        ("mem_encrypt=on", "better"),
        ("random.trust_cpu=on", "neutral"),
        ("tsx=on", "worse"),
        ("tsx=off", "better"),
        ("l1tf=full,force", "better"),
        ("audit=0", "worse"),
        ("vsyscall=none", "better"),
        ("vsyscall=xonly", "neutral"),
        ("vsyscall=emulate", "worse"),
        ("usbcore.authorized_default=0", "better"),
        ("usbcore.authorized_default=1", "worse"),
        ("sysctl.kernel.kexec_load_disabled=1", "better"),
        ("sysctl.kernel.randomize_va_space=0", "worse"),
        ("fips=1", "better"),
        ("net.ifnames=0", "neutral"),
        ("splash", "neutral"),
        ("ro", "neutral"),
        # Chromium OS' dm-verity: 0 is an error, 1 a panic, 2 nothing, 3 a notification
        ("dm_verity.error_behavior=3", "better"),
        ("dm_verity.error_behavior=2", "worse"),
        ("systemd.verity_root_options=ignore-corruption", "worse"),
        ('mitigations="off"', "worse"),
        ('"init=/bin/sh -c id"', "worse"),
        ('dyndbg="file drivers/usb/* +p"', "neutral"),
        ("nvme.dyndbg=+p", "neutral"),
    ],
)
def test_word_has_its_direction(word: str, worth: str) -> None:
    (found,) = words_changed([], [word])
    assert found.worth == worth
    assert found.does


def test_root_hash_that_is_changed_is_no_loss_and_one_that_is_gone_is() -> None:
    changed = words_changed([f"roothash={'a' * 64}"], [f"roothash={'b' * 64}"])
    assert {word.worth for word in changed} == {"neutral"}
    (gone,) = words_changed([f"roothash={'a' * 64}"], [])
    assert gone.worth == "worse"
    assert "nothing on the command line checks it now" in gone.sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('dyndbg="file x.c +p" quiet', ['dyndbg="file x.c +p"', "quiet"]),
        ('"dyndbg=file x.c +p" quiet', ['"dyndbg=file x.c +p"', "quiet"]),
        ('a="open to the end', ['a="open to the end']),
        ("  ro\tquiet  ", ["ro", "quiet"]),
        ("", []),
    ],
)
def test_quotes_hold_words_together(text: str, words: list[str]) -> None:
    assert kernel_words(text) == words


@given(st.text(max_size=400))
def test_words_lose_nothing_but_space(text: str) -> None:
    words = kernel_words(text)
    assert "".join("".join(words).split()) == "".join(text.split())


def test_words_are_bounded() -> None:
    assert len(kernel_words("a " * (2 * MAX_WORDS))) == MAX_WORDS
    assert len(kernel_words('"' + "b" * (2 * MAX_TEXT))[0]) == MAX_TEXT


def told(folder: Path, before: str, after: str) -> Cause:
    """The primary cause where ``quiet`` of the lab's boot was `before` and is `after`."""
    key = enrolled_key(folder)
    good, bad = Boot(events_of("baseline")), Boot(events_of("baseline"))
    good.replace_text(" quiet", f" {before}")
    bad.replace_text(" quiet", f" {after}")
    baseline = cvmlab.learn([write_boot(folder / "good", good.events)], enrolled_keys=[key])
    found = cvmlab.investigate(
        write_boot(folder / "bad", bad.events), baseline=baseline, enrolled_keys=[key]
    ).primary
    assert found is not None
    return found


def test_another_order_says_so_and_no_more(tmp_path: Path) -> None:
    cause = told(tmp_path, "quiet splash", "splash quiet")
    assert cause.code == "kernel-command-line-changed"
    assert cause.meaning.says == ("the words are the same, in another order",)
    assert cause.meaning.likeness == ""


def test_another_order_in_which_another_word_counts(tmp_path: Path) -> None:
    cause = told(tmp_path, "mitigations=off mitigations=auto", "mitigations=auto mitigations=off")
    assert cause.meaning.says[1] == (
        "of several mitigations= the last counts: mitigations=auto before, mitigations=off now"
    )
    assert "mitigations=off counts now" in cause.meaning.likeness


def test_consoles_in_another_order_are_all_used(tmp_path: Path) -> None:
    cause = told(tmp_path, "console=tty0 console=ttyS0", "console=ttyS0 console=tty0")
    assert cause.meaning.says == ("the words are the same, in another order",)
