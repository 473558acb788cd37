"""What ``cvmlab collect`` shows: what was collected, what was not and why, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.view import Cell, Document, KeyValues, Note, Table

if TYPE_CHECKING:
    from cvmlab.tpm.collect import Collection
    from cvmlab.view import Value

SCHEMA: Final = "cvmlab.collection/1"


def collection_object(found: Collection) -> dict[str, object]:
    """Return the object of ``cvmlab collect --json``."""
    return {
        "schema": SCHEMA,
        "folder": str(found.folder),
        "machine": found.machine,
        "nonce": found.nonce.hex(),
        "nonce_made_here": found.own_nonce,
        "ak_name": found.ak_name.hex() or None,
        "quoted": found.quoted,
        "challenge_answered": found.answered,
        "files": [{"name": name, "size": size} for name, size in found.files],
        "items": [{"what": item.what, "status": item.status, "why": item.why} for item in found.items],
    }


def collection_document(found: Collection) -> Document:
    """Return what was collected, one row a thing."""
    rows: list[tuple[Value, ...]] = [
        (
            Cell(item.what),
            Cell(item.status, kind="" if item.status == "collected" else "muted"),
            Cell(item.why),
        )
        for item in found.items
    ]
    facts = KeyValues(
        (
            ("machine", Cell(found.machine)),
            ("attestation key", Cell(found.ak_name.hex() or "none", kind="digest")),
            ("nonce", Cell(found.nonce.hex(), kind="digest")),
        )
    )
    notes = [
        Note("good", f"{len(found.files)} files were written to {found.folder}.")
        if found.quoted
        else Note("bad", f"There is no quote; what else there is was written to {found.folder}.")
    ]
    if found.own_nonce:
        notes.append(
            Note(
                "warning",
                "The nonce was made here: it shows that the quote is new only to whoever saw it being made. "
                "A verifier sends its own (--nonce) and gives it to `cvmlab investigate` again.",
            )
        )
    return Document(
        "Evidence of this machine", (*notes, facts, Table(("what", "is", "from, or why not"), tuple(rows)))
    )
