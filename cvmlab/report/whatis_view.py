"""What ``cvmlab whatis`` shows: which file or value each digest is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view import Cell, Document, Note, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cvmlab.artifacts import Match
    from cvmlab.uefi.authenticode import Signer
    from cvmlab.view import Value

SCHEMA: Final = "cvmlab.whatis/1"
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
    """Return what was found, one row a match, digests without one last."""
    rows: list[tuple[Value, ...]] = []
    for label, value in sorted(asked, key=lambda item: item[1] not in found):
        matches = found.get(value, ())
        shown = Cell(value.hex(), kind="digest")
        if not matches:
            rows.append((Cell(label), shown, None, Cell("not found", kind="muted")))
        rows += [
            (Cell(label), shown, f"{match.form}, {match.bank}", Cell(match.meaning)) for match in matches
        ]
    known = sum(value in found for _, value in asked)
    note = Note("good" if known == len(asked) else "warning", f"{known} of {len(asked)} digests are known.")
    table = Table(("asked", "digest", "as", "is"), tuple(rows), caption="Digests")
    return Document("What these digests are", (note, table))
