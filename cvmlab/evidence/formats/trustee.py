"""Evidence of Confidential Containers' attesters (Trustee) and of attestation-rs.

``az-snp-vtpm`` and ``az-tdx-vtpm``, versions 0 (lists of integers), 1 and 2 (hex and base64url); ``tpm``
(base64); and attestation-rs, which wraps version 1 in ``{"platform", "evidence"}``. Source:
confidential-containers/trustee, ``deps/verifier/src/{az_snp_vtpm,az_tdx_vtpm,tpm}``; guest-components,
``attester/src``; facts on Azure, A.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.errors import ParseError
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.values import der_to_pem, json_object, member, octets, registers, take

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS: Final = (0, 1, 2)
_QUOTES: Final = ("tpm_quote", "quote")
_REPORTS: Final = ("hcl_report", "report")
_WRAPPERS: Final = ("evidence", "tee-evidence", "primary_evidence")
_QUOTE_KEYS: Final = {"message", "signature"}
_KNOWN: Final = {"version", "vcek", "td_quote", "ak_public", *_QUOTES, *_REPORTS}
_MAX_LAYERS: Final = 3
_BANKS: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by a quote with message and signature beside a report or a key, or by such a quote alone."""
    if keys & {"platform", "tee"} and keys & set(_WRAPPERS):
        return b'"message"' in data and b'"signature"' in data
    if keys >= _QUOTE_KEYS and "pcrs" in keys:
        return True
    return bool(keys & set(_QUOTES)) and bool(keys & {*_REPORTS, "ak_public"})


def translate(data: bytes, source: str) -> Translation:
    """Read the evidence.

    Raises:
        ParseError: It is no JSON object, or of a version that is not known here.
    """
    value, path, tool = json_object(data, source=source), "", "evidence of a Trustee attester"
    for _ in range(_MAX_LAYERS):
        inner = next((name for name in _WRAPPERS if isinstance(value.get(name), dict)), None)
        if inner is None or value.keys() & set(_QUOTES):
            break
        platform = value.get("platform", value.get("tee"))
        if isinstance(platform, str):
            tool = "evidence of attestation-rs" if "platform" in value else tool
            tool = f"{tool}, {platform[:40]}"
        value, path = member(value[inner], inner, source=source), f"{path}.{inner}".lstrip(".")
    version = value.get("version", 0)
    if type(version) is not int or version not in VERSIONS:
        where = f"{path}.version".lstrip(".")
        known = ", ".join(map(str, VERSIONS))
        raise ParseError(source, 0, where, reason=f"{str(version)[:20]!r}: known here are {known}")
    found = Translation(f"{tool}, version {version}", source)
    bare = value.keys() >= _QUOTE_KEYS
    name = "" if bare else next((name for name in _QUOTES if name in value), "")
    where = f"{path}.{name}".strip(".")
    quote = value if bare else value.get(name)
    if isinstance(quote, dict):
        _quote(found, quote, where)
    else:
        found.problem(where or "tpm_quote", "need an object with message and signature")
    if bare:
        return found
    for report in _REPORTS:
        take(found, value, report, "hcl_report.bin", prefix=path)
    take(found, value, "td_quote", "td_quote.bin", prefix=path)
    take(found, value, "ak_public", "ak.pem", prefix=path)
    _certificate(found, value.get("vcek"), f"{path}.vcek".lstrip("."))
    found.lost += [key[:40] for key in value if key not in _KNOWN]
    return found


def _quote(found: Translation, quote: dict[str, object], where: str) -> None:
    take(found, quote, "message", "quote.msg", prefix=where)
    take(found, quote, "signature", "quote.sig", prefix=where)
    path = f"{where}.pcrs".lstrip(".")
    registers(found, _values(found, quote.get("pcrs"), path), path)


def _values(found: Translation, values: object, path: str) -> Iterator[tuple[str, int, bytes]]:
    """Register values by position; their size says the bank."""
    if not isinstance(values, list):
        if values is not None:
            found.problem(path, f"need a list of register values, have {type(values).__name__}")
        return
    for index, value in enumerate(values[:32]):
        try:
            digest = octets(value, source=found.source, path=f"{path}[{index}]")
        except ParseError as error:
            found.fail(error)
            continue
        bank = _BANKS.get(len(digest))
        if bank is None:
            found.problem(f"{path}[{index}]", f"{len(digest)} bytes are no register value")
            continue
        yield bank, index, digest


def _certificate(found: Translation, value: object, path: str) -> None:
    if value is None or value == "":
        return
    if isinstance(value, str) and value.lstrip().startswith("-----BEGIN CERTIFICATE"):
        found.add("vcek.pem", path, value.encode())
        return
    try:
        found.add("vcek.pem", path, der_to_pem(octets(value, source=found.source, path=path)))
    except ParseError as error:
        found.fail(error)
