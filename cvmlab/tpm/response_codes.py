"""What a TPM answers when it refuses, and what to do about it.

Source: TPM 2.0 Library, Part 2, 6.6 (TPM_RC: format zero, format one, warnings); TCG TSS 2.0 Overview and
Common Structures, 5.2 (layers and base codes of TSS2_RC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """One row of the table.

    Attributes:
        code: The number, without the bits that number a handle, parameter or session.
        name: Name in the specification.
        meaning: What it says, in words.
        action: What to do about it.
    """

    code: int
    name: str
    meaning: str
    action: str


_AUTH_ACTION = "use a key that needs no password (--ak-handle), or ask who set the password"
_MEMORY_ACTION = (
    "use the kernel's resource manager (--tcti device:/dev/tpmrm0), or free what other programs left: "
    "tpm2_flushcontext -t -l -s"
)
_HANDLE_ACTION = "list what there is: tpm2_getcap handles-persistent, tpm2_getcap handles-nv-index"
_RETRY_ACTION = "run the command again"
_DAMAGED_ACTION = "run the command again; if it stays, the TPM or what lies between is at fault"

TPM_CODES: Final = (
    # format zero, TPM_RC_VER1
    ResponseCode(0x100, "TPM_RC_INITIALIZE", "the TPM was not started after its reset",
                 "start it (tpm2_startup -c); firmware does so on a real machine"),
    ResponseCode(0x101, "TPM_RC_FAILURE", "the TPM is in failure mode and answers nothing else",
                 "power the machine off and on; if it stays, replace the TPM or the virtual machine"),
    ResponseCode(0x103, "TPM_RC_SEQUENCE", "commands came in the wrong order", _DAMAGED_ACTION),
    ResponseCode(0x120, "TPM_RC_DISABLED", "the command or the hierarchy is disabled",
                 "enable the endorsement and storage hierarchies in the firmware setup"),
    ResponseCode(0x121, "TPM_RC_EXCLUSIVE", "another program holds an exclusive session", _RETRY_ACTION),
    ResponseCode(0x124, "TPM_RC_AUTH_TYPE", "this kind of authorization is not allowed here", _AUTH_ACTION),
    ResponseCode(0x125, "TPM_RC_AUTH_MISSING", "the command needs an authorization", _AUTH_ACTION),
    ResponseCode(0x126, "TPM_RC_POLICY", "a policy was not met", _AUTH_ACTION),
    ResponseCode(0x127, "TPM_RC_PCR", "a register does not allow this", "leave the register out"),
    ResponseCode(0x128, "TPM_RC_PCR_CHANGED", "registers changed while the policy was made", _RETRY_ACTION),
    ResponseCode(0x12D, "TPM_RC_UPGRADE", "the TPM is in the middle of a firmware update",
                 "finish the update of the TPM's firmware"),
    ResponseCode(0x12E, "TPM_RC_TOO_MANY_CONTEXTS", "no more contexts can be saved", _MEMORY_ACTION),
    ResponseCode(0x12F, "TPM_RC_AUTH_UNAVAILABLE", "the key or index cannot be authorized in this way",
                 _AUTH_ACTION),
    ResponseCode(0x130, "TPM_RC_REBOOT", "the TPM needs a restart before it goes on", "reboot the machine"),
    ResponseCode(0x142, "TPM_RC_COMMAND_SIZE", "the command has a wrong size", _DAMAGED_ACTION),
    ResponseCode(0x143, "TPM_RC_COMMAND_CODE", "the TPM, or what stands before it, has no such command",
                 "connect to the TPM itself (--tcti device:/dev/tpmrm0); some vTPMs lack commands"),
    ResponseCode(0x144, "TPM_RC_AUTHSIZE", "the authorization has a wrong size", _DAMAGED_ACTION),
    ResponseCode(0x146, "TPM_RC_NV_RANGE", "the read goes past the end of the index", _DAMAGED_ACTION),
    ResponseCode(0x147, "TPM_RC_NV_SIZE", "no room for an index of this size", "free NV indexes"),
    ResponseCode(0x148, "TPM_RC_NV_LOCKED", "the index is locked until the next reset",
                 "read it before it is locked, or after a reboot"),
    ResponseCode(0x149, "TPM_RC_NV_AUTHORIZATION", "the index may not be read with this authorization",
                 _AUTH_ACTION),
    ResponseCode(0x14A, "TPM_RC_NV_UNINITIALIZED", "the platform has not filled the index",
                 "wait a minute and collect again; if it stays, the platform's provisioning failed: on "
                 "Azure, stop (deallocate) and start the machine, then ask its support"),
    ResponseCode(0x14B, "TPM_RC_NV_SPACE", "the TPM's storage is full", "free NV indexes or persistent keys"),
    ResponseCode(0x14C, "TPM_RC_NV_DEFINED", "the index or persistent handle exists already", _HANDLE_ACTION),
    ResponseCode(0x150, "TPM_RC_BAD_CONTEXT", "the saved context is of another boot or another TPM",
                 "make the context anew"),
    ResponseCode(0x152, "TPM_RC_PARENT", "the parent is no parent for this key", _HANDLE_ACTION),
    ResponseCode(0x153, "TPM_RC_NEEDS_TEST", "the TPM wants a self test first", "run tpm2_selftest -f"),
    ResponseCode(0x155, "TPM_RC_SENSITIVE", "the private part does not fit the public part",
                 "make the key anew"),
    # format one: TPM_RC_FMT1 + error, about a handle, a parameter or a session
    ResponseCode(0x081, "TPM_RC_ASYMMETRIC", "the TPM lacks this kind of key or scheme",
                 "choose another --ak-type"),
    ResponseCode(0x082, "TPM_RC_ATTRIBUTES", "attributes that do not go together",
                 "use another key: this one is not made for the command"),
    ResponseCode(0x083, "TPM_RC_HASH", "the TPM lacks this hash algorithm", "choose another --ak-type"),
    ResponseCode(0x084, "TPM_RC_VALUE", "a value is out of range, or of no use here",
                 "choose another --ak-type; a challenge that is refused so was made for another TPM"),
    ResponseCode(0x085, "TPM_RC_HIERARCHY", "the hierarchy is disabled or not allowed here",
                 "enable the endorsement and storage hierarchies in the firmware setup"),
    ResponseCode(0x087, "TPM_RC_KEY_SIZE", "the TPM lacks keys of this size", "choose another --ak-type"),
    ResponseCode(0x089, "TPM_RC_MODE", "the TPM lacks this cipher mode", "choose another --ak-type"),
    ResponseCode(0x08A, "TPM_RC_TYPE", "the object is of another type", _HANDLE_ACTION),
    ResponseCode(0x08B, "TPM_RC_HANDLE", "there is nothing at this handle, or it cannot be used here",
                 _HANDLE_ACTION),
    ResponseCode(0x08D, "TPM_RC_RANGE", "a value is out of range", _DAMAGED_ACTION),
    ResponseCode(0x08E, "TPM_RC_AUTH_FAIL", "a wrong password; it counts towards the TPM's lockout",
                 _AUTH_ACTION),
    ResponseCode(0x08F, "TPM_RC_NONCE", "a session's nonce has a wrong size or value", _RETRY_ACTION),
    ResponseCode(0x092, "TPM_RC_SCHEME", "the key lacks this signing scheme", "choose another key"),
    ResponseCode(0x095, "TPM_RC_SIZE", "a parameter has a wrong size",
                 "shorten the nonce: Azure's vTPM takes 50 bytes, others 32 to 64"),
    ResponseCode(0x096, "TPM_RC_SYMMETRIC", "the TPM lacks this cipher", "choose another --ak-type"),
    ResponseCode(0x098, "TPM_RC_SELECTOR", "a selector does not fit the structure", _DAMAGED_ACTION),
    ResponseCode(0x09A, "TPM_RC_INSUFFICIENT", "the command ended early", _DAMAGED_ACTION),
    ResponseCode(0x09B, "TPM_RC_SIGNATURE", "a signature is wrong", _DAMAGED_ACTION),
    ResponseCode(0x09C, "TPM_RC_KEY", "the key is not made for this command",
                 "use a restricted signing key for quotes"),
    ResponseCode(0x09D, "TPM_RC_POLICY_FAIL", "the policy of the key or index was not met", _AUTH_ACTION),
    ResponseCode(0x09F, "TPM_RC_INTEGRITY", "the blob was not made by this TPM for this key, or was changed",
                 "a key of a cleared or another TPM: name an empty --ak-context; a challenge: ask for one "
                 "made for this machine's ek.pub and ak.pub"),
    ResponseCode(0x0A0, "TPM_RC_TICKET", "the ticket is not this TPM's", _RETRY_ACTION),
    ResponseCode(0x0A2, "TPM_RC_BAD_AUTH", "a wrong password", _AUTH_ACTION),
    ResponseCode(0x0A3, "TPM_RC_EXPIRED", "the authorization expired", _RETRY_ACTION),
    ResponseCode(0x0A5, "TPM_RC_BINDING", "public and private part do not belong together",
                 "name an empty --ak-context to make a new key"),
    ResponseCode(0x0A6, "TPM_RC_CURVE", "the TPM lacks this curve", "choose another --ak-type"),
    ResponseCode(0x0A7, "TPM_RC_ECC_POINT", "the point is not on the curve",
                 "ask for a challenge made for this machine's ek.pub"),
    # warnings, TPM_RC_WARN
    ResponseCode(0x901, "TPM_RC_CONTEXT_GAP", "too many sessions since one was saved", _MEMORY_ACTION),
    ResponseCode(0x902, "TPM_RC_OBJECT_MEMORY", "no room for another loaded key", _MEMORY_ACTION),
    ResponseCode(0x903, "TPM_RC_SESSION_MEMORY", "no room for another session", _MEMORY_ACTION),
    ResponseCode(0x904, "TPM_RC_MEMORY", "out of memory", _MEMORY_ACTION),
    ResponseCode(0x905, "TPM_RC_SESSION_HANDLES", "no session handle is free", _MEMORY_ACTION),
    ResponseCode(0x906, "TPM_RC_OBJECT_HANDLES", "no object handle is free", _MEMORY_ACTION),
    ResponseCode(0x907, "TPM_RC_LOCALITY", "not allowed from this locality",
                 "only the platform may do this; use another index or key"),
    ResponseCode(0x908, "TPM_RC_YIELDED", "the TPM was interrupted", _RETRY_ACTION),
    ResponseCode(0x909, "TPM_RC_CANCELED", "the command was cancelled", _RETRY_ACTION),
    ResponseCode(0x90A, "TPM_RC_TESTING", "the TPM tests itself", "wait some seconds, then run it again"),
    ResponseCode(0x920, "TPM_RC_NV_RATE", "the TPM slows writing to protect its storage",
                 "wait some seconds, then run it again"),
    ResponseCode(0x921, "TPM_RC_LOCKOUT", "locked after too many wrong passwords",
                 "wait until the lockout ends (tpm2_getcap properties-variable shows the time), or lift it "
                 "with tpm2_dictionarylockout -c"),
    ResponseCode(0x922, "TPM_RC_RETRY", "the TPM was busy and did not start the command",
                 "run the command again; cvmlab has tried several times"),
    ResponseCode(0x923, "TPM_RC_NV_UNAVAILABLE", "the storage is not available now",
                 "wait some seconds, then run it again"),
)  # fmt: skip
"""Answers of the TPM itself, in the order of the specification."""

TSS_CODES: Final = (
    ResponseCode(0x01, "TSS2_BASE_RC_GENERAL_FAILURE", "the TPM software failed", _RETRY_ACTION),
    ResponseCode(0x02, "TSS2_BASE_RC_NOT_IMPLEMENTED", "the TPM software lacks this", "update tpm2-tss"),
    ResponseCode(0x03, "TSS2_BASE_RC_BAD_CONTEXT", "the connection was not made", "check --tcti"),
    ResponseCode(0x05, "TSS2_BASE_RC_BAD_REFERENCE", "a name that leads nowhere", "check --tcti"),
    ResponseCode(0x07, "TSS2_BASE_RC_BAD_SEQUENCE", "another command is not finished", _RETRY_ACTION),
    ResponseCode(0x08, "TSS2_BASE_RC_NO_CONNECTION", "nothing answers there",
                 "check --tcti, and that the TPM's daemon runs"),
    ResponseCode(0x09, "TSS2_BASE_RC_TRY_AGAIN", "no answer yet", _RETRY_ACTION),
    ResponseCode(0x0A, "TSS2_BASE_RC_IO_ERROR", "the connection to the TPM failed",
                 "check --tcti: the device is missing, not allowed or in use, or nothing listens there"),
    ResponseCode(0x0B, "TSS2_BASE_RC_BAD_VALUE", "a value that cannot be used",
                 "check --tcti, and what the message names"),
    ResponseCode(0x0C, "TSS2_BASE_RC_NOT_PERMITTED", "not allowed", "run it as root, or join the group tss"),
    ResponseCode(0x11, "TSS2_BASE_RC_MALFORMED_RESPONSE", "an answer that is none", _DAMAGED_ACTION),
    ResponseCode(0x13, "TSS2_BASE_RC_INSUFFICIENT_RESPONSE", "an answer that ends early", _DAMAGED_ACTION),
    ResponseCode(0x14, "TSS2_BASE_RC_INCOMPATIBLE_TCTI", "a TCTI of another version", "update tpm2-tss"),
    ResponseCode(0x15, "TSS2_BASE_RC_NOT_SUPPORTED", "the TPM software knows no such thing",
                 "check the name in --tcti, and that the library of that TCTI is installed"),
    ResponseCode(0x16, "TSS2_BASE_RC_BAD_TCTI_STRUCTURE", "a damaged TCTI", "check --tcti; update tpm2-tss"),
)  # fmt: skip
"""Errors of the software between program and TPM, by their base code."""

LAYERS: Final[dict[int, str]] = {
    0: "TPM",
    6: "FAPI",
    7: "ESAPI",
    8: "SAPI",
    9: "marshalling",
    10: "TCTI",
    11: "resource manager",
    12: "TPM, through a resource manager",
    13: "driver",
}
"""Names of TSS2_RC layers (bits 16 to 23)."""

_TPM_BY_CODE: Final = {row.code: row for row in TPM_CODES}
_TSS_BY_CODE: Final = {row.code: row for row in TSS_CODES}
_TPM_LAYERS: Final = (0, 11, 12)
# TPM_RC bits (Part 2, 6.6.2): F says format one; P that a parameter is meant, else S or a handle
_FORMAT_ONE, _PARAMETER, _SESSION, _NUMBER_SHIFT = 0x80, 0x40, 0x800, 8


def base_code(code: int) -> int:
    """Return a TPM's code without layer and without the number of a handle, parameter or session."""
    plain = code & 0xFFFF
    return 0x80 | plain & 0x3F if plain & _FORMAT_ONE else plain & 0xFFF


