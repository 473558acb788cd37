"""The table and the view of an IMA list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cvmlab.eventlog.ima_replay import check_entries
from cvmlab.tables import IMA, make_frame
from cvmlab.view import Cell, Document, Note, Paragraph, Table

if TYPE_CHECKING:
    import pandas as pd

    from cvmlab.eventlog.ima import ImaList
    from cvmlab.view import Block

SHOWN_ENTRIES: Final = 60
"""Entries shown of a list in a notebook or terminal; the frame has all."""


def to_frame(ima: ImaList) -> pd.DataFrame:
    """Return the table `cvmlab.tables.IMA`, one row an entry, indexed by `index`."""
    worth = check_entries(ima)
    forged, unchecked = set(worth.forged), set(worth.unchecked)
    entries = ima.entries
    columns: dict[str, list[object]] = {
        name: [getattr(entry, name) for entry in entries]
        for name in ("index", "offset", "register", "template", "path", "violation")
    }
    columns["template_hash"] = [entry.template_hash.hex() for entry in entries]
    columns["hash_algorithm"] = [entry.hash_algorithm or None for entry in entries]
    columns["file_digest"] = [entry.file_digest.hex() or None for entry in entries]
    columns["signed"] = [entry.signature is not None for entry in entries]
    columns["digest_check"] = [
        "mismatch" if entry.index in forged else "unknown" if entry.index in unchecked else "covers-data"
        for entry in entries
    ]
    return make_frame(IMA, columns).set_index("index", drop=False)


def ima_view(ima: ImaList) -> Document:
    """Return the document that shows a list by itself: every entry is a claim."""
    rows = tuple(
        (
            entry.index,
            entry.template,
            Cell(entry.path, kind="claimed"),
            Cell(f"{entry.hash_algorithm}:{entry.file_digest.hex()}", kind="digest")
            if entry.file_digest
            else None,
            "violation" if entry.violation else None,
        )
        for entry in ima.entries[:SHOWN_ENTRIES]
    )
    blocks: tuple[Block, ...] = (
        Paragraph("A list alone proves nothing: it counts as far as a quoted register 10 confirms it."),
        *(Note("warning", str(problem)) for problem in ima.problems if problem.fatal),
        Table(
            ("#", "template", "path", "file digest", "remark"),
            rows,
            total=len(ima.entries),
            caption="Entries",
        ),
    )
    return Document(f"IMA list {ima.source}", blocks)
