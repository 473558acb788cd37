"""Policy text of Azure Attestation for TPM evidence, version 1.2 of its grammar.

The grammar's claims speak of the event log as JSON and of what the quote covers. How it names digests is not
published, so what can be said both ways is Secure Boot, the registers to quote and the key's certificate.

Source: learn.microsoft.com/azure/attestation: policy-version-1-2, tpm-attestation-sample-policies,
claim-rule-grammar.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.baseline.document import Policy
from cvmlab.baseline.exchange.model import Exported, Imported, common_losses, new_baseline, read_bytes
from cvmlab.errors import BaselineError

if TYPE_CHECKING:
    from pathlib import Path

    from cvmlab.baseline.document import Baseline

_VERSION: Final = re.compile(r"\bversion\s*=\s*(\d+\.\d+)\s*;")
_MASK: Final = re.compile(
    r"issueproperty\s*\(\s*type\s*=\s*\"required_pcr_mask\"\s*,\s*value\s*=\s*(\w+)\s*\)"
)
_CLAIM: Final = re.compile(r"\[\s*type\s*==\s*\"secureBootEnabled\"\s*,\s*value\s*==\s*true\s*\]")
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
NOTHING: Final = (
    "no digest is in it: the baseline that comes of it pins nothing and never makes a machine trusted"
)


def write_maa(baseline: Baseline) -> Exported:
    """Write a policy: the registers that must be quoted, and claims about the key and Secure Boot.

    Issuance rules cannot fail an attestation: whoever reads the token must ask for the claims.
    """
    losses = [
        *common_losses(baseline, policy=True),
        "every digest of every slot: the grammar has no published name for the digest of an event",
        "a failing Secure Boot check fails no attestation: the token's reader must ask for SecureBootEnabled",
    ]
    policy = baseline.policy
    registers = policy.required_registers
    if registers is None:
        registers = tuple(sorted({r.register for r in baseline.every_register() if r.set == "tpm"}))
    rules = [
        'c:[type=="aikValidated", issuer=="AttestationService"] => issue(type="aikValidated", value=c.value);'
    ]
    if policy.secure_boot:
        rules += [
            'c:[type=="events", issuer=="AttestationService"] => add(type="secureBootVariables", '
            'value=JmesPath(c.value, "Events[?PcrIndex == `7` && EventTypeString == '
            "'EV_EFI_VARIABLE_DRIVER_CONFIG' && ProcessedData.UnicodeName == 'SecureBoot']\"));",
            # AQ is base64url of the byte 1, as the evidence gives the data of variables
            'c:[type=="secureBootVariables", issuer=="AttestationPolicy"] => issue(type="SecureBootEnabled", '
            'value=JsonToClaimValue(JmesPath(c.value, "length(@) == `1` && '
            "@[0].ProcessedData.VariableData == 'AQ'\")));",
            '![type=="SecureBootEnabled", issuer=="AttestationPolicy"] => issue(type="SecureBootEnabled", '
            "value=false);",
        ]
    other = [
        name
        for name, rule in (
            ("debugging", not policy.debugging),
            ("required_bank", policy.required_bank),
            ("authorities", policy.authorities is not None),
            ("sbat_level", policy.sbat_level),
            ("revocation_list", policy.revocation_list),
            ("pinned_machines", policy.pinned_machines),
        )
        if rule
    ]
    if other:
        losses.append(f"rules of the policy: {', '.join(other)}")
    mask = sum(1 << register for register in registers if register < 24)
    lines = ["version=1.2;", "", "configurationrules{"]
    lines.append('\t=> issueproperty(type="require_valid_aik_cert", value=true);')
    lines.append(f'\t=> issueproperty(type="required_pcr_mask", value={mask});')
    lines += ["};", "", "authorizationrules{", "\t=> permit();", "};", "", "issuancerules{"]
    lines += [f"\t{rule}" for rule in rules]
    lines += ["};", ""]
    return Exported({"": "\n".join(lines).encode()}, tuple(losses))


def read_maa(path: Path, name: str) -> Imported:
    """Read a policy of version 1.0 to 1.2: which registers it needs, and whether Secure Boot.

    Raises:
        BaselineError: It is no policy text, or of another version.
    """
    text = _COMMENT.sub("", read_bytes(path).decode("utf-8-sig", "replace"))
    found = _VERSION.search(text)
    if found is None or "issuancerules" not in text + "issuancerules" * ("authorizationrules" in text):
        raise BaselineError(f"{path}: no policy of Azure Attestation: need version=1.2; and rules")
    if found[1] not in ("1.0", "1.1", "1.2"):
        raise BaselineError(f"{path}: version {found[1]} of the grammar is not known here")
    losses = [NOTHING]
    registers = None
    if mask := _MASK.search(text):
        try:
            bits = int(mask[1], 0)
        except ValueError:
            raise BaselineError(f"{path}: required_pcr_mask: {mask[1]!r} is no number") from None
        registers = tuple(register for register in range(24) if bits >> register & 1)
    secure = bool(_CLAIM.search(text)) or ("'SecureBoot'" in text and "VariableData" in text)
    rules = text.count("=>")
    known = bool(mask) + secure
    losses.append(f"{rules} claim rules, of which {known} became rules of the policy")
    policy = Policy(secure_boot=True if secure else None, debugging=True, required_registers=registers)
    return Imported(new_baseline(name, policy=policy), tuple(losses))
