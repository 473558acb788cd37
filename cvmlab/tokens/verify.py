"""Is a token signed by the attestation service, by whom, and for which time?

The key comes from the verifier's JWK set alone: what the header brings along (``jwk``, ``x5c``) or points to
(``jku``, ``x5u``) is never used as a key and never followed (RFC 8725, section 3.10). Algorithms are pinned:
neither ``none`` nor a shared secret can pass for a signature (section 3.1).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cvmlab.errors import MissingExtraError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jwt.algorithms import Algorithm

    from cvmlab.tokens.jwks import SigningKey
    from cvmlab.tokens.jws import Token

CheckName = Literal["signature", "certificate", "time", "issuer"]
CheckStatus = Literal["holds", "broken", "not-checked", "not-applicable"]

ALGORITHMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "secp256r1",
    "ES384": "secp384r1",
}
"""Algorithms that are accepted, and what each needs: an RSA key or a curve (RFC 7518, section 3.1)."""

ISSUERS: Final = ("attest.azure.net", "attest.azure.us")
"""Domains under which Azure's attestation providers are, of the public and the US government cloud."""

LEEWAY: Final = timedelta(minutes=5)
"""How far clocks may be apart."""

_ISSUER_URL: Final = re.compile(
    r"https://((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+)/?", re.IGNORECASE
)
_KEY_URL: Final = re.compile(r"https://([A-Za-z0-9.-]+)(/[\x21-\x7e]*)?")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a token.

    Attributes:
        name: ``signature``, ``certificate`` (of the signing key), ``time`` or ``issuer``.
        status: ``holds``, ``broken``, ``not-checked`` or ``not-applicable``.
        why: One sentence.
        code: Cause code where it is broken; empty otherwise.
    """

    name: CheckName
    status: CheckStatus
    why: str
    code: str = ""


def pyjwt_algorithm(name: str) -> Algorithm:
    """Return PyJWT's implementation of a pinned algorithm.

    Raises:
        MissingExtraError: PyJWT is not installed.
    """
    try:
        from jwt.algorithms import get_default_algorithms
    except ImportError as error:
        raise MissingExtraError("the verification of attestation tokens", "tokens") from error
    return get_default_algorithms()[name]


def select_key(token: Token, keys: Sequence[SigningKey]) -> SigningKey:
    """Return the one key of the verifier's set that a token names and whose kind fits its algorithm.

    A token without ``kid`` is matched by the thumbprint of the certificate (``x5t``, ``x5t#S256``), or where
    it has none of these, by the only key that fits.

    Raises:
        VerificationError: There is none, or several that differ.
    """
    candidates, named = _named(token, keys)
    if not candidates:
        raise _invalid(token, f"none of the {len(keys)} keys that you gave is {named}")
    usable = [key for key in candidates if key.key is not None]
    if not usable:
        raise _invalid(token, f"the key {named} cannot be used: {candidates[0].problem}")
    fitting = [key for key in usable if _fits(key, token.algorithm)]
    if not fitting:
        raise _invalid(token, f"the key {named} is not for {token.algorithm}")
    if len({key.spki_sha256 for key in fitting}) > 1:
        raise _invalid(token, f"{len(fitting)} different keys are {named}, so which one signed is open")
    return fitting[0]


def _named(token: Token, keys: Sequence[SigningKey]) -> tuple[list[SigningKey], str]:
    if token.kid is not None:
        return [key for key in keys if key.kid == token.kid], f"named {token.kid!r}"
    for parameter, hash_name in (("x5t#S256", "sha256"), ("x5t", "sha1")):
        stated = token.header.get(parameter)
        if isinstance(stated, str):
            matching = [key for key in keys if _unpadded(key.thumbprint(hash_name)) == stated.rstrip("=")]
            return matching, f"of the certificate {parameter} {stated!r}"
    fitting = [key for key in keys if key.key is not None and _fits(key, token.algorithm)]
    return fitting, f"for {token.algorithm}, and the token names no key"


def _unpadded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _fits(key: SigningKey, algorithm: str) -> bool:
    if key.algorithm and key.algorithm != algorithm:
        return False
    wanted = ALGORITHMS[algorithm]
    if isinstance(key.key, rsa.RSAPublicKey):
        return wanted == "RSA"
    return isinstance(key.key, ec.EllipticCurvePublicKey) and key.key.curve.name == wanted


def _invalid(token: Token, why: str) -> VerificationError:
    return VerificationError(f"{token.source}: {why}", code="token-signature-invalid")


def verify_signature(token: Token, keys: Sequence[SigningKey]) -> SigningKey:
    """Verify a token's signature with the key that the verifier's set holds for it.

    Returns:
        The key that signed.

    Raises:
        VerificationError: The algorithm is not pinned, there is no key, or the signature is wrong.
        MissingExtraError: PyJWT is not installed.
    """
    refuse_algorithm(token)
    key = select_key(token, keys)
    implementation = pyjwt_algorithm(token.algorithm)
    if not implementation.verify(token.signing_input, key.key, token.signature):
        raise _invalid(token, f"the signature is not of the key {key.kid!r} that you gave")
    return key


def refuse_algorithm(token: Token) -> None:
    """Refuse a token whose algorithm proves nothing, whatever keys there are.

    Raises:
        VerificationError: The algorithm is not one of `ALGORITHMS`, or there is no signature.
    """
    if token.algorithm not in ALGORITHMS:
        kind = "is not signed" if token.algorithm.lower() == "none" else "is not accepted"
        accepted = ", ".join(ALGORITHMS)
        raise _invalid(token, f"alg {token.algorithm!r} {kind}; accepted are {accepted}")
    if not token.signature:
        raise _invalid(token, "there is no signature")


def check_signature(token: Token, keys: Sequence[SigningKey] | None) -> tuple[Check, SigningKey | None]:
    """Check the signature, as a row.

    Args:
        token: The token.
        keys: The verifier's keys; None where he gave none, and the signature stays unchecked.

    Raises:
        MissingExtraError: PyJWT is not installed and there are keys to verify with.
    """
    try:
        refuse_algorithm(token)
        if keys is None:
            why = "no keys of the attestation service were given (--jwks): everything in it is only claimed"
            return Check("signature", "not-checked", why), None
        key = verify_signature(token, keys)
    except VerificationError as error:
        return Check("signature", "broken", str(error), error.code), None
    return Check("signature", "holds", f"{token.algorithm} by the key {key.kid!r} of {key.source}"), key


def check_certificate(key: SigningKey | None, token: Token, at: datetime) -> Check:
    """Check that the signing key's certificate was valid at issue, and say whether it is at `at`."""
    if key is None:
        return Check("certificate", "not-checked", "no key verified the token")
    if not key.certificates:
        return Check("certificate", "not-applicable", "the key set has no certificate of the key")
    certificate = key.certificates[0]
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    span = f"valid {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    issued = _time(token.claims.get("iat")) or at
    if not start - LEEWAY <= issued <= end + LEEWAY:
        why = f"the signing certificate ({span}) was not valid when the token was issued, {_say(issued)}"
        return Check("certificate", "broken", why, "token-expired")
    now = "" if start <= at <= end else f"; at {_say(at)} it is not"
    return Check("certificate", "holds", f"the signing certificate was valid at issue ({span}){now}")


def check_time(token: Token, at: datetime) -> Check:
    """Check ``exp``, ``nbf`` and ``iat`` against the time of the judgement, with `LEEWAY`.

    The three are whole seconds since 1970; ``exp`` must be there, for a token without end is good for ever.
    """
    moments: dict[str, datetime] = {}
    for name in ("exp", "nbf", "iat"):
        value = token.claims.get(name)
        if value is None and name not in token.claims:
            continue
        moment = _time(value)
        if moment is None:
            why = f"{name} is {_short(value)}; need whole seconds since 1970"
            return Check("time", "broken", why, "token-claim-failed")
        moments[name] = moment
    if "exp" not in moments:
        return Check(
            "time", "broken", "the token has no exp, so it would be good for ever", "token-claim-failed"
        )
    if at >= moments["exp"] + LEEWAY:
        why = f"the token expired {_say(moments['exp'])}; it is judged for {_say(at)}"
        return Check("time", "broken", why, "token-expired")
    for name in ("nbf", "iat"):
        if name in moments and at < moments[name] - LEEWAY:
            word = "becomes valid" if name == "nbf" else "was issued"
            why = f"the token {word} {_say(moments[name])}; it is judged for {_say(at)}, which is before"
            return Check("time", "broken", why, "token-expired")
    start = moments.get("nbf", moments.get("iat"))
    since = f" from {_say(start)}" if start is not None else ""
    return Check("time", "holds", f"valid{since} to {_say(moments['exp'])}")


def check_issuer(token: Token, issuers: Sequence[str] = ()) -> Check:
    """Check who issued a token, and that its header points nowhere else for keys.

    Providers of one region share signing keys, so the signature alone does not say which one spoke.

    Args:
        token: The token.
        issuers: The issuers that the verifier accepts, spelled as in the token but for a slash at the end;
            empty for any provider of Azure (`ISSUERS`).
    """
    code = "token-claim-failed"
    issuer = token.claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        return Check("issuer", "broken", f"iss is {_short(issuer)}; need the provider's URL", code)
    match = _ISSUER_URL.fullmatch(issuer)
    host = match[1].lower() if match else ""
    if issuers:
        if issuer.rstrip("/") not in {given.rstrip("/") for given in issuers}:
            why = f"the token is of {issuer!r}, and you accept {', '.join(map(repr, issuers))}"
            return Check("issuer", "broken", why, code)
    elif not any(host.endswith(f".{domain}") for domain in ISSUERS):
        why = f"{issuer!r} is no https URL of a provider under {' or '.join(ISSUERS)}"
        return Check("issuer", "broken", why, code)
    place = token.header.get("jku")
    if isinstance(place, str):
        found = _KEY_URL.fullmatch(place)
        if found is None or (host and found[1].lower() != host):
            why = f"the header points to {place!r} for keys, which is not at the issuer {issuer!r}"
            return Check("issuer", "broken", why, code)
    return Check("issuer", "holds", f"issued by {issuer}")


def _time(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 253_402_300_000:
        return None
    return datetime.fromtimestamp(value, UTC)


def _say(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _short(value: object) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
