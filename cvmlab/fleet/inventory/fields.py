"""Values of a record, whatever the letter case: absent stays absent, odd values become problems."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cvmlab.fleet.inventory.limits import MAX_RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cvmlab.fleet.inventory.limits import Problems

_TRUE: Final = frozenset({"true", "1", "yes", "on", "enabled"})
_FALSE: Final = frozenset({"false", "0", "no", "off", "disabled"})
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? *(Z|UTC|[+-]\d\d:?\d\d)?",
    re.I,
)
# what the portal writes when it exports a query: month first, twelve hours, UTC
_PORTAL_TIME: Final = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d\d):(\d\d)(?:\.(\d{1,9}))?\s*([AP]M)", re.I
)


def utc_text(value: str) -> str | None:
    """Return a time as ISO 8601 in UTC, every digit of its fraction kept; None where it is none.

    Times without a zone count as UTC, as the provider's do. Seven digits of a fraction are common.

    >>> utc_text("2021-04-20T07:46:21.9516805+02:00")
    '2021-04-20T05:46:21.9516805Z'
    >>> utc_text("1/11/2023, 3:11:09.123 PM")
    '2023-01-11T15:11:09.123Z'
    """
    text = value.strip()
    match, portal = _TIME.fullmatch(text), _PORTAL_TIME.fullmatch(text)
    try:
        if match is not None:
            year, month, day, hour, minute, second, fraction, zone = match.groups()
            when = datetime(
                int(year),
                int(month),
                int(day),
                int(hour or 0),
                int(minute or 0),
                int(second or 0),
                tzinfo=UTC,
            )
            if zone and zone[0] in "+-":
                ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
                when = when - ahead if zone[0] == "+" else when + ahead
        elif portal is not None:
            month, day, year, hour, minute, second, fraction, half = portal.groups()
            if not 1 <= int(hour) <= 12:
                return None
            hours = int(hour) % 12 + (12 if half.upper() == "PM" else 0)
            when = datetime(int(year), int(month), int(day), hours, int(minute), int(second), tzinfo=UTC)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return f"{when:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (f".{fraction}" if fraction else "") + "Z"


def plain(text: str) -> str:
    """Return a text that every encoding can hold: halves of surrogate pairs become replacement characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_json(value: object) -> str:
    """Return a value as JSON, the same text for the same value."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


class Fields:
    """One object of a record, read without regard to letter case.

    Args:
        value: The object.
        source: Name of the file, for problems.
        offset: Where the record starts, bytes.
        problems: Where odd values are noted.
    """

    __slots__ = ("_lower", "offset", "problems", "source", "value")

    def __init__(self, value: Mapping[str, object], source: str, offset: int, problems: Problems) -> None:
        self.value, self.source, self.offset, self.problems = value, source, offset, problems
        lower: dict[str, list[str]] = {}
        for name in value:
            lower.setdefault(name.lower(), []).append(name)
        self._lower = lower

    def note(self, field: str, message: str, *, fatal: bool = False) -> None:
        """Add a problem of this record."""
        self.problems.add(self.source, self.offset, plain(field)[:80], message, fatal=fatal)

    def has(self, name: str) -> bool:
        """Say whether there is such a name with a value that is neither null nor an empty text."""
        return any(self.value[one] not in (None, "") for one in self._lower.get(name.lower(), ()))

    def get(self, *names: str) -> object:
        """Return the first of these that is there and not null; None where none is.

        Two spellings of one name with different values count as absent, and are a problem.
        """
        for name in names:
            spellings = self._lower.get(name.lower(), ())
            values = [self.value[one] for one in spellings if self.value[one] is not None]
            if len(values) > 1 and any(one != values[0] for one in values[1:]):
                self.note(name, f"stands as {' and '.join(map(repr, spellings))} with different values")
                continue
            if values:
                return values[0]
        return None

    def text(self, *names: str) -> str | None:
        """Return a text; None where it is absent, empty or no text."""
        value = self.get(*names)
        if isinstance(value, bool) or value is None:
            return None if value is None else str(value).lower()
        if isinstance(value, str):
            return plain(value.strip()) or None
        if isinstance(value, int | float):
            return str(value)
        self.note(names[0], "is no text and counts as not stated")
        return None

    def switch(self, *names: str) -> bool | None:
        """Return a switch; None where it is absent or neither on nor off."""
        value = self.get(*names)
        if value is None or isinstance(value, bool):
            return value
        word = str(value).strip().lower() if isinstance(value, str | int) else ""
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        if not (isinstance(value, str) and not word):
            self.note(names[0], "is neither on nor off and counts as not stated")
        return None

    def time(self, *names: str) -> str | None:
        """Return a time as ISO 8601 in UTC; None where it is absent or cannot be read."""
        value = self.text(*names)
        if value is None:
            return None
        found = utc_text(value)
        if found is None:
            self.note(names[0], "is no time that can be read and counts as not stated")
        return found

    def sub(self, *names: str) -> Fields | None:
        """Return an object inside; text that holds a JSON object counts, as exports write it."""
        value = self._opened(self.get(*names))
        if isinstance(value, dict):
            return Fields(value, self.source, self.offset, self.problems)
        if value not in (None, ""):
            self.note(names[0], "is no object and counts as absent")
        return None

    def at(self, *path: str) -> Fields | None:
        """Return an object further inside, None where a step is absent."""
        here: Fields | None = self
        for name in path:
            here = here.sub(name) if here is not None else None
        return here

    def objects(self, *names: str) -> Iterator[Fields]:
        """Yield the objects of a list inside."""
        value = self._opened(self.get(*names))
        if value in (None, ""):
            return
        if not isinstance(value, list):
            self.note(names[0], "is no list and counts as absent")
            return
        for number, one in enumerate(value):
            if isinstance(one, dict):
                yield Fields(one, self.source, self.offset, self.problems)
            else:
                self.note(names[0], f"entry {number} is no object and is left out", fatal=True)

    def json(self, *names: str) -> str | None:
        """Return any value as JSON text; None where it is absent."""
        value = self._opened(self.get(*names))
        return None if value in (None, "") else to_json(value)

    @staticmethod
    def _opened(value: object) -> object:
        """Exports write inner objects as text."""
        if not (isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and len(value) <= MAX_RECORD):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
