"""The cases of ../edited, for causes that no honest boot has: what is edited, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chip import UNRESTRICTED, Files
from edits import (
    MACHINES,
    Maker,
    ahead,
    booted,
    closed_twice,
    cut,
    damaged,
    imitated,
    inserted,
    modified,
    named,
    reordered,
    table_added,
    timed,
    turned_back,
    violated,
    windows_boot,
    without,
    wrong_register,
)
from expected import TRUSTED, Expected, blamed
from logs import EFI_ACTION, measured
from windows import BOOT_DEBUGGING, CODE_INTEGRITY, DRIVERS, KERNEL_DEBUG, TEST_SIGNING, Driver

WINDOWS = ("edited/windows_good",)
DRIVER = "\\Windows\\System32\\drivers\\lab.sys"
TEST_DRIVER = Driver(DRIVER, publisher="SIMULATED WDKTestCert", issuer="SIMULATED WDKTestCert")
UNSIGNED_DRIVER = Driver(DRIVER, validated=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One folder, or published evidence judged otherwise.

    Attributes:
        what: One sentence for the README.
        expected: What the product must say.
        make: Makes the files; None where the evidence is that of another folder.
        given: Further fields of expected.json: what the verifier has or does otherwise.
        breaks: The checks with other programs that must fail: ``quote`` (signature and nonce by
            tpm2_checkquote, which takes any attestation and any mark for a quote), ``values`` (the digest
            that it signs is of the values), ``replay`` (tpm2_eventlog gives the values).
        synthetic: The log is of no machine at all.
    """

    what: str
    expected: Expected
    make: Callable[[Maker], Files] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    breaks: tuple[str, ...] = ()
    synthetic: bool = False


def _log(what: str, code: str, make: Callable[[Maker], Files], **more: tuple[str, ...]) -> Case:
    return Case(what, blamed(code, under={code: codes} if (codes := more.get("under")) else None), make,
                breaks=("replay",))  # fmt: skip


def _open(code: str, **options: tuple[str, ...]) -> Expected:
    return Expected("inconclusive", primary=(code,), **options)


