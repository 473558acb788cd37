"""What a cause means in this boot, and whether it looks like an update.

Each boot is a real one measured anew with one change (`remeasure`); the sentence follows from the change.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from remeasure import (
    APPLICATION,
    AUTHORITY,
    IPL,
    SHIM_LOCK,
    Boot,
    contents,
    enrolled_key,
    events_of,
    measured,
    variable,
    write_boot,
)

import cvmlab
from cvmlab.explain.meaning.images import release
from cvmlab.explain.meaning.words import words_changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cvmlab.explain.model import Cause
    from cvmlab.report.investigation import Investigation


def judged(folder: Path, change: Callable[[Boot], object]) -> Investigation:
    key = enrolled_key(folder)
    baseline = cvmlab.learn([write_boot(folder / "good", events_of("baseline"))], enrolled_keys=[key])
    boot = Boot(events_of("baseline"))
    change(boot)
    return cvmlab.investigate(
        write_boot(folder / "changed", boot.events), baseline=baseline, enrolled_keys=[key]
    )


def primary(folder: Path, change: Callable[[Boot], object]) -> Cause:
    found = judged(folder, change).primary
    assert found is not None
    return found


# Documentation/admin-guide/kernel-parameters.txt and kernel-command-line(7)
@pytest.mark.parametrize(
    ("word", "worth"),
    [
        ("lockdown=none", "worse"),
        ("lockdown=confidentiality", "better"),
        ("mitigations=off", "worse"),
        ("init=/bin/bash", "worse"),
        ("init=/usr/lib/systemd/systemd", "neutral"),
        ("rd.break=pre-mount", "worse"),
        ("systemd.debug-shell=1", "worse"),
        ("systemd.debug_shell", "worse"),
        ("module.sig_enforce=1", "better"),
        ("module-blacklist=tpm", "neutral"),
        ("module_blacklist=tpm", "worse"),
        ("ima_appraise=fix", "worse"),
        ("ima_appraise=enforce", "better"),
        ("evm=fix", "worse"),
        ("apparmor=0", "worse"),
        ("nokaslr", "worse"),
        ("iommu=pt", "worse"),
        ("mem_encrypt=off", "worse"),
        ("kgdboc=ttyS0", "worse"),
        ("slub_debug=FZ", "worse"),
        ("console=ttyS0,115200", "neutral"),
        ("quiet", "neutral"),
        ("an_unknown=word", "neutral"),
    ],
)
def test_word_has_its_worth(word: str, worth: str) -> None:
    wanted = "worse" if word.startswith("module-") else worth
    assert [found.worth for found in words_changed([], [word])] == [wanted]


def test_taking_a_protection_away_is_worse() -> None:
    found = words_changed(["lockdown=integrity", "mitigations=off"], [])
    assert [(word.text, word.worth) for word in found] == [
        ("lockdown=integrity", "worse"),
        ("mitigations=off", "better"),
    ]


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/boot/vmlinuz-6.1.0-13-amd64", "6.1.0-13-amd64"),
        ("(hd0,gpt2)/initramfs-5.14.0-503.11.1.el9_5.x86_64.img", "5.14.0-503.11.1.el9_5.x86_64"),
        ("\\EFI\\nixos\\abc-linux-6.6.30-bzImage.efi", "6.6.30-bzImage"),
        ("/vmlinuz-linux", ""),
        ("", ""),
    ],
)
def test_release_of_a_path(path: str, version: str) -> None:
    assert release(path) == version


def test_weakening_words_do_not_look_like_an_update(tmp_path: Path) -> None:
    cause = primary(tmp_path, lambda boot: boot.replace_text(" quiet", " quiet init=/bin/sh"))
    assert cause.code == "kernel-command-line-changed"
    assert cause.severity == "high"
    assert cause.meaning.likeness == "It does not look like an update, because init=/bin/sh was added."


def test_harmless_words_look_like_an_update(tmp_path: Path) -> None:
    cause = primary(tmp_path, lambda boot: boot.replace_text(" quiet", " quiet splash"))
    assert cause.severity == "low"
    assert cause.meaning.likeness.startswith("It looks like an update")


def test_unknown_words_are_named_and_judged_neither_way(tmp_path: Path) -> None:
    cause = primary(tmp_path, lambda boot: boot.replace_text(" quiet", " quiet zzz.unknown=1"))
    assert cause.severity == "medium"
    assert cause.meaning.says == ("added: zzz.unknown=1",)
    assert cause.meaning.likeness == ""


def test_same_keys_vouching_speak_for_an_update(tmp_path: Path) -> None:
    cause = primary(tmp_path, lambda boot: boot.set_contents(APPLICATION, "grubx64", "new"))
    assert (cause.code, cause.severity) == ("boot-loader-changed", "low")
    assert "only keys of the baseline" in cause.meaning.likeness
    # the path beside an image's digest is a claim
    assert cause.confidence == 0.85


def test_a_stranger_vouching_speaks_against_it(tmp_path: Path) -> None:
    def change(boot: Boot) -> None:
        boot.set_contents(APPLICATION, "grubx64", "new")
        key = bytes(16) + stranger()
        at = boot.where(APPLICATION, "grubx64")[0]
        boot.events.insert(at, measured(7, AUTHORITY, variable(SHIM_LOCK, "Shim", key)))

    cause = next(c for c in judged(tmp_path, change).causes if c.code == "boot-loader-changed")
    assert cause.severity == "high"
    assert cause.meaning.likeness.startswith("It does not look like an update")


def stranger(name: str = "Some Stranger") -> bytes:
    """A self-signed certificate that no list knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    holder = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(holder, holder, key.public_key(), 1, begin, begin + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def certificate_list(der: bytes) -> bytes:
    """EFI_SIGNATURE_LIST of one X.509 entry (UEFI 2.10, section 32.4.1)."""
    kind = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
    return kind + struct.pack("<III", 28 + 16 + len(der), 0, 16 + len(der)) + bytes(16) + der


def test_strange_key_in_db_is_named(tmp_path: Path) -> None:
    new = certificate_list(stranger())
    cause = primary(tmp_path, lambda boot: boot.set_variable("db", boot.value("db") + new))
    assert (cause.code, cause.severity) == ("secure-boot-key-added", "high")
    assert "Some Stranger is no key that is widely known" in cause.meaning.attack


def test_key_under_a_known_name_is_unmasked(tmp_path: Path) -> None:
    new = certificate_list(stranger("Windows UEFI CA 2023"))
    cause = primary(tmp_path, lambda boot: boot.set_variable("db", boot.value("db") + new))
    assert "bears the name of Windows UEFI CA 2023 and is not that key" in cause.meaning.likeness
    assert not any("roll-out" in text for text in cause.meaning.says)


def test_sbat_level_by_component(tmp_path: Path) -> None:
    def lower(boot: Boot) -> None:
        boot.set_variable("SbatLevel", boot.value("SbatLevel").replace(b"shim,4", b"shim,2"))

    cause = primary(tmp_path, lower)
    assert cause.code == "sbat-level-changed"
    assert "shim: generation 4 before, 2 now" in cause.meaning.says
    assert "lowered" in cause.meaning.likeness


def test_boot_order_is_told_by_names(tmp_path: Path) -> None:
    def swap(boot: Boot) -> None:
        order = boot.value("BootOrder")
        boot.set_variable("BootOrder", order[2:4] + order[:2] + order[4:])

    cause = primary(tmp_path, swap)
    assert cause.code == "boot-order-changed"
    assert any(text.startswith("first is ") and "debian" in text for text in cause.meaning.says)


def test_three_updates_at_once_are_three_causes(tmp_path: Path) -> None:
    def change(boot: Boot) -> None:
        entry = bytes(16) + bytes(range(32))
        guid = bytes.fromhex("2616c4c14c509240aca941f936934328")
        one = guid + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
        boot.set_variable("dbx", boot.value("dbx") + one)
        for i in boot.where(APPLICATION)[2:]:
            boot.events[i].digests = contents("new kernel")
        for e in boot.events:
            if e.register == 9 and (b"vmlinuz" in e.data or b"initrd" in e.data):
                e.digests = contents("new")
        boot.replace_text(" quiet", " quiet nokaslr")

    result = judged(tmp_path, change)
    assert {c.code for c in result.causes} == {
        "revocation-list-updated",
        "kernel-changed",
        "kernel-command-line-changed",
    }
    assert result.causes[0].code == "revocation-list-updated"
    kernel = next(c for c in result.causes if c.code == "kernel-changed")
    assert "initrd-changed" in [c.code for c in kernel.consequences]


def test_one_more_line_of_a_script_is_one_more_event(tmp_path: Path) -> None:
    def change(boot: Boot) -> None:
        commands = [i for i in boot.where(IPL) if boot.events[i].data.startswith(b"grub_cmd: ")]
        at = commands[len(commands) // 2]
        text = b"set extra=1"
        boot.events.insert(at, measured(8, IPL, b"grub_cmd: " + text + b"\0", text))

    result = judged(tmp_path, change)
    assert result.comparison is not None
    assert [row.change for row in result.comparison.rows] == ["added"]


def test_json_says_it_in_the_texts_there_are(tmp_path: Path) -> None:
    import json

    result = judged(tmp_path, lambda boot: boot.replace_text(" quiet", " quiet nokaslr"))
    cause = json.loads(result.to_json())["causes"][0]
    assert "Nokaslr was added: it loads the kernel at a known address" in cause["explanation"]
    assert "does not look like an update" in cause["benign_if"]


@pytest.mark.parametrize(
    ("first", "second", "cause", "word"),
    [
        # Container-Optimized OS, two releases of one image family (their root hash is a word)
        (
            "google__go-eventlog/cos-85-amd-sev.bin",
            "google__go-eventlog/cos-93-amd-sev.bin",
            "kernel-changed",
            "",
        ),
        # RHEL with boot loader specification entries, 5.14.0-503 and 5.14.0-130 of two machines
        (
            "keylime__keylime/binary_bios_measurements-secureboot",
            "tpm2-software__tpm2-tools/event-moklisttrusted.bin",
            "kernel-command-line-changed",
            "ima_appraise=fix was added",
        ),
        # systemd-boot on Arch, laptops of two makes
        (
            "Foxboron__sbctl/t14_eventlog",
            "Foxboron__sbctl/t14s_eventlog",
            "revocation-list-rolled-back",
            "6 of 83 revocations are missing",
        ),
    ],
)
def test_logs_of_other_machines_are_told_apart(
    corpus: Path, first: str, second: str, cause: str, word: str
) -> None:
    found = cvmlab.diff(corpus / "eventlogs" / first, corpus / "eventlogs" / second)
    causes = {c.code: c for c in found.causes}
    assert cause in causes
    assert "boot-loader-changed" in causes, "another boot order explains no other contents of the same file"
    assert word in causes[cause].likeness
    # nothing vouches for a bare log: no severity is lowered on its word
    assert all(c.severity in ("high", c.entry.severity) or c.claimed is False for c in found.causes)


def test_inner_kernel_of_a_unified_image_follows_from_the_image(corpus: Path) -> None:
    logs = corpus / "eventlogs" / "confidential-containers__trustee"
    found = cvmlab.diff(logs / "CCEL_data_gcp", logs / "CCEL_data_grub_gke")
    image = next(c for c in found.causes if c.code == "unified-kernel-image-changed")
    assert [c.code for c in image.consequences] == ["kernel-changed"]


def test_windows_boots_differ_by_more_than_counters(corpus: Path) -> None:
    logs = corpus / "eventlogs" / "grawity__tpm_futurepcr"
    found = cvmlab.diff(
        logs / "HP_Compaq_TPM1.2_UEFI_NonSB_Windows.log", logs / "HP_Compaq_TPM1.2_UEFI_SB_Windows.log"
    )
    causes = {c.code: c for c in found.causes}
    assert "kernel-changed" in causes
    assert any(
        "winload.efi (signed by Microsoft Windows) was replaced" in s
        for s in causes["kernel-changed"].meaning.says
    )
    assert "boot-extension-changed" not in causes