def lookup(code: int) -> ResponseCode | None:
    """Return the row of a TSS2_RC or TPM_RC; None for a code that is not in the table."""
    if code >> 16 & 0xFF in _TPM_LAYERS:
        return _TPM_BY_CODE.get(base_code(code))
    return _TSS_BY_CODE.get(code & 0xFFFF)


def explain(code: int) -> str:
    """Return a TSS2_RC or TPM_RC in words: number, name, what it is about, meaning and what to do.

    Example:
        >>> print(explain(0x14A).split(";")[0])
        0x14A TPM_RC_NV_UNINITIALIZED: the platform has not filled the index. What to do: wait a minute and \
collect again
    """
    row, layer = lookup(code), code >> 16 & 0xFF
    number = f"0x{code & 0xFFFF:03X}" if layer == 0 else f"0x{code:X}"
    where = _about(code) if layer in _TPM_LAYERS else f" ({LAYERS.get(layer, f'layer {layer}')})"
    if row is None:
        return f"{number}{where}: not a code known here. What to do: ask tpm2_rc_decode 0x{code:X}"
    return f"{number} {row.name}{where}: {row.meaning}. What to do: {row.action}"


def _about(code: int) -> str:
    if not code & _FORMAT_ONE:
        return ""
    number = code >> _NUMBER_SHIFT & 0xF
    if code & _PARAMETER:
        return f" (parameter {number})" if number else ""
    if code & _SESSION:
        return f" (session {number & 7})" if number & 7 else ""
    return f" (handle {number})" if number else ""