CASES: dict[str, Case] = {
    "measured_good": Case(
        "The control: the reference's events measured into the TPM of this folder, nothing edited.",
        TRUSTED, booted("measured_good", lambda events: events),
    ),
    "log_event_removed": _log(
        "One command of GRUB's menu removed from the log.", "log-event-removed", without(b"setparams"),
    ),
    "log_event_inserted": _log(
        "A command of GRUB that never ran inserted into the log.", "log-event-inserted", inserted,
    ),
    "log_event_modified": _log(
        "The digests of the initial RAM disk in the log replaced.", "log-event-modified", modified,
    ),
    "log_events_reordered": _log(
        "Two neighbouring commands of GRUB's menu swapped in the log.", "log-events-reordered", reordered,
    ),
    "log_of_another_boot": _log(
        "The log of the boot with another kernel, beside the quote of the reference.", "log-of-another-boot",
        lambda maker: maker.sent("baseline") | {"eventlog.bin": maker.sent("kernel_changed")["eventlog.bin"]},
    ),
    "log_cut_in_event": Case(
        "The log cut in the middle of an event.",
        Expected("not-trusted", primary=("log-truncated",), info=("evidence-incomplete",)), cut,
        breaks=("replay",),
    ),
    "log_damaged": Case(
        "The number of digests of one event overwritten: the event cannot be read.",
        Expected("not-trusted", primary=("log-malformed",), info=("evidence-incomplete",),
                 consequences={"log-malformed": ("log-event-removed",)}),
        damaged, breaks=("replay",),
    ),
    "separator_twice": Case(
        "The firmware closes register 2 twice, and logs it.",
        blamed("separator-duplicated"), booted("separator_twice", closed_twice),
    ),
    "bank_not_extended": Case(
        "Firmware and boot loader know only SHA-256; the TPM has SHA-384 as well, and both are quoted.",
        blamed("bank-not-extended"),
        lambda maker: maker.boot("bank_not_extended", maker.events("baseline"), banks=("sha256",),
                                 quoted=("sha256", "sha384")),
    ),
    "firmware_debugger": Case(
        "The firmware says that a debugger was attached to it.",
        blamed("boot-debugging-enabled"),
        booted("firmware_debugger", lambda events: [measured(7, EFI_ACTION, b"UEFI Debug Mode"), *events]),
    ),
    "hardware_table_added": Case(
        "The firmware measures a table of a device that the reference does not have.",
        blamed("hardware-configuration-changed"),
        lambda maker: maker.boot("hardware_table_added", table_added(maker.events("baseline"))),
    ),
    "machine_named": Case(
        "The firmware names the machine in register 6, as that of Hyper-V does.",
        Expected("trusted", baseline=("edited/machine_named",)),
        booted("machine_named", named(MACHINES[0])),
    ),
    "machine_named_otherwise": Case(
        "The same with the name of another machine, where the baseline pins the name.",
        blamed("machine-identity-differs", baseline=("edited/machine_named",)),
        booted("machine_named_otherwise", named(MACHINES[1])),
        {"slots": {"machine-identity": "fixed"}},
    ),
    "secure_boot_on": Case(
        "A good boot, judged by a baseline that was learned with Secure Boot off.",
        blamed(
            "secure-boot-enabled", baseline=("boots/secureboot_disabled",),
            under={"secure-boot-enabled": (
                "boot-loader-authority-changed", "sbat-level-changed", "unexpected-boot-application")},
        ),
        given={"evidence": "boots/baseline"},
    ),
    "file_open_for_writing": Case(
        "The kernel could not vouch for a journal that was open for writing while it was measured.",
        Expected("trusted", info=("runtime-measurement-violation",)), violated,
    ),
    "quote_with_more_behind": Case(
        "Sixteen bytes behind the quote.", blamed("quote-trailing-data"),
        lambda maker: {**(files := maker.sent("baseline")), "quote.msg": files["quote.msg"] + bytes(16)},
        breaks=("quote",),
    ),
    "quote_of_another_kind": Case(
        "Another attestation of the TPM (TPM2_GetTime) in the place of the quote.",
        blamed("quote-wrong-type"), timed, breaks=("values",),
    ),
    "quote_imitated": Case(
        "A program without a TPM signs what looks like a quote, with a key of its own.",
        blamed("quote-not-tpm-generated", independent=("attestation-key-not-bound",)), imitated,
    ),
    "quote_of_sha1": Case(
        "The quote covers the SHA-1 bank alone.", blamed("weak-hash-only"),
        lambda maker: maker.boot("quote_of_sha1", maker.events("baseline"), quoted=("sha1",)),
    ),
    "quote_of_some": Case(
        "The quote covers the firmware's registers 0 to 7 alone.", _open("register-not-quoted"),
        lambda maker: maker.boot("quote_of_some", maker.events("baseline"), registers="0,1,2,3,4,5,6,7"),
    ),
    "register_value_edited": Case(
        "Register 7 edited in the file of register values.", blamed("register-values-mismatch"),
        wrong_register, breaks=("values", "replay"),
    ),
    "nonce_unknown": Case(
        "A good boot whose nonce nobody wrote down.", _open("nonce-missing"),
        given={"evidence": "boots/baseline", "without": ["nonce.hex"]},
    ),
    "key_that_signs_anything": Case(
        "The quote is signed by a key of the TPM that signs whatever it is given.",
        blamed("attestation-key-unsuitable"),
        lambda maker: maker.boot("key_that_signs_anything", maker.events("baseline"), handle=UNRESTRICTED),
    ),
    "endorsed_by_a_stranger": Case(
        "The TPM's certificate is by an authority that the verifier does not trust.",
        blamed("endorsement-certificate-untrusted"),
        lambda maker: maker.boot("endorsed_by_a_stranger", maker.events("baseline"), chip=maker.stranger),
    ),
    "key_not_bound": Case(
        "A good boot whose activation nobody wrote down: the key could be anybody's.",
        _open("attestation-key-not-bound"),
        given={"evidence": "boots/baseline", "without": ["credential_activation.json"]},
    ),
    "clock_ahead": Case(
        "The control of the next: its TPM's clock stands at ten hours.", TRUSTED, ahead,
    ),
    "clock_turned_back": Case(
        "The same TPM put back to a snapshot: as many resets, and a clock hours behind.",
        blamed("clock-rolled-back"), turned_back, {"history": ["edited/clock_ahead"]},
    ),
    "windows_good": Case(
        "The reference of a Windows boot.", Expected("trusted", baseline=WINDOWS),
        windows_boot("windows_good"), synthetic=True,
    ),
    "windows_boot_debugging": Case(
        "Boot debugging is on.", blamed("boot-debugging-enabled", baseline=WINDOWS),
        windows_boot("windows_boot_debugging", {BOOT_DEBUGGING: 1}), synthetic=True,
    ),
    "windows_kernel_debugging": Case(
        "Kernel debugging is on.", blamed("kernel-debugging-enabled", baseline=WINDOWS),
        windows_boot("windows_kernel_debugging", {KERNEL_DEBUG: 1}), synthetic=True,
    ),
    "windows_test_signing": Case(
        "Test signing is on, and a driver with a test certificate is loaded.",
        blamed("test-signing-enabled", baseline=WINDOWS),
        windows_boot("windows_test_signing", {TEST_SIGNING: 1}, (*DRIVERS, TEST_DRIVER)), synthetic=True,
    ),
    "windows_code_integrity_off": Case(
        "Code integrity is off, and a driver that nobody signed is loaded.",
        blamed("code-integrity-disabled", baseline=WINDOWS,
               under={"code-integrity-disabled": ("unvalidated-module-loaded",)}),
        windows_boot("windows_code_integrity_off", {CODE_INTEGRITY: 0}, (*DRIVERS, UNSIGNED_DRIVER)),
        synthetic=True,
    ),
    "windows_unvalidated_driver": Case(
        "A driver is loaded whose signature Windows did not validate.",
        blamed("unvalidated-module-loaded", baseline=WINDOWS,
               under={"unvalidated-module-loaded": ("boot-module-changed",)}),
        windows_boot("windows_unvalidated_driver", None, (*DRIVERS, UNSIGNED_DRIVER)), synthetic=True,
    ),
    "windows_driver_updated": Case(
        "A driver is another version by the same publisher.",
        blamed("boot-module-changed", baseline=WINDOWS),
        windows_boot("windows_driver_updated", None, (*DRIVERS[:-1], replace(DRIVERS[-1], contents="2"))),
        synthetic=True,
    ),
}  # fmt: skip
