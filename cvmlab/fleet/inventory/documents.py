"""JSON as providers and their tools write it: pages, lists, lines, tables. Bytes in, records out.

A document is taken apart element by element, so that what stands before damage is kept. Wrappings known
here: ``value``/``nextLink`` of the REST interfaces, ``data``/``$skipToken`` of Resource Graph
(``skip_token`` of the command line), ``records`` of event hubs, ``tables`` of Log Analytics, columns and
rows of either, a bare list, one object, several documents one after the other (JSON lines), and the
``responses`` of a REST example.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from cvmlab.fleet.inventory.limits import MAX_DEPTH, MAX_RECORD, MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from cvmlab.fleet.inventory.limits import Problems

LISTS: Final = frozenset({"value", "data", "records", "results", "tables"})
"""Keys, in lower case, under which pages carry their records."""
_TOKENS: Final = frozenset({"nextlink", "skiptoken", "$skiptoken", "skip_token", "@odata.nextlink"})
_TOTALS: Final = frozenset({"totalrecords", "total_records"})
_OWN: Final = frozenset({"id", "name", "type", "properties"})
"""Names of a resource's own: an object that has any is a record and no wrapping."""
_SPACE: Final = re.compile(r"[ \t\r\n,]*")
_LINE_START: Final = re.compile(r"\n(?=[\[{])")


class _Repeated(dict[str, object]):
    """An object in which a name stands twice: what it says depends on who reads it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One record as it stood in a document.

    Attributes:
        value: The object.
        offset: Where it starts, in bytes.
    """

    value: dict[str, object]
    offset: int


@dataclass(slots=True)
class Envelope:
    """What stood around the records of one document.

    Attributes:
        token: True where the page says that another follows.
        total: Records that the whole answer has, where the page says it.
        count: Records of this page.
        paged: True where the document is a page, not a bare list or a single object.
    """

    token: bool = False
    total: int | None = None
    count: int = 0
    paged: bool = False


@dataclass(slots=True)
class _Text:
    """A text and where its characters stand in bytes."""

    text: str
    source: str
    problems: Problems
    shift: int = 0
    envelopes: list[Envelope] = field(default_factory=list)
    _seen: tuple[int, int] = (0, 0)

    def offset(self, position: int) -> int:
        if self.text.isascii():
            return position + self.shift
        at, count = self._seen if self._seen[0] <= position else (0, 0)
        count += len(self.text[at:position].encode("utf-8", "surrogatepass"))
        self._seen = (position, count)
        return count + self.shift

    def problem(self, position: int, name: str, message: str, *, fatal: bool = True) -> None:
        self.problems.add(self.source, self.offset(position), name, message, fatal=fatal)


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(pairs)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


class _DamageError(Exception):
    """The text stops being JSON here."""


