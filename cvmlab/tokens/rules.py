"""What each claim of an attestation token means, and what it should say.

Sources: Azure Attestation, claim sets and EAT profile for TDX (learn.microsoft.com/azure/attestation); RFC
7519; names seen in real tokens. A rule counts only at its place: what the guest put into its own runtime data
cannot speak for the platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Scope = Literal["token", "platform", "configuration"]
"""Where a claim counts: at the top; among the claims of the hardware report, which a guest token nests under
``x-ms-isolation-tee``; in the VM configuration that the report binds."""

ZEROS_8: Final = "00" * 8
ZEROS_48: Final = "00" * 48


@dataclass(frozen=True, slots=True)
class Rule:
    """One claim.

    Attributes:
        meaning: What it says, for a person.
        expected: The values that are as they should be; empty where any is, and it is only shown.
        types: Attestation types whose tokens have it, so that its absence is shown.
    """

    meaning: str
    expected: tuple[object, ...] = ()
    types: tuple[str, ...] = ()


GUEST: Final = ("azurevm",)
SNP: Final = ("sevsnpvm",)
TDX: Final = ("tdxvm",)
TYPES: Final = ("azurevm", "sevsnpvm", "tdxvm", "tpm")
"""Attestation types that speak of a machine."""

TOKEN_RULES: Final[Mapping[str, Rule]] = {
    "iss": Rule("Provider that issued the token"),
    "exp": Rule("Time from which the token must not be accepted, seconds since 1970"),
    "nbf": Rule("Time before which the token must not be accepted, seconds since 1970"),
    "iat": Rule("Time at which the token was issued, seconds since 1970"),
    "jti": Rule("Name of this one token"),
    "aud": Rule("Whom the token is for"),
    "sub": Rule("Whom the token is about"),
    "nonce": Rule("Nonce that the client gave"),
    "rp_data": Rule("Nonce that the relying party gave"),
    "cnf": Rule("Key that the machine proved to hold"),
    "x-ms-ver": Rule("Version of the token's layout", ("1.0",)),
    "x-ms-attestation-type": Rule("What was attested"),
    "x-ms-policy-hash": Rule("Hash of the policy by which the service judged"),
    "x-ms-policy-signer": Rule("Key that signed the policy"),
    "secureboot": Rule("Secure Boot was on", (True,), GUEST),
    "x-ms-azurevm-attestation-protocol-ver": Rule("Version of the guest's protocol"),
    "x-ms-azurevm-attested-pcrs": Rule("Registers that the service looked at"),
    "x-ms-azurevm-bootdebug-enabled": Rule("The boot loader could be debugged", (False,)),
    "x-ms-azurevm-kerneldebug-enabled": Rule("The kernel could be debugged", (False,)),
    "x-ms-azurevm-hypervisordebug-enabled": Rule("The hypervisor could be debugged", (False,)),
    "x-ms-azurevm-testsigning-enabled": Rule("Drivers with test signatures were let in", (False,)),
    "x-ms-azurevm-flightsigning-enabled": Rule("Drivers with preview signatures were let in", (False,)),
    "x-ms-azurevm-debuggersdisabled": Rule(
        "No debugger was enabled: all of the above at once", (True,), GUEST
    ),
    "x-ms-azurevm-signingdisabled": Rule("Neither test nor preview signing was enabled", (True,), GUEST),
    "x-ms-azurevm-dbvalidated": Rule("The Secure Boot list db is the one expected", (True,), GUEST),
    "x-ms-azurevm-dbxvalidated": Rule("The revocation list dbx is the one expected", (True,), GUEST),
    "x-ms-azurevm-default-securebootkeysvalidated": Rule(
        "Platform key and key exchange keys are the ones expected", (True,), GUEST
    ),
    "x-ms-azurevm-elam-enabled": Rule("Windows' early-launch protection ran"),
    "x-ms-azurevm-hvci-policy": Rule("Windows' policy for hypervisor-enforced code integrity"),
    "x-ms-azurevm-is-windows": Rule("The guest runs Windows"),
    "x-ms-azurevm-ostype": Rule("Operating system, as the guest says"),
    "x-ms-azurevm-osdistro": Rule("Distribution, as the guest says"),
    "x-ms-azurevm-osbuild": Rule("Build, as the guest says"),
    "x-ms-azurevm-osversion-major": Rule("Major version, as the guest says"),
    "x-ms-azurevm-osversion-minor": Rule("Minor version, as the guest says"),
    "x-ms-azurevm-vmid": Rule("Unique id of the VM", (), GUEST),
    "aikValidated": Rule("The certificate of the attestation key was valid", (True,)),
    "aikPubHash": Rule("Hash of the attestation key"),
    "tpmVersion": Rule("Version of the TPM", (2,)),
    "secureBootEnabled": Rule("Secure Boot was on", (True,)),
    "bootDebuggingDisabled": Rule("The boot loader could not be debugged", (True,)),
    "notSafeMode": Rule("Windows did not run in safe mode", (True,)),
    "notWinPE": Rule("Windows was not the pre-installation environment", (True,)),
    "iommuEnabled": Rule("Devices were kept from memory that is not theirs"),
    "vbsEnabled": Rule("Virtualization-based security ran"),
    "vbsReportPresent": Rule("A report of a VBS enclave was given"),
    "x-ms-sgx-is-debuggable": Rule("The enclave could be debugged", (False,)),
    "x-ms-sgx-mrenclave": Rule("Measurement of the enclave"),
    "x-ms-sgx-mrsigner": Rule("Signer of the enclave"),
    "x-ms-sgx-product-id": Rule("Product id of the enclave"),
    "x-ms-sgx-svn": Rule("Security version of the enclave"),
}
"""Claims at the top of a token."""

PLATFORM_RULES: Final[Mapping[str, Rule]] = {
    "x-ms-attestation-type": Rule("Hardware that was attested", (), (*SNP, *TDX)),
    "x-ms-compliance-status": Rule(
        "Hardware and paravisor are as Azure runs confidential VMs", ("azure-compliant-cvm",), (*SNP, *TDX)
    ),
    "x-ms-policy-hash": Rule("Hash of the policy by which the hardware report was judged"),
    "x-ms-sevsnpvm-is-debuggable": Rule("The host could read the guest's memory", (False,), SNP),
    "x-ms-sevsnpvm-migration-allowed": Rule("A migration agent could move the guest", (False,), SNP),
    "x-ms-sevsnpvm-vmpl": Rule("Privilege level that asked for the report; the paravisor's is 0", (0,), SNP),
    "x-ms-sevsnpvm-smt-allowed": Rule("The processor may share cores between threads"),
    "x-ms-sevsnpvm-launchmeasurement": Rule("Measurement of the paravisor at launch"),
    "x-ms-sevsnpvm-reportdata": Rule("Hash of the runtime claims, in the hardware report"),
    "x-ms-sevsnpvm-reportid": Rule("Identity of this guest in reports"),
    "x-ms-sevsnpvm-hostdata": Rule("Data that the host gave at launch"),
    "x-ms-sevsnpvm-idkeydigest": Rule("Hash of the key that identifies the paravisor"),
    "x-ms-sevsnpvm-authorkeydigest": Rule("Hash of the key that signed that key"),
    "x-ms-sevsnpvm-familyId": Rule("Family of the paravisor"),
    "x-ms-sevsnpvm-imageId": Rule("Image of the paravisor"),
    "x-ms-sevsnpvm-guestsvn": Rule("Security version of the paravisor"),
    "x-ms-sevsnpvm-bootloader-svn": Rule("Security version of AMD's boot loader"),
    "x-ms-sevsnpvm-tee-svn": Rule("Security version of AMD's trusted environment"),
    "x-ms-sevsnpvm-snpfw-svn": Rule("Security version of the SNP firmware"),
    "x-ms-sevsnpvm-microcode-svn": Rule("Security version of the microcode"),
    "attester_tcb_status": Rule("How current processor firmware and TDX module are", ("UpToDate",), TDX),
    "dbgstat": Rule(
        "Debugging of the trust domain",
        ("disabled", "disabled-since-boot", "disabled-permanently", "disabled-fully-and-permanently"),
        TDX,
    ),
    "tdx_td_attributes_debug": Rule("The host could read the trust domain's memory", (False,), TDX),
    "tdx_td_attributes": Rule("Attributes of the trust domain, bit 0 is debug"),
    "tdx_seam_attributes": Rule("Attributes of the TDX module", (ZEROS_8,)),
    "tdx_mrsignerseam": Rule("Signer of the TDX module; zeros for Intel's", (ZEROS_48,)),
    "tdx_td_attributes_key_locker": Rule("The trust domain may use Key Locker"),
    "tdx_td_attributes_perfmon": Rule("The trust domain may use performance counters"),
    "tdx_td_attributes_protection_keys": Rule("The trust domain may use supervisor protection keys"),
    "tdx_td_attributes_septve_disable": Rule("Faults on pending pages stay with the host"),
    "tdx_mrseam": Rule("Measurement of the TDX module"),
    "tdx_mrtd": Rule("Measurement of the trust domain at launch: on Azure the paravisor"),
    "tdx_rtmr0": Rule("Runtime register 0; on Azure zeros, the guest's boot is in the vTPM"),
    "tdx_rtmr1": Rule("Runtime register 1; on Azure zeros, the guest's boot is in the vTPM"),
    "tdx_rtmr2": Rule("Runtime register 2; on Azure zeros, the guest's boot is in the vTPM"),
    "tdx_rtmr3": Rule("Runtime register 3; on Azure zeros, the guest's boot is in the vTPM"),
    "tdx_report_data": Rule("Hash of the runtime claims, in the hardware report"),
    "tdx_mrconfigid": Rule("Configuration id that the host gave"),
    "tdx_mrowner": Rule("Owner that the host gave"),
    "tdx_mrownerconfig": Rule("Owner's configuration that the host gave"),
    "tdx_seamsvn": Rule("Security version of the TDX module"),
    "tdx_tee_tcb_svn": Rule("Security versions of the TDX platform"),
    "tdx_xfam": Rule("Processor features that the trust domain may use"),
    "eat_profile": Rule("Profile that the claims follow"),
    "intuse": Rule("Intended use"),
}
"""Claims of the hardware report."""

CONFIGURATION_RULES: Final[Mapping[str, Rule]] = {
    "secure-boot": Rule("Secure Boot is configured", (True,)),
    "tpm-enabled": Rule("The VM has a vTPM", (True,)),
    "vmUniqueId": Rule("Unique id of the VM"),
    "console-enabled": Rule("The VM has a console"),
    "interactive-console-enabled": Rule("The console takes input"),
    "tpm-persisted": Rule("The vTPM keeps its state over restarts"),
    "current-time": Rule("Time of the runtime claims, seconds since 1970"),
    "root-cert-thumbprint": Rule("Thumbprint of the root of the attestation key's certificate"),
    "secure-boot-template-id": Rule("Secure Boot template of the VM"),
    "filtered-vpci-devices-allowed": Rule("Passed-through devices are filtered"),
}
"""Claims of the VM configuration that the hardware report binds."""

RULES: Final[Mapping[Scope, Mapping[str, Rule]]] = {
    "token": TOKEN_RULES,
    "platform": PLATFORM_RULES,
    "configuration": CONFIGURATION_RULES,
}
