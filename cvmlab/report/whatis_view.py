"""What ``cvmlab whatis`` shows: which file or value each digest is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view import Cell, Document, KeyValues, Note, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cvmlab.artifacts import Match
    from cvmlab.uefi.authenticode import Signer
    from cvmlab.view import Block, Value

SCHEMA: Final = "cvmlab.whatis/1"
MAX_SHOWN: Final = 8
"""Most files shown for one digest."""
Asked = tuple[str, bytes]
"""Label (the digest itself, or an event of a log) and digest."""


def whatis_object(asked: Sequence[Asked], found: Mapping[bytes, Sequence[Match]]) -> dict[str, object]:
    """Return the object of ``cvmlab whatis --json``."""
    return {
        "schema": SCHEMA,
        "digests": [
            {
                "asked": label,
                "digest": value.hex(),
                "matches": [
                    {
                        "form": match.form,
                        "bank": match.bank,
                        "container": match.container or None,
                        "path": match.path or None,
                        "package": match.package or None,
                        "meaning": match.meaning,
                        "product": match.product or None,
                        "signers": [_signer(signer) for signer in match.signers],
                    }
                    for match in found.get(value, ())
                ],
            }
            for label, value in asked
        ],
    }


def _signer(signer: Signer) -> dict[str, object]:
    return {
        "holds": signer.holds,
        "problem": signer.problem or None,
        "digest_algorithm": signer.digest_name or None,
        "chain": [
            {
                "subject": certificate.subject,
                "issuer": certificate.issuer,
                "serial": certificate.serial_hex,
                "sha256": certificate.sha256,
            }
            for certificate in signer.chain
        ],
    }


def whatis_document(asked: Sequence[Asked], found: Mapping[bytes, Sequence[Match]]) -> Document:
    """Return what was found, one card a digest, and then the digests that were not."""
    labels: dict[bytes, list[str]] = {}
    for label, value in asked:
        labels.setdefault(value, []).append(label)
    known = sum(value in found for value in labels)
    note = Note("good" if known == len(labels) else "warning", f"{known} of {len(labels)} digests are known.")
    blocks: list[Block] = [note]
    for value, names in labels.items():
        if value in found:
            blocks.append(KeyValues(_facts(value, names, found[value])))
    unknown = tuple(
        (Cell(", ".join(names)), Cell(value.hex(), kind="digest"))
        for value, names in labels.items()
        if value not in found
    )
    if unknown:
        blocks.append(Table(("asked", "digest"), unknown, caption="Not found"))
    return Document("What these digests are", tuple(blocks))


def _facts(value: bytes, names: Sequence[str], matches: Sequence[Match]) -> tuple[tuple[str, Value], ...]:
    facts: list[tuple[str, Value]] = [("Digest", Cell(value.hex(), kind="digest"))]
    if names != [value.hex()]:
        facts.append(("Asked", Cell(", ".join(names))))
    for match in matches[:MAX_SHOWN]:
        if not match.path:
            facts.append(("Is", Cell(match.meaning)))
            continue
        where = f"{match.path} of {match.package}" if match.package else match.path
        facts.append(("Is", Cell(f"{match.form} ({match.bank}) of {where}")))
        if match.product:
            facts.append(("Program", Cell(match.product)))
        if match.signed:
            facts.append(("Signed by", Cell(match.signed)))
    if len(matches) > MAX_SHOWN:
        facts.append(("and", f"{len(matches) - MAX_SHOWN} more"))
    return tuple(facts)