def records_of(
    text: str, source: str, problems: Problems, envelopes: list[Envelope], *, shift: int = 0
) -> Iterator[Item]:
    """Yield the records of a text of one or more JSON documents.

    Args:
        text: The text.
        source: Its name, for problems.
        problems: What cannot be read is added here; records that are left out are always in it.
        envelopes: What stood around the records is added here, one a document.
        shift: Bytes before the text, such as a byte order mark.
    """
    held = _Text(text, source, problems, shift)
    position, count = _skip(text, 0), 0
    while position < len(text):
        envelope = Envelope()
        envelopes.append(envelope)
        walk = _document(held, position, envelope)
        try:
            while True:
                try:
                    item = next(walk)
                except StopIteration as stop:
                    position = _skip(text, stop.value)
                    break
                count += 1
                if count > MAX_RECORDS:
                    held.problem(
                        position, "records", f"more than {MAX_RECORDS} records; the rest is left out"
                    )
                    return
                envelope.count += 1
                yield item
        except _DamageError as error:
            at = error.args[1]
            held.problem(at, "json", f"{error.args[0]}; records before this place are kept")
            # only a line that starts at the margin can be a document of its own
            following = _LINE_START.search(text, at if envelope.count else position)
            if following is None:
                return
            position = following.end()


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _value(held: _Text, position: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(held.text, position)
    except RecursionError:
        raise _DamageError("nested too deeply", position) from None
    except json.JSONDecodeError as error:
        raise _DamageError(f"not JSON: {error.msg}", error.pos) from None
    except ValueError as error:
        raise _DamageError(f"not JSON: {error}"[:200], position) from None


def _document(held: _Text, position: int, envelope: Envelope) -> Generator[Item, None, int]:
    """Walk one document; return the position behind it."""
    start = held.text[position]
    if start == "[":
        return (yield from _list(held, position))
    if start != "{":
        raise _DamageError("neither an object nor a list", position)
    return (yield from _page(held, position, envelope))


def _list(held: _Text, position: int) -> Generator[Item, None, int]:
    text = held.text
    position = _skip(text, position + 1)
    while position < len(text) and text[position] != "]":
        value, end = _value(held, position)
        yield from _record(held, value, position, end)
        position = _skip(text, end)
    if position >= len(text):
        raise _DamageError("the list does not end: the file is cut off", len(text))
    return position + 1


def _page(held: _Text, start: int, envelope: Envelope) -> Generator[Item, None, int]:
    """An object: a page if it has a list of records, else a record itself."""
    text, position = held.text, _skip(held.text, start + 1)
    rest: dict[str, object] = {}
    repeated = False
    while position < len(text) and text[position] != "}":
        key, position = _value(held, position)
        position = _skip(text, position)
        if not isinstance(key, str) or position >= len(text) or text[position] != ":":
            raise _DamageError("not JSON: a name and a colon expected", position)
        position = _skip(text, position + 1)
        if position < len(text) and text[position] == "[" and key.lower() in LISTS:
            envelope.paged = True
            position = _skip(text, (yield from _list(held, position)))
            continue
        value, end = _value(held, position)
        repeated = repeated or key in rest
        rest[key] = value
        position = _skip(text, end)
    if position >= len(text):
        raise _DamageError("the object does not end: the file is cut off", len(text))
    end = position + 1
    _note(rest, envelope)
    inner = _inner(rest)
    if inner is not None:
        envelope.paged = True
        _note(inner, envelope)
        for name, value in inner.items():
            if name.lower() in LISTS and isinstance(value, list):
                for one in value:
                    yield from _record(held, one, start, end)
                return end
        yield from _record(held, inner, start, end)
    elif not envelope.paged:
        whole = _Repeated(rest) if repeated else rest
        yield from _record(held, whole, start, end)
    return end


def _inner(rest: Mapping[str, object]) -> dict[str, object] | None:
    """The object that a wrapping holds: the table of a result, or the body of a REST example."""
    if not _OWN.isdisjoint(map(str.lower, rest)):
        return None
    for name, value in rest.items():
        if name.lower() in ("data", "body") and isinstance(value, dict):
            return value
    responses = rest.get("responses")
    answer = responses.get("200") if isinstance(responses, dict) else None
    body = answer.get("body") if isinstance(answer, dict) else None
    return body if isinstance(body, dict) else None


def _note(rest: Mapping[str, object], envelope: Envelope) -> None:
    for name, value in rest.items():
        low = name.lower()
        if low in _TOKENS and value:
            envelope.token = True
        elif low in _TOTALS and isinstance(value, int) and not isinstance(value, bool):
            envelope.total = value


def _record(held: _Text, value: object, start: int, end: int) -> Iterator[Item]:
    if not isinstance(value, dict):
        held.problem(start, "record", f"a record is an object, and this is {_kind(value)}")
        return
    if end - start > MAX_RECORD and not _is_table(value):
        held.problem(start, "record", f"{end - start} characters; a record has at most {MAX_RECORD}")
        return
    wrong = _unsound(value)
    if wrong:
        held.problem(start, "record", wrong)
        return
    if _is_table(value):
        yield from _table(held, value, start)
    else:
        yield Item(value, held.offset(start))


def _kind(value: object) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number or a switch")


def _unsound(value: dict[str, object]) -> str:
    """Why a record cannot be used; empty where it can. Without recursion: depth is what it checks."""
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, _Repeated):
            return "a name stands twice in one object, so what it says depends on the reader"
        if depth > MAX_DEPTH:
            return f"nested more than {MAX_DEPTH} deep"
        children = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += [(child, depth + 1) for child in children if isinstance(child, dict | list)]
    return ""


def _is_table(value: Mapping[str, object]) -> bool:
    return isinstance(value.get("columns"), list) and isinstance(value.get("rows"), list)


def _table(held: _Text, value: Mapping[str, object], start: int) -> Iterator[Item]:
    """Rows under columns: Log Analytics, and Resource Graph's format ``table``."""
    columns, rows = value["columns"], value["rows"]
    assert isinstance(columns, list)
    assert isinstance(rows, list)
    names = [column.get("name") if isinstance(column, dict) else None for column in columns]
    if not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
        held.problem(start, "columns", "columns need names, each its own; the table is left out")
        return
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            held.problem(start, "rows", f"row {number} does not have {len(names)} cells; it is left out")
            continue
        yield Item(dict(zip(map(str, names), row, strict=True)), held.offset(start))
