"""The claims of a token as rows: what each says, what it should say, whether it does.

A guest token (``azurevm``) nests the claims of the hardware report under ``x-ms-isolation-tee``; a platform
token (``sevsnpvm``, ``tdxvm``) has them at the top. Only at these places they are the platform's:
``x-ms-runtime`` at the top of a guest token is what the guest wrote.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from cvmlab.errors import ParseError
from cvmlab.tokens.jwks import rsa_key
from cvmlab.tokens.jws import decode_loosely
from cvmlab.tokens.policy import CLAIMS as POLICY_CLAIMS
from cvmlab.tokens.policy import KNOWN as KNOWN_POLICIES
from cvmlab.tokens.policy import matching_text
from cvmlab.tokens.rules import RULES, Rule
from cvmlab.tpm.public import spki_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cvmlab.tokens.jws import Token
    from cvmlab.tokens.policy import Policy
    from cvmlab.tokens.rules import Scope

ClaimStatus = Literal["ok", "failed", "absent", "stated"]
Path = tuple[str, ...]

ISOLATION: Final = "x-ms-isolation-tee"
RUNTIME: Final = "x-ms-runtime"
CONFIGURATION: Final = "vm-configuration"
NONCES: Final[tuple[Path, ...]] = (
    (RUNTIME, "client-payload", "nonce"),
    ("nonce",),
    ("rp_data",),
    ("eat_nonce",),
)
"""Where the client's nonce is: from the guest library, other clients, the older name, other services."""

