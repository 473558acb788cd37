"""Which file is what: by name first, by content where the name says nothing (design, section 10)."""

from __future__ import annotations

import re
from typing import Final

from cvmlab.evidence.hardware import recognise
from cvmlab.tokens.jws import looks_like_token

_EXACT: Final[dict[str, str]] = {
    "eventlog.bin": "event-log",
    "binary_bios_measurements": "event-log",
    "ccel.bin": "event-log",
    "pcrs.yaml": "registers",
    "pcrs.json": "registers",
    "pcrs.bin": "registers",
    "pcrs-tpm12.txt": "registers",
    "ak.pub": "key",
    "ak.pem": "key",
    "ak.crt": "certificate",
    "ak.name": "key",
    "ek.pub": "key",
    "ek.pem": "key",
    "clock.yaml": "clock",
    "ima_binary.bin": "ima-list",
    "ima_ascii.log": "ima-list",
    "ascii_runtime_measurements": "ima-list",
    "binary_runtime_measurements": "ima-list",
    "hcl_report.bin": "hardware",
    "snp_report.bin": "hardware",
    "td_report.bin": "hardware",
    "td_quote.bin": "hardware",
    "runtime_claims.json": "hardware",
    "nitro_tpm.cbor": "hardware",
    "vcek.pem": "hardware",
    "vlek.pem": "hardware",
    "thim.json": "hardware",
    "tcb_info.json": "hardware",
    "qe_identity.json": "hardware",
    "userspace.log": "userspace-log",
    "tpm2-measure.log": "userspace-log",
    "nonce.hex": "verifier",
    "credential_activation.json": "verifier",
    "evidence.json": "description",
}
_PATTERNS: Final = (
    (re.compile(r"quote(-[A-Za-z0-9_.-]{1,64})?\.msg"), "quote"),
    (re.compile(r"quote(-[A-Za-z0-9_.-]{1,64})?\.sig"), "signature"),
    (re.compile(r"ak[A-Za-z0-9_.-]{0,64}\.crt(\.der)?"), "certificate"),
    (re.compile(r"ek[A-Za-z0-9_.-]{0,64}\.crt(\.der)?"), "certificate"),
    (re.compile(r"ca-[A-Za-z0-9_.-]{1,96}\.pem"), "certificate"),
    (re.compile(r"token(-[A-Za-z0-9_.-]{1,64})?\.(jwt|json)"), "token"),
)
_SPEC_ID: Final = re.compile(rb"Spec ID Event0[0-3]\0")

CANONICAL: Final = frozenset(_EXACT)
"""Names that ``evidence.json`` may give other files."""


def role_of(name: str, data: bytes) -> str:
    """Return the role of a file; ``other`` where neither name nor content is known.

    Descriptions beside evidence (README, summaries, other programs' dumps of a log) have no role: they
    are never read.
    """
    if role := role_of_name(name):
        return role
    # the first event: pcrIndex 0 (1 in logs of CC registers), EV_NO_ACTION, 20 zero bytes, size; data at 32
    if (
        len(data) > 48
        and data[0:4] in (b"\0\0\0\0", b"\x01\0\0\0")
        and data[4:8] == b"\x03\0\0\0"
        and _SPEC_ID.match(data, 32)
    ):
        return "event-log"
    if recognise(data) is not None:
        return "hardware"
    return "token" if looks_like_token(data) else "other"


def role_of_name(name: str) -> str:
    """Return the role that a name alone gives, or an empty text."""
    if role := _EXACT.get(name):
        return role
    for pattern, role in _PATTERNS:
        if pattern.fullmatch(name):
            return role
    return ""


def is_canonical(name: str) -> bool:
    """Tell whether a name is one of the evidence directory's (design, section 10)."""
    return role_of_name(name) not in ("", "description")
