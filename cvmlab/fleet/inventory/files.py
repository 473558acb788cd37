"""Files of an export: which there are, which of them are read how, and their records one after the other."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cvmlab.errors import EvidenceError
from cvmlab.fleet.inventory.documents import Item, records_of
from cvmlab.fleet.inventory.limits import MAX_FILE, MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvmlab.fleet.inventory.documents import Envelope
    from cvmlab.fleet.inventory.limits import Problems

SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv"})
"""What counts in a folder; files that are named outright count whatever their name."""
MAX_COLUMNS: Final = 1024
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def files_of(paths: Iterable[str | Path]) -> Iterator[tuple[str, Path]]:
    """Yield the name and place of every file, those of a folder in the order of their names.

    Raises:
        EvidenceError: There is no such file or folder, or a folder has no file of the suffixes read.
    """
    for given in paths:
        path = Path(given)
        if str(path) == "-" or path.is_file():
            yield ("standard input" if str(path) == "-" else path.name), path
        elif path.is_dir():
            inside = sorted(
                one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file()
            )
            if not inside:
                raise EvidenceError(f"{path}: no file in it ends in {', '.join(sorted(SUFFIXES))}")
            for one in inside:
                yield str(one.relative_to(path)), one
        else:
            raise EvidenceError(f"{path}: no such file or folder")


def read_file(path: Path, source: str, problems: Problems) -> bytes:
    """Return the bytes of a file, empty, and a problem, where it is too large or cannot be read."""
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
    except OSError as error:
        problems.add(source, 0, "file", f"cannot be read: {error.strerror or error}", fatal=True)
        return b""
    if len(data) > MAX_FILE:
        problems.add(source, 0, "file", f"larger than {MAX_FILE} bytes; export it in pages", fatal=True)
        return b""
    return data


def items_of(data: bytes, source: str, problems: Problems, envelopes: list[Envelope]) -> Iterator[Item]:
    """Yield the records of a file's bytes, JSON or CSV as its first character tells.

    UTF-8, and UTF-16 with a mark, as shells of Windows write it. Bytes that are no text end the file.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    body = data[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        at = len(mark) + error.start
        problems.add(source, at, "text", f"is not {encoding}; what stands before is kept", fatal=True)
        text = body[: error.start].decode(encoding)
    first = text.lstrip()[:1]
    if not first:
        problems.add(source, 0, "file", "is empty", fatal=True)
    elif first in "[{":
        yield from records_of(text, source, problems, envelopes, shift=len(mark))
    else:
        yield from _rows(text, source, problems)


def _rows(text: str, source: str, problems: Problems) -> Iterator[Item]:
    """CSV: the first line names the columns. A row of another length is left out, as cells may be shifted."""
    line = text.split("\n", 1)[0]
    delimiter = max("\t;,", key=line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names: list[str] = []
    count = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(source, 0, f"line {reader.line_num}", f"not CSV: {error}; left out", fatal=True)
            continue
        if not any(cell.strip() for cell in row):
            continue
        if not names:
            names = [cell.strip() for cell in row]
            if len({*names}) != len(names) or not all(names) or not 1 < len(names) <= MAX_COLUMNS:
                message = f"the first line must name 2 to {MAX_COLUMNS} columns, each once"
                problems.add(source, 0, "line 1", message, fatal=True)
                return
            continue
        count += 1
        if count > MAX_RECORDS:
            problems.add(source, 0, "records", f"more than {MAX_RECORDS}; the rest is left out", fatal=True)
            return
        if len(row) != len(names):
            message = f"{len(row)} cells under {len(names)} columns; the row is left out"
            problems.add(source, 0, f"line {reader.line_num}", message, fatal=True)
            continue
        yield Item(dict(zip(names, row, strict=True)), 0)