_UNKNOWN: Final = Rule("")
_PLATFORMS: Final = ("sevsnpvm", "tdxvm")


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One claim.

    Attributes:
        path: Its place: names with dots between, positions in brackets; unescaped.
        value: The value as JSON; empty where the claim is absent.
        meaning: What the claim is; empty where it is not known here.
        expected: What it should say; empty where it is only shown.
        status: ``ok``, ``failed``, ``absent`` (expected, not there) or ``stated`` (only shown).
    """

    path: str
    value: str
    meaning: str = ""
    expected: str = ""
    status: ClaimStatus = "stated"


@dataclass(frozen=True, slots=True)
class Known:
    """What else is known of the machine, to hold a token's claims against.

    Attributes:
        nonce: The nonce that was sent; None where unknown.
        vm_unique_id: The VM's id in the runtime claims of its hardware report; empty where unknown.
        attestation_key: Hex SHA-256 of the attestation key's SubjectPublicKeyInfo; empty where unknown.
        policy: The policy by which the service should have judged; None where unknown.
    """

    nonce: bytes | None = None
    vm_unique_id: str = ""
    attestation_key: str = ""
    policy: Policy | None = None


def attestation_type(token: Token) -> str:
    """Return what a token attests, such as ``azurevm`` or ``tdxvm``; empty where it does not say."""
    for name in ("x-ms-attestation-type", "tee"):
        value = token.claims.get(name)
        if isinstance(value, str):
            return value
    return ""


def platform_claims(token: Token) -> tuple[Path, Mapping[str, object]]:
    """Return the claims of the hardware report and their place; none for a machine without one."""
    nested = token.claims.get(ISOLATION)
    if isinstance(nested, dict):
        return (ISOLATION,), nested
    return (), token.claims if attestation_type(token) in _PLATFORMS else {}


def judge_claims(token: Token, known: Known | None = None) -> tuple[ClaimRow, ...]:
    """Return every claim of a token as a row, nested ones flattened, and what should be there as absent.

    Args:
        token: The token; whether its rows are worth anything, its signature says.
        known: What the claims are held against besides the rules.
    """
    known = known or Known()
    scopes = _scopes(token)
    special = dict((*_identity(token, known), *_nonces(token, known), *_policy(token, known)))
    rules = {place: _rules(names) for place, names in scopes.items()}
    rows = []
    seen = set()
    for path, value in _flatten(token.claims, ()):
        seen.add(path)
        row = _judge(path, value, rules.get(path[:-1], {}).get(path[-1], _UNKNOWN))
        if path in special:
            status, expected = special[path]
            row = replace(row, status=status, expected=expected)
        rows.append(row)
    return (*rows, *_absent(token, scopes, seen, known))


def _scopes(token: Token) -> dict[Path, tuple[Scope, ...]]:
    """Where which rules count. A platform token has both kinds of claims at the top."""
    place, claims = platform_claims(token)
    found: dict[Path, tuple[Scope, ...]] = {(): ("token",)}
    if claims:
        found[(*place, RUNTIME, CONFIGURATION)] = ("configuration",)
        found[place] = (*found.get(place, ()), "platform")
    return found


def _rules(scopes: tuple[Scope, ...]) -> Mapping[str, Rule]:
    rules: dict[str, Rule] = {}
    for scope in scopes:
        rules.update({name: rule for name, rule in RULES[scope].items() if name not in rules})
    return rules


def _flatten(value: Mapping[str, object], path: Path) -> Iterator[tuple[Path, object]]:
    for name in sorted(value):
        yield from _flatten_value(value[name], (*path, name))


def _flatten_value(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict) and value:
        yield from _flatten(value, path)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            yield from _flatten_value(item, (*path, f"[{number}]"))
    else:
        yield path, value


def _shown(path: Path) -> str:
    """A path as text; names that could be read as a path are quoted."""
    text = ""
    for number, name in enumerate(path):
        if name.startswith("[") and name[1:-1].isdecimal() and number:
            text += name
        else:
            text += ("." if text else "") + (
                json.dumps(name) if not name or set(name) & set('.[]"') else name
            )
    return text


def _judge(path: Path, value: object, rule: Rule) -> ClaimRow:
    meaning = rule.meaning
    if len(path) == 1 and path[0] in POLICY_CLAIMS and isinstance(value, str) and value in KNOWN_POLICIES:
        meaning = f"{meaning}: {KNOWN_POLICIES[value]}"
    status: ClaimStatus = "stated"
    if rule.expected:
        status = "ok" if any(_same(value, wanted) for wanted in rule.expected) else "failed"
    elif path[-1] == "tdx_td_attributes" and meaning:
        # the debug bit itself, beside the claim that the service decoded from it (Intel, TD attributes)
        status = "failed" if _debug_bit(value) else "stated"
        return ClaimRow(_shown(path), _text(value), meaning, "bit 0 clear", status)
    return ClaimRow(_shown(path), _text(value), meaning, _expected(rule), status)


def _same(value: object, wanted: object) -> bool:
    """Equal in type too: 0 is not false. A policy may issue its truth values as text."""
    if isinstance(wanted, bool) and isinstance(value, str):
        return value.lower() == str(wanted).lower()
    return type(value) is type(wanted) and value == wanted


def _debug_bit(value: object) -> bool:
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b"\1"
    except ValueError:
        return True
    return len(raw) != 8 or bool(raw[0] & 1)


def _expected(rule: Rule) -> str:
    return " or ".join(_text(wanted) for wanted in rule.expected)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _absent(
    token: Token, scopes: Mapping[Path, tuple[Scope, ...]], seen: set[Path], known: Known
) -> Iterator[ClaimRow]:
    kinds: Mapping[Scope, object] = {
        "token": attestation_type(token),
        "platform": platform_claims(token)[1].get("x-ms-attestation-type"),
    }
    for place, names in scopes.items():
        for scope in names:
            for name, rule in RULES[scope].items():
                if kinds.get(scope) in rule.types and (*place, name) not in seen:
                    yield ClaimRow(_shown((*place, name)), "", rule.meaning, _expected(rule), "absent")
    if known.policy is not None and not any((name,) in seen for name in POLICY_CLAIMS):
        rule = RULES["token"][POLICY_CLAIMS[0]]
        yield ClaimRow(POLICY_CLAIMS[0], "", rule.meaning, _text(known.policy.hash), "absent")


def _identity(token: Token, known: Known) -> Iterator[tuple[Path, tuple[ClaimStatus, str]]]:
    """The machine that the token names: is it one, and is it the one of the evidence?"""
    place, claims = platform_claims(token)
    runtime = claims.get(RUNTIME)
    runtime = runtime if isinstance(runtime, dict) else {}
    configuration = runtime.get(CONFIGURATION)
    own = configuration.get("vmUniqueId") if isinstance(configuration, dict) else None
    if known.vm_unique_id and own is not None:
        yield (*place, RUNTIME, CONFIGURATION, "vmUniqueId"), _same_id(own, known.vm_unique_id)
    reference = known.vm_unique_id or own
    if isinstance(reference, str) and "x-ms-azurevm-vmid" in token.claims:
        yield ("x-ms-azurevm-vmid",), _same_id(token.claims["x-ms-azurevm-vmid"], reference)
    keys = runtime.get("keys")
    if known.attestation_key and isinstance(keys, list):
        for number, entry in enumerate(keys):
            if isinstance(entry, dict) and entry.get("kid") == "HCLAkPub":
                good = _key_sha256(entry, token.source) == known.attestation_key
                path = (*place, RUNTIME, "keys", f"[{number}]", "n" if "n" in entry else "kid")
                yield path, ("ok" if good else "failed", "the evidence's attestation key")


def _same_id(found: object, wanted: str) -> tuple[ClaimStatus, str]:
    # the same id is spelled in upper and in lower case (facts on Azure, section A.3)
    good = isinstance(found, str) and found.lower() == wanted.lower()
    return "ok" if good else "failed", _text(wanted)


def _key_sha256(entry: Mapping[str, object], source: str) -> str:
    try:
        return spki_sha256(rsa_key(entry, source=source))
    except ParseError:
        return ""


def _nonces(token: Token, known: Known) -> Iterator[tuple[Path, tuple[ClaimStatus, str]]]:
    if known.nonce is None:
        return
    for path in NONCES:
        value: object = token.claims
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            texts = value if isinstance(value, list) else [value]
            good = any(isinstance(text, str) and _spells(text, known.nonce) for text in texts)
            yield path, ("ok" if good else "failed", f"the nonce that was sent, {known.nonce.hex()}")


def _spells(text: str, nonce: bytes) -> bool:
    """Clients give the nonce raw, in hex or in base64, and the guest library encodes that in base64 again."""
    forms = {nonce, nonce.hex().encode(), nonce.hex().upper().encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {encode(nonce), encode(nonce).rstrip(b"=")}
    raw = text.encode()
    return raw in forms or decode_loosely(raw) in forms


def _policy(token: Token, known: Known) -> Iterator[tuple[Path, tuple[ClaimStatus, str]]]:
    if known.policy is None:
        return
    for name in POLICY_CLAIMS:
        if name in token.claims:
            value = token.claims[name]
            change = matching_text(known.policy, value.rstrip("=")) if isinstance(value, str) else None
            said = f"{_text(known.policy.hash)}, of {known.policy.source}"
            if change:
                said = f"{_text(value)}, of {known.policy.source} {change}"
            yield (name,), ("ok" if change is not None else "failed", said)
