"""go-tpm-tools' ``attest.Attestation``: ``gotpm attest``, in binary, JSON or text form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cvmlab.banks import BANK_BY_ALGORITHM
from cvmlab.errors import ParseError
from cvmlab.eventlog.formats.protobuf import read_message
from cvmlab.evidence.formats.attest_decode import from_binary, from_json, from_text, lost_fields
from cvmlab.evidence.formats.model import Translation
from cvmlab.evidence.formats.rebuild import snp_report, td_quote
from cvmlab.evidence.formats.values import der_to_pem, json_object, looks_like_object, registers
from cvmlab.tpm.public import parse_public

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvmlab.evidence.formats.attest_decode import Tree

_TEXT: Final = re.compile(rb"\s*(?:#[^\n]*\n\s*)*(?:ak_pub|quotes|event_log|instance_info)\s*[:{<]")
_MAGIC: Final = b"\xff\x54\x43\x47"
_MESSAGES: Final = 64


def recognise(data: bytes, keys: frozenset[str]) -> bool:
    """Tell by a key or a quote in the fields that the schema has for them."""
    if keys:
        return {"akpub", "quotes"} <= {key.replace("_", "").lower() for key in keys}
    if _TEXT.match(data):
        return b"quotes" in data
    return data[:1] in (b"\x0a", b"\x12") and _is_binary(data)


def _is_binary(data: bytes) -> bool:
    """The wire form: whole, and a public area or a quote where the schema has them."""
    try:
        fields = read_message(data, source="")
        if any(field.number > _MESSAGES for field in fields):
            return False
        key = next((f.value for f in fields if f.number == 1 and isinstance(f.value, bytes)), b"")
        if key:
            parse_public(key, source="")
            return True
        quote = next((f.value for f in fields if f.number == 2 and isinstance(f.value, bytes)), b"")
        return _MAGIC in quote[:8]
    except ParseError:
        # a file that was cut still starts with its key
        return data[:1] == b"\x0a" and _cut_key(data)


def _cut_key(data: bytes) -> bool:
    """Tell a public area behind the length of the first field, of one byte or two."""
    long = data[1:2] >= b"\x80"
    start = 3 if long else 2
    size = int.from_bytes(data[1:start], "little")
    size = (size & 0x7F) | (size >> 8 << 7) if long else size
    try:
        parse_public(data[start : start + size], source="")
    except ParseError:
        return False
    return True


def translate(data: bytes, source: str) -> Translation:
    """Read the attestation.

    Raises:
        ParseError: It is none: cut, a field of another kind, a key that occurs twice.
    """
    if looks_like_object(data):
        tree = from_json(json_object(data, source=source), "Attestation", source=source)
    elif _TEXT.match(data):
        tree = from_text(data, "Attestation", source=source)
    else:
        tree = from_binary(data, "Attestation", source=source)
    found = Translation("attestation of go-tpm-tools", source)
    take_attestation(found, tree, "")
    return found


def take_attestation(found: Translation, tree: Tree, prefix: str) -> None:
    """Take the parts of an attestation: quotes of every bank, each with its register values."""
    _add(found, tree, "ak_pub", "ak.pub", prefix)
    quotes = tree.get("quotes", [])
    named: set[str] = set()
    for index, quote in enumerate(quotes if isinstance(quotes, list) else ()):
        if isinstance(quote, dict):
            _quote(found, quote, f"{prefix}quotes[{index}]", named)
    _add(found, tree, "event_log", "eventlog.bin", prefix)
    _add(found, tree, "canonical_event_log", "userspace.log", prefix)
    _add(found, tree, "ak_cert", "ak.crt", prefix)
    certificates = tree.get("intermediate_certs", [])
    for index, der in enumerate(certificates if isinstance(certificates, list) else ()):
        if isinstance(der, bytes):
            found.add(f"ca-{index}.pem", f"{prefix}intermediate_certs[{index}]", der_to_pem(der))
    _hardware(found, tree, prefix)
    if tree.get("instance_info"):
        found.lost.append(f"{prefix}instance_info, which nothing signs")
    found.lost += [f"{prefix}{name}" for name in lost_fields(tree)][:16]


def _add(found: Translation, tree: Tree, field: str, name: str, prefix: str) -> None:
    value = tree.get(field)
    if isinstance(value, bytes):
        found.add(name, f"{prefix}{field}", value)


def _quote(found: Translation, quote: Tree, where: str, named: set[str]) -> None:
    pcrs = quote.get("pcrs")
    bank = _bank(pcrs) if isinstance(pcrs, dict) else ""
    label = f"quote-{bank}" if bank else "quote"
    if label in named:
        label = f"{label}-{len(named)}"
    named.add(label)
    message, signature = quote.get("quote"), quote.get("raw_sig")
    if isinstance(message, bytes):
        found.add(f"{label}.msg", f"{where}.quote", message)
    else:
        found.problem(f"{where}.quote", "a quote without its message")
    if isinstance(signature, bytes):
        found.add(f"{label}.sig", f"{where}.raw_sig", signature)
    if isinstance(pcrs, dict):
        registers(found, _values(pcrs, bank), f"{where}.pcrs")


def _bank(pcrs: Tree) -> str:
    number = pcrs.get("hash")
    return BANK_BY_ALGORITHM.get(number, "") if isinstance(number, int) else ""


def _values(pcrs: Tree, bank: str) -> Iterator[tuple[str, int, bytes]]:
    values = pcrs.get("pcrs", {})
    for index, digest in sorted(values.items()) if isinstance(values, dict) else ():
        if isinstance(index, int) and isinstance(digest, bytes):
            yield bank, index, digest


def _hardware(found: Translation, tree: Tree, prefix: str) -> None:
    snp, tdx = tree.get("sev_snp_attestation"), tree.get("tdx_attestation")
    try:
        if isinstance(snp, dict):
            path = f"{prefix}sev_snp_attestation"
            report, chain = snp.get("report"), snp.get("certificate_chain")
            if isinstance(report, dict):
                data = snp_report(report, source=found.source, path=f"{path}.report")
                found.add("snp_report.bin", f"{path}.report", data)
            _chain(found, chain if isinstance(chain, dict) else {}, f"{path}.certificate_chain")
        if isinstance(tdx, dict):
            path = f"{prefix}tdx_attestation"
            found.add("td_quote.bin", path, td_quote(tdx, source=found.source, path=path))
    except ParseError as error:
        found.fail(error)


def _chain(found: Translation, chain: Tree, path: str) -> None:
    for field, name in (
        ("vcek_cert", "vcek.pem"),
        ("vlek_cert", "vcek.pem"),
        ("ask_cert", "vcek.pem"),
        ("ark_cert", "vcek.pem"),
    ):
        value = chain.get(field)
        if isinstance(value, bytes) and value:
            found.add(name, f"{path}.{field}", der_to_pem(value))
